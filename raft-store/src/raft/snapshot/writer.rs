use super::{BLOCK_OCTETS, SnapshotMeta, header, prefix};
use crate::state::Section;
use crate::vault::{Blocks, Place, Vault};
use model::ClusterId;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes the body: sealed blocks, and the digest of all of it.
struct Body<W> {
    inner: W,
    digest: Sha256,
    blocks: Blocks,
}

impl<W: Write> Body<W> {
    fn put(&mut self, octets: &[u8]) -> io::Result<()> {
        self.digest.update(octets);
        self.inner.write_all(octets)
    }

    fn block(&mut self, mut content: Vec<u8>) -> io::Result<()> {
        self.blocks.seal(Place::Middle, &mut content)?;
        self.put(&length(content.len())?)?;
        self.put(&content)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut tag = Vec::new();
        self.blocks.seal(Place::End, &mut tag)?;
        self.put(&0_u32.to_le_bytes())?;
        self.put(&tag)
    }
}

fn length(n: usize) -> io::Result<[u8; 4]> {
    let n = u32::try_from(n).map_err(|_| io::Error::other("a snapshot record is too large"))?;
    Ok(n.to_le_bytes())
}

/// Writes a whole snapshot to `path` and makes it durable.
pub(crate) fn write(
    path: &Path,
    vault: &Vault,
    cluster: &ClusterId,
    meta: &SnapshotMeta,
    sections: &[Section],
) -> io::Result<()> {
    let key = vault.file_key()?;
    let mut inner = BufWriter::with_capacity(BLOCK_OCTETS, File::create(path)?);
    inner.write_all(&prefix(vault, &key)?)?;
    let mut out = Body { inner, digest: Sha256::new(), blocks: Blocks::new(&key) };
    out.block(header(cluster, meta).encode_to_vec())?;
    for section in sections {
        let mut records = section.records.as_slice();
        // An empty section still gets its block: absent and empty are not the same.
        loop {
            let taken = write_part(&mut out, section.kind, records)?;
            records = &records[taken..];
            if records.is_empty() {
                break;
            }
        }
    }
    out.end()?;
    let Body { mut inner, digest, .. } = out;
    inner.write_all(&digest.finalize())?;
    inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn write_part<W: Write>(out: &mut Body<W>, kind: u32, records: &[Vec<u8>]) -> io::Result<usize> {
    let mut content = Vec::with_capacity(BLOCK_OCTETS);
    content.extend_from_slice(&kind.to_le_bytes());
    content.extend_from_slice(&[0; 4]);
    let mut taken = 0;
    for record in records {
        if taken > 0 && content.len() + record.len() > BLOCK_OCTETS {
            break;
        }
        content.extend_from_slice(&length(record.len())?);
        content.extend_from_slice(record);
        taken += 1;
    }
    content[4..8].copy_from_slice(&length(taken)?);
    out.block(content)?;
    Ok(taken)
}
