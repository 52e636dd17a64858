//! Where Raft's log and vote live on disk: a small trait, its engine, and the thread that makes writes durable.
//!
//! Nothing here knows openraft. An engine may be of doubtful quality (see the decision on sled in `docs/adr`), so it is
//! never trusted: each record carries its own checksum and index, the whole store is verified at open, and a second file
//! (the [mark](mark::Mark)) remembers what was acknowledged, so that an engine that quietly forgot the tail is caught.

#[cfg(test)]
mod cost;
mod disk;
mod frame;
mod mark;
mod sealed;
mod sled_engine;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use bytes::Bytes;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

pub use disk::DiskHealth;
pub(crate) use disk::DiskWatch;
pub(crate) use frame::decode;
pub(crate) use sealed::SealedEngine;
pub(crate) use sled_engine::SledEngine;
use verify::KEY_OWNER;
pub(crate) use verify::{LogError, MARK_FILE, Opened, open};
pub(crate) use writer::{Done, Op, Writer, WriterHandle};

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Term of the leader that made the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// A vote as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredVote {
    /// The term.
    pub term: u64,
    /// The candidate.
    pub node: u64,
    /// Whether a quorum granted it.
    pub committed: bool,
}

/// What kind of payload a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    /// A new leader's first entry.
    Blank = 1,
    /// A command.
    Normal = 2,
    /// A change of members.
    Membership = 3,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where.
    pub position: Position,
    /// What the payload is.
    pub kind: RecordKind,
    /// The payload.
    pub payload: Bytes,
}

/// An ordered store of framed records and a few small values. All writes come from one thread, in order; a write is
/// durable only after the next [`LogEngine::flush`] returned, and after a crash the engine holds a prefix of the writes.
pub(crate) trait LogEngine: Send + Sync + 'static {
    /// Adds or replaces frames by index, all or none.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn append_batch(&self, frames: &[(u64, Vec<u8>)]) -> io::Result<()>;

    /// Shows the frames from `from` (inclusive) to `to` (exclusive), in order, until told to stop.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn range(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()>;

    /// Removes the frames from `from` on, the last one first, so that no hole can remain.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn truncate(&self, from: u64) -> io::Result<()>;

    /// Removes the frames up to `upto`, inclusive.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn purge(&self, upto: u64) -> io::Result<()>;

    /// Reads a small value.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn meta_get(&self, key: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a small value.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn meta_put(&self, key: &str, value: &[u8]) -> io::Result<()>;

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    /// Whatever the disk says; what was written since the last flush is then in doubt, so the caller must stop.
    fn flush(&self) -> io::Result<()>;

    /// Octets on disk.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn size_octets(&self) -> io::Result<u64>;
}

/// Makes a rename or a new name durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}
