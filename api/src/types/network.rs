//! Interfaces, routes, shaping and translation: what AthenaBNG's readers ask for.

use super::SessionType;
use model::SessionId;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use utoipa::{IntoParams, ToSchema};

/// One interface of the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Linux name.
    pub name: String,
    /// Number in the kernel.
    pub index: u32,
    /// `access`, `core` or `other`.
    #[schema(example = "access")]
    pub role: String,
    /// For an access interface, its port number, which is the same on every node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// For an access interface, its redundancy group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// `up` with carrier, `down` without, `disabled` when switched off.
    #[schema(example = "up")]
    pub status: String,
    /// Ethernet address.
    pub mac: Option<String>,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// First IPv4 address with prefix length.
    pub ipv4: Option<String>,
    /// First IPv6 address with prefix length.
    pub ipv6: Option<String>,
    /// All addresses with prefix length.
    pub addresses: Vec<String>,
    /// Octets received since the interface was made.
    pub bytes_in: u64,
    /// Octets sent.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Faulty packets received.
    pub errors_in: u64,
    /// Packets that could not be sent.
    pub errors_out: u64,
}

/// All interfaces of the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceList {
    /// The node.
    pub node: String,
    /// By number.
    pub interfaces: Vec<Interface>,
    /// How many.
    pub count: usize,
}

/// VLAN tags in use on an access port. Tandem makes no device for them: sessions are entries of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct VlanInterface {
    /// Port and tags, outer first.
    #[schema(example = "port1.200.20")]
    pub name: String,
    /// The port on the node that answers; the port's number where it has none.
    #[schema(example = "eth1")]
    pub trunk_interface: String,
    /// Outer tag, 0 for none.
    pub outer: u16,
    /// Inner tag, 0 for none.
    pub inner: u16,
    /// The redundancy group.
    pub group: String,
    /// Sessions with these tags.
    pub sessions: usize,
}

/// All VLAN tags in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanList {
    /// By name.
    pub vlans: Vec<VlanInterface>,
    /// How many.
    pub count: usize,
}

/// The same under AthenaBNG's name for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DemuxState {
    /// By name.
    pub interfaces: Vec<VlanInterface>,
    /// How many.
    pub count: usize,
}

/// How subscribers are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DemuxConfig {
    /// Always true: sessions are keyed by port, tags and Ethernet address.
    pub enabled: bool,
    /// One for each access port of the node that answers.
    pub profiles: Vec<DemuxProfile>,
    /// How many.
    pub count: usize,
}

/// An access port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DemuxProfile {
    /// Port number.
    #[schema(example = "port1")]
    pub name: String,
    /// Linux name.
    pub trunk_interface: String,
    /// The redundancy group.
    pub group: String,
    /// Outer tags that are served: all.
    #[schema(example = "0-4094")]
    pub stag_range: String,
    /// Inner tags that are served: all.
    #[schema(example = "0-4094")]
    pub ctag_range: String,
    /// Tag protocols that are understood.
    pub stag_protocols: Vec<String>,
    /// `pppoe`, `dhcp`.
    pub services: Vec<String>,
}

/// A page of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// At most so many sessions, 1 to 1000; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only sessions with a larger id: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u64>)]
    pub after: Option<SessionId>,
}

impl PageQuery {
    /// The limit when the caller names none.
    pub const LIMIT_DEFAULT: u32 = 100;
    /// The largest page.
    pub const LIMIT_MAX: u32 = 1000;

    /// How many sessions the caller wants at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        let limit = self.limit.unwrap_or(Self::LIMIT_DEFAULT).clamp(1, Self::LIMIT_MAX);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

/// A session with a rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShapedSession {
    /// Its id.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// `PPPoE` or `DHCP`.
    #[serde(rename = "type")]
    pub session_type: SessionType,
    /// PPP user, or the MAC address for DHCP.
    pub username: String,
    /// Access port and tags.
    pub interface: String,
    /// Rate towards the subscriber in bits per second, 0 for unlimited.
    pub rate_down: u64,
    /// Rate from the subscriber in bits per second, 0 for unlimited.
    pub rate_up: u64,
    /// `policer` or `htb`, as the node that answers does it; `none` on a witness.
    pub shaper: String,
    /// Name of the overhead profile.
    pub overhead_profile: String,
}

/// Sessions with a rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShapedList {
    /// In order of their ids.
    pub sessions: Vec<ShapedSession>,
    /// How many are on this page.
    pub count: usize,
    /// Pass it as `after` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub next: Option<SessionId>,
}

