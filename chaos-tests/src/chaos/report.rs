//! What a run tells at its end: the timeline, the faults that acted, the line of JSON.

use super::history::Size;
use super::nemesis::FaultKind;
use crate::lab::probe::Percentiles;
use crate::lab::wire::Judged;
use anyhow::{Result, anyhow, ensure};
use clap::ValueEnum as _;
use dataplane::boottime_now;
use model::Tick;
use rand::seq::IndexedRandom as _;
use rand_pcg::Pcg64;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Strikes of one kind that may all fail to show that they acted, before the kind counts as broken.
const UNSHOWN_MAX: usize = 3;

/// What happened, in order, for the report of a failure.
pub(super) struct Timeline {
    lines: Vec<String>,
    started: Tick,
    quiet: bool,
}

impl Timeline {
    pub(super) fn start(quiet: bool) -> Self {
        Self { lines: Vec::new(), started: boottime_now(), quiet }
    }

    pub(super) fn elapsed(&self) -> Duration {
        boottime_now().since(self.started)
    }

    /// The time on the clock of the wire watcher stands too: its reports use it.
    pub(super) fn note(&mut self, text: &str) {
        let now = boottime_now();
        let seconds = |d: Duration| d.as_secs_f64();
        let line = format!(
            "{:>7.2} s ({:.2})  {text}",
            seconds(now.since(self.started)),
            seconds(now.since(Tick::ZERO))
        );
        if !self.quiet {
            println!("{line}");
        }
        self.lines.push(line);
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    struck: usize,
    acted: usize,
}

/// The kinds of faults of a run, and what became of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    counts: BTreeMap<FaultKind, Count>,
    skipped: BTreeMap<FaultKind, String>,
    /// Daemons that a disk made stop.
    pub(super) stopped_by_disk: usize,
}

impl Faults {
    /// The wanted kinds, or all; those that this machine cannot make are set aside with the reason.
    pub(super) fn choose(wanted: &[FaultKind]) -> Self {
        let wanted = if wanted.is_empty() { FaultKind::value_variants() } else { wanted };
        let mut this = Self::default();
        for &kind in wanted {
            match kind.available() {
                Ok(()) => {
                    this.counts.insert(kind, Count::default());
                }
                Err(reason) => {
                    this.skipped.insert(kind, format!("{reason:#}"));
                }
            }
        }
        this
    }

    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.counts.contains_key(&kind)
    }

    pub(super) fn skipped(&self) -> Vec<(FaultKind, String)> {
        self.skipped.clone().into_iter().collect()
    }

    /// Draws a kind, each as often as any other.
    pub(super) fn draw(&self, rng: &mut Pcg64) -> Result<FaultKind> {
        let kinds: Vec<FaultKind> = self.counts.keys().copied().collect();
        kinds.choose(rng).copied().ok_or_else(|| anyhow!("nothing to strike: {:?}", self.skipped))
    }

    pub(super) fn count(&mut self, kind: FaultKind, acted: bool) {
        let count = self.counts.entry(kind).or_default();
        count.struck += 1;
        count.acted += usize::from(acted);
    }

    /// Fails when a kind of fault struck several times and never showed that it acted: then it is no test.
    pub(super) fn all_acted(&self) -> Result<()> {
        for (kind, count) in &self.counts {
            ensure!(
                count.acted > 0 || count.struck <= UNSHOWN_MAX,
                "{kind} struck {} times and has never shown that it acted",
                count.struck
            );
        }
        Ok(())
    }
}

/// What goes into the line of JSON.
pub(super) struct Summary<'a> {
    pub(super) seed: u64,
    pub(super) violated: bool,
    pub(super) faults: &'a Faults,
    pub(super) recovery: Vec<Duration>,
    pub(super) judged: &'a Judged,
    pub(super) history: Size,
    pub(super) leases_lapsed: usize,
}

/// The line of JSON. Keys are added, never renamed.
pub(super) fn line(mut run: Summary<'_>) -> Value {
    let recovered = Percentiles::of(&mut run.recovery);
    let counts = &run.faults.counts;
    let by_fault: Map<String, Value> = counts
        .iter()
        .map(|(kind, c)| (kind.to_string(), json!({"struck": c.struck, "acted": c.acted})))
        .collect();
    let skipped: Map<String, Value> =
        run.faults.skipped.iter().map(|(kind, why)| (kind.to_string(), json!(why))).collect();
    let frames: Map<String, Value> =
        run.judged.tally.legal.iter().map(|(c, n)| (c.name().to_owned(), json!(n))).collect();
    json!({
        "seed": run.seed,
        "faults": counts.values().map(|c| c.struck).sum::<usize>(),
        "violations": usize::from(run.violated),
        "recovery_ms": {"p50": recovered.p50, "max": recovered.max},
        "acted": counts.values().map(|c| c.acted).sum::<usize>(),
        "by_fault": by_fault,
        "skipped": skipped,
        "stopped_by_disk": run.faults.stopped_by_disk,
        "history": {
            "registers": run.history.registers,
            "writes": run.history.writes,
            "reads": run.history.reads,
            "unknown": run.history.unknown,
        },
        "owner_frames": frames,
        "standby_violations": run.judged.violations.len(),
        "unjudged_frames": run.judged.tally.unjudged,
        "fence_unwatched_ms": run.judged.unwatched.as_millis(),
        "leases_lapsed": run.leases_lapsed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_never_acts_fails_the_run() {
        let mut faults = Faults::choose(&[FaultKind::Kill, FaultKind::Loss]);
        for _ in 0..UNSHOWN_MAX {
            faults.count(FaultKind::Loss, false);
        }
        assert!(faults.all_acted().is_ok(), "a few weak strikes may be chance");
        faults.count(FaultKind::Loss, false);
        assert!(faults.all_acted().unwrap_err().to_string().starts_with("loss struck 4 times"));
        faults.count(FaultKind::Loss, true);
        assert!(faults.all_acted().is_ok());
    }

    #[test]
    fn the_line_keeps_its_keys() {
        let mut faults = Faults::choose(&[FaultKind::Kill]);
        faults.count(FaultKind::Kill, true);
        let line = line(Summary {
            seed: 5,
            violated: true,
            faults: &faults,
            recovery: vec![Duration::from_millis(20)],
            judged: &Judged::default(),
            history: Size::default(),
            leases_lapsed: 2,
        });
        for (pointer, want) in [
            ("/seed", json!(5)),
            ("/faults", json!(1)),
            ("/violations", json!(1)),
            ("/recovery_ms/max", json!(20.0)),
            ("/by_fault/kill/acted", json!(1)),
            ("/leases_lapsed", json!(2)),
        ] {
            assert_eq!(line.pointer(pointer), Some(&want), "{pointer}");
        }
    }
}
