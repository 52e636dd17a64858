//! `chaos`: seeded random faults while subscribers come and go and writes go to random nodes.
//!
//! Each round strikes, lets it last, heals, and then demands that the cluster is whole and every
//! session flows within [`RECOVERY_MAX`]. The checks of [`check`] run throughout.

mod check;
mod nemesis;

use crate::lab::cluster::eventually;
use crate::lab::subscribers::Plan;
use crate::lab::topology;
use crate::scenario::Lab;
use anyhow::{Result, bail, ensure};
use check::{Checker, Writes};
use dataplane::boottime_now;
use nemesis::Nemesis;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64;
use serde_json::json;
use std::time::Duration;

/// From the end of a fault until everything flows again.
pub const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// Subscribers of each kind.
const EACH: usize = 60;
/// Of each kind, those that stay; the others come and go.
const STAY: usize = 40;
/// Short, so that renewals meet faults.
const LEASE_S: u32 = 60;

/// Flags of the chaos run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ChaosArgs {
    /// How long to go on.
    #[arg(long, default_value_t = 3)]
    pub minutes: u64,
    /// Replays a run; printed by each.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print only one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

/// What happened, in order, for the report of a failure.
#[derive(Default)]
pub struct Timeline(Vec<String>);

impl Timeline {
    fn note(&mut self, quiet: bool, started: model::Tick, text: &str) {
        let line = format!("{:>7.2} s  {text}", boottime_now().since(started).as_secs_f64());
        if !quiet {
            println!("{line}");
        }
        self.0.push(line);
    }
}

struct Run {
    lab: Lab,
    rng: Pcg64,
    checker: Checker,
    writes: Writes,
    timeline: Timeline,
    started: model::Tick,
    quiet: bool,
    recovery: Vec<Duration>,
    faults: usize,
}

/// Runs chaos on a built network.
///
/// # Errors
/// The first violation, with the seed and the timeline.
pub async fn run(args: ChaosArgs) -> Result<()> {
    let seed = args.seed.unwrap_or_else(rand::random);
    let lab = Lab::raise(Plan::new(EACH, EACH), "policer", LEASE_S, args.json).await?;
    let checker = Checker::start(&lab)?;
    let mut run = Run {
        lab,
        rng: Pcg64::seed_from_u64(seed),
        checker,
        writes: Writes::default(),
        timeline: Timeline::default(),
        started: boottime_now(),
        quiet: args.json,
        recovery: Vec::new(),
        faults: 0,
    };
    let outcome = run.rounds(Duration::from_secs(60 * args.minutes)).await;
    let violations = usize::from(outcome.is_err());
    let mut recovery = std::mem::take(&mut run.recovery);
    let recovered = crate::lab::probe::Percentiles::of(&mut recovery);
    let line = json!({
        "seed": seed,
        "faults": run.faults,
        "violations": violations,
        "recovery_ms": {"p50": recovered.p50, "max": recovered.max},
    });
    if let Err(error) = outcome {
        eprintln!("chaos: seed {seed}: {error:#}\n{}", run.timeline.0.join("\n"));
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
        while boottime_now().since(self.started) < length {
            self.round().await?;
        }
        self.writes.verify(&self.lab).await?;
        self.check_now().await
    }

    async fn round(&mut self) -> Result<()> {
        let mark = self.lab.subscribers.mark();
        let strikes = if self.rng.random_bool(0.3) { 2 } else { 1 };
        let mut struck = Vec::new();
        for _ in 0..strikes {
            let nemesis = self.pick().await?;
            self.note(&format!("strike {nemesis}"));
            nemesis.strike(&mut self.lab).await?;
            self.faults += 1;
            struck.push(nemesis);
            let apart = Duration::from_millis(self.rng.random_range(50..400));
            self.live(apart).await;
        }
        let length = Duration::from_millis(self.rng.random_range(500..3000));
        self.live(length).await;
        for nemesis in struck.iter().rev() {
            self.note(&format!("heal {nemesis}"));
            nemesis.heal(&mut self.lab)?;
        }
        let healed = boottime_now();
        let whole =
            eventually("the cluster is whole and everything flows", RECOVERY_MAX, || async {
                let status = self.lab.cluster.status().await?;
                ensure!(
                    self.lab.cluster.is_ready(&status),
                    "not whole: {}",
                    serde_json::to_string(&status)?
                );
                ensure!(self.stay_flowing(healed), "some sessions are silent");
                Ok(())
            });
        whole.await?;
        let took = boottime_now().since(healed);
        self.recovery.push(took);
        self.note(&format!("whole after {} ms", took.as_millis()));
        let kept = self.stayers_kept(&mark);
        ensure!(kept.is_empty(), "sessions ended that nobody ended: subscribers {kept:?}");
        self.check_now().await
    }

    async fn check_now(&mut self) -> Result<()> {
        let owners = self.lab.watcher.owners_max();
        ensure!(owners <= 1, "{owners} nodes sent from the virtual MAC at the same time");
        self.lab.subscribers.check()?;
        check::addresses_unique(&self.lab).await?;
        self.checker.verdict()
    }

    /// A nemesis that the cluster is expected to survive together with those that last already.
    async fn pick(&mut self) -> Result<Nemesis> {
        let owner = self.lab.cluster.owner().await;
        let status = self.lab.cluster.status().await;
        let leader =
            status.ok().and_then(|s| s.leader).and_then(|n| self.lab.cluster.by_name(&n).ok());
        let all = Nemesis::candidates(owner.ok(), leader, self.lab.cluster.nodes());
        match all.choose(&mut self.rng) {
            Some(nemesis) => Ok(nemesis.clone()),
            None => bail!("nothing to strike"),
        }
    }

    /// Lets the fault last while life goes on.
    async fn live(&mut self, time: Duration) {
        let until = boottime_now() + time;
        while boottime_now() < until {
            let pause = Duration::from_millis(self.rng.random_range(20..120));
            let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
            let churn = self.churner();
            if self.rng.random_bool(0.5) {
                self.lab.subscribers.hang_up(churn);
            } else {
                self.lab.subscribers.dial(churn);
            }
            if self.rng.random_bool(0.3) {
                self.writes.spawn(&self.lab, &mut self.rng);
            }
        }
    }

    fn churner(&mut self) -> usize {
        let kind = if self.rng.random_bool(0.5) { 0 } else { EACH };
        kind + self.rng.random_range(STAY..EACH)
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

    fn note(&mut self, text: &str) {
        self.timeline.note(self.quiet, self.started, text);
    }
}
