//! What an applied entry changed: the stream that the data plane, accounting and the API watch.

use model::{
    Collection, DownReason, Epoch, GroupId, Ipv4Net, NodeId, Revision, Session, SessionId, UnixMs,
};
use std::sync::Arc;

/// One change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session began.
    SessionUp(Arc<Session>),
    /// A session goes on with other values; its id, group and address never change, and its
    /// attachment only when it is a static subscriber's.
    SessionChanged(Arc<Session>),
    /// A session ended.
    SessionDown {
        /// As it was last.
        session: Arc<Session>,
        /// Why it ended.
        reason: DownReason,
    },
    /// A group came, went, or has other settings.
    GroupChanged(GroupId),
    /// A group has another owner, or the same at a new epoch.
    OwnerChanged {
        /// The group.
        group: GroupId,
        /// Its owner from now on.
        owner: NodeId,
        /// The epoch of that ownership.
        epoch: Epoch,
        /// The owner before.
        previous: Option<NodeId>,
    },
    /// A pool came, went, or has other settings.
    PoolChanged(String),
    /// A member came, went, or has another record.
    NodeChanged(NodeId),
    /// A local user came, went, or has another record.
    SubscriberChanged(String),
    /// An API user came, went, or has another record.
    ApiUserChanged(String),
    /// The cluster was made, its level was raised, or its join tokens changed.
    ClusterChanged,
    /// A document came, or has another value.
    DocumentPut {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: Arc<str>,
    },
    /// A document went: deleted, or dropped to make room.
    DocumentDeleted {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: Arc<str>,
    },
    /// A network was banned, or a ban of it was lifted.
    BanChanged(Ipv4Net),
}

impl Change {
    /// The stable name, as in events and counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::SessionUp(_) => "session_up",
            Self::SessionChanged(_) => "session_changed",
            Self::SessionDown { .. } => "session_down",
            Self::GroupChanged(_) => "group_changed",
            Self::OwnerChanged { .. } => "owner_changed",
            Self::PoolChanged(_) => "pool_changed",
            Self::NodeChanged(_) => "node_changed",
            Self::SubscriberChanged(_) => "subscriber_changed",
            Self::ApiUserChanged(_) => "api_user_changed",
            Self::ClusterChanged => "cluster_changed",
            Self::DocumentPut { .. } => "document_put",
            Self::DocumentDeleted { .. } => "document_deleted",
            Self::BanChanged(_) => "ban_changed",
        }
    }

    /// The session this change is about.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::SessionUp(session)
            | Self::SessionChanged(session)
            | Self::SessionDown { session, .. } => Some(session.id),
            Self::GroupChanged(_)
            | Self::OwnerChanged { .. }
            | Self::PoolChanged(_)
            | Self::NodeChanged(_)
            | Self::SubscriberChanged(_)
            | Self::ApiUserChanged(_)
            | Self::ClusterChanged
            | Self::DocumentPut { .. }
            | Self::DocumentDeleted { .. }
            | Self::BanChanged(_) => None,
        }
    }
}

/// The changes of one entry, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeBatch {
    /// Index of the entry.
    pub revision: Revision,
    /// The state's time after it.
    pub at: UnixMs,
    /// W3C traceparent of the proposal.
    pub trace: Option<String>,
    /// What changed; empty when the entry was refused or a repetition.
    pub changes: Vec<Change>,
}
