//! `chaos`: seeded random faults while subscribers come and go, and writes and reads go to random nodes.
//!
//! Each round strikes, lets it last, heals, and then demands that the cluster is whole and every
//! session flows within [`RECOVERY_MAX`]. Checked throughout: one owner on the wire and silent standbys
//! ([`crate::lab::wire`]), one holder per address, epochs and revisions that never step back ([`check`]),
//! linearizable rates ([`history`]), leases that end in time ([`ghosts`]), and that no daemon ends by
//! itself without a reason.

mod check;
mod ghosts;
mod history;
mod nemesis;
mod registers;
mod report;

pub use nemesis::FaultKind;

use crate::lab::cluster::{NodeName, Settings, pause};
use crate::lab::subscribers::Plan;
use crate::lab::topology;
use crate::scenario::Lab;
use anyhow::{Context as _, Result, bail, ensure};
use check::Checker;
use dataplane::boottime_now;
use ghosts::Ghosts;
use nemesis::{Nemesis, Roles, Struck};
use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64;
use registers::Registers;
use report::{Faults, Timeline};
use std::time::Duration;

/// From the end of a fault until everything flows again.
pub const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// Subscribers of each kind.
const EACH: usize = 60;
/// Of each kind, those that stay; the others come and go.
const STAY: usize = 40;
/// The last of the DHCP subscribers, which get a lease and fall silent.
const GHOSTS: usize = 4;
/// Short, so that renewals meet faults, and leases end within a run.
const LEASE: Duration = Duration::from_secs(60);
/// How often the state is looked at while a fault heals.
const POLL: Duration = Duration::from_millis(25);
/// The log event of a daemon that ends because its disk fails it.
const STORE_FAILED: &str = "TANDEM-STORE-FAILED";
/// What a daemon logs early on.
const STARTED: &str = "API listening";

/// Flags of the chaos run.
#[derive(Clone, Debug, clap::Args)]
pub struct ChaosArgs {
    /// How long to go on.
    #[arg(long, default_value_t = 3)]
    pub minutes: u64,
    /// Replays a run; printed by each.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Only these faults, separated by commas.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub faults: Vec<FaultKind>,
    /// Print only one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

struct Run {
    lab: Lab,
    rng: Pcg64,
    checker: Checker,
    registers: Registers,
    ghosts: Ghosts,
    timeline: Timeline,
    faults: Faults,
    recovery: Vec<Duration>,
}

/// Runs chaos on a built network.
///
/// # Errors
/// The first violation, with the seed and the timeline.
pub async fn run(args: ChaosArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let faults = Faults::choose(&args.faults);
    let lease_s = u32::try_from(LEASE.as_secs())?;
    let settings = Settings {
        own_disks: faults.has(FaultKind::DiskFull) || faults.has(FaultKind::DiskStall),
        own_clocks: faults.has(FaultKind::Clock),
        ..Settings::plain(EACH, lease_s, "policer")?
    };
    let lab = Lab::raise_with(Plan::new(EACH, EACH), settings, args.json).await?;
    let checker = Checker::start(&lab)?;
    let registers = Registers::start(&lab).await?;
    let mut run = Run {
        lab,
        rng: Pcg64::seed_from_u64(seed),
        checker,
        registers,
        ghosts: Ghosts::new(2 * EACH - GHOSTS..2 * EACH, LEASE),
        timeline: Timeline::start(args.json),
        faults,
        recovery: Vec::new(),
    };
    let outcome = run.rounds(Duration::from_secs(60 * args.minutes)).await;
    let line = run.line(seed, outcome.is_err());
    if let Err(error) = outcome {
        eprintln!("chaos: seed {seed}: {error:#}\n{}", run.timeline);
        println!("{line}");
        bail!("violation with seed {seed}: {error:#}");
    }
    drop(run);
    topology::clean()?;
    println!("{line}");
    Ok(())
}

impl Run {
    async fn rounds(&mut self, length: Duration) -> Result<()> {
        for (kind, reason) in self.faults.skipped() {
            self.timeline.note(&format!("no {kind}: {reason}"));
        }
        while self.timeline.elapsed() < length {
            self.round().await?;
        }
        self.registers.finish(&self.lab).await?;
        self.check_now().await?;
        self.faults.all_acted()
    }

    async fn round(&mut self) -> Result<()> {
        let mark = self.lab.subscribers.mark();
        let mut struck = self.strike().await?;
        let length = Duration::from_millis(self.rng.random_range(500..3000));
        self.live(length).await;
        let may_end: Vec<NodeName> = struck.iter().filter_map(|s| s.nemesis.may_end()).collect();
        // The last comes off first, but for those that need the others healed.
        struck.reverse();
        struck.sort_by_key(|s| s.nemesis.heals_last());
        for one in struck {
            let (nemesis, kind) = (one.nemesis, one.nemesis.kind());
            let acted = one.heal(&mut self.lab).await.with_context(|| format!("heal {nemesis}"))?;
            self.faults.count(kind, acted);
            let shown = if acted { "" } else { ", which has not shown that it acted" };
            self.timeline.note(&format!("heal {nemesis}{shown}"));
        }
        let healed = boottime_now();
        self.become_whole(healed, &may_end).await?;
        let took = boottime_now().since(healed);
        self.recovery.push(took);
        self.timeline.note(&format!("whole after {} ms", took.as_millis()));
        let kept = self.stayers_kept(&mark);
        ensure!(kept.is_empty(), "sessions ended that nobody ended: subscribers {kept:?}");
        self.check_now().await
    }

