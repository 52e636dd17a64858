//! The state machine as openraft drives it: apply committed entries, publish, answer; write and read snapshots.

use super::clock::ReplicatedClock;
use super::feed::Feed;
use super::logged::LoggedMembership;
use super::snapshot::{SnapshotDir, SnapshotHandle, read};
use super::{Applied, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::change::ChangeBatch;
use crate::command::{Entry, LEVEL_SUPPORTED, Reply};
use crate::fatal::Fatal;
use crate::metrics::{Counters, add};
use crate::span_under;
use crate::state::State;
use arc_swap::ArcSwap;
use futures::{Stream, StreamExt as _};
use model::{ClusterId, NodeId, Revision};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use tokio::time::Instant;

/// Entries applied before the state is published and their proposers are answered.
const PUBLISH_EVERY: usize = 256;

/// What the rest of the store sees of the state machine.
pub(crate) struct Published {
    pub(crate) node: NodeId,
    pub(crate) state: ArcSwap<State>,
    pub(crate) applied: watch::Sender<Revision>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) clock: ReplicatedClock,
    /// Whether Raft runs; before that, what is applied was read from this node's own disk.
    pub(crate) running: AtomicBool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) membership: LoggedMembership,
    pub(crate) fatal: Fatal,
}

impl Published {
    pub(crate) fn new(node: NodeId, counters: Arc<Counters>) -> Self {
        Self {
            node,
            state: ArcSwap::from_pointee(State::new()),
            applied: watch::Sender::new(Revision(0)),
            feed: Arc::new(Feed::new()),
            clock: ReplicatedClock::default(),
            running: AtomicBool::new(false),
            counters,
            membership: LoggedMembership::default(),
            fatal: Fatal::default(),
        }
    }

    /// This build cannot take part any more: what it would apply differs from what newer builds do.
    fn too_old(&self, what: &str) -> io::Error {
        let reason = format!("{what}: upgrade this node");
        tracing::error!(event = "TANDEM-NODE-TOO-OLD", supported = LEVEL_SUPPORTED, %reason, "upgrade this node");
        self.fatal.report(reason.clone());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    /// Refuses a state of a level that this build does not know.
    fn check_level(&self, state: &State) -> io::Result<()> {
        let level = state.level();
        if level <= LEVEL_SUPPORTED {
            return Ok(());
        }
        Err(self.too_old(&format!(
            "the cluster is at level {level}, this build supports {LEVEL_SUPPORTED}"
        )))
    }
}

/// openraft's state machine.
pub(crate) struct Machine {
    cluster: ClusterId,
    state: State,
    last: Option<LogId>,
    membership: StoredMembership,
    published: Arc<Published>,
    snapshots: Arc<SnapshotDir>,
    /// Last entry on this node's disk when it started: newer ones came from a living leader.
    own_upto: u64,
}

/// Entries applied but not yet shown to anybody.
#[derive(Default)]
struct Unpublished {
    batches: Vec<ChangeBatch>,
    answers: Vec<(ApplyResponder<TypeConfig>, Applied)>,
    entries: usize,
}

impl Machine {
    pub(crate) fn new(
        cluster: ClusterId,
        published: Arc<Published>,
        snapshots: Arc<SnapshotDir>,
        own_upto: u64,
    ) -> Self {
        Self {
            cluster,
            state: State::new(),
            last: None,
            membership: StoredMembership::default(),
            published,
            snapshots,
            own_upto,
        }
    }

    fn apply_one(
        &mut self,
        entry: super::LogEntry,
        batches: &mut Vec<ChangeBatch>,
    ) -> io::Result<Applied> {
        let id = entry.log_id;
        let revision = Revision(id.index);
        let reply = match entry.payload {
            EntryPayload::Blank => {
                self.state.advance(revision);
                None
            }
            EntryPayload::Membership(m) => {
                self.state.advance(revision);
                self.membership = StoredMembership::new(Some(id), m);
                None
            }
            EntryPayload::Normal(payload) => Some(self.apply_command(id, &payload.0, batches)?),
        };
        self.last = Some(id);
        Ok(Applied(reply))
    }

