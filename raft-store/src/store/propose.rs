//! Proposals: batched on the leader, forwarded once from everywhere else.

use super::{Committed, Inner, ProposeError, Role};
use crate::command::{Command, Entry, Refusal, Reply};
use crate::metrics::add;
use crate::net::{Lane, was_never_sent};
use crate::raft::wire::proto;
use crate::raft::{Payload, TypeConfig};
use futures::StreamExt as _;
use model::{NodeId, Revision};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::raft::WriteResult;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// Proposals of this node that wait for an answer.
pub(super) const OUTSTANDING_MAX: usize = 16_384;
/// Proposals in a queue of this file.
pub(super) const QUEUE_MAX: usize = 4_096;
/// Commands handed to Raft, or to the leader, together.
const BATCH_MAX: usize = 256;
/// Octets of one entry. A follower must be able to take it in one message, far below [`crate::net`]'s bound.
const ENTRY_OCTETS_MAX: usize = 16 << 20;
/// Batches of which some proposal waits for an answer.
const BATCHES_IN_FLIGHT_MAX: usize = 64;
/// The longest anybody waits for an answer.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// Pause before another try when the known leader turned out not to be one.
const RETRY_PAUSE: Duration = Duration::from_millis(15);
/// The shortest time one try with the leader is given.
const TRY_MIN: Duration = Duration::from_millis(500);

/// A proposal on its way.
pub(crate) struct Pending {
    command: Command,
    client: Option<(u64, u64)>,
    trace: Option<String>,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// What became of one try.
#[derive(Clone, Debug)]
enum Outcome {
    Committed(Committed),
    /// Surely not appended.
    NotLeader,
    /// Perhaps applied, perhaps later.
    Unknown,
    Invalid(String),
    Stopped,
}

/// The queues of the batching tasks.
#[derive(Clone)]
pub(crate) struct Queues {
    local: mpsc::Sender<Pending>,
    forward: mpsc::Sender<(NodeId, Pending)>,
    outstanding: Arc<Semaphore>,
}

/// The other ends of the queues.
pub(crate) struct QueueEnds {
    local: mpsc::Receiver<Pending>,
    forward: mpsc::Receiver<(NodeId, Pending)>,
}

pub(crate) fn queues() -> (Queues, QueueEnds) {
    let (local, local_end) = mpsc::channel(QUEUE_MAX);
    let (forward, forward_end) = mpsc::channel(QUEUE_MAX);
    let outstanding = Arc::new(Semaphore::new(OUTSTANDING_MAX));
    let ends = QueueEnds { local: local_end, forward: forward_end };
    (Queues { local, forward, outstanding }, ends)
}

impl Inner {
    /// How long a call waits for a leader before it gives up: an election and a bit.
    pub(super) fn leader_wait(&self) -> Duration {
        4 * self.timing.election_max
    }

    pub(super) fn no_leader(&self) -> ProposeError {
        ProposeError::NoLeader { retry_after: self.timing.election_max }
    }

    /// Waits until a leader is known.
    pub(super) async fn leader(&self, until: Instant) -> Option<NodeId> {
        let mut status = self.status.subscribe();
        let known = status.wait_for(|s| s.leader.is_some());
        let status = timeout_at(until, known).await.ok()?.ok()?;
        status.leader
    }