    async fn strike(&mut self) -> Result<Vec<Struck>> {
        let strikes = if self.rng.random_bool(0.3) { 2 } else { 1 };
        let mut struck: Vec<Struck> = Vec::new();
        for _ in 0..strikes {
            let roles = self.roles().await;
            let kind = self.faults.draw(&mut self.rng)?;
            let nemesis = Nemesis::draw(kind, roles, &mut self.rng);
            if struck.iter().all(|s| s.nemesis.goes_with(nemesis)) {
                self.timeline.note(&format!("strike {nemesis}"));
                let one = nemesis.strike(&mut self.lab).await;
                struck.push(one.with_context(|| format!("strike {nemesis}"))?);
            }
            let apart = Duration::from_millis(self.rng.random_range(50..400));
            self.live(apart).await;
        }
        Ok(struck)
    }

    /// Waits until the cluster is whole and every session that stays is heard. Starts daemons again that
    /// a disk has ended, as systemd would.
    async fn become_whole(&mut self, healed: model::Tick, may_end: &[NodeName]) -> Result<()> {
        loop {
            for node in (0..self.lab.cluster.nodes()).map(NodeName) {
                let Some(status) = self.lab.cluster.ended(node) else { continue };
                ensure!(may_end.contains(&node), "{node} ended by itself: {status}");
                let log = std::fs::read_to_string(self.lab.cluster.log_path(node))?;
                // Only what it said since its last start.
                let said = log.rsplit(STARTED).next().is_some_and(|l| l.contains(STORE_FAILED));
                ensure!(said, "{node} ended ({status}) without {STORE_FAILED}");
                self.timeline
                    .note(&format!("{node} had stopped because of its disk; started again"));
                self.faults.stopped_by_disk += 1;
                self.lab.cluster.ensure_running(node)?;
            }
            let Err(error) = self.is_whole(healed).await else { return Ok(()) };
            if boottime_now().since(healed) > RECOVERY_MAX {
                let within = RECOVERY_MAX.as_secs();
                return Err(error.context(format!("not whole within {within} s")));
            }
            pause(POLL).await;
        }
    }

    async fn is_whole(&self, healed: model::Tick) -> Result<()> {
        let status = self.lab.cluster.status().await?;
        ensure!(self.lab.cluster.is_ready(&status), "{}", serde_json::to_string(&status)?);
        ensure!(self.stay_flowing(healed), "some sessions are silent");
        Ok(())
    }

    async fn check_now(&mut self) -> Result<()> {
        let owners = self.lab.watcher.owners_max();
        ensure!(owners <= 1, "{owners} nodes sent from the virtual MAC at the same time");
        self.lab.watcher.check()?;
        self.lab.watcher.judged().verdict()?;
        self.lab.subscribers.check()?;
        check::addresses_unique(&self.lab).await?;
        self.registers.verdict()?;
        self.ghosts.look(&self.lab).await?;
        self.checker.verdict()
    }

    async fn roles(&self) -> Roles {
        let status = self.lab.cluster.status().await.ok();
        let leader = status.and_then(|s| s.leader).and_then(|n| self.lab.cluster.by_name(&n).ok());
        let owner = self.lab.cluster.owner().await.ok();
        Roles { owner, leader, nodes: self.lab.cluster.nodes() }
    }

    /// Lets the fault last while life goes on.
    async fn live(&mut self, time: Duration) {
        let until = boottime_now() + time;
        while boottime_now() < until {
            pause(Duration::from_millis(self.rng.random_range(20..120))).await;
            let churn = self.churner();
            if self.rng.random_bool(0.5) {
                self.lab.subscribers.hang_up(churn);
            } else {
                self.lab.subscribers.dial(churn);
            }
            if self.rng.random_bool(0.7) {
                self.registers.spawn(&self.lab, &mut self.rng);
            }
        }
    }

    fn churner(&mut self) -> usize {
        let kind = if self.rng.random_bool(0.5) { 0 } else { EACH };
        kind + self.rng.random_range(STAY..EACH - GHOSTS)
    }

    fn stayers() -> impl Iterator<Item = usize> {
        (0..STAY).chain(EACH..EACH + STAY)
    }

    fn stay_flowing(&self, since: model::Tick) -> bool {
        let seen = &self.lab.subscribers.shared().seen;
        Self::stayers().all(|i| seen[i].up.last() > since && seen[i].down.last() > since)
    }

    fn stayers_kept(&self, mark: &crate::lab::subscribers::Mark) -> Vec<usize> {
        Self::stayers().filter(|i| !self.lab.subscribers.is_kept(mark, *i)).collect()
    }

    /// The line of JSON.
    fn line(&mut self, seed: u64, violated: bool) -> serde_json::Value {
        report::line(report::Summary {
            seed,
            violated,
            faults: &self.faults,
            recovery: std::mem::take(&mut self.recovery),
            judged: &self.lab.watcher.judged(),
            history: self.registers.size(),
            leases_lapsed: self.ghosts.lapsed(),
        })
    }
}

/// Wall clock of a node less the replicated time, from its metrics, in seconds.
fn clock_offset_s(metrics: &str) -> Result<i64> {
    let line = metrics.lines().find_map(|l| l.strip_prefix("tandem_clock_offset_seconds "));
    Ok(line.context("the metrics have no tandem_clock_offset_seconds")?.trim().parse()?)
}
