use crate::config::Timing;
use crate::membership::Membership;
use crate::wire::{Message, SealOutcome};
use model::{Epoch, GroupId, NodeId, Tick};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How far a takeover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealState {
    /// No quorum has sealed yet.
    Waiting,
    /// A quorum has sealed and its promises are over: propose `Acquire` at the epoch.
    Ready,
    /// A quorum has sealed; its promises are over at this time.
    WaitUntil(Tick),
    /// A voter has seen this epoch: start again above it.
    Superseded {
        /// The highest epoch that a voter reported.
        seen: Epoch,
    },
}

/// The Raft leader's work to take one group from a silent owner.
///
/// It repeats its request for as long as the leader keeps it: eagerly for a quarantine, then at the
/// pace of renewals. Nothing of it is needed for safety, which rests on the voters' promises; it
/// makes a takeover prompt and keeps the old owner from coming back in between.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sealer {
    group: GroupId,
    epoch: Epoch,
    membership: Membership,
    timing: Timing,
    started_at: Tick,
    first_seq: u64,
    sent: u64,
    due: Tick,
    /// For each voter that sealed, when its promise is over, on our clock.
    free_at: BTreeMap<NodeId, Tick>,
    seen: Option<Epoch>,
}

impl Sealer {
    /// Begins to seal `group` for an owner at `epoch`, which must be above all that is known.
    ///
    /// `seq` is where its request numbers begin: different for each sealer of a node.
    #[must_use]
    pub fn new(
        group: GroupId,
        epoch: Epoch,
        membership: Membership,
        seq: u64,
        now: Tick,
        timing: Timing,
    ) -> Self {
        Self {
            group,
            epoch,
            membership,
            timing,
            started_at: now,
            first_seq: seq,
            sent: 0,
            due: now,
            free_at: BTreeMap::new(),
            seen: None,
        }
    }

    /// Returns the request that is due, to be sent to [`Sealer::unanswered`].
    pub fn step(&mut self, now: Tick) -> Vec<Message> {
        if now < self.due || self.unanswered().is_empty() {
            return Vec::new();
        }
        let eager = now < self.started_at + self.timing.quarantine();
        self.due = now + if eager { self.timing.eager() } else { self.timing.renew };
        let seq = self.first_seq.wrapping_add(self.sent);
        self.sent = self.sent.saturating_add(1);
        vec![Message::Seal { seq, group: self.group, epoch: self.epoch }]
    }

    /// Counts a voter's answer. Answers to other requests change nothing.
    pub fn on_ack(&mut self, from: NodeId, msg: &Message, now: Tick) -> SealState {
        if let Message::SealAck { seq, group, epoch, outcome } = msg
            && (*group, *epoch) == (self.group, self.epoch)
            && seq.wrapping_sub(self.first_seq) < self.sent
            && self.membership.contains(from)
        {
            match *outcome {
                SealOutcome::Sealed { left } => {
                    // The voter's clock may be the slower one.
                    let free_at = now + self.timing.stretched(left);
                    let known = self.free_at.entry(from).or_insert(free_at);
                    *known = free_at.min(*known);
                }
                SealOutcome::Refused { seen } => self.seen = self.seen.max(Some(seen)),
            }
        }
        self.state(now)
    }

    /// How far the takeover is.
    #[must_use]
    pub fn state(&self, now: Tick) -> SealState {
        match (self.free_at(), self.seen) {
            (Some(at), _) if at <= now => SealState::Ready,
            (Some(at), _) => SealState::WaitUntil(at),
            (None, Some(seen)) => SealState::Superseded { seen },
            (None, None) => SealState::Waiting,
        }
    }

    /// When the first quorum of sealed voters is free.
    ///
    /// A fence of the old owner needs a quorum too, so one of these, and is shut by then.
    fn free_at(&self) -> Option<Tick> {
        let free_at = |node| self.free_at.get(&node).map(|&at| Reverse(at));
        self.membership.quorum_best(free_at).map(|Reverse(at)| at)
    }

    /// The voters that have not sealed yet.
    #[must_use]
    pub fn unanswered(&self) -> Vec<NodeId> {
        let sealed = |node: &NodeId| self.free_at.contains_key(node);
        self.membership.nodes().into_iter().filter(|node| !sealed(node)).collect()
    }

    /// The group that is sealed.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The epoch of its next owner.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When [`Sealer::step`] or [`Sealer::state`] has news, besides answers.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Tick> {
        let resend = (!self.unanswered().is_empty()).then_some(self.due);
        resend.into_iter().chain(self.free_at()).min()
    }
}

#[cfg(test)]
mod tests;
