//! What the log holds: commands, their envelope, and the answers of `apply`.
//!
//! The bytes are protobuf with append-only field numbers. A new variant is proposed only once the
//! replicated level says that every member can decode it; a node that cannot decode an entry stops.

mod codec;
mod convert;
mod document;
mod policy;
pub(crate) mod proto;
mod reply;
#[cfg(test)]
mod tests;

use model::{
    ApiUser, Attachment, BanScope, ClusterId, DownReason, Epoch, Group, GroupId, Ipv4Net, Node,
    NodeId, NodeRole, Pool, Rate, Secret, SessionId, Subscriber, UnixMs,
};
use prost::Message as _;
use std::fmt;
use std::net::Ipv4Addr;

pub(crate) use document::collection;
pub use document::{DocKey, DocumentBatch, DocumentOp, Expect};
pub use policy::{PutStatic, StaticEdit};
pub use reply::{OpReply, Refusal, Reply};

/// The replicated level that this build understands; a node stops when the cluster's level passes
/// it.
pub const LEVEL_SUPPORTED: u32 = 3;

/// The level from which on [`Command::Documents`] may be proposed.
pub const LEVEL_DOCUMENTS: u32 = 2;

/// The level from which on [`Command::ChangeApiUser`] may be proposed, and users may have more than
/// a name, a password and one of the roles `admin` and `operator`.
pub const LEVEL_API_USERS: u32 = 3;

/// The level from which on static subscribers and bans may be proposed.
pub const LEVEL_POLICY: u32 = 3;

/// The first contents of a cluster. Refused when there is one already.
#[derive(Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The replicated level to begin with; every founding member must understand it.
    pub level: u32,
    /// The name of the new cluster.
    pub cluster_id: ClusterId,
    /// The first members.
    pub nodes: Vec<Node>,
    /// Redundancy groups; owner, epoch and revision are ignored.
    pub groups: Vec<Group>,
    /// Address pools of those groups.
    pub pools: Vec<Pool>,
    /// Local users.
    pub subscribers: Vec<Subscriber>,
    /// Who may log in to the API.
    pub api_users: Vec<ApiUser>,
    /// Signs API tokens, so that a token from one node is good on all.
    pub jwt_secret: Secret,
    /// Key of the AC-Cookie HMAC, so that a PADR reaches its goal across a takeover.
    pub cookie_key: [u8; 32],
}

impl fmt::Debug for Bootstrap {
    /// Leaves the cookie key out, as [`Secret`] does with its text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bootstrap")
            .field("level", &self.level)
            .field("cluster_id", &self.cluster_id)
            .field("nodes", &self.nodes)
            .field("groups", &self.groups)
            .field("pools", &self.pools)
            .field("subscribers", &self.subscribers)
            .field("api_users", &self.api_users)
            .finish_non_exhaustive()
    }
}