    pub(super) async fn propose(
        &self,
        command: Command,
        client: Option<(u64, u64)>,
        trace: Option<String>,
        within: Duration,
    ) -> Result<Committed, ProposeError> {
        let start = Instant::now();
        let deadline = start + within.min(DEADLINE_MAX);
        add(&self.counters.proposals, 1);
        let _slot = self.slot(deadline).await?;
        let mut give_up = deadline.min(start + self.leader_wait());
        loop {
            let Some(leader) = self.leader(give_up).await else { return Err(self.no_leader()) };
            let (answer, outcome) = oneshot::channel();
            // With a client sequence a second try cannot apply it twice, so a silent leader need not be waited for.
            let try_until = match client {
                Some(_) => deadline.min(Instant::now() + self.leader_wait().max(TRY_MIN)),
                None => deadline,
            };
            let command = command.clone();
            let pending =
                Pending { command, client, trace: trace.clone(), deadline: try_until, answer };
            if !self.enqueue(leader, pending, deadline).await? {
                return Err(self.overloaded());
            }
            match timeout_at(try_until, outcome).await {
                Ok(Ok(Outcome::Committed(committed))) => {
                    self.counters.commit.record(start.elapsed());
                    return Ok(committed);
                }
                Ok(Ok(Outcome::Invalid(text))) => {
                    let reply = Reply::Refused(Refusal::Invalid(text));
                    return Ok(Committed { revision: Revision(0), reply });
                }
                Ok(Ok(Outcome::NotLeader)) if Instant::now() < give_up => {}
                Ok(Ok(Outcome::NotLeader)) => return Err(self.no_leader()),
                Ok(Ok(Outcome::Stopped)) => return Err(ProposeError::Stopped),
                Ok(Ok(Outcome::Unknown) | Err(_)) | Err(_) => {
                    if client.is_none() || Instant::now() >= deadline {
                        return Err(ProposeError::Timeout);
                    }
                    give_up = deadline;
                }
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + RETRY_PAUSE)).await;
        }
    }

    async fn slot(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, ProposeError> {
        if self.stop.is_cancelled() {
            return Err(ProposeError::Stopped);
        }
        let slot = Arc::clone(&self.queues.outstanding).acquire_owned();
        match timeout_at(deadline, slot).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(self.overloaded()),
        }
    }

    fn overloaded(&self) -> ProposeError {
        add(&self.counters.overloaded, 1);
        ProposeError::Overloaded { retry_after: self.timing.heartbeat }
    }

    /// Queues a proposal; false when there was no room until the deadline.
    async fn enqueue(
        &self,
        leader: NodeId,
        pending: Pending,
        deadline: Instant,
    ) -> Result<bool, ProposeError> {
        let sent = if leader == self.node {
            timeout_at(deadline, self.queues.local.send(pending)).await.map(|r| r.is_ok())
        } else {
            add(&self.counters.forwarded, 1);
            let sent = self.queues.forward.send((leader, pending));
            timeout_at(deadline, sent).await.map(|r| r.is_ok())
        };
        match sent {
            Ok(true) => Ok(true),
            Ok(false) => Err(ProposeError::Stopped),
            Err(_) => Ok(false),
        }
    }

    fn leads(&self) -> bool {
        self.status.borrow().role == Role::Leader
    }

    /// Answers proposals that another node forwarded. They go no further: this node leads, or says that it does not.
    pub(crate) async fn serve_proposals(
        &self,
        request: proto::ProposeRequest,
    ) -> proto::ProposeReply {
        use proto::propose_result::Outcome as Out;
        let deadline =
            Instant::now() + Duration::from_millis(request.deadline_ms).min(DEADLINE_MAX);
        let mut waiting = Vec::with_capacity(request.proposals.len());
        for proposal in request.proposals {
            let command = match Command::decode(&proposal.command) {
                Ok(command) => command,
                Err(e) => {
                    waiting.push(Err(Out::Invalid(e.to_string())));
                    continue;
                }
            };
            let (answer, outcome) = oneshot::channel();
            let client = proposal.client.map(|c| (c.id, c.sequence));
            let pending = Pending { command, client, trace: proposal.trace, deadline, answer };
            let queued = timeout_at(deadline, self.queues.local.send(pending)).await;
            waiting.push(match queued {
                Ok(Ok(())) => Ok(outcome),
                Ok(Err(_)) | Err(_) => Err(Out::NotLeader(true)),
            });
        }
        let mut results = Vec::with_capacity(waiting.len());
        for outcome in waiting {
            let outcome = match outcome {
                Ok(outcome) => match timeout_at(deadline, outcome).await {
                    Ok(Ok(outcome)) => outcome.into(),
                    Ok(Err(_)) | Err(_) => Out::Unknown(true),
                },
                Err(out) => out,
            };
            results.push(proto::ProposeResult { outcome: Some(outcome) });
        }
        proto::ProposeReply { results }
    }
}

