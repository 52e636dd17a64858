//! Network namespaces and the `ip` command.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Prefix of every namespace of a lab.
pub const PREFIX: &str = "tdm-";

/// Runs a command and returns its output; its error output becomes the error.
///
/// # Errors
/// When it cannot start or does not succeed.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}; is its package installed?"))?;
    if !out.status.success() {
        bail!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs many `ip` commands in one process, in a namespace or in the machine's own.
///
/// # Errors
/// The first command that fails, by `ip`'s words.
pub fn ip_batch(namespace: Option<&str>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(ns) = namespace {
        command.args(["-n", ns]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip; is the package iproute2 installed?")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!(
            "ip -batch in {namespace:?}: {}\n{lines}",
            String::from_utf8_lossy(&out.stderr).trim()
        );
    }
    Ok(())
}

/// Moves the calling thread into a namespace; threads that it starts later live there too.
///
/// # Errors
/// When the namespace does not exist or the process is not root.
pub fn enter(namespace: &str) -> Result<()> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("no namespace {namespace}"))?;
    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("cannot enter {path}; are you root?"))?;
    Ok(())
}

/// Runs `work` on a thread of its own inside a namespace, under a runtime of its own.
pub fn thread_in<F, Fut>(
    namespace: &str,
    name: &str,
    work: F,
) -> std::io::Result<std::thread::JoinHandle<Result<()>>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>>,
{
    let namespace = namespace.to_owned();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        enter(&namespace)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    })
}

/// The lab's namespaces that exist now.
///
/// # Errors
/// When `ip` cannot run.
pub fn existing() -> Result<Vec<String>> {
    let listed = run("ip", &["netns", "list"])?;
    let names = listed.lines().filter_map(|l| l.split_whitespace().next());
    Ok(names.filter(|n| n.starts_with(PREFIX)).map(str::to_owned).collect())
}
