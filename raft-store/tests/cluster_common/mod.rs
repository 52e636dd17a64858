//! A cluster on this machine: real sockets, real TLS, real disks. Waits are for conditions.

#![expect(clippy::unwrap_used, reason = "test support: a failure is a failed test")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use model::{ClusterId, NodeId, NodeRole, Revision, Secret, Subscriber, UnixMs};
use raft_store::{
    Bootstrap, ChangeFeed, ClusterCa, Command, Engine, Identity, LEVEL_SUPPORTED, OpenError,
    RaftStatus, RaftTiming, Reply, Store, StoreConfig,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Generous: the machine that runs this may have two cores and other work.
pub const TIMING: RaftTiming = RaftTiming {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(800),
};
/// A condition that does not hold by then fails the test.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub id: ClusterId,
    pub ca: ClusterCa,
    pub dir: tempfile::TempDir,
    pub addresses: BTreeMap<NodeId, SocketAddr>,
    pub stores: BTreeMap<NodeId, Store>,
}

/// Ports that were free a moment ago.
pub fn free_addresses(n: usize) -> Vec<SocketAddr> {
    let held: Vec<_> =
        (0..n).map(|_| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap()).collect();
    held.iter().map(|l| l.local_addr().unwrap()).collect()
}

impl Cluster {
    /// Addresses for `n` nodes, none of them running.
    pub fn planned(n: u64) -> Self {
        if std::env::var_os("RUST_LOG").is_some() {
            drop(
                tracing_subscriber::fmt()
                    .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
                    .with_writer(std::io::stderr)
                    .try_init(),
            );
        }
        let id = ClusterId("lab".to_owned());
        let ca = ClusterCa::generate(&id).unwrap();
        let free = free_addresses(usize::try_from(n).unwrap());
        let addresses = (1..=n).map(NodeId).zip(free).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { id, ca, dir, addresses, stores: BTreeMap::new() }
    }

    /// `n` running voters with a bootstrapped state.
    pub async fn started(n: u64) -> Self {
        let mut cluster = Self::planned(n);
        for node in cluster.addresses.clone().into_keys() {
            cluster.start(node).await;
        }
        cluster.store(1).initialize(cluster.addresses.clone()).await.unwrap();
        cluster.leader().await;
        let done = cluster.store(1).propose(cluster.bootstrap()).await.unwrap();
        assert_eq!(done.reply, Reply::Done);
        cluster
    }

    pub fn identity(&self, node: NodeId) -> Identity {
        let cert = self.ca.issue(node, &self.id, &[]).unwrap();
        Identity {
            node,
            cluster_id: self.id.clone(),
            ca_pem: self.ca.cert_pem.clone(),
            cert_pem: cert.cert_pem,
            key_pem: cert.key_pem,
        }
    }

    pub fn data_dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(format!("node-{node}"))
    }

    pub fn config(&self, node: NodeId) -> StoreConfig {
        StoreConfig {
            node,
            cluster_id: self.id.clone(),
            data_dir: self.data_dir(node),
            listen: self.addresses[&node],
            identity: self.identity(node),
            timing: TIMING,
            engine: Engine::Sled,
            clock: Arc::new(|| UnixMs(1_750_000_000_000)),
        }
    }

    pub async fn try_start(&mut self, node: NodeId) -> Result<(), OpenError> {
        let store = Store::open(self.config(node)).await?;
        self.stores.insert(node, store);
        Ok(())
    }

    pub async fn start(&mut self, node: NodeId) {
        self.try_start(node).await.unwrap();
    }

    pub async fn stop(&mut self, node: NodeId) {
        self.stores.remove(&node).unwrap().shutdown().await;
    }

    pub fn add_address(&mut self, node: NodeId) -> SocketAddr {
        let address = free_addresses(1)[0];
        self.addresses.insert(node, address);
        address
    }

    pub fn store(&self, node: u64) -> &Store {
        &self.stores[&NodeId(node)]
    }

    pub fn bootstrap(&self) -> Command {
        let node = |(id, address): (&NodeId, &SocketAddr)| model::Node {
            id: *id,
            name: format!("node{id}"),
            role: NodeRole::Data,
            raft_addr: *address,
            lease_addr: *address,
            api_addr: *address,
        };
        Command::Bootstrap(Box::new(Bootstrap {
            level: LEVEL_SUPPORTED,
            cluster_id: self.id.clone(),
            nodes: self.addresses.iter().map(node).collect(),
            groups: vec![],
            pools: vec![],
            subscribers: vec![],
            api_users: vec![],
            jwt_secret: Secret::new("secret"),
            cookie_key: [7; 32],
        }))
    }

    /// The node that all running nodes follow.
    pub async fn leader(&self) -> NodeId {
        let agreed = async {
            loop {
                let leaders: Vec<_> =
                    self.stores.values().map(|s| s.status().borrow().leader).collect();
                if let Some(Some(first)) = leaders.first()
                    && leaders.iter().all(|l| *l == Some(*first))
                    && self.stores.contains_key(first)
                    && self.stores[first].status().borrow().leads_within(TIMING.election_max)
                {
                    return *first;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, agreed).await.expect("the nodes agree on a leader")
    }

    pub async fn followers(&self) -> Vec<NodeId> {
        let leader = self.leader().await;
        self.stores.keys().copied().filter(|n| *n != leader).collect()
    }

    /// Waits until every running node has applied `revision`.
    pub async fn all_applied(&self, revision: Revision) {
        for (node, store) in &self.stores {
            let mut applied = store.applied();
            let reached = applied.wait_for(|at| *at >= revision);
            timeout(PATIENCE, reached)
                .await
                .unwrap_or_else(|_| panic!("node {node} applies {revision}"))
                .unwrap();
        }
    }
}

pub fn put(name: &str) -> Command {
    Command::PutSubscriber(Subscriber {
        username: name.to_owned(),
        password: Secret::new("pw"),
        rate: None,
        address: None,
        pool: None,
    })
}

pub fn has(store: &Store, name: &str) -> bool {
    store.state().subscriber(name).is_some()
}

pub async fn until(store: &Store, what: &str, check: impl Fn(&RaftStatus) -> bool) -> RaftStatus {
    let mut status = store.status();
    let found = timeout(PATIENCE, status.wait_for(|s| check(s))).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("{what}: {:?}", store.status().borrow().clone()),
    }
}

/// Reads `n` batches and checks that their revisions only grow.
pub async fn read(feed: &mut ChangeFeed, n: usize) -> Vec<Revision> {
    let mut out: Vec<Revision> = vec![];
    for _ in 0..n {
        let batch = timeout(PATIENCE, feed.next()).await.expect("a batch comes").unwrap();
        assert!(out.last().is_none_or(|last| *last < batch.revision), "{out:?} {batch:?}");
        out.push(batch.revision);
    }
    out
}