/// One change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes the cluster.
    Bootstrap(Box<Bootstrap>),
    /// Adds or replaces a member's record.
    PutNode(Node),
    /// Forgets a member; refused while it owns a group. Its id is never used again.
    RemoveNode(NodeId),
    /// Adds or changes a group; owner, epoch and revision are ignored.
    PutGroup(Group),
    /// Forgets a group; refused while it has pools.
    RemoveGroup(GroupId),
    /// Adds or changes a pool; refused when a session would fall out of it.
    PutPool(Pool),
    /// Forgets a pool; refused while sessions draw from it.
    RemovePool(String),
    /// Adds or changes a local user; running sessions keep what they have.
    PutSubscriber(Subscriber),
    /// Forgets a local user; running sessions stay.
    RemoveSubscriber(String),
    /// Adds or changes an API user.
    PutApiUser(ApiUser),
    /// Forgets an API user; the last administrator stays.
    RemoveApiUser(String),
    /// Makes `node` the owner of `group`, unless `epoch` is not above the group's.
    Acquire {
        /// The group.
        group: GroupId,
        /// The new owner, a data node.
        node: NodeId,
        /// The new epoch.
        epoch: Epoch,
    },
    /// Session changes of a group's owner.
    Sessions(SessionBatch),
    /// Changes a session's rate, on an operator's word.
    SetRate {
        /// The session.
        session: SessionId,
        /// Its new rate.
        rate: Rate,
    },
    /// Ends a session, on an operator's word. A static subscriber stays, and is looked for anew.
    Disconnect {
        /// The session.
        session: SessionId,
        /// Why, as told to accounting.
        reason: DownReason,
    },
    /// Takes down leases whose time has passed, a bounded number of them per entry.
    Expire,
    /// Lets one node join.
    PutJoinToken {
        /// Digest of the token, which itself is never stored.
        hash: Vec<u8>,
        /// What the joining node will be.
        role: NodeRole,
        /// After this the token is worth nothing.
        expires_at: UnixMs,
    },
    /// Spends a join token. The id in `node` is ignored: the reply carries the new one, the index
    /// of this entry.
    UseJoinToken {
        /// Digest of the token.
        hash: Vec<u8>,
        /// The new member.
        node: Node,
    },
    /// Records that every member understands commands up to `level`. A lower level changes nothing.
    RaiseLevel {
        /// The new level.
        level: u32,
    },
    /// Changes documents, all or nothing.
    Documents(DocumentBatch),
    /// Adds a static subscriber, or changes the one with that address.
    PutStatic(PutStatic),
    /// Forgets a static subscriber.
    RemoveStatic(Ipv4Addr),
    /// Changes one thing of a static subscriber and leaves the rest as others may just have set it.
    EditStatic {
        /// Its address.
        address: Ipv4Addr,
        /// What changes.
        edit: StaticEdit,
    },
    /// Bans a network; a ban that is there already stays as it is. Refused when it would cut off a
    /// member of the cluster.
    PutBan {
        /// The network.
        network: Ipv4Net,
        /// Which of its packets.
        scope: BanScope,
    },
    /// Lifts a ban.
    RemoveBan {
        /// The network, as it was banned.
        network: Ipv4Net,
        /// Which of its packets.
        scope: BanScope,
    },
    /// Adds, changes or removes an API user on a condition; the last administrator that may log in
    /// stays.
    ChangeApiUser {
        /// Login name.
        username: String,
        /// What it is from now on, under the same name; `None` removes it. `apply` sets
        /// [`ApiUser::created_at`] of a new one, and [`ApiUser::modified`].
        user: Option<Box<ApiUser>>,
        /// What must be true of it before; a revision is its [`ApiUser::modified`].
        expect: Expect,
    },
}

/// Session changes of one owner, applied in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBatch {
    /// The group of all of them.
    pub group: GroupId,
    /// The node that proposes; must own the group.
    pub node: NodeId,
    /// The epoch of its ownership.
    pub epoch: Epoch,
    /// The changes, at most [`SessionBatch::OPS_MAX`].
    pub ops: Vec<SessionOp>,
}

impl SessionBatch {
    /// Most operations of one batch; bounds what a session id derives from.
    pub const OPS_MAX: usize = 1024;

    /// The replicated level from which on this batch may stand in the log. Static subscribers exist
    /// only from that level on, so what stands beside a [`SessionOp::StaticSeen`] never waits for it.
    fn level(&self) -> u32 {
        let needs = |op: &SessionOp| match op {
            SessionOp::PppoeUp { .. }
            | SessionOp::LeaseGrant { .. }
            | SessionOp::LeaseRenew { .. }
            | SessionOp::Down { .. }
            | SessionOp::Decline { .. } => 0,
            SessionOp::StaticSeen { .. } => LEVEL_POLICY,
        };
        self.ops.iter().map(needs).max().unwrap_or(0)
    }
}

