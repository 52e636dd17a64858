//! One simulated node: the lease engines as shipped, with an optional bug planted around them.

use model::{Epoch, GroupId, NodeId, Tick};
use quorum_lease::{Answer, Event, Holder, Membership, Message, Sealer, Timing, Voter};
use std::collections::BTreeMap;
use std::time::Duration;

/// A mistake that an engineer could make, which the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The engines as they are.
    None,
    /// A voter promises to a second node once half of the first promise has passed.
    PromisesTwice,
    /// A restarted voter answers at once.
    AnswersAtOnce,
    /// The owner counts from when it received acknowledgements, not from sending.
    CountsFromReceipt,
    /// The owner leaves no margin, so clock drift is not covered.
    NoMargin,
    /// Acknowledgements do not tell of newer memberships.
    HidesMembership,
    /// A holder opens its fence at once under a membership that it just learnt.
    OpensUnsettled,
}

/// A voter with a bug around it.
#[derive(Clone, Debug)]
pub struct SimVoter {
    inner: Voter,
    membership_index: u64,
    timing: Timing,
    bug: Bug,
}

impl SimVoter {
    fn new(now: Tick, timing: Timing, bug: Bug) -> Self {
        let started = if bug == Bug::AnswersAtOnce { now - timing.quarantine() } else { now };
        Self { inner: Voter::new(started, timing), membership_index: 0, timing, bug }
    }

    /// See [`Voter::set_membership_index`].
    pub fn set_membership_index(&mut self, index: u64) {
        if self.bug != Bug::HidesMembership {
            self.membership_index = index;
            self.inner.set_membership_index(index);
        }
    }

    /// See [`Voter::on_message`].
    pub fn on_message(&mut self, from: NodeId, msg: &Message, now: Tick) -> Option<Message> {
        let reply = self.inner.on_message(from, msg, now);
        if self.bug == Bug::PromisesTwice
            && let Some(Message::RenewAck { results, .. }) = &reply
            && let Some((group, ..)) = results.iter().find(|(.., a)| *a == Answer::HeldByOther)
            && let Some(promise) = self.inner.promise(*group)
            && promise.expires_at.since(now) < self.timing.lease / 2
        {
            self.inner = Voter::new(now - self.timing.quarantine(), self.timing);
            self.inner.set_membership_index(self.membership_index);
            return self.inner.on_message(from, msg, now);
        }
        reply
    }

    /// See [`Voter::suspects`].
    #[must_use]
    pub fn suspects(&self, group: GroupId, now: Tick) -> bool {
        self.inner.suspects(group, now)
    }

    /// See [`Voter::highest_epoch`].
    #[must_use]
    pub fn highest_epoch(&self, group: GroupId) -> Epoch {
        self.inner.highest_epoch(group)
    }
}

/// A holder with a bug around it.
#[derive(Clone, Debug)]
pub struct SimHolder {
    inner: Holder,
    timing: Timing,
    bug: Bug,
}

impl SimHolder {
    fn new(me: NodeId, mut timing: Timing, membership: Membership, now: Tick, bug: Bug) -> Self {
        if bug == Bug::NoMargin {
            timing.margin = Duration::ZERO;
        }
        let mut holder = Self { inner: Holder::new(me, timing, membership), timing, bug };
        holder.learn(now);
        holder
    }

    /// A driver calls `step` when it starts, as `next_wakeup` asks for it; the bug lies about when.
    fn learn(&mut self, now: Tick) {
        if self.bug == Bug::OpensUnsettled {
            self.inner.step(now - self.timing.quarantine());
        }
    }

    /// See [`Holder::set_membership`].
    pub fn set_membership(&mut self, membership: Membership, now: Tick) {
        self.inner.set_membership(membership);
        self.learn(now);
    }

    /// See [`Holder::acquire`].
    pub fn acquire(&mut self, group: GroupId, epoch: Epoch, now: Tick) {
        self.inner.acquire(group, epoch, now);
    }

    /// See [`Holder::release`].
    pub fn release(&mut self, group: GroupId, now: Tick) -> Option<Message> {
        self.inner.release(group, now)
    }

    /// See [`Holder::abandon`].
    pub fn abandon(&mut self, group: GroupId) {
        self.inner.abandon(group);
    }

    /// See [`Holder::step`].
    pub fn step(&mut self, now: Tick) -> Vec<Message> {
        self.inner.step(now)
    }

    /// See [`Holder::on_ack`]; what is left are the fences that move.
    pub fn on_ack(&mut self, from: NodeId, msg: &Message, now: Tick) -> Vec<(GroupId, Tick)> {
        let fence = |event| match event {
            Event::Deadline { group, .. } if self.bug == Bug::CountsFromReceipt => {
                Some((group, now + self.timing.open_for()))
            }
            Event::Deadline { group, until, .. } => Some((group, until)),
            Event::Lost { .. } => None,
        };
        self.inner.on_ack(from, msg, now).into_iter().filter_map(fence).collect()
    }

    /// See [`Holder::epoch`].
    #[must_use]
    pub fn epoch(&self, group: GroupId) -> Option<Epoch> {
        self.inner.epoch(group)
    }

    /// See [`Holder::membership`].
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.inner.membership()
    }

    /// See [`Holder::next_wakeup`].
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Tick> {
        self.inner.next_wakeup()
    }
}

/// What a process of `bngd` keeps in memory; gone when it dies.
#[derive(Clone, Debug)]
pub struct Process {
    /// The node's vote.
    pub voter: SimVoter,
    /// The node as an owner.
    pub holder: SimHolder,
    /// Takeovers it drives, as a leader or in the belief to be one, with the owner to be.
    pub sealers: BTreeMap<GroupId, (Sealer, NodeId)>,
    /// Since when, on its clock, it may suspect a group again after having proposed an owner.
    pub patience: BTreeMap<GroupId, Tick>,
}

impl Process {
    /// A process that starts now.
    #[must_use]
    pub fn start(me: NodeId, now: Tick, timing: Timing, membership: Membership, bug: Bug) -> Self {
        Self {
            voter: SimVoter::new(now, timing, bug),
            holder: SimHolder::new(me, timing, membership, now, bug),
            sealers: BTreeMap::new(),
            patience: BTreeMap::new(),
        }
    }

    /// When it has something to do by itself.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Tick> {
        let sealers = self.sealers.values().filter_map(|(sealer, _)| sealer.next_wakeup());
        self.holder.next_wakeup().into_iter().chain(sealers).min()
    }
}
