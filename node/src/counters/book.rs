//! What one node knows of the traffic of each session. No clock, no network; the kernel is behind
//! [`Plane`].
//!
//! While a node does not own a group its kernel counts nothing for it, and what others report is added to the
//! kernel's base: *known*. While it owns the group, the kernel's total is *known* plus what it has
//! carried itself. So a report from before its ownership, however late, is compared with *known* and not with
//! the total, and only what is above it is added: each count exactly once.
//!
//! This holds only for reports that do not include what the owner itself has told since. A node therefore remembers
//! what it knew when the owner's *run* began, its ownerships without another's in between. After a restart
//! in the middle of a run it cannot tell; of what it says then, the owner believes what is above its own total.

use super::wire::{Ack, Frame, RECORDS_MAX, Record};
use dataplane::Counters;
use model::{Epoch, GroupId, NodeId, SessionId};
use raft_store::State;
use std::collections::BTreeMap;

/// The kernel's counters, as far as the book needs them.
pub trait Plane {
    /// Traffic of a session, what was added included; `None` when it is not programmed.
    fn total(&self, id: SessionId) -> Option<Counters>;
    /// The same for all sessions.
    fn totals(&self) -> BTreeMap<SessionId, Counters>;
    /// Adds traffic that others carried; false when the session is not programmed.
    fn raise(&self, id: SessionId, by: Counters) -> bool;
}

/// An ownership of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner.
    pub owner: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Replicated facts that a report is judged by.
pub trait Facts {
    /// The group of a session; `None` when it is over.
    fn group_of(&self, id: SessionId) -> Option<GroupId>;
    /// The sessions of a group.
    fn sessions_of(&self, group: GroupId) -> Vec<SessionId>;
}

impl Facts for State {
    fn group_of(&self, id: SessionId) -> Option<GroupId> {
        self.session(id).map(|s| s.group)
    }

    fn sessions_of(&self, group: GroupId) -> Vec<SessionId> {
        State::sessions_of(self, group).map(|s| s.id).collect()
    }
}

/// What this node counted for a group that it owned until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parting {
    /// The ownership that is over.
    pub epoch: Epoch,
    /// Its last totals.
    pub totals: Vec<(SessionId, Counters)>,
}

#[derive(Clone, Debug)]
struct GroupBook {
    now: Ownership,
    before: Option<Ownership>,
    /// The first epoch of the owner's run; `None` when a former process may have heard from it.
    run: Option<Epoch>,
    /// This node's newest ownership under which it has told its own counts, unless they were settled since.
    counting: Option<Epoch>,
    parting: Option<Parting>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    /// Counts from before this node's ownership, or all counts if it is not the owner.
    known: Counters,
    /// The part of *known* that the kernel does not have yet: the session was not programmed.
    pending: Counters,
    /// What was known when the run of this epoch began.
    before_run: Option<(Epoch, Counters)>,
    /// What a reader may have seen, known to a quorum since this epoch.
    shown: Option<(Epoch, Counters)>,
}

impl Total {
    /// A session that was programmed anew lost what the kernel had been given: it is pending again.
    fn repair(&mut self, in_kernel: Counters) {
        let lost = self.known.above(in_kernel.plus(self.pending));
        self.pending = self.pending.plus(lost);
    }
}

/// The book of one node; its entries are bounded by the sessions that are not over.
#[derive(Debug)]
pub struct Book {
    me: NodeId,
    incarnation: u64,
    groups: BTreeMap<GroupId, GroupBook>,
    totals: BTreeMap<SessionId, Total>,
}

impl Book {
    /// An empty book; `incarnation` differs from that of every former process of this node.
    #[must_use]
    pub fn new(me: NodeId, incarnation: u64) -> Self {
        Self { me, incarnation, groups: BTreeMap::new(), totals: BTreeMap::new() }
    }

    /// Notes the ownership that the state shows at start, which this node does not take up.
    pub fn start(&mut self, group: GroupId, now: Ownership) {
        self.groups.entry(group).or_insert(GroupBook {
            now,
            before: None,
            run: None,
            counting: None,
            parting: None,
        });
    }

    /// Notes the next ownership of a group. To be called for each in their order; `fresh` says that no
    /// former process of this node can have come by it.
    pub fn owned_by(
        &mut self,
        group: GroupId,
        next: Ownership,
        fresh: bool,
        facts: &impl Facts,
        plane: &impl Plane,
    ) {
        let mine = next.owner == self.me;
        if mine && self.leaving(group).is_some() {
            // It comes back before its last counts were told: they must not mix with the next ones.
            self.settle(group, facts, plane);
        }
        let former = self.groups.get(&group);
        if former.is_some_and(|g| next.epoch <= g.now.epoch) {
            return;
        }
        let book = GroupBook {
            now: next,
            before: former.map(|g| g.now),
            run: match former {
                Some(former) if former.now.owner == next.owner => former.run,
                Some(_) | None => fresh.then_some(next.epoch),
            },
            // From one ownership of its own to the next nobody else has counted.
            counting: former
                .and_then(|g| g.counting)
                .map(|epoch| if mine { next.epoch } else { epoch }),
            parting: former.and_then(|g| g.parting.clone()),
        };
        let begins = mine && book.counting.is_none();
        self.groups.insert(group, book);
        if begins {
            self.take_stock(group, facts, plane);
        }
    }

