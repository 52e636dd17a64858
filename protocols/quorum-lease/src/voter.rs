use crate::config::Timing;
use crate::wire::{Answer, Message, SealOutcome};
use model::{Epoch, GroupId, NodeId, Tick};
use std::collections::BTreeMap;
use std::time::Duration;

/// Groups a voter keeps state for. A virtual MAC has one octet for the group, so there are fewer.
pub const GROUPS_MAX: usize = 1_024;

/// A voter's word that nobody but `holder` gets its vote for a group before `expires_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Promise {
    /// The node that asked.
    pub holder: NodeId,
    /// The newest epoch at which it asked.
    pub epoch: Epoch,
    /// When the promise ends, on the voter's clock.
    pub expires_at: Tick,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    /// Renewals below are refused.
    highest: Epoch,
    /// The highest epoch at which a node asked for the group.
    renewed: Option<Epoch>,
    promise: Option<Promise>,
    /// Number of the newest renewal that made or extended the promise.
    promise_seq: u64,
}

impl Slot {
    fn live(&self, now: Tick) -> Option<Promise> {
        self.promise.filter(|p| now < p.expires_at)
    }

    fn see(&mut self, epoch: Epoch) {
        self.highest = self.highest.max(epoch);
    }
}

/// The vote of one node. All its state is volatile, which is why it starts in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Voter {
    timing: Timing,
    started_at: Tick,
    quarantined_until: Tick,
    membership_index: u64,
    slots: BTreeMap<GroupId, Slot>,
}

impl Voter {
    /// A voter whose process started at `now`; it promises nothing for [`Timing::quarantine`].
    #[must_use]
    pub fn new(now: Tick, timing: Timing) -> Self {
        Self {
            timing,
            started_at: now,
            quarantined_until: now + timing.quarantine(),
            membership_index: 0,
            slots: BTreeMap::new(),
        }
    }

    /// Tells the log index of the newest membership in this node's Raft log, committed or not.
    ///
    /// To be called before this node's acknowledgement of the entry can reach the leader, and
    /// before the quarantine ends. It may go down, when Raft truncates an uncommitted entry.
    pub fn set_membership_index(&mut self, log_index: u64) {
        self.membership_index = log_index;
    }

    /// Handles a message of `from` and returns the reply to send back.
    ///
    /// Replies meant for a holder or sealer are ignored.
    pub fn on_message(&mut self, from: NodeId, msg: &Message, now: Tick) -> Option<Message> {
        match msg {
            Message::Renew { seq, grants } => {
                let answer = |&(group, epoch): &(GroupId, Epoch)| {
                    Some((group, epoch, self.renew(from, *seq, group, epoch, now)?))
                };
                let results = grants.iter().filter_map(answer).collect();
                let membership_index = self.membership_index;
                Some(Message::RenewAck { seq: *seq, membership_index, results })
            }
            Message::Seal { seq, group, epoch } => {
                let outcome = self.seal(*group, *epoch, now)?;
                Some(Message::SealAck { seq: *seq, group: *group, epoch: *epoch, outcome })
            }
            Message::Release { seq, group, epoch } => {
                self.release(from, *seq, *group, *epoch, now);
                None
            }
            Message::RenewAck { .. } | Message::SealAck { .. } => None,
        }
    }

    /// No answer at all is no promise: what a group past [`GROUPS_MAX`] gets.
    fn renew(
        &mut self,
        from: NodeId,
        seq: u64,
        group: GroupId,
        epoch: Epoch,
        now: Tick,
    ) -> Option<Answer> {
        let expires_at = now + self.timing.lease;
        let quarantined = now < self.quarantined_until;
        let slot = self.slot(group, now)?;
        if epoch < slot.highest {
            return Some(Answer::EpochTooLow { seen: slot.highest });
        }
        // Noted even if refused below: this epoch was committed, so older ones are over.
        slot.see(epoch);
        slot.renewed = slot.renewed.max(Some(epoch));
        if quarantined {
            return Some(Answer::Quarantined);
        }
        let live = slot.live(now);
        if live.is_some_and(|p| p.holder != from) {
            return Some(Answer::HeldByOther);
        }
        // Of two renewals that overtook each other, the one sent later is what a release must top.
        slot.promise_seq = if live.is_some() { slot.promise_seq.max(seq) } else { seq };
        slot.promise = Some(Promise { holder: from, epoch, expires_at });
        Some(Answer::Promised)
    }

    /// Quarantine knows no time left to report, so it gives no answer; the epoch is noted anyway.
    fn seal(&mut self, group: GroupId, epoch: Epoch, now: Tick) -> Option<SealOutcome> {
        let quarantined = now < self.quarantined_until;
        let slot = self.slot(group, now)?;
        if epoch < slot.highest || slot.renewed.is_some_and(|renewed| epoch <= renewed) {
            return Some(SealOutcome::Refused { seen: slot.highest });
        }
        slot.see(epoch);
        if quarantined {
            return None;
        }
        let left = slot.live(now).map_or(Duration::ZERO, |p| p.expires_at.since(now));
        Some(SealOutcome::Sealed { left })
    }

    fn release(&mut self, from: NodeId, seq: u64, group: GroupId, epoch: Epoch, now: Tick) {
        let Some(slot) = self.slot(group, now) else { return };
        // A renewal that the release overtook must not revive the promise: its epoch is over.
        slot.see(Epoch(epoch.0.saturating_add(1)));
        let promise_seq = slot.promise_seq;
        if let Some(promise) = &mut slot.promise
            && promise.holder == from
            && promise.epoch <= epoch
            // Else an earlier process of the holder sent it, and the present one renewed since.
            && promise_seq < seq
        {
            promise.expires_at = promise.expires_at.min(now);
        }
    }

    /// The group's state. When all are taken, the one whose promise lapsed first gives way: it
    /// loses its epoch, as in a restart, which costs order but no safety.
    fn slot(&mut self, group: GroupId, now: Tick) -> Option<&mut Slot> {
        if !self.slots.contains_key(&group) && self.slots.len() >= GROUPS_MAX {
            let lapsed = |(g, s): (&GroupId, &Slot)| match s.live(now) {
                Some(_) => None,
                None => Some((s.promise.map_or(Tick::ZERO, |p| p.expires_at), *g)),
            };
            let (_, oldest) = self.slots.iter().filter_map(lapsed).min()?;
            self.slots.remove(&oldest);
        }
        Some(self.slots.entry(group).or_default())
    }

    /// The newest promise for the group, also when it has ended; `None` if none was ever made.
    ///
    /// A release ends it at once.
    #[must_use]
    pub fn promise(&self, group: GroupId) -> Option<Promise> {
        self.slots.get(&group)?.promise
    }

    /// Whether nobody renewed the group for a whole lease, as far as this voter can know: what the
    /// Raft leader calls suspicion. A voter that never promised it first listens for a lease.
    #[must_use]
    pub fn suspects(&self, group: GroupId, now: Tick) -> bool {
        let heard_until = self.quarantined_until + self.timing.lease;
        self.promise(group).map_or(heard_until, |p| p.expires_at) <= now
    }

    /// When the first promise may be made.
    #[must_use]
    pub fn quarantined_until(&self) -> Tick {
        self.quarantined_until
    }

    /// When the process started.
    #[must_use]
    pub fn started_at(&self) -> Tick {
        self.started_at
    }

    /// The highest epoch seen for the group, whether renewed, sealed or released.
    #[must_use]
    pub fn highest_epoch(&self, group: GroupId) -> Epoch {
        self.slots.get(&group).map_or(Epoch(0), |s| s.highest)
    }
}

#[cfg(test)]
mod tests;
