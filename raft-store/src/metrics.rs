//! Numbers about the store's own work.

use crate::log::DiskWatch;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BUCKETS: usize = 32;

/// Latencies in buckets of powers of two of a microsecond: 0-1, 1-2, 2-4, ...
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

impl Latency {
    pub(crate) fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(64 - us.leading_zeros()).unwrap_or(BUCKETS).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        self.max_us.fetch_max(us, Ordering::Relaxed);
    }

    pub(crate) fn summary(&self) -> LatencySummary {
        let counts: Vec<u64> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_us = self.max_us.load(Ordering::Relaxed);
        let quantile = |per_mille: u64| {
            let rank = (count * per_mille).div_ceil(1000);
            let mut seen = 0;
            for (bucket, n) in counts.iter().enumerate() {
                seen += n;
                if seen >= rank && rank > 0 {
                    return Duration::from_micros((1_u64 << bucket).min(max_us));
                }
            }
            Duration::ZERO
        };
        LatencySummary {
            count,
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
            p50: quantile(500),
            p99: quantile(990),
            max: Duration::from_micros(max_us),
        }
    }
}

/// A latency since the store was opened. Quantiles are upper bounds, at most twice the true value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencySummary {
    /// How many were measured.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// Half were at most this long.
    pub p50: Duration,
    /// 99 of 100 were at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// What the parts of the store count.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) append: Latency,
    pub(crate) flush: Latency,
    pub(crate) commit: Latency,
    pub(crate) apply: Latency,
    pub(crate) disk: DiskWatch,
    pub(crate) entries_appended: AtomicU64,
    pub(crate) octets_appended: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) entries_applied: AtomicU64,
    pub(crate) proposals: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) snapshots_built: AtomicU64,
    pub(crate) snapshots_installed: AtomicU64,
    pub(crate) snapshot_octets_sent: AtomicU64,
    pub(crate) peers_refused: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// A reading of the store's numbers; counts are since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// From a batch of entries handed over by Raft to its place in the engine, before the flush.
    pub append: LatencySummary,
    /// One flush of the engine.
    pub flush: LatencySummary,
    /// From a proposal on this node to its reply.
    pub commit: LatencySummary,
    /// Applying one batch of committed entries.
    pub apply: LatencySummary,
    /// Log entries written.
    pub entries_appended: u64,
    /// Their payload.
    pub octets_appended: u64,
    /// Flushes of the engine; entries per flush tell how well writes are shared.
    pub flushes: u64,
    /// Entries applied.
    pub entries_applied: u64,
    /// Proposals made on this node.
    pub proposals: u64,
    /// Of these, those that were forwarded to the leader.
    pub forwarded: u64,
    /// Proposals refused because too many were outstanding.
    pub overloaded: u64,
    /// Snapshots written.
    pub snapshots_built: u64,
    /// Snapshots received and installed, or read at start.
    pub snapshots_installed: u64,
    /// Octets of snapshots sent to others.
    pub snapshot_octets_sent: u64,
    /// Requests refused because the peer is not who it must be.
    pub peers_refused: u64,
    /// Octets of the log on disk.
    pub log_octets: u64,
}

impl Counters {
    pub(crate) fn read(&self, log_octets: u64) -> StoreMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreMetrics {
            append: self.append.summary(),
            flush: self.flush.summary(),
            commit: self.commit.summary(),
            apply: self.apply.summary(),
            entries_appended: get(&self.entries_appended),
            octets_appended: get(&self.octets_appended),
            flushes: get(&self.flushes),
            entries_applied: get(&self.entries_applied),
            proposals: get(&self.proposals),
            forwarded: get(&self.forwarded),
            overloaded: get(&self.overloaded),
            snapshots_built: get(&self.snapshots_built),
            snapshots_installed: get(&self.snapshots_installed),
            snapshot_octets_sent: get(&self.snapshot_octets_sent),
            peers_refused: get(&self.peers_refused),
            log_octets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_an_upper_bound_within_a_factor_of_two() {
        let latency = Latency::default();
        for us in 1..=1000 {
            latency.record(Duration::from_micros(us));
        }
        let s = latency.summary();
        assert_eq!(s.count, 1000);
        assert_eq!(s.max, Duration::from_micros(1000));
        assert!((500..=1000).contains(&s.p50.as_micros()), "{s:?}");
        assert!((990..=1000).contains(&s.p99.as_micros()), "{s:?}");
        assert_eq!(Latency::default().summary(), LatencySummary::default());
    }
}
