//! What befalls the cluster, and the leader that keeps its groups owned.

use super::clock::TrueNs;
use super::lease::{Entry, Happening, World};
use super::net::Faults;
use model::{Epoch, GroupId, NodeId};
use quorum_lease::{Membership, Timing};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_pcg::Pcg64Mcg;

/// How often the leader looks at its own promises, in microseconds.
const LEAD_US: u64 = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blow {
    Acquire,
    Seal,
    Resign,
    Crash,
    Pause,
    Deafen,
    CutLink,
    Isolate,
    Members,
    ClockRate,
    Uncommitted,
    Leader,
    Net,
}

/// How often each blow falls, before a seed's zeal.
const BLOWS: [(Blow, u32); 13] = [
    (Blow::Acquire, 40),
    (Blow::Seal, 8),
    (Blow::Resign, 6),
    (Blow::Crash, 6),
    (Blow::Pause, 5),
    (Blow::Deafen, 6),
    (Blow::CutLink, 4),
    (Blow::Isolate, 3),
    (Blow::Members, 7),
    (Blow::ClockRate, 4),
    (Blow::Uncommitted, 2),
    (Blow::Leader, 3),
    (Blow::Net, 2),
];

/// Mostly at one end of what is allowed, where the bugs are.
pub(super) fn any_rate(rng: &mut Pcg64Mcg, timing: Timing) -> u32 {
    match rng.random_range(0..5) {
        0 | 1 => 0,
        2 | 3 => timing.drift_ppm,
        _ => rng.random_range(0..=timing.drift_ppm),
    }
}

impl World {
    /// Begins to torment the cluster. Each seed leaves some blows out and overdoes others, since
    /// all of them together hide what a few can do.
    pub fn unleash(&mut self) {
        self.calm = false;
        for (blow, _) in BLOWS {
            let zeal = *[0, 1, 1, 4].choose(&mut self.rng).unwrap_or(&1);
            self.zeal.insert(blow, if blow == Blow::Acquire { 1 } else { zeal });
        }
        self.schedule(self.now, Happening::Chaos);
    }

    /// Ends all faults: the network is whole, all nodes run and have applied all of the log. What
    /// was sent before is still under way.
    pub fn heal(&mut self) {
        self.calm = true;
        self.net.heal();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let (now, entries) = (self.now, self.log.len());
        for node in ids {
            (self.node(node).paused_until, self.node(node).deaf_until) = (now, now);
            self.start(node);
            if let Some(process) = self.process(node) {
                process.sealers.clear();
            }
            self.schedule(self.now, Happening::Apply { node, entries });
        }
    }

    /// Cuts the power of a node: its process and its kernel's fences are gone.
    pub fn power_off(&mut self, id: NodeId) {
        self.node(id).process = None;
        self.fences.power_off(id);
    }

    /// The node that may act for the group, if its fence is open.
    #[must_use]
    pub fn acting_owner(&self, group: GroupId) -> Option<NodeId> {
        let &(owner, _) = self.owners.get(&group)?;
        self.fences.open_at(group, self.now, &self.clocks).filter(|&node| node == owner)
    }

    /// Commits a planned switch without a seal.
    pub fn switch(&mut self, group: GroupId, target: NodeId) {
        let by = self.leader;
        let current = self.owners.get(&group).map_or(Epoch(0), |&(_, epoch)| epoch);
        let seen = self.process(by).map_or(Epoch(0), |p| p.voter.highest_epoch(group));
        self.propose(by, group, target, current.max(seen).next());
    }

    fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        (1..=self.setup.groups).map(GroupId)
    }

    fn any_group(&mut self) -> GroupId {
        GroupId(self.rng.random_range(1..=self.setup.groups))
    }

    fn any_node(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=self.setup.voters + self.setup.spares))
    }

    /// The leader takes groups that nobody renewed for a lease.
    pub(super) fn lead(&mut self) {
        self.schedule(self.now.plus_us(LEAD_US), Happening::Lead);
        if self.calm {
            // A leader that is no voter any more steps down.
            let voters = self.membership(self.log.len()).nodes();
            self.leader = *voters.first().expect("memberships have voters");
        }
        let id = self.leader;
        let (now, groups) = (self.local(id), self.groups());
        for group in groups {
            let target = if self.calm { None } else { Some(self.any_node()) };
            let up: Vec<NodeId> = self.up();
            let target = target.or_else(|| up.choose(&mut self.rng).copied()).unwrap_or(id);
            let current = self.owners.get(&group).map_or(Epoch(0), |&(_, epoch)| epoch);
            let Some(process) = self.process(id) else { return };
            let patient = process.patience.get(&group).is_some_and(|&until| now < until);
            let busy = process.sealers.contains_key(&group);
            if !patient && !busy && process.voter.suspects(group, now) {
                let epoch = current.max(process.voter.highest_epoch(group)).next();
                self.seal(id, group, target, epoch);
            }
        }
    }

    fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, n)| n.process.is_some()).map(|(&id, _)| id).collect()
    }

    pub(super) fn chaos(&mut self) {
        if self.calm {
            return;
        }
        let (low, high) = self.setup.chaos_us;
        let next = self.now.plus_us(self.rng.random_range(low..=high));
        self.schedule(next, Happening::Chaos);
        let (id, group) = (self.any_node(), self.any_group());
        let blow = BLOWS.choose_weighted(&mut self.rng, |&(blow, weight)| {
            weight * self.zeal.get(&blow).copied().unwrap_or(1)
        });
        match blow.map_or(Blow::Acquire, |&(blow, _)| blow) {
            Blow::Acquire => self.odd_acquire(id, group),
            Blow::Seal => self.deluded_seal(id, group),
            Blow::Resign => self.owner_resigns(group),
            Blow::Crash => self.crash_some(id),
            Blow::Pause => {
                self.node(id).paused_until = next.plus_us(self.rng.random_range(0..400_000));
            }
            Blow::Deafen => self.deafen(id),
            Blow::CutLink => self.cut_one_link(id),
            Blow::Isolate => self.isolate(id),
            Blow::Members => self.change_members(),
            Blow::ClockRate => {
                let (now, ppm) = (self.now, any_rate(&mut self.rng, self.setup.timing));
                self.clocks.entry(id).and_modify(|clock| clock.set_rate(now, ppm));
            }
            Blow::Uncommitted => self.uncommitted_members(id),
            Blow::Leader => self.leader = id,
            Blow::Net => {
                let Faults { lost, doubled, slow } = self.setup.faults;
                let mut up_to = |most| self.rng.random_range(0..=2 * most);
                self.net.faults =
                    Faults { lost: up_to(lost), doubled: up_to(doubled), slow: up_to(slow) };
            }
        }
    }

    /// As with a carrier lost on the access port; sometimes the process dies of the same cause.
    fn owner_resigns(&mut self, group: GroupId) {
        let Some(owner) = self.fences.open_at(group, self.now, &self.clocks) else { return };
        self.give_up(owner, group);
        if self.rng.random_bool(0.5) {
            self.crash(owner);
        }
    }

    /// Any node, with whatever it knows, takes itself for the leader.
    fn deluded_seal(&mut self, id: NodeId, group: GroupId) {
        let (target, jump) = (self.any_node(), self.rng.random_range(1..3));
        if let Some(process) = self.process(id) {
            let own = process.holder.epoch(group).unwrap_or_default();
            let epoch = own.max(process.voter.highest_epoch(group));
            self.seal(id, group, target, Epoch(epoch.0 + jump));
        }
    }

    /// An owner is committed without a seal: a planned switch, or a leader that did not wait. Its
    /// predecessor may not hear of it for a while, and goes on as long as it can.
    fn odd_acquire(&mut self, by: NodeId, group: GroupId) {
        let target = self.any_node();
        let acting = self.fences.open_at(group, self.now, &self.clocks);
        if let Some(owner) = acting.filter(|_| self.rng.random_bool(0.4)) {
            self.deafen(owner);
        }
        let current = self.owners.get(&group).map_or(Epoch(0), |&(_, epoch)| epoch);
        let seen = self.process(by).map_or(Epoch(0), |p| p.voter.highest_epoch(group));
        let epoch = if self.rng.random_bool(0.5) { current } else { current.max(seen) };
        self.propose(by, group, target, epoch.next());
    }

    fn deafen(&mut self, id: NodeId) {
        self.node(id).deaf_until = self.now.plus_us(self.rng.random_range(0..1_500_000));
    }

    /// Nodes that share a power strip die together.
    fn crash_some(&mut self, id: NodeId) {
        self.crash(id);
        while self.rng.random_bool(0.5) {
            let other = self.any_node();
            self.crash(other);
        }
    }

    fn crash(&mut self, id: NodeId) {
        if self.node(id).process.take().is_none() {
            return;
        }
        if self.rng.random_bool(0.3) {
            self.fences.power_off(id);
        }
        if self.rng.random_bool(0.3) {
            // What was applied, but not yet in a snapshot, is applied again only when the leader
            // tells that it is committed.
            let applied = self.node(id).applied;
            self.node(id).applied =
                self.rng.random_range(applied.saturating_sub(5).max(1)..=applied);
        }
        let longest = if self.rng.random_bool(0.8) { 60_000 } else { 1_000_000 };
        let at = self.now.plus_us(self.rng.random_range(1_000..longest));
        self.schedule(at, Happening::Restart(id));
    }

    fn cut_one_link(&mut self, from: NodeId) {
        let (to, until) =
            (self.any_node(), self.now.plus_us(self.rng.random_range(10_000..800_000)));
        self.net.cut(from, to, until);
    }

    fn isolate(&mut self, id: NodeId) {
        let until = self.now.plus_us(self.rng.random_range(10_000..800_000));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for other in ids {
            self.net.cut(id, other, until);
            self.net.cut(other, id, until);
        }
    }

    /// A follower's log holds a membership that will be truncated.
    fn uncommitted_members(&mut self, id: NodeId) {
        let index = u64::try_from(self.log.len()).expect("a log in memory") + 1;
        if let Some(process) = self.process(id) {
            process.voter.set_membership_index(index);
        }
    }

    /// Two changes are a lease apart, as the protocol asks for.
    fn change_members(&mut self) {
        let newest = self.membership(self.log.len());
        let [old] = newest.voters.as_slice() else { return };
        if self.now < self.next_change_at {
            return;
        }
        let mut new: Vec<NodeId> = self.nodes.keys().copied().collect();
        new.shuffle(&mut self.rng);
        new.truncate(old.len());
        let joint = vec![old.clone(), new];
        if self.commit_members(joint) {
            let longest = if self.rng.random_bool(0.7) { 3_000 } else { 300_000 };
            let at = self.now.plus_us(self.rng.random_range(0..longest));
            self.schedule(at, Happening::LeaveJoint);
        }
    }

    pub(super) fn leave_joint(&mut self) {
        let newest = self.membership(self.log.len());
        let [_, new] = newest.voters.as_slice() else { return };
        if self.commit_members(vec![new.clone()]) {
            let pause = self.setup.timing.quarantine() + self.setup.timing.margin;
            let us = u64::try_from(pause.as_micros()).expect("a lease of seconds");
            self.next_change_at = self.now.plus_us(us);
        } else {
            self.schedule(self.now.plus_us(50_000), Happening::LeaveJoint);
        }
    }

    /// Commits a membership when a quorum of running nodes has it in its log, and only these.
    fn commit_members(&mut self, voters: Vec<Vec<NodeId>>) -> bool {
        let proposed = Membership { log_index: 0, voters: voters.clone() };
        let now = self.now;
        let mut have = self.up();
        have.retain(|id| {
            let node = &self.nodes[id];
            node.paused_until.max(node.deaf_until) <= now && proposed.contains(*id)
        });
        have.shuffle(&mut self.rng);
        let enough = (0..=have.len()).find(|&n| proposed.has_quorum(|id| have[..n].contains(&id)));
        let Some(enough) = enough else { return false };
        self.commit(Entry::Members(voters));
        let entries = self.log.len();
        for id in have.into_iter().take(enough) {
            self.append(id, entries);
        }
        true
    }

    /// The true time so many milliseconds from now.
    #[must_use]
    pub fn in_ms(&self, ms: u64) -> TrueNs {
        self.now.plus_us(ms * 1_000)
    }
}
