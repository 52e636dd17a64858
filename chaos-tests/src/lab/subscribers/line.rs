//! The cable that all simulated subscribers share.

use super::host::{Host, News, index_of};
use super::load::{self, LoadPace};
use super::{PROBE_TICK, Pace, Plan, Shared, Wish};
use crate::lab::probe::{Probe, STRAY_SEQ, SUBSCRIBER_PORT, TARGET_PORT};
use crate::lab::topology::TARGET;
use anyhow::Result;
use dataplane::{PacketSocket, Received, boottime_now};
use ether::{Frame, Udp4};
use model::Tick;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const BATCH: usize = 64;
const FRAME_OCTETS: usize = 2048;

pub(super) struct Line {
    plan: Plan,
    shared: Arc<Shared>,
    hosts: Vec<Host>,
    timers: BTreeSet<(Tick, usize)>,
    armed: Vec<Option<Tick>>,
    socket: PacketSocket,
    out: Vec<Vec<u8>>,
    dialling: VecDeque<usize>,
    dial_next: Tick,
    pace: Pace,
    load_pace: LoadPace,
    probed: Vec<usize>,
    seq: Vec<u64>,
}

impl Line {
    pub(super) async fn run(
        plan: Plan,
        shared: Arc<Shared>,
        wishes: mpsc::Receiver<Wish>,
    ) -> Result<()> {
        let hosts = (0..plan.total())
            .map(|i| if i < plan.pppoe { Host::pppoe(i) } else { Host::dhcp(i) })
            .enumerate()
            .map(|(i, host)| host.tagged(plan.tagging.of(i)))
            .collect();
        let mut line = Self {
            plan,
            shared,
            hosts,
            timers: BTreeSet::new(),
            armed: vec![None; plan.total()],
            socket: PacketSocket::open_all("acc")?,
            out: Vec::new(),
            dialling: VecDeque::new(),
            dial_next: Tick::ZERO,
            pace: Pace::new(&plan),
            load_pace: LoadPace::default(),
            probed: (0..plan.total()).filter(|i| plan.is_probed(*i)).collect(),
            seq: vec![0; plan.total()],
        };
        line.serve(wishes).await
    }

