use model::{ClusterId, Epoch, Fence, GroupId, MacAddr, NodeId, NodeRole, Revision, Secret};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use utoipa::ToSchema;

/// The new cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InitResponse {
    /// Names the cluster; issuer of its tokens.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// The id of this first node.
    #[schema(value_type = u64)]
    pub node_id: NodeId,
    /// Certificate of the cluster's own authority, for clients to pin.
    pub ca_pem: String,
    /// SHA-256 of that certificate in hexadecimal.
    pub ca_fingerprint: String,
}

/// Asks for a token that lets one node join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Seconds for which the token may be used, 60 to 86400; 3600 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 86_400)]
    pub ttl_s: Option<u32>,
    /// The only name that may use it; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the joining node will be, `data` or `witness`; a data node when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "data")]
    pub role: Option<NodeRole>,
}

impl JoinTokenRequest {
    /// What the joining node will be: a data node unless the request says otherwise.
    #[must_use]
    pub fn role(&self) -> NodeRole {
        self.role.unwrap_or(NodeRole::Data)
    }

    /// The lifetime when the caller names none.
    pub const TTL_DEFAULT_S: u32 = 3600;
    /// The shortest lifetime.
    pub const TTL_MIN_S: u32 = 60;
    /// The longest lifetime.
    pub const TTL_MAX_S: u32 = 86_400;

    /// How long the token shall live.
    #[must_use]
    pub fn ttl_s(&self) -> u32 {
        self.ttl_s.unwrap_or(Self::TTL_DEFAULT_S)
    }
}

/// A token that lets one node join, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Give it to `bngctl cluster join` on the new node; see [`crate::JoinTicket`].
    #[schema(value_type = String)]
    pub token: Secret,
    /// When it expires, in seconds since 1970.
    pub expires_at: u64,
}

/// Tells an uninitialised node to join a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A token made on a member.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// What became of a join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinResponse {
    /// The cluster that was joined.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// The id that this node got.
    #[schema(value_type = u64)]
    pub node_id: NodeId,
}

/// A new node asks a member to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// The secret part of the join token.
    #[schema(value_type = String)]
    pub token: Secret,
    /// The name that the node wants.
    pub name: String,
    /// What the node does besides voting: `data` or `witness`.
    #[schema(value_type = String, example = "data")]
    pub role: NodeRole,
    /// Certificate signing request for the node's key.
    pub csr_pem: String,
    /// Where its Raft transport listens.
    #[schema(value_type = String, example = "192.0.2.2:8444")]
    pub raft_addr: SocketAddr,
    /// Where its quorum lease datagrams arrive.
    #[schema(value_type = String, example = "192.0.2.2:8445")]
    pub lease_addr: SocketAddr,
    /// Where its API answers.
    #[schema(value_type = String, example = "192.0.2.2:8443")]
    pub api_addr: SocketAddr,
}

/// A node was let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdmitResponse {
    /// Its id, never reused.
    #[schema(value_type = u64)]
    pub node_id: NodeId,
    /// The cluster it now belongs to.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// Certificate of the cluster's own authority.
    pub ca_pem: String,
    /// The node's certificate, signed by it.
    pub cert_pem: String,
    /// All other members.
    pub peers: Vec<Member>,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Raft id.
    #[schema(value_type = u64)]
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `data` or `witness`.
    #[schema(value_type = String, example = "data")]
    pub role: NodeRole,
    /// Where its Raft transport listens.
    #[schema(value_type = String)]
    pub raft_addr: SocketAddr,
    /// Where its quorum lease datagrams arrive.
    #[schema(value_type = String)]
    pub lease_addr: SocketAddr,
    /// Where its API answers.
    #[schema(value_type = String)]
    pub api_addr: SocketAddr,
    /// Whether it votes; a learner only copies the log.
    pub voter: bool,
}

impl Member {
    /// The description of a node of the log.
    #[must_use]
    pub fn from_node(node: &model::Node, voter: bool) -> Self {
        Self {
            id: node.id,
            name: node.name.clone(),
            role: node.role,
            raft_addr: node.raft_addr,
            lease_addr: node.lease_addr,
            api_addr: node.api_addr,
            voter,
        }
    }
}

