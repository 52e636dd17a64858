//! What must hold on the wire, whoever decides.

use super::scenario::Side;
use super::speaker::{INTERVAL_CS, VRID};
use model::Tick;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vrrp::{Event, Listener, Received, Router, RouterConfig, Sighting, StateName};

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How long two or more speakers with a working link were master at a time.
    pub two_masters: Duration,
    /// When that was first so.
    pub first_overlap: Option<Tick>,
    /// Adverts by which a listener saw that two are active, per side.
    pub conflicts: [u32; 2],
    /// How often a listener saw another active router than before, per side.
    pub takeovers: [u32; 2],
    /// Whom the listener of each side believes to be active at the end, by number.
    pub active_at_end: [Option<IpAddr>; 2],
    /// How often a stock router of priority 1 on each side found nobody active and would have taken
    /// over itself.
    pub stock_listener_rose: [u32; 2],
    /// Probes that more than one master accepted.
    pub doubled_probes: u32,
    /// Probes that a master accepted, per side.
    pub probes_accepted: [u32; 2],
    /// Longest time without an accepted probe after the first one, per side.
    pub gap_max: [Duration; 2],
    /// Frames from the virtual MAC that the kernel's fence kept back.
    pub frames_fenced: u32,
}

/// Observers of one side.
#[derive(Clone, Debug)]
struct Observer {
    listener: Listener,
    stock: Router,
    last_accepted: Option<Tick>,
}

/// Watches a run.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    sides: [Observer; 2],
    accepted_by: BTreeMap<(Side, u32), usize>,
    overlap_since: Option<Tick>,
    report: Report,
}

impl Checker {
    pub(super) fn new() -> Self {
        let observer = || {
            let mut cfg = RouterConfig::new(VRID, Ipv4Addr::new(10, 80, 0, 250), vec![]);
            (cfg.priority, cfg.interval_cs) = (1, INTERVAL_CS);
            let mut stock = Router::new(cfg);
            let _silent = stock.step(&Event::Startup, Tick::ZERO);
            Observer { listener: Listener::new(VRID), stock, last_accepted: None }
        };
        Self {
            sides: [observer(), observer()],
            accepted_by: BTreeMap::new(),
            overlap_since: None,
            report: Report {
                two_masters: Duration::ZERO,
                first_overlap: None,
                conflicts: [0; 2],
                takeovers: [0; 2],
                active_at_end: [None; 2],
                stock_listener_rose: [0; 2],
                doubled_probes: 0,
                probes_accepted: [0; 2],
                gap_max: [Duration::ZERO; 2],
                frames_fenced: 0,
            },
        }
    }

    /// The number of masters from `now` on, until told otherwise.
    pub(super) fn masters(&mut self, count: usize, now: Tick) {
        match self.overlap_since {
            Some(since) if count < 2 => {
                self.report.two_masters += now.since(since);
                self.overlap_since = None;
            }
            None if count >= 2 => {
                self.overlap_since = Some(now);
                self.report.first_overlap.get_or_insert(now);
            }
            Some(_) | None => {}
        }
    }

    /// An advert reaches the observers of one side.
    pub(super) fn advert(&mut self, side: Side, received: &Received, now: Tick) {
        self.tick(now);
        let index = side.index();
        let observer = &mut self.sides[index];
        match observer.listener.advert(received.src_ip, &received.advert, now) {
            Some(Sighting::Conflict { .. }) => self.report.conflicts[index] += 1,
            Some(Sighting::New { silence: Some(_) }) => self.report.takeovers[index] += 1,
            Some(Sighting::New { silence: None } | Sighting::Same | Sighting::Released)
            | Some(Sighting::LateRelease)
            | None => {}
        }
        if let IpAddr::V4(src_ip) = received.src_ip {
            let event = Event::Advert { src_ip, advert: &received.advert };
            let _silent = observer.stock.step(&event, now);
        }
    }

    /// Lets the stock listeners' timers run out. They only listen: what they would send is lost.
    pub(super) fn tick(&mut self, now: Tick) {
        for (observer, rose) in self.sides.iter_mut().zip(&mut self.report.stock_listener_rose) {
            let was = observer.stock.state();
            let _silent = observer.stock.step(&Event::Deadline, now);
            if was == StateName::Backup && observer.stock.state() == StateName::Active {
                *rose += 1;
            }
        }
    }

    /// A probe of one side's host reaches a master.
    pub(super) fn probe(&mut self, side: Side, number: u32, speaker: usize, now: Tick) {
        match self.accepted_by.insert((side, number), speaker) {
            Some(other) if other != speaker => self.report.doubled_probes += 1,
            Some(_) => {}
            None => {
                self.report.probes_accepted[side.index()] += 1;
                self.gap_ends(side, now);
                self.sides[side.index()].last_accepted = Some(now);
            }
        }
    }

    pub(super) fn fenced(&mut self) {
        self.report.frames_fenced += 1;
    }

    pub(super) fn finish(mut self, now: Tick) -> Report {
        self.tick(now);
        self.masters(0, now);
        for side in Side::BOTH {
            self.gap_ends(side, now);
            let listener = &self.sides[side.index()].listener;
            self.report.active_at_end[side.index()] = listener.active(now);
        }
        self.report
    }

    fn gap_ends(&mut self, side: Side, now: Tick) {
        if let Some(before) = self.sides[side.index()].last_accepted {
            let gap = &mut self.report.gap_max[side.index()];
            *gap = (*gap).max(now.since(before));
        }
    }
}
