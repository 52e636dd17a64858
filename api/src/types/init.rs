mod plan;

pub(in crate::types) use plan::{ERRORS_MAX, plan_network};
pub use plan::{GroupPlan, InitPlan};

use model::Secret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Everything a new cluster starts with.
///
/// Addresses, ranges and services are plain text here, so that [`InitRequest::plan`] can report
/// everything that is wrong at once instead of stopping at the first. `bngctl cluster init` reads
/// the same shape from TOML.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// A name for people.
    #[schema(example = "south")]
    pub cluster_name: String,
    /// The first API user; gets the role `admin`.
    pub admin: AdminInit,
    /// Redundancy groups, at least one.
    pub groups: Vec<GroupInit>,
    /// Address pools.
    #[serde(default)]
    pub pools: Vec<PoolInit>,
    /// Users that are checked without RADIUS.
    #[serde(default)]
    pub subscribers: Vec<SubscriberInit>,
}

/// The first API user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminInit {
    /// Login name.
    pub username: String,
    /// Password, 8 to 128 characters; only its hash is stored.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
}

/// A redundancy group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupInit {
    /// Its name.
    pub name: String,
    /// Virtual router id, 1 to 255, unique.
    pub vrid: u32,
    /// The address on the core network that moves with the group, with its prefix length.
    #[schema(example = "10.0.0.1/24")]
    pub core_address: String,
    /// AC-Name in PADO and PADS.
    pub ac_name: String,
    /// `pppoe`, `dhcp` or both.
    pub services: Vec<String>,
    /// Names of the nodes that should own it, best first.
    #[serde(default)]
    pub preferred: Vec<String>,
}

/// An address pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolInit {
    /// Its name.
    pub name: String,
    /// The group that hands it out.
    pub group: String,
    /// `pppoe` or `dhcp`.
    pub service: String,
    /// First and last address.
    #[schema(example = "100.64.0.2-100.64.255.254")]
    pub range: String,
    /// Prefix length of the network.
    pub prefix_len: u32,
    /// The gateway, outside the range.
    #[schema(example = "100.64.0.1")]
    pub gateway: String,
    /// DNS servers.
    #[serde(default)]
    pub dns: Vec<String>,
    /// DHCP lease time in seconds.
    #[serde(default = "lease_default_s")]
    pub lease_s: u32,
    /// Translation, for private addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatInit>,
    /// Rate of sessions whose user has none; unlimited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateInit>,
}

fn lease_default_s() -> u32 {
    3600
}

/// Port-block NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NatInit {
    /// Public addresses.
    #[schema(example = "203.0.113.0-203.0.113.63")]
    pub public: String,
    /// Ports of one block, 16 to 32768.
    pub ports_per_block: u32,
}

/// Bits per second in each direction, 0 for unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateInit {
    /// Towards the subscriber.
    pub down_bps: u64,
    /// From the subscriber.
    pub up_bps: u64,
}

/// A user that may dial in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriberInit {
    /// PPP user name.
    pub username: String,
    /// Kept readable because CHAP needs it (RFC 1994 §2.2).
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
    /// Overrides the pool's rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateInit>,
    /// A fixed address, inside a pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A pool other than the group's first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}
