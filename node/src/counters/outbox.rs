//! What has to be told to whom: each node gets what has changed since it last confirmed. No clock, no
//! network.

use super::wire::{Frame, RECORDS_MAX, Record};
use dataplane::Counters;
use model::{Epoch, GroupId, NodeId, Revision, SessionId};
use std::collections::{BTreeMap, BTreeSet};

/// Values of one group as of the newest round, each with the round in which it last changed.
#[derive(Debug)]
struct Rows {
    epoch: Epoch,
    values: BTreeMap<SessionId, (Counters, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// It has confirmed everything up to this round.
    confirmed: u64,
    incarnation: Option<u64>,
    busy: bool,
}

/// What one node is to be told in one go.
#[derive(Debug, PartialEq, Eq)]
pub struct Pass {
    /// Who.
    pub to: NodeId,
    /// The round that its confirmation stands for.
    pub round: u64,
    /// In order; at least one per group, so that a restarted node is noticed.
    pub frames: Vec<Frame>,
}

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All frames were confirmed, by processes with these numbers.
    Confirmed(BTreeSet<u64>),
    /// Not all were.
    Failed,
}

/// The sending side of one node.
#[derive(Debug, Default)]
pub struct Outbox {
    round: u64,
    groups: BTreeMap<GroupId, Rows>,
    peers: BTreeMap<NodeId, Peer>,
}

impl Outbox {
    /// Begins a round with the values of now of all groups that this node owns.
    pub fn round(&mut self, owned: BTreeMap<GroupId, (Epoch, BTreeMap<SessionId, Counters>)>) {
        self.round += 1;
        self.groups.retain(|group, _| owned.contains_key(group));
        for (group, (epoch, values)) in owned {
            let rows = self.groups.entry(group).or_insert(Rows { epoch, values: BTreeMap::new() });
            if rows.epoch != epoch {
                // Others may know more than this node, or have taken over in between: all is news.
                *rows = Rows { epoch, values: BTreeMap::new() };
            }
            let old = std::mem::take(&mut rows.values);
            let changed = |id: &SessionId, value: Counters| match old.get(id) {
                Some((was, round)) if *was == value => *round,
                Some(_) | None => self.round,
            };
            rows.values =
                values.into_iter().map(|(id, value)| (id, (value, changed(&id, value)))).collect();
        }
    }

    /// What to tell each of `nodes` that is not being told something already.
    pub fn passes(&mut self, nodes: &BTreeSet<NodeId>, revision: Revision) -> Vec<Pass> {
        self.peers.retain(|node, _| nodes.contains(node));
        let mut passes = Vec::new();
        if self.groups.is_empty() {
            return passes;
        }
        for &to in nodes {
            let peer = self.peers.entry(to).or_default();
            if std::mem::replace(&mut peer.busy, true) {
                continue;
            }
            let mut frames = Vec::new();
            for (&group, rows) in &self.groups {
                let news = rows.values.iter().filter(|(_, (_, round))| *round > peer.confirmed);
                let records: Vec<Record> =
                    news.map(|(id, (value, _))| Record::new(*id, *value)).collect();
                frames.extend(frames_of(group, rows.epoch, revision, false, &records));
            }
            passes.push(Pass { to, round: self.round, frames });
        }
        passes
    }

    /// Notes how a pass ended.
    pub fn ended(&mut self, to: NodeId, round: u64, outcome: &Outcome) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        peer.busy = false;
        let Outcome::Confirmed(incarnations) = outcome else { return };
        let same = incarnations.iter().all(|i| peer.incarnation.is_none_or(|was| was == *i));
        // A process that has started since then knows nothing of what the former one confirmed.
        peer.confirmed = if same && incarnations.len() <= 1 { round } else { 0 };
        peer.incarnation = incarnations.last().copied().filter(|_| incarnations.len() == 1);
    }
}

/// Cuts records into frames; no records give one empty frame.
#[must_use]
pub fn frames_of(
    group: GroupId,
    epoch: Epoch,
    revision: Revision,
    last: bool,
    records: &[Record],
) -> Vec<Frame> {
    let frame =
        |records: &[Record]| Frame { group, epoch, revision, last, records: records.to_vec() };
    if records.is_empty() {
        return vec![frame(&[])];
    }
    records.chunks(RECORDS_MAX).map(frame).collect()
}
