//! When the voters last changed: for a while after that, no group is taken from its owner.

use model::{NodeId, Tick};
use raft_store::Membership;
use std::collections::BTreeSet;
use std::time::Duration;

/// Remembers the newest committed change of voters.
#[derive(Debug, Default)]
pub(super) struct VoterWatch {
    voters: Vec<BTreeSet<NodeId>>,
    changed_at: Option<Tick>,
}

impl VoterWatch {
    /// Looks at the newest membership in the log; `committed` is the index up to which it holds.
    ///
    /// What this process sees first counts as a change: it may have been committed just now.
    pub(super) fn observe(&mut self, newest: &Membership, committed: u64, now: Tick) {
        if newest.log_index <= committed && newest.voters != self.voters {
            self.voters.clone_from(&newest.voters);
            self.changed_at = Some(now);
        }
    }

    /// When the voters last changed; equal values mean no change in between.
    pub(super) fn changed_at(&self) -> Option<Tick> {
        self.changed_at
    }

    /// Whether a group may be sealed: promises to owners that count in former memberships are over.
    ///
    /// `quarantine` is the longest that one promise can matter to anyone.
    pub(super) fn may_seal(&self, now: Tick, quarantine: Duration) -> bool {
        self.changed_at.is_some_and(|at| now >= at + quarantine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_sealed_for_a_quarantine_after_a_committed_change_of_voters() {
        const Q: Duration = Duration::from_millis(204);
        // at_ms, index of the membership, its voters, committed, may seal
        type Row<'a> = (u64, u64, &'a [&'a [u64]], u64, bool, &'a str);
        let rows: &[Row<'_>] = &[
            (0, 0, &[], 0, false, "nothing is known"),
            (10, 5, &[&[1, 2]], 9, false, "seen first, perhaps committed just now"),
            (213, 5, &[&[1, 2]], 9, false, "a moment before"),
            (214, 5, &[&[1, 2]], 9, true, "a quarantine after"),
            (300, 10, &[&[1, 2]], 12, true, "a learner more, the same voters"),
            (400, 20, &[&[1, 2], &[1, 2, 3]], 19, true, "in the log, not committed"),
            (410, 20, &[&[1, 2], &[1, 2, 3]], 20, false, "joint and committed"),
            (600, 21, &[&[1, 2, 3]], 20, false, "the next one is on its way"),
            (614, 21, &[&[1, 2, 3]], 20, true, "a quarantine after the joint one"),
            (620, 21, &[&[1, 2, 3]], 21, false, "and its successor is a change too"),
            (823, 21, &[&[1, 2, 3]], 30, false, "a moment before"),
            (824, 21, &[&[1, 2, 3]], 30, true, "settled"),
        ];
        let mut watch = VoterWatch::default();
        for (at_ms, log_index, voters, committed, want, what) in rows {
            let voters = voters.iter().map(|v| v.iter().copied().map(NodeId).collect()).collect();
            let newest = Membership { log_index: *log_index, voters, ..Membership::default() };
            let now = Tick::from_ms(*at_ms);
            watch.observe(&newest, *committed, now);
            // An empty list of voters is no membership.
            assert_eq!(watch.may_seal(now, Q), *want, "{what} at {at_ms} ms");
        }
    }
}
