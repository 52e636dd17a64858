//! A cluster of lease engines under an ideal Raft log: true time, events, and what a driver does.
//!
//! Raft itself is not simulated: entries are committed in one order, by whoever proposes, and reach
//! nodes late. That is more than Raft allows, since even a deposed leader gets its word in.

use super::clock::{DriftingClock, TrueNs};
use super::fence::Fences;
use super::lease_chaos::{Blow, any_rate};
use super::lease_node::{Bug, Process};
use super::net::{Faults, Net};
use model::{Epoch, GroupId, NodeId, Tick};
use quorum_lease::{Membership, Message, SealState, Sealer, Timing};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Every clock shows a day or so at the start, so that a tick before the start can be written.
const BOOT: Tick = Tick::from_ms(86_400_000);

/// How a cluster begins.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Decides everything random.
    pub seed: u64,
    /// Voters, numbered from 1.
    pub voters: u64,
    /// Nodes that do not vote at first.
    pub spares: u64,
    /// Redundancy groups, numbered from 1.
    pub groups: u32,
    /// Times of the protocol; clocks drift by all that it allows.
    pub timing: Timing,
    /// What the network does.
    pub faults: Faults,
    /// Its ordinary delays.
    pub delay_us: (u64, u64),
    /// Pauses between two blows of chaos.
    pub chaos_us: (u64, u64),
    /// What is planted.
    pub bug: Bug,
}

#[derive(Clone, Debug)]
pub(super) enum Entry {
    Acquire { group: GroupId, node: NodeId, epoch: Epoch },
    Members(Vec<Vec<NodeId>>),
}

#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A datagram arrives.
    Deliver { from: NodeId, to: NodeId, octets: Rc<[u8]> },
    /// A node's own deadline.
    Wake(NodeId),
    /// A node appends and applies the first entries of the log.
    Apply { node: NodeId, entries: usize },
    /// A node's process starts again.
    Restart(NodeId),
    /// The entry that ends a joint membership is proposed.
    LeaveJoint,
    /// The leader looks for groups without an owner.
    Lead,
    /// Something unpleasant.
    Chaos,
}

#[derive(Debug, Default)]
pub(super) struct SimNode {
    pub(super) process: Option<Process>,
    /// Entries in the log on its disk; only matters for memberships.
    pub(super) appended: usize,
    pub(super) applied: usize,
    pub(super) paused_until: TrueNs,
    /// Cut off from Raft, and only from Raft: what is committed reaches it later.
    pub(super) deaf_until: TrueNs,
    wake_at: Option<TrueNs>,
}

/// The cluster.
#[derive(Debug)]
pub struct World {
    /// How it began.
    pub setup: Setup,
    /// True time.
    pub now: TrueNs,
    /// What the kernels let through.
    pub fences: Fences,
    pub(super) rng: Pcg64Mcg,
    pub(super) net: Net,
    pub(super) nodes: BTreeMap<NodeId, SimNode>,
    pub(super) clocks: BTreeMap<NodeId, DriftingClock>,
    /// Committed entries; the index of an entry is its place, counted from 1.
    pub(super) log: Vec<Entry>,
    pub(super) owners: BTreeMap<GroupId, (NodeId, Epoch)>,
    pub(super) leader: NodeId,
    pub(super) calm: bool,
    /// How much more than usual each blow falls.
    pub(super) zeal: BTreeMap<Blow, u32>,
    pub(super) next_change_at: TrueNs,
    queue: BTreeMap<(TrueNs, u64), Happening>,
    scheduled: u64,
    seal_seq: u64,
}

