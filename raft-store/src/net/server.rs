//! The service side: check who asks, then hand over to Raft or the store.

use super::snapshot::{probe, receive};
use super::{
    KEY_CLUSTER, KEY_FROM, KEY_VERSION, MESSAGE_OCTETS_MAX, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN,
};
use crate::identity::peer_node_id;
use crate::metrics::{Counters, add};
use crate::raft::wire::proto::raft_server::{Raft as RaftApi, RaftServer};
use crate::raft::wire::{WireError, append_reply, need_vote, proto};
use crate::raft::{Snapshot, TypeConfig, Vote};
use crate::store::Inner;
use futures::stream::{BoxStream, StreamExt as _};
use model::{ClusterId, NodeId};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Certificates whose names are remembered; more than nodes in any cluster.
const NAMES_CACHED_MAX: usize = 64;
/// A peer that does not finish its TLS handshake is dropped.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const STREAM_WINDOW_OCTETS: u32 = 2 << 20;
const CONNECTION_WINDOW_OCTETS: u32 = 4 << 20;

type Names = Arc<Mutex<BTreeMap<Vec<u8>, Option<(ClusterId, NodeId)>>>>;

/// The sender, as its certificate proves.
#[derive(Clone, Copy, Debug)]
struct Sender(NodeId);

/// Lets only nodes of this cluster in.
#[derive(Clone)]
struct Gate {
    cluster: ClusterId,
    names: Names,
    counters: Arc<Counters>,
}

impl Gate {
    fn name(&self, cert: &[u8]) -> Option<(ClusterId, NodeId)> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(cert) {
            return name.clone();
        }
        if names.len() >= NAMES_CACHED_MAX {
            names.clear();
        }
        let name = peer_node_id(cert);
        names.insert(cert.to_vec(), name.clone());
        name
    }

    fn check(&self, request: &Request<()>) -> Result<NodeId, Status> {
        let certs = request.peer_certs();
        let cert = certs.as_ref().and_then(|c| c.first());
        let cert = cert.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let (cluster, node) = self
            .name(cert)
            .ok_or_else(|| Status::unauthenticated("the certificate names no node"))?;
        let text = |key| request.metadata().get(key).and_then(|v| v.to_str().ok()).unwrap_or("");
        if cluster != self.cluster || text(KEY_CLUSTER) != self.cluster.0 {
            let text = format!("this is cluster {}, you are of {cluster}", self.cluster);
            return Err(Status::permission_denied(text));
        }
        if text(KEY_FROM) != node.to_string() {
            let text = format!("{:?} claims to be node {:?}", node, text(KEY_FROM));
            return Err(Status::permission_denied(text));
        }
        let version: u32 = text(KEY_VERSION).parse().unwrap_or(0);
        if version < PROTOCOL_VERSION_MIN {
            return Err(Status::failed_precondition(format!(
                "protocol version {version}; this node speaks {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION}"
            )));
        }
        Ok(node)
    }
}

impl Interceptor for Gate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match self.check(&request) {
            Ok(node) => {
                request.extensions_mut().insert(Sender(node));
                Ok(request)
            }
            Err(status) => {
                add(&self.counters.peers_refused, 1);
                tracing::warn!(reason = status.message(), "refused a peer");
                Err(status)
            }
        }
    }
}

/// Serves until the store stops.
pub(crate) async fn serve(inner: Arc<Inner>, listener: TcpListener) -> Result<(), String> {
    let gate = Gate {
        cluster: inner.cluster.clone(),
        names: Names::default(),
        counters: Arc::clone(&inner.counters),
    };
    let limits = inner.peers.limits();
    let stop = inner.stop.clone();
    let tls = inner.identity.tonic_server().timeout(HANDSHAKE_WITHIN);
    let service = RaftServer::new(Service { inner, receiving: tokio::sync::Mutex::new(()) })
        .max_decoding_message_size(MESSAGE_OCTETS_MAX)
        .max_encoding_message_size(MESSAGE_OCTETS_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .tls_config(tls)
        .map_err(|e| e.to_string())?
        .http2_keepalive_interval(Some(limits.probe_every))
        .http2_keepalive_timeout(Some(limits.probe_answer))
        .initial_stream_window_size(STREAM_WINDOW_OCTETS)
        .initial_connection_window_size(CONNECTION_WINDOW_OCTETS)
        .add_service(InterceptedService::new(service, gate))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
        .map_err(|e| e.to_string())
}

struct Service {
    inner: Arc<Inner>,
    /// One snapshot at a time.
    receiving: tokio::sync::Mutex<()>,
}

fn sender<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let sender = request.extensions().get::<Sender>();
    sender.map(|s| s.0).ok_or_else(|| Status::unauthenticated("unknown sender"))
}

#[expect(clippy::needless_pass_by_value, reason = "it is an argument of map_err")]
fn invalid(e: WireError) -> Status {
    Status::invalid_argument(e.to_string())
}

fn stopped(e: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped: {e}"))
}

/// A vote in a request names its sender; a node that speaks for another is faulty.
fn own(vote: &Vote, from: NodeId) -> Result<(), Status> {
    if vote.leader_id.voted_for == from.0 {
        Ok(())
    } else {
        let text = format!("node {from} sends the vote of node {}", vote.leader_id.voted_for);
        Err(Status::permission_denied(text))
    }
}

