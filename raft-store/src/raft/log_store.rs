//! The log as openraft sees it: newest entries in memory, all of them on disk through the writer thread.

use super::logged::LoggedMembership;
use super::wire::{log_id, proto};
use super::{LogEntry, LogId, LogPayload, Payload, TypeConfig, Vote};
use crate::log::{LogEngine, Op, Opened, Position, Record, RecordKind, StoredVote, WriterHandle};
use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::vote::RaftLeaderId as _;
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use prost::Message as _;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Entries kept in memory once they are in the engine.
const CACHE_ENTRIES_MAX: usize = 16_384;
/// Their payload.
const CACHE_OCTETS_MAX: usize = 16 << 20;
/// Payload of one append request, unless its first entry alone is larger.
const READ_OCTETS_MAX: usize = 1 << 20;

#[derive(Debug, Default)]
struct Cache {
    /// Consecutive, ending with the newest entry of the log.
    entries: VecDeque<LogEntry>,
    octets: usize,
}

impl Cache {
    fn first(&self) -> Option<u64> {
        self.entries.front().map(|e| e.log_id.index)
    }

    fn push(&mut self, entry: LogEntry) {
        self.octets += octets(&entry);
        self.entries.push_back(entry);
    }

    /// Forgets old entries, but none that the engine does not have yet.
    fn trim(&mut self, written_end: u64) {
        while (self.entries.len() > CACHE_ENTRIES_MAX || self.octets > CACHE_OCTETS_MAX)
            && self.first().is_some_and(|first| first < written_end)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.octets -= octets(&entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|e| e.log_id.index >= from)
            && let Some(entry) = self.entries.pop_back()
        {
            self.octets -= octets(&entry);
        }
    }

    fn purge(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.pop_front();
        }
    }

    /// The cached entries of `start..end`.
    fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &LogEntry> {
        self.entries
            .iter()
            .skip_while(move |e| e.log_id.index < start)
            .take_while(move |e| e.log_id.index < end)
    }
}

fn octets(entry: &LogEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(p) => p.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 64,
    }
}

#[derive(Debug)]
struct Known {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    cache: Cache,
}

/// openraft's log storage and log reader.
#[derive(Clone)]
pub(crate) struct LogStore {
    known: Arc<Mutex<Known>>,
    engine: Arc<dyn LogEngine>,
    writer: WriterHandle,
    membership: LoggedMembership,
}

/// What [`LogStore`] needs of an opened log, before the writer takes it.
pub(crate) struct Parts {
    known: Known,
    engine: Arc<dyn LogEngine>,
}

impl LogStore {
    pub(crate) fn parts(opened: &Opened) -> Parts {
        let id = |p: Position| log_id(p.term, p.index);
        let vote = |v: StoredVote| Vote {
            leader_id: super::LeaderId::new(v.term, v.node),
            committed: v.committed,
        };
        let known = Known {
            vote: opened.vote.map(vote),
            committed: opened.committed.map(id),
            purged: opened.purged.map(id),
            last: opened.last.map(id),
            cache: Cache::default(),
        };
        Parts { known, engine: Arc::clone(&opened.engine) }
    }

