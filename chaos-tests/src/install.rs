//! From the Debian package to the first failover, as the operator guide tells it, on three machines with systemd.

use crate::lab::cluster::{PASSWORD, eventually, user_name};
use crate::lab::machine::{self, Machine};
use crate::lab::subscribers::{Plan, Subscribers};
use crate::lab::topology;
use crate::scenario::DATA_NODES;
use anyhow::{Context as _, Result, ensure};
use api::types::ClusterStatus;
use dataplane::boottime_now;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// How long a machine may take to boot, and each later step.
const PATIENCE: Duration = Duration::from_secs(30);
const EXAMPLES: &str = "usr/share/doc/tandem/examples";
/// The group of the examples.
const GROUP: &str = "south";
/// Numbers of `linux/capability.h`: NET_ADMIN, NET_RAW, PERFMON, BPF.
const CAPABILITIES: u64 = (1 << 12) | (1 << 13) | (1 << 38) | (1 << 39);
/// A witness needs no capability, as the guide says. The short watchdog is to be lived with from here on.
const WITNESS_DROP_IN: &str =
    "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\nWatchdogSec=2\n";
/// `EXIT_STORE_DAMAGED` of `bngd`.
const STORE_DAMAGED: &str = "65";

/// Flags of the install test.
#[derive(Clone, Debug, clap::Args)]
pub struct InstallArgs {
    /// The package.
    #[arg(long)]
    pub deb: PathBuf,
    /// Print nothing but one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

/// Whether the test cannot run here; says why.
///
/// # Errors
/// When that cannot be found out.
pub fn skip(args: &InstallArgs) -> Result<bool> {
    let Some(reason) = machine::missing()? else { return Ok(false) };
    if args.json {
        println!("{}", json!({ "skipped": reason }));
    } else {
        println!("SKIPPED: {reason}");
    }
    Ok(true)
}

/// Three machines: two data nodes and the witness.
struct Site {
    machines: Vec<Machine>,
    quiet: bool,
}

/// Runs the test on a built network.
///
/// # Errors
/// What did not come out as the operator guide promises.
pub async fn run(args: InstallArgs) -> Result<()> {
    let machines = (0..=DATA_NODES).map(Machine::start).collect::<Result<_>>()?;
    let site = Site { machines, quiet: args.json };
    let outcome = site.all(&args).await;
    if outcome.is_err() {
        for machine in &site.machines {
            if let Err(error) = machine.keep_journal() {
                eprintln!("lab: no journal: {error:#}");
            }
        }
    }
    let kept = outcome?;
    drop(site);
    topology::clean()?;
    if args.json {
        println!("{}", json!({ "machines": DATA_NODES + 1, "kept": kept }));
    }
    Ok(())
}

impl Site {
    async fn all(&self, args: &InstallArgs) -> Result<usize> {
        self.boot().await?;
        self.install(args)?;
        self.make_cluster().await?;
        self.check_confinement()?;
        // The PPPoE pool of the example is behind NAT.
        let subscribers = Subscribers::start(Plan { private: 1, ..Plan::new(1, 1) })?;
        self.serve(&subscribers).await?;
        let mark = subscribers.mark();
        self.fail_over(&subscribers).await?;
        self.crash(&subscribers).await?;
        self.upgrade()?;
        flowing(&subscribers).await?;
        let kept = subscribers.kept(&mark);
        ensure!(kept.kept == kept.sessions, "{kept:?}");
        self.hang().await?;
        self.damaged_store().await?;
        self.purge()?;
        Ok(kept.kept)
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            println!("{text}");
        }
    }

    async fn boot(&self) -> Result<()> {
        for machine in &self.machines {
            eventually("systemd has booted", PATIENCE, || async {
                // Its exit code also tells of failed units, which are the host's affair.
                let state = machine.run("sh", &["-c", "systemctl is-system-running || true"])?;
                ensure!(["running", "degraded"].contains(&state.trim()), "it is {state}");
                Ok(())
            })
            .await?;
        }
        self.say("three machines are up");
        Ok(())
    }

