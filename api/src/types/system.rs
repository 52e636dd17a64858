use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a node feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Everything works.
    Ok,
    /// The node answers, but something is missing: a quorum, a leader, a port.
    Degraded,
    /// The node belongs to no cluster yet.
    Uninitialised,
}

/// Whether this node can do its work; open to everybody, so without names of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// How the node feels.
    pub status: HealthStatus,
    /// Its name.
    pub node: String,
    /// Whether it belongs to a cluster.
    pub initialised: bool,
    /// Whether it knows a leader of the cluster.
    pub has_leader: bool,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Sessions in the replicated state.
    pub sessions: u64,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Always `tandem`.
    pub product: String,
    /// Version of the daemon.
    pub version: String,
    /// Version of the API.
    #[schema(example = "v1")]
    pub api: String,
    /// The node that answered.
    pub node: String,
    /// Version of the running kernel.
    pub kernel: String,
}
