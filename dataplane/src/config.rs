use model::{
    Attachment, GroupId, MacAddr, NatBlock, NatPool, PortId, Rate, Session, SessionId, SessionKind,
};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// What one node's data plane is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Interfaces towards subscribers.
    pub access: Vec<AccessPort>,
    /// The interface towards the core router.
    pub core: Option<String>,
    /// How XDP is attached.
    pub xdp: XdpMode,
    /// Who enforces rates.
    pub shaper: Shaper,
    /// Where maps and links are pinned, such as `/sys/fs/bpf/tandem/node1`: one directory per daemon.
    pub pin_dir: PathBuf,
}

/// One interface towards subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPort {
    /// Its cluster-wide number.
    pub port: PortId,
    /// The interface of this node.
    pub interface: String,
    /// The group that serves it.
    pub group: GroupId,
}

/// How XDP is attached to access interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the stack: works on every interface, and is the faster one on veth.
    Generic,
    /// In the driver, or fail.
    Native,
}

/// Who enforces the rates of sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shaper {
    /// A token bucket per direction in the eBPF programs: drops what is too much.
    #[default]
    Policer,
    /// An HTB class per direction: queues what is too much.
    Htb,
}

/// A group as this node programs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// Its number.
    pub id: GroupId,
    /// Its virtual MAC, never a device's own.
    pub vmac: MacAddr,
    /// Next hop of its pools on the core network; answered by the daemon, not configured on an interface.
    pub core_address: Ipv4Addr,
    /// Prefix length of the core network.
    pub core_prefix_len: u8,
    /// Pool gateways, held as /32 on the loopback interface so that the kernel answers pings.
    pub gateways: Vec<Ipv4Addr>,
    /// Networks of its subscribers.
    pub pools: Vec<PoolRoute>,
}

/// A subscriber network and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRoute {
    /// Network address.
    pub network: Ipv4Addr,
    /// Prefix length.
    pub prefix_len: u8,
    /// The access port that leads there.
    pub port: PortId,
    /// Largest IPv4 packet, in octets: 1492 for PPPoE, 1500 for IPoE.
    pub mtu: u16,
    /// Translation, when the addresses are private.
    pub nat: Option<NatPool>,
}

/// A session as this node programs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    /// Its cluster-wide number.
    pub id: SessionId,
    /// The group that serves it.
    pub group: GroupId,
    /// Where its frames come from; checked for each.
    pub attachment: Attachment,
    /// Its only allowed source address.
    pub address: Ipv4Addr,
    /// PPPoE SESSION_ID, `None` for IPoE.
    pub pppoe_sid: Option<u16>,
    /// Whether the outer tag towards the subscriber has TPID 0x88a8 instead of 0x8100.
    pub s_tag: bool,
    /// Rates, 0 is unlimited.
    pub rate: Rate,
    /// Port block, for pools with NAT.
    pub nat: Option<NatBlock>,
    /// Whether its packets pass; else they are dropped both ways.
    pub allowed: bool,
}

impl From<&Session> for SessionEntry {
    /// Takes a double tag to be an 802.1ad service tag around a customer tag; set `s_tag` to
    /// override for switches that stack 0x8100 twice.
    fn from(session: &Session) -> Self {
        let (pppoe_sid, allowed) = match &session.kind {
            SessionKind::Pppoe(pppoe) => (Some(pppoe.sid), true),
            SessionKind::Dhcp(_) => (None, true),
            SessionKind::Static(fixed) => (None, fixed.allowed),
        };
        Self {
            id: session.id,
            group: session.group,
            attachment: session.attachment,
            address: session.address,
            pppoe_sid,
            s_tag: session.attachment.vlans.has_service_tag(),
            rate: session.rate,
            nat: session.nat,
            allowed,
        }
    }
}

impl SessionChange {
    /// What the kernel is to do with a session: one that was heard nowhere yet is not in it.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        let entry = SessionEntry::from(session);
        if session.attachment.is_known() { Self::Put(entry) } else { Self::Remove(entry) }
    }
}

/// One step of [`Dataplane::apply`](crate::Dataplane::apply).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionChange {
    /// Adds a session, or changes the one with the same id.
    Put(SessionEntry),
    /// Removes the session with the same id, if it is there.
    Remove(SessionEntry),
}

/// Traffic of one session since it began, on whichever nodes carried it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// IPv4 octets from the subscriber.
    pub bytes_up: u64,
    /// Packets from the subscriber.
    pub packets_up: u64,
    /// IPv4 octets to the subscriber.
    pub bytes_down: u64,
    /// Packets to the subscriber.
    pub packets_down: u64,
    /// Packets from the subscriber dropped by the policer.
    pub dropped_up: u64,
    /// Packets to the subscriber dropped by the policer.
    pub dropped_down: u64,
}

impl Counters {
    /// Returns each counter of `self` joined with that of `other`.
    fn join(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            bytes_up: f(self.bytes_up, other.bytes_up),
            packets_up: f(self.packets_up, other.packets_up),
            bytes_down: f(self.bytes_down, other.bytes_down),
            packets_down: f(self.packets_down, other.packets_down),
            dropped_up: f(self.dropped_up, other.dropped_up),
            dropped_down: f(self.dropped_down, other.dropped_down),
        }
    }

    /// Returns the sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.join(other, u64::saturating_add)
    }

    /// Returns by how much each counter of `self` is above that of `other`, zero where it is not.
    #[must_use]
    pub fn above(self, other: Self) -> Self {
        self.join(other, u64::saturating_sub)
    }

    /// Returns the larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.join(other, u64::max)
    }
}

/// What a reconciliation found and repaired, in kernel objects: tc programs, map entries,
/// classes, NAT elements, routes, bans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Wanted, but not there.
    pub missing: u64,
    /// There, but not wanted.
    pub stale: u64,
    /// There with another content.
    pub changed: u64,
}

impl Drift {
    /// Returns the sums.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            missing: self.missing.saturating_add(other.missing),
            stale: self.stale.saturating_add(other.stale),
            changed: self.changed.saturating_add(other.changed),
        }
    }

    /// Whether the kernel held exactly what was wanted.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_and_the_sum_make_the_larger_of_each() {
        let own = Counters { bytes_up: 100, packets_up: 7, ..Counters::default() };
        let told = Counters { bytes_up: 120, packets_up: 5, ..Counters::default() };
        let missing = told.above(own);
        assert_eq!(missing, Counters { bytes_up: 20, ..Counters::default() });
        assert_eq!(own.plus(missing), own.max(told));
    }
}