    async fn serve(&mut self, wishes: mpsc::Receiver<Wish>) -> Result<()> {
        let mut bufs = vec![vec![0u8; FRAME_OCTETS]; BATCH];
        let mut received: Vec<Received> = Vec::with_capacity(BATCH);
        let mut tick = tokio::time::interval(PROBE_TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while !self.shared.stop.load(Ordering::Acquire) {
            received.clear();
            let arrived = tokio::select! {
                arrived = self.socket.recv_batch(&mut bufs, &mut received) => arrived.unwrap_or(0),
                _ = tick.tick() => 0,
            };
            let now = boottime_now();
            for (buf, frame) in bufs.iter().zip(&received).take(arrived) {
                self.on_frame(&buf[..frame.len], now);
            }
            while let Ok(wish) = wishes.try_recv() {
                match wish {
                    Wish::Dial(i) => self.dialling.push_back(i),
                    Wish::HangUp(i) => {
                        self.dialling.retain(|d| *d != i);
                        self.hosts[i].hang_up(now);
                        self.shared.seen[i].address.store(0, Ordering::Release);
                        self.settle(i);
                    }
                    Wish::Vanish(i) => {
                        self.dialling.retain(|d| *d != i);
                        self.hosts[i].vanish();
                        self.settle(i);
                        self.shared.seen[i].address.store(0, Ordering::Release);
                    }
                }
            }
            self.dial_due(now);
            self.timers_due(now);
            self.loads_due(now);
            self.probes_due(now);
            self.flush();
        }
        Ok(())
    }

    fn on_frame(&mut self, octets: &[u8], now: Tick) {
        let Ok(frame) = Frame::parse(octets) else { return };
        // Broadcasts (gratuitous ARP, adverts) concern nobody: the gateway's MAC never changes.
        let Some(i) = index_of(frame.dst).filter(|i| *i < self.hosts.len()) else { return };
        if !self.hosts[i].has_tags_of(&frame) {
            // Lost on a real line, where another VLAN is another customer.
            self.shared.mistagged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(payload) = self.hosts[i].on_frame(&frame, now) {
            if load::is_load(payload) {
                self.shared.seen[i].down_octets.fetch_add(load::octets(), Ordering::Relaxed);
            } else if Probe::parse(payload).is_some_and(|p| p.seq == STRAY_SEQ) {
                self.shared.strays.fetch_add(1, Ordering::Relaxed);
            } else if Probe::parse(payload).is_some_and(|p| usize::try_from(p.session) == Ok(i)) {
                self.shared.seen[i].down.arrived(now);
                self.shared.down.arrived(now);
            }
        } else {
            self.settle(i);
        }
    }

    /// Collects what a host wants to send and tell, and arms its timer.
    fn settle(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        self.out.append(&mut host.out);
        for news in host.news.drain(..) {
            let seen = &self.shared.seen[i];
            match news {
                News::Up(address) => {
                    seen.address.store(u32::from(address), Ordering::Release);
                    seen.came_up.fetch_add(1, Ordering::AcqRel);
                }
                News::Lost => {
                    seen.address.store(0, Ordering::Release);
                    seen.lost.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        let next = host.deadline();
        if next != self.armed[i] {
            if let Some(at) = self.armed[i] {
                self.timers.remove(&(at, i));
            }
            if let Some(at) = next {
                self.timers.insert((at, i));
            }
            self.armed[i] = next;
        }
    }

    fn dial_due(&mut self, now: Tick) {
        let pause = Duration::from_secs(1) / self.plan.dial_per_s.max(1);
        while now >= self.dial_next {
            let Some(i) = self.dialling.pop_front() else { return };
            self.dial_next = if now.since(self.dial_next) > pause * 10 {
                now + pause
            } else {
                self.dial_next + pause
            };
            self.hosts[i].dial(now);
            self.settle(i);
        }
    }

    fn timers_due(&mut self, now: Tick) {
        while let Some(&(at, i)) = self.timers.first() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            self.armed[i] = None;
            self.hosts[i].on_time(now);
            self.settle(i);
        }
    }

    fn probes_due(&mut self, now: Tick) {
        if !self.shared.probing.load(Ordering::Acquire) {
            return;
        }
        while let Some(at) = self.pace.due(self.probed.len(), now) {
            let i = self.probed[at];
            if self.hosts[i].address.is_some() {
                self.seq[i] += 1;
                let session = u32::try_from(i).unwrap_or(u32::MAX);
                self.send(i, &Probe { session, seq: self.seq[i] }.emit());
            }
        }
    }

    fn loads_due(&mut self, now: Tick) {
        for load in self.shared.loads() {
            for _ in 0..self.load_pace.due(load.session, load.up_bps, now) {
                self.send(load.session, &load::payload(load.session));
            }
        }
    }

    /// Sends a UDP payload of a subscriber to the target.
    fn send(&mut self, i: usize, payload: &[u8]) {
        let host = &self.hosts[i];
        let Some(address) = host.address else { return };
        let packet = Udp4 {
            src: address,
            dst: TARGET,
            src_port: SUBSCRIBER_PORT,
            dst_port: TARGET_PORT,
            ttl: 64,
            payload,
        };
        if let Some(frame) = host.wrap(&packet.emit()) {
            self.out.push(frame);
        }
    }

    fn flush(&mut self) {
        let frames: Vec<&[u8]> = self.out.iter().map(Vec::as_slice).collect();
        // What does not fit is lost, as on a wire; clients repeat.
        let _ = self.socket.send_batch(&frames);
        self.out.clear();
    }
}
