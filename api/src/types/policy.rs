//! Static subscribers, bans, and sources that wait to be let in.

use model::{BanScope, Ipv4Net, MacAddr, SessionId};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use utoipa::ToSchema;

/// An IPoE subscriber whose address an operator fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaticSubscriber {
    /// Its address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
    /// The id of its session.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// The redundancy group that serves it.
    pub group: String,
    /// Whether its packets pass; else they are dropped both ways.
    pub allowed: bool,
    /// The only MAC address that may use the address, if one is bound to it.
    #[schema(value_type = Option<String>)]
    pub bound_mac: Option<MacAddr>,
    /// The MAC address it was heard from last, or is bound to; absent while neither is known.
    #[schema(value_type = Option<String>)]
    pub mac_address: Option<MacAddr>,
    /// Access port and VLAN tags on which it was heard last.
    #[schema(example = "port1.200")]
    pub interface: Option<String>,
    /// Rate towards the subscriber in bits per second, 0 for unlimited.
    pub rate_down: u64,
    /// Rate from the subscriber in bits per second, 0 for unlimited.
    pub rate_up: u64,
    /// Packets from the subscriber, as the node that answers knows them.
    pub packets_in: u64,
    /// `active`, `disallowed`, or `unseen` until it was heard.
    #[schema(example = "active")]
    pub state: String,
}

/// Static subscribers in order of their addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StaticSubscriberList {
    /// All of them.
    pub subscribers: Vec<StaticSubscriber>,
    /// How many.
    pub count: usize,
}

/// Whether the packets of a subscriber pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedRequest {
    /// `true` also makes an unknown address a static subscriber.
    pub allowed: bool,
}

/// The MAC address that an address is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BindRequest {
    /// Six octets.
    #[schema(value_type = String, example = "02:00:00:00:00:01")]
    pub mac: MacAddr,
}

/// A static subscriber that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedStatic {
    /// Its address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
}

/// A network whose packets are dropped, as source and as destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanInfo {
    /// The network; a single address is one of 32 bits.
    #[schema(value_type = String, example = "198.51.100.0/24")]
    pub network: Ipv4Net,
    /// `all` of its packets, or only `icmp`.
    #[schema(value_type = String, example = "all")]
    pub scope: BanScope,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// Bans in order of their networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanList {
    /// All of them.
    pub bans: Vec<BanInfo>,
    /// How many.
    pub count: usize,
}

/// A ban that was put on or lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BanChanged {
    /// The network.
    #[schema(value_type = String, example = "198.51.100.0/24")]
    pub network: Ipv4Net,
    /// `all` of its packets, or only `icmp`.
    #[schema(value_type = String, example = "all")]
    pub scope: BanScope,
    /// Whether the ban is in force now.
    pub banned: bool,
}

/// A source in an IPoE network that belongs to no session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingSource {
    /// Its source address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
    /// Its Ethernet address.
    #[schema(value_type = String)]
    pub mac_address: MacAddr,
    /// Access port and VLAN tags on which it was heard last.
    pub interface: String,
    /// The redundancy group whose owner heard it.
    pub group: String,
    /// When it was heard first, in seconds since 1970.
    pub first_seen: u64,
    /// When it was heard last, in seconds since 1970.
    pub last_seen: u64,
}

/// Sources that wait, by group and address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WaitingList {
    /// All of them.
    pub sources: Vec<WaitingSource>,
    /// How many.
    pub count: usize,
}
