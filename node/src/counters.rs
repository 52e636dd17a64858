//! Packet counters that outlive their node.
//!
//! Counters are not in the log. The owner of a group tells them to all other nodes every few seconds, and
//! once more when it has given the group up, so that the next owner goes on from there ([`book`]). An unplanned
//! takeover loses at most what was counted since the last report.
//!
//! A reader must not see a counter run backwards when the owner dies right after its answer. So the owner shows a value only after
//! a quorum knows it, and takes in what that quorum knows: every two quorums share a node, and a new
//! owner exists only with a quorum. The witness is told too, for this and for the case of a standby that comes
//! back while the owner dies.

pub mod book;
pub mod outbox;
pub mod wire;

use crate::clock;
use crate::peer::{Local, Request};
use api::ReadLevel;
use book::{Book, Ownership, Parting, Plane};
use dataplane::{Counters, Dataplane};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use model::{Epoch, GroupId, NodeId, Revision, Session, SessionId};
use outbox::{Outbox, Outcome, Pass, frames_of};
use raft_store::{Change, ChangeBatch, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use wire::{Ack, Frame, Record};

/// Time between two reports of an owner: what an unplanned takeover may lose.
pub const INTERVAL: Duration = Duration::from_secs(3);
/// How long one frame may take.
const FRAME_WITHIN: Duration = Duration::from_secs(1);
/// How long a node that is told may wait for the log to bring what the sender knows.
const FOLLOWED_WITHIN: Duration = Duration::from_millis(500);
/// How long a former owner may wait until its fence is shut: one lease, of the slowest profile, and some.
const SHUT_WITHIN: Duration = Duration::from_secs(2);
/// How often the last report of an ownership is tried, and the pause between.
const LAST_TRIES: usize = 5;
const LAST_PAUSE: Duration = Duration::from_millis(200);
/// How long a quorum may take to confirm a value that is to be shown.
const CONFIRM_WITHIN: Duration = Duration::from_millis(200);
/// How often a value is told anew because others knew more.
const CONFIRM_TRIES: usize = 3;
/// How long a read may take, a takeover included, before it is answered from what this node knows.
const READ_WITHIN: Duration = Duration::from_millis(1500);
/// Pause between two attempts to find the owner.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// A data plane, or none on a witness.
struct MaybePlane(Option<Arc<Dataplane>>);

impl Plane for MaybePlane {
    fn total(&self, id: SessionId) -> Option<Counters> {
        self.0.as_ref()?.counters(id)
    }

    fn totals(&self) -> BTreeMap<SessionId, Counters> {
        self.0.as_ref().map(|d| d.all_counters().into_iter().collect()).unwrap_or_default()
    }

    fn raise(&self, id: SessionId, by: Counters) -> bool {
        self.0.as_ref().is_some_and(|d| d.raise_counter_base(id, by))
    }
}

/// The counters of one node: takes in what others report, reports what it counts, answers reads.
pub struct Traffic {
    local: Local,
    plane: MaybePlane,
    book: Mutex<Book>,
    /// The newest revision that a former process of this node can have come by.
    former: Revision,
    /// Up to here the book knows of ownerships and ended sessions.
    followed: watch::Sender<Revision>,
    /// Groups that this node counts for, or whose last counts it still has to tell.
    held: watch::Sender<BTreeSet<GroupId>>,
    /// Groups whose last counts are being told.
    telling: Mutex<BTreeSet<GroupId>>,
}

impl Traffic {
    /// Starts with what the kernel brings along from a former process.
    #[must_use]
    pub fn start(local: Local) -> Arc<Self> {
        let state = local.store.state();
        let mut book = Book::new(local.me, rand::random());
        for group in state.groups() {
            if let Some(owner) = group.owner {
                book.start(group.id, Ownership { owner, epoch: group.epoch });
            }
        }
        let plane = MaybePlane(local.dataplane.clone());
        let former = state.applied().max(Revision(local.store.status().borrow().last_log));
        let this = Arc::new(Self {
            local,
            plane,
            book: Mutex::new(book),
            former,
            followed: watch::Sender::new(state.applied()),
            held: watch::Sender::default(),
            telling: Mutex::default(),
        });
        tokio::spawn(this.clone().follow());
        if this.local.dataplane.is_some() {
            tokio::spawn(this.clone().report());
        }
        this
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows ownership and the ends of sessions.
    async fn follow(self: Arc<Self>) {
        loop {
            let from = *self.followed.borrow();
            if let Ok(mut feed) = self.local.store.changes(from) {
                while let Ok(batch) = feed.next().await {
                    self.on_changes(&batch);
                    self.followed.send_replace(batch.revision);
                }
            }
            if self.local.store.status().has_changed().is_err() {
                return;
            }
            self.catch_up();
        }
    }

    /// Reads from the state what a gap in the change feed has hidden.
    fn catch_up(self: &Arc<Self>) {
        let state = self.local.store.state();
        self.book().lost_track(state.as_ref(), &self.plane);
        for group in state.groups() {
            if let Some(owner) = group.owner {
                let fresh = false; // Others may have been told of it long ago, and this node by them.
                self.on_owner(group.id, Ownership { owner, epoch: group.epoch }, fresh, &state);
            }
        }
        self.followed.send_replace(state.applied());
    }

    fn on_changes(self: &Arc<Self>, batch: &ChangeBatch) {
        for change in &batch.changes {
            match change {
                Change::SessionDown { session, .. } => self.book().forget(session.id),
                Change::OwnerChanged { group, owner, epoch, .. } => {
                    let next = Ownership { owner: *owner, epoch: *epoch };
                    let fresh = batch.revision > self.former;
                    self.on_owner(*group, next, fresh, &self.local.store.state());
                }
                Change::SessionUp(_)
                | Change::SessionChanged(_)
                | Change::GroupChanged(_)
                | Change::PoolChanged(_)
                | Change::NodeChanged(_)
                | Change::SubscriberChanged(_)
                | Change::ApiUserChanged(_)
                | Change::DocumentPut { .. }
                | Change::DocumentDeleted { .. }
                | Change::ClusterChanged
                | Change::BanChanged(_) => {}
            }
        }
    }

    fn on_owner(self: &Arc<Self>, group: GroupId, next: Ownership, fresh: bool, state: &State) {
        let mut book = self.book();
        book.owned_by(group, next, fresh, state, &self.plane);
        if book.has_to_tell(group) && self.telling().insert(group) {
            tokio::spawn(self.clone().part(group));
        }
    }

    fn telling(&self) -> MutexGuard<'_, BTreeSet<GroupId>> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the last counts of ownerships until there are none left to tell.
    async fn part(self: Arc<Self>, group: GroupId) {
        loop {
            self.shut(group).await;
            let parting = {
                let state = self.local.store.state();
                let mut book = self.book();
                book.settle(group, state.as_ref(), &self.plane);
                book.take_parting(group)
            };
            if let Some(parting) = parting {
                self.tell_parting(group, parting).await;
            }
            let book = self.book();
            if !book.has_to_tell(group) {
                self.telling().remove(&group);
                if !book.is_counting(group) {
                    self.held.send_if_modified(|held| held.remove(&group));
                }
                return;
            }
        }
    }

    /// Waits until the fence of an ownership that is over is shut.
    async fn shut(&self, group: GroupId) {
        let Some(over) = self.book().leaving(group) else { return };
        let mut lease = self.local.lease.status();
        let shut = lease.wait_for(|s| s.open.get(&group).is_none_or(|epoch| *epoch > over));
        // The kernel's fence falls by itself; what it lets through after this is not told.
        let _ = tokio::time::timeout(SHUT_WITHIN, shut).await;
    }

    async fn tell_parting(&self, group: GroupId, parting: Parting) {
        let Parting { epoch, totals } = parting;
        let sessions = totals.len();
        let records: Vec<Record> = totals.iter().map(|(id, t)| Record::new(*id, *t)).collect();
        let state = self.local.store.state();
        let frames = frames_of(group, epoch, self.knows(&state, group), true, &records);
        let heir = state.group(group).and_then(|g| g.owner);
        let told = self.others().into_iter().map(|to| self.tell_last(to, &frames));
        let told: BTreeMap<NodeId, bool> = told.collect::<FuturesUnordered<_>>().collect().await;
        if heir.is_some_and(|heir| told.get(&heir) == Some(&true)) {
            info!(%group, ?heir, %epoch, sessions, "last counters told");
        } else {
            warn!(event = "TANDEM-COUNTERS-UNSENT", %group, ?heir, %epoch, sessions, "the new owner was not told the last counters");
        }
    }

    /// The revision that whoever is told of all sessions of a group must have come by.
    fn knows(&self, state: &State, group: GroupId) -> Revision {
        let newest = state.sessions_of(group).map(|s| s.created).max();
        (*self.followed.borrow()).max(newest.unwrap_or_default())
    }

    async fn tell_last(&self, to: NodeId, frames: &[Frame]) -> (NodeId, bool) {
        let mut rest = frames;
        for _ in 0..LAST_TRIES {
            while let Some((frame, after)) = rest.split_first() {
                match self.tell(to, frame).await {
                    Ok(Ack::Kept { .. }) => rest = after,
                    // Yet another owner: what it does not know by now is lost.
                    Ok(Ack::Stale { .. }) => return (to, false),
                    Err(error) => {
                        debug!(%to, error, "last counters not told yet");
                        break;
                    }
                }
            }
            if rest.is_empty() {
                return (to, true);
            }
            clock::until(Some(clock::now() + LAST_PAUSE)).await;
        }
        (to, false)
    }

    /// Waits until this node has nothing left to tell of groups that it has given up.
    pub async fn parted(&self, group: GroupId) {
        // The sender lives as long as `self`.
        let _ = self.held.subscribe().wait_for(|held| !held.contains(&group)).await;
    }

    async fn tell(&self, to: NodeId, frame: &Frame) -> Result<Ack, String> {
        self.local.ask(to, &Request::Counters(frame.clone()), FRAME_WITHIN).await
    }

    fn others(&self) -> BTreeSet<NodeId> {
        let me = self.local.me;
        self.local.store.state().nodes().map(|n| n.id).filter(|n| *n != me).collect()
    }

    /// Reports what this node counts, at once when it becomes an owner and every [`INTERVAL`] after.
    async fn report(self: Arc<Self>) {
        let mut lease = self.local.lease.status();
        let mut outbox = Outbox::default();
        let mut passes: JoinSet<(NodeId, u64, Outcome)> = JoinSet::new();
        let mut open = BTreeMap::new();
        let mut due = clock::now() + INTERVAL;
        loop {
            tokio::select! {
                changed = lease.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = lease.borrow_and_update().open.clone();
                    if std::mem::replace(&mut open, now.clone()) == now || now.is_empty() {
                        continue;
                    }
                }
                Some(ended) = passes.join_next(), if !passes.is_empty() => {
                    match ended {
                        Ok((to, round, outcome)) => outbox.ended(to, round, &outcome),
                        Err(error) => warn!(%error, "a report of counters was broken off"),
                    }
                    continue;
                }
                () = clock::until(Some(due)) => {}
            }
            let Some(revision) = self.begin_round(&mut outbox, &open).await else {
                due = clock::now() + READ_PAUSE;
                continue;
            };
            due = clock::now() + INTERVAL;
            for pass in outbox.passes(&self.others(), revision) {
                let this = self.clone();
                passes.spawn(async move { this.carry(pass).await });
            }
        }
    }

    /// Reads what this node counts; `None` while the book does not know of an ownership that the lease has.
    async fn begin_round(
        self: &Arc<Self>,
        outbox: &mut Outbox,
        open: &BTreeMap<GroupId, Epoch>,
    ) -> Option<Revision> {
        if !open.iter().all(|(group, epoch)| self.counts(*group, *epoch)) {
            return None;
        }
        // Reading the counters of 100,000 sessions takes tenths of a second. What is added to a base meanwhile is
        // told in the next round.
        let this = self.clone();
        let kernel = tokio::task::spawn_blocking(move || this.plane.totals()).await;
        let kernel = kernel.unwrap_or_default();
        let state = self.local.store.state();
        let mut book = self.book();
        book.hand_over_pending(&self.plane);
        let values = |group: GroupId| book.all(group, state.as_ref(), &kernel);
        outbox.round(open.iter().map(|(g, epoch)| (*g, (*epoch, values(*g)))).collect());
        Some(open.keys().map(|group| self.knows(&state, *group)).max().unwrap_or_default())
    }

    fn counts(&self, group: GroupId, epoch: Epoch) -> bool {
        let mut book = self.book();
        let counts = book.counts(group, epoch);
        if counts {
            self.held.send_if_modified(|held| held.insert(group));
        }
        counts
    }

    async fn carry(&self, pass: Pass) -> (NodeId, u64, Outcome) {
        let mut incarnations = BTreeSet::new();
        for frame in &pass.frames {
            match self.tell(pass.to, frame).await {
                Ok(Ack::Kept { incarnation, before, above }) => {
                    incarnations.insert(incarnation);
                    self.take_in(&before, &above);
                }
                Ok(Ack::Stale { epoch }) => {
                    debug!(to = %pass.to, group = %frame.group, mine = %frame.epoch, %epoch, "counters refused: the group has another owner");
                    return (pass.to, pass.round, Outcome::Failed);
                }
                Err(error) => {
                    debug!(to = %pass.to, error, "counters not told");
                    return (pass.to, pass.round, Outcome::Failed);
                }
            }
        }
        (pass.to, pass.round, Outcome::Confirmed(incarnations))
    }

    /// Takes in what another node has answered.
    fn take_in(&self, before: &[Record], above: &[Record]) {
        if before.is_empty() && above.is_empty() {
            return;
        }
        let state = self.local.store.state();
        let mut book = self.book();
        for record in before.iter().take(wire::RECORDS_MAX) {
            book.on_before(*record, state.as_ref(), &self.plane);
        }
        for record in above.iter().take(wire::RECORDS_MAX) {
            book.on_above(*record, state.as_ref(), &self.plane);
        }
    }

    /// Answers [`Request::Counters`].
    ///
    /// # Errors
    /// Why the frame cannot be judged; the sender tries again.
    pub async fn on_frame(&self, from: NodeId, frame: &Frame) -> Result<Ack, String> {
        let mut followed = self.followed.subscribe();
        let caught_up = followed.wait_for(|at| *at >= frame.revision);
        tokio::time::timeout(FOLLOWED_WITHIN, caught_up)
            .await
            .map_err(|_| format!("revision {} has not come here yet", frame.revision))?
            .map_err(|e| e.to_string())?;
        // The state is read under the lock: a session that ends after that is forgotten after that.
        let mut book = self.book();
        book.on_frame(from, frame, self.local.store.state().as_ref(), &self.plane)
    }

    /// What a session has carried, as a reader may see it.
    ///
    /// A linearizable read is the owner's answer, which is never below an earlier one. While there is no
    /// owner, and with [`ReadLevel::Local`], it is what this node has been told.
    pub async fn read(&self, session: &Session, level: ReadLevel) -> Counters {
        let give_up = clock::now() + READ_WITHIN;
        loop {
            if level == ReadLevel::Local || clock::now() >= give_up {
                return self.book().local(session.id, &self.plane);
            }
            let owner = self.local.store.state().group(session.group).and_then(|g| g.owner);
            let answer = match owner {
                Some(me) if me == self.local.me => self.confirmed(session.id).await,
                Some(other) => {
                    let request = Request::Traffic { session: session.id };
                    let within = CONFIRM_WITHIN + CONFIRM_WITHIN / 2;
                    let record: Result<Record, String> =
                        self.local.ask(other, &request, within).await;
                    record.map(|r| r.read().1)
                }
                None => Err("the group has no owner".to_owned()),
            };
            match answer {
                Ok(total) => return total,
                Err(error) => debug!(session = %session.id, error, "no counters from the owner"),
            }
            clock::until(Some(clock::now() + READ_PAUSE)).await;
        }
    }

    /// On the owner: a value of now that a quorum knows.
    ///
    /// # Errors
    /// Why there is none; the caller looks for the owner again.
    pub async fn confirmed(&self, id: SessionId) -> Result<Counters, String> {
        for _ in 0..CONFIRM_TRIES {
            let state = self.local.store.state();
            let session = state.session(id).ok_or("the session is over")?;
            let open = self.local.lease.status().borrow().open.get(&session.group).copied();
            let epoch = open.ok_or("this node does not own the group")?;
            if !self.counts(session.group, epoch) {
                return Err("the ownership has not come here yet".to_owned());
            }
            let total = {
                let book = self.book();
                let total = book.local(id, &self.plane);
                if book.is_shown(id, epoch, total) {
                    return Ok(total);
                }
                total
            };
            let frame = Frame {
                group: session.group,
                epoch,
                revision: (*self.followed.borrow()).max(session.created),
                last: false,
                records: vec![Record::new(id, total)],
            };
            if self.told_quorum(&frame).await? {
                self.book().set_shown(id, epoch, total, state.as_ref());
                return Ok(total);
            }
        }
        Err("others know more each time".to_owned())
    }

    /// Tells a quorum; false when one of its nodes knows more, which is taken in.
    async fn told_quorum(&self, frame: &Frame) -> Result<bool, String> {
        let voters = crate::lease::membership(&self.local.store.status().borrow().membership);
        let mut agreed = BTreeSet::from([self.local.me]);
        let mut news = false;
        let asked = voters.nodes().into_iter().filter(|n| *n != self.local.me);
        let mut answers: FuturesUnordered<_> =
            asked.map(|to| async move { (to, self.tell(to, frame).await) }).collect();
        let give_up = Some(clock::now() + CONFIRM_WITHIN);
        while !voters.has_quorum(|n| agreed.contains(&n)) {
            let answer = tokio::select! {
                answer = answers.next() => answer.ok_or("no quorum confirmed the counters")?,
                () = clock::until(give_up) => return Err("no quorum in time".to_owned()),
            };
            match answer {
                (to, Ok(Ack::Kept { before, above, .. })) => {
                    agreed.insert(to);
                    news |= !before.is_empty() || !above.is_empty();
                    self.take_in(&before, &above);
                }
                (to, Ok(Ack::Stale { epoch })) => {
                    return Err(format!("node {to} knows of epoch {epoch}"));
                }
                (to, Err(error)) => debug!(%to, error, "counters not confirmed"),
            }
        }
        Ok(!news)
    }
}

#[cfg(test)]
mod tests;
