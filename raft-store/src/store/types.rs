//! The plain types of the facade.

use crate::identity::{Identity, IdentityError};
use futures::future::BoxFuture;
use model::{ClusterId, NodeId, Revision, UnixMs};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The wall clock of the driver. Only a leader asks it, and does not follow it blindly.
pub type Clock = Arc<dyn Fn() -> UnixMs + Send + Sync>;

/// Answers requests of other nodes: sender, kind, payload.
pub type RequestHandler = Arc<
    dyn Fn(NodeId, String, Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync,
>;

/// Raft's timing. The election timeout also bounds how long a leader may be slow, so it must be well above the time of a
/// flush and of a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// Between heartbeats; less than half of `election_min`.
    pub heartbeat: Duration,
    /// Shortest silence after which a follower asks for votes.
    pub election_min: Duration,
    /// Longest such silence.
    pub election_max: Duration,
}

/// What keeps the log on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// sled 0.34, behind our own checksums and verification.
    #[default]
    Sled,
}

/// How to open a [`super::Store`].
#[derive(Clone)]
pub struct StoreConfig {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Where log and snapshots live; nobody else's.
    pub data_dir: PathBuf,
    /// Where other nodes reach Raft on this one.
    pub listen: SocketAddr,
    /// Certificates.
    pub identity: Identity,
    /// Raft's timing.
    pub timing: RaftTiming,
    /// Storage engine.
    pub engine: Engine,
    /// Wall clock.
    pub clock: Clock,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreConfig")
            .field("node", &self.node)
            .field("cluster_id", &self.cluster_id)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("timing", &self.timing)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store contradicts itself, or what this node has acknowledged. Nothing is repaired: a node that has forgotten a
    /// vote or an entry can make the cluster lose committed data.
    #[error(
        "the store in {} cannot be trusted: {what}. This node must not vote under its old identity: take it out on \
         another member with `bngctl cluster remove`, remove its data directory, start it and let it join again \
         (`bngctl cluster token` there, `bngctl cluster join` here)",
        dir.display()
    )]
    Corrupt {
        /// The store.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The store is another node's, or another cluster's.
    #[error("the store in {} belongs to {found}, not to {expected}", dir.display())]
    Owner {
        /// The store.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Certificates do not fit, or name another node.
    #[error("node identity")]
    Identity(#[from] IdentityError),
    /// The settings contradict each other.
    #[error("configuration: {0}")]
    Config(String),
    /// The address is taken, or not this machine's.
    #[error("listening on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The disk failed, or another process holds the store.
    #[error("the store in {}", dir.display())]
    Io {
        /// The store.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Raft does not start.
    #[error("raft: {0}")]
    Raft(String),
}

impl OpenError {
    /// The stable name, as in logs and counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "corrupt",
            Self::Owner { .. } => "owner",
            Self::Identity(_) => "identity",
            Self::Config(_) => "config",
            Self::Listen { .. } => "listen",
            Self::Io { .. } => "io",
            Self::Raft(_) => "raft",
        }
    }
}

/// The first node cannot make the cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitializeError {
    /// There is a cluster already.
    #[error("this node is a member of a cluster already")]
    AlreadyInitialized,
    /// This node is not among the members.
    #[error("this node is not among the members")]
    NotAMember,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
}

/// A command that was committed and applied on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Index of its entry; zero when the leader could not read the command, or the cluster's level is too low for it,
    /// and it made no entry.
    pub revision: Revision,
    /// What applying it answered.
    pub reply: crate::Reply,
}

/// A command has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader with a quorum is known. Nothing was proposed.
    #[error("no leader; retry after {retry_after:?}")]
    NoLeader {
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// Too many proposals are outstanding. Nothing was proposed.
    #[error("too many proposals are outstanding; retry after {retry_after:?}")]
    Overloaded {
        /// When a retry makes sense.
        retry_after: Duration,
    },
    /// The outcome is unknown: it may have been applied, or still be.
    #[error("no answer in time; the command may have been applied")]
    Timeout,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
}

impl ProposeError {
    /// The stable name, as in counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoLeader { .. } => "no_leader",
            Self::Overloaded { .. } => "overloaded",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// Leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The target cannot lead now.
    #[error("{0}")]
    Refused(String),
    /// The target did not take over in time; the old leader may go on.
    #[error("the target did not take over in time")]
    Timeout,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
}

/// Members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The change makes no sense, or not yet.
    #[error("{0}")]
    Refused(String),
    /// The outcome is unknown.
    #[error("no answer in time; the change may have been made")]
    Timeout,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
}

/// Another node did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It is not a member, so its address is unknown.
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    /// It cannot be reached, or did not answer in time.
    #[error("node {node}: {reason}")]
    Unreachable {
        /// The node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Its handler refused.
    #[error("{0}")]
    Refused(String),
}

/// What a node is in Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Orders the log. Whether it still has a quorum is another question: see [`RaftStatus::quorum_acked_age`].
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    #[default]
    Learner,
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Index of the entry that made it so; the newest that this node has, committed or not.
    pub log_index: u64,
    /// One set of voters, or two while voters change: then both need a majority.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// Members without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Where Raft on each member is reached.
    pub addresses: std::collections::BTreeMap<NodeId, String>,
}

/// Raft on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// The leader it follows, or itself.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: u64,
    /// Its role.
    pub role: Role,
    /// Index of the last log entry.
    pub last_log: u64,
    /// Index of the last applied entry.
    pub applied: u64,
    /// Index of the last committed entry that this node knows of.
    pub committed: u64,
    /// Last entry in the newest snapshot.
    pub snapshot: Option<u64>,
    /// Last entry removed from the log.
    pub purged: Option<u64>,
    /// On a leader: how long ago a quorum last confirmed it. openraft keeps a leader that lost its quorum in its role, so
    /// this, not the role, says whether it leads.
    pub quorum_acked_age: Option<Duration>,
    /// Members.
    pub membership: Membership,
    /// On a leader: the last log index known to be on each other member.
    pub peers: std::collections::BTreeMap<NodeId, Option<u64>>,
}

impl RaftStatus {
    /// Whether this node leads and a quorum confirmed it within `age`.
    #[must_use]
    pub fn leads_within(&self, age: Duration) -> bool {
        self.role == Role::Leader && self.quorum_acked_age.is_some_and(|a| a <= age)
    }
}
