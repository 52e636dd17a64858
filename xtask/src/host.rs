//! Where the repository is, and how programs are run.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Instant;

/// Where the text of programs goes that a task runs on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chatter {
    /// Their standard output is ours.
    Stdout,
    /// Their standard output goes to our standard error: ours carries one line of JSON.
    Stderr,
}

impl Chatter {
    /// What fits a task with this `--json` flag.
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Stderr } else { Self::Stdout }
    }

    /// Says a line.
    pub(crate) fn say(self, text: &str) {
        match self {
            Self::Stdout => println!("{text}"),
            Self::Stderr => eprintln!("{text}"),
        }
    }

    fn stdio(self) -> Result<Stdio> {
        Ok(match self {
            Self::Stdout => Stdio::inherit(),
            Self::Stderr => std::io::stderr().as_fd().try_clone_to_owned()?.into(),
        })
    }
}

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    // `cargo run` tells it; the path from compile time serves a binary that is started by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().map_or(manifest.clone(), Path::to_path_buf)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program that runs in the root of the checkout.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot start or does not succeed.
pub(crate) fn check(command: &mut Command, chatter: Chatter) -> Result<()> {
    let status = command.stdout(chatter.stdio()?).status();
    let status = status.with_context(|| format!("cannot run {}", shown(command)))?;
    if status.success() { Ok(()) } else { bail!("{} failed: {status}", shown(command)) }
}

/// Runs a program and returns its output; its standard error is ours.
///
/// # Errors
/// When it cannot start or does not succeed.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let out = command.stderr(Stdio::inherit()).output();
    let out = out.with_context(|| format!("cannot run {}", shown(command)))?;
    if out.status.success() { Ok(out) } else { bail!("{} failed: {}", shown(command), out.status) }
}

/// Runs a program to its end and gives every line that it prints, on either stream, to `line`, as it
/// comes. Returns whether it succeeded.
///
/// # Errors
/// When it cannot start.
pub(crate) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    let (tx, rx) = mpsc::channel();
    let streams: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
        child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>),
    ];
    for stream in streams.into_iter().flatten() {
        let tx = tx.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                // The receiver is gone only when this process ends.
                let _ = tx.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }
    drop(tx);
    for text in rx {
        line(&text);
    }
    Ok(child.wait()?.success())
}

/// The workspace as `cargo metadata` describes it, without the crates of others.
///
/// # Errors
/// When a manifest is wrong.
pub(crate) fn metadata() -> Result<Value> {
    let args = ["metadata", "--locked", "--no-deps", "--format-version", "1"];
    Ok(serde_json::from_slice(&output(cargo().args(args))?.stdout)?)
}

/// Where cargo builds the workspace.
///
/// # Errors
/// When cargo does not tell.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"].as_str();
    target.map(PathBuf::from).context("cargo metadata names no target directory")
}

/// Whether a program starts and succeeds, quietly.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether this process has root's rights.
pub(crate) fn is_root() -> bool {
    // The folder belongs to the effective user of the process.
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// The time, to tell how long a step took.
#[expect(clippy::disallowed_methods, reason = "nothing here runs in virtual time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
