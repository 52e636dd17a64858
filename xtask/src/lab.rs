//! The tasks that build the programs and start the lab.

use crate::debian::{self, Set};
use crate::host::{self, Chatter};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Flags of `demo`.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Leave the lab up and print commands to try.
    #[arg(long)]
    keep: bool,
    /// One line of JSON on standard output, everything else on standard error.
    #[arg(long)]
    json: bool,
    /// PPPoE subscribers.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pppoe: u32,
    /// DHCP subscribers.
    #[arg(long, value_name = "N", default_value_t = 100)]
    dhcp: u32,
    /// Optimized programs; takes longer to build.
    #[arg(long)]
    release: bool,
}

impl Demo {
    /// Runs the task.
    ///
    /// # Errors
    /// When packages, the build or the lab fail.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        need_root()?;
        let profile = Profile::of(self.release);
        let lab = build(&[debian::BUILD, debian::LAB], profile, Chatter::of(self.json))?;
        let mut command = host::command(lab);
        command.arg("demo").args([
            "--pppoe",
            &self.pppoe.to_string(),
            "--dhcp",
            &self.dhcp.to_string(),
        ]);
        if self.keep {
            command.arg("--keep");
        }
        start(command, self.json)
    }
}

/// What can be done with a lab.
#[derive(clap::Subcommand)]
pub(crate) enum LabTask {
    /// VLANs, NAT, shaping and DHCP clients that are not ours, before and after a takeover.
    Access {
        /// One line of JSON on standard output, everything else on standard error.
        #[arg(long)]
        json: bool,
    },
    /// Remove what a lab left behind: processes, namespaces, pinned BPF objects, files.
    Clean,
}

impl LabTask {
    /// Runs the task.
    ///
    /// # Errors
    /// When packages, the build or the lab fail.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        need_root()?;
        match self {
            Self::Access { json } => {
                let sets = [debian::BUILD, debian::LAB, debian::CLIENTS];
                let lab = build(&sets, Profile::Debug, Chatter::of(*json))?;
                let mut command = host::command(lab);
                command.arg("access");
                start(command, *json)
            }
            Self::Clean => {
                let lab = build(&[debian::BUILD, debian::LAB], Profile::Debug, Chatter::Stdout)?;
                let mut command = host::command(lab);
                command.arg("clean");
                start(command, false)
            }
        }
    }
}

/// What can be measured.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// The gap on the wire for each fault, beside keepalived's in the same run.
    Failover {
        /// Flags of the benchmark: --sessions, --runs, --faults, --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

impl Bench {
    /// Runs the task.
    ///
    /// # Errors
    /// When packages, the build or the lab fail.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let Self::Failover { flags } = self;
        need_root()?;
        let json = flags.iter().any(|f| f == "--json");
        let sets = [debian::BUILD, debian::LAB, debian::BENCH];
        let lab = build(&sets, Profile::Release, Chatter::of(json))?;
        let mut command = host::command(lab);
        command.arg("bench-failover").args(flags.iter().filter(|f| *f != "--json"));
        start(command, json)
    }
}

/// Flags of `chaos`.
#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// How long to go on.
    #[arg(long, value_name = "M", default_value_t = 3)]
    minutes: u64,
    /// Replays the choices of an earlier run, which printed it.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Only these faults, separated by commas; docs/lab.md lists them.
    #[arg(long, value_name = "F")]
    faults: Option<String>,
    /// One line of JSON on standard output, everything else on standard error.
    #[arg(long)]
    json: bool,
    /// Optimized programs; takes longer to build.
    #[arg(long)]
    release: bool,
}

impl Chaos {
    /// Runs the task.
    ///
    /// # Errors
    /// When packages, the build or the lab fail.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        need_root()?;
        let profile = Profile::of(self.release);
        let sets = [debian::BUILD, debian::LAB, debian::CHAOS];
        let lab = build(&sets, profile, Chatter::of(self.json))?;
        let mut command = host::command(lab);
        command.args(["chaos", "--minutes", &self.minutes.to_string()]);
        if let Some(seed) = self.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        if let Some(faults) = &self.faults {
            command.args(["--faults", faults]);
        }
        start(command, self.json)
    }
}

/// Which build of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// For tests and demos.
    Debug,
    /// For measurements.
    Release,
}

impl Profile {
    fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Debug }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

fn need_root() -> Result<()> {
    if !host::is_root() {
        bail!("the lab makes network namespaces and loads BPF programs: run this as root");
    }
    Ok(())
}

/// Installs `sets`, builds `bngd`, `bngctl` and `lab`, and returns the path of `lab`.
fn build(sets: &[Set], profile: Profile, chatter: Chatter) -> Result<PathBuf> {
    debian::ensure(sets, chatter)?;
    compile(profile, chatter)?;
    binary(profile)
}

/// Builds `bngd`, `bngctl` and `lab`.
///
/// # Errors
/// When the build fails.
pub(crate) fn compile(profile: Profile, chatter: Chatter) -> Result<()> {
    let mut cargo = host::cargo();
    cargo.args(["build", "--locked", "-p", "node", "-p", "cli", "-p", "chaos-tests", "--bins"]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    host::check(&mut cargo, chatter)
}

/// The path of the built `lab`.
///
/// # Errors
/// When cargo does not tell where it builds.
pub(crate) fn binary(profile: Profile) -> Result<PathBuf> {
    Ok(host::target_dir()?.join(profile.folder()).join("lab"))
}

/// Runs the lab. With `json`, only its line of JSON reaches standard output, at the very end.
fn start(mut command: Command, json: bool) -> Result<ExitCode> {
    if !json {
        // The lab takes the place of this process, so that Ctrl-C finds it and it cleans up in peace.
        let error = command.exec();
        return Err(error).with_context(|| format!("cannot run {}", host::shown(&command)));
    }
    command.arg("--json");
    let mut last = LastObject::default();
    let succeeded = host::lines(&mut command, |line| last.line(line, |text| eprintln!("{text}")))?;
    if let Some(line) = last.0 {
        println!("{line}");
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The last line of JSON that a program printed.
#[derive(Default)]
pub(crate) struct LastObject(pub(crate) Option<String>);

impl LastObject {
    /// Keeps a line that is a JSON object; gives every other one, and a kept one that another
    /// replaces, to `pass`.
    pub(crate) fn line(&mut self, line: &str, pass: impl Fn(&str)) {
        let is_object = line.starts_with('{')
            && serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object());
        if !is_object {
            pass(line);
        } else if let Some(earlier) = self.0.replace(line.to_owned()) {
            pass(&earlier);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn only_the_last_json_object_is_kept() {
        let passed = RefCell::new(Vec::new());
        let mut last = LastObject::default();
        for line in ["hello", "{\"a\":1}", "{\"a\":2}", "{not json", "bye"] {
            last.line(line, |text| passed.borrow_mut().push(text.to_owned()));
        }
        assert_eq!(last.0.as_deref(), Some("{\"a\":2}"));
        assert_eq!(passed.into_inner(), ["hello", "{\"a\":1}", "{not json", "bye"]);
    }
}
