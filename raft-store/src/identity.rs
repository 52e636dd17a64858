//! Who a node is: the cluster's certificate authority and the certificates it issues.
//!
//! A node's certificate names it as `node-<id>.<cluster>.tandem`, so that a TLS handshake alone tells both ends which
//! node of which cluster they talk to. Certificates have no practical expiry: a node whose wall clock is wrong at boot must
//! still be able to join its peers, and membership, not a date, decides who may take part.

use model::{ClusterId, NodeId, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const SUFFIX: &str = ".tandem";
const NODE_PREFIX: &str = "node-";
const CA_FILE: &str = "ca.pem";
const CERT_FILE: &str = "node.pem";
const KEY_FILE: &str = "node.key";
const NAME_FILE: &str = "identity";

/// A certificate or key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The cluster id cannot stand in a DNS name.
    #[error(
        "cluster id {0:?} is not a DNS label: lower-case letters, digits and hyphens, at most 63"
    )]
    ClusterName(String),
    /// A certificate could not be made.
    #[error("certificate generation")]
    Generate(#[from] rcgen::Error),
    /// A PEM text could not be read.
    #[error("{what} is not PEM")]
    Pem {
        /// Which text.
        what: &'static str,
    },
    /// TLS refuses the key or certificate.
    #[error("TLS configuration")]
    Tls(#[from] rustls::Error),
    /// The authority cannot verify clients.
    #[error("TLS client verification: {0}")]
    Verifier(String),
    /// A file could not be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The files do not belong together.
    #[error("{path}: the certificate is for {found}, expected {expected}")]
    Mismatch {
        /// Where.
        path: String,
        /// Name in the certificate.
        found: String,
        /// Name that it must have.
        expected: String,
    },
}

impl IdentityError {
    /// The stable name, as in counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClusterName(_) => "cluster_name",
            Self::Generate(_) => "generate",
            Self::Pem { .. } => "pem",
            Self::Tls(_) => "tls",
            Self::Verifier(_) => "verifier",
            Self::File { .. } => "file",
            Self::Mismatch { .. } => "mismatch",
        }
    }
}

/// The DNS name in a node's certificate.
#[must_use]
pub fn node_name(cluster: &ClusterId, node: NodeId) -> String {
    format!("{NODE_PREFIX}{node}.{cluster}{SUFFIX}")
}

/// The node that a certificate names, `None` when it names none.
#[must_use]
pub fn peer_node_id(cert_der: &[u8]) -> Option<(ClusterId, NodeId)> {
    let (_, cert) = X509Certificate::from_der(cert_der).ok()?;
    let san = cert.subject_alternative_name().ok()??;
    san.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(dns) => parse_node_name(dns),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    })
}

fn parse_node_name(dns: &str) -> Option<(ClusterId, NodeId)> {
    let (node, cluster) = dns.strip_suffix(SUFFIX)?.strip_prefix(NODE_PREFIX)?.split_once('.')?;
    Some((ClusterId(cluster.to_owned()), NodeId(node.parse().ok()?)))
}

/// SHA-256 of the authority's certificate, as a join token carries it: the joining node can tell the right cluster from a
/// stranger before it trusts anything. Hexadecimal; empty when the text is not a certificate.
#[must_use]
pub fn fingerprint(ca_pem: &str) -> String {
    CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_or_else(|_| String::new(), |der| hex::encode(Sha256::digest(&der)))
}

/// The authority of one cluster.
#[derive(Clone, Debug)]
pub struct ClusterCa {
    /// Its certificate, which every node trusts.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: Secret,
}

/// What a node needs besides the authority's certificate.
#[derive(Clone, Debug)]
pub struct NodeCertificate {
    /// The node's certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: Secret,
}

impl ClusterCa {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// [`IdentityError::ClusterName`] when the id cannot stand in a DNS name.
    pub fn generate(cluster: &ClusterId) -> Result<Self, IdentityError> {
        check_cluster_name(cluster)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("{cluster}{SUFFIX}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key)?;
        Ok(Self { cert_pem: cert.pem(), key_pem: Secret::new(key.serialize_pem()) })
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, IdentityError> {
        let key = KeyPair::from_pem(self.key_pem.expose())?;
        Ok(Issuer::from_ca_cert_pem(&self.cert_pem, key)?)
    }

    /// Makes key and certificate of a node; for the first node, and for tests.
    ///
    /// # Errors
    /// [`IdentityError`] when the authority's own key is damaged.
    pub fn issue(
        &self,
        node: NodeId,
        cluster: &ClusterId,
        addresses: &[IpAddr],
    ) -> Result<NodeCertificate, IdentityError> {
        let key = KeyPair::generate()?;
        let cert = node_params(node, cluster, addresses)?.signed_by(&key, &self.issuer()?)?;
        Ok(NodeCertificate { cert_pem: cert.pem(), key_pem: Secret::new(key.serialize_pem()) })
    }

    /// Signs the key of a joining node, whose private half never leaves it. Only the key is taken from the request:
    /// the names are the authority's decision.
    ///
    /// # Errors
    /// [`IdentityError`] when the request is not one.
    pub fn sign_csr(
        &self,
        csr_pem: &str,
        node: NodeId,
        cluster: &ClusterId,
        addresses: &[IpAddr],
    ) -> Result<String, IdentityError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)?;
        request.params = node_params(node, cluster, addresses)?;
        Ok(request.signed_by(&self.issuer()?)?.pem())
    }
}

/// A new private key and the request to have it signed.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// PKCS#10 request.
    pub csr_pem: String,
    /// The private key.
    pub key_pem: Secret,
}

