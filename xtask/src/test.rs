//! `cargo xtask test`: what CI runs, in its order.

mod report;
mod steps;

use anyhow::Result;
use report::Report;
use std::process::ExitCode;

/// Flags of `test`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the three minutes of chaos.
    #[arg(long)]
    fast: bool,
}

/// Runs every step; a failed one does not stop those that do not need it.
///
/// # Errors
/// When the summary cannot be made; a failed step only shows in the exit code.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut report = Report::default();
    report.step("packages", steps::packages);
    report.step("format", steps::format);
    report.step("clippy", steps::clippy);
    report.step("tidy", steps::tidy);
    report.step("cargo-deny", steps::deny);
    let built = report.step("build", steps::build);
    report.step("unit tests", steps::unit);
    report.step("doc tests", steps::doc);
    report.step("fuzz corpus", steps::fuzz);
    report.step("lab: demo", |notes| steps::demo(built, notes));
    report.step("lab: access", |notes| steps::access(built, notes));
    report.step("lab: policy", |notes| steps::policy(built, notes));
    report.step("package", |notes| steps::package(built, notes));
    if !options.fast {
        report.step("lab: chaos", |notes| steps::chaos(built, notes));
    }
    println!("{report}");
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
