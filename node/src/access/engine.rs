use super::dhcp::DhcpAccess;
use super::pppoe::PppoeAccess;
use super::statics::StaticAccess;
use crate::proposer::OpOutcome;
use crate::waiting::WaitingList;
use dataplane::UnknownSource;
use ether::{Arp, ArpOperation, Frame, Udp4, ethertype};
use model::{Attachment, Group, GroupId, GroupService, MacAddr, PortId, Tick, UnixMs, Vlans};
use raft_store::{Change, ChangeBatch, SessionOp, State};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame on an access port.
    Send {
        /// The port.
        port: PortId,
        /// Whole Ethernet frame.
        frame: Vec<u8>,
    },
    /// Propose a session change; its outcome comes back with `pending`.
    Propose {
        /// Names what waits for it.
        pending: Pending,
        /// The change.
        op: SessionOp,
    },
}

/// What waits for the outcome of a session change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pending {
    /// A PPPoE link that wants its address.
    PppoeUp {
        /// Its SESSION_ID.
        sid: u16,
    },
    /// A DHCP request.
    Dhcp {
        /// The pool whose server asked.
        pool: String,
        /// Its token.
        token: ::dhcp::Token,
        /// Outer TPID of the client's frames.
        s_tag: bool,
    },
    /// The place of a static subscriber.
    StaticSeen {
        /// Its address.
        address: Ipv4Addr,
    },
    /// Nobody; the change matters by itself.
    Nothing,
}

/// Counts of what was dropped and why, and of what happened; shared with `/metrics`.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl Counters {
    /// Adds one to `name{label}`.
    pub fn add(&self, name: &'static str, label: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry((name, label)).or_default() +=
            1;
    }

    /// All counts.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().map(|((name, label), n)| (*name, *label, *n)).collect()
    }
}

/// Where frames go out: the group's virtual MAC, and the list of what the driver is to do.
pub(super) struct Wire {
    pub(super) group: GroupId,
    pub(super) vmac: MacAddr,
    pub(super) output: Vec<Output>,
}

impl Wire {
    pub(super) fn send(
        &mut self,
        to: Attachment,
        s_tag: bool,
        dst: MacAddr,
        ethertype: u16,
        payload: &[u8],
    ) {
        let frame =
            Frame { dst, src: self.vmac, vlans: to.vlans, s_tag, ethertype, payload }.emit();
        self.output.push(Output::Send { port: to.port, frame });
    }

    pub(super) fn propose(&mut self, pending: Pending, op: SessionOp) {
        self.output.push(Output::Propose { pending, op });
    }
}

/// The protocol side of one group while this node owns it. No I/O, no clock.
pub struct Engine {
    wire: Wire,
    pppoe: Option<PppoeAccess>,
    dhcp: Option<DhcpAccess>,
    statics: StaticAccess,
    waiting: Arc<WaitingList>,
    gateways: Vec<Ipv4Addr>,
    group: Group,
    counters: Arc<Counters>,
    /// New dial-ins are dropped: the log cannot keep up.
    pub shed: bool,
}

impl Engine {
    /// An engine that goes on with the sessions of `state`. The work does not grow with their
    /// number: links are resumed when they are heard from, and in small steps from `on_time`.
    #[must_use]
    pub fn new(
        group: &Group,
        state: &State,
        counters: Arc<Counters>,
        waiting: Arc<WaitingList>,
        now: Tick,
    ) -> Self {
        let serves = |s| group.services.contains(&s);
        let pppoe = serves(GroupService::Pppoe)
            .then(|| PppoeAccess::new(group, state, counters.clone(), now));
        Self {
            wire: Wire { group: group.id, vmac: group.virtual_mac(), output: Vec::new() },
            pppoe,
            dhcp: serves(GroupService::Dhcp).then(|| DhcpAccess::new(counters.clone())),
            statics: StaticAccess::new(waiting.clone(), counters.clone()),
            waiting,
            gateways: state.pools_of(group.id, GroupService::Dhcp).map(|p| p.gateway).collect(),
            group: group.clone(),
            counters,
            shed: false,
        }
    }

    /// How many links wait to be resumed.
    #[must_use]
    pub fn resuming(&self) -> usize {
        self.pppoe.as_ref().map_or(0, PppoeAccess::resuming)
    }

    /// Consumes a frame of an access port.
    pub fn on_frame(
        &mut self,
        port: PortId,
        octets: &[u8],
        state: &State,
        now: Tick,
        wall: UnixMs,
    ) {
        let frame = match Frame::parse(octets) {
            Ok(frame) => frame,
            Err(error) => return self.counters.add("access_drop", error.label()),
        };
        let from = Attachment { port, vlans: frame.vlans, mac: frame.src };
        match frame.ethertype {
            ethertype::PPPOE_DISCOVERY => {
                if let Some(pppoe) = &mut self.pppoe {
                    pppoe.on_discovery(&mut self.wire, from, &frame, self.shed, state, now, wall);
                }
            }
            ethertype::PPPOE_SESSION => {
                if let Some(pppoe) = &mut self.pppoe {
                    pppoe.on_session(&mut self.wire, from, &frame, state, now);
                }
            }
            ethertype::ARP => {
                if let Some(reply) = arp_reply(&self.group, &self.gateways, octets) {
                    self.wire.output.push(Output::Send { port, frame: reply });
                    self.on_arp_sender(from, frame.payload, state, now, wall);
                }
            }
            ethertype::IPV4 => self.on_ipv4(from, &frame, state, now),
            _other => self.counters.add("access_drop", "unknown_ethertype"),
        }
    }

