use crate::{
    Epoch, GroupId, Ipv4Range, MacAddr, NodeId, PortId, Revision, Secret, SessionId, StaticSession,
    UnixMs, Vlans,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// What a node does besides voting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Has access and core interfaces; may own groups.
    Data,
    /// Votes only: no data plane, never an owner.
    Witness,
}

/// A member of the cluster, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Raft id, never reused.
    pub id: NodeId,
    /// The name the operator gave.
    pub name: String,
    /// What the node does besides voting.
    pub role: NodeRole,
    /// Where its Raft transport listens.
    pub raft_addr: SocketAddr,
    /// Where its quorum lease datagrams arrive.
    pub lease_addr: SocketAddr,
    /// Where its REST API answers.
    pub api_addr: SocketAddr,
}

/// Bits per second in each direction; 0 means unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Towards the subscriber.
    pub down_bps: u64,
    /// From the subscriber.
    pub up_bps: u64,
}

/// A protocol that a group serves on its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupService {
    /// PPPoE access concentrator.
    Pppoe,
    /// IPoE with a DHCPv4 server.
    Dhcp,
}

impl GroupService {
    /// The stable name, as in requests and configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pppoe => "pppoe",
            Self::Dhcp => "dhcp",
        }
    }
}

/// A redundancy group: what fails over as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// The name used in configuration, API and CLI.
    pub name: String,
    /// Virtual router id: gives the virtual MAC `00:00:5e:00:01:VRID` on access and core.
    pub vrid: u8,
    /// The address on the core network that moves with the group, next hop of the pools.
    pub core_address: Ipv4Addr,
    /// Network prefix length of `core_address`.
    pub core_prefix_len: u8,
    /// Nodes that should own the group, best first; empty leaves the choice to the leader.
    pub preferred: Vec<NodeId>,
    /// AC-Name in PADO and PADS.
    pub ac_name: String,
    /// What the group serves.
    pub services: Vec<GroupService>,
    /// The node allowed to act, if one was ever chosen.
    pub owner: Option<NodeId>,
    /// Counts ownerships; only grows.
    pub epoch: Epoch,
    /// Revision of the last change of any session or setting of this group.
    pub revision: Revision,
}

impl Group {
    /// The group's virtual MAC, on access and core alike.
    #[must_use]
    pub fn virtual_mac(&self) -> MacAddr {
        MacAddr::virtual_router(self.vrid)
    }
}

/// Port-block NAT for a pool of private addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatPool {
    /// Public addresses.
    pub public: Ipv4Range,
    /// Ports of one block; a block starts at a multiple of it, at 1024 at least.
    pub ports_per_block: u16,
}

/// Addresses for the subscribers of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The group that hands it out.
    pub group: GroupId,
    /// Which protocol draws from it.
    pub service: GroupService,
    /// Addresses for subscribers; the gateway is never one of them.
    pub range: Ipv4Range,
    /// Prefix length of the network, for the DHCP subnet mask.
    pub prefix_len: u8,
    /// The gateway: PPP peer address, DHCP router and server identifier.
    pub gateway: Ipv4Addr,
    /// DNS servers, at most two are told to PPP clients.
    pub dns: Vec<Ipv4Addr>,
    /// DHCP lease time in seconds.
    pub lease_s: u32,
    /// Present when the addresses are private and must be translated.
    pub nat: Option<NatPool>,
    /// Rate of sessions whose user has none.
    pub rate: Rate,
}

/// A user that may dial in, checked without RADIUS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    /// PPP user name.
    pub username: String,
    /// Kept readable because CHAP needs it (RFC 1994 §2.2).
    pub password: Secret,
    /// Overrides the pool's rate.
    pub rate: Option<Rate>,
    /// A fixed address.
    pub address: Option<Ipv4Addr>,
    /// A pool other than the group's first.
    pub pool: Option<String>,
}

/// The name of a role of the API: what its users may do.
///
/// Four names are built in; others are documents of the collection `role`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiRole(String);

impl ApiRole {
    /// Everything.
    pub const ADMIN: &str = "admin";
    /// Reads everything and changes nothing.
    pub const OPERATOR: &str = "operator";
    /// Reads what is not about users, settings and the configuration.
    pub const VIEWER: &str = "viewer";
    /// Reads and changes what serves subscribers.
    pub const ENGINEER: &str = "engineer";

    /// The role of that name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The role that may do everything; somebody always has it.
    #[must_use]
    pub fn admin() -> Self {
        Self::new(Self::ADMIN)
    }

    /// The role that reads only.
    #[must_use]
    pub fn operator() -> Self {
        Self::new(Self::OPERATOR)
    }

    /// Whether this is the role that may do everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.0 == Self::ADMIN
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The second factor of an API user: time-based one-time passwords (RFC 6238).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// The shared key, in base32.
    pub secret: Secret,
    /// Asked for at login; false until the user has shown a first code.
    pub active: bool,
    /// The newest time step of which a code was accepted: none is accepted twice (RFC 6238 §5.2).
    pub last_step: u64,
    /// Digests of the recovery codes that are left, in hexadecimal.
    pub recovery: Vec<Secret>,
}

