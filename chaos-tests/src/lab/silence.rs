//! Silent standby, frame by frame: which frames only the owner of the group may send, and whether the
//! fence of the node that sent one was open at that time.
//!
//! The truth about the fence is the kernel's own map, looked at every millisecond or so. Between two
//! looks it may have changed at any moment, so in such a gap both readings count; outside gaps there
//! is no tolerance but [`TRANSIT_MAX`]. A frame in a gap longer than [`GAP_MAX`] cannot be judged,
//! and is counted as such.

use super::topology::{CORE_VIP, VRID};
use ether::{Arp, Frame, ethertype, ip_protocol};
use model::{MacAddr, Tick};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

/// From the look of an egress program at the fence until the switch stamps the frame.
pub const TRANSIT_MAX: Duration = Duration::from_millis(1);
/// In a longer pause of the looks, more than one change may have gone unseen.
pub const GAP_MAX: Duration = Duration::from_millis(20);
/// Frames that wait for the next look at the fence.
const PENDING_MAX: usize = 1 << 20;
/// Addresses of subscribers, RFC 6598 §7.
const SUBSCRIBERS: (u32, u32) = (0x6440_0000, 0xffc0_0000);
const DHCP_SERVER_PORT: u16 = 67;

/// Where a cable leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To the subscribers.
    Access,
    /// To the core.
    Core,
}

/// What a frame says that only the owner may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// ARP for an address of the group; towards subscribers any ARP.
    Arp,
    /// PADO, PADS or PADT.
    Discovery,
    /// A frame of a PPPoE session.
    Ppp,
    /// DHCP from a server.
    Dhcp,
    /// A VRRP advert.
    Vrrp,
    /// A packet from or to a subscriber.
    Subscriber,
    /// Anything else from the virtual MAC.
    VirtualMac,
}

impl Claim {
    /// What a frame claims that a node sent on this side; `None` when anybody may send it.
    #[must_use]
    pub fn of(side: Side, octets: &[u8]) -> Option<Self> {
        let frame = Frame::parse(octets).ok()?;
        let virtual_mac = MacAddr::virtual_router(VRID);
        let by_kind = match frame.ethertype {
            ethertype::ARP => arp(side, frame.payload, virtual_mac),
            ethertype::PPPOE_DISCOVERY => Some(Self::Discovery),
            ethertype::PPPOE_SESSION => Some(Self::Ppp),
            ethertype::IPV4 => ipv4(frame.payload),
            _ => None,
        };
        by_kind.or_else(|| (frame.src == virtual_mac).then_some(Self::VirtualMac))
    }

    /// Name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Arp => "arp",
            Self::Discovery => "pppoe-discovery",
            Self::Ppp => "pppoe-session",
            Self::Dhcp => "dhcp",
            Self::Vrrp => "vrrp",
            Self::Subscriber => "subscriber",
            Self::VirtualMac => "virtual-mac",
        }
    }
}

fn arp(side: Side, payload: &[u8], virtual_mac: MacAddr) -> Option<Claim> {
    let claims = match (side, Arp::parse(payload)) {
        (Side::Access, _) => true,
        (Side::Core, Ok(arp)) => arp.sender_ip == CORE_VIP || arp.sender_mac == virtual_mac,
        (Side::Core, Err(_)) => false,
    };
    claims.then_some(Claim::Arp)
}

/// Only the fixed part of the header is read: the watcher keeps the first octets of a frame.
fn ipv4(packet: &[u8]) -> Option<Claim> {
    let address = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    let (protocol, src, dst) = (*packet.get(9)?, address(12)?, address(16)?);
    if protocol == ip_protocol::VRRP {
        return Some(Claim::Vrrp);
    }
    let ports = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
    if protocol == ip_protocol::UDP && ports.get(..2) == Some(&DHCP_SERVER_PORT.to_be_bytes()[..]) {
        return Some(Claim::Dhcp);
    }
    let (net, mask) = SUBSCRIBERS;
    let subscriber = [src, dst].iter().any(|a| u32::from(*a) & mask == net);
    subscriber.then_some(Claim::Subscriber)
}

/// One value of the fence, as long as looks found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    /// End of the first look that found it.
    first: Tick,
    /// Start of the last look that found it.
    last: Tick,
    until: Tick,
}

/// The fence of one node over time.
#[derive(Clone, Debug, Default)]
pub struct FenceLog {
    readings: Vec<Reading>,
    /// Time in gaps longer than [`GAP_MAX`].
    unwatched: Duration,
}

/// Whether a node could have sent a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// Its fence was open, or opened or shut at that time.
    Open,
    /// Its fence was shut for certain.
    Shut,
    /// Nobody looked at the fence at that time.
    Unwatched,
    /// The looks have not come that far.
    Later,
}