/// One session change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOp {
    /// A PPPoE client is authenticated; wants an address.
    PppoeUp {
        /// Where it is attached. An earlier PPPoE session there gives way.
        attachment: Attachment,
        /// The SESSION_ID that PADS told it, unique in the group.
        sid: u16,
        /// PPP user name.
        username: String,
        /// Our magic number.
        local_magic: u32,
        /// The peer's magic number, 0 when it negotiated none.
        peer_magic: u32,
        /// What the peer can receive, in octets.
        mtu: u16,
        /// What we can receive, in octets.
        mru: u16,
        /// Overrides the subscriber's and the pool's rate.
        rate: Option<Rate>,
        /// Exactly this address; `None` leaves the choice to the subscriber's record and the pool.
        address: Option<Ipv4Addr>,
        /// This pool; `None` leaves the choice to the subscriber's record, then to the group's
        /// pools by name.
        pool: Option<String>,
    },
    /// A DHCP client asks for a lease, new or again.
    LeaseGrant {
        /// Where it is attached. Another client's lease there gives way.
        attachment: Attachment,
        /// Option 61, empty when the hardware address identifies the client.
        client_id: Vec<u8>,
        /// Option 12.
        hostname: String,
        /// Option 82, as received.
        relay_info: Vec<u8>,
        /// Exactly this address; `None` keeps the client's, or takes any.
        address: Option<Ipv4Addr>,
        /// Length of the lease in seconds, not 0.
        lease_s: u32,
        /// This pool, as with `PppoeUp`.
        pool: Option<String>,
    },
    /// A lease goes on.
    LeaseRenew {
        /// The session.
        session: SessionId,
        /// From the time of this entry, in seconds, not 0.
        lease_s: u32,
    },
    /// A session ended.
    Down {
        /// The session.
        session: SessionId,
        /// Why.
        reason: DownReason,
    },
    /// A client found its address in use by another (RFC 2131 §4.3.3): the session ends and the
    /// address rests.
    Decline {
        /// The address.
        address: Ipv4Addr,
        /// Its pool.
        pool: String,
    },
    /// A static subscriber was heard, for the first time or at another place.
    StaticSeen {
        /// Its address.
        address: Ipv4Addr,
        /// Where it was heard.
        attachment: Attachment,
    },
}

impl SessionOp {
    /// The stable name, as in counters and traces.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::PppoeUp { .. } => "pppoe_up",
            Self::LeaseGrant { .. } => "lease_grant",
            Self::LeaseRenew { .. } => "lease_renew",
            Self::Down { .. } => "down",
            Self::Decline { .. } => "decline",
            Self::StaticSeen { .. } => "static_seen",
        }
    }
}