/// What is counted against a rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverheadProfile {
    /// Its name.
    pub name: String,
    /// Octets that each packet counts more than its IP length.
    pub overhead: u32,
    /// Octets that a packet counts at least.
    pub mpu: u32,
}

/// All overhead profiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OverheadList {
    /// By name.
    pub profiles: Vec<OverheadProfile>,
    /// How many.
    pub count: usize,
}

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteInfo {
    /// `default`, an address, or a network.
    pub destination: String,
    /// `unicast`, `local`, `blackhole`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Next hop.
    pub gateway: Option<String>,
    /// Interface.
    pub interface: Option<String>,
    /// Who made it.
    pub protocol: Option<String>,
    /// Metric.
    pub metric: Option<u32>,
    /// Routing table.
    pub table: String,
}

/// Routes of the node that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteList {
    /// The node.
    pub node: String,
    /// IPv4, then IPv6; at most 10,000.
    pub routes: Vec<RouteInfo>,
    /// How many.
    pub count: usize,
}

/// BGP of FRR on the node that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpStatus {
    /// The node.
    pub node: String,
    /// FRR answered.
    pub running: bool,
    /// Why it did not, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Router id.
    pub router_id: Option<String>,
    /// Own AS.
    pub local_as: Option<u32>,
    /// Neighbours, by address.
    pub neighbors: Vec<BgpNeighborInfo>,
    /// How many.
    pub count: usize,
}

/// A BGP neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BgpNeighborInfo {
    /// Its address.
    pub address: String,
    /// Its AS.
    pub remote_as: u32,
    /// `Established`, `Active`, …
    pub state: String,
    /// Seconds in this state.
    pub uptime_s: u64,
    /// Prefixes received.
    pub prefixes_received: u64,
    /// Prefixes sent.
    pub prefixes_sent: u64,
}

/// A session behind NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CgnatSession {
    /// Its id.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// PPP user, or the MAC address for DHCP.
    pub username: String,
    /// Its pool.
    pub pool: String,
    /// The address that it has.
    #[schema(value_type = String, format = Ipv4)]
    pub private_ip: Ipv4Addr,
    /// The address that it is seen with.
    #[schema(value_type = String, format = Ipv4)]
    pub public_ip: Ipv4Addr,
    /// First port of its block.
    pub first_port: u16,
    /// Last port of its block.
    pub last_port: u16,
}

/// Sessions behind NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CgnatList {
    /// In order of their ids.
    pub sessions: Vec<CgnatSession>,
    /// How many are on this page.
    pub count: usize,
    /// Pass it as `after` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub next: Option<SessionId>,
}

/// How many sessions are behind NAT, and how full it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CgnatStats {
    /// Sessions behind NAT.
    pub cgnat: u64,
    /// Sessions with a public address.
    pub public: u64,
    /// Pools with NAT.
    pub pools: Vec<CgnatPool>,
    /// How many.
    pub count: usize,
}

/// A pool behind NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CgnatPool {
    /// Its name.
    pub name: String,
    /// First and last public address.
    #[schema(example = "203.0.113.0-203.0.113.63")]
    pub public: String,
    /// Ports of one block.
    pub ports_per_block: u16,
    /// Port blocks in all.
    pub blocks: u64,
    /// Port blocks in use, by all pools with these public addresses.
    pub used: u64,
}

/// Body of `POST /api/v1/subscribers/disconnect-by-interface`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DisconnectByInterface {
    /// A port, or a port with tags, as in `interface` of a session: all sessions there, and those with further tags.
    #[schema(example = "port1.200")]
    pub interface: String,
}

/// Answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DisconnectedMany {
    /// What was asked for.
    pub interface: String,
    /// The sessions that were ended.
    #[schema(value_type = Vec<u64>)]
    pub ids: Vec<SessionId>,
    /// How many.
    pub count: usize,
}

/// How the node that answers is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SystemHealth {
    /// `ok`, `degraded` or `uninitialised`.
    pub status: super::HealthStatus,
    /// The node.
    pub node: String,
    /// The leader, if one is known.
    pub leader: Option<String>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Sessions of the cluster.
    pub sessions: u64,
    /// Last applied revision.
    pub revision: u64,
    /// Everything up to here is in the kernel; absent on a witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmed: Option<u64>,
    /// Why this node would own no group now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// Groups that this node serves.
    pub serving: Vec<String>,
}
