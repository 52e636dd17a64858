//! Slows down the guessing of passwords.
//!
//! The table is this node's own: a write to the log per wrong password would let anybody load the
//! cluster. It is bounded; when full it forgets the entry that was idle longest.

use model::Tick;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Failures that are free.
const FAILURES_MAX: u32 = 5;
/// How long attempts are refused after that many; doubles with each further failure.
const LOCK_FIRST: Duration = Duration::from_secs(30);
/// The longest lock.
const LOCK_MAX: Duration = Duration::from_secs(900);
/// Failures are forgotten when so long nothing more came.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Entries of the table.
const ENTRIES_MAX: usize = 4096;
/// Octets of a user name that count; the rest only costs memory.
const NAME_OCTETS_MAX: usize = 64;

type Key = (String, Option<IpAddr>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    last_at: Tick,
    locked_until: Tick,
}

/// Failed logins by user name and peer address. Both together: one stranger cannot lock the
/// administrator out everywhere, and one address with many users is not locked by a single name.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    entries: BTreeMap<Key, Entry>,
}

fn key(username: &str, peer: Option<IpAddr>) -> Key {
    let end = (0..=NAME_OCTETS_MAX.min(username.len()))
        .rev()
        .find(|at| username.is_char_boundary(*at))
        .unwrap_or(0);
    (username[..end].to_owned(), peer)
}

impl Lockout {
    /// How long this peer must wait before it may try this name again.
    pub(crate) fn wait(&self, username: &str, peer: Option<IpAddr>, now: Tick) -> Option<Duration> {
        let entry = self.entries.get(&key(username, peer))?;
        let left = entry.locked_until.since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Notes an attempt before its password is checked, so that many at once count too.
    ///
    /// A success takes it back with [`Lockout::forget`]; [`Lockout::excuse`] does for an attempt
    /// that could not be checked.
    pub(crate) fn attempt(&mut self, username: &str, peer: Option<IpAddr>, now: Tick) {
        let key = key(username, peer);
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let entry = self.entries.entry(key).or_insert(Entry {
            failures: 0,
            last_at: now,
            locked_until: Tick::ZERO,
        });
        if now.since(entry.last_at) > FORGET_AFTER {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last_at = now;
        if let Some(over) = entry.failures.checked_sub(FAILURES_MAX) {
            let lock = LOCK_FIRST.saturating_mul(1_u32.checked_shl(over).unwrap_or(u32::MAX));
            entry.locked_until = now + lock.min(LOCK_MAX);
        }
    }

    /// The password was right.
    pub(crate) fn forget(&mut self, username: &str, peer: Option<IpAddr>) {
        self.entries.remove(&key(username, peer));
    }

    /// The password could not be checked: the attempt does not count.
    pub(crate) fn excuse(&mut self, username: &str, peer: Option<IpAddr>) {
        if let Some(entry) = self.entries.get_mut(&key(username, peer)) {
            entry.failures = entry.failures.saturating_sub(1);
            if entry.failures < FAILURES_MAX {
                entry.locked_until = Tick::ZERO;
            }
        }
    }

    fn make_room(&mut self, now: Tick) {
        self.entries.retain(|_, e| now.since(e.last_at) <= FORGET_AFTER);
        if self.entries.len() >= ENTRIES_MAX {
            let oldest = self.entries.iter().min_by_key(|(_, e)| e.last_at).map(|(k, _)| k.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn the_fifth_failure_locks_and_each_further_one_doubles_it() {
        let mut lockout = Lockout::default();
        let script: &[(u64, Option<u64>)] = &[
            // attempt at ms, wait afterwards in ms
            (0, None),
            (100, None),
            (200, None),
            (300, None),
            (400, Some(30_000)),
            (30_400, Some(60_000)),
            (90_400, Some(120_000)),
            (210_400, Some(240_000)),
            (450_400, Some(480_000)),
            (930_400, Some(900_000)),
            (1_830_400, Some(900_000)),
        ];
        for (at_ms, wait_ms) in script {
            let now = Tick::from_ms(*at_ms);
            assert_eq!(lockout.wait("ann", peer(1), now), None, "before the attempt at {at_ms}");
            lockout.attempt("ann", peer(1), now);
            let want = wait_ms.map(Duration::from_millis);
            assert_eq!(lockout.wait("ann", peer(1), now), want, "after the attempt at {at_ms}");
        }
    }

    #[test]
    fn a_lock_holds_for_one_name_from_one_address() {
        let mut lockout = Lockout::default();
        for _ in 0..FAILURES_MAX {
            lockout.attempt("ann", peer(1), Tick::ZERO);
        }
        assert!(lockout.wait("ann", peer(1), Tick::ZERO).is_some());
        assert!(lockout.wait("ann", peer(2), Tick::ZERO).is_none());
        assert!(lockout.wait("bob", peer(1), Tick::ZERO).is_none());
        assert!(lockout.wait("ann", None, Tick::ZERO).is_none());
    }

    #[test]
    fn success_and_time_wipe_the_slate() {
        let mut lockout = Lockout::default();
        for _ in 0..4 {
            lockout.attempt("ann", peer(1), Tick::ZERO);
        }
        lockout.forget("ann", peer(1));
        lockout.attempt("ann", peer(1), Tick::ZERO);
        assert_eq!(lockout.wait("ann", peer(1), Tick::ZERO), None);

        for _ in 0..3 {
            lockout.attempt("ann", peer(1), Tick::ZERO);
        }
        let later = Tick::ZERO + FORGET_AFTER + Duration::from_secs(1);
        lockout.attempt("ann", peer(1), later);
        assert_eq!(lockout.wait("ann", peer(1), later), None);
    }

    #[test]
    fn an_attempt_that_could_not_be_checked_does_not_count() {
        let mut lockout = Lockout::default();
        for _ in 0..20 {
            lockout.attempt("ann", peer(1), Tick::ZERO);
            lockout.excuse("ann", peer(1));
        }
        assert_eq!(lockout.wait("ann", peer(1), Tick::ZERO), None);
    }

    #[test]
    fn the_table_forgets_the_longest_idle_when_full() {
        let mut lockout = Lockout::default();
        for n in 0..=ENTRIES_MAX {
            let now = Tick::from_ms(u64::try_from(n).unwrap());
            lockout.attempt(&format!("user{n}"), None, now);
        }
        assert_eq!(lockout.entries.len(), ENTRIES_MAX);
        assert!(!lockout.entries.contains_key(&key("user0", None)));
        assert!(lockout.entries.contains_key(&key("user1", None)));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(key(&"ä".repeat(100), None).0, "ä".repeat(32));
        assert_eq!(key(&format!("x{}", "ä".repeat(100)), None).0.len(), 63);
    }
}
