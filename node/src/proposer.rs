//! Session changes of this node on their way into the log.
//!
//! Changes of one group that come within a millisecond share an entry, and entries are pipelined.
//! Each entry carries a client sequence, so a retry after a timeout or a leader change is applied once.

use crate::clock;
use model::{Epoch, GroupId, NodeId};
use raft_store::{Command, OpReply, ProposeError, Reply, SessionBatch, SessionOp, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, warn};

/// Changes waiting to be batched; beyond it the access side sheds new dial-ins.
const QUEUE_MAX: usize = 4096;
/// Changes in one entry.
const BATCH_MAX: usize = 256;
/// How long the first change of a batch waits for others.
const LINGER: Duration = Duration::from_millis(1);
/// Entries under way at once.
const IN_FLIGHT_MAX: usize = 16;
/// How long one attempt may take, and all of them together.
const ATTEMPT: Duration = Duration::from_millis(600);
const GIVE_UP: Duration = Duration::from_secs(5);
/// Pause before another attempt: an election is a few of these long.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

struct Item {
    epoch: Epoch,
    op: SessionOp,
    done: oneshot::Sender<OpOutcome>,
}

/// What became of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpOutcome {
    /// The log's answer.
    Committed(OpReply),
    /// Nobody knows: no answer came in time.
    Unknown,
}

/// Takes the session changes of one group.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Item>,
}

impl Proposer {
    /// Starts the batching task of one group.
    #[must_use]
    pub fn start(store: Store, me: NodeId, group: GroupId) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(batch(store, me, group, inbox));
        Self { queue }
    }

    /// Queues one change; `None` when the queue is full, and nothing was queued.
    pub fn propose(&self, epoch: Epoch, op: SessionOp) -> Option<oneshot::Receiver<OpOutcome>> {
        let (done, outcome) = oneshot::channel();
        self.queue.try_send(Item { epoch, op, done }).ok()?;
        Some(outcome)
    }

    /// How full the queue is, in percent: the measure for holding back PADO and OFFER.
    #[must_use]
    pub fn load_percent(&self) -> usize {
        (QUEUE_MAX - self.queue.capacity()) * 100 / QUEUE_MAX
    }
}

async fn batch(store: Store, me: NodeId, group: GroupId, mut inbox: mpsc::Receiver<Item>) {
    let client: u64 = rand::random();
    let sequence = Arc::new(AtomicU64::new(1));
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut held: Option<Item> = None;
    loop {
        let first = match held.take() {
            Some(item) => item,
            None => match inbox.recv().await {
                Some(item) => item,
                None => return,
            },
        };
        let epoch = first.epoch;
        let mut items = vec![first];
        let close_at = clock::now() + LINGER;
        while items.len() < BATCH_MAX {
            let next = tokio::select! {
                biased;
                item = inbox.recv() => item,
                () = clock::until(Some(close_at)) => None,
            };
            match next {
                Some(item) if item.epoch == epoch => items.push(item),
                Some(item) => {
                    held = Some(item);
                    break;
                }
                None => break,
            }
        }
        let Ok(permit) = in_flight.clone().acquire_owned().await else { return };
        let store = store.clone();
        let sequence = sequence.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let (ops, waiting): (Vec<_>, Vec<_>) =
                items.into_iter().map(|i| (i.op, i.done)).unzip();
            let batch = SessionBatch { group, node: me, epoch, ops };
            deliver(commit(&store, batch, (client, sequence)).await, waiting);
            drop(permit);
        });
    }
}

/// Proposes until the log answers or time is up.
async fn commit(store: &Store, batch: SessionBatch, client: (u64, u64)) -> Option<Reply> {
    let give_up = clock::now() + GIVE_UP;
    let command = Command::Sessions(batch);
    loop {
        match store.propose_as(command.clone(), client, None, ATTEMPT).await {
            Ok(committed) => return Some(committed.reply),
            Err(ProposeError::Stopped) => return None,
            Err(error) if clock::now() >= give_up => {
                warn!(%error, "session changes got no answer");
                return None;
            }
            Err(error) => debug!(%error, "proposing session changes again"),
        }
        clock::until(Some(clock::now() + RETRY_PAUSE)).await;
    }
}

fn deliver(reply: Option<Reply>, waiting: Vec<oneshot::Sender<OpOutcome>>) {
    match reply {
        Some(Reply::Sessions(replies)) => {
            for (done, reply) in waiting.into_iter().zip(replies) {
                let _ = done.send(OpOutcome::Committed(reply));
            }
        }
        Some(Reply::Refused(refusal)) => {
            for done in waiting {
                let _ = done.send(OpOutcome::Committed(OpReply::Refused(refusal.clone())));
            }
        }
        Some(Reply::Done | Reply::Acquired { .. } | Reply::NodeId(_) | Reply::Documents { .. })
        | None => {
            for done in waiting {
                let _ = done.send(OpOutcome::Unknown);
            }
        }
    }
}
