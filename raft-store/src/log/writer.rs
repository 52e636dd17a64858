//! The one thread that writes the log.
//!
//! It takes all that has queued up, writes it, flushes once, and only then calls everybody back: that is the group commit.
//! Vote, entries, truncation and purge pass through the same queue, because Raft needs them in order. After a failed write
//! or flush nothing on disk can be trusted, so the thread refuses everything from then on and reports it once.

use super::mark::{Mark, MarkFile};
use super::verify::{
    KEY_COMMITTED, KEY_PROBE, KEY_PURGED, KEY_VOTE, Opened, encode_position, encode_vote,
};
use super::{LogEngine, Position, Record, StoredVote, frame};
use crate::metrics::{Counters, add};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Operations waiting for the thread; Raft waits when they are this many.
const QUEUE_MAX: usize = 1024;
/// Operations that share one flush.
const COALESCE_MAX: usize = 512;

/// Told when the operation is durable, or has failed.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One write.
pub(crate) enum Op {
    Append {
        records: Vec<Record>,
        queued: Instant,
        done: Done,
    },
    Vote {
        vote: StoredVote,
        done: Done,
    },
    /// A hint that speeds up a restart; durable with the next flush.
    Committed(Option<Position>),
    Truncate {
        after: Option<Position>,
        done: Done,
    },
    Purge {
        upto: Position,
        done: Done,
    },
    /// A small write and a flush, to learn how fast the disk is while nothing else is written.
    Probe,
}

/// Sends to the thread.
#[derive(Clone)]
pub(crate) struct WriterHandle {
    queue: mpsc::Sender<Op>,
    written: Arc<AtomicU64>,
}

impl WriterHandle {
    pub(crate) async fn send(&self, op: Op) -> io::Result<()> {
        let closed = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the log writer has stopped");
        self.queue.send(op).await.map_err(closed)
    }

    /// One past the highest index that can be read from the engine.
    pub(crate) fn written_end(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }
}

/// The running thread.
pub(crate) struct Writer {
    thread: std::thread::JoinHandle<()>,
    /// Weak, so that the thread ends with the last handle.
    probes: mpsc::WeakSender<Op>,
}

impl Writer {
    /// Starts the thread; `failed` is called once, with the reason, if it has to give up.
    pub(crate) fn start(
        opened: Opened,
        counters: Arc<Counters>,
        failed: Box<dyn FnOnce(String) + Send>,
    ) -> io::Result<(Self, WriterHandle)> {
        let (queue, ops) = mpsc::channel(QUEUE_MAX);
        let probes = queue.downgrade();
        let written = Arc::new(AtomicU64::new(opened.last.map_or(0, |p| p.index + 1)));
        let handle = WriterHandle { queue, written: Arc::clone(&written) };
        let mark = Mark { last: opened.last, vote: opened.vote };
        let state = State {
            engine: opened.engine,
            mark_file: opened.mark_file,
            mark,
            marked: opened.mark,
            written,
            counters,
            probes: 0,
        };
        let thread = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || state.run(ops, failed))?;
        Ok((Self { thread, probes }, handle))
    }

    /// Asks for a probe without waiting; a full queue needs none.
    pub(crate) fn probe(&self) {
        if let Some(queue) = self.probes.upgrade() {
            let _ = queue.try_send(Op::Probe);
        }
    }

    /// Waits until the thread has written what was queued; all handles must be gone.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the log writer panicked");
        }
    }
}

struct State {
    engine: Arc<dyn LogEngine>,
    mark_file: MarkFile,
    /// What the log holds.
    mark: Mark,
    /// What the mark file says.
    marked: Mark,
    written: Arc<AtomicU64>,
    counters: Arc<Counters>,
    probes: u64,
}

