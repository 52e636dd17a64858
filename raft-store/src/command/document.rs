//! Changes of documents, and their bytes.

use super::convert::required;
use super::proto::{self, document_op, expect};
use super::{Command, CommandError};
use model::{Collection, Revision};
use std::fmt;

/// Document changes, applied in their order, all or none. Each operation sees what those before it
/// did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DocumentBatch {
    /// The changes, at most [`DocumentBatch::OPS_MAX`].
    pub ops: Vec<DocumentOp>,
    /// Commands that are applied before them and with them, such as the change that an audit record
    /// in `ops` tells of, or the pools of a new configuration. When one is refused, so is the
    /// batch, with its refusal. They must be ones that are answered with [`super::Reply::Done`],
    /// at most [`DocumentBatch::ALSO_MAX`].
    pub also: Vec<Command>,
}

impl DocumentBatch {
    /// Most operations of one batch; the reply with its keys is remembered for repetitions.
    pub const OPS_MAX: usize = 256;
    /// Most commands beside them.
    pub const ALSO_MAX: usize = 1024;
    /// Most octets of all values of one batch: an entry must pass through the network in one piece.
    pub const OCTETS_MAX: usize = 8 << 20;
}

impl From<Vec<DocumentOp>> for DocumentBatch {
    fn from(ops: Vec<DocumentOp>) -> Self {
        Self { ops, also: Vec::new() }
    }
}

/// The name of a document in its collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocKey {
    /// Chosen by the proposer: 1 to 255 octets, no control characters.
    Named(String),
    /// Made by `apply`, for a new document only: keys of later entries sort after those of earlier
    /// ones, see [`DocKey::at`].
    FromRevision,
}

impl DocKey {
    /// The key that operation `op` of the entry at `revision` gets from [`DocKey::FromRevision`]:
    /// 20 digits, a hyphen, 4 digits, so that the order of keys is the order of writing.
    #[must_use]
    pub fn at(revision: Revision, op: usize) -> String {
        format!("{:020}-{op:04}", revision.0)
    }
}

/// What must be true of a document before the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    #[default]
    Any,
    /// It is not there.
    Absent,
    /// It is there.
    Present,
    /// It is there and was last written by the entry of that revision.
    Revision(Revision),
}

/// One change of one document.
#[derive(Clone, PartialEq, Eq)]
pub enum DocumentOp {
    /// Adds or replaces a document.
    Put {
        /// Where.
        collection: Collection,
        /// Under which name.
        key: DocKey,
        /// The document.
        value: Vec<u8>,
        /// Condition.
        expect: Expect,
    },
    /// Removes a document; with [`Expect::Any`] one that is not there is no fault.
    Delete {
        /// Where.
        collection: Collection,
        /// Which.
        key: String,
        /// Condition.
        expect: Expect,
    },
    /// Changes nothing, and refuses the batch when the condition does not hold.
    Check {
        /// Where.
        collection: Collection,
        /// Which.
        key: String,
        /// Condition.
        expect: Expect,
    },
}

impl DocumentOp {
    /// Where the document is.
    #[must_use]
    pub fn collection(&self) -> Collection {
        match self {
            Self::Put { collection, .. }
            | Self::Delete { collection, .. }
            | Self::Check { collection, .. } => *collection,
        }
    }

    /// The stable name, as in counters and traces.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Check { .. } => "check",
        }
    }
}

impl fmt::Debug for DocumentOp {
    /// Leaves values out: some are secret, and all are long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct(self.label());
        out.field("collection", &self.collection());
        match self {
            Self::Put { key, value, expect, .. } => {
                out.field("key", key).field("octets", &value.len()).field("expect", expect)
            }
            Self::Delete { key, expect, .. } | Self::Check { key, expect, .. } => {
                out.field("key", key).field("expect", expect)
            }
        };
        out.finish()
    }
}

