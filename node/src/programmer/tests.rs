use super::*;
use model::{ClusterId, NodeId, UnixMs};
use raft_store::{ClusterCa, Engine, Identity, RaftTiming, StoreConfig};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[test]
fn a_network_is_its_first_address() {
    let a = std::net::Ipv4Addr::new(100, 64, 3, 7);
    for (len, want) in [(32, "100.64.3.7"), (24, "100.64.3.0"), (10, "100.64.0.0"), (0, "0.0.0.0")]
    {
        assert_eq!(network_of(a, len).to_string(), want, "/{len}");
    }
}

/// A kernel that cannot be compared while `refuses`.
#[derive(Default)]
struct Stubborn {
    refuses: AtomicBool,
    asked: AtomicU32,
}

impl Plane for Stubborn {
    async fn put_group(&self, _: &GroupConfig) -> Result<(), DataplaneError> {
        Ok(())
    }

    async fn apply(&self, _: &[SessionChange]) -> Result<(), DataplaneError> {
        Ok(())
    }

    async fn reconcile(&self, _: &[SessionEntry]) -> Result<Drift, DataplaneError> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        if self.refuses.load(Ordering::Acquire) {
            let detail = "planted".to_owned();
            return Err(DataplaneError::Map { map: "sessions", detail });
        }
        Ok(Drift::default())
    }

    fn set_bans(&self, _: &[model::Ban]) -> Result<Drift, DataplaneError> {
        Ok(Drift::default())
    }
}

async fn store(dir: &std::path::Path) -> Store {
    let cluster_id = ClusterId("test".into());
    let ca = ClusterCa::generate(&cluster_id).unwrap();
    let cert = ca.issue(NodeId(1), &cluster_id, &[]).unwrap();
    let ms = Duration::from_millis;
    Store::open(StoreConfig {
        node: NodeId(1),
        cluster_id: cluster_id.clone(),
        data_dir: dir.to_owned(),
        key_file: dir.join("storage.key"),
        listen: "127.0.0.1:0".parse().unwrap(),
        identity: Identity {
            node: NodeId(1),
            cluster_id,
            ca_pem: ca.cert_pem,
            cert_pem: cert.cert_pem,
            key_pem: cert.key_pem,
        },
        timing: RaftTiming { heartbeat: ms(100), election_min: ms(400), election_max: ms(800) },
        engine: Engine::Sled,
        clock: Arc::new(|| UnixMs(1)),
    })
    .await
    .unwrap()
}

/// A condition that does not hold by then fails the test.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_that_refuses_again_and_again_makes_the_node_unfit_until_it_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let kernel = Arc::new(Stubborn::default());
    kernel.refuses.store(true, Ordering::Release);
    let fitness = Fitness::default();
    let mut faults = fitness.subscribe();
    let programmer = Programmer {
        store: store.clone(),
        dataplane: kernel.clone(),
        ports: BTreeMap::new(),
        programmed: watch::Sender::new(Revision(0)),
        drift: watch::Sender::new(0),
        fitness: fitness.clone(),
    };
    let running = tokio::spawn(programmer.run());
    let refused = faults.wait_for(|f| f.contains_key(&Fault::Kernel));
    tokio::time::timeout(PATIENCE, refused).await.expect("unfit").unwrap();
    assert!(kernel.asked.load(Ordering::Acquire) >= REFUSALS_MAX, "one refusal is not enough");
    let words = fitness.refusal().unwrap();
    assert!(words.contains("planted"), "{words}");
    assert!(fitness.last_resort(), "what is programmed goes on");
    kernel.refuses.store(false, Ordering::Release);
    let accepted = faults.wait_for(|f| !f.contains_key(&Fault::Kernel));
    tokio::time::timeout(PATIENCE, accepted).await.expect("fit again").unwrap();
    running.abort();
    store.shutdown().await;
}
