//! The answers of `apply`.

use super::{CommandError, proto};
use model::{Collection, Epoch, GroupId, NodeId, Revision, Session};
use prost::Message as _;
use std::sync::Arc;

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Applied.
    Done,
    /// The group has a new owner.
    Acquired {
        /// The group.
        group: GroupId,
        /// Its owner from now on.
        owner: NodeId,
        /// The epoch of that ownership.
        epoch: Epoch,
        /// The owner before.
        previous: Option<NodeId>,
    },
    /// One answer for each operation of a batch, in its order.
    Sessions(Vec<OpReply>),
    /// The id of the node that joined.
    NodeId(NodeId),
    /// All of a document batch was done.
    Documents {
        /// The key of each operation, in their order.
        keys: Vec<String>,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

impl Reply {
    /// The bytes of a reply, for the network and the snapshot.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::Reply::from(self).encode_to_vec()
    }

    /// Reads what [`Reply::encode`] wrote.
    ///
    /// # Errors
    /// [`CommandError`] when the bytes are damaged, or come from a build that knows more than this.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        proto::Reply::decode(bytes)?.try_into()
    }
}

/// The answer to one operation of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpReply {
    /// The session as it is now.
    Session(Arc<Session>),
    /// Applied; there is no session to show.
    Done,
    /// This operation changed nothing.
    Refused(Refusal),
}

/// Why a command or an operation changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node does not own the group at that epoch, or the epoch to acquire is not a new one.
    #[error("the group is at epoch {current}")]
    StaleEpoch {
        /// The group's epoch.
        current: Epoch,
    },
    /// No address is free.
    #[error("pool {pool:?} has no free address")]
    PoolExhausted {
        /// The pool that was asked first.
        pool: String,
    },
    /// No port block is free.
    #[error("pool {pool:?} has no free port block")]
    NatExhausted {
        /// The pool.
        pool: String,
    },
    /// Another session holds the address, it is set aside for another user, or it rests after a
    /// decline.
    #[error("the address is taken")]
    AddressTaken,
    /// The address is not one that the pool may hand out.
    #[error("the address is outside the pool")]
    AddressOutsidePool,
    /// Another client has this PPPoE SESSION_ID.
    #[error("the PPPoE session id is taken")]
    SessionIdTaken,
    /// There is no such session, or it belongs to another group or protocol.
    #[error("no such session")]
    UnknownSession,
    /// There is no such group.
    #[error("no such group")]
    UnknownGroup,
    /// There is no such pool, or it serves another group or protocol.
    #[error("no such pool")]
    UnknownPool,
    /// There is no such node.
    #[error("no such node")]
    UnknownNode,
    /// There is no such subscriber.
    #[error("no such subscriber")]
    UnknownSubscriber,
    /// There is no such API user.
    #[error("no such API user")]
    UnknownApiUser,
    /// The cluster exists.
    #[error("the cluster is bootstrapped already")]
    AlreadyBootstrapped,
    /// The cluster does not exist yet.
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    /// The join token does not exist, was used, has expired, or is for another role.
    #[error("the join token is not valid")]
    InvalidToken,
    /// A witness cannot own a group.
    #[error("the node is not a data node")]
    NotADataNode,
    /// Not all members can decode the command yet.
    #[error("the cluster's level is too low")]
    LevelTooLow,
    /// Something depends on the object.
    #[error("in use: {0}")]
    InUse(String),
    /// The reply to this repetition is no longer remembered; the first try was applied or
    /// overtaken.
    #[error("the client has gone far beyond this sequence number")]
    SequenceTooOld,
    /// A value makes no sense.
    #[error("invalid: {0}")]
    Invalid(String),
    /// A document is not as the operation expects it.
    #[error("{collection} {key:?} is {}", modified(*revision))]
    DocumentConflict {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: String,
        /// When it was last written; `None` when it is not there.
        revision: Option<Revision>,
    },
    /// A document that must be there is not.
    #[error("there is no {collection} {key:?}")]
    DocumentUnknown {
        /// Its collection.
        collection: Collection,
        /// Its key.
        key: String,
    },
    /// An API user is not as the change expects it.
    #[error("the API user is {}", modified(*revision))]
    ApiUserConflict {
        /// Its last conditional change; `None` when it is not there.
        revision: Option<Revision>,
    },
    /// A collection takes no more.
    #[error("the collection {collection} is full")]
    CollectionFull {
        /// The collection.
        collection: Collection,
    },
    /// There is no static subscriber with that address.
    #[error("no such static subscriber")]
    UnknownStatic,
    /// There is no such ban.
    #[error("no such ban")]
    UnknownBan,
    /// The address is bound to another MAC address or line.
    #[error("the address is bound to another MAC address or line")]
    BoundElsewhere,
}

impl Refusal {
    /// The stable name, as in counters and API error codes.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::StaleEpoch { .. } => "stale_epoch",
            Self::PoolExhausted { .. } => "pool_exhausted",
            Self::NatExhausted { .. } => "nat_exhausted",
            Self::AddressTaken => "address_taken",
            Self::AddressOutsidePool => "address_outside_pool",
            Self::SessionIdTaken => "session_id_taken",
            Self::UnknownSession => "unknown_session",
            Self::UnknownGroup => "unknown_group",
            Self::UnknownPool => "unknown_pool",
            Self::UnknownNode => "unknown_node",
            Self::UnknownSubscriber => "unknown_subscriber",
            Self::UnknownApiUser => "unknown_api_user",
            Self::AlreadyBootstrapped => "already_bootstrapped",
            Self::NotBootstrapped => "not_bootstrapped",
            Self::InvalidToken => "invalid_token",
            Self::NotADataNode => "not_a_data_node",
            Self::LevelTooLow => "level_too_low",
            Self::InUse(_) => "in_use",
            Self::SequenceTooOld => "sequence_too_old",
            Self::Invalid(_) => "invalid",
            Self::DocumentConflict { .. } => "document_conflict",
            Self::DocumentUnknown { .. } => "document_unknown",
            Self::CollectionFull { .. } => "collection_full",
            Self::ApiUserConflict { .. } => "api_user_conflict",
            Self::UnknownStatic => "unknown_static",
            Self::UnknownBan => "unknown_ban",
            Self::BoundElsewhere => "bound_elsewhere",
        }
    }
}

fn modified(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "absent".to_owned(), |revision| format!("at revision {revision}"))
}
