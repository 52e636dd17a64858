//! An engine whose disk holds only sealed octets.
//!
//! ```text
//! entry, value:  version (1) | sealed frame
//! "format":      framed value: version (1) | check value of the key (16)
//! ```
//! What is sealed is the frame with its checksum, as an engine alone would hold it. Its place, the index or the name of the
//! value, is authenticated with it. The value under `format` is the only one in the clear: it tells a wrong key from damage.

use super::frame;
use super::{KEY_OWNER, LogEngine, LogError};
use crate::vault::{CHECK_OCTETS, Purpose, Unreadable, Vault};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

const VERSION: u8 = 1;
const KEY_FORMAT: &str = "format";

/// [`LogEngine`] on another, sealing everything.
pub(crate) struct SealedEngine<E> {
    inner: E,
    vault: Arc<Vault>,
}

impl<E: LogEngine> SealedEngine<E> {
    /// Makes sure that the engine was written with this key, or is new.
    pub(crate) fn open(inner: E, vault: Arc<Vault>) -> Result<Self, LogError> {
        let mine = [&[VERSION][..], &vault.check_value()].concat();
        match inner.meta_get(KEY_FORMAT)? {
            Some(stored) => {
                let stored = frame::decode_value(&stored)
                    .map_err(|e| LogError::Corrupt(format!("{KEY_FORMAT}: {e}")))?;
                match stored.split_first() {
                    Some((&VERSION, check)) if check.len() == CHECK_OCTETS => {
                        if stored != mine {
                            return Err(LogError::WrongKey);
                        }
                    }
                    Some((version, _)) => return Err(LogError::Format(*version)),
                    None => return Err(LogError::Corrupt(format!("{KEY_FORMAT} is empty"))),
                }
            }
            None if inner.meta_get(KEY_OWNER)?.is_some() => return Err(LogError::Unencrypted),
            None => {
                inner.meta_put(KEY_FORMAT, &frame::encode_value(&mine))?;
                inner.flush()?;
            }
        }
        Ok(Self { inner, vault })
    }

    fn seal(&self, purpose: Purpose, place: &[u8], plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = vec![VERSION];
        self.vault.seal(purpose, place, plain, &mut out)?;
        Ok(out)
    }
}

/// Opens octets in `buffer`, which holds them with their version.
fn open<'a>(
    vault: &Vault,
    purpose: Purpose,
    place: &[u8],
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Unreadable> {
    match buffer.split_first_mut() {
        Some((&mut VERSION, sealed)) => vault.open(purpose, place, sealed),
        Some(_) | None => Err(Unreadable),
    }
}

impl<E: LogEngine> LogEngine for SealedEngine<E> {
    fn append_batch(&self, frames: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let sealed: io::Result<Vec<_>> = frames
            .iter()
            .map(|(index, frame)| {
                Ok((*index, self.seal(Purpose::Entry, &index.to_be_bytes(), frame)?))
            })
            .collect();
        self.inner.append_batch(&sealed?)
    }

    fn range(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut fault = None;
        let mut buffer = Vec::new();
        self.inner.range(from, to, &mut |index, sealed| {
            buffer.clear();
            buffer.extend_from_slice(sealed);
            match open(&self.vault, Purpose::Entry, &index.to_be_bytes(), &mut buffer) {
                Ok(frame) => each(index, frame),
                Err(e) => {
                    fault = Some(format!("entry {index} {e}"));
                    ControlFlow::Break(())
                }
            }
        })?;
        fault.map_or(Ok(()), |text| Err(io::Error::new(io::ErrorKind::InvalidData, text)))
    }

    fn truncate(&self, from: u64) -> io::Result<()> {
        self.inner.truncate(from)
    }

    fn purge(&self, upto: u64) -> io::Result<()> {
        self.inner.purge(upto)
    }

    fn meta_get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut sealed) = self.inner.meta_get(key)? else { return Ok(None) };
        match open(&self.vault, Purpose::Value, key.as_bytes(), &mut sealed) {
            Ok(value) => Ok(Some(value.to_vec())),
            Err(e) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("the value {key} {e}")))
            }
        }
    }

    fn meta_put(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.inner.meta_put(key, &self.seal(Purpose::Value, key.as_bytes(), value)?)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn size_octets(&self) -> io::Result<u64> {
        self.inner.size_octets()
    }
}
