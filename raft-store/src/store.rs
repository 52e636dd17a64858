//! The facade.

mod level;
mod members;
mod open;
mod propose;
mod read;
mod status;
mod types;

use crate::command::Command;
use crate::identity::Identity;
use crate::log::{DiskHealth, LogEngine, Writer};
use crate::metrics::{Counters, StoreMetrics};
use crate::net::{Lane, Peers};
use crate::raft::Raft;
use crate::raft::feed::{ChangeFeed, Gone};
use crate::raft::machine::Published;
use crate::raft::snapshot::SnapshotDir;
use crate::raft::wire::proto;
use crate::state::State;
use arc_swap::ArcSwapOption;
use members::AdminOp;
use model::{ClusterId, NodeId, Revision, UnixMs};
use openraft::BasicNode;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{InitializeError as RaftInitializeError, RaftError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use types::{
    CallError, Clock, Committed, Engine, InitializeError, MemberError, Membership, OpenError,
    ProposeError, RaftStatus, RaftTiming, RequestHandler, Role, StoreConfig, TransferError,
};

/// How long [`Store::propose`] waits for an answer.
const PROPOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long [`Store::request`] waits for an answer.
const CALL_WITHIN: Duration = Duration::from_secs(5);
/// How long [`Store::shutdown`] waits for tasks, and then for the log.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long [`Store::snapshot_and_purge`] waits for the snapshot.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(60);

/// What the tasks of a store share.
pub(crate) struct Inner {
    pub(crate) node: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) peers: Arc<Peers>,
    pub(crate) snapshots: Arc<SnapshotDir>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: CancellationToken,
    published: Arc<Published>,
    timing: RaftTiming,
    clock: Clock,
    queues: propose::Queues,
    reads: mpsc::Sender<read::ReadRequest>,
    status: watch::Sender<RaftStatus>,
    /// Held while members change or leadership moves.
    changing: tokio::sync::Mutex<()>,
    handler: ArcSwapOption<RequestHandler>,
    /// Weak, so that the engine closes when the log does.
    engine: Weak<dyn LogEngine>,
    writer: Mutex<Option<Writer>>,
    address: SocketAddr,
    tasks: TaskTracker,
}

impl Inner {
    /// Reports that the store cannot go on. The first reason counts.
    pub(crate) fn fail(&self, reason: String) {
        self.published.fatal.report(reason);
    }

    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.status.borrow().membership.addresses.contains_key(&node)
    }

    fn client(&self, node: NodeId, lane: Lane) -> Result<crate::net::Client, CallError> {
        let addr = self.status.borrow().membership.addresses.get(&node).cloned();
        let addr = addr.ok_or(CallError::UnknownNode(node))?;
        self.peers
            .client(node.0, &addr, lane)
            .map_err(|s| CallError::Unreachable { node, reason: s.message().to_owned() })
    }

    pub(crate) async fn serve_call(
        &self,
        from: NodeId,
        kind: String,
        payload: Vec<u8>,
    ) -> proto::CallReply {
        use proto::call_reply::Outcome;
        let outcome = match self.handler.load_full() {
            Some(handler) => match handler(from, kind, payload).await {
                Ok(payload) => Outcome::Payload(payload),
                Err(error) => Outcome::Error(error),
            },
            None => Outcome::Error("this node answers no requests yet".to_owned()),
        };
        proto::CallReply { outcome: Some(outcome) }
    }
}

