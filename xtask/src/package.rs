//! `cargo xtask package`: the Debian package.
//!
//! The tree is staged here and `dpkg-deb` packs it: what debhelper would add to that (services that start by themselves)
//! is what a gateway must not do, and cargo-deb would be one more program to install for the same fifty files.

mod control;
mod tree;

use crate::debian;
use crate::host::{self, Chatter};
use crate::lab::{self, Profile};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Revision of the packaging of one upstream version.
const DEBIAN_REVISION: u32 = 1;

/// Flags of `package`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Optimized programs (the default).
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// The programs of a debug build, for tests of the package itself.
    #[arg(long)]
    debug: bool,
    /// Take the programs as they are, without building them.
    #[arg(long)]
    no_build: bool,
    /// Where the package goes; the folder `package` of cargo's target directory when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Builds the programs and the package.
///
/// # Errors
/// When packages, the build or packing fail.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let profile = if options.debug { Profile::Debug } else { Profile::Release };
    debian::ensure(&[debian::BUILD, debian::PACKAGE], Chatter::Stdout)?;
    if !options.no_build {
        lab::compile(profile, Chatter::Stdout)?;
    }
    let out = match &options.out {
        // Relative to where the user stands, while programs run in the root of the checkout.
        Some(dir) => std::path::absolute(dir)?,
        None => folder()?,
    };
    let deb = assemble(profile, &out)?;
    println!("{}", deb.display());
    Ok(ExitCode::SUCCESS)
}

/// Where packages go when nobody says where.
///
/// # Errors
/// When cargo does not tell where it builds.
pub(crate) fn folder() -> Result<PathBuf> {
    Ok(host::target_dir()?.join("package"))
}

/// What the package is called, and when its source is from.
struct Release {
    /// Version of the workspace with the Debian revision.
    version: String,
    architecture: String,
    /// Seconds of the last commit: each file of the package is that old at most, so that the same source gives
    /// the same package.
    epoch: String,
}

impl Release {
    fn find() -> Result<Self> {
        let metadata = host::metadata()?;
        let node = metadata["packages"].as_array().into_iter().flatten();
        let node = node.filter(|p| p["name"] == "node").map(|p| &p["version"]);
        let version = node.filter_map(Value::as_str).next().context("no version of node")?;
        Ok(Self {
            version: format!("{version}-{DEBIAN_REVISION}"),
            architecture: text(Command::new("dpkg").arg("--print-architecture"))?,
            epoch: match std::env::var("SOURCE_DATE_EPOCH") {
                Ok(epoch) => epoch,
                Err(_) => text(host::command("git").args([
                    "-c",
                    "safe.directory=*",
                    "log",
                    "-1",
                    "--format=%ct",
                ]))?,
            },
        })
    }

    fn file_name(&self) -> String {
        format!("tandem_{}_{}.deb", self.version, self.architecture)
    }
}

/// Packs programs that are built already; returns the package.
///
/// # Errors
/// When a program is missing, or packing fails.
pub(crate) fn assemble(profile: Profile, out: &Path) -> Result<PathBuf> {
    let release = Release::find()?;
    let programs = lab::binary(profile)?;
    let programs = programs.parent().context("the programs have no folder")?;
    let stage = folder()?.join("stage");
    if stage.exists() {
        std::fs::remove_dir_all(&stage)?;
    }
    let root = stage.join("root");
    tree::stage(&root, programs, &release)?;
    control::write(&root, &stage, &release)?;
    tree::settle_modes(&root)?;
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let deb = out.join(release.file_name());
    let mut pack = Command::new("dpkg-deb");
    pack.arg("--root-owner-group").env("SOURCE_DATE_EPOCH", &release.epoch);
    if profile == Profile::Debug {
        // Nobody keeps such a package, and xz takes half a minute for it.
        pack.args(["-Zgzip", "-z1"]);
    }
    host::output(pack.arg("--build").arg(&root).arg(&deb))?;
    std::fs::remove_dir_all(&stage)?;
    Ok(deb)
}

/// The first line that a program prints.
fn text(command: &mut Command) -> Result<String> {
    let out = String::from_utf8(host::output(command)?.stdout)?;
    match out.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        Some(_) | None => bail!("{} printed nothing", host::shown(command)),
    }
}
