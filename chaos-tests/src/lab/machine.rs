//! A whole Debian machine for each node: this machine's file system under a layer of its own, with systemd as process 1.
//!
//! What is installed there is forgotten with it, and the real service manager applies the real unit: user,
//! capabilities, system call filter, read-only paths, watchdog, restarts.

use super::netns;
use super::topology::{WORK_DIR, node_ns};
use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pivot_root};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SYSTEMD: &str = "/lib/systemd/systemd";
/// Prefix of the control groups of machines.
const CGROUP: &str = "tandem-lab-";
/// Units that have no business here: devices are the host's, and nightly jobs would all start at once.
const MASKED: &[&str] = &[
    "timers.target",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service",
];
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// Seconds after which a command inside a machine is ended.
const COMMAND_S: &str = "60";
/// How often a control group is asked to go before it is left to the next clean-up.
const CGROUP_TRIES: u32 = 20;

/// Why machines cannot run here; `None` when they can.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn missing() -> Result<Option<String>> {
    if !Path::new(SYSTEMD).exists() {
        return Ok(Some("systemd is not installed".into()));
    }
    if !fs::read_to_string("/proc/filesystems")?.contains("\toverlay\n") {
        return Ok(Some("the kernel has no overlay file system".into()));
    }
    if cgroup_root()?.is_none() {
        return Ok(Some("no unified control group hierarchy is mounted".into()));
    }
    Ok(None)
}

fn cgroup_root() -> Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    Ok(found)
}

fn cgroup_of(node: usize) -> Result<PathBuf> {
    let root = cgroup_root()?.context("no unified control group hierarchy is mounted")?;
    Ok(root.join(format!("{CGROUP}n{}", node + 1)))
}

/// A running machine. Dropping it ends all its processes.
pub struct Machine {
    node: usize,
    /// The process outside that waits for process 1.
    outer: Child,
    init: Pid,
}

impl Machine {
    /// Starts the machine of a node, in the node's network namespace; it boots on its own from here.
    ///
    /// # Errors
    /// When a namespace, a mount or systemd fails.
    pub fn start(node: usize) -> Result<Self> {
        fs::create_dir_all(cgroup_of(node)?)?;
        let mut outer = Command::new(std::env::current_exe()?)
            .args(["machine", &node.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = outer.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let Ok(init) = line.trim().parse() else {
            let _ = outer.kill();
            bail!("the machine of node {} did not start: {}", node + 1, outer.wait()?);
        };
        Ok(Self { node, outer, init: Pid::from_raw(init) })
    }

    /// A file of the machine, as this process can open it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(inside.trim_start_matches('/'))
    }

    /// Runs a program as root inside and returns its output.
    ///
    /// # Errors
    /// Its error output when it does not succeed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.run_with(program, args, &[])
    }

    /// As [`run`](Self::run), with more environment than a path and a home.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(&self, program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<String> {
        let out = Command::new("timeout")
            .args([COMMAND_S, "nsenter", "-t", &self.init.to_string(), "-a", "--", program])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(
            out.status.success(),
            "on n{}, {program} {}: {}\n{stdout}{stderr}",
            self.node + 1,
            args.join(" "),
            out.status
        );
        Ok(stdout.into_owned())
    }

    /// A property of a unit.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let value = self.run("systemctl", &["show", "--value", "-p", name, unit])?;
        Ok(value.trim().to_owned())
    }

    /// Copies the journal of `bngd` to where a failed lab leaves its logs.
    ///
    /// # Errors
    /// When there is none.
    pub fn keep_journal(&self) -> Result<()> {
        let text =
            self.run("journalctl", &["--no-pager", "-o", "short-iso-precise", "-u", "bngd"])?;
        let dir = Path::new(WORK_DIR).join(format!("n{}", self.node + 1));
        fs::create_dir_all(&dir)?;
        Ok(fs::write(dir.join("bngd.log"), text)?)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With process 1 of a PID namespace all others in it end.
        let _ = kill(self.init, Signal::SIGKILL);
        let _ = self.outer.wait();
        if let Ok(cgroup) = cgroup_of(self.node) {
            remove_cgroup(&cgroup);
        }
    }
}

/// Removes the control groups that machines left behind.
pub fn clean() {
    let Ok(Some(root)) = cgroup_root() else { return };
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(CGROUP) {
            remove_cgroup(&entry.path());
        }
    }
}