    /// Learns from a request for a gateway: it says who is where, before any packet flows.
    fn on_arp_sender(
        &mut self,
        from: Attachment,
        payload: &[u8],
        state: &State,
        now: Tick,
        wall: UnixMs,
    ) {
        let Ok(arp) = Arp::parse(payload) else { return };
        // A probe has no sender address yet (RFC 5227 §2.1.1); a proxy speaks for another station.
        if !arp.sender_ip.is_unspecified() && arp.sender_mac == from.mac {
            self.statics.on_source(&mut self.wire, arp.sender_ip, from, state, now, wall);
        }
    }

    /// Consumes sources of packets that the kernel found no session for.
    pub fn on_unknown(
        &mut self,
        sources: &[UnknownSource],
        state: &State,
        now: Tick,
        wall: UnixMs,
    ) {
        for UnknownSource { address, attachment } in sources {
            self.statics.on_source(&mut self.wire, *address, *attachment, state, now, wall);
        }
    }

    fn on_ipv4(&mut self, from: Attachment, frame: &Frame<'_>, state: &State, now: Tick) {
        let Some(dhcp) = &mut self.dhcp else { return };
        match Udp4::parse(frame.payload) {
            Ok(Some(udp)) if udp.dst_port == 67 => {
                dhcp.on_message(&mut self.wire, from, frame.s_tag, &udp, self.shed, state, now);
            }
            Ok(_) => self.counters.add("access_drop", "not_dhcp"),
            Err(error) => self.counters.add("access_drop", error.label()),
        }
    }

    /// Consumes what became of a proposed change.
    pub fn on_outcome(&mut self, pending: Pending, outcome: &OpOutcome, state: &State, now: Tick) {
        match pending {
            Pending::PppoeUp { sid } => {
                if let Some(pppoe) = &mut self.pppoe {
                    pppoe.on_outcome(&mut self.wire, sid, outcome, state, now);
                }
            }
            Pending::Dhcp { pool, token, s_tag } => {
                if let Some(dhcp) = &mut self.dhcp {
                    dhcp.on_outcome(&mut self.wire, &pool, token, s_tag, outcome, state, now);
                }
            }
            Pending::StaticSeen { address } => self.statics.on_outcome(address, outcome),
            Pending::Nothing => {}
        }
    }

    /// Consumes committed changes: sessions that operators ended, or that gave way to newer ones.
    pub fn on_changes(&mut self, batch: &ChangeBatch, state: &State, now: Tick) {
        for change in &batch.changes {
            if let Change::SessionUp(session) = change
                && session.group == self.wire.group
            {
                self.waiting.forget(session.group, session.address);
            }
            if let Change::SessionDown { session, reason } = change
                && session.group == self.wire.group
                && let Some(pppoe) = &mut self.pppoe
            {
                pppoe.on_down(&mut self.wire, session, *reason, state, now);
            }
        }
    }

    /// Does what is due. Early and repeated calls do no harm.
    pub fn on_time(&mut self, state: &State, now: Tick) {
        if let Some(pppoe) = &mut self.pppoe {
            pppoe.on_time(&mut self.wire, state, now);
        }
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.on_time(now);
        }
    }

    /// When [`Engine::on_time`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let pppoe = self.pppoe.as_ref().and_then(PppoeAccess::deadline);
        let dhcp = self.dhcp.as_ref().and_then(DhcpAccess::deadline);
        [pppoe, dhcp].into_iter().flatten().min()
    }

    /// Takes what the driver is to do, in order.
    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.wire.output)
    }
}

/// The answer of the group's virtual MAC to an ARP request for one of `addresses`.
pub(super) fn arp_reply(group: &Group, addresses: &[Ipv4Addr], octets: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame::parse(octets).ok().filter(|f| f.ethertype == ethertype::ARP)?;
    let request =
        Arp::parse(frame.payload).ok().filter(|a| a.operation == ArpOperation::Request)?;
    // An announcement (sender and target alike) asks nothing.
    if !addresses.contains(&request.target_ip) || request.sender_ip == request.target_ip {
        return None;
    }
    let vmac = group.virtual_mac();
    let payload = request.answer(vmac).emit();
    let vlans: Vlans = frame.vlans;
    Some(
        Frame {
            dst: frame.src,
            src: vmac,
            vlans,
            s_tag: frame.s_tag,
            ethertype: ethertype::ARP,
            payload: &payload,
        }
        .emit(),
    )
}

#[cfg(test)]
mod tests;
