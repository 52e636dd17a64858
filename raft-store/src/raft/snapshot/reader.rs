use super::{
    BLOCK_OCTETS, BLOCK_OCTETS_MAX, DIGEST_OCTETS, PREFIX_OCTETS, SnapshotError, SnapshotHandle,
    SnapshotMeta, meta,
};
use crate::raft::wire::proto;
use crate::state::Section;
use crate::vault::{Blocks, Place, TAG_OCTETS};
use model::ClusterId;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

/// What a snapshot holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) meta: SnapshotMeta,
    pub(crate) sections: Vec<Section>,
}

/// Reads the body: sealed blocks, and the digest of all of it.
struct Body<R> {
    inner: R,
    digest: Sha256,
    blocks: Blocks,
}

impl<R: Read> Body<R> {
    fn get<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut octets = [0; N];
        self.fill(&mut octets)?;
        Ok(octets)
    }

    fn fill(&mut self, octets: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner.read_exact(octets).map_err(ended)?;
        self.digest.update(octets);
        Ok(())
    }

    /// The next block; `None` at the end mark.
    fn block(&mut self) -> Result<Option<Vec<u8>>, SnapshotError> {
        let length = u32::from_le_bytes(self.get()?);
        if length == 0 {
            let mut end = self.get::<TAG_OCTETS>()?.to_vec();
            self.blocks.open(Place::End, &mut end)?;
            return Ok(None);
        }
        if length > BLOCK_OCTETS_MAX {
            return Err(SnapshotError::Damaged(format!("a block of {length} octets")));
        }
        let mut content = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.fill(&mut content)?;
        self.blocks.open(Place::Middle, &mut content)?;
        Ok(Some(content))
    }
}

fn ended(e: io::Error) -> SnapshotError {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        SnapshotError::Damaged("the file ends early".to_owned())
    } else {
        SnapshotError::Io(e)
    }
}

/// Reads and checks a whole snapshot.
pub(crate) fn read(
    handle: &SnapshotHandle,
    cluster: &ClusterId,
) -> Result<Contents, SnapshotError> {
    // A descriptor of its own: the handle's position is shared by all who hold it.
    let mut file = File::open(&handle.path).or_else(|_| handle.file.try_clone())?;
    file.seek(SeekFrom::Start(PREFIX_OCTETS))?;
    let inner = BufReader::with_capacity(BLOCK_OCTETS, file);
    let mut from = Body { inner, digest: Sha256::new(), blocks: Blocks::new(&handle.key) };
    let header = from.block()?.ok_or_else(|| SnapshotError::Damaged("no header".to_owned()))?;
    let header = proto::SnapshotHeader::decode(header.as_slice())
        .map_err(|e| SnapshotError::Damaged(format!("header: {e}")))?;
    if header.cluster != cluster.0 {
        let expected = cluster.0.clone();
        return Err(SnapshotError::Cluster { found: header.cluster, expected });
    }
    let mut sections: Vec<Section> = Vec::new();
    while let Some(block) = from.block()? {
        let (kind, mut records) = part(&block)
            .ok_or_else(|| SnapshotError::Damaged("a block's records do not add up".to_owned()))?;
        match sections.last_mut() {
            Some(last) if last.kind == kind => last.records.append(&mut records),
            Some(_) | None => sections.push(Section { kind, records }),
        }
    }
    let Body { mut inner, digest, .. } = from;
    let mut stored = [0; DIGEST_OCTETS];
    inner.read_exact(&mut stored).map_err(ended)?;
    if digest.finalize()[..] != stored {
        return Err(SnapshotError::Damaged("the digest differs".to_owned()));
    }
    if inner.read(&mut [0])? != 0 {
        return Err(SnapshotError::Damaged("octets after the end".to_owned()));
    }
    Ok(Contents { meta: meta(header)?, sections })
}

fn part(block: &[u8]) -> Option<(u32, Vec<Vec<u8>>)> {
    let (kind, rest) = block.split_first_chunk::<4>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut records = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, tail) = rest.split_first_chunk::<4>()?;
        let (record, tail) = tail.split_at_checked(u32::from_le_bytes(*length).try_into().ok()?)?;
        records.push(record.to_vec());
        rest = tail;
    }
    rest.is_empty().then_some((u32::from_le_bytes(*kind), records))
}
