//! Random histories of three nodes: counting, reports that are late, doubled or lost, planned moves, deaths,
//! restarts, sessions that end. One seed decides everything.

use super::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

const SEEDS: u64 = 120;
const STEPS: usize = 400;

struct World {
    rng: StdRng,
    alive: Alive,
    next_session: u64,
    nodes: Vec<Node>,
    up: Vec<bool>,
    /// Ownerships in their order, and how many of them each node has followed.
    log: Vec<(usize, u64)>,
    followed: Vec<usize>,
    /// How many of them a former process of each node has followed.
    former: Vec<usize>,
    /// Who counts; nobody during a takeover.
    open: Option<usize>,
    /// The owner has reported to all since the last start of a node or change of owner.
    reported: bool,
    /// Under way: to whom, what, and the sender's place in the log.
    mail: Vec<(usize, usize, Frame, usize)>,
    /// The greatest value that a reader has seen.
    seen: BTreeMap<SessionId, Counters>,
    truth: BTreeMap<SessionId, Counters>,
    incarnation: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let alive = alive(1..=4);
        let nodes = [A, B, W].map(|id| Node::new(id, &alive)).into();
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            alive,
            next_session: 5,
            nodes,
            up: vec![true; 3],
            log: vec![],
            followed: vec![0; 3],
            former: vec![0; 3],
            open: None,
            reported: false,
            mail: vec![],
            seen: BTreeMap::new(),
            truth: BTreeMap::new(),
            incarnation: 100,
        };
        world.acquire(0);
        world
    }

    fn epoch(&self) -> u64 {
        self.log.last().map_or(0, |(_, epoch)| *epoch)
    }

    /// Commits an ownership and opens the new owner's fence; the former one's is shut by then.
    fn acquire(&mut self, owner: usize) {
        let epoch = self.epoch() + self.rng.random_range(1..3);
        self.log.push((owner, epoch));
        self.follow(owner, self.log.len());
        self.nodes[owner].open(epoch);
        self.open = Some(owner);
        self.reported = false;
    }

    /// What books know is lost with their process, or with the machine. So the promise to readers holds for faults one
    /// at a time: from one to the next the owner has to get a report through, as it does at once and every few
    /// seconds.
    fn before_a_fault(&mut self) {
        let Some(owner) = self.open.filter(|_| !self.reported) else { return };
        // Twice: what one of them knows comes to the others by the owner.
        for _ in 0..2 {
            for to in (0..3).filter(|to| *to != owner) {
                for frame in self.nodes[owner].frames(self.epoch(), &self.alive) {
                    self.deliver((owner, to, frame, self.followed[owner]));
                }
            }
        }
        self.reported = true;
    }

    /// Lets a node follow the log; what it has to tell goes into the mail.
    fn follow(&mut self, at: usize, to: usize) {
        while self.up[at] && self.followed[at] < to {
            let (owner, epoch) = self.log[self.followed[at]];
            let fresh = self.followed[at] >= self.former[at];
            self.followed[at] += 1;
            let node = &mut self.nodes[at];
            node.come_by([A, B][owner], epoch, fresh, &self.alive);
            if owner != at && self.open != Some(at) {
                let frames = node.last_frames(&self.alive);
                self.post(at, &frames);
            }
        }
    }

    fn post(&mut self, from: usize, frames: &[Frame]) {
        for to in (0..3).filter(|to| *to != from) {
            for frame in frames {
                for _ in 0..self.rng.random_range(0..3) {
                    self.mail.push((from, to, frame.clone(), self.followed[from]));
                }
            }
        }
    }

    /// Delivers a frame, now or very late; returns whether the answer was news to the sender.
    fn deliver(&mut self, (from, to, frame, known): (usize, usize, Frame, usize)) -> Option<bool> {
        self.follow(to, known);
        if !self.up[to] {
            return None;
        }
        let ack = self.nodes[to].hear([A, B, W][from], std::slice::from_ref(&frame), &self.alive);
        if !matches!(ack[0], Ack::Kept { .. }) {
            return None;
        }
        // Nobody looks at the answer to a last frame.
        let heard = self.up[from] && !frame.last;
        Some(heard && self.nodes[from].answered(&ack[0], &self.alive))
    }

    /// A read at the owner, as `Traffic::confirmed` does it.
    fn read(&mut self) {
        let Some(owner) = self.open.filter(|o| self.up[*o]) else { return };
        let ids: Vec<SessionId> = self.alive.0.iter().copied().collect();
        let Some(&id) = ids.choose(&mut self.rng) else { return };
        let epoch = Epoch(self.epoch());
        for _ in 0..3 {
            let node = &self.nodes[owner];
            let value = node.total(id);
            let shown = node.book.is_shown(id, epoch, value) || {
                let frames = frames_of(GROUP, epoch, Revision(0), false, &[Record::new(id, value)]);
                let others: Vec<usize> = (0..3).filter(|o| *o != owner && self.up[*o]).collect();
                let Some(&other) = others.choose(&mut self.rng) else { return };
                let known = self.followed[owner];
                self.deliver((owner, other, frames[0].clone(), known)) == Some(false)
            };
            if shown {
                self.nodes[owner].book.set_shown(id, epoch, value, &self.alive);
                let before = self.seen.insert(id, value).unwrap_or_default();
                assert_eq!(before.above(value), Counters::default(), "{id} ran backwards");
                return;
            }
        }
    }

    fn take_over(&mut self, to: usize) {
        let Some(from) = self.open else { return };
        if !self.up[to] || from == to {
            return;
        }
        self.before_a_fault();
        // The kernel counts on until the fence falls, with or without a daemon; nobody has to hear of it.
        self.open = None;
        self.acquire(to);
    }

    fn restart(&mut self, at: usize) {
        self.incarnation += 1;
        self.up[at] = true;
        self.reported = false;
        let node = &mut self.nodes[at];
        node.book = Book::new(node.id, self.incarnation);
        if self.rng.random_bool(0.3) && at < 2 {
            // The machine too: its kernel comes back empty.
            node.kernel = Kernel::with(self.alive.sessions_of(GROUP));
        }
        // From its snapshot, which may be old: the log comes by again.
        self.former[at] = self.former[at].max(self.followed[at]);
        self.followed[at] = self.rng.random_range(0..=self.followed[at]);
        if let Some(&(owner, epoch)) = self.log[..self.followed[at]].last() {
            let now = Ownership { owner: [A, B][owner], epoch: Epoch(epoch) };
            self.nodes[at].book.start(GROUP, now);
        }
    }

    fn end_session(&mut self) {
        let ids: Vec<SessionId> = self.alive.0.iter().copied().collect();
        let Some(&id) = ids.choose(&mut self.rng) else { return };
        let new = SessionId(self.next_session);
        self.next_session += 1;
        self.alive.0.remove(&id);
        self.alive.0.insert(new);
        for node in &mut self.nodes {
            node.book.forget(id);
            node.kernel.remove(id);
            if node.id != W {
                node.kernel.program(new);
            }
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => {
                let ids: Vec<SessionId> = self.alive.0.iter().copied().collect();
                let n = self.rng.random_range(1..20);
                if let (Some(&id), Some(owner)) = (ids.choose(&mut self.rng), self.open)
                    && self.nodes[owner].kernel.count(id, n)
                {
                    let truth = self.truth.entry(id).or_default();
                    *truth = truth.plus(packets(n));
                }
            }
            40..50 => {
                if let Some(owner) = self.open.filter(|o| self.up[*o]) {
                    let frames = self.nodes[owner].frames(self.epoch(), &self.alive);
                    self.post(owner, &frames);
                }
            }
            50..70 if !self.mail.is_empty() => {
                let at = self.rng.random_range(0..self.mail.len());
                let mail = self.mail.swap_remove(at);
                self.deliver(mail);
            }
            50..85 => self.read(),
            85..89 => {
                let to = self.rng.random_range(0..2);
                self.take_over(to);
            }
            89..92 => {
                // One at a time: with two of three down nobody would own anything.
                let at = self.rng.random_range(0..3);
                if self.up.iter().all(|up| *up) {
                    self.before_a_fault();
                    self.up[at] = false;
                    if self.open == Some(at) {
                        self.take_over(1 - at);
                    }
                }
            }
            92..96 => {
                if let Some(at) = self.up.iter().position(|up| !up) {
                    self.restart(at);
                }
            }
            96..98 => {
                let at = self.rng.random_range(0..3);
                self.follow(at, self.log.len());
            }
            _ => self.end_session(),
        }
        self.check();
    }

    fn check(&self) {
        for node in &self.nodes {
            assert!(node.book.len() <= self.alive.0.len(), "node {} keeps too much", node.id);
            for id in &self.alive.0 {
                let truth = self.truth.get(id).copied().unwrap_or_default();
                let more = node.total(*id).above(truth);
                assert_eq!(more, Counters::default(), "node {} counts {id} twice", node.id);
            }
        }
    }
}

#[test]
fn no_history_makes_a_reader_see_a_counter_run_backwards_or_counts_twice() {
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..STEPS).for_each(|_| world.step());
            world.seen.len()
        });
        match run {
            Ok(seen) => assert!(seen > 0, "seed {seed}: nobody read anything"),
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
