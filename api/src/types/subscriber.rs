use super::{FieldError, RATE_BPS_MAX};
use crate::error::ApiError;
use model::{GroupService, MacAddr, Revision, SessionId, SessionKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use utoipa::{IntoParams, ToSchema};

/// The kind of a session, spelled as in the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum SessionType {
    /// Dialled in by PPPoE.
    #[serde(rename = "PPPoE")]
    Pppoe,
    /// IPoE with a DHCP lease.
    #[serde(rename = "DHCP")]
    Dhcp,
    /// IPoE with an address that an operator fixed.
    Static,
}

impl From<&SessionKind> for SessionType {
    fn from(kind: &SessionKind) -> Self {
        match kind {
            SessionKind::Pppoe(_) => Self::Pppoe,
            SessionKind::Dhcp(_) => Self::Dhcp,
            SessionKind::Static(_) => Self::Static,
        }
    }
}

impl From<GroupService> for SessionType {
    fn from(service: GroupService) -> Self {
        match service {
            GroupService::Pppoe => Self::Pppoe,
            GroupService::Dhcp => Self::Dhcp,
        }
    }
}

impl fmt::Display for SessionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pppoe => "PPPoE",
            Self::Dhcp => "DHCP",
            Self::Static => "Static",
        })
    }
}

/// Which sessions to list: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SubscriberQuery {
    /// Only sessions of this kind: `pppoe` or `dhcp`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "pppoe")]
    pub service: Option<GroupService>,
    /// At most so many sessions, 1 to 1000; 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Only sessions with a larger id: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u64>)]
    pub after: Option<SessionId>,
    /// Only sessions of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Only the session with this address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "100.64.0.2")]
    pub ip: Option<Ipv4Addr>,
    /// Only sessions of this Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "02:00:00:00:00:01")]
    pub mac: Option<MacAddr>,
}

impl SubscriberQuery {
    /// The limit when the caller names none.
    pub const LIMIT_DEFAULT: u32 = 100;
    /// The largest page.
    pub const LIMIT_MAX: u32 = 1000;

    /// How many sessions the caller wants at most.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(Self::LIMIT_DEFAULT).clamp(1, Self::LIMIT_MAX)
    }
}

/// One session in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberSummary {
    /// Unique in the cluster.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// `PPPoE`, `DHCP` or `Static`.
    #[serde(rename = "type")]
    pub session_type: SessionType,
    /// PPP user, the MAC address for DHCP, the IP address of a static subscriber.
    pub username: String,
    /// The subscriber's address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
    /// The subscriber's Ethernet address; all zeros for a static subscriber that is `unseen`.
    #[schema(value_type = String)]
    pub mac_address: MacAddr,
    /// Access port and VLAN tags.
    #[schema(example = "port1.200.20")]
    pub interface: String,
    /// The redundancy group that serves it.
    pub group: String,
    /// Rate towards the subscriber in bits per second, 0 for unlimited.
    pub rate_down: u64,
    /// Rate from the subscriber in bits per second, 0 for unlimited.
    pub rate_up: u64,
    /// `active` while the group forwards for it; a static subscriber may be `disallowed`, or `unseen` until
    /// it was heard.
    #[schema(example = "active")]
    pub state: String,
    /// When it came up, in seconds since 1970.
    pub started_at: u64,
}

/// A page of sessions in order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberList {
    /// The sessions.
    pub sessions: Vec<SubscriberSummary>,
    /// How many stand in this page.
    pub count: usize,
    /// The `after` of the next page; absent when this page was not full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub next: Option<SessionId>,
}

/// How many sessions there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberTotals {
    /// All of them.
    pub total: u64,
    /// Dialled in by PPPoE.
    pub pppoe: u64,
    /// IPoE with a DHCP lease.
    pub dhcp: u64,
    /// IPoE with an address that an operator fixed.
    #[serde(rename = "static", default)]
    pub statics: u64,
}

