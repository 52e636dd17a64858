//! Replicated commands, deterministic apply, snapshots, log storage, Raft network.
//!
//! [`Store`] is the facade: propose, read, follow changes, change members. Nothing outside this crate names openraft.

mod change;
mod command;
mod fatal;
mod identity;
mod log;
mod metrics;
mod net;
mod raft;
mod state;
mod store;
pub mod trace;
mod vault;

pub use change::{Change, ChangeBatch};
pub use command::{
    Bootstrap, Command, CommandError, DocKey, DocumentBatch, DocumentOp, Entry, Expect,
    LEVEL_API_USERS, LEVEL_DOCUMENTS, LEVEL_POLICY, LEVEL_SUPPORTED, OpReply, PutStatic, Refusal,
    Reply, SessionBatch, SessionOp, StaticEdit,
};
pub use identity::{
    ClusterCa, Identity, IdentityError, JoinRequest, NodeCertificate, fingerprint, node_name,
    peer_node_id,
};
pub use log::DiskHealth;
pub use metrics::{LatencySummary, StoreMetrics};
pub use raft::feed::{ChangeFeed, Gone};
pub use state::{Document, JoinToken, NatUsage, PoolUsage, SID_MAX, Section, SnapshotError, State};
pub use store::{
    CallError, Clock, Committed, Engine, InitializeError, MemberError, Membership, OpenError,
    ProposeError, RaftStatus, RaftTiming, RequestHandler, Role, Store, StoreConfig, TransferError,
};
