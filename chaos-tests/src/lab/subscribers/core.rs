//! The far end: counts what arrives, and sends to each probed subscriber.

use super::load::{self, LoadPace, OCTETS};
use super::{PROBE_TICK, Pace, Plan, Shared};
use crate::lab::probe::{Probe, SUBSCRIBER_PORT, TARGET_PORT};
use crate::lab::topology::TARGET;
use anyhow::Result;
use dataplane::boottime_now;
use model::Tick;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::UdpSocket;

struct Core {
    plan: Plan,
    shared: Arc<Shared>,
    socket: UdpSocket,
    seq: Vec<u64>,
}

/// Runs until the subscribers stop.
pub(super) async fn run(plan: Plan, shared: Arc<Shared>) -> Result<()> {
    let socket = UdpSocket::bind(SocketAddrV4::new(TARGET, TARGET_PORT)).await?;
    let mut core = Core { plan, shared, socket, seq: vec![0; plan.total()] };
    let probed: Vec<usize> = (0..plan.total()).filter(|i| plan.is_probed(*i)).collect();
    let mut pace = Pace::new(&plan);
    let mut load_pace = LoadPace::default();
    let mut tick = tokio::time::interval(PROBE_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !core.shared.stop.load(Ordering::Acquire) {
        tokio::select! {
            readable = core.socket.readable() => readable?,
            _ = tick.tick() => {}
        }
        core.receive();
        let now = boottime_now();
        for load in core.shared.loads() {
            for _ in 0..load_pace.due(load.session, load.down_bps, now) {
                core.send(load.session, &load::payload(load.session));
            }
        }
        if !core.shared.probing.load(Ordering::Acquire) {
            continue;
        }
        while let Some(at) = pace.due(probed.len(), now) {
            core.probe(probed[at])?;
        }
    }
    Ok(())
}

impl Core {
    fn receive(&self) {
        let mut buf = [0u8; OCTETS];
        while let Ok((len, from)) = self.socket.try_recv_from(&mut buf) {
            self.arrived(&buf[..len], from, boottime_now());
        }
    }

    fn arrived(&self, payload: &[u8], from: SocketAddr, now: Tick) {
        let session = Probe::parse(payload).and_then(|p| usize::try_from(p.session).ok());
        let Some(seen) = session.and_then(|i| self.shared.seen.get(i)) else { return };
        if load::is_load(payload) {
            seen.up_octets.fetch_add(load::octets(), Ordering::Relaxed);
            return;
        }
        if let SocketAddr::V4(from) = from {
            seen.seen_from(from);
        }
        seen.up.arrived(now);
        self.shared.up.arrived(now);
    }

    fn probe(&mut self, i: usize) -> Result<()> {
        if self.shared.seen[i].address().is_some() {
            self.seq[i] += 1;
            let probe = Probe { session: u32::try_from(i)?, seq: self.seq[i] };
            self.send(i, &probe.emit());
        }
        Ok(())
    }

    /// Sends to a subscriber. One with a private address is reached only through the port that it has
    /// opened itself.
    fn send(&self, i: usize, payload: &[u8]) {
        let seen = &self.shared.seen[i];
        let to = if self.plan.is_private(i) {
            seen.outside()
        } else {
            seen.address().map(|address| SocketAddrV4::new(address, SUBSCRIBER_PORT))
        };
        if let Some(to) = to {
            // A full queue or an ICMP error is a lost probe, which is what is being measured.
            let _ = self.socket.try_send_to(payload, to.into());
        }
    }
}
