//! The event loop: virtual time, wires, switches, hosts and faults.

use super::checker::{Checker, Report};
use super::director::{Director, LEASE, MARGIN, RENEW};
use super::scenario::{Bug, Fault, Kind, Scenario, Side};
use super::speaker::{Daemon, Speaker, VRID};
use super::switch::{Port, Switch};
use ether::Frame;
use model::{MacAddr, Tick, Vlans};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeMap;
use std::time::Duration;
use vrrp::parse_frame;

/// Local experimental EtherType (IEEE 802), for the hosts' probes.
const PROBE: u16 = 0x88b5;
const PROBE_EVERY: Duration = Duration::from_millis(10);
/// Delay of one hop of the access network, in microseconds. The whole way stays below the shortest
/// delay of the cluster's network: an advert cannot arrive after the next owner's first one.
const HOP_US: std::ops::Range<u64> = 20..500;
/// One way in the cluster's network, in microseconds.
const CLUSTER_US: std::ops::Range<u64> = 1_600..4_000;
/// From the end of a promise to a committed `Acquire` and its first renewal, in microseconds.
const COMMIT_US: std::ops::Range<u64> = 4_000..30_000;
/// How often the director looks at its promise.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
enum Event {
    Fault(Fault),
    Startup(usize),
    Timer(usize),
    Probe(Side, u32),
    /// A frame reaches a switch on a port, or leaves it there.
    IntoSwitch(Side, Port, Vec<u8>),
    OutOfSwitch(Side, Port, Vec<u8>),
    /// The owner sends a renewal; it arrives; the acknowledgement of one sent then arrives.
    Renew(usize),
    RenewArrives {
        node: usize,
        life: u32,
        sent: Tick,
    },
    Acknowledged {
        node: usize,
        life: u32,
        sent: Tick,
    },
    /// The director looks for a lapsed promise; `Acquire` is committed.
    Look,
    Acquire(usize),
    /// Nothing but time: a fence falls.
    FenceFalls,
}