/// A person or program that may log in to the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiUser {
    /// Login name.
    pub username: String,
    /// argon2id (`$argon2id$`) or bcrypt (`$2b$`) hash.
    pub password_hash: Secret,
    /// What it may do.
    pub role: ApiRole,
    /// A disabled user cannot log in, and its tokens and keys are worth nothing.
    pub enabled: bool,
    /// Grows when the password or the second factor changes: tokens of an earlier generation are
    /// worth nothing.
    pub generation: u64,
    /// The second factor.
    pub totp: Option<Totp>,
    /// When it was added; 0 when that is not known.
    pub created_at: UnixMs,
    /// Revision of its last conditional change; 0 before the first.
    pub modified: Revision,
}

impl ApiUser {
    /// A user that may log in at once, with a password only.
    #[must_use]
    pub fn new(username: impl Into<String>, password_hash: Secret, role: ApiRole) -> Self {
        Self {
            username: username.into(),
            password_hash,
            role,
            enabled: true,
            generation: 0,
            totp: None,
            created_at: UnixMs(0),
            modified: Revision(0),
        }
    }

    /// Whether a login asks for a code.
    #[must_use]
    pub fn has_totp(&self) -> bool {
        self.totp.as_ref().is_some_and(|totp| totp.active)
    }
}

/// Where a subscriber is attached: identifies it on the access network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// Access port.
    pub port: PortId,
    /// VLAN tags of its frames.
    pub vlans: Vlans,
    /// Source MAC of its frames.
    pub mac: MacAddr,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port{}.{}/{}", self.port.0, self.vlans, self.mac)
    }
}

/// What a PPPoE session must remember to go on at another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PppoeSession {
    /// PPPoE SESSION_ID, unique in the group.
    pub sid: u16,
    /// Our magic number, in LCP echoes (RFC 1661 §6.4).
    pub local_magic: u32,
    /// The peer's magic number, 0 when it negotiated none.
    pub peer_magic: u32,
    /// What the peer can receive, in octets: the smaller of its MRU and what we may send.
    pub mtu: u16,
    /// The MRU that we negotiated, in octets.
    pub mru: u16,
}

/// What a DHCP lease must remember.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpSession {
    /// Client identifier (option 61), empty when the hardware address identifies the client.
    pub client_id: Vec<u8>,
    /// Host name (option 12).
    pub hostname: String,
    /// Relay agent information (option 82), as received.
    pub relay_info: Vec<u8>,
    /// When the lease ends.
    pub expires_at: UnixMs,
}

/// The protocol part of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SessionKind {
    /// Dialled in by PPPoE.
    Pppoe(PppoeSession),
    /// IPoE with a DHCP lease.
    Dhcp(DhcpSession),
    /// IPoE with an address that an operator fixed.
    Static(StaticSession),
}

impl SessionKind {
    /// The service whose pools the address comes from: a static subscriber lives in an IPoE network.
    #[must_use]
    pub fn service(&self) -> GroupService {
        match self {
            Self::Pppoe(_) => GroupService::Pppoe,
            Self::Dhcp(_) | Self::Static(_) => GroupService::Dhcp,
        }
    }
}

/// The public address and ports that stand for one private address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NatBlock {
    /// Public address.
    pub public: Ipv4Addr,
    /// First port.
    pub first_port: u16,
    /// Last port.
    pub last_port: u16,
}

/// A subscriber's attachment with its address: what the cluster never forgets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Unique in the cluster.
    pub id: SessionId,
    /// The group that serves it.
    pub group: GroupId,
    /// Where it is attached; of a static subscriber, where it was last heard, if it was.
    pub attachment: Attachment,
    /// Protocol part.
    pub kind: SessionKind,
    /// PPP user, the MAC address for DHCP, the IP address of a static subscriber.
    pub username: String,
    /// The subscriber's address.
    pub address: Ipv4Addr,
    /// The pool it came from.
    pub pool: String,
    /// Shaping, both directions.
    pub rate: Rate,
    /// Port block, for pools with NAT.
    pub nat: Option<NatBlock>,
    /// When it came up.
    pub started_at: UnixMs,
    /// Revision that made it.
    pub created: Revision,
    /// Revision that last changed it.
    pub modified: Revision,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DownReason {
    /// The subscriber hung up (LCP Terminate-Request, PADT, DHCPRELEASE).
    UserRequest,
    /// LCP echoes unanswered.
    LostCarrier,
    /// The lease ran out.
    Expired,
    /// An operator ended it.
    AdminReset,
    /// The client declined the address (DHCPDECLINE).
    Declined,
    /// The same client came again and the old session gave way.
    Replaced,
    /// PPP negotiation failed after authentication.
    NegotiationFailed,
}

impl DownReason {
    /// The stable name, as in events and counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::UserRequest => "user_request",
            Self::LostCarrier => "lost_carrier",
            Self::Expired => "expired",
            Self::AdminReset => "admin_reset",
            Self::Declined => "declined",
            Self::Replaced => "replaced",
            Self::NegotiationFailed => "negotiation_failed",
        }
    }
}

/// A group's gate on one node, as status displays show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// This node forwards and answers for the group.
    Open,
    /// This node is silent for the group.
    Shut,
}
