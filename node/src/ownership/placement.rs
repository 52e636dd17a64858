//! Where the Raft leadership should be: on a node that owns nothing and whose disk is fast.
//!
//! The death of an owner that also leads costs an election on top of the change of owner.

use model::{NodeId, NodeRole, Tick};
use raft_store::{RaftStatus, State};
use std::collections::BTreeSet;
use std::time::Duration;

/// Pause before the same move is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// A member that lags more entries than this is no target for the leadership.
const LAG_MAX: u64 = 100;

/// All owners of groups.
pub(super) fn owners(state: &State) -> BTreeSet<NodeId> {
    state.groups().filter_map(|g| g.owner).collect()
}

/// The voter to lead instead of this node: none of `owners`, close to the end of the log, better a
/// witness than a data node, which may be the next owner.
pub(super) fn target(
    status: &RaftStatus,
    state: &State,
    owners: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let lag = |n: NodeId| {
        let matched = (*status.peers.get(&n)?)?;
        Some(status.last_log.saturating_sub(matched))
    };
    status
        .membership
        .voters
        .iter()
        .flatten()
        .copied()
        .filter(|n| *n != status.node && !owners.contains(n))
        .filter(|n| lag(*n).is_some_and(|l| l <= LAG_MAX))
        .min_by_key(|n| state.node(*n).map(|r| r.role == NodeRole::Data))
}

/// Paces the attempts: a new situation is acted on at once, a failed attempt is repeated later.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tried: Option<(Situation, Tick)>,
}

/// What an attempt was made in: term, target, and owners.
pub(super) type Situation = (u64, NodeId, BTreeSet<NodeId>);

impl Pace {
    /// Whether to try now; notes the attempt.
    pub(super) fn due(&mut self, situation: Situation, now: Tick) -> bool {
        let waits = self.tried.as_ref().is_some_and(|(s, at)| *s == situation && now < *at + RETRY);
        if !waits {
            self.tried = Some((situation, now));
        }
        !waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ClusterId, Node, Revision, Secret, UnixMs};
    use raft_store::{Bootstrap, Command, Entry, Membership};

    fn state() -> State {
        let node = |id, role| Node {
            id: NodeId(id),
            name: format!("n{id}"),
            role,
            raft_addr: "127.0.0.1:1".parse().unwrap(),
            lease_addr: "127.0.0.1:1".parse().unwrap(),
            api_addr: "127.0.0.1:1".parse().unwrap(),
        };
        let (data, witness) = (NodeRole::Data, NodeRole::Witness);
        let command = Command::Bootstrap(Box::new(Bootstrap {
            level: raft_store::LEVEL_SUPPORTED,
            cluster_id: ClusterId("test".into()),
            nodes: vec![node(1, data), node(2, data), node(3, witness)],
            groups: vec![],
            pools: vec![],
            subscribers: vec![],
            api_users: vec![],
            jwt_secret: Secret::new("secret"),
            cookie_key: [0; 32],
        }));
        let mut state = State::new();
        let entry = Entry { at: UnixMs(1), client: None, trace: None, command };
        let _ = state.apply(Revision(1), &entry);
        state
    }

    #[test]
    fn leadership_goes_to_the_witness_then_to_a_standby_never_to_an_owner_or_a_laggard() {
        // owners, matched of nodes 2 and 3, target
        type Row<'a> = (&'a [u64], [Option<u64>; 2], Option<u64>);
        let rows: &[Row<'_>] = &[
            (&[1], [Some(1_000), Some(1_000)], Some(3)),
            (&[1], [Some(1_000), Some(899)], Some(2)),
            (&[1], [Some(1_000), None], Some(2)),
            (&[1, 2], [Some(1_000), Some(950)], Some(3)),
            (&[1, 2], [Some(1_000), Some(10)], None),
        ];
        let state = state();
        for (owners, [second, third], want) in rows {
            let status = RaftStatus {
                node: NodeId(1),
                last_log: 1_000,
                membership: Membership {
                    voters: vec![[1, 2, 3].map(NodeId).into()],
                    ..Membership::default()
                },
                peers: [(NodeId(2), *second), (NodeId(3), *third)].into(),
                ..RaftStatus::default()
            };
            let owners: BTreeSet<NodeId> = owners.iter().copied().map(NodeId).collect();
            let got = target(&status, &state, &owners);
            assert_eq!(got, want.map(NodeId), "{owners:?} {second:?} {third:?}");
        }
    }

    #[test]
    fn a_new_situation_is_acted_on_at_once_and_a_failed_attempt_later() {
        let situation = |term, owner| (term, NodeId(3), BTreeSet::from([NodeId(owner)]));
        let mut pace = Pace::default();
        let at = Tick::from_ms;
        assert!(pace.due(situation(1, 1), at(0)));
        assert!(!pace.due(situation(1, 1), at(1_999)), "the attempt is young");
        assert!(pace.due(situation(1, 1), at(2_000)), "once more");
        assert!(pace.due(situation(2, 1), at(2_001)), "leader again, in a new term");
        assert!(pace.due(situation(2, 2), at(2_002)), "another owner");
        assert!(!pace.due(situation(2, 2), at(2_003)));
    }
}