impl State {
    fn run(mut self, mut ops: mpsc::Receiver<Op>, failed: Box<dyn FnOnce(String) + Send>) {
        let mut failed = Some(failed);
        while let Some(first) = ops.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < COALESCE_MAX
                && let Ok(op) = ops.try_recv()
            {
                batch.push(op);
            }
            if failed.is_none() {
                refuse(batch);
                continue;
            }
            let mut dones = Vec::with_capacity(batch.len());
            self.counters.disk.begin(Instant::now());
            // The engine may panic on a disk that fails. What it held is in doubt then, as after an error.
            let written = AssertUnwindSafe(|| self.write(batch, &mut dones));
            let result = std::panic::catch_unwind(written)
                .unwrap_or_else(|_| Err(io::Error::other("the storage engine panicked")));
            self.counters.disk.end(Instant::now(), matches!(result, Ok(true)));
            if let Err(e) = &result
                && let Some(failed) = failed.take()
            {
                failed(format!(
                    "the Raft log cannot be written: {e}. Look at the disk that holds the data directory \
                     (free space, the kernel's log), then start bngd again: it verifies its store before it takes part"
                ));
            }
            for done in dones {
                done(copy(&result));
            }
        }
    }

    /// Writes a batch; returns whether it was flushed.
    fn write(&mut self, batch: Vec<Op>, dones: &mut Vec<Done>) -> io::Result<bool> {
        let mut outcome = Ok(());
        let mut voted = false;
        let mut probed = false;
        for op in batch {
            // After a failure the rest is only collected, so that everybody hears of it.
            let result = match op {
                Op::Append { records, queued, done } => {
                    dones.push(done);
                    outcome.and_then(|()| self.append(&records, queued))
                }
                Op::Vote { vote, done } => {
                    dones.push(done);
                    voted = true;
                    outcome.and_then(|()| {
                        self.mark.vote = Some(vote);
                        self.engine.meta_put(KEY_VOTE, &encode_vote(vote))
                    })
                }
                Op::Committed(Some(p)) => {
                    outcome.and_then(|()| self.engine.meta_put(KEY_COMMITTED, &encode_position(p)))
                }
                Op::Committed(None) => outcome,
                Op::Probe => {
                    probed = true;
                    outcome.and_then(|()| {
                        self.probes += 1;
                        self.engine.meta_put(KEY_PROBE, &self.probes.to_le_bytes())
                    })
                }
                Op::Truncate { after, done } => {
                    dones.push(done);
                    outcome.and_then(|()| self.truncate(after))
                }
                Op::Purge { upto, done } => {
                    dones.push(done);
                    outcome.and_then(|()| self.purge(upto))
                }
            };
            outcome = result;
        }
        outcome?;
        let flush = probed || !dones.is_empty();
        if flush {
            let start = Instant::now();
            self.engine.flush()?;
            self.counters.flush.record(start.elapsed());
            add(&self.counters.flushes, 1);
            self.write_mark(voted)?;
        }
        Ok(flush)
    }

    fn append(&mut self, records: &[Record], queued: Instant) -> io::Result<()> {
        let Some(last) = records.last() else { return Ok(()) };
        let frames: Vec<_> = records.iter().map(|r| (r.position.index, frame::encode(r))).collect();
        self.engine.append_batch(&frames)?;
        self.mark.last = Some(last.position);
        self.written.store(last.position.index + 1, Ordering::Release);
        let octets: usize = records.iter().map(|r| r.payload.len()).sum();
        add(&self.counters.entries_appended, u64::try_from(records.len()).unwrap_or(u64::MAX));
        add(&self.counters.octets_appended, u64::try_from(octets).unwrap_or(u64::MAX));
        self.counters.append.record(queued.elapsed());
        Ok(())
    }

    fn truncate(&mut self, after: Option<Position>) -> io::Result<()> {
        let from = after.map_or(0, |p| p.index + 1);
        // The promise is taken back before the entries go; these were never committed.
        self.mark.last = self.mark.last.min(after);
        self.write_mark(true)?;
        self.written.fetch_min(from, Ordering::AcqRel);
        self.engine.truncate(from)
    }

    fn purge(&mut self, upto: Position) -> io::Result<()> {
        self.engine.meta_put(KEY_PURGED, &encode_position(upto))?;
        self.engine.purge(upto.index)?;
        self.mark.last = self.mark.last.max(Some(upto));
        self.written.fetch_max(upto.index + 1, Ordering::AcqRel);
        Ok(())
    }

    fn write_mark(&mut self, durable: bool) -> io::Result<()> {
        if self.mark != self.marked {
            self.mark_file.write(&self.mark, durable)?;
            self.marked = self.mark;
        }
        Ok(())
    }
}

fn refuse(batch: Vec<Op>) {
    for op in batch {
        match op {
            Op::Append { done, .. }
            | Op::Vote { done, .. }
            | Op::Truncate { done, .. }
            | Op::Purge { done, .. } => {
                done(Err(io::Error::other("an earlier write of the raft log failed")));
            }
            Op::Committed(_) | Op::Probe => {}
        }
    }
}

fn copy(result: &io::Result<bool>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
    }
}
