//! What stands on disk, who can read it, and what older members can decode.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod cluster_common;

use cluster_common::{Cluster, PATIENCE, has, put, until};
use model::{Collection, NodeId, Revision, Secret, Subscriber};
use raft_store::{
    Bootstrap, Change, Command, DocKey, DocumentBatch, DocumentOp, Expect, LEVEL_SUPPORTED,
    OpenError, Refusal, Reply,
};
use std::path::{Path, PathBuf};
use tokio::time::timeout;

const PASSWORD: &str = "correct-horse-battery-staple";

fn with_password(name: &str) -> Command {
    Command::PutSubscriber(Subscriber {
        username: name.to_owned(),
        password: Secret::new(PASSWORD),
        rate: None,
        address: None,
        pool: None,
    })
}

fn setting(key: &str, value: &str, expect: Expect) -> Command {
    Command::Documents(
        vec![DocumentOp::Put {
            collection: Collection::Setting,
            key: DocKey::Named(key.to_owned()),
            value: value.as_bytes().to_vec(),
            expect,
        }]
        .into(),
    )
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = vec![];
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { out.push(path) }
        }
    }
    out
}

/// The files of a folder that hold the text; and how many there are.
fn holding(dir: &Path, text: &str) -> (Vec<PathBuf>, usize) {
    let files = files(dir);
    let all = files.len();
    let holds = |path: &PathBuf| {
        std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    };
    (files.into_iter().filter(holds).collect(), all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_secret_stands_in_any_file_of_any_node() {
    let mut cluster = Cluster::started(3).await;
    for n in 0..20 {
        cluster.store(n % 3 + 1).propose(with_password(&format!("user{n}"))).await.unwrap();
    }
    let secret = setting("smtp", &format!("{{\"password\":\"{PASSWORD}\"}}"), Expect::Any);
    let newest = cluster.store(1).propose(secret).await.unwrap();
    cluster.all_applied(newest.revision).await;
    // Snapshots of their own on three nodes, one that travels to a fourth, and logs after them.
    for store in cluster.stores.values() {
        store.snapshot_and_purge().await.unwrap();
    }
    let address = cluster.add_address(NodeId(4));
    cluster.start(NodeId(4)).await;
    cluster.store(1).add_learner(NodeId(4), address).await.unwrap();
    until(cluster.store(4), "the snapshot arrives", |s| s.snapshot >= Some(newest.revision.0))
        .await;
    let newest = cluster.store(2).propose(with_password("last")).await.unwrap();
    cluster.all_applied(newest.revision).await;
    for n in 1..=4 {
        let state = cluster.store(n).state();
        assert_eq!(state.subscriber("last").unwrap().password.expose(), PASSWORD);
        assert!(state.document(Collection::Setting, "smtp").is_some());
        let dir = cluster.data_dir(NodeId(n));
        let names: Vec<_> = files(&dir);
        let snapshots = names.iter().filter(|path| path.extension().is_some_and(|e| e == "tandem"));
        assert!(snapshots.count() > 0, "node {n} has a snapshot: {names:?}");
    }
    for n in 1..=4 {
        cluster.stop(NodeId(n)).await;
        let dir = cluster.data_dir(NodeId(n));
        for secret in [PASSWORD, "jwt-secret-of-the-lab", "user7"] {
            let (found, all) = holding(&dir, secret);
            assert!(found.is_empty() && all >= 3, "{secret}: {found:?} of {all} files");
        }
    }
    // The check above would find it.
    std::fs::write(cluster.data_dir(NodeId(1)).join("plain"), format!("...{PASSWORD}...")).unwrap();
    assert_eq!(holding(&cluster.data_dir(NodeId(1)), PASSWORD).0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_its_key_a_node_does_not_start_and_with_it_it_goes_on() {
    let mut cluster = Cluster::started(3).await;
    cluster.store(1).propose(put("before")).await.unwrap();
    let node = cluster.followers().await[0];
    cluster.stop(node).await;
    let (key, aside) = (cluster.key_file(node), cluster.dir.path().join("aside"));

    std::fs::rename(&key, &aside).unwrap();
    let missing = cluster.try_start(node).await.unwrap_err();
    assert!(matches!(missing, OpenError::KeyMissing { .. }), "{missing}");
    let text = missing.to_string();
    for word in [key.to_str().unwrap(), "storage.key_file", "must not vote", "cluster join"] {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(!key.exists(), "a new key would hide that the old one is lost");

    let other = cluster.key_file(NodeId(if node.0 == 1 { 2 } else { 1 }));
    std::fs::copy(other, &key).unwrap();
    let wrong = cluster.try_start(node).await.unwrap_err();
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    assert!(wrong.to_string().contains("must not vote"), "{wrong}");
    std::fs::write(&key, "nonsense").unwrap();
    let unusable = cluster.try_start(node).await.unwrap_err();
    assert!(matches!(unusable, OpenError::KeyFile { .. }), "{unusable}");

    std::fs::rename(&aside, &key).unwrap();
    cluster.start(node).await;
    let newest = cluster.stores[&node].propose(put("after")).await.unwrap();
    cluster.all_applied(newest.revision).await;
    assert!(has(&cluster.stores[&node], "before"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn documents_written_on_any_node_are_seen_on_all_and_conflicts_are_answered() {
    let cluster = Cluster::started(3).await;
    let mut feed = cluster.store(3).changes(Revision(0)).unwrap();
    let first = cluster.store(1).propose(setting("dns", "1", Expect::Absent)).await.unwrap();
    assert_eq!(first.reply, Reply::Documents { keys: vec!["dns".to_owned()] });
    let at = Expect::Revision(first.revision);
    let second = cluster.store(2).propose(setting("dns", "2", at)).await.unwrap();
    assert!(matches!(second.reply, Reply::Documents { .. }), "{second:?}");
    let late = cluster.store(3).propose(setting("dns", "3", at)).await.unwrap();
    let conflict = Refusal::DocumentConflict {
        collection: Collection::Setting,
        key: "dns".to_owned(),
        revision: Some(second.revision),
    };
    assert_eq!(late.reply, Reply::Refused(conflict));
    cluster.all_applied(late.revision).await;
    for store in cluster.stores.values() {
        let state = store.state();
        assert_eq!(&*state.document(Collection::Setting, "dns").unwrap().value, b"2");
    }
    let seen = async {
        loop {
            let batch = feed.next().await.unwrap();
            let puts =
                batch.changes.iter().any(|change| matches!(change, Change::DocumentPut { .. }));
            if puts {
                return batch.revision;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, seen).await.expect("a change comes"), first.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_largest_batch_passes_log_network_and_snapshot_and_a_larger_entry_is_refused() {
    let mut cluster = Cluster::started(3).await;
    let collection = Collection::Config;
    let octets = collection.limits().value_octets_max;
    let put = |key: &str, octets| DocumentOp::Put {
        collection,
        key: DocKey::Named(key.to_owned()),
        value: vec![b'x'; octets],
        expect: Expect::Any,
    };
    let largest = vec![put("a", octets), put("b", DocumentBatch::OCTETS_MAX - octets)];
    let done = cluster.store(2).propose(Command::Documents(largest.into())).await.unwrap();
    assert!(matches!(done.reply, Reply::Documents { .. }), "{done:?}");
    let too_large = (0..5).map(|_| put("c", octets)).collect::<Vec<_>>();
    for n in 1..=3 {
        let batch = Command::Documents(too_large.clone().into());
        let refused = cluster.store(n).propose(batch).await.unwrap();
        assert!(matches!(refused.reply, Reply::Refused(Refusal::Invalid(_))), "{refused:?}");
        assert_eq!(refused.revision, Revision(0), "an entry that fits no message is not appended");
    }
    cluster.all_applied(done.revision).await;
    cluster.store(3).snapshot_and_purge().await.unwrap();
    cluster.stop(NodeId(3)).await;
    cluster.start(NodeId(3)).await;
    cluster.all_applied(done.revision).await;
    for store in cluster.stores.values() {
        let state = store.state();
        let lengths: Vec<_> =
            state.documents(collection).map(|(key, doc)| (key, doc.value.len())).collect();
        assert_eq!(lengths, [("a", octets), ("b", DocumentBatch::OCTETS_MAX - octets)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_level_is_raised_when_every_member_is_there_to_say_that_it_can_follow() {
    let mut cluster = Cluster::planned(3);
    for n in [1, 2] {
        cluster.start(NodeId(n)).await;
    }
    cluster.store(1).initialize(cluster.addresses.clone()).await.unwrap();
    cluster.leader().await;
    let Command::Bootstrap(bootstrap) = cluster.bootstrap() else { panic!("no bootstrap") };
    let old = Command::Bootstrap(Box::new(Bootstrap { level: 1, ..*bootstrap }));
    assert_eq!(cluster.store(1).propose(old).await.unwrap().reply, Reply::Done);
    // Node 3 may be of any build, so nothing may stand in the log that it could not decode.
    let refused = cluster.store(1).propose(setting("dns", "1", Expect::Any)).await.unwrap();
    assert_eq!(refused.reply, Reply::Refused(Refusal::LevelTooLow));
    assert_eq!(refused.revision, Revision(0), "it made no entry");
    let forwarded = cluster.followers().await[0];
    let refused = cluster.stores[&forwarded].propose(setting("dns", "1", Expect::Any)).await;
    assert_eq!(refused.unwrap().reply, Reply::Refused(Refusal::LevelTooLow));

    cluster.start(NodeId(3)).await;
    for n in 1..=3 {
        let store = cluster.store(n);
        let mut applied = store.applied();
        let raised = applied.wait_for(|_| store.state().level() == LEVEL_SUPPORTED);
        timeout(PATIENCE, raised).await.expect("the level is raised").unwrap();
    }
    let done = cluster.store(3).propose(setting("dns", "1", Expect::Any)).await.unwrap();
    assert!(matches!(done.reply, Reply::Documents { .. }), "{done:?}");
}