pub(super) struct World<'a> {
    scenario: &'a Scenario,
    rng: Pcg64Mcg,
    now: Tick,
    queue: BTreeMap<(Tick, u64), Event>,
    scheduled: u64,
    speakers: Vec<Speaker>,
    switches: [Switch; 2],
    trunk: bool,
    /// When the last frame of each sender into each wire arrives: wires do not reorder.
    wires: BTreeMap<(Side, Port, bool), Tick>,
    director: Director,
    checker: Checker,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let count = scenario.speakers.len();
        let ports = |side| {
            let here = (0..count).filter(|n| scenario.speakers[*n] == side).map(Port::Speaker);
            Switch::new(here.chain([Port::Host, Port::Trunk]).collect())
        };
        let mut world = Self {
            scenario,
            rng: Pcg64Mcg::seed_from_u64(seed),
            now: Tick::ZERO,
            queue: BTreeMap::new(),
            scheduled: 0,
            speakers: (0..count).map(|n| Speaker::new(scenario.kind, n)).collect(),
            switches: Side::BOTH.map(ports),
            trunk: true,
            wires: BTreeMap::new(),
            director: Director::new(scenario.kind == Kind::Tandem(Some(Bug::EarlyTakeover))),
            checker: Checker::new(),
        };
        for (at, fault) in &scenario.faults {
            world.schedule(*at, Event::Fault(*fault));
        }
        for n in 0..count {
            world.within(0..20_000, Event::Startup(n));
        }
        for side in Side::BOTH {
            world.within(0..10_000, Event::Probe(side, 0));
        }
        if scenario.kind != Kind::Stock {
            world.schedule(Tick::ZERO, Event::Look);
        }
        world
    }

    pub(super) fn run(mut self) -> Report {
        let end = Tick::ZERO + self.scenario.length;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end {
                break;
            }
            self.now = at;
            self.checker.tick(at);
            self.handle(event);
            let masters = self.speakers.iter().filter(|s| s.carrier && self.is_master(s)).count();
            self.checker.masters(masters, at);
        }
        self.checker.finish(end)
    }

    fn is_master(&self, speaker: &Speaker) -> bool {
        speaker.is_master(self.now, self.scenario.kind != Kind::Tandem(Some(Bug::NoKernelFence)))
    }

    fn schedule(&mut self, at: Tick, event: Event) {
        self.scheduled += 1;
        self.queue.insert((at.max(self.now), self.scheduled), event);
    }

    fn within(&mut self, us: std::ops::Range<u64>, event: Event) {
        let at = self.now + Duration::from_micros(self.rng.random_range(us));
        self.schedule(at, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault(fault) => self.fault(fault),
            Event::Startup(n) => {
                if self.speakers[n].can_act() {
                    let frames = self.speakers[n].startup(self.now);
                    self.send(n, frames);
                }
            }
            Event::Timer(n) => self.timer(n),
            Event::Probe(side, number) => self.send_probe(side, number),
            Event::IntoSwitch(side, port, octets) => self.switch(side, port, &octets),
            Event::OutOfSwitch(side, port, octets) => self.deliver(side, port, &octets),
            Event::Renew(n) => self.renew(n),
            Event::RenewArrives { node, life, sent } => {
                if self.speakers[node].clustered && self.director.renew(node, self.now) {
                    self.within(CLUSTER_US, Event::Acknowledged { node, life, sent });
                }
            }
            Event::Acknowledged { node, life, sent } => self.acknowledged(node, life, sent),
            Event::Look => self.look(),
            Event::Acquire(n) => self.acquire(n),
            Event::FenceFalls => {}
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::TrunkDown => self.trunk = false,
            Fault::TrunkUp => self.trunk = true,
            Fault::LinkDown(n) => {
                // A daemon that still can says farewell into the void and gives the group up.
                self.speakers[n].carrier = false;
                let side = self.scenario.speakers[n];
                self.switches[side.index()].carrier_lost(Port::Speaker(n));
                self.give_up(n, None);
            }
            Fault::LinkUp(n) => self.speakers[n].carrier = true,
            Fault::Kill(n) => self.speakers[n].daemon = Daemon::Dead,
            Fault::PowerOff(n) => {
                self.speakers[n].daemon = Daemon::Dead;
                self.speakers[n].powered = false;
                self.speakers[n].fence_until = Tick::ZERO;
            }
            Fault::Start(n) => {
                self.speakers[n].restart(self.scenario.kind, n);
                self.within(1_000..20_000, Event::Startup(n));
            }
            Fault::Pause(n) => self.speakers[n].daemon = Daemon::Paused,
            Fault::Resume(n) => self.resume(n),
            Fault::Isolate(n) => self.speakers[n].clustered = false,
            Fault::Rejoin(n) => self.speakers[n].clustered = true,
            Fault::HandOver(to) => {
                if let Some(owner) = self.director.owner().filter(|owner| *owner != to) {
                    self.give_up(owner, Some(to));
                }
            }
        }
    }

    /// The daemon wakes up and does first what it was about to do: speak.
    fn resume(&mut self, n: usize) {
        if self.speakers[n].daemon != Daemon::Paused {
            return;
        }
        self.speakers[n].daemon = Daemon::Running;
        self.timer(n);
        if self.speakers[n].thinks_open() && self.scenario.kind != Kind::Stock {
            self.within(200..2_000, Event::Renew(n));
        }
    }

    fn timer(&mut self, n: usize) {
        if !self.speakers[n].can_act() {
            return;
        }
        let due = self.speakers[n].deadline().is_some_and(|at| at <= self.now);
        if due {
            let frames = self.speakers[n].timer(self.now);
            self.send(n, frames);
        }
    }

    /// Sends what a speaker's daemon hands to its kernel, and wakes the daemon when it wants to be.
    fn send(&mut self, n: usize, frames: Vec<Vec<u8>>) {
        if let Some(at) = self.speakers[n].deadline() {
            self.schedule(at, Event::Timer(n));
        }
        let speaker = &self.speakers[n];
        let silenced = self.scenario.kind != Kind::Stock && !self.is_master(speaker);
        let carrier = speaker.carrier;
        for octets in frames {
            if silenced {
                self.checker.fenced();
            } else if carrier {
                self.transmit(self.scenario.speakers[n], Port::Speaker(n), octets);
            }
        }
    }

    fn transmit(&mut self, side: Side, port: Port, octets: Vec<u8>) {
        if let Some(at) = self.wire(side, port, true) {
            self.schedule(at, Event::IntoSwitch(side, port, octets));
        }
    }

    /// Returns when a frame sent now comes out of a wire, `None` when it is lost.
    fn wire(&mut self, side: Side, port: Port, inwards: bool) -> Option<Tick> {
        let delay = Duration::from_micros(self.rng.random_range(HOP_US));
        let lost = self.rng.random_range(0..1000) < self.scenario.lost_per_mille;
        let last = self.wires.entry((side, port, inwards)).or_default();
        let at = (self.now + delay).max(*last);
        *last = at;
        (!lost).then_some(at)
    }

    fn switch(&mut self, side: Side, from: Port, octets: &[u8]) {
        // The engines only make sound frames; one that is not goes nowhere, as in a real switch.
        let ports = self.switches[side.index()].forward(from, octets).unwrap_or_default();
        for port in ports {
            if port == Port::Trunk && !self.trunk {
                continue;
            }
            if let Some(at) = self.wire(side, port, false) {
                self.schedule(at, Event::OutOfSwitch(side, port, octets.to_vec()));
            }
        }
    }

    fn deliver(&mut self, side: Side, port: Port, octets: &[u8]) {
        match port {
            Port::Trunk => {
                if self.trunk {
                    self.switch(side.other(), Port::Trunk, octets);
                }
            }
            Port::Host => {
                if let Ok(Some(received)) = parse_frame(octets) {
                    self.checker.advert(side, &received, self.now);
                }
            }
            Port::Speaker(n) => self.hear(n, octets),
        }
    }

    fn hear(&mut self, n: usize, octets: &[u8]) {
        if !self.speakers[n].powered || !self.speakers[n].carrier {
            return;
        }
        if let Some((side, number)) = read_probe(octets) {
            if self.is_master(&self.speakers[n]) {
                self.checker.probe(side, number, n, self.now);
            }
        } else if let Ok(Some(received)) = parse_frame(octets)
            && self.speakers[n].can_act()
        {
            let frames = self.speakers[n].hear(&received, self.now);
            self.send(n, frames);
        }
    }

    fn send_probe(&mut self, side: Side, number: u32) {
        let host = MacAddr([2, 0, 0, 0, 1, if side == Side::Left { 1 } else { 2 }]);
        let mut payload = vec![host.0[5]];
        payload.extend_from_slice(&number.to_be_bytes());
        let frame = Frame {
            dst: MacAddr::virtual_router(VRID),
            src: host,
            vlans: Vlans::NONE,
            s_tag: false,
            ethertype: PROBE,
            payload: &payload,
        };
        self.transmit(side, Port::Host, frame.emit());
        self.schedule(self.now + PROBE_EVERY, Event::Probe(side, number.wrapping_add(1)));
    }

    fn renew(&mut self, n: usize) {
        let speaker = &self.speakers[n];
        if !speaker.can_act() || !speaker.thinks_open() {
            return;
        }
        // A refused owner finds out at its deadline; with the bug it never looks.
        let fenced = self.scenario.kind != Kind::Tandem(Some(Bug::NoKernelFence));
        if fenced && self.now >= speaker.fence_until {
            self.speakers[n].lapsed();
            return;
        }
        if speaker.clustered {
            let event = Event::RenewArrives { node: n, life: speaker.life, sent: self.now };
            self.within(CLUSTER_US, event);
        }
        self.schedule(self.now + RENEW, Event::Renew(n));
    }

    /// The deadline counts from the time of sending; a paused daemon cannot move it.
    fn acknowledged(&mut self, n: usize, life: u32, sent: Tick) {
        let speaker = &mut self.speakers[n];
        let mine = speaker.can_act() && speaker.clustered && speaker.life == life;
        if mine && speaker.thinks_open() {
            speaker.fence_until = speaker.fence_until.max(sent + LEASE - MARGIN);
            let falls_at = speaker.fence_until;
            self.schedule(falls_at, Event::FenceFalls);
        }
    }

    fn look(&mut self) {
        self.schedule(self.now + LOOK_EVERY, Event::Look);
        let before = self.director.owner();
        if !self.director.should_choose(self.now) {
            return;
        }
        let eligible = |n: &usize| self.speakers[*n].is_eligible() && Some(*n) != before;
        if let Some(n) = (0..self.speakers.len()).find(eligible) {
            self.director.chose();
            self.within(COMMIT_US, Event::Acquire(n));
        }
    }

    fn acquire(&mut self, n: usize) {
        if !self.speakers[n].is_eligible() {
            self.director.declined();
            return;
        }
        self.director.acquired(n, self.now);
        let until = self.now + LEASE - MARGIN;
        let frames = self.speakers[n].open(self.now, until);
        self.schedule(until, Event::FenceFalls);
        self.send(n, frames);
        self.schedule(self.now + RENEW, Event::Renew(n));
    }

    /// The owner releases: farewell, fence, word to the voters; then `to`, or any other, acquires.
    fn give_up(&mut self, n: usize, to: Option<usize>) {
        if self.director.owner() != Some(n) || !self.speakers[n].can_act() {
            return;
        }
        if !self.speakers[n].clustered {
            return;
        }
        let frames = self.speakers[n].release();
        self.send(n, frames);
        self.speakers[n].fence_until = self.now;
        self.director.released();
        let eligible = |m: &usize| *m != n && self.speakers[*m].is_eligible();
        let next = to.filter(eligible).or_else(|| (0..self.speakers.len()).find(eligible));
        match next {
            Some(next) => self.within(CLUSTER_US, Event::Acquire(next)),
            None => self.director.declined(),
        }
    }
}

fn read_probe(octets: &[u8]) -> Option<(Side, u32)> {
    let frame = Frame::parse(octets).ok().filter(|frame| frame.ethertype == PROBE)?;
    let (host, rest) = frame.payload.split_first()?;
    let side = if *host == 1 { Side::Left } else { Side::Right };
    rest.first_chunk::<4>().map(|number| (side, u32::from_be_bytes(*number)))
}
