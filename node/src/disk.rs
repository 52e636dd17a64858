//! The disk under the log: whether it is fast enough for an owner, and for profile `fast` at all.

use crate::clock;
use crate::fitness::{Fault, Fitness};
use model::Tick;
use raft_store::{DiskHealth, Store};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;
use tracing::{info, warn};

/// The slow disk must be fast again for so many times its bound before the node takes part again.
const CALM_BOUNDS: u32 = 4;
/// Fast again means: within the bound divided by this.
const CALM_DIVISOR: u32 = 2;
/// After so many times the bound without a flush, the last ones say nothing about now.
const STALE_BOUNDS: u32 = 10;

/// A change of what is thought of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Writes have taken longer than the bound for a whole bound.
    Slow {
        /// How long now.
        took: Duration,
    },
    /// It has been fast for long enough.
    Recovered,
}

/// Decides when a disk counts as slow, with hysteresis.
#[derive(Debug)]
struct Monitor {
    bound: Duration,
    slow: bool,
    /// Since when the figure contradicts what is thought of the disk.
    against_since: Option<Tick>,
    probed_at: Option<Tick>,
}

impl Monitor {
    fn new(bound: Duration) -> Self {
        Self { bound, slow: false, against_since: None, probed_at: None }
    }

    /// The longest that writes take now: the oldest that is not finished, or the recent ones.
    fn took(&self, health: DiskHealth) -> Duration {
        let fresh = health.last_ended.is_some_and(|ago| ago <= self.bound * STALE_BOUNDS);
        // A slow disk is not forgiven for being idle: probes will tell.
        let recent = health.recent.filter(|_| fresh || self.slow).unwrap_or_default();
        recent.max(health.unfinished.unwrap_or_default())
    }

    fn step(&mut self, health: DiskHealth, now: Tick) -> Option<Turn> {
        let took = self.took(health);
        let (against, patience) = if self.slow {
            (took <= self.bound / CALM_DIVISOR, self.bound * CALM_BOUNDS)
        } else {
            (took > self.bound, self.bound)
        };
        if !against {
            self.against_since = None;
            return None;
        }
        let since = *self.against_since.get_or_insert(now);
        if now < since + patience {
            return None;
        }
        self.slow = !self.slow;
        self.against_since = None;
        Some(if self.slow { Turn::Slow { took } } else { Turn::Recovered })
    }

    /// Whether a slow disk should be tried: nothing is being written, and nothing was lately.
    fn wants_probe(&mut self, health: DiskHealth, now: Tick) -> bool {
        let idle =
            health.unfinished.is_none() && health.last_ended.is_none_or(|ago| ago >= self.bound);
        let due = self.probed_at.is_none_or(|at| now >= at + self.bound);
        let wants = self.slow && idle && due;
        if wants {
            self.probed_at = Some(now);
        }
        wants
    }
}

/// Watches the disk of `store`; while its writes stay above `bound`, the node is unfit.
pub async fn watch(store: Store, fitness: Fitness, bound: Duration) {
    let poll = (bound / 8).clamp(Duration::from_millis(5), Duration::from_millis(100));
    let bound_ms = bound.as_millis();
    let raft = store.status();
    let mut monitor = Monitor::new(bound);
    while raft.has_changed().is_ok() {
        let (health, now) = (store.disk(), clock::now());
        match monitor.step(health, now) {
            Some(Turn::Slow { took }) => {
                let took_ms = took.as_millis();
                warn!(
                    event = "TANDEM-DISK-SLOW",
                    took_ms,
                    bound_ms,
                    "the disk under the log is slow; this node owns no group while it lasts"
                );
                let words = format!(
                    "its disk is slow: a write took {took_ms} ms, the bound is {bound_ms} ms"
                );
                fitness.set(Fault::Disk, Some(words));
            }
            Some(Turn::Recovered) => {
                info!(
                    event = "TANDEM-DISK-RECOVERED",
                    bound_ms, "the disk under the log is fast again"
                );
                fitness.set(Fault::Disk, None);
            }
            None => {}
        }
        if monitor.wants_probe(health, now) {
            store.probe_disk();
        }
        clock::until(Some(clock::now() + poll)).await;
    }
}

