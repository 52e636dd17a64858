//! Opening a log: read everything, believe nothing.

use super::frame::{self, FrameError};
use super::mark::{Mark, MarkFile};
use super::{LogEngine, Position, RecordKind, StoredVote};
use model::{ClusterId, NodeId};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub(super) const KEY_VOTE: &str = "vote";
pub(super) const KEY_COMMITTED: &str = "committed";
pub(super) const KEY_PURGED: &str = "purged";
pub(super) const KEY_OWNER: &str = "owner";
/// The file beside the engine, see [`Mark`].
pub(crate) const MARK_FILE: &str = "mark";
/// Written by probes of the disk and never read.
pub(super) const KEY_PROBE: &str = "probe";

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("reading or writing the log")]
    Io(#[source] io::Error),
    /// The store contradicts itself or its mark.
    #[error("{0}")]
    Corrupt(String),
    #[error("the store belongs to {found}, not to {expected}")]
    Owner { found: String, expected: String },
    #[error("the store was written with another key")]
    WrongKey,
    #[error("the store was written by a build that did not encrypt it")]
    Unencrypted,
    #[error("the store has format version {0}, which this build does not know")]
    Format(u8),
}

impl From<io::Error> for LogError {
    /// An engine tells damage from a failing disk by the kind of its error.
    fn from(e: io::Error) -> Self {
        if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) {
            Self::Corrupt(e.to_string())
        } else {
            Self::Io(e)
        }
    }
}

/// A verified log.
pub(crate) struct Opened {
    pub(crate) engine: Arc<dyn LogEngine>,
    pub(crate) mark_file: MarkFile,
    pub(crate) mark: Mark,
    pub(crate) vote: Option<StoredVote>,
    pub(crate) committed: Option<Position>,
    pub(crate) purged: Option<Position>,
    /// Last entry, or `purged` when there is none.
    pub(crate) last: Option<Position>,
    /// Where the log changes members, in order.
    pub(crate) memberships: Vec<u64>,
}

/// Verifies the log in `engine`, whose mark lies in `dir`, and ties a new one to its owner.
pub(crate) fn open(
    engine: Arc<dyn LogEngine>,
    dir: &Path,
    cluster: &ClusterId,
    node: NodeId,
) -> Result<Opened, LogError> {
    let (mark_file, mark) = MarkFile::open(&dir.join(MARK_FILE))?;
    check_owner(engine.as_ref(), mark.is_some(), cluster, node)?;
    let vote = read(engine.as_ref(), KEY_VOTE, decode_vote)?;
    let committed = read(engine.as_ref(), KEY_COMMITTED, decode_position)?;
    let purged = read(engine.as_ref(), KEY_PURGED, decode_position)?;
    if let Some(purged) = purged {
        // A crash between noting the purge and removing its entries leaves some of them.
        engine.purge(purged.index)?;
    }
    let (last, memberships) = scan(engine.as_ref(), purged)?;
    let (last, marked) = (last.or(purged), mark.is_some());
    let mark = mark.unwrap_or_default();
    let opened = Opened { engine, mark_file, mark, vote, committed, purged, last, memberships };
    check_mark(&opened, marked)?;
    Ok(opened)
}

fn check_owner(
    engine: &dyn LogEngine,
    marked: bool,
    cluster: &ClusterId,
    node: NodeId,
) -> Result<(), LogError> {
    let expected = format!("node {node} of cluster {cluster}");
    match engine.meta_get(KEY_OWNER)? {
        Some(frame) => {
            let found = frame::decode_value(&frame).map_err(|e| corrupt(KEY_OWNER, e))?;
            let found = String::from_utf8_lossy(found).into_owned();
            if found == expected { Ok(()) } else { Err(LogError::Owner { found, expected }) }
        }
        None if marked => Err(LogError::Corrupt(
            "the log is empty, but this node has acknowledged entries or votes".to_owned(),
        )),
        None => {
            engine.meta_put(KEY_OWNER, &frame::encode_value(expected.as_bytes()))?;
            Ok(engine.flush()?)
        }
    }
}