impl FenceLog {
    /// Adds a look from `start` to `end` that found `until`.
    pub fn note(&mut self, start: Tick, end: Tick, until: Tick) {
        let gap = self.readings.last().map_or(Duration::ZERO, |r| end.since(r.last));
        if gap > GAP_MAX {
            self.unwatched += gap;
        }
        match self.readings.last_mut() {
            // An end of the fence never comes back, so it stood through any gap; shut does come back.
            Some(same) if same.until == until && (until != Tick::ZERO || gap <= GAP_MAX) => {
                same.last = start;
            }
            Some(_) | None => self.readings.push(Reading { first: end, last: start, until }),
        }
    }

    /// Whether the node's programs could have let a frame pass that the switch stamped at `at`.
    #[must_use]
    pub fn rule(&self, at: Tick) -> Ruling {
        if self.readings.last().is_none_or(|newest| newest.last < at) {
            return Ruling::Later;
        }
        let earliest = at - TRANSIT_MAX;
        // What was last found before then may still have stood in the gap that follows.
        let from = self.readings.partition_point(|r| r.last < earliest).saturating_sub(1);
        let mut watched = true;
        for (i, reading) in self.readings.iter().enumerate().skip(from) {
            let before = i.checked_sub(1).map(|i| self.readings[i].last);
            let began = before.unwrap_or(Tick::ZERO).max(earliest);
            if began > at {
                break;
            }
            let ended = self.readings.get(i + 1).map_or(at, |next| next.first.min(at));
            if began < ended.min(reading.until) {
                return Ruling::Open;
            }
            let gap_is_short = before.is_some_and(|b| reading.first.since(b) <= GAP_MAX);
            watched &= gap_is_short || reading.first <= earliest;
        }
        if watched { Ruling::Shut } else { Ruling::Unwatched }
    }

    /// How long nobody looked.
    #[must_use]
    pub fn unwatched(&self) -> Duration {
        self.unwatched
    }

    fn around(&self, at: Tick) -> String {
        let from = self.readings.partition_point(|r| r.last < at).saturating_sub(2);
        let mut text = String::new();
        for r in self.readings.iter().skip(from).take(4) {
            let relative = |t: Tick| {
                let (after, before) = (t.since(at), at.since(t));
                if t >= at {
                    format!("+{:.3} ms", after.as_secs_f64() * 1e3)
                } else {
                    format!("-{:.3} ms", before.as_secs_f64() * 1e3)
                }
            };
            let until = if r.until == Tick::ZERO { "shut".into() } else { relative(r.until) };
            text += &format!(" [{} to {}: {until}]", relative(r.first), relative(r.last));
        }
        text
    }
}

/// A frame that a node sent while its fence was shut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The cable, `acc-n1`.
    pub cable: String,
    /// What the frame claimed.
    pub claim: Claim,
    /// When the switch stamped it.
    pub at: Tick,
    /// The fence around that time, relative to the frame.
    pub fence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} at {:.6} s while the fence was shut; fence values around it, and until when each opens:{}",
            self.claim.name(),
            self.cable,
            Duration::from_nanos(self.at.as_ns()).as_secs_f64(),
            self.fence
        )
    }
}

/// How many frames were judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sent behind an open fence, by claim.
    pub legal: BTreeMap<Claim, u64>,
    /// Anybody may send them.
    pub free: u64,
    /// In a time when nobody looked at the fence.
    pub unjudged: u64,
}

/// Judges the frames of one cable.
pub struct Judge {
    cable: String,
    side: Side,
    pending: VecDeque<(Tick, Claim)>,
    tally: Tally,
}

impl Judge {
    /// A judge of the frames that come out of `cable`.
    #[must_use]
    pub fn new(cable: &str, side: Side) -> Self {
        Self { cable: cable.to_owned(), side, pending: VecDeque::new(), tally: Tally::default() }
    }

    /// Takes a frame, stamped at `at`.
    ///
    /// # Errors
    /// [`PENDING_MAX`] frames wait: the looks at the fence have stopped.
    pub fn frame(&mut self, at: Tick, octets: &[u8]) -> anyhow::Result<()> {
        match Claim::of(self.side, octets) {
            Some(claim) => self.pending.push_back((at, claim)),
            None => self.tally.free += 1,
        }
        anyhow::ensure!(self.pending.len() <= PENDING_MAX, "nobody looks at the fences any more");
        Ok(())
    }

    /// Judges what can be judged by now; returns what must not have been sent.
    pub fn settle(&mut self, fences: &FenceLog) -> Vec<Violation> {
        let mut violations = Vec::new();
        while let Some(&(at, claim)) = self.pending.front() {
            match fences.rule(at) {
                Ruling::Later => break,
                Ruling::Open => *self.tally.legal.entry(claim).or_default() += 1,
                Ruling::Unwatched => self.tally.unjudged += 1,
                Ruling::Shut => violations.push(Violation {
                    cable: self.cable.clone(),
                    claim,
                    at,
                    fence: fences.around(at),
                }),
            }
            self.pending.pop_front();
        }
        violations
    }

    /// The count so far; begins a new one.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }
}

impl Tally {
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        for (claim, n) in other.legal {
            *self.legal.entry(claim).or_default() += n;
        }
        self.free += other.free;
        self.unjudged += other.unjudged;
    }
}

#[cfg(test)]
mod tests;
