//! Books of several nodes against kernels that only count.

mod random;

use super::INTERVAL;
use super::book::{Book, Facts, Ownership, Plane};
use super::outbox::{Outbox, Outcome, frames_of};
use super::wire::{Ack, Frame, RECORDS_MAX, Record};
use dataplane::Counters;
use model::{Epoch, GroupId, NodeId, Revision, SessionId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const GROUP: GroupId = GroupId(1);
const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const W: NodeId = NodeId(3);
const S: SessionId = SessionId(11);

fn packets(n: u64) -> Counters {
    Counters { bytes_up: n * 100, packets_up: n, ..Counters::default() }
}

/// A kernel: what it has counted itself and the base that it was given, of programmed sessions.
#[derive(Debug, Default)]
struct Kernel(RefCell<BTreeMap<SessionId, (Counters, Counters)>>);

impl Kernel {
    fn with(sessions: impl IntoIterator<Item = SessionId>) -> Self {
        let kernel = Self::default();
        sessions.into_iter().for_each(|id| kernel.program(id));
        kernel
    }

    fn program(&self, id: SessionId) {
        self.0.borrow_mut().insert(id, Default::default());
    }

    fn remove(&self, id: SessionId) {
        self.0.borrow_mut().remove(&id);
    }

    fn count(&self, id: SessionId, n: u64) -> bool {
        let mut sessions = self.0.borrow_mut();
        let Some((own, _)) = sessions.get_mut(&id) else { return false };
        *own = own.plus(packets(n));
        true
    }
}

impl Plane for Kernel {
    fn total(&self, id: SessionId) -> Option<Counters> {
        self.0.borrow().get(&id).map(|(own, base)| own.plus(*base))
    }

    fn totals(&self) -> BTreeMap<SessionId, Counters> {
        self.0.borrow().iter().map(|(id, (own, base))| (*id, own.plus(*base))).collect()
    }

    fn raise(&self, id: SessionId, by: Counters) -> bool {
        let mut sessions = self.0.borrow_mut();
        let Some((_, base)) = sessions.get_mut(&id) else { return false };
        *base = base.plus(by);
        true
    }
}

/// The sessions that are not over, all of one group.
#[derive(Clone, Debug, Default)]
struct Alive(BTreeSet<SessionId>);

impl Facts for Alive {
    fn group_of(&self, id: SessionId) -> Option<GroupId> {
        self.0.contains(&id).then_some(GROUP)
    }

    fn sessions_of(&self, _: GroupId) -> Vec<SessionId> {
        self.0.iter().copied().collect()
    }
}

struct Node {
    id: NodeId,
    kernel: Kernel,
    book: Book,
}

impl Node {
    fn new(id: NodeId, alive: &Alive) -> Self {
        let sessions = if id == W { vec![] } else { alive.sessions_of(GROUP) };
        Self { id, kernel: Kernel::with(sessions), book: Book::new(id, id.0) }
    }

    fn own(&mut self, owner: NodeId, epoch: u64, alive: &Alive) {
        self.come_by(owner, epoch, true, alive);
    }

    fn come_by(&mut self, owner: NodeId, epoch: u64, fresh: bool, alive: &Alive) {
        let next = Ownership { owner, epoch: Epoch(epoch) };
        self.book.owned_by(GROUP, next, fresh, alive, &self.kernel);
    }

    /// Takes in an answer; whether it was news.
    fn answered(&mut self, ack: &Ack, alive: &Alive) -> bool {
        let Ack::Kept { before, above, .. } = ack else { panic!("{ack:?}") };
        for record in before {
            self.book.on_before(*record, alive, &self.kernel);
        }
        for record in above {
            self.book.on_above(*record, alive, &self.kernel);
        }
        !before.is_empty() || !above.is_empty()
    }

    fn open(&mut self, epoch: u64) {
        assert!(self.book.counts(GROUP, Epoch(epoch)), "{} does not know epoch {epoch}", self.id);
    }

    fn total(&self, id: SessionId) -> Counters {
        self.book.local(id, &self.kernel)
    }

    fn frames(&self, epoch: u64, alive: &Alive) -> Vec<Frame> {
        let all = self.book.all(GROUP, alive, &self.kernel.totals());
        let records: Vec<Record> = all.iter().map(|(id, t)| Record::new(*id, *t)).collect();
        frames_of(GROUP, Epoch(epoch), Revision(0), false, &records)
    }

    fn last_frames(&mut self, alive: &Alive) -> Vec<Frame> {
        self.book.settle(GROUP, alive, &self.kernel);
        let Some(parting) = self.book.take_parting(GROUP) else { return vec![] };
        let records: Vec<Record> =
            parting.totals.iter().map(|(id, t)| Record::new(*id, *t)).collect();
        frames_of(GROUP, parting.epoch, Revision(0), true, &records)
    }

    fn hear(&mut self, from: NodeId, frames: &[Frame], alive: &Alive) -> Vec<Ack> {
        let take = |f| self.book.on_frame(from, f, alive, &self.kernel).unwrap();
        frames.iter().map(take).collect()
    }
}

fn alive(ids: impl IntoIterator<Item = u64>) -> Alive {
    Alive(ids.into_iter().map(SessionId).collect())
}

/// Three nodes, of which A owns the group at epoch 1.
fn three(alive: &Alive) -> [Node; 3] {
    let mut nodes = [A, B, W].map(|id| Node::new(id, alive));
    for node in &mut nodes {
        node.own(A, 1, alive);
    }
    nodes[0].open(1);
    nodes
}

#[test]
fn an_unplanned_takeover_loses_at_most_the_last_interval() {
    const RATE_PER_S: u64 = 7;
    let interval_s = INTERVAL.as_secs();
    // The second in which the owner dies.
    for died_s in 1..=4 * interval_s {
        let alive = alive([S.0]);
        let [a, mut b, _] = three(&alive);
        let mut told = Counters::default();
        for second in 1..=died_s {
            a.kernel.count(S, RATE_PER_S);
            if second % interval_s == 0 {
                told = a.total(S);
                b.hear(A, &a.frames(1, &alive), &alive);
            }
        }
        b.own(B, 2, &alive);
        b.open(2);
        assert_eq!(b.total(S), told, "died after {died_s} s");
        let lost = a.total(S).packets_up - b.total(S).packets_up;
        assert!(lost <= RATE_PER_S * interval_s, "died after {died_s} s: {lost} lost");
        b.kernel.count(S, 5);
        assert_eq!(b.total(S), told.plus(packets(5)), "goes on from there");
    }
}

#[test]
fn after_a_planned_move_nothing_is_missing_and_nothing_is_counted_twice() {
    // How many packets the new owner counts before the last report comes, and how often it comes.
    for (early, times) in [(0, 1), (3, 1), (3, 2), (500, 3)] {
        let alive = alive([S.0]);
        let [mut a, mut b, _] = three(&alive);
        a.kernel.count(S, 100);
        b.hear(A, &a.frames(1, &alive), &alive);
        a.kernel.count(S, 40);
        a.own(B, 2, &alive);
        b.own(B, 2, &alive);
        b.open(2);
        b.kernel.count(S, early);
        let last = a.last_frames(&alive);
        assert!(last.iter().all(|f| f.last && f.epoch == Epoch(1)));
        for _ in 0..times {
            b.hear(A, &last, &alive);
        }
        b.kernel.count(S, 2);
        assert_eq!(b.total(S), packets(142 + early), "{early} early, told {times} times");
        // And back: the former owner goes on from the new one's counts.
        a.hear(B, &b.frames(2, &alive), &alive);
        assert_eq!(a.total(S), b.total(S));
        b.own(A, 3, &alive);
        a.own(A, 3, &alive);
        a.open(3);
        a.kernel.count(S, 1);
        a.hear(B, &b.last_frames(&alive), &alive);
        assert_eq!(a.total(S), packets(143 + early));
    }
}

#[test]
fn the_new_owners_first_report_does_not_overtake_the_former_owners_last_counts() {
    let alive = alive([S.0]);
    let [mut a, mut b, _] = three(&alive);
    a.kernel.count(S, 100);
    a.own(B, 2, &alive);
    b.own(B, 2, &alive);
    b.open(2);
    b.kernel.count(S, 7);
    // A hears from B before it has told its last counts, and answers what it knew.
    let frames = b.frames(2, &alive);
    let acks = a.hear(B, &frames, &alive);
    let before = vec![Record::new(S, packets(100))];
    assert_eq!(acks, [Ack::Kept { incarnation: A.0, before, above: vec![] }]);
    assert!(b.answered(&acks[0], &alive));
    assert!(b.answered(&acks[0], &alive));
    assert_eq!(b.total(S), packets(107));
    b.hear(A, &a.last_frames(&alive), &alive);
    assert_eq!(b.total(S), packets(107), "the same counts on another way");
    assert!(!b.answered(&a.hear(B, &b.frames(2, &alive), &alive)[0], &alive));
}

#[test]
fn what_others_know_only_from_this_node_is_not_added_to_it() {
    for restarted in [false, true] {
        let alive = alive([S.0]);
        let [mut a, mut b, _] = three(&alive);
        a.kernel.count(S, 60);
        let early = a.frames(1, &alive);
        a.kernel.count(S, 40);
        b.hear(A, &a.frames(1, &alive), &alive);
        if restarted {
            b.book = Book::new(B, 77);
            b.book.start(GROUP, Ownership { owner: A, epoch: Epoch(1) });
        }
        // An older frame comes after a newer one: B knows more, but only what A has told it.
        let acks = b.hear(A, &early, &alive);
        a.answered(&acks[0], &alive);
        assert_eq!(a.total(S), packets(100), "restarted: {restarted}");
    }
}

#[test]
fn a_restarted_node_is_believed_what_is_above_the_owners_total() {
    let alive = alive([S.0]);
    let [mut a, mut b, _] = three(&alive);
    // B takes over without having heard of these, and A comes back with its kernel but a new process.
    a.kernel.count(S, 100);
    a.book = Book::new(A, 78);
    a.come_by(A, 1, false, &alive);
    a.come_by(B, 2, false, &alive);
    b.own(B, 2, &alive);
    b.open(2);
    b.kernel.count(S, 30);
    let acks = a.hear(B, &b.frames(2, &alive), &alive);
    assert!(b.answered(&acks[0], &alive));
    assert_eq!(b.total(S), packets(130));
    assert!(!b.answered(&a.hear(B, &b.frames(2, &alive), &alive)[0], &alive));
}

#[test]
fn an_owner_that_gets_its_group_again_is_not_told_its_own_counts() {
    let alive = alive([S.0]);
    let [mut a, mut b, _] = three(&alive);
    a.kernel.count(S, 50);
    b.hear(A, &a.frames(1, &alive), &alive);
    // Its lease had lapsed, and nobody else took over.
    for node in [&mut a, &mut b] {
        node.own(A, 2, &alive);
    }
    a.open(2);
    a.kernel.count(S, 5);
    let acks = b.hear(A, &a.frames(2, &alive), &alive);
    a.answered(&acks[0], &alive);
    assert_eq!(a.total(S), packets(55));
}

#[test]
fn reports_of_an_ownership_that_is_over_are_refused() {
    let alive = alive([S.0]);
    let [mut a, mut b, mut w] = three(&alive);
    a.kernel.count(S, 100);
    let late = a.frames(1, &alive);
    let stale = vec![Ack::Stale { epoch: Epoch(2) }];
    for node in [&mut a, &mut b, &mut w] {
        node.own(B, 2, &alive);
    }
    assert_eq!(b.hear(A, &late, &alive), stale);
    assert_eq!(w.hear(A, &late, &alive), stale, "on a node without data plane too");
    let last = a.last_frames(&alive);
    // In the name of another, or of another epoch.
    assert_eq!(b.hear(W, &last, &alive), stale);
    let other = Frame { epoch: Epoch(0), ..last[0].clone() };
    assert_eq!(b.hear(A, &[other], &alive), stale);
    assert_eq!(b.total(S), Counters::default());
    assert_ne!(b.hear(A, &last, &alive), stale);
    assert_eq!(b.total(S), packets(100));
    // Two ownerships later even the last counts are.
    for owner_epoch in [(A, 3), (B, 4)] {
        b.own(owner_epoch.0, owner_epoch.1, &alive);
    }
    assert_eq!(b.hear(A, &last, &alive), [Ack::Stale { epoch: Epoch(4) }]);
}

#[test]
fn counts_of_a_session_that_is_not_programmed_yet_are_added_later() {
    let alive = alive([S.0]);
    let [a, mut b, _] = three(&alive);
    b.kernel.remove(S);
    a.kernel.count(S, 100);
    b.hear(A, &a.frames(1, &alive), &alive);
    assert_eq!(b.total(S), packets(100));
    b.own(B, 2, &alive);
    b.open(2);
    b.kernel.program(S);
    b.kernel.count(S, 4);
    assert_eq!(b.total(S), packets(104));
    b.book.hand_over_pending(&b.kernel);
    b.book.hand_over_pending(&b.kernel);
    assert_eq!(b.kernel.total(S), Some(packets(104)));
}

#[test]
fn a_restarted_standby_goes_on_from_its_kernel_and_one_that_lost_it_from_the_owner() {
    for kernel_kept in [true, false] {
        let alive = alive([S.0]);
        let [a, mut b, _] = three(&alive);
        a.kernel.count(S, 100);
        b.hear(A, &a.frames(1, &alive), &alive);
        b.book = Book::new(B, 77);
        b.book.start(GROUP, Ownership { owner: A, epoch: Epoch(1) });
        if !kernel_kept {
            b.kernel.program(S);
        }
        b.hear(A, &a.frames(1, &alive), &alive);
        assert_eq!(b.total(S), packets(100), "kernel kept: {kernel_kept}");
        assert_eq!(b.kernel.total(S), Some(packets(100)), "kernel kept: {kernel_kept}");
    }
}

#[test]
fn an_ownership_that_a_restart_finds_in_the_log_tells_nothing() {
    let alive = alive([S.0]);
    let [mut a, mut b, _] = three(&alive);
    a.kernel.count(S, 100);
    b.own(B, 2, &alive);
    b.open(2);
    b.kernel.count(S, 30);
    a.own(B, 2, &alive);
    a.hear(B, &b.frames(2, &alive), &alive);
    // The log comes by again, with ownerships that this process has never had.
    a.book = Book::new(A, 78);
    for (owner, epoch) in [(A, 1), (B, 2)] {
        a.come_by(owner, epoch, false, &alive);
    }
    assert!(!a.book.has_to_tell(GROUP));
    assert_eq!(a.last_frames(&alive), []);
}

#[test]
fn a_session_that_is_over_is_forgotten_and_not_taken_in_again() {
    let mut living = alive(1..=50);
    let [a, mut b, _] = three(&living);
    for id in 1..=50 {
        a.kernel.count(SessionId(id), id);
    }
    let frames = a.frames(1, &living);
    b.hear(A, &frames, &living);
    assert_eq!(b.book.len(), 50);
    for id in 1..=40 {
        living.0.remove(&SessionId(id));
        b.book.forget(SessionId(id));
    }
    b.hear(A, &frames, &living);
    assert_eq!(b.book.len(), 10);
    living.0.clear();
    b.book.lost_track(&living, &b.kernel);
    assert!(b.book.is_empty());
}

#[test]
fn a_frame_that_is_too_large_is_refused() {
    let alive = alive([S.0]);
    let [_, mut b, _] = three(&alive);
    let records = vec![Record::new(S, packets(1)); RECORDS_MAX + 1];
    let frame =
        Frame { group: GROUP, epoch: Epoch(1), revision: Revision(0), last: false, records };
    assert!(b.book.on_frame(A, &frame, &alive, &b.kernel).is_err());
    assert_eq!(b.total(S), Counters::default());
}

type Owned = BTreeMap<GroupId, (Epoch, BTreeMap<SessionId, Counters>)>;

fn owned(epoch: u64, values: &[(u64, u64)]) -> Owned {
    let values = values.iter().map(|(id, n)| (SessionId(*id), packets(*n))).collect();
    BTreeMap::from([(GROUP, (Epoch(epoch), values))])
}

/// What B is told in the next pass, which ends as given; `None` while it is busy.
fn pass(outbox: &mut Outbox, outcome: Option<Outcome>) -> Option<Vec<u64>> {
    let pass = outbox.passes(&BTreeSet::from([B]), Revision(9)).pop()?;
    if let Some(outcome) = outcome {
        outbox.ended(B, pass.round, &outcome);
    }
    Some(pass.frames.iter().flat_map(|f| &f.records).map(|r| r.read().0.0).collect())
}

#[test]
fn a_node_is_told_what_changed_since_it_confirmed() {
    let confirmed = |n: u64| Some(Outcome::Confirmed(BTreeSet::from([n])));
    let both = Outcome::Confirmed(BTreeSet::from([5, 6]));
    // Values of the round, how the pass ends, what it tells.
    let rounds = [
        ("all at first", owned(1, &[(1, 10), (2, 20)]), confirmed(5), vec![1, 2]),
        ("one that changed", owned(1, &[(1, 10), (2, 21)]), Some(Outcome::Failed), vec![2]),
        ("again after a failure", owned(1, &[(1, 10), (2, 21)]), confirmed(5), vec![2]),
        ("nothing", owned(1, &[(1, 10), (2, 21)]), confirmed(5), vec![]),
        ("a new one", owned(1, &[(1, 10), (2, 21), (3, 1)]), confirmed(6), vec![3]),
        ("all to a restarted node", owned(1, &[(1, 10), (2, 21)]), Some(both), vec![1, 2]),
        ("all when it restarted midway", owned(1, &[(1, 10), (2, 21)]), confirmed(6), vec![1, 2]),
        ("nothing again", owned(1, &[(1, 10), (2, 21)]), confirmed(6), vec![]),
        ("all at a new epoch", owned(2, &[(1, 10), (2, 21)]), confirmed(6), vec![1, 2]),
    ];
    let mut outbox = Outbox::default();
    for (what, values, outcome, want) in rounds {
        outbox.round(values);
        assert_eq!(pass(&mut outbox, outcome), Some(want), "{what}");
    }
}

#[test]
fn a_slow_node_is_told_once_at_a_time_and_others_do_not_wait() {
    let mut outbox = Outbox::default();
    outbox.round(owned(1, &[(1, 10)]));
    assert_eq!(pass(&mut outbox, None), Some(vec![1]));
    outbox.round(owned(1, &[(1, 11)]));
    assert_eq!(pass(&mut outbox, None), None, "it is still busy");
    let others = outbox.passes(&BTreeSet::from([B, W]), Revision(9));
    assert_eq!(others.iter().map(|p| p.to).collect::<Vec<_>>(), [W]);
    // What it confirms is the round of its pass, not the newest.
    outbox.ended(B, 1, &Outcome::Confirmed(BTreeSet::from([5])));
    assert_eq!(pass(&mut outbox, None), Some(vec![1]));
    outbox.round(BTreeMap::new());
    assert_eq!(outbox.passes(&BTreeSet::from([B, W]), Revision(9)), [], "it owns nothing");
}

#[test]
fn frames_are_bounded_and_an_empty_one_still_asks_who_is_there() {
    let records =
        |n: u64| (0..n).map(|i| Record::new(SessionId(i), packets(1))).collect::<Vec<_>>();
    let max = u64::try_from(RECORDS_MAX).unwrap();
    for (n, want) in [(0, vec![0]), (max, vec![RECORDS_MAX]), (max + 1, vec![RECORDS_MAX, 1])] {
        let frames = frames_of(GROUP, Epoch(1), Revision(1), false, &records(n));
        assert_eq!(frames.iter().map(|f| f.records.len()).collect::<Vec<_>>(), want);
    }
}