/// Checks every entry; returns the last one, and where members change.
fn scan(
    engine: &dyn LogEngine,
    purged: Option<Position>,
) -> Result<(Option<Position>, Vec<u64>), LogError> {
    let mut previous = purged;
    let mut last = None;
    let mut memberships = Vec::new();
    let mut fault = None;
    engine.range(0, u64::MAX, &mut |key, octets| {
        let next = previous.map_or(0, |p| p.index + 1);
        let record = match frame::decode(key, octets) {
            Ok(record) => record,
            Err(e) => {
                fault = Some(format!("entry {key}: {e}"));
                return ControlFlow::Break(());
            }
        };
        if key != next {
            fault = Some(format!("entries {next} to {} are missing", key - 1));
            return ControlFlow::Break(());
        }
        if previous.is_some_and(|p| p.term > record.position.term) {
            fault = Some(format!("entry {key}: its term is lower than the one before"));
            return ControlFlow::Break(());
        }
        if record.kind == RecordKind::Membership {
            memberships.push(key);
        }
        previous = Some(record.position);
        last = previous;
        ControlFlow::Continue(())
    })?;
    fault.map_or(Ok((last, memberships)), |text| Err(LogError::Corrupt(text)))
}

fn check_mark(opened: &Opened, marked: bool) -> Result<(), LogError> {
    if !marked && (opened.last.is_some() || opened.vote.is_some()) {
        return Err(LogError::Corrupt(
            "the file that says what was acknowledged is missing or damaged".to_owned(),
        ));
    }
    let mark = opened.mark;
    if mark.last > opened.last {
        return Err(LogError::Corrupt(format!(
            "the log ends at {:?}, but this node has acknowledged entries up to {:?}",
            opened.last, mark.last
        )));
    }
    let rank = |v: Option<StoredVote>| v.map(|v| (v.term, v.committed));
    if rank(mark.vote) > rank(opened.vote) {
        return Err(LogError::Corrupt(format!(
            "the stored vote is {:?}, but this node has voted {:?}",
            opened.vote, mark.vote
        )));
    }
    Ok(())
}

fn read<T>(
    engine: &dyn LogEngine,
    key: &'static str,
    decode: fn(&[u8]) -> Option<T>,
) -> Result<Option<T>, LogError> {
    let Some(frame) = engine.meta_get(key)? else { return Ok(None) };
    let value = frame::decode_value(&frame).map_err(|e| corrupt(key, e))?;
    let value = decode(value)
        .ok_or_else(|| LogError::Corrupt(format!("{key} has {} octets", value.len())))?;
    Ok(Some(value))
}

fn corrupt(what: &str, e: FrameError) -> LogError {
    LogError::Corrupt(format!("{what}: {e}"))
}

pub(super) fn encode_position(p: Position) -> Vec<u8> {
    frame::encode_value(&[p.term.to_le_bytes(), p.index.to_le_bytes()].concat())
}

fn decode_position(octets: &[u8]) -> Option<Position> {
    let (term, index) = octets.split_first_chunk::<8>()?;
    let index: [u8; 8] = index.try_into().ok()?;
    Some(Position { term: u64::from_le_bytes(*term), index: u64::from_le_bytes(index) })
}

pub(super) fn encode_vote(v: StoredVote) -> Vec<u8> {
    let committed = u64::from(v.committed);
    frame::encode_value(
        &[v.term.to_le_bytes(), v.node.to_le_bytes(), committed.to_le_bytes()].concat(),
    )
}

fn decode_vote(octets: &[u8]) -> Option<StoredVote> {
    let (term, rest) = octets.split_first_chunk::<8>()?;
    let (node, committed) = rest.split_first_chunk::<8>()?;
    let committed: [u8; 8] = committed.try_into().ok()?;
    Some(StoredVote {
        term: u64::from_le_bytes(*term),
        node: u64::from_le_bytes(*node),
        committed: u64::from_le_bytes(committed) == 1,
    })
}
