//! What this node has acknowledged, kept beside the engine.
//!
//! An engine that loses its tail (a truncated file, a half-written segment that recovery drops) looks to Raft like a node
//! that never had those entries, and a quorum of such nodes forgets committed data. The mark says how far the log must reach
//! and which vote it must hold. It is written after the engine's flush, so it never promises more than the disk has; it is
//! lowered before a truncation. Votes sync it, appends do not: after a power loss it may be older than the log, which only
//! makes the check weaker, never wrong.
//!
//! Two slots in two disk sectors are written in turn; each is one aligned write of less than a sector.

use super::{Position, StoredVote};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: [u8; 4] = *b"TMRK";
const SLOT_OCTETS: usize = 64;
const SLOT_STRIDE_OCTETS: u64 = 4096;

/// The promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The log reaches at least to here.
    pub(crate) last: Option<Position>,
    /// The vote is at least this one.
    pub(crate) vote: Option<StoredVote>,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    sequence: u64,
}

impl MarkFile {
    /// Opens or makes the file; the second value is `None` when it did not exist, or holds no valid slot.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Mark>)> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        super::sync_parent(path)?;
        let mut best: Option<(u64, Mark)> = None;
        for slot in [0, 1] {
            let mut octets = [0; SLOT_OCTETS];
            match file.read_exact_at(&mut octets, slot * SLOT_STRIDE_OCTETS) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(e) => return Err(e),
            }
            if let Some((sequence, mark)) = decode(&octets)
                && best.is_none_or(|(s, _)| s < sequence)
            {
                best = Some((sequence, mark));
            }
        }
        let sequence = best.map_or(0, |(s, _)| s);
        Ok((Self { file, sequence }, best.map(|(_, m)| m)))
    }

    /// Writes the mark; `durable` also waits for the disk.
    pub(crate) fn write(&mut self, mark: &Mark, durable: bool) -> io::Result<()> {
        let sequence = self.sequence + 1;
        self.file.write_all_at(&encode(sequence, mark), (sequence % 2) * SLOT_STRIDE_OCTETS)?;
        if durable {
            self.file.sync_data()?;
        }
        self.sequence = sequence;
        Ok(())
    }
}

fn encode(sequence: u64, mark: &Mark) -> [u8; SLOT_OCTETS] {
    let vote = mark.vote.unwrap_or(StoredVote { term: 0, node: 0, committed: false });
    let last = mark.last.unwrap_or_default();
    let flags = u64::from(mark.vote.is_some())
        | (u64::from(vote.committed) << 1)
        | (u64::from(mark.last.is_some()) << 2);
    let words = [sequence, last.term, last.index, vote.term, vote.node, flags];
    let mut out = [0; SLOT_OCTETS];
    out[..4].copy_from_slice(&MAGIC);
    for (chunk, word) in out[8..56].chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc32c::crc32c(&out[..56]);
    out[56..60].copy_from_slice(&crc.to_le_bytes());
    out
}

fn decode(octets: &[u8; SLOT_OCTETS]) -> Option<(u64, Mark)> {
    let crc = u32::from_le_bytes(octets[56..60].try_into().ok()?);
    if octets[..4] != MAGIC || crc32c::crc32c(&octets[..56]) != crc {
        return None;
    }
    let mut words = [0; 6];
    for (word, chunk) in words.iter_mut().zip(octets[8..56].chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    let [sequence, last_term, last_index, vote_term, node, flags] = words;
    let vote =
        (flags & 1 == 1).then_some(StoredVote { term: vote_term, node, committed: flags & 2 != 0 });
    let last = (flags & 4 != 0).then_some(Position { term: last_term, index: last_index });
    Some((sequence, Mark { last, vote }))
}