    /// Step 1 of the guide: the package, and one file on each machine.
    fn install(&self, args: &InstallArgs) -> Result<()> {
        for (i, machine) in self.machines.iter().enumerate() {
            fs::copy(&args.deb, machine.path("root/tandem.deb"))
                .with_context(|| args.deb.display().to_string())?;
            dpkg_install(machine)?;
            let enabled = machine.run("sh", &["-c", "systemctl is-enabled bngd || true"])?;
            ensure!(enabled.trim() == "disabled", "installing enables the daemon: {enabled}");
            ensure!(machine.property("bngd", "ActiveState")? == "inactive", "it was started");
            let example = match i {
                0 => "etc/tandem/bngd.toml".to_owned(),
                1 => format!("{EXAMPLES}/bng2.toml"),
                _ => format!("{EXAMPLES}/witness.toml"),
            };
            let text = fs::read_to_string(machine.path(&example)).context(example)?;
            let text = text.replace("\"eth1\"", "\"acc\"").replace("\"eth2\"", "\"core\"");
            fs::write(machine.path("etc/tandem/bngd.toml"), text)?;
            if i == DATA_NODES {
                let dir = machine.path("etc/systemd/system/bngd.service.d");
                fs::create_dir_all(&dir)?;
                fs::write(dir.join("witness.conf"), WITNESS_DROP_IN)?;
                machine.run("systemctl", &["daemon-reload"])?;
            }
            machine.run("bngd", &["check-config"])?;
            // Returns when the daemon says that it is ready.
            machine.run("systemctl", &["enable", "--now", "bngd"])?;
            machine.run("man", &["-w", "8", "bngd"])?;
            machine.run("man", &["-w", "bngctl-cluster-init"])?;
        }
        self.say("the package is installed and the daemons are ready");
        Ok(())
    }

    /// Step 2: init on the first, join on the others.
    async fn make_cluster(&self) -> Result<()> {
        let [first, second, witness] = self.machines.as_slice() else {
            anyhow::bail!("a site is two data nodes and a witness")
        };
        let text = fs::read_to_string(first.path(&format!("{EXAMPLES}/cluster.toml")))?;
        let (user, password) = (user_name(0), PASSWORD);
        let text =
            format!("{text}\n[[subscribers]]\nusername = \"{user}\"\npassword = \"{password}\"\n");
        fs::write(first.path("root/cluster.toml"), text)?;
        let made = ctl(first, &["cluster", "init", "--config", "/root/cluster.toml"])?;
        let fingerprint = field(&made, "/ca_fingerprint")?;
        let login = ["--fingerprint", &fingerprint, "login", "--username", "admin"];
        first.run_with("bngctl", &login, &[("BNGCTL_PASSWORD", "change-this-password")])?;
        for (machine, name, role) in [(second, "bng2", "data"), (witness, "witness", "witness")] {
            let token = ctl(first, &["cluster", "token", "--name", name, "--role", role])?;
            ctl(machine, &["cluster", "join", &field(&token, "/token")?])?;
        }
        self.wait("all vote, the fence is open and the standby is programmed", |_| true).await?;
        self.say("the cluster is made: all vote, the fence is open, the standby is programmed");
        Ok(())
    }

    /// Waits until the cluster is whole and `more` holds too.
    async fn wait(
        &self,
        what: &str,
        more: impl Fn(&ClusterStatus) -> bool,
    ) -> Result<ClusterStatus> {
        eventually(what, PATIENCE, || async {
            let body = ctl(&self.machines[0], &["cluster", "status"])?;
            let status: ClusterStatus = serde_json::from_value(body.clone())?;
            let whole = status.nodes.len() == self.machines.len()
                && status.nodes.iter().all(|n| n.voter && n.reachable)
                && status.groups.iter().all(|g| {
                    g.fence == Some(model::Fence::Open) && g.nodes.iter().all(|n| n.eligible)
                });
            ensure!(whole && more(&status), "last status: {body}");
            Ok(status)
        })
        .await
    }

