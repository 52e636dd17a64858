//! The newest membership in this node's log, for the quorum lease's voter.
//!
//! A voter must tell an owner of a membership before the leader may count this node's acknowledgement of it, so the
//! index moves with the log itself and not with Raft's status, which comes later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Memberships remembered in case the newest are truncated. Raft has at most two that are not committed.
const KNOWN_MAX: usize = 8;

/// Clones share one index.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoggedMembership {
    newest: Arc<AtomicU64>,
    /// Indexes in order; the last is `newest`.
    known: Arc<Mutex<VecDeque<u64>>>,
}

impl LoggedMembership {
    /// See [`crate::Store::logged_membership`].
    pub(crate) fn newest(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.newest)
    }

    /// The log, or a snapshot that replaces its beginning, has a membership at `index`.
    pub(crate) fn add(&self, index: u64) {
        self.change(|known| {
            let at = known.partition_point(|k| *k < index);
            if known.get(at) != Some(&index) {
                known.insert(at, index);
            }
            if known.len() > KNOWN_MAX {
                known.pop_front();
            }
        });
    }

    /// The entries after `last` are gone.
    pub(crate) fn truncate(&self, last: Option<u64>) {
        self.change(|known| known.retain(|index| Some(*index) <= last));
    }

    fn change(&self, change: impl FnOnce(&mut VecDeque<u64>)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        self.newest.store(known.back().copied().unwrap_or(0), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncation_goes_back_to_the_membership_that_is_still_there() {
        let logged = LoggedMembership::default();
        let newest = logged.newest();
        let is = |want: u64, what: &str| {
            assert_eq!(newest.load(Ordering::Acquire), want, "{what}");
        };
        is(0, "nothing is known");
        logged.add(1);
        logged.add(20);
        logged.add(25);
        is(25, "the newest");
        logged.truncate(Some(22));
        is(20, "the one before");
        logged.add(12);
        is(20, "a snapshot with an older one");
        logged.add(40);
        logged.truncate(Some(40));
        is(40, "one that came inside a snapshot stays");
        logged.truncate(None);
        is(0, "an empty log");
    }

    #[test]
    fn only_a_few_are_remembered() {
        let logged = LoggedMembership::default();
        for index in 0..100 {
            logged.add(index);
        }
        assert_eq!(logged.newest().load(Ordering::Acquire), 99);
        assert_eq!(logged.known.lock().unwrap().len(), KNOWN_MAX);
    }
}
