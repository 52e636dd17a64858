//! The log in sled 0.34.
//!
//! sled flushes by itself every half second by default; here only the writer thread does, because only what it flushed may be
//! acknowledged. sled can panic on a damaged file, so opening is fenced by `catch_unwind`.

use super::LogEngine;
use std::fs::{File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// sled's page cache; the newest entries are cached above the engine already.
const CACHE_OCTETS: u64 = 32 << 20;
/// Removals per batch: a batch is one record of sled's own log and must fit its buffer.
const REMOVALS_PER_BATCH: u64 = 1024;
/// Opening tries the lock for three seconds: sled lets go of its file a moment after the store was closed.
const LOCK_TRIES: u32 = 300;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const ENTRIES: &[u8] = b"raft-log";
const META: &[u8] = b"raft-meta";

/// [`LogEngine`] on sled.
#[derive(Debug)]
pub(crate) struct SledEngine {
    db: sled::Db,
    entries: sled::Tree,
    meta: sled::Tree,
}

impl SledEngine {
    /// Opens or makes the store in `dir`. Blocks for up to three seconds while another holds it.
    ///
    /// # Errors
    /// `WouldBlock` when another process has the store; else what sled says, or the text of its panic.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        wait_for_lock(&dir.join("db"))?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_OCTETS)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let opened =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> sled::Result<Self> {
                let db = config.open()?;
                let entries = db.open_tree(ENTRIES)?;
                let meta = db.open_tree(META)?;
                Ok(Self { db, entries, meta })
            }));
        match opened {
            Ok(result) => result.map_err(other),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                let text = text.unwrap_or_else(|| "panic".to_owned());
                Err(io::Error::new(io::ErrorKind::InvalidData, text))
            }
        }
    }

    fn remove(&self, keys: impl Iterator<Item = sled::Result<sled::IVec>>) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        let mut pending = 0;
        for key in keys {
            batch.remove(key.map_err(other)?);
            pending += 1;
            if pending == REMOVALS_PER_BATCH {
                self.entries.apply_batch(std::mem::take(&mut batch)).map_err(other)?;
                pending = 0;
            }
        }
        self.entries.apply_batch(batch).map_err(other)
    }
}

/// Returns when nobody holds sled's lock on `file`. sled itself only tries once, and the threads of a store that was just closed
/// hold it a little longer than the store lives.
#[expect(clippy::disallowed_methods, reason = "no call waits for a file lock with a bound")]
fn wait_for_lock(file: &Path) -> io::Result<()> {
    let handle = match File::open(file) {
        Ok(handle) => handle,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for _ in 0..LOCK_TRIES {
        match handle.try_lock() {
            Ok(()) => return handle.unlock(),
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    let text = format!("{} is in use by another process", file.display());
    Err(io::Error::new(io::ErrorKind::WouldBlock, text))
}

fn other(e: sled::Error) -> io::Error {
    match e {
        sled::Error::Io(e) => e,
        e @ (sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. }) => {
            io::Error::new(io::ErrorKind::InvalidData, e.to_string())
        }
    }
}

impl LogEngine for SledEngine {
    fn append_batch(&self, frames: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for (index, frame) in frames {
            batch.insert(&index.to_be_bytes(), frame.as_slice());
        }
        self.entries.apply_batch(batch).map_err(other)
    }

    fn range(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        for item in self.entries.range(from.to_be_bytes()..to.to_be_bytes()) {
            let (key, frame) = item.map_err(other)?;
            let key: [u8; 8] = key.as_ref().try_into().map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "a key of the log is not eight octets")
            })?;
            if each(u64::from_be_bytes(key), &frame).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn truncate(&self, from: u64) -> io::Result<()> {
        self.remove(self.entries.range(from.to_be_bytes()..).keys().rev())
    }

    fn purge(&self, upto: u64) -> io::Result<()> {
        self.remove(self.entries.range(..=upto.to_be_bytes()).keys())
    }

    fn meta_get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.meta.get(key).map_err(other)?.map(|v| v.to_vec()))
    }

    fn meta_put(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.meta.insert(key, value).map(drop).map_err(other)
    }

    fn flush(&self) -> io::Result<()> {
        self.db.flush().map(drop).map_err(other)
    }

    fn size_octets(&self) -> io::Result<u64> {
        self.db.size_on_disk().map_err(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_is_let_go_meanwhile_opens_and_one_in_use_is_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(SledEngine::open(dir.path()).unwrap());
        let holder = File::open(dir.path().join("db")).unwrap();
        holder.lock().unwrap();
        let refused = SledEngine::open(dir.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().ends_with("in use by another process"), "{refused}");

        let (began, begins) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        let opener = std::thread::spawn(move || {
            began.send(()).unwrap();
            SledEngine::open(&path).map(drop)
        });
        begins.recv().unwrap();
        drop(holder);
        opener.join().unwrap().unwrap();
    }
}