impl Command {
    /// The stable name, as in counters and traces.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Bootstrap(_) => "bootstrap",
            Self::PutNode(_) => "put_node",
            Self::RemoveNode(_) => "remove_node",
            Self::PutGroup(_) => "put_group",
            Self::RemoveGroup(_) => "remove_group",
            Self::PutPool(_) => "put_pool",
            Self::RemovePool(_) => "remove_pool",
            Self::PutSubscriber(_) => "put_subscriber",
            Self::RemoveSubscriber(_) => "remove_subscriber",
            Self::PutApiUser(_) => "put_api_user",
            Self::RemoveApiUser(_) => "remove_api_user",
            Self::Acquire { .. } => "acquire",
            Self::Sessions(_) => "sessions",
            Self::SetRate { .. } => "set_rate",
            Self::Disconnect { .. } => "disconnect",
            Self::Expire => "expire",
            Self::PutJoinToken { .. } => "put_join_token",
            Self::UseJoinToken { .. } => "use_join_token",
            Self::RaiseLevel { .. } => "raise_level",
            Self::Documents(_) => "documents",
            Self::ChangeApiUser { .. } => "change_api_user",
            Self::PutStatic(_) => "put_static",
            Self::RemoveStatic(_) => "remove_static",
            Self::EditStatic { .. } => "edit_static",
            Self::PutBan { .. } => "put_ban",
            Self::RemoveBan { .. } => "remove_ban",
        }
    }

    /// The replicated level from which on this command may stand in the log. A leader proposes it
    /// only then, because a member that cannot decode it stops.
    #[must_use]
    pub fn level(&self) -> u32 {
        match self {
            Self::Bootstrap(_)
            | Self::PutNode(_)
            | Self::RemoveNode(_)
            | Self::PutGroup(_)
            | Self::RemoveGroup(_)
            | Self::PutPool(_)
            | Self::RemovePool(_)
            | Self::PutSubscriber(_)
            | Self::RemoveSubscriber(_)
            | Self::RemoveApiUser(_)
            | Self::Acquire { .. }
            | Self::SetRate { .. }
            | Self::Disconnect { .. }
            | Self::Expire
            | Self::PutJoinToken { .. }
            | Self::UseJoinToken { .. }
            | Self::RaiseLevel { .. } => 0,
            Self::PutApiUser(user) if convert::is_first_level(user) => 0,
            Self::PutApiUser(_) | Self::ChangeApiUser { .. } => LEVEL_API_USERS,
            Self::Sessions(batch) => batch.level(),
            Self::Documents(batch) => {
                let also = batch.also.iter().map(Self::level).max();
                also.unwrap_or(0).max(LEVEL_DOCUMENTS)
            }
            Self::PutStatic(_)
            | Self::RemoveStatic(_)
            | Self::EditStatic { .. }
            | Self::PutBan { .. }
            | Self::RemoveBan { .. } => LEVEL_POLICY,
        }
    }

    /// The bytes of the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::Command::from(self).encode_to_vec()
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// [`CommandError`] when the bytes are damaged, or come from a build that knows more than this.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        proto::Command::decode(bytes)?.try_into()
    }
}

/// A command with its envelope: one entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time; `apply` never lets it step back.
    pub at: UnixMs,
    /// Who proposed it and as its which: a repetition is answered from memory and changes nothing.
    pub client: Option<(u64, u64)>,
    /// W3C traceparent, so that one trace spans the cluster.
    pub trace: Option<String>,
    /// What to do.
    pub command: Command,
}

impl Entry {
    /// The bytes of the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::Entry::from(self).encode_to_vec()
    }

    /// Reads what [`Entry::encode`] wrote.
    ///
    /// # Errors
    /// [`CommandError`] when the bytes are damaged, or come from a build that knows more than this.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        proto::Entry::decode(bytes)?.try_into()
    }
}

/// Why bytes are not a command, an entry, a reply or a snapshot record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not protobuf, or a field has another type.
    #[error("not a protobuf message")]
    Malformed(#[from] prost::DecodeError),
    /// A part that every writer sets is absent.
    #[error("{0} is absent")]
    Missing(&'static str),
    /// No variant that this build knows is present: written by a newer one, or damaged.
    #[error("{0} has no variant that this build knows")]
    UnknownVariant(&'static str),
    /// An enumeration has a number that this build does not know.
    #[error("{field} has the unknown number {number}")]
    UnknownNumber {
        /// The field.
        field: &'static str,
        /// What it held.
        number: i32,
    },
    /// A number does not fit its type.
    #[error("{field} is {value}, which is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// The text is not an address with a port.
    #[error("{field} is {text:?}, not an address with a port")]
    SocketAddress {
        /// The field.
        field: &'static str,
        /// What it held.
        text: String,
    },
}

impl CommandError {
    /// The stable name, as in counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Missing(_) => "missing",
            Self::UnknownVariant(_) => "unknown_variant",
            Self::UnknownNumber { .. } => "unknown_number",
            Self::OutOfRange { .. } => "out_of_range",
            Self::SocketAddress { .. } => "socket_address",
        }
    }
}

impl From<std::convert::Infallible> for CommandError {
    /// Some records cannot be wrong once they are protobuf.
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
