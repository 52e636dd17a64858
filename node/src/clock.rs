//! The only place of the daemon that reads a clock.

use model::{Tick, UnixMs};
use std::time::Duration;

/// Now, on the clock of the fence: `CLOCK_BOOTTIME`, which counts through suspend.
#[must_use]
pub fn now() -> Tick {
    dataplane::boottime_now()
}

/// The node's own wall clock; the leader's becomes replicated time (see `raft_store`).
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> UnixMs {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until `at`; returns at once when it has passed, never when there is none.
pub async fn until(at: Option<Tick>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now())).await,
        None => std::future::pending().await,
    }
}
