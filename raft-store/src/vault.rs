//! Encryption at rest: what this node writes to disk can be read only with its own key.
//!
//! The log and the snapshots hold passwords and signing keys. A disk that is returned, copied or backed up must not give
//! them away, so everything that may hold them is sealed with AES-256-GCM under keys derived from one 256-bit key in a
//! file of its own ([`key_file`]). The key never leaves the node.
//!
//! ```text
//! sealed:  nonce (24) | ciphertext | tag (16)
//! ```
//! AES-GCM alone has 96-bit nonces, too few to draw at random for every entry of a log. So each sealing draws 192 random
//! bits: the first 128 select a key, by the counter-mode KDF of NIST SP 800-108r1 §4.1 with HMAC-SHA-256, the other 64 are
//! the nonce under it. Two sealings collide only if all 192 bits do. There is no counter that a crash, a restored backup
//! or a cloned virtual machine could set back.

pub(crate) mod key_file;
#[cfg(test)]
mod tests;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fmt;
use std::io;

/// Octets of a key.
pub(crate) const KEY_OCTETS: usize = 32;
/// Octets of the tag that proves that nothing was changed.
pub(crate) const TAG_OCTETS: usize = 16;
/// Octets that sealing adds.
pub(crate) const SEAL_OCTETS: usize = SELECTOR_OCTETS + DRAWN_NONCE_OCTETS + TAG_OCTETS;
/// Octets of [`Vault::check_value`].
pub(crate) const CHECK_OCTETS: usize = 16;
const SELECTOR_OCTETS: usize = 16;
const DRAWN_NONCE_OCTETS: usize = 8;

/// What is sealed. Each has keys of its own, so that none can be passed off as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An entry of the log.
    Entry,
    /// A small value beside the log.
    Value,
    /// The key of one snapshot file.
    SnapshotKey,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Entry => b"tandem log entry",
            Self::Value => b"tandem log value",
            Self::SnapshotKey => b"tandem snapshot key",
        }
    }
}

/// Sealed octets were not sealed with this key, for this purpose and place, or were changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be decrypted: damaged, or not written by this node for this place")]
pub(crate) struct Unreadable;

impl From<Unreadable> for io::Error {
    fn from(e: Unreadable) -> Self {
        Self::new(io::ErrorKind::InvalidData, e.to_string())
    }
}

/// Fills `octets` from the kernel's random source.
fn draw(random: &SystemRandom, octets: &mut [u8]) -> io::Result<()> {
    random.fill(octets).map_err(|_| io::Error::other("the kernel gives no random octets"))
}

fn aead(key: &[u8; KEY_OCTETS]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes every key of 32 octets");
    LessSafeKey::new(key)
}

/// The node's key, ready for use.
pub(crate) struct Vault {
    key: hmac::Key,
    random: SystemRandom,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    pub(crate) fn new(key: &[u8; KEY_OCTETS]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), random: SystemRandom::new() }
    }

    /// One block of the KDF: counter, label, zero, context, length in bits. NIST SP 800-108r1 §4.1.
    fn derive(&self, label: &[u8], context: &[u8]) -> [u8; KEY_OCTETS] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&1_u32.to_be_bytes());
        mac.update(label);
        mac.update(&[0]);
        mac.update(context);
        mac.update(&256_u32.to_be_bytes());
        let mut key = [0; KEY_OCTETS];
        key.copy_from_slice(mac.sign().as_ref());
        key
    }

    /// A value that tells this key from others and says nothing about it.
    pub(crate) fn check_value(&self) -> [u8; CHECK_OCTETS] {
        let mut value = [0; CHECK_OCTETS];
        value.copy_from_slice(&self.derive(b"tandem key check", &[])[..CHECK_OCTETS]);
        value
    }

    /// Appends `plain`, sealed, to `out`. Whoever opens it must name the same purpose and place.
    pub(crate) fn seal(
        &self,
        purpose: Purpose,
        place: &[u8],
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut drawn = [0; SELECTOR_OCTETS + DRAWN_NONCE_OCTETS];
        draw(&self.random, &mut drawn)?;
        let (key, nonce) = self.select(purpose, &drawn);
        out.reserve(SEAL_OCTETS + plain.len());
        out.extend_from_slice(&drawn);
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(place), &mut out[start..])
            .map_err(|_| io::Error::other("too many octets to be sealed at once"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Reads what [`Vault::seal`] wrote, in place.
    pub(crate) fn open<'a>(
        &self,
        purpose: Purpose,
        place: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], Unreadable> {
        let (drawn, rest) = sealed
            .split_first_chunk_mut::<{ SELECTOR_OCTETS + DRAWN_NONCE_OCTETS }>()
            .ok_or(Unreadable)?;
        let (key, nonce) = self.select(purpose, drawn);
        let plain = key.open_in_place(nonce, Aad::from(place), rest).map_err(|_| Unreadable)?;
        Ok(plain)
    }

    fn select(
        &self,
        purpose: Purpose,
        drawn: &[u8; SELECTOR_OCTETS + DRAWN_NONCE_OCTETS],
    ) -> (LessSafeKey, Nonce) {
        let (selector, rest) = drawn.split_at(SELECTOR_OCTETS);
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - DRAWN_NONCE_OCTETS..].copy_from_slice(rest);
        let key = aead(&self.derive(purpose.label(), selector));
        (key, Nonce::assume_unique_for_key(nonce))
    }

    /// Draws the key of a new file.
    pub(crate) fn file_key(&self) -> io::Result<FileKey> {
        let mut key = [0; KEY_OCTETS];
        draw(&self.random, &mut key)?;
        Ok(FileKey(key))
    }
}

/// The key of one snapshot file: drawn for it and used for nothing else, so its blocks are simply numbered. It travels with
/// the file to other nodes, which keep it sealed under their own.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FileKey(pub(crate) [u8; KEY_OCTETS]);

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileKey(..)")
    }
}

/// Seals or opens the blocks of one file, in their order.
pub(crate) struct Blocks {
    key: LessSafeKey,
    next: u64,
}

/// Whether more blocks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Middle,
    /// An empty block that proves that the file is whole.
    End,
}

impl Place {
    fn aad(self) -> Aad<[u8; 1]> {
        Aad::from(match self {
            Self::Middle => [0],
            Self::End => [1],
        })
    }
}

impl Blocks {
    pub(crate) fn new(key: &FileKey) -> Self {
        Self { key: aead(&key.0), next: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a block and appends its tag.
    pub(crate) fn seal(&mut self, place: Place, block: &mut Vec<u8>) -> io::Result<()> {
        let nonce = self.nonce();
        self.key
            .seal_in_place_append_tag(nonce, place.aad(), block)
            .map_err(|_| io::Error::other("a block is too large to be sealed"))
    }

    /// Opens the next block and takes its tag off.
    pub(crate) fn open(&mut self, place: Place, block: &mut Vec<u8>) -> Result<(), Unreadable> {
        let nonce = self.nonce();
        let plain = self.key.open_in_place(nonce, place.aad(), block).map_err(|_| Unreadable)?;
        let length = plain.len();
        block.truncate(length);
        Ok(())
    }
}