    /// Notes that this node's fence has opened under an ownership: from now on it tells what it counts. False while
    /// the book does not know of the ownership yet.
    ///
    /// An ownership in the log is not enough: after a restart the log brings those of long ago.
    pub fn counts(&mut self, group: GroupId, epoch: Epoch) -> bool {
        let Some(book) = self.groups.get_mut(&group) else { return false };
        let mine = book.now == Ownership { owner: self.me, epoch };
        if mine {
            book.counting = Some(epoch);
        }
        mine
    }

    /// Makes *known* of all that this node has counted: ownerships may have passed unseen, and what others tell from
    /// now on may include it.
    pub fn lost_track(&mut self, facts: &impl Facts, plane: &impl Plane) {
        self.totals.retain(|id, _| facts.group_of(*id).is_some());
        let counting: Vec<(GroupId, Epoch)> =
            self.groups.iter().filter_map(|(id, g)| Some((*id, g.counting?))).collect();
        for (group, epoch) in counting {
            self.settle_at(group, epoch, facts, plane);
            let me = self.me;
            if let Some(book) = self.groups.get_mut(&group).filter(|g| g.now.owner == me) {
                book.counting = Some(epoch);
                book.parting = None;
            }
        }
    }

    /// Learns what the kernel brings along from a former process, before it counts on.
    fn take_stock(&mut self, group: GroupId, facts: &impl Facts, plane: &impl Plane) {
        let kernel = plane.totals();
        for id in facts.sessions_of(group) {
            if let Some(&known) = kernel.get(&id) {
                self.totals.entry(id).or_insert(Total { known, ..Total::default() }).repair(known);
            }
        }
        self.hand_over_pending(plane);
    }

    /// The epoch of an ownership of this node's that is over and not settled yet.
    #[must_use]
    pub fn leaving(&self, group: GroupId) -> Option<Epoch> {
        let book = self.groups.get(&group)?;
        book.counting.filter(|_| book.now.owner != self.me)
    }

    /// Ends the counting of an ownership that is over: what the kernel shows is *known* from now on. The fence
    /// must be shut.
    pub fn settle(&mut self, group: GroupId, facts: &impl Facts, plane: &impl Plane) {
        if let Some(epoch) = self.leaving(group) {
            self.settle_at(group, epoch, facts, plane);
        }
    }

    fn settle_at(&mut self, group: GroupId, epoch: Epoch, facts: &impl Facts, plane: &impl Plane) {
        let kernel = plane.totals();
        let mut totals = Vec::new();
        for id in facts.sessions_of(group) {
            let mut total = self.totals.get(&id).copied().unwrap_or_default();
            if let Some(&in_kernel) = kernel.get(&id) {
                total.repair(in_kernel);
                total.known = in_kernel.plus(total.pending);
            }
            total.shown = None;
            if total.known != Counters::default() {
                self.totals.insert(id, total);
                totals.push((id, total.known));
            }
        }
        if let Some(book) = self.groups.get_mut(&group) {
            book.counting = None;
            book.parting = Some(Parting { epoch, totals });
        }
    }

    /// Whether last counts of this node's wait to be told.
    #[must_use]
    pub fn has_to_tell(&self, group: GroupId) -> bool {
        self.leaving(group).is_some()
            || self.groups.get(&group).is_some_and(|g| g.parting.is_some())
    }

