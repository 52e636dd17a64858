//! Automation of the repository, in Rust: `cargo xtask <task>`.
//!
//! It compiles in seconds and depends on no other crate of the workspace, because it runs before the
//! Debian packages that those need are installed.

mod debian;
mod host;
mod lab;
mod openapi;
mod package;
mod test;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Demo, tests, benchmark and checks of Tandem.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Raise a lab, let subscribers dial in, kill the owner, show that nobody redials. Needs root.
    Demo(lab::Demo),
    /// Everything CI runs.
    Test(test::Options),
    /// The lab itself.
    #[command(subcommand)]
    Lab(lab::LabTask),
    /// Measurements, from release builds. Needs root.
    #[command(subcommand)]
    Bench(lab::Bench),
    /// Seeded random faults with every invariant checked. Needs root.
    Chaos(lab::Chaos),
    /// Write docs/openapi/tandem.json.
    Openapi {
        /// Only compare, and fail on a difference.
        #[arg(long)]
        check: bool,
    },
    /// Build the Debian package.
    Package(package::Options),
    /// Check what the compiler cannot: crate arrows, event ids, metrics, file sizes, leftovers, fuzz targets.
    Tidy,
}

fn main() -> ExitCode {
    match run(Args::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Demo(demo) => demo.run(),
        Task::Test(options) => test::run(&options),
        Task::Lab(task) => task.run(),
        Task::Bench(bench) => bench.run(),
        Task::Chaos(chaos) => chaos.run(),
        Task::Openapi { check: true } => openapi::check().map(|()| ExitCode::SUCCESS),
        Task::Openapi { check: false } => openapi::write().map(|()| ExitCode::SUCCESS),
        Task::Package(options) => package::run(&options),
        Task::Tidy => tidy::run().map(|()| ExitCode::SUCCESS),
    }
}