    fn apply_command(
        &mut self,
        id: LogId,
        octets: &[u8],
        batches: &mut Vec<ChangeBatch>,
    ) -> io::Result<Reply> {
        let entry = Entry::decode(octets).map_err(|e| {
            let what = format!("entry {} cannot be decoded by this build: {e}", id.index);
            self.published.too_old(&what)
        })?;
        let revision = Revision(id.index);
        let live = id.index > self.own_upto;
        // What is applied again after a restart was part of its trace before.
        let trace = entry.trace.as_deref().filter(|_| live);
        let node = self.published.node.0;
        let span = span_under!(trace, "raft.apply", node, revision = id.index);
        let (reply, changes) = span.in_scope(|| self.state.apply(revision, &entry));
        self.published.check_level(&self.state)?;
        self.published.clock.observe(entry.at, Instant::now(), live);
        batches.push(ChangeBatch { revision, at: self.state.time(), trace: entry.trace, changes });
        Ok(reply)
    }

    fn publish(&self, done: &mut Unpublished) {
        if done.entries == 0 {
            return;
        }
        add(&self.published.counters.entries_applied, u64::try_from(done.entries).unwrap_or(0));
        self.published.state.store(Arc::new(self.state.clone()));
        self.published.feed.push(std::mem::take(&mut done.batches));
        self.published.applied.send_replace(Revision(self.last.map_or(0, |id| id.index)));
        for (responder, applied) in done.answers.drain(..) {
            responder.send(applied);
        }
        done.entries = 0;
    }

    fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let start = Instant::now();
        let mut done = Unpublished::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let applied = self.apply_one(entry, &mut done.batches)?;
            done.entries += 1;
            done.answers.extend(responder.map(|r| (r, applied)));
            if done.entries >= PUBLISH_EVERY {
                self.publish(&mut done);
            }
        }
        self.publish(&mut done);
        self.published.counters.apply.record(start.elapsed());
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            meta: self.snapshot_meta(),
            snapshots: Arc::clone(&self.snapshots),
            counters: Arc::clone(&self.published.counters),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotHandle,
    ) -> io::Result<()> {
        let cluster = self.cluster.clone();
        let snapshots = Arc::clone(&self.snapshots);
        let wanted = meta.clone();
        let load = move || -> io::Result<State> {
            let contents = read(&snapshot, &cluster)?;
            if contents.meta != wanted {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the snapshot file is of another log position than announced",
                ));
            }
            let state = State::from_sections(contents.sections)
                .map_err(|e| super::snapshot::SnapshotError::Contents(e.to_string()))?;
            snapshots.install(&snapshot, &wanted)?;
            Ok(state)
        };
        let state = tokio::task::spawn_blocking(load).await.map_err(io::Error::other)??;
        self.published.check_level(&state)?;
        // Before anybody hears that the snapshot is in: see `LoggedMembership`.
        if let Some(id) = meta.last_membership.log_id() {
            self.published.membership.add(id.index);
        }
        self.state = state;
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        let revision = Revision(self.last.map_or(0, |id| id.index));
        let published = &self.published;
        let running = published.running.load(Ordering::Acquire);
        published.clock.reset(self.state.time(), Instant::now(), running);
        published.state.store(Arc::new(self.state.clone()));
        published.feed.reset(revision);
        published.applied.send_replace(revision);
        add(&published.counters.snapshots_installed, 1);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshots.current().map(|c| Snapshot { meta: c.meta, snapshot: c.handle }))
    }
}

/// Writes a snapshot of the state as it was when this was made.
pub(crate) struct Builder {
    state: State,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotDir>,
    counters: Arc<Counters>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (state, meta) = (self.state.clone(), self.meta.clone());
        let snapshots = Arc::clone(&self.snapshots);
        let save = move || snapshots.save(&meta, &state.write_sections());
        let snapshot = tokio::task::spawn_blocking(save).await.map_err(io::Error::other)??;
        add(&self.counters.snapshots_built, 1);
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