impl From<Outcome> for proto::propose_result::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Committed(c) => Self::Committed(proto::Committed {
                revision: c.revision.0,
                reply: c.reply.encode(),
            }),
            Outcome::NotLeader => Self::NotLeader(true),
            Outcome::Unknown | Outcome::Stopped => Self::Unknown(true),
            Outcome::Invalid(text) => Self::Invalid(text),
        }
    }
}

impl From<proto::ProposeResult> for Outcome {
    fn from(result: proto::ProposeResult) -> Self {
        use proto::propose_result::Outcome as Out;
        match result.outcome {
            Some(Out::Committed(c)) => match Reply::decode(&c.reply) {
                Ok(reply) => Self::Committed(Committed { revision: Revision(c.revision), reply }),
                Err(e) => {
                    tracing::error!(error = %e, "the leader's reply cannot be read");
                    Self::Unknown
                }
            },
            Some(Out::NotLeader(_)) => Self::NotLeader,
            Some(Out::Invalid(text)) => Self::Invalid(text),
            Some(Out::Unknown(_)) | None => Self::Unknown,
        }
    }
}

fn answer_all(pending: Vec<Pending>, outcome: &Outcome) {
    for p in pending {
        // A caller that went away does not want its answer.
        drop(p.answer.send(outcome.clone()));
    }
}

/// Stamps and hands over local proposals until the store stops.
pub(super) async fn run_local(inner: Arc<Inner>, ends: mpsc::Receiver<Pending>) {
    let mut queue = ends;
    let slots = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => break,
            n = queue.recv_many(&mut batch, BATCH_MAX) => if n == 0 { break },
        }
        let now = Instant::now();
        batch.retain(|p| p.deadline > now && !p.answer.is_closed());
        if !inner.leads() {
            answer_all(std::mem::take(&mut batch), &Outcome::NotLeader);
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
        write_batch(&inner, std::mem::take(&mut batch), slot).await;
    }
    queue.close();
    while let Some(p) = queue.recv().await {
        drop(p.answer.send(Outcome::Stopped));
    }
}

/// What becomes of a command that must not stand in the log: one whose bytes others cannot read.
fn unfit(inner: &Inner, command: &Command) -> Option<Outcome> {
    if let Command::Documents(batch) = command
        && let Some(also) = &batch.also
        && let Command::Documents(_) = **also
    {
        return Some(Outcome::Invalid("a batch of documents in another".to_owned()));
    }
    if command.level() <= inner.published.state.load().level() {
        return None;
    }
    let metrics = inner.raft.metrics();
    let metrics = metrics.borrow_watched();
    // A new leader may not have applied everything yet, the raised level among it.
    let settled = metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term);
    if !settled {
        return Some(Outcome::NotLeader);
    }
    let reply = Reply::Refused(Refusal::LevelTooLow);
    Some(Outcome::Committed(Committed { revision: Revision(0), reply }))
}

async fn write_batch(inner: &Inner, batch: Vec<Pending>, slot: OwnedSemaphorePermit) {
    let at = inner.published.clock.stamp((inner.clock)(), Instant::now());
    let mut entries = Vec::with_capacity(batch.len());
    let mut answers = Vec::with_capacity(batch.len());
    for Pending { command, client, trace, answer, .. } in batch {
        if let Some(outcome) = unfit(inner, &command) {
            drop(answer.send(outcome));
            continue;
        }
        let entry = Entry { at, client, trace, command }.encode();
        if entry.len() > ENTRY_OCTETS_MAX {
            let why = format!("an entry has at most {ENTRY_OCTETS_MAX} octets");
            drop(answer.send(Outcome::Invalid(why)));
            continue;
        }
        entries.push(Payload(entry.into()));
        answers.push(answer);
    }
    if entries.is_empty() {
        return;
    }
    match inner.raft.client_write_many(entries).await {
        Ok(mut results) => {
            tokio::spawn(async move {
                for answer in answers {
                    drop(answer.send(outcome(results.next().await)));
                }
                drop(slot);
            });
        }
        // Raft stopped before or after taking the batch; a caller may not take this for "not done".
        Err(_) => answers.into_iter().for_each(|a| drop(a.send(Outcome::Unknown))),
    }
}