    pub(crate) fn new(parts: Parts, writer: WriterHandle, membership: LoggedMembership) -> Self {
        Self { known: Arc::new(Mutex::new(parts.known)), engine: parts.engine, writer, membership }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn durable(&self, op: impl FnOnce(crate::log::Done) -> Op) -> io::Result<()> {
        let (tx, rx) = oneshot::channel();
        // The receiver is gone only when openraft is.
        self.writer.send(op(Box::new(move |result| drop(tx.send(result))))).await?;
        rx.await
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the log writer has stopped"))?
    }

    /// Reads `start..end`, stopping early once `octets_max` are exceeded.
    async fn read(&self, start: u64, end: u64, octets_max: usize) -> io::Result<Vec<LogEntry>> {
        let (cache_first, mut cached) = {
            let known = self.lock();
            let start = start.max(known.purged.map_or(0, |p| p.index + 1));
            let first = known.cache.first().unwrap_or(u64::MAX);
            (first, known.cache.range(start, end).cloned().collect::<Vec<_>>())
        };
        let mut out = Vec::new();
        if start < cache_first.min(end) {
            let engine = Arc::clone(&self.engine);
            let end = cache_first.min(end);
            let old = move || read_engine(engine.as_ref(), start, end, octets_max);
            out = tokio::task::spawn_blocking(old).await.map_err(io::Error::other)??;
            let stopped = out.last().is_none_or(|e| e.log_id.index + 1 < end);
            if stopped && !out.is_empty() {
                return Ok(out);
            }
        }
        out.append(&mut cached);
        let mut total = 0;
        let keep = out
            .iter()
            .position(|e| {
                total += octets(e);
                total > octets_max
            })
            .unwrap_or(out.len());
        out.truncate(keep.max(1));
        Ok(out)
    }
}

fn read_engine(
    engine: &dyn LogEngine,
    start: u64,
    end: u64,
    octets_max: usize,
) -> io::Result<Vec<LogEntry>> {
    let mut out = Vec::new();
    let mut total = 0;
    let mut fault = None;
    engine.range(start, end, &mut |key, frame| match crate::log::decode(key, frame)
        .map_err(|e| e.to_string())
        .and_then(entry)
    {
        Ok(entry) => {
            total += octets(&entry);
            out.push(entry);
            if total > octets_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Err(e) => {
            fault = Some(format!("log entry {key}: {e}"));
            ControlFlow::Break(())
        }
    })?;
    fault.map_or(Ok(out), |text| Err(io::Error::new(io::ErrorKind::InvalidData, text)))
}

fn entry(record: Record) -> Result<LogEntry, String> {
    let payload = match record.kind {
        RecordKind::Blank => LogPayload::Blank,
        RecordKind::Normal => LogPayload::Normal(Payload(record.payload)),
        RecordKind::Membership => {
            let m = proto::Membership::decode(record.payload).map_err(|e| e.to_string())?;
            LogPayload::Membership(m.try_into().map_err(|e: super::wire::WireError| e.to_string())?)
        }
    };
    Ok(LogEntry { log_id: log_id(record.position.term, record.position.index), payload })
}

fn record(entry: &LogEntry) -> Record {
    let (kind, payload) = match &entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, Bytes::new()),
        EntryPayload::Normal(p) => (RecordKind::Normal, p.0.clone()),
        EntryPayload::Membership(m) => {
            (RecordKind::Membership, proto::Membership::from(m).encode_to_vec().into())
        }
    };
    Record { position: position(entry.log_id), kind, payload }
}

fn position(id: LogId) -> Position {
    Position { term: id.leader_id.term, index: id.index }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<LogEntry>> {
        let start = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(n) => n + 1,
            Bound::Excluded(n) => *n,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end { Ok(Vec::new()) } else { self.read(start, end, usize::MAX).await }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        if start >= end { Ok(Vec::new()) } else { self.read(start, end, READ_OCTETS_MAX).await }
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let known = self.lock();
        Ok(LogState { last_purged_log_id: known.purged, last_log_id: known.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let stored = StoredVote {
            term: vote.leader_id.term,
            node: vote.leader_id.voted_for,
            committed: vote.committed,
        };
        self.durable(|done| Op::Vote { vote: stored, done }).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.lock().committed = committed;
        self.writer.send(Op::Committed(committed.map(position))).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = {
            let mut known = self.lock();
            let mut records = Vec::new();
            for entry in entries {
                records.push(record(&entry));
                if matches!(entry.payload, EntryPayload::Membership(_)) {
                    self.membership.add(entry.log_id.index);
                }
                known.last = Some(entry.log_id);
                known.cache.push(entry);
            }
            known.cache.trim(self.writer.written_end());
            records
        };
        let done = Box::new(move |result| callback.io_completed(result));
        self.writer.send(Op::Append { records, queued: Instant::now(), done }).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        {
            let mut known = self.lock();
            known.cache.truncate(last.map_or(0, |id| id.index + 1));
            if known.last.map(|id| id.index) > last.map(|id| id.index) {
                known.last = last;
            }
        }
        self.membership.truncate(last.map(|id| id.index));
        self.durable(|done| Op::Truncate { after: last.map(position), done }).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut known = self.lock();
            known.purged = known.purged.max(Some(upto));
            known.last = known.last.max(Some(upto));
            known.cache.purge(upto.index);
        }
        self.durable(|done| Op::Purge { upto: position(upto), done }).await
    }
}
