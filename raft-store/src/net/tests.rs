//! What the receiving side refuses, whatever the sender says of itself.

use super::peers::Peers;
use super::{KEY_FROM, KEY_VERSION, Lane, PROTOCOL_VERSION};
use crate::raft::wire::proto;
use crate::{ClusterCa, Engine, Identity, RaftTiming, Store, StoreConfig};
use model::{ClusterId, NodeId, UnixMs};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Status};

const TIMING: RaftTiming = RaftTiming {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(400),
    election_max: Duration::from_millis(800),
};

fn identity(ca: &ClusterCa, node: u64, cluster: &ClusterId) -> Identity {
    let cert = ca.issue(NodeId(node), cluster, &[]).unwrap();
    Identity {
        node: NodeId(node),
        cluster_id: cluster.clone(),
        ca_pem: ca.cert_pem.clone(),
        cert_pem: cert.cert_pem,
        key_pem: cert.key_pem,
    }
}

async fn single(ca: &ClusterCa, cluster: &ClusterId, dir: &std::path::Path) -> Store {
    let store = Store::open(StoreConfig {
        node: NodeId(1),
        cluster_id: cluster.clone(),
        data_dir: dir.to_owned(),
        key_file: dir.join("key"),
        listen: "127.0.0.1:0".parse().unwrap(),
        identity: identity(ca, 1, cluster),
        timing: TIMING,
        engine: Engine::Sled,
        clock: Arc::new(|| UnixMs(1)),
    })
    .await
    .unwrap();
    let members = BTreeMap::from([(NodeId(1), store.local_addr())]);
    store.initialize(members).await.unwrap();
    store.status().wait_for(|s| s.leader == Some(NodeId(1))).await.unwrap();
    store
}

fn vote(node: u64) -> proto::VoteRequest {
    let vote = Some(proto::Vote { term: 1000, node, committed: false });
    proto::VoteRequest { vote, last: None, leadership_transfer: false }
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_who_its_certificate_says_and_nobody_else() {
    let cluster = ClusterId("lab".to_owned());
    let ca = ClusterCa::generate(&cluster).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = single(&ca, &cluster, dir.path()).await;
    let address = store.local_addr().to_string();
    let term = store.status().borrow().term;

    let honest = Peers::new(identity(&ca, 2, &cluster), &TIMING).unwrap();
    let mut client = honest.client(1, &address, Lane::Control).unwrap();
    assert_eq!(code(client.pre_vote(vote(2)).await), Code::Ok);
    assert_eq!(code(client.vote(vote(3)).await), Code::PermissionDenied, "another's vote");
    let append = proto::AppendRequest {
        vote: Some(proto::Vote { term: 1000, node: 3, committed: true }),
        ..proto::AppendRequest::default()
    };
    assert_eq!(code(client.heartbeat(append).await), Code::PermissionDenied, "another's entries");
    assert_eq!(
        code(client.heartbeat(proto::AppendRequest::default()).await),
        Code::InvalidArgument
    );
    let propose = proto::ProposeRequest { proposals: vec![], deadline_ms: u64::MAX };
    assert_eq!(code(client.propose(propose).await), Code::PermissionDenied, "not a member");

    // The certificate of node 2 with another name in the request.
    let rows =
        [(KEY_FROM, "3", Code::PermissionDenied), (KEY_VERSION, "0", Code::FailedPrecondition)];
    for (key, value, want) in rows {
        let plain = honest.channel(1, &address).unwrap();
        let stamp = [
            (KEY_FROM, "2".to_owned()),
            (super::KEY_CLUSTER, "lab".to_owned()),
            (KEY_VERSION, PROTOCOL_VERSION.to_string()),
        ];
        let mut client = proto::raft_client::RaftClient::new(plain);
        let mut request = Request::new(vote(2));
        for (k, v) in stamp {
            request.metadata_mut().insert(k, v.parse().unwrap());
        }
        request.metadata_mut().insert(key, value.parse().unwrap());
        assert_eq!(code(client.pre_vote(request).await), want, "{key}: {value}");
    }

    // A node of another cluster under the same authority gets through TLS if it asks for the right name.
    let other = ClusterId("other".to_owned());
    let mut neighbour = identity(&ca, 2, &other);
    neighbour.cluster_id = cluster.clone();
    let neighbour = Peers::new(neighbour, &TIMING).unwrap();
    let mut client = neighbour.client(1, &address, Lane::Control).unwrap();
    assert_eq!(code(client.pre_vote(vote(2)).await), Code::PermissionDenied, "another cluster");

    assert_eq!(store.status().borrow().term, term);
    assert!(store.metrics().peers_refused >= 3, "{:?}", store.metrics());
    store.shutdown().await;
}