pub(crate) fn collection(number: u32, field: &'static str) -> Result<Collection, CommandError> {
    let value = u64::from(number);
    Collection::from_number(number).ok_or(CommandError::OutOfRange { field, value })
}

pub(super) fn expect_message(expect: Expect) -> proto::Expect {
    let kind = match expect {
        Expect::Any => None,
        Expect::Absent => Some(expect::Kind::Absent(proto::Done {})),
        Expect::Present => Some(expect::Kind::Present(proto::Done {})),
        Expect::Revision(revision) => Some(expect::Kind::Revision(revision.0)),
    };
    proto::Expect { kind }
}

/// The message is always there, so a condition that this build does not know cannot be mistaken
/// for none only as long as new kinds come with a new level.
pub(super) fn expect(
    message: Option<proto::Expect>,
    field: &'static str,
) -> Result<Expect, CommandError> {
    Ok(match required(message, field)?.kind {
        None => Expect::Any,
        Some(expect::Kind::Absent(proto::Done {})) => Expect::Absent,
        Some(expect::Kind::Present(proto::Done {})) => Expect::Present,
        Some(expect::Kind::Revision(revision)) => Expect::Revision(Revision(revision)),
    })
}

impl From<&DocumentBatch> for proto::DocumentBatch {
    fn from(batch: &DocumentBatch) -> Self {
        Self {
            ops: batch.ops.iter().map(Into::into).collect(),
            also: batch.also.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::DocumentBatch> for DocumentBatch {
    type Error = CommandError;

    fn try_from(batch: proto::DocumentBatch) -> Result<Self, CommandError> {
        let ops: Result<_, _> = batch.ops.into_iter().map(DocumentOp::try_from).collect();
        // The depth of nesting is bounded by prost's recursion limit.
        let also: Result<_, _> = batch.also.into_iter().map(Command::try_from).collect();
        Ok(Self { ops: ops?, also: also? })
    }
}

impl From<&DocumentOp> for proto::DocumentOp {
    fn from(op: &DocumentOp) -> Self {
        let kind = match op {
            DocumentOp::Put { collection, key, value, expect } => {
                document_op::Kind::Put(proto::DocumentPut {
                    collection: collection.number(),
                    key: match key {
                        DocKey::Named(name) => name.clone(),
                        DocKey::FromRevision => String::new(),
                    },
                    value: value.clone(),
                    expect: Some(expect_message(*expect)),
                    from_revision: *key == DocKey::FromRevision,
                })
            }
            DocumentOp::Delete { collection, key, expect } => {
                document_op::Kind::Delete(proto::DocumentDelete {
                    collection: collection.number(),
                    key: key.clone(),
                    expect: Some(expect_message(*expect)),
                })
            }
            DocumentOp::Check { collection, key, expect } => {
                document_op::Kind::Check(proto::DocumentCheck {
                    collection: collection.number(),
                    key: key.clone(),
                    expect: Some(expect_message(*expect)),
                })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::DocumentOp> for DocumentOp {
    type Error = CommandError;

    fn try_from(op: proto::DocumentOp) -> Result<Self, CommandError> {
        let kind = op.kind.ok_or(CommandError::UnknownVariant("document_op"))?;
        Ok(match kind {
            document_op::Kind::Put(put) => Self::Put {
                collection: collection(put.collection, "document_put.collection")?,
                key: if put.from_revision { DocKey::FromRevision } else { DocKey::Named(put.key) },
                value: put.value,
                expect: expect(put.expect, "document_put.expect")?,
            },
            document_op::Kind::Delete(delete) => Self::Delete {
                collection: collection(delete.collection, "document_delete.collection")?,
                key: delete.key,
                expect: expect(delete.expect, "document_delete.expect")?,
            },
            document_op::Kind::Check(check) => Self::Check {
                collection: collection(check.collection, "document_check.collection")?,
                key: check.key,
                expect: expect(check.expect, "document_check.expect")?,
            },
        })
    }
}
