//! The configuration of the whole cluster: one tree, a running and a candidate copy.

mod change;
mod check;
mod path;

pub use change::{
    ArchiveEntry, ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigChange,
    ConfigView, ConfirmPending, DeleteRequest, DiscardResponse, EditResponse, HistoryQuery,
    RollbackRequest, SetRequest,
};

pub use check::rate_text;
pub use path::{PathError, keys, path, text};

use crate::types::FieldError;
use model::Secret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Everything that operators configure, the same on all nodes.
///
/// What belongs to one machine (interfaces, addresses, timers) stands in its own file. Unknown keys
/// are refused; an absent key has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// Words about the system.
    #[serde(skip_serializing_if = "is_default")]
    pub system: SystemConfig,
    /// Redundancy groups by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupConfig>,
    /// Address pools by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, PoolConfig>,
    /// PPPoE and PPP.
    #[serde(skip_serializing_if = "is_default")]
    pub pppoe: PppoeConfig,
    /// Credentials of the dialects that have their own.
    #[serde(skip_serializing_if = "is_default")]
    pub api: ApiConfig,
    /// How webhooks are delivered.
    #[serde(skip_serializing_if = "is_default")]
    pub webhooks: WebhooksConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Words about the system, for people and displays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SystemConfig {
    /// Name of the site or service.
    #[schema(max_length = 63)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it stands.
    #[schema(max_length = 255)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// Whom to call.
    #[schema(max_length = 255)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub contact: String,
    /// Shown before a login.
    #[schema(max_length = 4096)]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub banner: String,
}

/// A redundancy group. Its number is given by the cluster and does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Virtual router id, unique.
    #[schema(minimum = 1, maximum = 255)]
    pub vrid: u8,
    /// The address on the core network that moves with the group, with its prefix length.
    #[schema(example = "10.0.0.1/24")]
    pub core_address: String,
    /// AC-Name in PADO and PADS.
    #[schema(min_length = 1, max_length = 64)]
    pub ac_name: String,
    /// What the group serves: `pppoe`, `dhcp` or both.
    #[schema(min_items = 1, max_items = 2)]
    pub services: Vec<ServiceName>,
    /// Names of the nodes that should own it, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub preferred: Vec<String>,
}

/// A protocol that a group serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceName {
    /// PPPoE.
    Pppoe,
    /// IPoE with DHCPv4.
    Dhcp,
}

/// An address pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// The group that hands it out.
    pub group: String,
    /// The protocol that draws from it.
    pub service: ServiceName,
    /// First and last address.
    #[schema(example = "100.64.0.2-100.64.255.254")]
    pub range: String,
    /// Prefix length of the network.
    #[schema(minimum = 1, maximum = 32)]
    pub prefix_len: u8,
    /// The gateway, outside the range.
    #[schema(value_type = String, example = "100.64.0.1")]
    pub gateway: String,
    /// DNS servers; PPP clients are told two.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4)]
    pub dns: Vec<String>,
    /// DHCP lease time in seconds.
    #[serde(default = "lease_default_s")]
    #[schema(minimum = 10, maximum = 2_592_000)]
    pub lease_s: u32,
    /// Translation, for private addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatConfig>,
    /// Rate towards the subscriber of sessions whose user has none, such as `100mbit`; 0 or absent
    /// is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "100mbit")]
    pub rate_down: Option<String>,
    /// Rate from the subscriber.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "20mbit")]
    pub rate_up: Option<String>,
}

fn lease_default_s() -> u32 {
    3600
}

/// Port-block NAT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NatConfig {
    /// Public addresses.
    #[schema(example = "203.0.113.0-203.0.113.63")]
    pub public: String,
    /// Ports of one block.
    #[schema(minimum = 16, maximum = 32_768)]
    pub ports_per_block: u16,
}

/// PPPoE and PPP, for all groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PppoeConfig {
    /// Seconds between LCP echoes to a silent peer; 0 sends none.
    #[schema(maximum = 3600)]
    pub lcp_echo_interval: u32,
    /// Unanswered echoes after which the session ends.
    #[schema(minimum = 1, maximum = 100)]
    pub lcp_echo_failure: u8,
}

impl Default for PppoeConfig {
    fn default() -> Self {
        Self { lcp_echo_interval: 30, lcp_echo_failure: 3 }
    }
}

/// How webhooks are delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Tries until a delivery is given up. The pauses between them are 1, 2, 4 … 60 seconds.
    #[schema(minimum = 1, maximum = 100)]
    pub attempts: u32,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self { attempts: 10 }
    }
}

/// Credentials of the dialects that do not know users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiConfig {
    /// The dialect of PureNAS under `/api/{subscriber,ban,unban,system}`.
    #[serde(skip_serializing_if = "is_default")]
    pub purenas: PurenasConfig,
    /// The dialect of django-freeradius under `/api/v1/{authorize,accounting,postauth,batch}`.
    #[serde(skip_serializing_if = "is_default")]
    pub freeradius: FreeradiusConfig,
}

/// The PureNAS dialect. Off until it has a key: unlike its model it never answers without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PurenasConfig {
    /// The value of `?key=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password, min_length = 15, max_length = 255)]
    pub key: Option<Secret>,
    /// Source networks that may ask; empty allows all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub allowed: Vec<String>,
}

/// The FreeRADIUS dialect. Off until it has a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FreeradiusConfig {
    /// The bearer token, or the value of `?token=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password, min_length = 15, max_length = 255)]
    pub token: Option<Secret>,
    /// Answer a refused user with 401 and `Reject` instead of an empty 200.
    pub authorize_reject: bool,
}

impl Configuration {
    /// Reads a tree and checks all of it.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path; at most 100 entries.
    pub fn check(tree: &Value) -> Result<Self, Vec<FieldError>> {
        check::check(tree)
    }

    /// The JSON Schema of the tree (2020-12). A property of the format `password` is a secret.
    #[must_use]
    pub fn schema() -> &'static Value {
        check::schema()
    }
}
