//! openraft's client side.

use super::peers::{Client, Lane, Peers, within};
use super::snapshot::send;
use crate::metrics::Counters;
use crate::raft::snapshot::SnapshotHandle;
use crate::raft::wire::{WireError, append_result, proto};
use crate::raft::{Snapshot, TypeConfig, Vote};
use futures::stream::{BoxStream, Stream, StreamExt as _};
use openraft::base::BoxFuture;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Append requests on their way to one node.
const APPENDS_IN_FLIGHT_MAX: usize = 32;

type RpcError = RPCError<TypeConfig>;
type AppendItem = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// Makes the clients.
pub(crate) struct Factory {
    pub(crate) peers: Arc<Peers>,
    pub(crate) counters: Arc<Counters>,
}

impl Factory {
    fn network(&self, target: u64, node: &BasicNode, lane: Lane) -> PeerNetwork {
        PeerNetwork {
            peers: Arc::clone(&self.peers),
            counters: Arc::clone(&self.counters),
            target,
            addr: node.addr.clone(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = PeerNetwork;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &BasicNode) -> PeerNetwork {
        self.network(target, node, Lane::Bulk)
    }
}

/// One node, for one purpose.
pub(crate) struct PeerNetwork {
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    target: u64,
    addr: String,
    lane: Lane,
}

fn unreachable(status: &Status) -> RpcError {
    RPCError::Unreachable(Unreachable::new(status))
}

fn garbled(e: &WireError) -> RpcError {
    RPCError::Unreachable(Unreachable::new(e))
}

impl PeerNetwork {
    fn client(&self, lane: Lane) -> Result<Client, RpcError> {
        self.peers.client(self.target, &self.addr, lane).map_err(|s| unreachable(&s))
    }
}

impl RaftNetworkV2<TypeConfig> for PeerNetwork {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let mut client = self.client(self.lane)?;
        let call = client.heartbeat(proto::AppendRequest::from(rpc));
        let reply = within(option.hard_ttl(), call).await.map_err(|s| unreachable(&s))?;
        Ok(append_result(reply).map_err(|e| garbled(&e))?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendItem>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Control {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let mut client = self.client(Lane::Append)?;
            let limits = self.peers.limits();
            let (requests, outgoing) = mpsc::channel(APPENDS_IN_FLIGHT_MAX);
            let call = client.append(ReceiverStream::new(outgoing));
            let replies = within(limits.connect + limits.append_answer, call)
                .await
                .map_err(|s| unreachable(&s))?;
            let pipeline = Pipeline {
                input: Some(input),
                requests: Some(requests),
                replies,
                in_flight: VecDeque::new(),
                answer_within: limits.append_answer,
            };
            let stream = futures::stream::unfold(Some(pipeline), |pipeline| async move {
                let mut pipeline = pipeline?;
                let item = pipeline.next().await?;
                let go_on = matches!(item, Ok(Ok(_)));
                Some((item, go_on.then_some(pipeline)))
            });
            Ok(stream.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client(Lane::Control)?;
        let call = client.vote(proto::VoteRequest::from(rpc));
        let reply = within(option.hard_ttl(), call).await.map_err(|s| unreachable(&s))?;
        reply.try_into().map_err(|e| garbled(&e))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client(Lane::Control)?;
        let call = client.pre_vote(proto::VoteRequest::from(rpc));
        let reply = within(option.hard_ttl(), call).await.map_err(|s| unreachable(&s))?;
        reply.try_into().map_err(|e| garbled(&e))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client(Lane::Bulk)?;
        let transfer = send(client, vote, &snapshot, &self.counters);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            done = transfer => {
                let vote = done.map_err(|s| StreamingError::Unreachable(Unreachable::new(&s)))?;
                Ok(SnapshotResponse::new(vote))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut client = self.client(Lane::Control)?;
        let request = proto::TransferRequest {
            from_leader: Some((*req.from_leader()).into()),
            to: *req.to_node_id(),
            last: req.last_log_id().map(|id| (*id).into()),
        };
        let call = client.transfer_leader(request);
        let reply = within(option.hard_ttl(), call).await.map_err(|s| unreachable(&s))?;
        Ok(if reply.refused.is_empty() {
            Ok(())
        } else {
            // openraft only logs this; the log position it names stands for the peer's text.
            tracing::warn!(peer = self.target, reason = reply.refused, "leader transfer refused");
            let expected = req.last_log_id().copied();
            Err(TransferLeaderError::LogNotFlushed { expected, actual: None })
        })
    }
}

/// A stream of append requests and their answers, which come in the same order.
///
/// openraft's stream of requests is polled here and not inside the HTTP client, because it holds a lock for as long as it
/// exists: it has to go away together with the stream of answers.
struct Pipeline<S> {
    input: Option<S>,
    requests: Option<mpsc::Sender<proto::AppendRequest>>,
    replies: Streaming<proto::AppendReply>,
    /// When the requests that wait for an answer were sent.
    in_flight: VecDeque<Instant>,
    answer_within: Duration,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    async fn next(&mut self) -> Option<AppendItem> {
        loop {
            let due = self.in_flight.front().map(|sent| *sent + self.answer_within);
            let overdue = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let room = self.in_flight.len() < APPENDS_IN_FLIGHT_MAX;
            let request = async {
                match self.input.as_mut() {
                    Some(input) if room => input.next().await,
                    Some(_) | None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                reply = self.replies.message() => {
                    self.in_flight.pop_front();
                    return self.answer(reply);
                }
                request = request => match request {
                    Some(request) => {
                        // There is room: the channel holds as many as may be in flight.
                        if let Some(requests) = &self.requests {
                            drop(requests.try_send(request.into()));
                        }
                        self.in_flight.push_back(Instant::now());
                    }
                    None => {
                        // The last answers are still to come; the server then ends the stream.
                        self.input = None;
                        self.requests = None;
                    }
                },
                () = overdue => {
                    let text = format!("no answer to an append within {:?}", self.answer_within);
                    return Some(Err(unreachable(&Status::deadline_exceeded(text))));
                }
            }
        }
    }

    fn answer(&self, reply: Result<Option<proto::AppendReply>, Status>) -> Option<AppendItem> {
        match reply {
            Ok(Some(reply)) => Some(append_result(reply).map_err(|e| garbled(&e))),
            Ok(None) if self.input.is_none() => None,
            Ok(None) => Some(Err(unreachable(&Status::unavailable("the peer ended the stream")))),
            Err(status) => Some(Err(unreachable(&status))),
        }
    }
}
