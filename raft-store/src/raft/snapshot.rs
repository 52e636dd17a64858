//! Snapshot files.
//!
//! ```text
//! prefix:  magic "TNDMSNAP" | version (4) | sealed key of the file (72)
//! body:    block* | end
//! block:   length (4) | content, sealed under the file's key
//! end:     length 0 (4) | seal of nothing (16) | sha256 of the body before it (32)
//! ```
//! The first block is a `SnapshotHeader` (protobuf). Each other block is a part of one section: kind (4), number of
//! records (4), then each record's length (4) and octets. Integers are little-endian. A file appears under its name only
//! when it is whole and durable; two are kept, so that one damaged file does not cost the node its identity.
//!
//! Each file has its own key, sealed in the prefix under the node's. The body therefore goes to other nodes as it is, with
//! the key beside it, and a node that receives it writes a prefix of its own: nothing is encrypted anew, a broken transfer
//! goes on where it stopped, and its first part on disk is as unreadable as the whole.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use super::wire::proto;
use super::{LogId, SnapshotMeta, StoredMembership};
use crate::vault::{FileKey, KEY_OCTETS, Purpose, SEAL_OCTETS, Unreadable, Vault};
use model::ClusterId;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use reader::read;
pub(crate) use writer::write;

const MAGIC: &[u8; 8] = b"TNDMSNAP";
const VERSION: u32 = 2;
const PREFIX_LEN: usize = MAGIC.len() + 4 + KEY_OCTETS + SEAL_OCTETS;
/// Octets of a file before its body.
pub(crate) const PREFIX_OCTETS: u64 = PREFIX_LEN as u64;
const DIGEST_OCTETS: usize = 32;
/// Content of a block, unless one record alone is larger.
const BLOCK_OCTETS: usize = 256 << 10;
/// A longer block is damage.
const BLOCK_OCTETS_MAX: u32 = 64 << 20;
/// Files kept.
const KEEP: usize = 2;
const PREFIX: &str = "snap-";
const SUFFIX: &str = ".tandem";
const PARTIAL_PREFIX: &str = "partial-";
/// Unfinished transfers kept for resuming.
const PARTIALS_KEPT: usize = 2;

/// A snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a snapshot")]
    Magic,
    #[error("format version {0}, this build reads {VERSION}")]
    Version(u32),
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("of cluster {found}, this is {expected}")]
    Cluster { found: String, expected: String },
    #[error("contents: {0}")]
    Contents(String),
}

impl From<Unreadable> for SnapshotError {
    fn from(e: Unreadable) -> Self {
        Self::Damaged(e.to_string())
    }
}

impl From<SnapshotError> for io::Error {
    fn from(e: SnapshotError) -> Self {
        match e {
            SnapshotError::Io(e) => e,
            e @ (SnapshotError::Magic
            | SnapshotError::Version(_)
            | SnapshotError::Damaged(_)
            | SnapshotError::Cluster { .. }
            | SnapshotError::Contents(_)) => {
                Self::new(io::ErrorKind::InvalidData, format!("snapshot: {e}"))
            }
        }
    }
}

/// A snapshot file that stays readable while this exists, also when its name is gone.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotHandle {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    /// Of the body, which is what nodes send each other.
    pub(crate) length: u64,
    pub(crate) digest: [u8; DIGEST_OCTETS],
    pub(crate) key: FileKey,
}

impl SnapshotHandle {
    fn open(path: &Path, vault: &Vault) -> Result<Self, SnapshotError> {
        let file = File::open(path)?;
        let whole = file.metadata()?.len();
        let short = || SnapshotError::Damaged(format!("{whole} octets are no snapshot"));
        let length = whole.checked_sub(PREFIX_OCTETS).ok_or_else(short)?;
        let mut octets = [0; PREFIX_LEN];
        file.read_exact_at(&mut octets, 0)?;
        let key = open_prefix(vault, octets)?;
        let mut digest = [0; DIGEST_OCTETS];
        let at = length.checked_sub(digest.len() as u64).ok_or_else(short)?;
        file.read_exact_at(&mut digest, PREFIX_OCTETS + at)?;
        Ok(Self { file: Arc::new(file), path: path.to_owned(), length, digest, key })
    }

    /// Reads a part of the body.
    pub(crate) fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(octets, PREFIX_OCTETS + offset)
    }
}

fn prefix(vault: &Vault, key: &FileKey) -> io::Result<Vec<u8>> {
    let mut out = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    vault.seal(Purpose::SnapshotKey, &[], &key.0, &mut out)?;
    Ok(out)
}

fn open_prefix(vault: &Vault, mut octets: [u8; PREFIX_LEN]) -> Result<FileKey, SnapshotError> {
    let (start, sealed) = octets.split_at_mut(MAGIC.len() + 4);
    let (magic, version) = start.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(SnapshotError::Magic);
    }
    let version = u32::from_le_bytes(version.try_into().unwrap_or_default());
    if version != VERSION {
        return Err(SnapshotError::Version(version));
    }
    let key: &[u8] = vault.open(Purpose::SnapshotKey, &[], sealed)?;
    let key = key.try_into().map_err(|_| SnapshotError::Damaged("its key is short".to_owned()))?;
    Ok(FileKey(key))
}

/// A file and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) meta: SnapshotMeta,
    pub(crate) handle: SnapshotHandle,
}

/// The directory of snapshots.
#[derive(Debug)]
pub(crate) struct SnapshotDir {
    dir: PathBuf,
    cluster: ClusterId,
    vault: Arc<Vault>,
    current: Mutex<Option<Current>>,
}

