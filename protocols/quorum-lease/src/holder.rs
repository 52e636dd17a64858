use crate::config::Timing;
use crate::membership::Membership;
use crate::wire::{Answer, GRANTS_MAX, Message};
use model::{Epoch, GroupId, NodeId, Tick};
use std::collections::{BTreeMap, VecDeque};

/// Renewals whose send time is remembered, over all groups; beyond, the oldest is forgotten.
pub const SENT_MAX: usize = 4_096;

/// For how many times [`Timing::quarantine`] after `acquire` a group without a quorum is renewed
/// eagerly. A quorum that is alive agrees within one or two; without one there is no hurry.
const EAGER_QUARANTINES: u32 = 3;

/// A group due within a quarter of the interval goes along in a renewal that leaves anyway.
const EARLY_DIVISOR: u32 = 4;

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The fence moved forward; after a shut fence this means: open it.
    Deadline {
        /// The group.
        group: GroupId,
        /// The epoch at which this node owns it.
        epoch: Epoch,
        /// The fence: from here on the node forwards and answers nothing.
        until: Tick,
    },
    /// No quorum will agree to this epoch again. Renewing has ended, the fence runs out.
    Lost {
        /// The group.
        group: GroupId,
        /// Why.
        reason: LostReason,
    },
}

/// Why a group was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// So many voters have seen a newer epoch that the others are no quorum.
    Superseded {
        /// The highest epoch they have seen.
        seen: Epoch,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    epoch: Epoch,
    acquired_at: Tick,
    /// For each voter, when the newest renewal left that it agreed to.
    acked: BTreeMap<NodeId, Tick>,
    /// Voters that refuse this epoch for ever, with the epoch they have seen.
    refused: BTreeMap<NodeId, Epoch>,
    lost: bool,
    deadline: Option<Tick>,
    due: Tick,
}

impl Held {
    fn is_open(&self, now: Tick) -> bool {
        self.deadline.is_some_and(|until| now < until)
    }
}

/// The owner's side on one node, for all of its groups.
///
/// `now` must come from the boot clock, which the kernel's fence uses and which runs on while the
/// process restarts: renewals are numbered by it, so that an answer to an earlier process is never
/// taken for an answer to this one.
///
/// The driver asks [`Holder::next_wakeup`] from the start, also before any group is acquired:
/// the time since which a membership is known begins with the first call that carries a `now`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    me: NodeId,
    timing: Timing,
    membership: Membership,
    /// When a shut fence may open under this membership; `None` until the next `now`.
    settled_at: Option<Tick>,
    held: BTreeMap<GroupId, Held>,
    /// The newest epoch of each group that was released or abandoned: never renewed again.
    ended: BTreeMap<GroupId, Epoch>,
    /// Number and send time of renewals that can still matter, in order.
    sent: VecDeque<(u64, Tick)>,
    last_seq: u64,
}

impl Holder {
    /// A holder that owns nothing. `membership` is the newest *committed* one.
    #[must_use]
    pub fn new(me: NodeId, timing: Timing, membership: Membership) -> Self {
        Self {
            me,
            timing,
            membership,
            settled_at: None,
            held: BTreeMap::new(),
            ended: BTreeMap::new(),
            sent: VecDeque::new(),
            last_seq: 0,
        }
    }

    /// This node.
    #[must_use]
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The membership that acknowledgements are counted in; its nodes are sent the renewals.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Takes over the newest *committed* membership. An open fence goes on; a shut one opens only
    /// [`Timing::quarantine`] later, since an owner may still act on a membership that had no
    /// voter in common with this one.
    pub fn set_membership(&mut self, membership: Membership) {
        if membership == self.membership {
            return;
        }
        let older = membership.log_index < self.membership.log_index;
        for held in self.held.values_mut() {
            if older {
                // Some acknowledgements may come from voters that know more than this membership.
                held.acked.clear();
            }
            held.acked.retain(|&node, _| membership.contains(node));
            held.refused.retain(|&node, _| membership.contains(node));
        }
        self.membership = membership;
        self.settled_at = None;
    }

    /// Starts renewing a group whose `Acquire` by this node was applied; `false` if that epoch or
    /// a newer one was given up before.
    ///
    /// An open fence of this node at an older epoch stays open: promises are made to nodes.
    pub fn acquire(&mut self, group: GroupId, epoch: Epoch, now: Tick) -> bool {
        self.note(now);
        if self.ended.get(&group).is_some_and(|&ended| epoch <= ended) {
            return false;
        }
        let previous = self.held.get(&group);
        if let Some(held) = previous
            && epoch <= held.epoch
        {
            return epoch == held.epoch;
        }
        let held = Held {
            epoch,
            acquired_at: now,
            acked: BTreeMap::new(),
            refused: BTreeMap::new(),
            lost: false,
            deadline: previous.and_then(|held| held.deadline),
            due: now,
        };
        self.held.insert(group, held);
        true
    }

    /// Gives a group up and returns what to send to all voters; `None` if it is not held.
    ///
    /// The caller must have shut the fence *before*, and its last frame must have left.
    pub fn release(&mut self, group: GroupId, now: Tick) -> Option<Message> {
        self.note(now);
        let held = self.held.remove(&group)?;
        self.end(group, held.epoch);
        Some(Message::Release { seq: self.next_seq(now), group, epoch: held.epoch })
    }