fn append_request(
    request: proto::AppendRequest,
    from: NodeId,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let request = AppendEntriesRequest::try_from(request).map_err(invalid)?;
    own(&request.vote, from)?;
    Ok(request)
}

impl Service {
    fn vote_request(
        request: Request<proto::VoteRequest>,
    ) -> Result<VoteRequest<TypeConfig>, Status> {
        let from = sender(&request)?;
        let request = VoteRequest::try_from(request.into_inner()).map_err(invalid)?;
        own(&request.vote, from)?;
        Ok(request)
    }

    /// A node that was removed keeps its certificate, but has nothing to ask any more.
    fn member<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let from = sender(request)?;
        if self.inner.is_member(from) {
            Ok(from)
        } else {
            Err(Status::permission_denied(format!("node {from} is not a member")))
        }
    }
}

#[tonic::async_trait]
impl RaftApi for Service {
    type AppendStream = BoxStream<'static, Result<proto::AppendReply, Status>>;

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteReply>, Status> {
        let request = Self::vote_request(request)?;
        let reply = self.inner.raft.vote(request).await.map_err(stopped)?;
        Ok(Response::new(reply.into()))
    }

    async fn pre_vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteReply>, Status> {
        let request = Self::vote_request(request)?;
        let reply = self.inner.raft.pre_vote(request).await.map_err(stopped)?;
        Ok(Response::new(reply.into()))
    }

    async fn heartbeat(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendReply>, Status> {
        let from = sender(&request)?;
        let request = append_request(request.into_inner(), from)?;
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        let reply = self.inner.raft.append_entries(request).await.map_err(stopped)?;
        if reply.is_conflict() && prev.is_none() {
            return Err(Status::internal("a conflict before the first entry"));
        }
        Ok(Response::new(append_reply(reply.into_stream_result(prev, last))))
    }

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = sender(&request)?;
        let input = request.into_inner().scan((), move |(), item| {
            let checked = item.and_then(|r| append_request(r, from));
            if let Err(status) = &checked {
                tracing::debug!(peer = %from, reason = status.message(), "append stream ends");
            }
            std::future::ready(checked.ok())
        });
        let replies = self.inner.raft.stream_append(input);
        let replies = replies.map(|r| r.map(append_reply).map_err(stopped));
        // Answers already on their way to a leader that is gone need not be waited for.
        let replies = replies.take_until(self.inner.stop.clone().cancelled_owned());
        Ok(Response::new(replies.boxed()))
    }

    async fn probe_snapshot(
        &self,
        request: Request<proto::SnapshotProbe>,
    ) -> Result<Response<proto::SnapshotProbeReply>, Status> {
        let have = probe(&self.inner.snapshots, request.get_ref())?;
        Ok(Response::new(proto::SnapshotProbeReply { have }))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotFrame>>,
    ) -> Result<Response<proto::SnapshotReply>, Status> {
        let from = sender(&request)?;
        let _one = self
            .receiving
            .try_lock()
            .map_err(|_| Status::resource_exhausted("another snapshot is arriving"))?;
        let received =
            receive(&self.inner.snapshots, request.into_inner(), |vote| own(vote, from)).await?;
        tracing::info!(peer = %from, last = ?received.meta.last_log_id, "snapshot received");
        let snapshot = Snapshot { meta: received.meta, snapshot: received.handle };
        let reply = self
            .inner
            .raft
            .install_full_snapshot(received.vote, snapshot)
            .await
            .map_err(stopped)?;
        Ok(Response::new(proto::SnapshotReply { vote: Some(reply.vote.into()) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferReply>, Status> {
        let from = sender(&request)?;
        let request = request.into_inner();
        let vote = need_vote(request.from_leader).map_err(invalid)?;
        own(&vote, from)?;
        let request = TransferLeaderRequest::new(vote, request.to, request.last.map(Into::into));
        let reply = self.inner.raft.handle_transfer_leader(request).await.map_err(stopped)?;
        let refused = reply.err().map_or_else(String::new, |e| e.to_string());
        Ok(Response::new(proto::TransferReply { refused }))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeReply>, Status> {
        self.member(&request)?;
        Ok(Response::new(self.inner.serve_proposals(request.into_inner()).await))
    }

    async fn read_index(
        &self,
        request: Request<proto::ReadIndexRequest>,
    ) -> Result<Response<proto::ReadIndexReply>, Status> {
        self.member(&request)?;
        Ok(Response::new(self.inner.serve_read_index().await))
    }

    async fn admin(
        &self,
        request: Request<proto::AdminRequest>,
    ) -> Result<Response<proto::AdminReply>, Status> {
        self.member(&request)?;
        Ok(Response::new(self.inner.serve_admin(request.into_inner()).await.into()))
    }

    async fn level(
        &self,
        request: Request<proto::LevelRequest>,
    ) -> Result<Response<proto::LevelReply>, Status> {
        self.member(&request)?;
        Ok(Response::new(proto::LevelReply { level: crate::LEVEL_SUPPORTED }))
    }

    async fn call(
        &self,
        request: Request<proto::CallRequest>,
    ) -> Result<Response<proto::CallReply>, Status> {
        let from = self.member(&request)?;
        let request = request.into_inner();
        Ok(Response::new(self.inner.serve_call(from, request.kind, request.payload).await))
    }
}