fn outcome(result: Option<Result<WriteResult<TypeConfig>, Fatal<TypeConfig>>>) -> Outcome {
    match result {
        Some(Ok(Ok(written))) => match written.response.0 {
            Some(reply) => {
                Outcome::Committed(Committed { revision: Revision(written.log_id.index), reply })
            }
            None => Outcome::Unknown,
        },
        Some(Ok(Err(ClientWriteError::ForwardToLeader(_)))) => Outcome::NotLeader,
        // A discarded entry may still come back through another leader's log.
        Some(Ok(Err(
            ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_),
        )))
        | Some(Err(_))
        | None => Outcome::Unknown,
    }
}

/// Forwards proposals to the leader until the store stops.
pub(super) async fn run_forward(inner: Arc<Inner>, ends: mpsc::Receiver<(NodeId, Pending)>) {
    let mut queue = ends;
    let slots = Arc::new(Semaphore::new(BATCHES_IN_FLIGHT_MAX));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => break,
            n = queue.recv_many(&mut batch, BATCH_MAX) => if n == 0 { break },
        }
        let now = Instant::now();
        let mut by_leader: BTreeMap<NodeId, Vec<Pending>> = BTreeMap::new();
        for (leader, p) in batch.drain(..) {
            if p.deadline > now && !p.answer.is_closed() {
                by_leader.entry(leader).or_default().push(p);
            }
        }
        for (leader, pending) in by_leader {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { break };
            let inner = Arc::clone(&inner);
            tokio::spawn(async move {
                forward(&inner, leader, pending).await;
                drop(slot);
            });
        }
    }
    queue.close();
    while let Some((_, p)) = queue.recv().await {
        drop(p.answer.send(Outcome::Stopped));
    }
}

async fn forward(inner: &Inner, leader: NodeId, pending: Vec<Pending>) {
    let now = Instant::now();
    let deadline = pending.iter().map(|p| p.deadline).max().unwrap_or(now);
    let within = deadline.saturating_duration_since(now);
    let proposals = pending
        .iter()
        .map(|p| proto::Proposal {
            command: p.command.encode(),
            client: p.client.map(|(id, sequence)| proto::Client { id, sequence }),
            trace: p.trace.clone(),
        })
        .collect();
    let deadline_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    let Ok(mut client) = inner.client(leader, Lane::Forward) else {
        return answer_all(pending, &Outcome::NotLeader);
    };
    let call = client.propose(proto::ProposeRequest { proposals, deadline_ms });
    match tokio::time::timeout(within, call).await {
        Ok(Ok(reply)) => {
            let mut results = reply.into_inner().results.into_iter();
            for p in pending {
                let outcome = results.next().map_or(Outcome::Unknown, Into::into);
                drop(p.answer.send(outcome));
            }
        }
        Ok(Err(status)) => {
            tracing::debug!(%leader, reason = status.message(), "forwarding failed");
            let sent = !was_never_sent(&status);
            answer_all(pending, if sent { &Outcome::Unknown } else { &Outcome::NotLeader });
        }
        Err(_) => answer_all(pending, &Outcome::Unknown),
    }
}

impl QueueEnds {
    pub(super) fn split(self) -> (mpsc::Receiver<Pending>, mpsc::Receiver<(NodeId, Pending)>) {
        (self.local, self.forward)
    }
}