    /// Forgets a group that a newer `Acquire` gave to another node. The voters' promises run out.
    pub fn abandon(&mut self, group: GroupId) {
        if let Some(held) = self.held.remove(&group) {
            self.end(group, held.epoch);
        }
    }

    fn end(&mut self, group: GroupId, epoch: Epoch) {
        let ended = self.ended.entry(group).or_insert(epoch);
        *ended = epoch.max(*ended);
    }

    /// Returns the renewals that are due, each to be sent to every voter, this node included.
    ///
    /// `now` counts as their send time and must be read before they are sent, never after.
    pub fn step(&mut self, now: Tick) -> Vec<Message> {
        self.note(now);
        while self.sent.front().is_some_and(|&(_, at)| at + self.timing.lease <= now) {
            self.sent.pop_front();
        }
        if !self.held.values().any(|held| !held.lost && held.due <= now) {
            return Vec::new();
        }
        let early = now + self.timing.renew / EARLY_DIVISOR;
        let mut due = Vec::new();
        for (&group, held) in &mut self.held {
            if held.lost || held.due > early {
                continue;
            }
            let eager_until = held.acquired_at + self.timing.quarantine() * EAGER_QUARANTINES;
            let eager = held.acked.is_empty() || !held.is_open(now);
            let pause =
                if eager && now < eager_until { self.timing.eager() } else { self.timing.renew };
            held.due = now + pause;
            due.push((group, held.epoch));
        }
        due.chunks(GRANTS_MAX)
            .map(|grants| {
                let seq = self.next_seq(now);
                if self.sent.len() >= SENT_MAX {
                    self.sent.pop_front();
                }
                self.sent.push_back((seq, now));
                Message::Renew { seq, grants: grants.to_vec() }
            })
            .collect()
    }

    /// Counts a voter's acknowledgement. Late, repeated and foreign ones change nothing.
    pub fn on_ack(&mut self, from: NodeId, msg: &Message, now: Tick) -> Vec<Event> {
        self.note(now);
        let Message::RenewAck { seq, membership_index, results } = msg else { return Vec::new() };
        let Ok(i) = self.sent.binary_search_by_key(seq, |&(seq, _)| seq) else { return Vec::new() };
        let (_, sent_at) = self.sent[i];
        if !self.membership.contains(from) {
            return Vec::new();
        }
        // A voter that knows a newer membership may belong to a majority that ours does not meet.
        let counts = *membership_index <= self.membership.log_index;
        let settled = self.settled_at.is_some_and(|at| at <= now);
        let mut events = Vec::new();
        for &(group, epoch, answer) in results {
            let Some(held) = self.held.get_mut(&group) else { continue };
            if held.epoch != epoch || sent_at < held.acquired_at {
                continue;
            }
            match answer {
                Answer::Promised if counts => {
                    let newest = held.acked.entry(from).or_insert(sent_at);
                    *newest = sent_at.max(*newest);
                    let until = deadline(&self.membership, &self.timing, &held.acked);
                    if let Some(until) = until
                        && until > now
                        && held.deadline < Some(until)
                        && (settled || held.is_open(now))
                    {
                        held.deadline = Some(until);
                        events.push(Event::Deadline { group, epoch, until });
                    }
                }
                Answer::EpochTooLow { seen } => {
                    held.refused.insert(from, seen);
                    let possible = self.membership.has_quorum(|n| !held.refused.contains_key(&n));
                    if !possible && !held.lost {
                        held.lost = true;
                        let seen = held.refused.values().copied().max().unwrap_or(seen);
                        events.push(Event::Lost { group, reason: LostReason::Superseded { seen } });
                    }
                }
                Answer::Promised | Answer::HeldByOther | Answer::Quarantined => {}
            }
        }
        events
    }

    /// The group's fence: `None` or past means shut.
    #[must_use]
    pub fn deadline(&self, group: GroupId) -> Option<Tick> {
        self.held.get(&group)?.deadline
    }

    /// The epoch at which this node holds the group.
    #[must_use]
    pub fn epoch(&self, group: GroupId) -> Option<Epoch> {
        self.held.get(&group).map(|held| held.epoch)
    }

    /// From when on a shut fence may open; `None` until the first call that carries a `now`.
    ///
    /// A node that would own a group earlier could not serve it, so it is no good candidate yet.
    #[must_use]
    pub fn settled_at(&self) -> Option<Tick> {
        self.settled_at
    }

    /// When [`Holder::step`] has something to do, at once for a time that is past.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Tick> {
        if self.settled_at.is_none() {
            return Some(Tick::ZERO);
        }
        self.held.values().filter(|held| !held.lost).map(|held| held.due).min()
    }

    fn note(&mut self, now: Tick) {
        self.settled_at.get_or_insert(now + self.timing.quarantine());
    }

    fn next_seq(&mut self, now: Tick) -> u64 {
        self.last_seq = now.as_ns().max(self.last_seq.saturating_add(1));
        self.last_seq
    }
}

/// The send time of the newest renewal that a quorum agreed to, or a newer one of it, plus how long
/// that keeps the fence open. Why this is safe: [`Timing`].
fn deadline(
    membership: &Membership,
    timing: &Timing,
    acked: &BTreeMap<NodeId, Tick>,
) -> Option<Tick> {
    let sent_at = membership.quorum_best(|node| acked.get(&node).copied())?;
    Some(sent_at + timing.open_for())
}

#[cfg(test)]
mod tests;
