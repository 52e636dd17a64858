//! The replicated time: what the leader stamps into entries.
//!
//! Every node keeps an estimate of it: the stamp of the newest entry it applied, plus the monotonic time since then. A
//! leader stamps its estimate, pulled towards its wall clock by at most [`SLEW_PER_MILLE`]. So a leader whose wall clock is
//! wrong changes the rate of the replicated time by two in a thousand and nothing else: leases end neither early nor never.
//!
//! Only when nobody knows how much time has passed does the wall clock decide: in a new cluster, and when the leader's
//! newest entry comes from its own disk, that is, after the whole cluster was down. Even then time only moves forward.

use model::UnixMs;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How fast the replicated time may approach the leader's wall clock.
const SLEW_PER_MILLE: u64 = 2;

#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: UnixMs,
    seen: Instant,
    /// Heard from a living leader, or stamped here.
    live: bool,
}

/// This node's estimate of the replicated time.
#[derive(Debug, Default)]
pub(crate) struct ReplicatedClock {
    anchor: Mutex<Option<Anchor>>,
}

impl ReplicatedClock {
    /// Notes the stamp of an applied entry; `live` unless it was read from this node's disk at start.
    pub(crate) fn observe(&self, at: UnixMs, now: Instant, live: bool) {
        let mut anchor = self.lock();
        let estimate = anchor.as_ref().map(|a| estimate(a, now));
        match anchor.as_mut() {
            // What this node stamped itself, or an entry that waited before it was committed: the estimate knows better.
            Some(a) if estimate.is_some_and(|e| e >= at) => a.live |= live,
            Some(_) | None => *anchor = Some(Anchor { at, seen: now, live }),
        }
    }

    /// Returns the time for the next entry. The only place where entries get their time.
    pub(crate) fn stamp(&self, wall: UnixMs, now: Instant) -> UnixMs {
        let mut anchor = self.lock();
        let at = reading(anchor.as_ref(), wall, now);
        // Moving the anchor with every stamp would round the slew away; within a second it stays.
        let settled = anchor.is_some_and(|a| {
            a.live && now.saturating_duration_since(a.seen) < Duration::from_secs(1)
        });
        if !settled {
            *anchor = Some(Anchor { at, seen: now, live: true });
        }
        at
    }

    /// Returns the replicated time as this node knows it, on a leader the one that it would stamp.
    pub(crate) fn now(&self, wall: UnixMs, now: Instant) -> UnixMs {
        reading(self.lock().as_ref(), wall, now)
    }

    /// Forgets the estimate: the state was replaced by a snapshot whose time is `at`.
    pub(crate) fn reset(&self, at: UnixMs, now: Instant, live: bool) {
        *self.lock() = (at > UnixMs(0)).then_some(Anchor { at, seen: now, live });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Anchor>> {
        self.anchor.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn reading(anchor: Option<&Anchor>, wall: UnixMs, now: Instant) -> UnixMs {
    match anchor {
        None => wall,
        Some(a) if !a.live => estimate(a, now).max(wall),
        Some(a) => {
            let floor = estimate(a, now);
            let slew = millis(now.saturating_duration_since(a.seen)) * SLEW_PER_MILLE / 1000;
            if wall > floor {
                UnixMs(floor.0 + slew.min(wall.0 - floor.0))
            } else {
                // Never behind the anchor: elapsed time is at least its own two thousandths.
                UnixMs(floor.0 - slew.min(floor.0 - wall.0))
            }
        }
    }
}

fn estimate(anchor: &Anchor, now: Instant) -> UnixMs {
    UnixMs(anchor.at.0.saturating_add(millis(now.saturating_duration_since(anchor.seen))))
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: u64 = 1_700_000_000_000;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_new_cluster_starts_at_the_wall_clock_and_follows_it() {
        let start = Instant::now();
        let clock = ReplicatedClock::default();
        for ms in [0, 1, 400, 5_000, 60_000] {
            assert_eq!(clock.stamp(UnixMs(T0 + ms), after(start, ms)), UnixMs(T0 + ms), "{ms}");
        }
    }

    #[test]
    fn a_wrong_wall_clock_changes_the_rate_by_two_in_a_thousand_at_most() {
        for wall in [0, T0 + 86_400_000] {
            let start = Instant::now();
            let clock = ReplicatedClock::default();
            clock.observe(UnixMs(T0), start, true);
            let mut previous = UnixMs(T0);
            for ms in (0..3_600_000).step_by(700) {
                let at = clock.stamp(UnixMs(wall), after(start, ms));
                assert!(at >= previous, "time stepped back at {ms} ms");
                let error = at.0.abs_diff(T0 + ms);
                assert!(error <= ms * 2 / 1000 + 2, "{error} ms off after {ms} ms, wall {wall}");
                previous = at;
            }
        }
    }

    #[test]
    fn reading_the_time_shows_the_next_stamp_and_moves_nothing() {
        for wall in [0, T0 + 3 * 3_600_000] {
            let start = Instant::now();
            let (read, unread) = (ReplicatedClock::default(), ReplicatedClock::default());
            read.observe(UnixMs(T0), start, true);
            unread.observe(UnixMs(T0), start, true);
            for ms in (0..60_000).step_by(500) {
                let at = after(start, ms);
                let shown = read.now(UnixMs(wall), at);
                assert!(shown.0.abs_diff(T0 + ms) <= 122, "{shown:?} after {ms} ms, wall {wall}");
                assert_eq!(shown, read.stamp(UnixMs(wall), at), "after {ms} ms, wall {wall}");
                assert_eq!(shown, unread.stamp(UnixMs(wall), at), "after {ms} ms, wall {wall}");
            }
        }
    }

    #[test]
    fn a_small_error_is_worked_off() {
        let start = Instant::now();
        let clock = ReplicatedClock::default();
        clock.observe(UnixMs(T0), start, true);
        let mut at = UnixMs(0);
        for ms in (0..600_000).step_by(100) {
            at = clock.stamp(UnixMs(T0 + ms + 500), after(start, ms));
        }
        assert!((T0 + 599_900 + 500).abs_diff(at.0) < 5, "{at:?}");
    }

    #[test]
    fn a_gap_between_leaders_counts_and_a_restart_of_all_trusts_the_wall_clock_forward_only() {
        let start = Instant::now();
        let follower = ReplicatedClock::default();
        follower.observe(UnixMs(T0), start, true);
        assert_eq!(follower.stamp(UnixMs(T0 + 900), after(start, 900)), UnixMs(T0 + 900));
        for (wall, want) in [(T0 + 3_600_000, T0 + 3_600_000), (5, T0)] {
            let restarted = ReplicatedClock::default();
            restarted.observe(UnixMs(T0), start, false);
            assert_eq!(restarted.stamp(UnixMs(wall), start), UnixMs(want));
        }
    }

    #[test]
    fn an_entry_that_waited_does_not_turn_the_estimate_back() {
        let start = Instant::now();
        let clock = ReplicatedClock::default();
        assert_eq!(clock.stamp(UnixMs(T0), start), UnixMs(T0));
        clock.observe(UnixMs(T0), after(start, 2_000), true);
        assert_eq!(clock.stamp(UnixMs(T0 + 2_000), after(start, 2_000)), UnixMs(T0 + 2_000));
    }
}