impl JoinRequest {
    /// Makes a key and its request.
    ///
    /// # Errors
    /// [`IdentityError::Generate`].
    pub fn generate() -> Result<Self, IdentityError> {
        let key = KeyPair::generate()?;
        let csr = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
        Ok(Self { csr_pem: csr.pem()?, key_pem: Secret::new(key.serialize_pem()) })
    }
}

fn check_cluster_name(cluster: &ClusterId) -> Result<(), IdentityError> {
    let name = &cluster.0;
    let good = (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good { Ok(()) } else { Err(IdentityError::ClusterName(name.clone())) }
}

fn node_params(
    node: NodeId,
    cluster: &ClusterId,
    addresses: &[IpAddr],
) -> Result<CertificateParams, IdentityError> {
    check_cluster_name(cluster)?;
    let name = node_name(cluster, node);
    let mut params = CertificateParams::new(vec![name.clone()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

/// A node's name and the means to prove it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// Certificate of the cluster's authority.
    pub ca_pem: String,
    /// The node's certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: Secret,
}

impl Identity {
    /// Reads what [`Identity::save`] wrote.
    ///
    /// # Errors
    /// [`IdentityError::File`] when a file is missing, [`IdentityError::Mismatch`] when the certificate is another node's.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| IdentityError::File { path, source })
        };
        let name = read(NAME_FILE)?;
        let (cluster_id, node) =
            parse_node_name(name.trim()).ok_or(IdentityError::Pem { what: NAME_FILE })?;
        let identity = Self {
            node,
            cluster_id,
            ca_pem: read(CA_FILE)?,
            cert_pem: read(CERT_FILE)?,
            key_pem: Secret::new(read(KEY_FILE)?),
        };
        let found = peer_node_id(&identity.cert_der()?)
            .map_or_else(|| "no node".to_owned(), |(c, n)| node_name(&c, n));
        if found == name.trim() {
            Ok(identity)
        } else {
            Err(IdentityError::Mismatch {
                path: dir.join(CERT_FILE).display().to_string(),
                found,
                expected: name.trim().to_owned(),
            })
        }
    }

    /// Writes the identity into `dir`, for the owner's eyes only (mode 0600), each file whole or not at all.
    ///
    /// # Errors
    /// [`IdentityError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        std::fs::create_dir_all(dir)
            .map_err(|source| IdentityError::File { path: dir.to_owned(), source })?;
        let name = node_name(&self.cluster_id, self.node);
        let files = [
            (CA_FILE, self.ca_pem.as_str()),
            (CERT_FILE, self.cert_pem.as_str()),
            (KEY_FILE, self.key_pem.expose()),
            (NAME_FILE, name.as_str()),
        ];
        for (file, text) in files {
            let path = dir.join(file);
            write_private(&path, text.as_bytes())
                .map_err(|source| IdentityError::File { path, source })?;
        }
        Ok(())
    }

    fn cert_der(&self) -> Result<CertificateDer<'static>, IdentityError> {
        CertificateDer::from_pem_slice(self.cert_pem.as_bytes())
            .map_err(|_| IdentityError::Pem { what: "node certificate" })
    }

    fn key_der(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes())
            .map_err(|_| IdentityError::Pem { what: "node key" })
    }

    fn roots(&self) -> Result<Arc<rustls::RootCertStore>, IdentityError> {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(self.ca_pem.as_bytes()) {
            roots.add(cert.map_err(|_| IdentityError::Pem { what: "cluster CA" })?)?;
        }
        Ok(Arc::new(roots))
    }

    /// TLS for accepting peers: a certificate of this cluster's authority is required of them. Which node it names is for
    /// the caller to check with [`peer_node_id`].
    ///
    /// # Errors
    /// [`IdentityError`] when key and certificate do not fit.
    pub fn rustls_server(&self) -> Result<Arc<rustls::ServerConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider))
                .build()
                .map_err(|e| IdentityError::Verifier(e.to_string()))?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.cert_der()?], self.key_der()?)?;
        Ok(Arc::new(config))
    }

    /// TLS for connecting to peers; the server name to ask for is [`node_name`].
    ///
    /// # Errors
    /// [`IdentityError`] when key and certificate do not fit.
    pub fn rustls_client(&self) -> Result<Arc<rustls::ClientConfig>, IdentityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.cert_der()?], self.key_der()?)?;
        Ok(Arc::new(config))
    }

    /// The same as [`Identity::rustls_server`], for tonic.
    #[must_use]
    pub fn tonic_server(&self) -> tonic::transport::ServerTlsConfig {
        tonic::transport::ServerTlsConfig::new()
            .identity(self.tonic_identity())
            .client_ca_root(tonic::transport::Certificate::from_pem(&self.ca_pem))
            .client_auth_optional(false)
    }

    /// The same as [`Identity::rustls_client`], for tonic; accepts `peer` at the other end and nobody else.
    #[must_use]
    pub fn tonic_client(&self, peer: NodeId) -> tonic::transport::ClientTlsConfig {
        tonic::transport::ClientTlsConfig::new()
            .identity(self.tonic_identity())
            .ca_certificate(tonic::transport::Certificate::from_pem(&self.ca_pem))
            .domain_name(node_name(&self.cluster_id, peer))
    }

    fn tonic_identity(&self) -> tonic::transport::Identity {
        tonic::transport::Identity::from_pem(&self.cert_pem, self.key_pem.expose())
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let tmp = path.with_extension("tmp");
    // A leftover of an earlier attempt may have another mode; `mode` below acts on new files only.
    match std::fs::remove_file(&tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&tmp, path)?;
    crate::log::sync_parent(path)
}

#[cfg(test)]
mod tests;
