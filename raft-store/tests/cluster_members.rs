//! Members, leadership, snapshots, and who may connect.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod cluster_common;

use cluster_common::{Cluster, PATIENCE, has, put, until};
use model::{ClusterId, NodeId, Revision};
use raft_store::{
    CallError, ClusterCa, Command, Identity, LEVEL_SUPPORTED, MemberError, OpenError, Store,
    TransferError,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leadership_moves_to_a_voter_and_back_from_any_node() {
    let cluster = Cluster::started(3).await;
    let from = cluster.leader().await;
    let to = cluster.followers().await[0];
    cluster.stores[&to].transfer_leader(to).await.unwrap();
    assert_eq!(cluster.leader().await, to);
    cluster.stores[&to].propose(put("after")).await.unwrap();
    until(&cluster.stores[&to], "the old leader follows", |s| {
        s.peers.get(&from).is_some_and(Option::is_some)
    })
    .await;
    cluster.stores[&to].transfer_leader(from).await.unwrap();
    assert_eq!(cluster.leader().await, from);
    let refused = cluster.stores[&to].transfer_leader(NodeId(99)).await.unwrap_err();
    assert!(matches!(refused, TransferError::Refused(_)), "{refused:?}");
    assert_eq!(cluster.leader().await, from);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wiped_node_returns_under_a_new_id_through_a_snapshot() {
    let mut cluster = Cluster::started(3).await;
    for n in 0..50 {
        cluster.store(1).propose(put(&format!("user{n}"))).await.unwrap();
    }
    let leader = cluster.leader().await;
    let lost = cluster.followers().await[0];
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.data_dir(lost)).unwrap();
    // The log before the snapshot goes, so that only the snapshot can bring the new node up.
    for store in cluster.stores.values() {
        let upto = store.status().borrow().applied;
        store.snapshot_and_purge().await.unwrap();
        until(store, "snapshot and purge", |s| s.purged.is_some_and(|p| p >= upto)).await;
    }
    let new = NodeId(4);
    let address = cluster.add_address(new);
    cluster.start(new).await;
    let any = cluster.stores[&leader].clone();
    any.remove(lost).await.unwrap();
    any.add_learner(new, address).await.unwrap();
    let refused = any.promote(NodeId(77)).await.unwrap_err();
    assert!(matches!(refused, MemberError::Refused(_)), "{refused:?}");
    until(&any, "the learner catches up", |s| {
        s.peers.get(&new).is_some_and(|m| m.is_some_and(|m| m + 10 > s.last_log))
    })
    .await;
    cluster.stores[&new].promote(new).await.unwrap();
    let status = until(cluster.store(4), "the new voter", |s| {
        s.membership.voters.len() == 1 && s.membership.voters[0].contains(&new)
    })
    .await;
    assert!(!status.membership.voters[0].contains(&lost), "{status:?}");
    assert_eq!(status.membership.voters[0].len(), 3);
    let done = cluster.store(4).propose(put("last")).await.unwrap();
    cluster.all_applied(done.revision).await;
    assert!((0..50).all(|n| has(cluster.store(4), &format!("user{n}"))));
    assert!(cluster.store(4).metrics().snapshots_installed >= 1);
    let logged = cluster.store(4).logged_membership();
    assert_eq!(logged.load(Ordering::Acquire), status.membership.log_index);
    let gone = cluster.store(4).changes(Revision(1)).unwrap_err();
    let mut feed = cluster.store(4).changes(gone.oldest).unwrap();
    timeout(PATIENCE, feed.next()).await.unwrap().unwrap();
    // From its own snapshot and log after a restart.
    cluster.stop(new).await;
    cluster.start(new).await;
    let logged = cluster.store(4).logged_membership();
    assert_eq!(logged.load(Ordering::Acquire), status.membership.log_index, "after a restart");
    cluster.all_applied(done.revision).await;
    assert!(has(cluster.store(4), "user7") && has(cluster.store(4), "last"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_ask_each_other_over_the_same_connection() {
    let cluster = Cluster::started(2).await;
    let none = cluster.store(2).request(NodeId(1), "echo", vec![1]).await.unwrap_err();
    assert!(matches!(none, CallError::Refused(_)), "{none:?}");
    cluster.store(1).on_request(Arc::new(|from, kind, payload| {
        Box::pin(async move {
            if kind == "echo" {
                Ok([vec![u8::try_from(from.0).unwrap()], payload].concat())
            } else {
                Err(kind)
            }
        })
    }));
    let reply = cluster.store(2).request(NodeId(1), "echo", vec![5, 6]).await.unwrap();
    assert_eq!(reply, [2, 5, 6]);
    let refused = cluster.store(2).request(NodeId(1), "other", vec![]).await.unwrap_err();
    assert_eq!(refused, CallError::Refused("other".to_owned()));
    let unknown = cluster.store(2).request(NodeId(9), "echo", vec![]).await.unwrap_err();
    assert_eq!(unknown, CallError::UnknownNode(NodeId(9)));
}

/// A node with `identity` that claims `node` and knows the others' addresses cannot reach them.
async fn is_shut_out(cluster: &Cluster, identity: Identity) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = cluster.config(NodeId(1));
    config.node = identity.node;
    config.cluster_id = identity.cluster_id.clone();
    config.identity = identity;
    config.data_dir = dir.path().to_owned();
    config.listen = cluster_common::free_addresses(1)[0];
    let members = [(config.node, config.listen), (NodeId(1), cluster.addresses[&NodeId(1)])];
    let stranger = Store::open(config).await.unwrap();
    stranger.initialize(members.into()).await.unwrap();
    until(&stranger, "its own membership", |s| s.membership.addresses.len() == 2).await;
    // It calls as a member in its own eyes; node 1 must not even finish the handshake.
    let refused = stranger.request(NodeId(1), "echo", vec![]).await.unwrap_err();
    assert!(matches!(refused, CallError::Unreachable { .. }), "{refused:?}");
    let mut status = stranger.status();
    let leads = status.wait_for(|s| s.leader.is_some());
    assert!(timeout(Duration::from_secs(3), leads).await.is_err(), "a stranger won an election");
    stranger.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strangers_are_shut_out() {
    let cluster = Cluster::started(1).await;
    let term = cluster.store(1).status().borrow().term;
    let identity = |ca: &ClusterCa, node: u64, cluster_id: &ClusterId| {
        let cert = ca.issue(NodeId(node), cluster_id, &[]).unwrap();
        Identity {
            node: NodeId(node),
            cluster_id: cluster_id.clone(),
            ca_pem: ca.cert_pem.clone(),
            cert_pem: cert.cert_pem,
            key_pem: cert.key_pem,
        }
    };
    let other = ClusterId("other".to_owned());
    let other_ca = ClusterCa::generate(&other).unwrap();
    is_shut_out(&cluster, identity(&other_ca, 2, &other)).await;
    let forged = ClusterCa::generate(&cluster.id).unwrap();
    is_shut_out(&cluster, identity(&forged, 2, &cluster.id)).await;
    // One authority, two clusters: the name in the certificate still tells them apart.
    is_shut_out(&cluster, identity(&cluster.ca, 2, &other)).await;
    assert_eq!(cluster.store(1).status().borrow().term, term, "a stranger raised the term");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_store_says_what_to_do_and_another_nodes_store_is_refused() {
    let mut cluster = Cluster::started(1).await;
    for n in 0..20 {
        cluster.store(1).propose(put(&format!("user{n}"))).await.unwrap();
    }
    cluster.stop(NodeId(1)).await;
    let mut config = cluster.config(NodeId(1));
    config.node = NodeId(2);
    config.identity = cluster.identity(NodeId(2));
    let refused = Store::open(config).await.unwrap_err();
    assert!(matches!(refused, OpenError::Owner { .. }), "{refused:?}");
    let db = cluster.data_dir(NodeId(1)).join("log/db");
    let file = std::fs::OpenOptions::new().write(true).open(&db).unwrap();
    file.set_len(1024).unwrap();
    let refused = cluster.try_start(NodeId(1)).await.unwrap_err();
    assert_eq!(refused.label(), "corrupt", "{refused:?}");
    assert!(refused.to_string().contains("bngctl cluster remove"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_that_is_too_old_for_the_cluster_stops_and_does_not_start_again() {
    let mut cluster = Cluster::started(1).await;
    let mut fatal = cluster.store(1).fatal();
    // The answer is lost with the node.
    let level = LEVEL_SUPPORTED + 1;
    let _ = cluster.store(1).propose(Command::RaiseLevel { level }).await;
    let reason = timeout(PATIENCE, fatal.wait_for(Option::is_some)).await.unwrap().unwrap().clone();
    let reason = reason.unwrap();
    assert!(reason.contains("upgrade this node"), "{reason}");
    assert!(cluster.store(1).state().level() <= LEVEL_SUPPORTED, "the state was shown");
    cluster.stop(NodeId(1)).await;
    let refused = cluster.try_start(NodeId(1)).await.unwrap_err();
    assert!(refused.to_string().contains("upgrade this node"), "{refused}");
}
