//! Linearizable reads: ask the leader how far the log must be applied, then wait for it here.

use super::{Inner, ProposeError, Role};
use crate::net::Lane;
use crate::raft::wire::proto;
use model::{NodeId, Revision};
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

/// Reads that wait for one answer of the leader.
const SHARED_MAX: usize = 1024;
/// Reads that wait at all.
pub(super) const QUEUE_MAX: usize = 4096;
/// How long a read may take.
const READ_WITHIN: Duration = Duration::from_secs(3);
/// Pause before the leader is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(15);

/// One read.
pub(crate) struct ReadRequest {
    /// Forwarded already: this node answers as the leader, or not at all.
    local_only: bool,
    answer: oneshot::Sender<Result<u64, NoAnswer>>,
}

#[derive(Clone, Copy, Debug)]
enum NoAnswer {
    NotLeader,
    Stopped,
}

impl Inner {
    pub(super) async fn read_index(&self) -> Result<Revision, ProposeError> {
        let start = Instant::now();
        let deadline = start + READ_WITHIN;
        let give_up = start + self.leader_wait();
        let index = loop {
            if self.stop.is_cancelled() {
                return Err(ProposeError::Stopped);
            }
            if self.leader(give_up).await.is_none() {
                return Err(self.no_leader());
            }
            match self.ask(false, deadline).await {
                Some(Ok(index)) => break index,
                Some(Err(NoAnswer::Stopped)) => return Err(ProposeError::Stopped),
                Some(Err(NoAnswer::NotLeader)) if Instant::now() < give_up => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Some(Err(NoAnswer::NotLeader)) => return Err(self.no_leader()),
                // A read changes nothing, so not knowing and no leader are the same to its caller.
                None => return Err(self.no_leader()),
            }
        };
        let revision = Revision(index);
        let mut applied = self.published.applied.subscribe();
        let reached = applied.wait_for(|at| *at >= revision);
        match timeout_at(deadline, reached).await {
            Ok(Ok(at)) => Ok(*at),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::Timeout),
        }
    }

    async fn ask(&self, local_only: bool, deadline: Instant) -> Option<Result<u64, NoAnswer>> {
        let (answer, index) = oneshot::channel();
        let request = ReadRequest { local_only, answer };
        match timeout_at(deadline, self.reads.send(request)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Some(Err(NoAnswer::Stopped)),
            Err(_) => return None,
        }
        match timeout_at(deadline, index).await {
            Ok(Ok(index)) => Some(index),
            Ok(Err(_)) => Some(Err(NoAnswer::Stopped)),
            Err(_) => None,
        }
    }

    pub(crate) async fn serve_read_index(&self) -> proto::ReadIndexReply {
        use proto::read_index_reply::Outcome;
        let outcome = match self.ask(true, Instant::now() + READ_WITHIN).await {
            Some(Ok(index)) => Outcome::Index(index),
            Some(Err(_)) | None => Outcome::NotLeader(true),
        };
        proto::ReadIndexReply { outcome: Some(outcome) }
    }

    /// How long one question to a quorum, or to the leader, may take.
    fn round_within(&self) -> Duration {
        (2 * self.timing.election_max).max(Duration::from_millis(300))
    }

    async fn leader_index(&self) -> Result<u64, NoAnswer> {
        let quorum = self.raft.get_read_linearizer(ReadPolicy::ReadIndex);
        match timeout(self.round_within(), quorum).await {
            Ok(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Ok(Err(RaftError::APIError(
                LinearizableReadError::ForwardToLeader(_)
                | LinearizableReadError::QuorumNotEnough(_),
            )))
            | Err(_) => Err(NoAnswer::NotLeader),
            Ok(Err(RaftError::Fatal(_))) => Err(NoAnswer::Stopped),
        }
    }

    async fn remote_index(&self, leader: NodeId) -> Result<u64, NoAnswer> {
        use proto::read_index_reply::Outcome;
        let mut client = self.client(leader, Lane::Forward).map_err(|_| NoAnswer::NotLeader)?;
        let call = client.read_index(proto::ReadIndexRequest {});
        match timeout(self.round_within(), call).await {
            Ok(Ok(reply)) => match reply.into_inner().outcome {
                Some(Outcome::Index(index)) => Ok(index),
                Some(Outcome::NotLeader(_)) | None => Err(NoAnswer::NotLeader),
            },
            Ok(Err(_)) | Err(_) => Err(NoAnswer::NotLeader),
        }
    }
}

/// Answers reads, as many as wait with one question, until the store stops.
pub(super) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<ReadRequest>) {
    let mut waiting = Vec::with_capacity(SHARED_MAX);
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            n = queue.recv_many(&mut waiting, SHARED_MAX) => if n == 0 { return },
        }
        // Everybody in `waiting` asked before this question is put, so one answer is new enough for all.
        let (role, leader) = {
            let status = inner.status.borrow();
            (status.role, status.leader)
        };
        let (answer, local) = match (role, leader) {
            (Role::Leader, _) => (inner.leader_index().await, true),
            (Role::Follower | Role::Candidate | Role::Learner, Some(leader))
                if waiting.iter().any(|r| !r.local_only) =>
            {
                (inner.remote_index(leader).await, false)
            }
            (Role::Follower | Role::Candidate | Role::Learner, _) => {
                (Err(NoAnswer::NotLeader), false)
            }
        };
        for request in waiting.drain(..) {
            let refused = request.local_only && !local;
            let answer = if refused { Err(NoAnswer::NotLeader) } else { answer };
            let _ = request.answer.send(answer);
        }
    }
}
