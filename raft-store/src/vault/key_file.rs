//! The file with the node's key: one line of text, so that it can be kept on paper.
//!
//! ```text
//! tandem-storage-key-1:<64 hexadecimal digits>
//! ```
//! It is made at the first start, before anything is written that needs it, and never again while there is a store.

use super::{KEY_OCTETS, Vault};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const PREFIX: &str = "tandem-storage-key-1:";
/// Octets of the file, without its line end.
const TEXT_OCTETS: usize = PREFIX.len() + 2 * KEY_OCTETS;
/// A longer file is not a key.
const FILE_OCTETS_MAX: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error("missing")]
    Missing,
    #[error("{0}")]
    Unusable(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the key; makes one when there is neither a key nor a store that would need it.
pub(crate) fn load(path: &Path, store_exists: bool) -> Result<Vault, KeyFileError> {
    let text = match read(path) {
        Ok(text) => text,
        Err(KeyFileError::Missing) if !store_exists => return create(path),
        Err(e) => return Err(e),
    };
    if let Some(key) = parse(&text) {
        return Ok(Vault::new(&key));
    }
    if !store_exists && text.len() < TEXT_OCTETS && PREFIX.as_bytes().starts_with(head(&text)) {
        // The first start was interrupted while it wrote the key; nothing was sealed with it.
        std::fs::remove_file(path)?;
        return create(path);
    }
    Err(KeyFileError::Unusable(format!("it does not hold one line {PREFIX}<64 hex digits>")))
}

fn head(text: &[u8]) -> &[u8] {
    &text[..text.len().min(PREFIX.len())]
}

fn read(path: &Path) -> Result<Vec<u8>, KeyFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(KeyFileError::Missing),
        Err(e) => return Err(e.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(KeyFileError::Unusable("it is not a file".to_owned()));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others than its owner may use it (mode {mode:04o}): chmod 600 it");
        return Err(KeyFileError::Unusable(why));
    }
    let mut text = Vec::new();
    file.take(FILE_OCTETS_MAX).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(text: &[u8]) -> Option<[u8; KEY_OCTETS]> {
    let digits = text.trim_ascii().strip_prefix(PREFIX.as_bytes())?;
    let mut key = [0; KEY_OCTETS];
    hex::decode_to_slice(digits, &mut key).ok()?;
    Some(key)
}

fn create(path: &Path) -> Result<Vault, KeyFileError> {
    let mut key = [0; KEY_OCTETS];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| io::Error::other("the kernel gives no random octets"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{PREFIX}{}", hex::encode(key))?;
    // Durable before the first octet that needs it.
    file.sync_all()?;
    crate::log::sync_parent(path)?;
    tracing::info!(
        event = "TANDEM-STORAGE-KEY-CREATED",
        path = %path.display(),
        "made the key that encrypts this node's store; keep a copy of it apart from the store"
    );
    Ok(Vault::new(&key))
}
