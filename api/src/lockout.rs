//! Slows down the guessing of passwords and codes.
//!
//! The table is this node's own: a write to the log per wrong password would let anybody load the
//! cluster. An attacker who asks each of three nodes gets three times the attempts, which is still
//! few. It is bounded; when full it forgets the entry that was idle longest.

use model::Tick;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Entries of the table.
const ENTRIES_MAX: usize = 4096;
/// Attempts that may be looked at beyond the free failures at one time: programs log in side by
/// side, and their attempts are no failures yet.
const PENDING_MAX: u32 = 16;
/// When to try again after too many at one time.
const PENDING_WAIT: Duration = Duration::from_secs(1);
/// Octets of a user name that count; the rest only costs memory.
const NAME_OCTETS_MAX: usize = 64;

/// What failures are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A user name. Failures from the node itself are counted apart: strangers on the network must
    /// not be able to lock out who sits at the machine.
    Name { name: String, from_here: bool },
    /// The address of a peer.
    Peer(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    failures: u32,
    /// Attempts of which it is not known yet whether they fail.
    pending: u32,
    last_at: Tick,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The password was wrong, or the caller did not wait for the answer.
    Failed,
    /// The password was right. The name starts anew; the address does not, or whoever has one
    /// password could guess others without end.
    Succeeded,
    /// It could not be checked and does not count.
    Excused,
}

/// How many failures are free, and for how long they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// As many failures lock.
    pub(crate) failures_max: u32,
    /// A lock lasts so long after the last failure; failures are forgotten when so long nothing
    /// more came.
    pub(crate) lock: Duration,
}

/// Failed logins, by user name and by peer address.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    entries: BTreeMap<Key, Entry>,
}

fn keys(username: &str, peer: Option<IpAddr>) -> impl Iterator<Item = Key> {
    let end = (0..=NAME_OCTETS_MAX.min(username.len()))
        .rev()
        .find(|at| username.is_char_boundary(*at))
        .unwrap_or(0);
    let from_here = peer.is_some_and(|peer| peer.is_loopback());
    let name = Key::Name { name: username[..end].to_owned(), from_here };
    std::iter::once(name).chain(peer.map(Key::Peer))
}

impl Lockout {
    /// How long this peer must wait before it may try this name again.
    pub(crate) fn wait(
        &self,
        username: &str,
        peer: Option<IpAddr>,
        now: Tick,
        limits: Limits,
    ) -> Option<Duration> {
        let left = |key: Key| {
            let entry = self.entries.get(&key)?;
            let left = (entry.last_at + limits.lock).since(now);
            if entry.failures >= limits.failures_max && !left.is_zero() {
                return Some(left);
            }
            let at_once = entry.failures.saturating_add(entry.pending);
            let crowded = at_once >= limits.failures_max.saturating_add(PENDING_MAX);
            (crowded && entry.pending > 0).then_some(PENDING_WAIT)
        };
        keys(username, peer).filter_map(left).max()
    }