/// All members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberList {
    /// In order of their ids.
    pub members: Vec<Member>,
    /// How many.
    pub count: usize,
}

/// A node that is no member any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedMember {
    /// Its id.
    #[schema(value_type = u64)]
    pub id: NodeId,
    /// Its name.
    pub name: String,
}

/// What a node is in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RaftState {
    /// Leads, with a quorum behind it.
    Leader,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Copies the log without a vote.
    Learner,
    /// Not reached by the node that answers.
    Unknown,
}

impl fmt::Display for RaftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Unknown => "unknown",
        })
    }
}

/// The cluster as the answering node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// Names the cluster.
    #[schema(value_type = String)]
    pub cluster_id: ClusterId,
    /// Name of the leader, when there is one.
    pub leader: Option<String>,
    /// Raft term.
    pub term: u64,
    /// The newest revision applied on the answering node.
    #[schema(value_type = u64)]
    pub revision: Revision,
    /// All members.
    pub nodes: Vec<NodeStatus>,
    /// All redundancy groups.
    pub groups: Vec<GroupStatus>,
}

/// One member in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Raft id.
    #[schema(value_type = u64)]
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// `data` or `witness`.
    #[schema(value_type = String, example = "data")]
    pub role: NodeRole,
    /// Where its API answers.
    #[schema(value_type = String)]
    pub api_addr: SocketAddr,
    /// What it is in Raft.
    pub raft_state: RaftState,
    /// Whether it votes.
    pub voter: bool,
    /// Whether the answering node hears from it.
    pub reachable: bool,
    /// The newest log index that it applied, when known.
    pub applied: Option<u64>,
    /// How many entries it is behind the leader, when known.
    pub lag: Option<u64>,
}

/// How many sessions a group serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionCounts {
    /// Dialled in by PPPoE.
    pub pppoe: u64,
    /// IPoE with a DHCP lease.
    pub dhcp: u64,
    /// IPoE with an address that an operator fixed.
    #[serde(rename = "static", default)]
    pub statics: u64,
}

/// One redundancy group in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupStatus {
    /// Its number.
    #[schema(value_type = u32)]
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Virtual router id.
    pub vrid: u8,
    /// The MAC address that moves with the group.
    #[schema(value_type = String, example = "00:00:5e:00:01:33")]
    pub virtual_mac: MacAddr,
    /// Name of the owner, when it ever had one.
    pub owner: Option<String>,
    /// Counts its ownerships.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The owner's fence, as far as the answering node knows.
    #[schema(value_type = Option<String>, example = "open")]
    pub fence: Option<Fence>,
    /// Revision of the last change of the group or one of its sessions.
    #[schema(value_type = u64)]
    pub revision: Revision,
    /// Its sessions.
    pub sessions: SessionCounts,
    /// The data nodes that may own it.
    pub nodes: Vec<GroupNodeStatus>,
}

/// How ready one data node is to own a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupNodeStatus {
    /// The node.
    pub name: String,
    /// The revision that its kernel is programmed to, when known.
    #[schema(value_type = Option<u64>)]
    pub programmed_revision: Option<Revision>,
    /// Whether it could take over now.
    pub eligible: bool,
    /// Its fence, when known.
    #[schema(value_type = Option<String>, example = "shut")]
    pub fence: Option<Fence>,
}

/// All redundancy groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupList {
    /// In order of their ids.
    pub groups: Vec<GroupStatus>,
    /// How many.
    pub count: usize,
}

/// Asks for a planned change of owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FailoverRequest {
    /// Name of the node that shall own the group; the best eligible one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A change of owner that is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailoverResponse {
    /// The group.
    pub group: String,
    /// The owner before.
    pub from: Option<String>,
    /// The owner now.
    pub to: String,
    /// The epoch of the new ownership.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// Milliseconds from the request to the commit.
    pub took_ms: u64,
}