/// Removes a group with those below it, once the processes in them are gone.
fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..CGROUP_TRIES {
        match fs::remove_dir(dir) {
            Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) => {
                // A killed process leaves its group a moment after it is gone.
                let (_keep, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(Duration::from_millis(50));
            }
            Ok(()) | Err(_) => return,
        }
    }
}

/// The process outside: `lab machine N`. Enters the node's network and makes the other namespaces, tells the
/// number of process 1, and waits for it.
///
/// # Errors
/// When not root, or the kernel refuses.
pub fn outer(node: usize) -> Result<()> {
    fs::write(cgroup_of(node)?.join("cgroup.procs"), "0")?;
    netns::enter(&node_ns(node))?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWCGROUP
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )?;
    let mut init = Command::new(std::env::current_exe()?)
        .args(["machine-init", &node.to_string()])
        .stdout(Stdio::null())
        .spawn()?;
    println!("{}", init.id());
    init.wait()?;
    Ok(())
}

/// Process 1: `lab machine-init N`. Builds the file system and becomes systemd.
///
/// # Errors
/// When the kernel refuses a mount. On success it does not return.
pub fn init(node: usize) -> Result<()> {
    let base = Path::new(WORK_DIR).join(format!("n{}", node + 1)).join("machine");
    fs::create_dir_all(&base)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    fresh("tmpfs", &base, "mode=755")?;
    for dir in ["upper", "work", "root"] {
        fs::create_dir(base.join(dir))?;
    }
    let root = base.join("root");
    let layers = format!(
        "lowerdir=/,upperdir={0}/upper,workdir={0}/work",
        base.to_str().context("the work folder is plain text")?
    );
    fresh("overlay", &root, &layers)?;
    system_folders(&root)?;
    fs::write(root.join("etc/hostname"), format!("n{}\n", node + 1))?;
    for unit in MASKED {
        symlink("/dev/null", root.join("etc/systemd/system").join(unit)).or_else(|e| {
            if e.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) }
        })?;
    }
    std::env::set_current_dir(&root)?;
    // Both in one place: the old root comes to lie on the new one, and goes.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    let error = Command::new(SYSTEMD)
        .args(["--system", "--unit=basic.target", "--log-target=journal"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        // systemd leaves alone what a container's host has to do.
        .env("container", "tandem-lab")
        .exec();
    Err(error).context(SYSTEMD)
}

/// What the kernel shows, and what does not outlive a boot. Settings other than the network's are read-only: they are
/// the whole host's.
fn system_folders(root: &Path) -> Result<()> {
    fresh("proc", &root.join("proc"), "")?;
    let settings = root.join("proc/sys");
    bind(&settings, &settings)?;
    let network = root.join("proc/sys/net");
    bind(&network, &network)?;
    read_only(&settings)?;
    fresh("sysfs", &root.join("sys"), "")?;
    bind(Path::new("/sys/fs/bpf"), &root.join("sys/fs/bpf"))?;
    fresh("cgroup2", &root.join("sys/fs/cgroup"), "")?;
    read_only(&root.join("sys"))?;
    for (dir, mode) in [("run", "mode=755"), ("tmp", "mode=1777"), ("dev", "mode=755")] {
        fresh("tmpfs", &root.join(dir), mode)?;
    }
    for device in DEVICES {
        let inside = root.join("dev").join(device);
        fs::write(&inside, "")?;
        bind(&Path::new("/dev").join(device), &inside)?;
    }
    // PrivateDevices= does not work without it.
    symlink("pts/ptmx", root.join("dev/ptmx"))?;
    Ok(())
}

fn fresh(kind: &str, at: &Path, options: &str) -> Result<()> {
    let mounted = mount(Some(kind), at, Some(kind), MsFlags::empty(), Some(options));
    mounted.with_context(|| format!("cannot mount {kind} on {}", at.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let nothing: Option<&str> = None;
    let mounted = mount(Some(from), to, nothing, MsFlags::MS_BIND, nothing);
    mounted.with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

fn read_only(at: &Path) -> Result<()> {
    let nothing: Option<&str> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let mounted = mount(nothing, at, nothing, flags, nothing);
    mounted.with_context(|| format!("cannot make {} read-only", at.display()))
}
