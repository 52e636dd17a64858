//! The Raft membership follows the replicated list of nodes; the leader carries it out.
//!
//! A node that joined becomes a learner, then a voter once it has caught up. A node that was removed
//! leaves. One change at a time, with a pause that the quorum lease asks for between two of them.

use crate::clock;
use crate::peer::Local;
use model::NodeId;
use quorum_lease::Timing;
use raft_store::{RaftStatus, Role};
use std::collections::BTreeSet;
use std::time::Duration;
use tracing::{debug, info};

const LOOK: Duration = Duration::from_millis(100);
/// A learner this close to the leader's log may vote.
const LAG_MAX: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AddLearner(NodeId),
    Promote(NodeId),
    Remove(NodeId),
}

/// Runs until the store stops.
pub async fn run(local: Local, timing: Timing) {
    loop {
        clock::until(Some(clock::now() + LOOK)).await;
        if local.store.status().has_changed().is_err() {
            return;
        }
        let status = local.store.status().borrow().clone();
        if status.role != Role::Leader {
            continue;
        }
        let state = local.store.state();
        let wanted: BTreeSet<NodeId> = state.nodes().map(|n| n.id).collect();
        let Some(step) = next_step(&wanted, &status) else { continue };
        let result = match step {
            Step::AddLearner(id) => match state.node(id) {
                Some(node) => local.store.add_learner(id, node.raft_addr).await,
                None => Ok(()),
            },
            Step::Promote(id) => local.store.promote(id).await,
            Step::Remove(id) => local.store.remove(id).await,
        };
        match result {
            Ok(()) => info!(?step, "membership changed"),
            Err(error) => debug!(?step, %error, "membership not changed yet"),
        }
        clock::until(Some(clock::now() + timing.quarantine())).await;
    }
}

fn next_step(wanted: &BTreeSet<NodeId>, status: &RaftStatus) -> Option<Step> {
    // Nothing while joint or before anything is known: an empty list is a state not yet read.
    if wanted.is_empty() || status.membership.voters.len() != 1 {
        return None;
    }
    let voters = &status.membership.voters[0];
    let learners = &status.membership.learners;
    let matched = |id: &NodeId| status.peers.get(id).copied().flatten().unwrap_or(0);
    let caught_up =
        |id: &&NodeId| matched(id) > 0 && status.last_log.saturating_sub(matched(id)) <= LAG_MAX;
    if let Some(id) = learners.iter().filter(|id| wanted.contains(id)).find(caught_up) {
        return Some(Step::Promote(*id));
    }
    // First, since the newcomer may have the address of the one that it replaces.
    if let Some(id) = voters.iter().chain(learners).find(|id| !wanted.contains(id)) {
        return Some(Step::Remove(*id));
    }
    let absent = wanted.iter().find(|id| !voters.contains(id) && !learners.contains(id));
    absent.map(|id| Step::AddLearner(*id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft_store::Membership;

    fn set(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn members_follow_the_list_of_nodes_one_step_at_a_time() {
        // wanted, voters, learners, their match, step
        type Row<'a> = (&'a [u64], &'a [&'a [u64]], &'a [u64], u64, Option<Step>);
        let rows: &[Row<'_>] = &[
            (&[], &[&[1]], &[], 0, None),
            (&[1], &[&[1]], &[], 0, None),
            (&[1, 2], &[&[1]], &[], 0, Some(Step::AddLearner(NodeId(2)))),
            (&[1, 2], &[&[1]], &[2], 0, None),
            (&[1, 2], &[&[1]], &[2], 1, None),
            (&[1, 2], &[&[1]], &[2], 950, Some(Step::Promote(NodeId(2)))),
            (&[1, 2], &[&[1], &[1, 2]], &[], 950, None),
            (&[1], &[&[1, 2]], &[], 950, Some(Step::Remove(NodeId(2)))),
            (&[1, 3], &[&[1, 2]], &[], 950, Some(Step::Remove(NodeId(2)))),
            (&[1, 3], &[&[1]], &[2], 950, Some(Step::Remove(NodeId(2)))),
        ];
        for (wanted, voters, learners, matched, want) in rows {
            let status = RaftStatus {
                last_log: 1_000,
                membership: Membership {
                    voters: voters.iter().map(|v| set(v)).collect(),
                    learners: set(learners),
                    ..Membership::default()
                },
                peers: learners.iter().map(|l| (NodeId(*l), Some(*matched))).collect(),
                ..RaftStatus::default()
            };
            assert_eq!(
                next_step(&set(wanted), &status),
                *want,
                "{wanted:?} {voters:?} {learners:?} {matched}"
            );
        }
    }
}