    /// The daemons run as the unit says: no root, four capabilities or none, no new ones, a system call filter.
    fn check_confinement(&self) -> Result<()> {
        for (i, machine) in self.machines.iter().enumerate() {
            let pid = machine.property("bngd", "MainPID")?;
            let status = machine.run("cat", &[&format!("/proc/{pid}/status")])?;
            let value = |key: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
                line.map(str::trim).with_context(|| format!("no {key} in {status}"))
            };
            let bngd = machine.run("id", &["-u", "bngd"])?;
            ensure!(value("Uid")?.split_whitespace().all(|u| u == bngd.trim()), "{status}");
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                let has = u64::from_str_radix(value(set)?, 16)?;
                let wanted = if i == DATA_NODES { 0 } else { CAPABILITIES };
                ensure!(has == wanted, "{set} of n{} is {has:#x}, not {wanted:#x}", i + 1);
            }
            ensure!(value("NoNewPrivs")? == "1" && value("Seccomp")? == "2", "{status}");
            let mode = machine.run("stat", &["-c", "%U %a", "/var/lib/bngd"])?;
            ensure!(mode.trim() == "bngd 700", "/var/lib/bngd is {mode}");
        }
        self.check_priority()?;
        self.say("the daemons run unprivileged, confined as the unit says");
        Ok(())
    }

    /// The lease thread is real-time by the unit's limit, where systemd could raise it.
    fn check_priority(&self) -> Result<()> {
        let first = &self.machines[0];
        let pid = first.property("bngd", "MainPID")?;
        let limits = first.run("cat", &[&format!("/proc/{pid}/limits")])?;
        let limit = limits.lines().find_map(|l| l.strip_prefix("Max realtime priority"));
        if limit.is_none_or(|l| l.split_whitespace().next() == Some("0")) {
            println!(
                "SKIPPED: real-time scheduling of the lease thread: this machine does not let systemd raise the limit"
            );
            return Ok(());
        }
        let script = "for t in /proc/$1/task/*; do [ \"$(cat $t/comm)\" != lease ] || chrt -p ${t##*/}; done";
        let policy = first.run("sh", &["-c", script, "sh", &pid])?;
        ensure!(policy.contains("SCHED_FIFO"), "the lease thread is not real-time: {policy}");
        Ok(())
    }

    async fn serve(&self, subscribers: &Subscribers) -> Result<()> {
        subscribers.dial_all();
        eventually("a PPPoE and a DHCP subscriber are up", PATIENCE, || async {
            subscribers.check()?;
            ensure!(subscribers.up() == (1, 1), "{:?} are up", subscribers.up());
            Ok(())
        })
        .await?;
        subscribers.probe(true);
        flowing(subscribers).await?;
        self.say("a PPPoE and a DHCP subscriber are up, with traffic both ways");
        Ok(())
    }

    /// Step 3: the first planned failover.
    async fn fail_over(&self, subscribers: &Subscribers) -> Result<()> {
        self.wait("the standby is ready", |_| true).await?;
        ctl(&self.machines[0], &["group", "failover", GROUP, "--to", "bng2", "--wait"])?;
        flowing(subscribers).await?;
        self.say("the group went to bng2 by plan, and traffic with it");
        Ok(())
    }

    /// The owner is killed: the other one takes over, and systemd brings the dead one back as a standby.
    async fn crash(&self, subscribers: &Subscribers) -> Result<()> {
        let victim = &self.machines[1];
        victim.run("systemctl", &["kill", "--signal=KILL", "bngd"])?;
        let owner = |s: &ClusterStatus| s.groups.iter().all(|g| g.owner.as_deref() == Some("bng1"));
        self.wait("bng1 owns the group and bng2 is a standby again", owner).await?;
        flowing(subscribers).await?;
        let restarts = victim.property("bngd", "NRestarts")?;
        ensure!(restarts == "1", "bng2 was restarted {restarts} times");
        self.say("the owner was killed: the other took over, systemd restarted it as standby");
        Ok(())
    }

    /// Installing again, as an upgrade does, must leave the daemon alone and the configuration as it is.
    fn upgrade(&self) -> Result<()> {
        let owner = &self.machines[0];
        let before = owner.property("bngd", "MainPID")?;
        let config = fs::read(owner.path("etc/tandem/bngd.toml"))?;
        let said = dpkg_install(owner)?;
        ensure!(owner.property("bngd", "MainPID")? == before, "the upgrade restarted the daemon");
        ensure!(fs::read(owner.path("etc/tandem/bngd.toml"))? == config, "the file was replaced");
        ensure!(said.contains("then restart it"), "nothing told to restart: {said}");
        self.say("an upgrade leaves the running daemon and the configuration alone");
        Ok(())
    }

    /// A daemon that has come round all the time is left alone by the watchdog; one that hangs is not.
    async fn hang(&self) -> Result<()> {
        let witness = &self.machines[DATA_NODES];
        let restarts = witness.property("bngd", "NRestarts")?;
        ensure!(restarts == "0", "the witness was restarted {restarts} times");
        witness.run("systemctl", &["kill", "--signal=STOP", "bngd"])?;
        eventually("the watchdog ends the daemon and it starts anew", PATIENCE, || async {
            let restarts = witness.property("bngd", "NRestarts")?;
            ensure!(restarts == "1", "it was restarted {restarts} times");
            Ok(())
        })
        .await?;
        self.wait("the witness votes again", |_| true).await?;
        self.say("a daemon that hangs is ended by the watchdog and comes back");
        Ok(())
    }

    /// A node whose store is damaged stops with its own code and is not started again and again.
    async fn damaged_store(&self) -> Result<()> {
        let witness = &self.machines[DATA_NODES];
        witness.run("systemctl", &["stop", "bngd"])?;
        ensure!(witness.property("bngd", "Result")? == "success", "it did not stop in order");
        witness.run("rm", &["-r", "/var/lib/bngd/raft/log"])?;
        // Ready before the store is opened, so the start itself may succeed.
        witness.run("sh", &["-c", "systemctl start bngd || true"])?;
        eventually("the daemon gives up", PATIENCE, || async {
            let state = witness.property("bngd", "ActiveState")?;
            ensure!(state == "failed", "it is {state}");
            Ok(())
        })
        .await?;
        let code = witness.property("bngd", "ExecMainStatus")?;
        ensure!(code == STORE_DAMAGED, "exit code {code}");
        let restarts = witness.property("bngd", "NRestarts")?;
        ensure!(restarts == "0", "a damaged store was tried {restarts} more times");
        self.say("a damaged store is not tried again");
        Ok(())
    }

    fn purge(&self) -> Result<()> {
        let witness = &self.machines[DATA_NODES];
        witness.run("dpkg", &["--no-triggers", "--purge", "tandem"])?;
        for gone in
            ["usr/sbin/bngd", "etc/tandem", "var/lib/bngd", "usr/lib/systemd/system/bngd.service"]
        {
            ensure!(!witness.path(gone).exists(), "{gone} is left after a purge");
        }
        self.say("purging leaves nothing behind");
        Ok(())
    }
}

/// Without triggers: rebuilding the index of all manual pages takes longer than the rest.
fn dpkg_install(machine: &Machine) -> Result<String> {
    machine.run("dpkg", &["--no-triggers", "--install", "/root/tandem.deb"])
}

/// Runs `bngctl --json` and returns what the answer carries.
fn ctl(machine: &Machine, args: &[&str]) -> Result<Value> {
    let out = machine.run("bngctl", &[&["--json"], args].concat())?;
    let body: Value = serde_json::from_str(&out)?;
    body.get("data").cloned().with_context(|| format!("bngctl {}: {out}", args.join(" ")))
}

fn field(body: &Value, pointer: &str) -> Result<String> {
    let text = body.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).with_context(|| format!("no {pointer} in {body}"))
}

/// Waits until both subscribers are heard in both directions from now on.
async fn flowing(subscribers: &Subscribers) -> Result<()> {
    let since = boottime_now();
    eventually("traffic flows both ways", PATIENCE, || async {
        ensure!(subscribers.all_flowing(since), "it does not");
        Ok(())
    })
    .await
}
