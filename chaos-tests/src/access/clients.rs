//! DHCP clients that are not ours, each in a namespace of its own on the access switch.

use crate::lab::netns::run;
use crate::lab::topology::{TARGET, Topology, WORK_DIR};
use anyhow::{Context as _, Result, bail, ensure};
use model::MacAddr;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// ISC dhclient: renews when half of the lease has passed, and knows no signal for it.
    Dhclient,
    /// Busybox: SIGUSR1 renews, SIGUSR2 releases.
    Udhcpc,
    /// dhcpcd: probes its address by ARP first; SIGUSR1 renews, SIGALRM releases.
    Dhcpcd,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::Dhclient, Self::Udhcpc, Self::Dhcpcd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dhclient => "dhclient",
            Self::Udhcpc => "udhcpc",
            Self::Dhcpcd => "dhcpcd",
        }
    }

    fn mac(self) -> MacAddr {
        let last = match self {
            Self::Dhclient => 1,
            Self::Udhcpc => 2,
            Self::Dhcpcd => 3,
        };
        MacAddr([0x02, 0x75, 0, 0, 0, last])
    }

    /// What its script says of a renewal.
    fn renewed(self) -> &'static str {
        match self {
            Self::Udhcpc => "renew ",
            Self::Dhclient | Self::Dhcpcd => "RENEW ",
        }
    }

    /// Debian's package.
    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Dhclient => "isc-dhcp-client",
            Self::Udhcpc => "udhcpc",
            Self::Dhcpcd => "dhcpcd-base",
        }
    }
}

/// Whether a program can be found where Debian puts those of administrators and of users.
pub(super) fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| Path::new(d).join(program).exists())
}

/// Notes each event, and does what the client leaves to its script. It never touches the machine's
/// resolver: each client has this script instead of its own.
const SCRIPT: &str = r#"#!/bin/sh
# udhcpc names the event in $1, dhclient and dhcpcd in $reason.
event=${1:-$reason}
echo "$event ${ip:-$new_ip_address}" >> LOG
[ NAME = dhcpcd ] && exit 0
case $event in
PREINIT) ip link set acc up ;;
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    ip addr replace "${ip:-$new_ip_address}/${subnet:-$new_subnet_mask}" dev acc
    ip route replace default via "${router:-$new_routers}" ;;
deconfig | EXPIRE | FAIL | RELEASE | STOP)
    ip addr flush dev acc scope global ;;
esac
exit 0
"#;

/// Short pauses between DISCOVERs, so that a lost one costs little.
const DHCLIENT_CONF: &str = "initial-interval 1;\nbackoff-cutoff 2;\n";
const DHCPCD_CONF: &str = "ipv4only\nnodev\n";

/// A running client. Dropping it ends its process.
pub(super) struct RealClient {
    pub(super) program: Program,
    pub(super) mac: MacAddr,
    ns: String,
    dir: PathBuf,
    child: Child,
}

impl RealClient {
    /// Plugs it in and starts it.
    ///
    /// # Errors
    /// When its namespace, its files or its process cannot be made.
    pub(super) fn start(topology: &Topology, program: Program) -> Result<Self> {
        let (name, mac) = (program.name(), program.mac());
        let ns = topology.add_client(name, mac)?;
        let dir = PathBuf::from(WORK_DIR).join(format!("client-{name}"));
        std::fs::create_dir_all(&dir)?;
        let log = dir.join("events").display().to_string();
        std::fs::write(&log, "")?;
        let script = dir.join("script");
        std::fs::write(&script, SCRIPT.replace("LOG", &log).replace("NAME", name))?;
        run("chmod", &["755", &script.display().to_string()])?;
        std::fs::write(dir.join("dhclient.conf"), DHCLIENT_CONF)?;
        std::fs::write(dir.join("dhcpcd.conf"), DHCPCD_CONF)?;
        std::fs::write(dir.join("leases"), "")?;
        let (out, err) = (File::create(dir.join("out"))?, File::create(dir.join("err"))?);
        let child = command(program, &ns, &dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { program, mac, ns, dir, child })
    }

    /// What its script noted so far.
    pub(super) fn events(&self) -> String {
        std::fs::read_to_string(self.dir.join("events")).unwrap_or_default()
    }

    /// How often it renewed, by its own words.
    pub(super) fn renewals(&self) -> usize {
        self.events().lines().filter(|l| l.starts_with(self.program.renewed())).count()
    }

    /// Sends one ping to the target.
    ///
    /// # Errors
    /// When no answer comes, with the client's events.
    pub(super) fn ping(&self) -> Result<()> {
        let target = TARGET.to_string();
        let net = format!("--net=/run/netns/{}", self.ns);
        run("nsenter", &[&net, "fping", "-q", "-r", "0", "-t", "300", &target])
            .map(drop)
            .with_context(|| format!("no answer; its events: {:?}", self.events()))
    }

    /// Whether its process still runs.
    fn check(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} has ended: {ended:?}", self.program.name());
        Ok(())
    }

    /// Makes it renew; dhclient does by itself.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn renew(&mut self) -> Result<()> {
        self.check()?;
        match self.program {
            Program::Dhclient => Ok(()),
            Program::Udhcpc | Program::Dhcpcd => self.signal(Signal::SIGUSR1),
        }
    }

    /// Makes it give its address back.
    ///
    /// # Errors
    /// When it does not run.
    pub(super) fn release(&mut self) -> Result<()> {
        self.check()?;
        match self.program {
            Program::Udhcpc => self.signal(Signal::SIGUSR2),
            Program::Dhcpcd => self.signal(Signal::SIGALRM),
            Program::Dhclient => {
                let out = dhclient(&self.ns, &self.dir).arg("-r").arg("acc").output()?;
                if !out.status.success() {
                    bail!("dhclient -r: {}", String::from_utf8_lossy(&out.stderr).trim());
                }
                Ok(())
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        Ok(())
    }
}

impl Drop for RealClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn inside(ns: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{ns}"));
    command
}

fn dhclient(ns: &str, dir: &Path) -> Command {
    let mut command = inside(ns);
    command.args(["dhclient", "-4"]);
    for (flag, file) in
        [("-cf", "dhclient.conf"), ("-lf", "leases"), ("-pf", "pid"), ("-sf", "script")]
    {
        command.arg(flag).arg(dir.join(file));
    }
    command
}

/// The command that becomes the client itself, so that signals reach it.
fn command(program: Program, ns: &str, dir: &Path) -> Command {
    match program {
        Program::Dhclient => {
            let mut command = dhclient(ns, dir);
            command.args(["-d", "acc"]);
            command
        }
        Program::Udhcpc => {
            let mut command = inside(ns);
            command.args(["udhcpc", "-f", "-i", "acc", "-t", "5", "-T", "1", "-s"]);
            command.arg(dir.join("script"));
            command
        }
        Program::Dhcpcd => {
            let mut command = inside(ns);
            // Its leases and its control socket have fixed places; those of the machine stay untouched.
            let own = "mkdir -p /run/dhcpcd && mount -t tmpfs none /run/dhcpcd && \
                       mount -t tmpfs none /var/lib/dhcpcd && exec dhcpcd \"$@\"";
            command.args(["unshare", "--mount", "sh", "-c", own, "dhcpcd", "-4", "-B", "-f"]);
            command.arg(dir.join("dhcpcd.conf")).arg("-c").arg(dir.join("script")).arg("acc");
            command
        }
    }
}