/// One node's part of the replicated store. Clones are handles to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store, verifies it, starts Raft and serves its transport.
    ///
    /// # Errors
    /// [`OpenError`]; of [`OpenError::Corrupt`] the text says what to do.
    pub async fn open(cfg: StoreConfig) -> Result<Self, OpenError> {
        open::open(cfg).await
    }

    /// Makes the cluster. Only on its first node, which must be among `members`.
    ///
    /// # Errors
    /// [`InitializeError`].
    pub async fn initialize(
        &self,
        members: BTreeMap<NodeId, SocketAddr>,
    ) -> Result<(), InitializeError> {
        let members: BTreeMap<u64, BasicNode> =
            members.into_iter().map(|(id, addr)| (id.0, BasicNode::new(addr))).collect();
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(RaftInitializeError::NotAllowed(_))) => {
                Err(InitializeError::AlreadyInitialized)
            }
            Err(RaftError::APIError(RaftInitializeError::NotInMembers(_))) => {
                Err(InitializeError::NotAMember)
            }
            Err(RaftError::Fatal(_)) => Err(InitializeError::Stopped),
        }
    }

    /// Proposes a command: on the leader directly, elsewhere forwarded to it once. When this returns, the command was
    /// applied by the leader; this node may apply it a moment later (see [`Store::applied`]).
    ///
    /// # Errors
    /// [`ProposeError`]. A refusal by `apply` is not an error but a [`crate::Reply`].
    pub async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.inner.propose(command, None, None, PROPOSE_WITHIN).await
    }

    /// Proposes with a client's sequence number, so that a repetition is applied once, and with the caller's trace. Because
    /// repeating is safe, this does so by itself when the leader falls silent, until the deadline.
    ///
    /// # Errors
    /// As [`Store::propose`].
    pub async fn propose_as(
        &self,
        command: Command,
        client: (u64, u64),
        trace: Option<String>,
        deadline: Duration,
    ) -> Result<Committed, ProposeError> {
        self.inner.propose(command, Some(client), trace, deadline).await
    }

    /// The state after the newest entry applied on this node. Never waits.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.inner.published.state.load_full()
    }

    /// The newest revision applied on this node; [`Store::state`] is at least as new.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Revision> {
        self.inner.published.applied.subscribe()
    }

    /// Follows the changes after `after`.
    ///
    /// # Errors
    /// [`Gone`] when these are no longer kept: read [`Store::state`] and follow from its revision.
    pub fn changes(&self, after: Revision) -> Result<ChangeFeed, Gone> {
        self.inner.published.feed.follow(after)
    }

    /// Makes a read linearizable: when this returns, [`Store::state`] has everything that was committed before the call.
    ///
    /// # Errors
    /// [`ProposeError`], except `Overloaded`.
    pub async fn read_index(&self) -> Result<Revision, ProposeError> {
        self.inner.read_index().await
    }

    /// Index of the newest membership in this node's log or snapshot, before having it is acknowledged to the leader.
    /// A quorum lease's voter needs it this early.
    #[must_use]
    pub fn logged_membership(&self) -> Arc<AtomicU64> {
        self.inner.published.membership.newest()
    }

    /// Raft on this node, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.subscribe()
    }

    /// The replicated time as this node knows it; on the leader, what the next entry would carry.
    ///
    /// A wrong wall clock of this node shows in it as a rate of two in a thousand and no more, so
    /// whatever several nodes must agree on (leases, tokens) is compared with this.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.inner.published.clock.now((self.inner.clock)(), Instant::now())
    }

    /// Hands leadership to a voter that has caught up.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        self.inner.admin(AdminOp::TransferLeader(to)).await.into()
    }

    /// Adds a member without a vote, which starts to copy the log.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn add_learner(&self, node: NodeId, addr: SocketAddr) -> Result<(), MemberError> {
        self.inner.admin(AdminOp::AddLearner(node, addr)).await.into()
    }

    /// Gives a member that has caught up a vote.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn promote(&self, node: NodeId) -> Result<(), MemberError> {
        self.inner.admin(AdminOp::Promote(node)).await.into()
    }

    /// Removes a member; its id is never used again.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn remove(&self, node: NodeId) -> Result<(), MemberError> {
        self.inner.admin(AdminOp::Remove(node)).await.into()
    }

    /// Asks another node something that is not Raft's business.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn request(
        &self,
        to: NodeId,
        kind: &str,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        use proto::call_reply::Outcome;
        let kind = kind.to_owned();
        if to == self.inner.node {
            let reply = self.inner.serve_call(to, kind, payload).await;
            return call_result(to, reply.outcome);
        }
        let mut client = self.inner.client(to, Lane::Forward)?;
        let call = client.call(proto::CallRequest { kind, payload });
        let unreachable = |reason| CallError::Unreachable { node: to, reason };
        let reply: Option<Outcome> = match tokio::time::timeout(CALL_WITHIN, call).await {
            Ok(Ok(reply)) => reply.into_inner().outcome,
            Ok(Err(status)) => return Err(unreachable(status.message().to_owned())),
            Err(_) => return Err(unreachable(format!("no answer within {CALL_WITHIN:?}"))),
        };
        call_result(to, reply)
    }

    /// Sets who answers [`Store::request`] from other nodes.
    pub fn on_request(&self, handler: RequestHandler) {
        self.inner.handler.store(Some(Arc::new(handler)));
    }

    /// Why the store cannot go on; the process must then exit, because this node no longer keeps its promises.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.published.fatal.subscribe()
    }

    /// Where Raft listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.address
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// How the disk under the log does now. Never waits for the disk.
    #[must_use]
    pub fn disk(&self) -> DiskHealth {
        self.inner.counters.disk.read(Instant::now())
    }

    /// Has a few octets written and flushed soon, so that [`Store::disk`] has news though Raft writes nothing.
    pub fn probe_disk(&self) {
        if let Some(writer) = &*self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.probe();
        }
    }

    /// Numbers about the store's own work.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        let octets = self.inner.engine.upgrade().and_then(|e| e.size_octets().ok()).unwrap_or(0);
        self.inner.counters.read(octets)
    }

    /// Writes a snapshot soon, as the log's length would cause by itself.
    ///
    /// # Errors
    /// When the store has stopped.
    pub async fn snapshot(&self) -> Result<(), ProposeError> {
        self.inner.raft.trigger().snapshot().await.map_err(|_| ProposeError::Stopped)
    }

    /// Writes a snapshot of everything applied so far and removes the log before it.
    ///
    /// # Errors
    /// [`ProposeError::Timeout`] when the snapshot is not written in time.
    pub async fn snapshot_and_purge(&self) -> Result<(), ProposeError> {
        let inner = &self.inner;
        let applied = inner.raft.metrics().borrow_watched().last_applied.map_or(0, |id| id.index);
        self.snapshot().await?;
        let mut status = inner.status.subscribe();
        let written = status.wait_for(|s| s.snapshot.is_some_and(|at| at >= applied));
        match tokio::time::timeout(SNAPSHOT_WITHIN, written).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopped),
            Err(_) => return Err(ProposeError::Timeout),
        }
        inner.raft.trigger().purge_log(applied).await.map_err(|_| ProposeError::Stopped)
    }

    /// Stops: Raft first, then the transport, then the log, which is flushed.
    pub async fn shutdown(self) {
        let inner = self.inner;
        inner.stop.cancel();
        if let Err(e) = inner.raft.shutdown().await {
            tracing::warn!(error = %e, "raft did not stop in order");
        }
        if tokio::time::timeout(SHUTDOWN_WITHIN, inner.tasks.wait()).await.is_err() {
            tracing::warn!("some tasks of the store are still running");
        }
        let writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let join = tokio::task::spawn_blocking(move || writer.join());
            if tokio::time::timeout(SHUTDOWN_WITHIN, join).await.is_err() {
                tracing::warn!("the log is still being written");
            }
        }
        let closed = Instant::now() + SHUTDOWN_WITHIN;
        while inner.engine.strong_count() > 0 && Instant::now() < closed {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn call_result(
    node: NodeId,
    outcome: Option<proto::call_reply::Outcome>,
) -> Result<Vec<u8>, CallError> {
    use proto::call_reply::Outcome;
    match outcome {
        Some(Outcome::Payload(payload)) => Ok(payload),
        Some(Outcome::Error(error)) => Err(CallError::Refused(error)),
        None => Err(CallError::Unreachable { node, reason: "an empty answer".to_owned() }),
    }
}
