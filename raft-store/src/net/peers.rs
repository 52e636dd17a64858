//! Connections to the other nodes: made when first needed, kept open, remade when they fail.

use super::{KEY_CLUSTER, KEY_FROM, KEY_VERSION, Limits, MESSAGE_OCTETS_MAX, PROTOCOL_VERSION};
use crate::RaftTiming;
use crate::identity::Identity;
use crate::raft::wire::proto::raft_client::RaftClient;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Flow control windows: a snapshot fills the pipe of a long link.
const STREAM_WINDOW_OCTETS: u32 = 2 << 20;
const CONNECTION_WINDOW_OCTETS: u32 = 4 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Votes and heartbeats.
    Control,
    /// Entries.
    Append,
    /// Snapshots.
    Bulk,
    /// Forwarded proposals and all else.
    Forward,
}

pub(crate) type Client = RaftClient<InterceptedService<Channel, Stamp>>;

/// Writes into each request who sends it.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    from: MetadataValue<Ascii>,
    cluster: MetadataValue<Ascii>,
    version: MetadataValue<Ascii>,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(KEY_FROM, self.from.clone());
        metadata.insert(KEY_CLUSTER, self.cluster.clone());
        metadata.insert(KEY_VERSION, self.version.clone());
        Ok(request)
    }
}

/// The connections to one node.
#[derive(Debug)]
struct Peer {
    addr: String,
    control: Channel,
    append: Channel,
    bulk: Channel,
    forward: Channel,
}

/// The connections to all nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    identity: Identity,
    stamp: Stamp,
    limits: Limits,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
}

impl Peers {
    pub(crate) fn new(identity: Identity, timing: &RaftTiming) -> Result<Self, String> {
        let ascii = |text: String| {
            MetadataValue::try_from(text.as_str()).map_err(|_| format!("{text:?} is not ASCII"))
        };
        let stamp = Stamp {
            from: ascii(identity.node.to_string())?,
            cluster: ascii(identity.cluster_id.0.clone())?,
            version: ascii(PROTOCOL_VERSION.to_string())?,
        };
        let limits = Limits::new(timing);
        Ok(Self { identity, stamp, limits, peers: Mutex::new(BTreeMap::new()) })
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// A client for `node` at `addr`. Nothing is sent yet, and nothing here waits.
    pub(crate) fn client(&self, node: u64, addr: &str, lane: Lane) -> Result<Client, Status> {
        let peer = self.peer(node, addr)?;
        let channel = match lane {
            Lane::Control => &peer.control,
            Lane::Append => &peer.append,
            Lane::Bulk => &peer.bulk,
            Lane::Forward => &peer.forward,
        };
        Ok(RaftClient::with_interceptor(channel.clone(), self.stamp.clone())
            .max_decoding_message_size(MESSAGE_OCTETS_MAX)
            .max_encoding_message_size(MESSAGE_OCTETS_MAX))
    }

    fn peer(&self, node: u64, addr: &str) -> Result<Arc<Peer>, Status> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get(&node)
            && peer.addr == addr
        {
            return Ok(Arc::clone(peer));
        }
        let endpoint = self
            .endpoint(node, addr)
            .map_err(|e| Status::invalid_argument(format!("node {node} at {addr}: {e}")))?;
        let peer = Arc::new(Peer {
            addr: addr.to_owned(),
            control: endpoint.connect_lazy(),
            append: endpoint.connect_lazy(),
            bulk: endpoint.connect_lazy(),
            forward: endpoint.connect_lazy(),
        });
        peers.insert(node, Arc::clone(&peer));
        Ok(peer)
    }

    fn endpoint(&self, node: u64, addr: &str) -> Result<Endpoint, tonic::transport::Error> {
        Ok(Endpoint::from_shared(format!("https://{addr}"))?
            .tls_config(self.identity.tonic_client(model::NodeId(node)))?
            .tcp_nodelay(true)
            .connect_timeout(self.limits.connect)
            .http2_keep_alive_interval(self.limits.probe_every)
            .keep_alive_timeout(self.limits.probe_answer)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_OCTETS)
            .initial_connection_window_size(CONNECTION_WINDOW_OCTETS))
    }

    /// A connection without the stamp, for tests that forge it.
    #[cfg(test)]
    pub(super) fn channel(&self, node: u64, addr: &str) -> Result<Channel, Status> {
        Ok(self.peer(node, addr)?.control.clone())
    }

    /// Forgets the nodes that are no longer members.
    pub(crate) fn retain(&self, keep: impl Fn(u64) -> bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|node, _| keep(*node));
    }
}

/// Waits for an answer, but not longer than `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))),
    }
}

/// Whether the request surely did not reach the other node's Raft, so that sending it elsewhere cannot do it twice.
pub(crate) fn was_never_sent(status: &Status) -> bool {
    if matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated) {
        return true;
    }
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
