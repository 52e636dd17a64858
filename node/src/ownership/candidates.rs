//! Asking nodes whether they would take a group, and choosing among them.

use super::SwitchError;
use crate::clock;
use crate::peer;
use model::{Group, GroupId, NodeId, Revision};
use raft_store::State;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a node would rather not take a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unwilling {
    pub(super) why: String,
    /// How far its kernel is, if it would serve when nobody is better.
    pub(super) last_resort: Option<Revision>,
}

pub(super) type Answer = Result<(), Unwilling>;
pub(super) type Answers = BTreeMap<NodeId, Answer>;

pub(super) fn answer_of(asked: Result<peer::Candidate, String>) -> Answer {
    match asked {
        Ok(peer::Candidate { refusal: None, .. }) => Ok(()),
        Ok(peer::Candidate { refusal: Some(why), last_resort, programmed }) => {
            Err(Unwilling { why, last_resort: last_resort.then_some(programmed) })
        }
        Err(why) => Err(Unwilling { why, last_resort: None }),
    }
}

/// Collects answers; once one node has said yes, the silent ones get only a moment more.
///
/// A dead owner does not answer, and waiting for its time-out would be most of the takeover.
pub(super) async fn first_answers<F>(asked: Vec<F>) -> Answers
where
    F: Future<Output = (NodeId, Answer)>,
{
    use futures::StreamExt as _;
    const GRACE: Duration = Duration::from_millis(3);
    let mut answers = Answers::new();
    let mut pending: futures::stream::FuturesUnordered<F> = asked.into_iter().collect();
    let mut stop_at = None;
    loop {
        let next = tokio::select! {
            answer = pending.next() => answer,
            () = clock::until(stop_at) => None,
        };
        let Some((node, answer)) = next else { return answers };
        if answer.is_ok() && stop_at.is_none() {
            stop_at = Some(clock::now() + GRACE);
        }
        answers.insert(node, answer);
    }
}

/// The best of those that said yes: not the failed one if there is another, then by configured
/// preference, then the one with the fewest groups, then the lowest id.
pub(super) fn pick(
    state: &State,
    group: GroupId,
    answers: &Answers,
    failed: Option<NodeId>,
) -> Option<NodeId> {
    let record = state.group(group)?;
    let willing = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(node, _)| *node);
    willing.min_by_key(|node| rank(state, record, failed, *node))
}

/// When nobody said yes: the one among those that could still serve whose kernel has the most.
///
/// Sessions that are in a kernel go on there, whatever its disk does or the next session meets;
/// without an owner they would all end.
pub(super) fn last_resort(
    state: &State,
    group: GroupId,
    answers: &Answers,
    failed: Option<NodeId>,
) -> Option<NodeId> {
    let record = state.group(group)?;
    let could = |(node, answer): (&NodeId, &Answer)| {
        let programmed = answer.as_ref().err()?.last_resort?;
        Some((programmed, *node))
    };
    let key = |(programmed, node): &(Revision, NodeId)| {
        (Reverse(*programmed), rank(state, record, failed, *node))
    };
    answers.iter().filter_map(could).min_by_key(key).map(|(_, node)| node)
}

/// Lower is better.
fn rank(
    state: &State,
    record: &Group,
    failed: Option<NodeId>,
    node: NodeId,
) -> (bool, usize, usize, NodeId) {
    let load = state.groups().filter(|g| g.owner == Some(node)).count();
    let preference = record.preferred.iter().position(|p| *p == node).unwrap_or(usize::MAX);
    (Some(node) == failed, preference, load, node)
}

pub(super) fn no_candidate(answers: &Answers) -> SwitchError {
    let words: Vec<String> = answers
        .iter()
        .filter_map(|(node, answer)| {
            answer.as_ref().err().map(|unwilling| format!("node {node}: {}", unwilling.why))
        })
        .collect();
    SwitchError::NoCandidate(if words.is_empty() {
        "nobody answered".into()
    } else {
        words.join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ClusterId, Epoch, GroupService, Node, NodeRole, Secret, UnixMs};
    use raft_store::{Bootstrap, Command, Entry};

    /// Three data nodes; group 1 prefers node 2, group 2 is owned by node 1.
    fn state() -> State {
        let node = |id: u16| Node {
            id: NodeId(id.into()),
            name: format!("n{id}"),
            role: NodeRole::Data,
            raft_addr: ([127, 0, 0, 1], id).into(),
            lease_addr: ([127, 0, 0, 1], id).into(),
            api_addr: ([127, 0, 0, 1], id).into(),
        };
        let group = |id, preferred| Group {
            id: GroupId(id),
            name: format!("g{id}"),
            vrid: u8::try_from(id).unwrap(),
            core_address: std::net::Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()),
            core_prefix_len: 24,
            preferred,
            ac_name: "ac".into(),
            services: vec![GroupService::Pppoe],
            owner: None,
            epoch: Epoch(0),
            revision: Revision(0),
        };
        let bootstrap = Command::Bootstrap(Box::new(Bootstrap {
            cluster_id: ClusterId("test".into()),
            nodes: vec![node(1), node(2), node(3)],
            groups: vec![group(1, vec![NodeId(2)]), group(2, vec![])],
            pools: vec![],
            subscribers: vec![],
            api_users: vec![],
            jwt_secret: Secret::new("secret"),
            cookie_key: [0; 32],
            level: 1,
        }));
        let acquire = Command::Acquire { group: GroupId(2), node: NodeId(1), epoch: Epoch(1) };
        let mut state = State::new();
        for (revision, command) in (1..).zip([bootstrap, acquire]) {
            let entry = Entry { at: UnixMs(1), client: None, trace: None, command };
            let _ = state.apply(Revision(revision), &entry);
        }
        assert_eq!(state.group(GroupId(2)).unwrap().owner, Some(NodeId(1)));
        state
    }

    #[test]
    fn the_fit_come_first_and_the_unfit_only_when_nobody_is() {
        let yes: Answer = Ok(());
        let no = |last_resort: Option<u64>| -> Answer {
            Err(Unwilling { why: "slow".into(), last_resort: last_resort.map(Revision) })
        };
        // answers of nodes 1 to 3, the failed one, who is picked, who is the last resort
        type Row = ([Answer; 3], Option<u64>, Option<u64>, Option<u64>, &'static str);
        let rows: &[Row] = &[
            ([yes.clone(), yes.clone(), yes.clone()], None, Some(2), None, "preferred"),
            ([yes.clone(), yes.clone(), yes.clone()], Some(2), Some(3), None, "fewest groups"),
            (
                [yes.clone(), no(Some(9)), no(None)],
                Some(1),
                Some(1),
                Some(2),
                "fit, though it failed",
            ),
            ([no(Some(8)), no(Some(9)), no(None)], Some(2), None, Some(2), "the most programmed"),
            ([no(Some(9)), no(Some(9)), no(None)], Some(2), None, Some(1), "not the failed one"),
            ([no(None), no(None), no(None)], None, None, None, "nobody could serve"),
        ];
        let state = state();
        for (answers, failed, want, resort, what) in rows {
            let answers: Answers = (1..).map(NodeId).zip(answers.iter().cloned()).collect();
            let failed = failed.map(NodeId);
            let got = pick(&state, GroupId(1), &answers, failed);
            assert_eq!(got, want.map(NodeId), "{what}");
            let got = last_resort(&state, GroupId(1), &answers, failed);
            assert_eq!(got, resort.map(NodeId), "{what}");
        }
    }
}
