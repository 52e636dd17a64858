//! What the replicated store tells of its own work.

use super::{Text, one};
use raft_store::{LatencySummary, StoreMetrics};

pub(super) fn write(text: &mut Text, store: &StoreMetrics) {
    text.counter(
        "tandem_log_entries_total",
        "Entries appended to the log.",
        one(store.entries_appended),
    );
    text.counter("tandem_log_flushes_total", "Flushes of the log to disk.", one(store.flushes));
    text.counter(
        "tandem_log_flush_microseconds_total",
        "Time spent in flushes of the log.",
        one(microseconds(&store.flush)),
    );
    text.gauge("tandem_log_bytes", "Size of the log on disk.", one(store.log_octets));
    text.counter(
        "tandem_commits_total",
        "Proposals of this node that were answered.",
        one(store.commit.count),
    );
    text.counter(
        "tandem_commit_microseconds_total",
        "Time from proposals of this node to their answers.",
        one(microseconds(&store.commit)),
    );
    text.counter(
        "tandem_proposals_refused_total",
        "Proposals refused because too many were outstanding.",
        one(store.overloaded),
    );
    text.counter("tandem_snapshots_built_total", "Snapshots written.", one(store.snapshots_built));
    text.counter(
        "tandem_snapshots_installed_total",
        "Snapshots received, or read at start.",
        one(store.snapshots_installed),
    );
    text.counter(
        "tandem_peers_refused_total",
        "Requests of peers that are not who they must be.",
        one(store.peers_refused),
    );
}

fn microseconds(latency: &LatencySummary) -> u64 {
    u64::try_from(latency.sum.as_micros()).unwrap_or(u64::MAX)
}
