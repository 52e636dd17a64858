//! Proposals, reads and the change feed on three nodes, across the death of a leader and a restart from disk.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod cluster_common;

use cluster_common::{Cluster, PATIENCE, TIMING, has, put, read, until};
use model::{NodeId, Revision};
use raft_store::{Command, ProposeError, Refusal, Reply};
use std::time::Duration;
use tokio::time::{Instant, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_node_takes_proposals_and_all_apply_them_in_one_order() {
    let cluster = Cluster::started(3).await;
    let mut feeds: Vec<_> =
        cluster.stores.values().map(|s| s.changes(Revision(0)).unwrap()).collect();
    let mut calls = vec![];
    for n in 0..60 {
        let store = cluster.store(n % 3 + 1).clone();
        calls.push(tokio::spawn(async move { store.propose(put(&format!("user{n}"))).await }));
    }
    let mut revisions = vec![];
    for call in calls {
        let done = call.await.unwrap().unwrap();
        assert_eq!(done.reply, Reply::Done);
        revisions.push(done.revision);
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 60, "each proposal has a revision of its own");
    cluster.all_applied(*revisions.last().unwrap()).await;
    for (node, store) in &cluster.stores {
        for n in 0..60 {
            assert!(has(store, &format!("user{n}")), "user{n} on node {node}");
        }
    }
    let mut seen = vec![];
    for feed in &mut feeds {
        // The bootstrap and 60 subscribers.
        seen.push(read(feed, 61).await);
    }
    assert!(seen.iter().all(|s| s[1..] == revisions), "{seen:?}");
    let metrics = cluster.store(1).metrics();
    assert!(metrics.flushes > 0 && metrics.entries_appended >= 61, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refusal_is_a_reply_and_a_repetition_is_applied_once() {
    let cluster = Cluster::started(3).await;
    let follower = cluster.followers().await[0];
    let store = &cluster.stores[&follower];
    let refused = store.propose(Command::RemoveSubscriber("nobody".to_owned())).await.unwrap();
    assert_eq!(refused.reply, Reply::Refused(Refusal::UnknownSubscriber));
    let within = Duration::from_secs(10);
    let first = store.propose_as(put("a"), (7, 1), None, within).await.unwrap();
    let leader = cluster.leader().await;
    let gone = Command::RemoveSubscriber("a".to_owned());
    cluster.stores[&leader].propose_as(gone, (7, 2), None, within).await.unwrap();
    let again = cluster.stores[&leader].propose_as(put("a"), (7, 1), None, within).await.unwrap();
    assert_eq!(again.reply, first.reply);
    assert!(!has(&cluster.stores[&leader], "a"), "the repetition was applied a second time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_index_on_any_node_sees_what_was_acknowledged_before() {
    let cluster = Cluster::started(3).await;
    for n in 0..30 {
        let writer = cluster.store(n % 3 + 1);
        let reader = cluster.store((n + 1) % 3 + 1);
        let done = writer.propose(put(&format!("user{n}"))).await.unwrap();
        let seen = reader.read_index().await.unwrap();
        assert!(seen >= done.revision, "{seen} < {}", done.revision);
        assert!(has(reader, &format!("user{n}")), "read {n}");
    }
    let mut reads = vec![];
    for _ in 0..200 {
        let store = cluster.store(2).clone();
        reads.push(tokio::spawn(async move { store.read_index().await }));
    }
    for r in reads {
        r.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let survivor = cluster.followers().await[0];
    let mut feed = cluster.stores[&survivor].changes(Revision(0)).unwrap();
    let client = cluster.stores[&survivor].clone();
    let writing = tokio::spawn(async move {
        let mut acknowledged = vec![];
        for n in 0..150 {
            let name = format!("user{n}");
            let within = Duration::from_secs(20);
            let done = client.propose_as(put(&name), (1, n), None, within).await;
            acknowledged.push((name, done.expect("a proposal that may be repeated succeeds")));
        }
        acknowledged
    });
    read(&mut feed, 20).await;
    let killed = Instant::now();
    cluster.stop(leader).await;
    cluster.leader().await;
    let bound = 6 * TIMING.election_max;
    assert!(killed.elapsed() < bound, "a new leader took {:?}", killed.elapsed());
    let acknowledged = timeout(PATIENCE, writing).await.unwrap().unwrap();
    cluster.start(leader).await;
    let last = acknowledged.iter().map(|(_, done)| done.revision).max().unwrap();
    cluster.all_applied(last).await;
    for (node, store) in &cluster.stores {
        for (name, _) in &acknowledged {
            assert!(has(store, name), "{name} on node {node}");
        }
    }
    read(&mut feed, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_quorum_a_proposal_is_refused_and_all_nodes_come_back_from_disk() {
    let mut cluster = Cluster::started(3).await;
    for n in 0..40 {
        cluster.store(1).propose(put(&format!("user{n}"))).await.unwrap();
    }
    let leader = cluster.leader().await;
    for follower in cluster.followers().await {
        cluster.stop(follower).await;
    }
    let lonely = cluster.stores[&leader].clone();
    until(&lonely, "the quorum's age grows", |s| {
        s.quorum_acked_age.is_none_or(|age| age > 2 * TIMING.election_max)
    })
    .await;
    let refused = lonely.propose(put("late")).await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoLeader { .. }), "{refused:?}");
    let refused = lonely.read_index().await.unwrap_err();
    assert!(matches!(refused, ProposeError::NoLeader { .. }), "{refused:?}");
    drop(lonely);
    cluster.stop(leader).await;
    for node in [1, 2, 3] {
        cluster.start(NodeId(node)).await;
    }
    cluster.leader().await;
    let seen = cluster.store(2).read_index().await.unwrap();
    cluster.all_applied(seen).await;
    for (node, store) in &cluster.stores {
        assert!((0..40).all(|n| has(store, &format!("user{n}"))), "node {node}");
        assert!(!has(store, "late"), "node {node}");
    }
}
