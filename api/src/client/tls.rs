use super::{ClientError, TlsTrust, chain};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Sets whom the HTTP client believes.
pub(super) fn apply(
    builder: reqwest::ClientBuilder,
    trust: &TlsTrust,
) -> Result<reqwest::ClientBuilder, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        TlsTrust::System => {
            // reqwest takes the process-wide provider here. An error means that one is set already.
            let _already_set = CryptoProvider::install_default(ring::default_provider());
            return Ok(builder);
        }
        TlsTrust::Ca { pem } => {
            let tls = |e: &dyn std::error::Error| ClientError::Tls(e.to_string());
            let mut roots = RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let cert = cert.map_err(|e| tls(&e))?;
                roots.add(cert).map_err(|e| tls(&e))?;
            }
            if roots.is_empty() {
                return Err(ClientError::Tls("the CA file holds no certificate".to_owned()));
            }
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            verifier.build().map_err(|e| ClientError::Tls(chain(&e)))?
        }
        TlsTrust::Fingerprint { sha256 } => {
            let sha256 = parse_fingerprint(sha256)?;
            Arc::new(Pinned { sha256: Some(sha256), provider: provider.clone() })
        }
        TlsTrust::Insecure => Arc::new(Pinned { sha256: None, provider: provider.clone() }),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ClientError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(builder.tls_backend_preconfigured(config))
}

fn parse_fingerprint(text: &str) -> Result<[u8; 32], ClientError> {
    let digits: String = text.chars().filter(|c| *c != ':' && !c.is_whitespace()).collect();
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&digits, &mut sha256).map_err(|_| {
        ClientError::Tls(format!("{text:?} is not a SHA-256 of 64 hexadecimal digits"))
    })?;
    Ok(sha256)
}

/// Believes a chain that ends in the certificate with this SHA-256; anything when there is none.
#[derive(Debug)]
struct Pinned {
    sha256: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(sha256) = self.sha256 else { return Ok(ServerCertVerified::assertion()) };
        let is_pinned = |cert: &CertificateDer<'_>| Sha256::digest(cert.as_ref())[..] == sha256;
        // The handshake signature, checked below, proves that the peer holds the key of this one.
        if is_pinned(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let Some(anchor) = intermediates.iter().find(|cert| is_pinned(cert)) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(anchor.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