    /// Whether this node counts for a group, or did so and was not settled since.
    #[must_use]
    pub fn is_counting(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|g| g.counting.is_some())
    }

    /// What is to be told of an ownership that is settled; once.
    pub fn take_parting(&mut self, group: GroupId) -> Option<Parting> {
        self.groups.get_mut(&group)?.parting.take()
    }

    /// Takes in a report.
    ///
    /// # Errors
    /// When no honest node would send it.
    pub fn on_frame(
        &mut self,
        from: NodeId,
        frame: &Frame,
        facts: &impl Facts,
        plane: &impl Plane,
    ) -> Result<Ack, String> {
        if frame.records.len() > RECORDS_MAX {
            return Err(format!("{} records, at most {RECORDS_MAX}", frame.records.len()));
        }
        let Some(&GroupBook { now, before, run, .. }) = self.groups.get(&frame.group) else {
            return Err(format!("group {} has no owner", frame.group));
        };
        let sent = Ownership { owner: from, epoch: frame.epoch };
        if sent != now && !(frame.last && before == Some(sent)) {
            return Ok(Ack::Stale { epoch: now.epoch });
        }
        // The new owner counts, so this node's fence is shut.
        self.settle(frame.group, facts, plane);
        let (mut news, mut above) = (Vec::new(), Vec::new());
        for record in &frame.records {
            let (id, told) = record.read();
            if facts.group_of(id) != Some(frame.group) {
                continue;
            }
            if now.owner == self.me {
                // The kernel's total is this node's own by now, and not *known*.
                self.totals.entry(id).or_default();
            }
            let total = self.entry(id, plane);
            let first = run.is_some() && total.before_run.map(|(r, _)| r) != run;
            if first {
                total.before_run = run.map(|r| (r, total.known));
            }
            if let Some((_, before)) = &mut total.before_run
                && frame.last
            {
                *before = before.max(told);
            }
            let before = total.before_run.filter(|_| run.is_some()).map(|(_, before)| before);
            self.add(id, told, plane);
            let some = |c: Counters| c != Counters::default();
            match before {
                Some(before) if (first && some(before)) || some(before.above(told)) => {
                    news.push(Record::new(id, before));
                }
                Some(_) => {}
                None => {
                    let known = self.entry(id, plane).known;
                    if some(known.above(told)) {
                        above.push(Record::new(id, known));
                    }
                }
            }
        }
        Ok(Ack::Kept { incarnation: self.incarnation, before: news, above })
    }

    fn entry(&mut self, id: SessionId, plane: &impl Plane) -> &mut Total {
        self.totals.entry(id).or_insert_with(|| {
            // While this node counts, the entries of all older sessions are there (`take_stock`).
            Total { known: plane.total(id).unwrap_or_default(), ..Total::default() }
        })
    }

    /// Adds what is above *known*.
    fn add(&mut self, id: SessionId, told: Counters, plane: &impl Plane) {
        let total = self.entry(id, plane);
        let missing = told.above(total.known);
        if missing != Counters::default() {
            total.known = total.known.plus(missing);
            if !plane.raise(id, missing) {
                total.pending = total.pending.plus(missing);
            }
        }
    }

    /// Takes in what another node knew when this node's run began.
    pub fn on_before(&mut self, record: Record, facts: &impl Facts, plane: &impl Plane) {
        let (id, theirs) = record.read();
        if facts.group_of(id).is_some() {
            self.totals.entry(id).or_default();
            self.add(id, theirs, plane);
        }
    }

    /// Takes in what another node knows, it cannot tell from when. What is above this node's total cannot be what
    /// this node has told.
    pub fn on_above(&mut self, record: Record, facts: &impl Facts, plane: &impl Plane) {
        let (id, theirs) = record.read();
        let total = self.local(id, plane);
        let keep = |theirs: u64, total: u64| if theirs > total { theirs } else { 0 };
        let news = Counters {
            bytes_up: keep(theirs.bytes_up, total.bytes_up),
            packets_up: keep(theirs.packets_up, total.packets_up),
            bytes_down: keep(theirs.bytes_down, total.bytes_down),
            packets_down: keep(theirs.packets_down, total.packets_down),
            dropped_up: keep(theirs.dropped_up, total.dropped_up),
            dropped_down: keep(theirs.dropped_down, total.dropped_down),
        };
        self.on_before(Record::new(id, news), facts, plane);
    }

    /// Adds to the kernel what could not be added when it was reported.
    pub fn hand_over_pending(&mut self, plane: &impl Plane) {
        let none = Counters::default();
        for (id, total) in self.totals.iter_mut().filter(|(_, t)| t.pending != none) {
            if plane.raise(*id, total.pending) {
                total.pending = none;
            }
        }
    }

    /// What this node can say by itself: the owner what it has counted, others what they were told.
    #[must_use]
    pub fn local(&self, id: SessionId, plane: &impl Plane) -> Counters {
        let total = self.totals.get(&id).copied().unwrap_or_default();
        plane.total(id).map_or(total.known, |t| t.plus(total.pending)).max(total.known)
    }

    /// The same for all sessions of a group that have carried anything, from what the kernel said a moment ago.
    #[must_use]
    pub fn all(
        &self,
        group: GroupId,
        facts: &impl Facts,
        kernel: &BTreeMap<SessionId, Counters>,
    ) -> BTreeMap<SessionId, Counters> {
        let of = |id: SessionId| {
            let total = self.totals.get(&id).copied().unwrap_or_default();
            kernel.get(&id).map_or(total.known, |t| t.plus(total.pending)).max(total.known)
        };
        let all = facts.sessions_of(group).into_iter().map(|id| (id, of(id)));
        all.filter(|(_, total)| *total != Counters::default()).collect()
    }

    /// Whether a quorum has known this value since the ownership of `epoch` began.
    #[must_use]
    pub fn is_shown(&self, id: SessionId, epoch: Epoch, value: Counters) -> bool {
        self.totals.get(&id).is_some_and(|t| t.shown == Some((epoch, value)))
    }

    /// Notes that a quorum knows this value.
    pub fn set_shown(&mut self, id: SessionId, epoch: Epoch, value: Counters, facts: &impl Facts) {
        if facts.group_of(id).is_some() {
            self.totals.entry(id).or_default().shown = Some((epoch, value));
        }
    }

    /// Forgets a session that is over.
    pub fn forget(&mut self, id: SessionId) {
        self.totals.remove(&id);
    }

    /// How many sessions it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.totals.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals.is_empty()
    }
}