    /// Notes an attempt before its password is checked. [`Lockout::settle`] follows.
    pub(crate) fn attempt(
        &mut self,
        username: &str,
        peer: Option<IpAddr>,
        now: Tick,
        limits: Limits,
    ) {
        for key in keys(username, peer) {
            if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&key) {
                self.make_room(now, limits);
            }
            let new = Entry { failures: 0, pending: 0, last_at: now };
            let entry = self.entries.entry(key).or_insert(new);
            if now.since(entry.last_at) >= limits.lock {
                entry.failures = 0;
            }
            entry.pending = entry.pending.saturating_add(1);
        }
    }

    /// Notes what became of an attempt.
    pub(crate) fn settle(
        &mut self,
        username: &str,
        peer: Option<IpAddr>,
        now: Tick,
        outcome: Outcome,
    ) {
        for key in keys(username, peer) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.pending = entry.pending.saturating_sub(1);
            match outcome {
                Outcome::Failed => {
                    entry.failures = entry.failures.saturating_add(1);
                    entry.last_at = now;
                }
                Outcome::Succeeded if matches!(key, Key::Name { .. }) => entry.failures = 0,
                Outcome::Succeeded | Outcome::Excused => {}
            }
            if entry.failures == 0 && entry.pending == 0 {
                self.entries.remove(&key);
            }
        }
    }

    fn make_room(&mut self, now: Tick, limits: Limits) {
        self.entries.retain(|_, e| now.since(e.last_at) < limits.lock);
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

    const LIMITS: Limits = Limits { failures_max: 5, lock: Duration::from_secs(300) };

    fn peer(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    fn one(lockout: &mut Lockout, name: &str, peer: Option<IpAddr>, now: Tick, outcome: Outcome) {
        lockout.attempt(name, peer, now, LIMITS);
        lockout.settle(name, peer, now, outcome);
    }

    fn fail(lockout: &mut Lockout, times: u32, name: &str, peer: Option<IpAddr>, now: Tick) {
        for _ in 0..times {
            one(lockout, name, peer, now, Outcome::Failed);
        }
    }

    #[test]
    fn the_fifth_failure_locks_for_a_time_after_the_last_one() {
        let mut lockout = Lockout::default();
        let script: &[(u64, Option<u64>)] = &[
            // attempt at s, wait afterwards in s
            (0, None),
            (100, None),
            (200, None),
            (300, None),
            (400, Some(300)),
            (700, None), // the lock has passed and the count starts again
            (701, None),
            (1001, None),
        ];
        for (at_s, wait_s) in script {
            let now = Tick::from_ms(at_s * 1000);
            assert_eq!(lockout.wait("ann", peer(1), now, LIMITS), None, "before {at_s}");
            fail(&mut lockout, 1, "ann", peer(1), now);
            let want = wait_s.map(Duration::from_secs);
            assert_eq!(lockout.wait("ann", peer(1), now, LIMITS), want, "after {at_s}");
        }
    }

    #[test]
    fn names_and_addresses_are_counted_each_for_itself() {
        let mut lockout = Lockout::default();
        fail(&mut lockout, 3, "ann", peer(1), Tick::ZERO);
        fail(&mut lockout, 2, "ann", peer(2), Tick::ZERO);
        fail(&mut lockout, 2, "bob", peer(1), Tick::ZERO);
        let here = Some(IpAddr::from([127, 0, 0, 1]));
        for (name, from, locked) in [
            ("ann", peer(1), true),
            ("ann", peer(3), true),
            ("ann", None, true),
            ("bob", peer(1), true),
            ("eve", peer(1), true),
            ("bob", peer(2), false),
            ("eve", peer(2), false),
            ("ann", here, false),
        ] {
            let wait = lockout.wait(name, from, Tick::ZERO, LIMITS);
            assert_eq!(wait.is_some(), locked, "{name} from {from:?}");
        }
        fail(&mut lockout, 5, "ann", here, Tick::ZERO);
        assert!(lockout.wait("ann", here, Tick::ZERO, LIMITS).is_some());
    }

    #[test]
    fn a_success_clears_the_name_and_only_its_own_attempt_of_the_address() {
        let mut lockout = Lockout::default();
        fail(&mut lockout, 4, "ann", peer(1), Tick::ZERO);
        for _ in 0..9 {
            one(&mut lockout, "bob", peer(1), Tick::ZERO, Outcome::Succeeded);
        }
        assert_eq!(lockout.wait("ann", peer(1), Tick::ZERO, LIMITS), None);
        fail(&mut lockout, 1, "ann", peer(1), Tick::ZERO);
        assert!(lockout.wait("bob", peer(1), Tick::ZERO, LIMITS).is_some());
    }

    #[test]
    fn an_attempt_that_could_not_be_checked_does_not_count() {
        let mut lockout = Lockout::default();
        for _ in 0..20 {
            one(&mut lockout, "ann", peer(1), Tick::ZERO, Outcome::Excused);
        }
        assert_eq!(lockout.wait("ann", peer(1), Tick::ZERO, LIMITS), None);
        assert!(lockout.entries.is_empty());
    }

    #[test]
    fn logins_side_by_side_are_no_failures_but_guesses_side_by_side_are_few() {
        let mut lockout = Lockout::default();
        let mut tried = 0;
        while lockout.wait("ann", peer(1), Tick::ZERO, LIMITS).is_none() {
            lockout.attempt("ann", peer(1), Tick::ZERO, LIMITS);
            tried += 1;
        }
        assert_eq!(tried, 5 + PENDING_MAX);
        assert_eq!(lockout.wait("ann", peer(1), Tick::ZERO, LIMITS), Some(PENDING_WAIT));
        let mut guesses = Lockout { entries: lockout.entries.clone() };
        for _ in 0..tried {
            lockout.settle("ann", peer(1), Tick::ZERO, Outcome::Succeeded);
            guesses.settle("ann", peer(1), Tick::ZERO, Outcome::Failed);
        }
        assert!(lockout.entries.is_empty());
        assert_eq!(guesses.wait("ann", peer(1), Tick::ZERO, LIMITS), Some(LIMITS.lock));
    }

    #[test]
    fn other_settings_hold_at_once() {
        let mut lockout = Lockout::default();
        fail(&mut lockout, 3, "ann", peer(1), Tick::ZERO);
        let strict = Limits { failures_max: 3, lock: Duration::from_secs(10) };
        let wait = lockout.wait("ann", peer(1), Tick::ZERO, strict);
        assert_eq!(wait, Some(Duration::from_secs(10)));
    }

    #[test]
    fn the_table_forgets_the_longest_idle_when_full() {
        let mut lockout = Lockout::default();
        for n in 0..=ENTRIES_MAX {
            let now = Tick::from_ms(u64::try_from(n).unwrap());
            fail(&mut lockout, 1, &format!("user{n}"), None, now);
        }
        assert_eq!(lockout.entries.len(), ENTRIES_MAX);
        let known = |name| keys(name, None).any(|key| lockout.entries.contains_key(&key));
        assert!(!known("user0"));
        assert!(known("user1"));
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let name = |text: &str| match keys(text, None).next() {
            Some(Key::Name { name, .. }) => name,
            Some(Key::Peer(_)) | None => panic!("no name"),
        };
        assert_eq!(name(&"ä".repeat(100)), "ä".repeat(32));
        assert_eq!(name(&format!("x{}", "ä".repeat(100))).len(), 63);
    }
}