/// The public address and ports of a translated session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NatBlockInfo {
    /// Public address.
    #[schema(value_type = String, format = Ipv4)]
    pub public: Ipv4Addr,
    /// First port of the block.
    pub first_port: u16,
    /// Last port of the block.
    pub last_port: u16,
}

/// Everything about one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberDetail {
    /// Unique in the cluster.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// `PPPoE`, `DHCP` or `Static`.
    pub session_type: SessionType,
    /// `active` while the group forwards for it; a static subscriber may be `disallowed`, or `unseen` until
    /// it was heard.
    pub state: String,
    /// PPP user, the MAC address for DHCP, the IP address of a static subscriber.
    pub username: String,
    /// The subscriber's Ethernet address; all zeros for a static subscriber that is `unseen`.
    #[schema(value_type = String)]
    pub mac_address: MacAddr,
    /// The subscriber's address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
    /// Its gateway.
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub gateway: Option<Ipv4Addr>,
    /// Access port and VLAN tags.
    #[schema(example = "port1.200.20")]
    pub access_interface: String,
    /// Always null: sessions have no network device of their own.
    pub ppp_interface: Option<String>,
    /// Rate towards the subscriber, 0 for unlimited.
    pub rate_down_bps: u64,
    /// Rate from the subscriber, 0 for unlimited.
    pub rate_up_bps: u64,
    /// Shaper overhead profile, when one applies.
    pub overhead_profile: Option<String>,
    /// Always false: translation happens on the node itself.
    pub vrf_steered: bool,
    /// Accounting id, the same on every node for the life of the session.
    #[schema(example = "tandem-1700000000-42")]
    pub acct_session_id: String,
    /// When it came up, in seconds since 1970.
    pub started_at: u64,
    /// Octets from the subscriber.
    pub bytes_in: u64,
    /// Octets towards the subscriber.
    pub bytes_out: u64,
    /// Packets from the subscriber.
    pub packets_in: u64,
    /// Packets towards the subscriber.
    pub packets_out: u64,
    /// The redundancy group that serves it.
    pub group: String,
    /// The node that owns the group.
    pub node: Option<String>,
    /// The pool its address came from.
    pub pool: String,
    /// Outer VLAN id, 0 when untagged.
    pub vlan_outer: u16,
    /// Inner VLAN id, 0 when not double-tagged.
    pub vlan_inner: u16,
    /// PPPoE session id.
    pub pppoe_session_id: Option<u16>,
    /// When the DHCP lease ends, in seconds since 1970.
    pub lease_expires_at: Option<u64>,
    /// Host name told by the DHCP client.
    pub hostname: Option<String>,
    /// Port block, for pools with NAT.
    pub nat: Option<NatBlockInfo>,
    /// Revision that made the session.
    #[schema(value_type = u64)]
    pub created_revision: Revision,
    /// Revision that last changed it.
    #[schema(value_type = u64)]
    pub modified_revision: Revision,
}

/// A session that was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disconnected {
    /// Which one.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// The reason recorded for it.
    #[schema(example = "admin_reset")]
    pub reason: String,
}

/// New rates for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateRequest {
    /// Towards the subscriber in bits per second, 0 for unlimited.
    #[schema(example = 100_000_000)]
    pub rate_down: u64,
    /// From the subscriber in bits per second, 0 for unlimited.
    #[schema(example = 20_000_000)]
    pub rate_up: u64,
}

impl RateRequest {
    /// Refuses rates that are a slip of the pen.
    pub(crate) fn check(self) -> Result<(), ApiError> {
        let errors: Vec<_> = [("rate_down", self.rate_down), ("rate_up", self.rate_up)]
            .into_iter()
            .filter(|(_, bps)| *bps > RATE_BPS_MAX)
            .map(|(field, bps)| {
                FieldError::new(field, format!("{bps} is more than {RATE_BPS_MAX} bits per second"))
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid { errors }) }
    }
}

/// The rates now in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RateChanged {
    /// Which session.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// Towards the subscriber in bits per second, 0 for unlimited.
    pub rate_down: u64,
    /// From the subscriber in bits per second, 0 for unlimited.
    pub rate_up: u64,
}