/// Flushes measured for profile `fast`.
const SAMPLES: usize = 100;
/// Octets of each: about one entry with its frame.
const SAMPLE_OCTETS: usize = 4096;
/// A disk that is this slow needs no further samples.
const MEASURE_MAX: Duration = Duration::from_secs(3);
/// What 99 of 100 flushes must stay below.
const FAST_FLUSH: Duration = Duration::from_millis(5);

/// Profile `fast` asks for more than this machine gives.
#[derive(Debug, thiserror::Error)]
pub enum FastRefused {
    /// Real-time scheduling was refused, the disk is slow, or both.
    #[error(
        "profile \"fast\" cannot be kept here: {}. Or set cluster.profile = \"default\" on all nodes",
        failures.join("; ")
    )]
    Unfit {
        /// What failed, the figure, and what to do.
        failures: Vec<String>,
    },
    /// The measurement itself failed.
    #[error("profile \"fast\": cannot measure the disk in {dir}: {source}")]
    Measure {
        /// The data directory.
        dir: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Checks that this machine can keep profile `fast`. Blocks for at most a few seconds.
///
/// # Errors
/// [`FastRefused`] says which of real-time scheduling and the disk failed, and what to do.
pub fn check_fast(data_dir: &Path) -> Result<(), FastRefused> {
    // In a thread of its own, since the priority stays with the thread.
    let realtime = std::thread::spawn(dataplane::raise_thread_priority).join().unwrap_or(false);
    let failed = |source| FastRefused::Measure { dir: data_dir.display().to_string(), source };
    let mut flushes = measure(data_dir).map_err(failed)?;
    let p99 = p99(&mut flushes);
    info!(realtime, p99_us = p99.as_micros(), flushes = flushes.len(), "profile fast: measured");
    verdict(realtime, p99)
}

fn verdict(realtime: bool, p99: Duration) -> Result<(), FastRefused> {
    let mut failures = Vec::new();
    if !realtime {
        failures.push(
            "real-time scheduling (SCHED_FIFO) was refused; run as root or give CAP_SYS_NICE \
             (systemd: AmbientCapabilities=CAP_SYS_NICE)"
                .to_owned(),
        );
    }
    if p99 >= FAST_FLUSH {
        failures.push(format!(
            "99 of 100 flushes in the data directory took up to {:.1} ms, the bound is {} ms; use a faster disk",
            p99.as_secs_f64() * 1000.0,
            FAST_FLUSH.as_millis()
        ));
    }
    if failures.is_empty() { Ok(()) } else { Err(FastRefused::Unfit { failures }) }
}

/// Times of real flushes in `dir`, in a file that is removed afterwards.
fn measure(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let path = dir.join(".flush-check");
    let flushes = File::create(&path).and_then(|mut file| {
        let block = [0x5a_u8; SAMPLE_OCTETS];
        let began = clock::now();
        let mut flushes = Vec::with_capacity(SAMPLES);
        while flushes.len() < SAMPLES && clock::now().since(began) < MEASURE_MAX {
            let at = clock::now();
            file.write_all(&block)?;
            file.sync_data()?;
            flushes.push(clock::now().since(at));
            file.rewind()?;
        }
        Ok(flushes)
    });
    let removed = std::fs::remove_file(&path);
    flushes.and_then(|flushes| removed.map(|()| flushes))
}

/// The value that 99 of 100 do not exceed; of fewer samples, the largest.
fn p99(flushes: &mut [Duration]) -> Duration {
    flushes.sort_unstable();
    let rank = (flushes.len() * 99).div_ceil(100);
    flushes.get(rank.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests;