impl World {
    /// A cluster whose nodes have just started and whose groups nobody owns.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(setup.seed);
        let ids: Vec<NodeId> = (1..=setup.voters + setup.spares).map(NodeId).collect();
        let voters: Vec<NodeId> = (1..=setup.voters).map(NodeId).collect();
        let clock = |rng: &mut Pcg64Mcg| {
            let local = BOOT + std::time::Duration::from_micros(rng.random_range(0..1_000_000));
            DriftingClock::new(TrueNs(0), local, any_rate(rng, setup.timing))
        };
        let mut world = Self {
            setup,
            now: TrueNs(0),
            fences: Fences::default(),
            net: Net::new(setup.faults, setup.delay_us),
            nodes: ids.iter().map(|&id| (id, SimNode::default())).collect(),
            clocks: ids.iter().map(|&id| (id, clock(&mut rng))).collect(),
            log: vec![Entry::Members(vec![voters])],
            owners: BTreeMap::new(),
            leader: NodeId(1),
            calm: true,
            zeal: BTreeMap::new(),
            next_change_at: TrueNs(0),
            queue: BTreeMap::new(),
            scheduled: 0,
            seal_seq: 0,
            rng,
        };
        for id in ids {
            let node = world.node(id);
            (node.appended, node.applied) = (1, 1);
            world.start(id);
        }
        world.schedule(TrueNs(0), Happening::Lead);
        world
    }

    /// Lets everything happen up to a true time, or to the first violation.
    pub fn run_until(&mut self, end: TrueNs) {
        while self.fences.violation.is_none()
            && let Some(first) = self.queue.first_entry()
            && first.key().0 <= end
        {
            let ((at, _), happening) = first.remove_entry();
            self.now = at;
            self.happen(happening);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver { from, to, octets } => {
                if let Some(until) = self.paused(to) {
                    self.schedule(until, Happening::Deliver { from, to, octets });
                } else {
                    self.deliver(from, to, &octets);
                }
            }
            Happening::Wake(id) => {
                if let Some(until) = self.paused(id) {
                    self.node(id).wake_at = Some(until);
                    self.schedule(until, Happening::Wake(id));
                } else if self.nodes[&id].wake_at == Some(self.now) {
                    self.node(id).wake_at = None;
                    self.poll(id);
                }
            }
            Happening::Apply { node, entries } => {
                let deaf = Some(self.nodes[&node].deaf_until).filter(|&until| self.now < until);
                if let Some(until) = self.paused(node).or(deaf) {
                    self.schedule(until, Happening::Apply { node, entries });
                } else {
                    self.apply_up_to(node, entries);
                }
            }
            Happening::Restart(id) => self.start(id),
            Happening::LeaveJoint => self.leave_joint(),
            Happening::Lead => self.lead(),
            Happening::Chaos => self.chaos(),
        }
    }

    fn paused(&self, id: NodeId) -> Option<TrueNs> {
        Some(self.nodes[&id].paused_until).filter(|&until| self.now < until)
    }

    pub(super) fn schedule(&mut self, at: TrueNs, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), happening);
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut SimNode {
        self.nodes.get_mut(&id).expect("nodes are never removed")
    }

    pub(super) fn process(&mut self, id: NodeId) -> Option<&mut Process> {
        self.node(id).process.as_mut()
    }

    /// What the node's clock shows.
    #[must_use]
    pub fn local(&self, id: NodeId) -> Tick {
        self.clocks[&id].at(self.now)
    }

    fn send(&mut self, from: NodeId, to: impl IntoIterator<Item = NodeId>, message: &Message) {
        let octets: Rc<[u8]> = message.encode().into();
        for to in to {
            for at in self.net.arrivals(&mut self.rng, from, to, self.now) {
                self.schedule(at, Happening::Deliver { from, to, octets: Rc::clone(&octets) });
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, octets: &[u8]) {
        let (now, true_now) = (self.local(to), self.now);
        let message = Message::decode(octets).expect("the network does not damage octets");
        let Some(process) = self.process(to) else { return };
        match &message {
            Message::Renew { .. } | Message::Seal { .. } | Message::Release { .. } => {
                if let Some(reply) = process.voter.on_message(from, &message, now) {
                    self.send(to, [from], &reply);
                }
            }
            Message::RenewAck { .. } => {
                for (group, until) in process.holder.on_ack(from, &message, now) {
                    self.fences.open(group, to, until, true_now, &self.clocks);
                }
            }
            Message::SealAck { group, .. } => {
                if let Some((sealer, _)) = process.sealers.get_mut(group) {
                    sealer.on_ack(from, &message, now);
                }
                self.poll(to);
            }
        }
        self.arm(to);
    }

    /// What a driver does whenever it wakes up.
    pub(super) fn poll(&mut self, id: NodeId) {
        let now = self.local(id);
        let Some(process) = self.process(id) else { return };
        let renewals = process.holder.step(now);
        let voters =
            if renewals.is_empty() { BTreeSet::new() } else { process.holder.membership().nodes() };
        let mut requests = Vec::new();
        let mut over = Vec::new();
        for (&group, (sealer, target)) in &mut process.sealers {
            requests.extend(sealer.step(now).into_iter().map(|m| (sealer.unanswered(), m)));
            match sealer.state(now) {
                SealState::Ready => over.push((group, *target, Some(sealer.epoch()), None)),
                SealState::Superseded { seen } => over.push((group, *target, None, Some(seen))),
                SealState::Waiting | SealState::WaitUntil(_) => {}
            }
        }
        for message in renewals {
            self.send(id, voters.iter().copied(), &message);
        }
        for (to, message) in requests {
            self.send(id, to, &message);
        }
        for (group, target, ready, seen) in over {
            if let Some(process) = self.process(id) {
                process.sealers.remove(&group);
            }
            if let Some(epoch) = ready {
                self.propose(id, group, target, epoch);
            }
            if let Some(seen) = seen {
                self.seal(id, group, target, seen.next());
            }
        }
        self.arm(id);
    }

    fn arm(&mut self, id: NodeId) {
        let (now, clock) = (self.now, self.clocks[&id]);
        let node = self.node(id);
        let Some(wakeup) = node.process.as_ref().and_then(Process::next_wakeup) else { return };
        // A microsecond at least, so that a deadline that does not move cannot stop time.
        let at = clock.when(wakeup, now.plus_us(1));
        if node.wake_at.is_none_or(|wake_at| at < wake_at) {
            node.wake_at = Some(at);
            self.schedule(at, Happening::Wake(id));
        }
    }

    /// Lets a node begin to take a group, whatever it knows.
    pub(super) fn seal(&mut self, id: NodeId, group: GroupId, target: NodeId, epoch: Epoch) {
        let (now, timing) = (self.local(id), self.setup.timing);
        self.seal_seq += 1_000_000;
        let seq = self.seal_seq;
        if let Some(process) = self.process(id) {
            let membership = process.holder.membership().clone();
            let sealer = Sealer::new(group, epoch, membership, seq, now, timing);
            process.sealers.insert(group, (sealer, target));
        }
        self.arm(id);
    }

    /// Commits an owner, if the epoch is new.
    pub(super) fn propose(&mut self, by: NodeId, group: GroupId, node: NodeId, epoch: Epoch) {
        let patient_until = self.local(by) + self.setup.timing.quarantine();
        if let Some(process) = self.process(by) {
            process.patience.insert(group, patient_until);
        }
        if self.owners.get(&group).is_none_or(|&(_, current)| current < epoch) {
            self.owners.insert(group, (node, epoch));
            self.commit(Entry::Acquire { group, node, epoch });
        }
    }

    /// Adds an entry that all nodes hear of sooner or later.
    pub(super) fn commit(&mut self, entry: Entry) {
        self.log.push(entry);
        let entries = self.log.len();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in ids {
            let at = self.now.plus_us(self.apply_lag_us());
            self.schedule(at, Happening::Apply { node, entries });
        }
    }

    fn apply_lag_us(&mut self) -> u64 {
        let (low, high) = self.setup.delay_us;
        let most = match self.rng.random_range(0..100) {
            0..80 => high,
            _ if self.calm => high,
            80..95 => high + 100_000,
            _ => 1_000_000,
        };
        self.rng.random_range(low..=most)
    }

    fn apply_up_to(&mut self, id: NodeId, entries: usize) {
        if self.node(id).process.is_none() {
            return;
        }
        self.append(id, entries);
        for index in self.node(id).applied..entries {
            self.node(id).applied = index + 1;
            self.apply(id, index);
        }
        self.poll(id);
    }

    /// A node's log grows to at least so many entries, which its voter notices.
    pub(super) fn append(&mut self, id: NodeId, entries: usize) {
        let node = self.node(id);
        node.appended = node.appended.max(entries);
        let appended = node.appended;
        let index = self.membership(appended).log_index;
        if let Some(process) = self.process(id) {
            process.voter.set_membership_index(index);
        }
    }

    fn apply(&mut self, id: NodeId, index: usize) {
        let now = self.local(id);
        match self.log[index].clone() {
            Entry::Members(_) => {
                let membership = self.membership(index + 1);
                if let Some(process) = self.process(id) {
                    process.holder.set_membership(membership, now);
                }
            }
            Entry::Acquire { group, node, epoch } => {
                let Some(process) = self.process(id) else { return };
                process.sealers.retain(|&g, (sealer, _)| g != group || epoch < sealer.epoch());
                if node == id {
                    process.holder.acquire(group, epoch, now);
                } else if process.holder.epoch(group).is_some_and(|own| own < epoch) {
                    self.give_up(id, group);
                }
            }
        }
    }

    /// An owner shuts its fence and, mostly, says so.
    pub(super) fn give_up(&mut self, id: NodeId, group: GroupId) {
        let now = self.local(id);
        let says_so = self.calm || self.rng.random_bool(0.8);
        let Some(process) = self.process(id) else { return };
        let voters = process.holder.membership().nodes();
        let release = if says_so { process.holder.release(group, now) } else { None };
        process.holder.abandon(group);
        self.fences.shut(group, id);
        if let Some(release) = release {
            self.send(id, voters, &release);
        }
    }

    /// The newest membership among the first entries of the log.
    pub(super) fn membership(&self, entries: usize) -> Membership {
        let members = |(i, entry): (usize, &Entry)| match entry {
            Entry::Members(voters) => Some((i + 1, voters.clone())),
            Entry::Acquire { .. } => None,
        };
        let (index, voters) = self.log[..entries]
            .iter()
            .enumerate()
            .rev()
            .find_map(members)
            .expect("the first entry is a membership");
        Membership { log_index: u64::try_from(index).expect("a log in memory"), voters }
    }

    /// A process starts from what is on its disk. The kernel's fence was not touched.
    pub(super) fn start(&mut self, id: NodeId) {
        if self.node(id).process.is_some() {
            return;
        }
        let (now, setup, applied) = (self.local(id), self.setup, self.node(id).applied);
        let membership = self.membership(applied);
        self.node(id).process = Some(Process::start(id, now, setup.timing, membership, setup.bug));
        self.append(id, applied);
        let mut owners = BTreeMap::new();
        for entry in &self.log[..applied] {
            if let Entry::Acquire { group, node, epoch } = entry {
                owners.insert(*group, (*node, *epoch));
            }
        }
        for (group, (node, epoch)) in owners {
            if node == id
                && let Some(process) = self.process(id)
            {
                process.holder.acquire(group, epoch, now);
            }
        }
        let (at, entries) = (self.now.plus_us(self.apply_lag_us()), self.log.len());
        self.schedule(at, Happening::Apply { node: id, entries });
        self.arm(id);
    }
}