impl SnapshotDir {
    /// Opens the directory and finds the newest snapshot that is whole. A damaged one is set aside under another name.
    pub(crate) fn open(dir: PathBuf, cluster: ClusterId, vault: Arc<Vault>) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "tmp") {
                // A snapshot that a crash cut short.
                std::fs::remove_file(path)?;
            }
        }
        let this = Self { dir, cluster, vault, current: Mutex::new(None) };
        for path in this.list(PREFIX)?.into_iter().rev() {
            let checked =
                this.handle(&path).and_then(|handle| Ok((read(&handle, &this.cluster)?, handle)));
            match checked {
                Ok((contents, handle)) => {
                    this.set_current(Some(Current { meta: contents.meta, handle }));
                    break;
                }
                Err(SnapshotError::Version(v)) => {
                    return Err(SnapshotError::Version(v).into());
                }
                Err(e) => {
                    tracing::error!(
                        path = %path.display(), error = %e,
                        "snapshot is unusable and set aside; trying an older one"
                    );
                    let mut aside = path.clone().into_os_string();
                    aside.push(".damaged");
                    std::fs::rename(&path, aside)?;
                }
            }
        }
        Ok(this)
    }

    pub(crate) fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    pub(crate) fn handle(&self, path: &Path) -> Result<SnapshotHandle, SnapshotError> {
        SnapshotHandle::open(path, &self.vault)
    }

    pub(crate) fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(&self, current: Option<Current>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn name(&self, last: Option<LogId>) -> PathBuf {
        let (index, term) = last.map_or((0, 0), |id| (id.index, id.leader_id.term));
        self.dir.join(format!("{PREFIX}{index:020}-{term:020}{SUFFIX}"))
    }

    /// Writes and keeps a snapshot.
    pub(crate) fn save(
        &self,
        meta: &SnapshotMeta,
        sections: &[crate::state::Section],
    ) -> io::Result<SnapshotHandle> {
        let path = self.name(meta.last_log_id);
        let tmp = path.with_extension("tmp");
        write(&tmp, &self.vault, &self.cluster, meta, sections)?;
        self.adopt(&tmp, meta)
    }

    /// Gives a whole file its name, and drops older ones.
    fn adopt(&self, tmp: &Path, meta: &SnapshotMeta) -> io::Result<SnapshotHandle> {
        let path = self.name(meta.last_log_id);
        std::fs::rename(tmp, &path)?;
        crate::log::sync_parent(&path)?;
        let handle = self.handle(&path)?;
        self.set_current(Some(Current { meta: meta.clone(), handle: handle.clone() }));
        let files = self.list(PREFIX)?;
        for old in files.iter().rev().skip(KEEP) {
            std::fs::remove_file(old)?;
        }
        Ok(handle)
    }

    /// Keeps a file that is whole: one that [`SnapshotDir::partial`] named, or another directory's.
    pub(crate) fn install(
        &self,
        handle: &SnapshotHandle,
        meta: &SnapshotMeta,
    ) -> io::Result<SnapshotHandle> {
        let target = self.name(meta.last_log_id);
        if handle.path == target {
            self.set_current(Some(Current { meta: meta.clone(), handle: handle.clone() }));
            return Ok(handle.clone());
        }
        if handle.path.parent() == Some(&self.dir) {
            return self.adopt(&handle.path, meta);
        }
        let tmp = target.with_extension("tmp");
        let mut from = File::open(&handle.path).or_else(|_| handle.file.try_clone())?;
        from.seek(SeekFrom::Start(PREFIX_OCTETS))?;
        self.begin(&tmp, &handle.key)?;
        let mut to = File::options().append(true).open(&tmp)?;
        io::copy(&mut from.take(handle.length), &mut to)?;
        to.sync_all()?;
        self.adopt(&tmp, meta)
    }

    /// Where the octets of an incoming file are collected. The name tells files with different contents apart, so that a
    /// transfer can go on where an earlier one broke off.
    pub(crate) fn partial(&self, file: &proto::SnapshotProbe) -> io::Result<PathBuf> {
        let last = file.last.unwrap_or_default();
        let digest = hex::encode(&file.digest);
        if digest.len() != 2 * DIGEST_OCTETS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "digest has a wrong length"));
        }
        let name = format!("{PARTIAL_PREFIX}{:020}-{:020}-{digest}", last.index, last.term);
        for old in self.list(PARTIAL_PREFIX)?.iter().rev().skip(PARTIALS_KEPT) {
            std::fs::remove_file(old)?;
        }
        Ok(self.dir.join(name))
    }

    /// Begins a file with this node's own prefix; the body comes from elsewhere.
    pub(crate) fn begin(&self, path: &Path, key: &FileKey) -> io::Result<()> {
        File::create(path)?.write_all(&prefix(&self.vault, key)?)
    }

    /// Files whose name begins with `prefix`, oldest first.
    fn list(&self, prefix: &str) -> io::Result<Vec<PathBuf>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(prefix) && (prefix != PREFIX || name.ends_with(SUFFIX)) {
                out.push(entry.path());
            }
        }
        out.sort();
        Ok(out)
    }
}

pub(crate) fn header(cluster: &ClusterId, meta: &SnapshotMeta) -> proto::SnapshotHeader {
    proto::SnapshotHeader {
        cluster: cluster.0.clone(),
        last: meta.last_log_id.map(Into::into),
        membership: Some((&meta.last_membership).into()),
    }
}

fn meta(header: proto::SnapshotHeader) -> Result<SnapshotMeta, SnapshotError> {
    let membership = header.membership.ok_or_else(|| missing("membership"))?;
    let last_membership: StoredMembership =
        membership.try_into().map_err(|e: super::wire::WireError| missing(&e.to_string()))?;
    Ok(SnapshotMeta { last_log_id: header.last.map(Into::into), last_membership })
}

fn missing(what: &str) -> SnapshotError {
    SnapshotError::Damaged(format!("header: {what}"))
}
