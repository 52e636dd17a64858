//! The checker: at no true time are two fences of one group open.

use super::clock::{DriftingClock, TrueNs};
use model::{GroupId, NodeId, Tick};
use std::collections::BTreeMap;

/// Two nodes that may forward for one group at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When the second fence opened or went on.
    pub at: TrueNs,
    /// The group.
    pub group: GroupId,
    /// The node whose fence was open.
    pub first: NodeId,
    /// The node whose fence opened.
    pub second: NodeId,
}

/// The fences as the kernels hold them: they outlive the process that set them.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    until: BTreeMap<(GroupId, NodeId), Tick>,
    last_open: BTreeMap<GroupId, NodeId>,
    /// How often a group's fence opened at another node than before.
    pub takeovers: u64,
    /// The first violation.
    pub violation: Option<Violation>,
}

impl Fences {
    /// Moves a fence forward and checks all others.
    pub fn open(
        &mut self,
        group: GroupId,
        node: NodeId,
        until: Tick,
        now: TrueNs,
        clocks: &BTreeMap<NodeId, DriftingClock>,
    ) {
        let fence = self.until.entry((group, node)).or_insert(until);
        *fence = until.max(*fence);
        if self.last_open.insert(group, node) != Some(node) {
            self.takeovers += 1;
        }
        let other =
            clocks.keys().copied().find(|&n| n != node && self.is_open(group, n, now, clocks));
        if let (Some(first), None) = (other, self.violation) {
            self.violation = Some(Violation { at: now, group, first, second: node });
        }
    }

    /// Shuts a fence.
    pub fn shut(&mut self, group: GroupId, node: NodeId) {
        self.until.remove(&(group, node));
    }

    /// Shuts all fences of a node that lost its power.
    pub fn power_off(&mut self, node: NodeId) {
        self.until.retain(|&(_, n), _| n != node);
    }

    /// Whether the fence is open at a true time.
    #[must_use]
    pub fn is_open(
        &self,
        group: GroupId,
        node: NodeId,
        now: TrueNs,
        clocks: &BTreeMap<NodeId, DriftingClock>,
    ) -> bool {
        let until = self.until.get(&(group, node));
        until.is_some_and(|&until| clocks[&node].at(now) < until)
    }

    /// The node whose fence is open, if any.
    #[must_use]
    pub fn open_at(
        &self,
        group: GroupId,
        now: TrueNs,
        clocks: &BTreeMap<NodeId, DriftingClock>,
    ) -> Option<NodeId> {
        clocks.keys().copied().find(|&node| self.is_open(group, node, now, clocks))
    }
}
