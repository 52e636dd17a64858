//! Keeps [`RaftStatus`] up to date.

use super::{Inner, Membership, RaftStatus, Role};
use crate::raft::TypeConfig;
use model::NodeId;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, RaftMetrics, ServerState};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// How often a leader's quorum age is brought up to date when nothing else changes.
const AGE_EVERY: Duration = Duration::from_millis(50);

pub(super) fn status(metrics: &RaftMetrics<TypeConfig>) -> RaftStatus {
    let index = |id: &Option<crate::raft::LogId>| id.as_ref().map(|id| id.index);
    let stored = &metrics.membership_config;
    let membership = stored.membership();
    RaftStatus {
        node: NodeId(metrics.id),
        leader: metrics.current_leader.map(NodeId),
        term: metrics.current_term,
        role: match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        },
        last_log: metrics.last_log_index.unwrap_or(0),
        applied: index(&metrics.last_applied).unwrap_or(0),
        committed: index(&metrics.local_committed).unwrap_or(0),
        snapshot: index(&metrics.snapshot),
        purged: index(&metrics.purged),
        quorum_acked_age: metrics.last_quorum_acked.as_ref().map(|at| at.elapsed()),
        membership: Membership {
            log_index: index(stored.log_id()).unwrap_or(0),
            voters: membership
                .get_joint_config()
                .iter()
                .map(|set| set.iter().copied().map(NodeId).collect())
                .collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            addresses: membership
                .nodes()
                .map(|(id, node)| (NodeId(*id), node.addr.clone()))
                .collect(),
        },
        peers: metrics
            .replication
            .iter()
            .flatten()
            .filter(|(id, _)| **id != metrics.id)
            .map(|(id, matched)| (NodeId(*id), index(matched)))
            .collect(),
    }
}

/// Publishes until the store stops; also notices when Raft stops by itself.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut metrics = inner.raft.metrics();
    let mut age = tokio::time::interval(AGE_EVERY);
    age.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cloned at once: a borrow that is held blocks Raft itself.
        let now = metrics.borrow_and_update().clone();
        if let Err(fatal) = &now.running_state {
            if !inner.stop.is_cancelled() {
                inner.fail(format!("raft has stopped: {fatal}"));
            }
            return;
        }
        let status = status(&now);
        let members = status.membership.addresses.clone();
        inner.peers.retain(|node| members.contains_key(&NodeId(node)));
        inner.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
        tokio::select! {
            () = inner.stop.cancelled() => return,
            changed = metrics.changed() => if changed.is_err() {
                if !inner.stop.is_cancelled() {
                    inner.fail("raft has stopped".to_owned());
                }
                return;
            },
            _ = age.tick() => {}
        }
    }
}
