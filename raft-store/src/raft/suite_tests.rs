//! openraft's own conformance suite for storage, on our log and state machine.

use super::TypeConfig;
use super::log_store::LogStore;
use super::machine::{Machine, Published};
use super::snapshot::SnapshotDir;
use super::wire::log_id;
use crate::log::{SealedEngine, SledEngine, Writer, open};
use crate::metrics::Counters;
use crate::vault::Vault;
use model::{ClusterId, NodeId};
use openraft::StorageError;
use openraft::storage::RaftStateMachine as _;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

struct Fresh;

fn rand_key() -> [u8; 32] {
    Vault::new(&[0; 32]).file_key().unwrap().0
}

impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for Fresh {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId("lab".to_owned());
        // A key for each store: a snapshot that goes from one to another changes hands.
        let vault = Arc::new(Vault::new(&rand_key()));
        let engine = SledEngine::open(&dir.path().join("log")).unwrap();
        let engine = SealedEngine::open(engine, Arc::clone(&vault)).unwrap();
        let opened = open(Arc::new(engine), dir.path(), &cluster, NodeId(1)).unwrap();
        let counters = Arc::new(Counters::default());
        let base = LogStore::parts(&opened);
        let (_writer, handle) =
            Writer::start(opened, Arc::clone(&counters), Box::new(|e| panic!("{e}"))).unwrap();
        let log = LogStore::new(base, handle, super::logged::LoggedMembership::default());
        let snapshots =
            SnapshotDir::open(dir.path().join("snapshots"), cluster.clone(), vault).unwrap();
        let snapshots = Arc::new(snapshots);
        let published = Arc::new(Published::new(model::NodeId(1), counters));
        let machine = Machine::new(cluster, published, snapshots, 0);
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_and_state_machine_pass_the_conformance_suite_of_openraft() {
    Suite::test_all(Fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_this_build_cannot_decode_stops_the_node_and_is_not_skipped() {
    let (_dir, _log, mut machine) = Fresh.build().await.unwrap();
    let entry = |index, octets: &'static [u8]| super::LogEntry {
        log_id: log_id(1, index),
        payload: super::LogPayload::Normal(super::Payload(octets.into())),
    };
    let blank = super::LogEntry { log_id: log_id(1, 0), payload: super::LogPayload::Blank };
    let good = crate::Entry {
        at: model::UnixMs(5),
        client: None,
        trace: None,
        command: crate::Command::Expire,
    };
    let good = super::LogEntry {
        log_id: log_id(1, 1),
        payload: super::LogPayload::Normal(super::Payload(good.encode().into())),
    };
    let entries = [blank, good, entry(2, b"\xff\xff\xff from the future")];
    let stream = futures::stream::iter(entries.map(|e| Ok((e, None))));
    let stopped = machine.apply(stream).await.unwrap_err();
    assert!(stopped.to_string().contains("entry 2 cannot be decoded"), "{stopped}");
    let (last, _) = machine.applied_state().await.unwrap();
    assert_eq!(last, Some(log_id(1, 1)));
}

fn machine_at(dir: &std::path::Path) -> (Machine, Arc<Published>, Arc<SnapshotDir>) {
    let cluster = ClusterId("lab".to_owned());
    let published = Arc::new(Published::new(model::NodeId(1), Arc::new(Counters::default())));
    let vault = Arc::new(Vault::new(&[7; 32]));
    let snapshots = Arc::new(SnapshotDir::open(dir.to_owned(), cluster.clone(), vault).unwrap());
    let machine = Machine::new(cluster, Arc::clone(&published), Arc::clone(&snapshots), 0);
    (machine, published, snapshots)
}

/// A snapshot of a cluster at `level` whose membership is that of entry 7.
fn snapshot(level: u32) -> (super::SnapshotMeta, Vec<crate::Section>) {
    let mut state = crate::State::new();
    let address: std::net::SocketAddr = ([127, 0, 0, 1], 1).into();
    let node = model::Node {
        id: NodeId(1),
        name: "n1".to_owned(),
        role: model::NodeRole::Data,
        raft_addr: address,
        lease_addr: address,
        api_addr: address,
    };
    let bootstrap = crate::Bootstrap {
        level: crate::LEVEL_SUPPORTED,
        cluster_id: ClusterId("lab".to_owned()),
        nodes: vec![node],
        groups: vec![],
        pools: vec![],
        subscribers: vec![],
        api_users: vec![],
        jwt_secret: model::Secret::new("secret"),
        cookie_key: [7; 32],
    };
    let commands =
        [crate::Command::Bootstrap(Box::new(bootstrap)), crate::Command::RaiseLevel { level }];
    for (index, command) in (8..).zip(commands) {
        let entry = crate::Entry { at: model::UnixMs(5), client: None, trace: None, command };
        let _ = state.apply(model::Revision(index), &entry);
    }
    assert_eq!(state.level(), level);
    let voters = vec![std::collections::BTreeSet::from([1])];
    let membership = super::Membership::new_with_defaults(voters, [1]);
    let meta = super::SnapshotMeta {
        last_log_id: Some(log_id(1, 9)),
        last_membership: super::StoredMembership::new(Some(log_id(1, 7)), membership),
    };
    (meta, state.write_sections())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_membership_inside_a_snapshot_counts_before_the_snapshot_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published, snapshots) = machine_at(dir.path());
    let newest = published.membership.newest();
    let (meta, sections) = snapshot(crate::LEVEL_SUPPORTED);
    let handle = snapshots.save(&meta, &sections).unwrap();
    machine.install_snapshot(&meta, handle).await.unwrap();
    assert_eq!(newest.load(std::sync::atomic::Ordering::Acquire), 7);
    assert_eq!(*published.applied.borrow(), model::Revision(9));
    // What is truncated after it does not take it back.
    published.membership.add(12);
    published.membership.truncate(Some(10));
    assert_eq!(newest.load(std::sync::atomic::Ordering::Acquire), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_a_newer_level_stops_the_node_and_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (mut machine, published, snapshots) = machine_at(dir.path());
    let (meta, sections) = snapshot(crate::LEVEL_SUPPORTED + 1);
    let handle = snapshots.save(&meta, &sections).unwrap();
    let stopped = machine.install_snapshot(&meta, handle).await.unwrap_err();
    assert!(stopped.to_string().contains("upgrade this node"), "{stopped}");
    assert_eq!(published.fatal.reason(), Some(stopped.to_string()));
    assert_eq!(*published.applied.borrow(), model::Revision(0));
}
