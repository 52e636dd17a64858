//! What the daemon finds in files and in its environment.

use super::DaemonError;
use crate::config::Config;
use model::Secret;
use raft_store::{ClusterCa, Identity};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// An error of the operating system, with the file that it is about.
pub(super) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> DaemonError + use<> {
    let path = path.to_owned();
    move |source| DaemonError::File { path, source }
}

/// Who this node is; `None` before init or join.
pub(super) fn load_identity(config: &Config) -> Result<Option<Identity>, DaemonError> {
    let dir = config.data_dir.join("identity");
    if dir.exists() { Ok(Some(Identity::load(&dir)?)) } else { Ok(None) }
}

/// The authority of the cluster, where this node holds it.
pub(super) fn load_ca(config: &Config) -> Result<Option<ClusterCa>, DaemonError> {
    let dir = config.data_dir.join("ca");
    if !dir.exists() {
        return Ok(None);
    }
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read_to_string(&path).map_err(at(&path))
    };
    Ok(Some(ClusterCa { cert_pem: read("ca.pem")?, key_pem: Secret::new(read("ca.key")?) }))
}

/// The proof that a caller can read the data directory; made at the first start.
pub(super) fn bootstrap_token(path: &Path) -> Result<Secret, DaemonError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let token = hex::encode(rand::random::<[u8; 32]>());
            write_secret(path, &token)?;
            Ok(Secret::new(token))
        }
        Err(source) => Err(DaemonError::File { path: path.to_owned(), source }),
    }
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, text: &str) -> Result<(), DaemonError> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(at(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(path))
}

/// Certificate chain and key of a member, for the API.
pub(super) fn chain_of(identity: &Identity) -> (Vec<u8>, Vec<u8>) {
    let chain = format!("{}{}", identity.cert_pem, identity.ca_pem);
    (chain.into_bytes(), identity.key_pem.expose().as_bytes().to_vec())
}

/// A certificate for the time before the node belongs to a cluster; made anew at each start.
pub(super) fn self_signed(config: &Config) -> Result<(Vec<u8>, Vec<u8>), DaemonError> {
    let names = vec!["localhost".to_owned(), config.name.clone(), config.api_addr.ip().to_string()];
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|e| DaemonError::Identity(raft_store::IdentityError::Generate(e)))?;
    Ok((made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes()))
}

/// Keeps the authority of the cluster.
pub(super) fn keep_ca(dir: &Path, ca: &ClusterCa) -> Result<(), DaemonError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    write_secret(&dir.join("ca.pem"), &ca.cert_pem)?;
    write_secret(&dir.join("ca.key"), ca.key_pem.expose())
}

/// The environment variable whose text signs tokens; it must be the same on all nodes.
const SECRET_VARIABLE: &str = "ABNG_API_SECRET";
/// The shortest secret that signs tokens, in octets.
const SECRET_OCTETS_MIN: usize = 16;

/// What signs tokens instead of the replicated secret.
pub(super) fn api_secret() -> Result<Option<Secret>, DaemonError> {
    match std::env::var(SECRET_VARIABLE) {
        Ok(secret) if secret.len() >= SECRET_OCTETS_MIN => Ok(Some(Secret::new(secret))),
        Ok(_) => Err(DaemonError::ApiSecret),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(DaemonError::ApiSecret),
    }
}
