//! The octets of one record or value, with their checksum.
//!
//! ```text
//! record:  crc32c (4) | kind (1) | term (8) | index (8) | payload
//! value:   crc32c (4) | value
//! ```
//! All integers are little-endian; the checksum covers all that follows it.

use super::{Position, Record, RecordKind};
use bytes::Bytes;

const CRC_OCTETS: usize = 4;
const HEADER_OCTETS: usize = CRC_OCTETS + 1 + 8 + 8;

/// A stored frame is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("{have} octets, a record has at least {HEADER_OCTETS}")]
    Short { have: usize },
    #[error("checksum {found:#010x}, computed {computed:#010x}")]
    Checksum { found: u32, computed: u32 },
    #[error("kind {0}")]
    Kind(u8),
    #[error("index {found} under key {key}")]
    Index { found: u64, key: u64 },
}

pub(crate) fn encode(record: &Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_OCTETS + record.payload.len());
    out.extend_from_slice(&[0; CRC_OCTETS]);
    out.push(record.kind as u8);
    out.extend_from_slice(&record.position.term.to_le_bytes());
    out.extend_from_slice(&record.position.index.to_le_bytes());
    out.extend_from_slice(&record.payload);
    seal(&mut out);
    out
}

pub(crate) fn decode(key: u64, frame: &[u8]) -> Result<Record, FrameError> {
    let body = open(frame)?;
    let short = FrameError::Short { have: frame.len() };
    let (kind, rest) = body.split_first().ok_or(short)?;
    let (term, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
    let (index, payload) = rest.split_first_chunk::<8>().ok_or(short)?;
    let kind = match *kind {
        1 => RecordKind::Blank,
        2 => RecordKind::Normal,
        3 => RecordKind::Membership,
        other => return Err(FrameError::Kind(other)),
    };
    let found = u64::from_le_bytes(*index);
    if found != key {
        return Err(FrameError::Index { found, key });
    }
    let position = Position { term: u64::from_le_bytes(*term), index: found };
    Ok(Record { position, kind, payload: Bytes::copy_from_slice(payload) })
}

pub(crate) fn encode_value(value: &[u8]) -> Vec<u8> {
    let mut out = vec![0; CRC_OCTETS];
    out.extend_from_slice(value);
    seal(&mut out);
    out
}

pub(crate) fn decode_value(frame: &[u8]) -> Result<&[u8], FrameError> {
    open(frame)
}

fn seal(frame: &mut [u8]) {
    let crc = crc32c::crc32c(&frame[CRC_OCTETS..]);
    frame[..CRC_OCTETS].copy_from_slice(&crc.to_le_bytes());
}

fn open(frame: &[u8]) -> Result<&[u8], FrameError> {
    let (crc, body) =
        frame.split_first_chunk::<CRC_OCTETS>().ok_or(FrameError::Short { have: frame.len() })?;
    let found = u32::from_le_bytes(*crc);
    let computed = crc32c::crc32c(body);
    if found == computed { Ok(body) } else { Err(FrameError::Checksum { found, computed }) }
}
