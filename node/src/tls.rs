//! TLS of the API listener: protocol versions, certificate, and its reload without dropping
//! connections.

use crate::clock;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the files are looked at. A certificate is replaced days before it expires.
const POLL: Duration = Duration::from_secs(5);

fn wrong(cause: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, cause.to_string())
}

/// Versions 1.2 and 1.3 and nothing else: RFC 8996 retires those before.
fn server_config(chain: &[u8], key: &[u8]) -> io::Result<Arc<ServerConfig>> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(wrong)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn digest(chain: &[u8], key: &[u8]) -> [u8; 32] {
    let digest = Sha256::new().chain_update(Sha256::digest(chain));
    digest.chain_update(Sha256::digest(key)).finalize().into()
}

/// What the listener shows to new connections. Those that are there keep what they have.
#[derive(Clone, Debug)]
pub struct ApiTls {
    config: RustlsConfig,
    files: Option<Files>,
}

#[derive(Clone, Debug)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
    /// Of what is in use.
    digest: [u8; 32],
}

impl ApiTls {
    /// Certificate chain and key from PEM text.
    ///
    /// # Errors
    /// When they are none, or do not belong together.
    pub fn of_pem(chain: &[u8], key: &[u8]) -> io::Result<Self> {
        let config = RustlsConfig::from_config(server_config(chain, key)?);
        Ok(Self { config, files: None })
    }

    /// Certificate chain and key from PEM files, which [`ApiTls::follow_files`] looks at again.
    ///
    /// # Errors
    /// When they cannot be read, are none, or do not belong together.
    pub fn of_files(chain: &Path, key: &Path) -> io::Result<Self> {
        let (chain_pem, key_pem) = (std::fs::read(chain)?, std::fs::read(key)?);
        let digest = digest(&chain_pem, &key_pem);
        let files = Files { chain: chain.to_owned(), key: key.to_owned(), digest };
        Ok(Self { files: Some(files), ..Self::of_pem(&chain_pem, &key_pem)? })
    }

    /// For the server.
    #[must_use]
    pub fn config(&self) -> RustlsConfig {
        self.config.clone()
    }

    /// Shows another certificate from now on.
    ///
    /// # Errors
    /// As with [`ApiTls::of_pem`]; then nothing changes.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> io::Result<()> {
        self.config.reload_from_config(server_config(chain, key)?);
        Ok(())
    }

    /// Takes up changed files on SIGHUP, and without it after a while. Does not end.
    pub async fn follow_files(self) {
        self.follow(POLL).await;
    }

    async fn follow(mut self, poll: Duration) {
        // Without a handler the signal would end the process.
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return std::future::pending().await;
        };
        // The same fault is told once, not every few seconds.
        let mut told = None;
        loop {
            tokio::select! {
                _ = hangup.recv() => told = None,
                () = clock::until(Some(clock::now() + poll)) => {}
            }
            self.look(&mut told).await;
        }
    }

    /// Takes up files that changed. The fault that is in `told` is not told again.
    async fn look(&mut self, told: &mut Option<String>) {
        let Some(files) = &mut self.files else { return };
        let read = async {
            io::Result::Ok((
                tokio::fs::read(&files.chain).await?,
                tokio::fs::read(&files.key).await?,
            ))
        };
        let changed = match read.await {
            Ok((chain, key)) if digest(&chain, &key) == files.digest => return,
            Ok((chain, key)) => {
                server_config(&chain, &key).map(|config| (config, digest(&chain, &key)))
            }
            Err(error) => Err(error),
        };
        match changed {
            Ok((config, digest)) => {
                self.config.reload_from_config(config);
                files.digest = digest;
                *told = None;
                tracing::info!(
                    event = "TANDEM-TLS-RELOADED",
                    chain = %files.chain.display(),
                    "new connections get the new certificate"
                );
            }
            // While two files are being replaced they do not belong together for a moment.
            Err(error) if told.as_deref() != Some(error.to_string().as_str()) => {
                tracing::warn!(
                    event = "TANDEM-TLS-REFUSED",
                    chain = %files.chain.display(),
                    %error,
                    "the certificate in use stays"
                );
                *told = Some(error.to_string());
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// Believes everybody, and remembers the certificate it saw.
    #[derive(Debug, Default)]
    struct Witness(Mutex<Vec<u8>>);

    impl ServerCertVerifier for Witness {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.0.lock().unwrap() = end_entity.to_vec();
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }

    type Connection = tokio_rustls::client::TlsStream<TcpStream>;

    async fn connect(
        to: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> (Connection, Vec<u8>) {
        let witness = Arc::new(Witness::default());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(witness.clone())
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let socket = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, socket).await.unwrap();
        let seen = witness.0.lock().unwrap().clone();
        (stream, seen)
    }

    async fn ask(connection: &mut Connection) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        connection.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            let mut part = [0; 512];
            let n = connection.read(&mut part).await.unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..n]);
        }
        String::from_utf8(answer).unwrap()
    }

    fn serve(tls: &ApiTls) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        let server = axum_server::from_tcp_rustls(listener, tls.config()).unwrap();
        tokio::spawn(server.serve(router.into_make_service()));
        addr
    }

    struct Made {
        chain: String,
        key: String,
        der: Vec<u8>,
    }

    fn make() -> Made {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (chain, der) = (made.cert.pem(), made.cert.der().to_vec());
        Made { chain, key: made.signing_key.serialize_pem(), der }
    }

    #[tokio::test]
    async fn versions_1_2_and_1_3_are_spoken_and_no_other() {
        let made = make();
        let tls = ApiTls::of_pem(made.chain.as_bytes(), made.key.as_bytes()).unwrap();
        let addr = serve(&tls);
        for version in [&TLS12, &TLS13] {
            let (mut connection, seen) = connect(addr, &[version]).await;
            assert_eq!(seen, made.der);
            assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200"));
        }
        // A ClientHello of TLS 1.1 (RFC 4346 §7.4.1.2): record and handshake headers, version,
        // 32 random octets, no session, one cipher suite, no compression.
        let mut hello = vec![3, 2];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
        let length = u8::try_from(hello.len()).unwrap();
        let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        record.extend(hello);
        let mut socket = TcpStream::connect(addr).await.unwrap();
        socket.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert, RFC 5246 §7.2: {answer:?}");
        assert_eq!(answer.get(5), Some(&2), "a fatal one: {answer:?}");
    }

    /// Waits until a new connection sees this certificate.
    async fn wait_for(addr: SocketAddr, der: &[u8]) {
        let seen = async {
            while connect(addr, &[&TLS13]).await.1 != der {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the new certificate");
    }

    #[tokio::test]
    async fn a_changed_certificate_is_taken_up_and_connections_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        let write = |made: &Made| {
            std::fs::write(&chain, &made.chain).unwrap();
            std::fs::write(&key, &made.key).unwrap();
        };
        let (first, second, third) = (make(), make(), make());
        write(&first);
        let tls = ApiTls::of_files(&chain, &key).unwrap();
        let addr = serve(&tls);
        let (mut old, seen) = connect(addr, &[&TLS13]).await;
        assert_eq!(seen, first.der);
        let polling = tokio::spawn(tls.clone().follow(Duration::from_millis(20)));
        ask(&mut old).await;

        // Files that do not belong together, or are none, change nothing.
        std::fs::write(&chain, &second.chain).unwrap();
        std::fs::write(&key, "junk").unwrap();
        let mut told = None;
        tls.clone().look(&mut told).await;
        assert!(told.is_some(), "it looked, and refused them");
        assert_eq!(connect(addr, &[&TLS13]).await.1, first.der);
        write(&second);
        wait_for(addr, &second.der).await;
        assert!(ask(&mut old).await.starts_with("HTTP/1.1 200"), "the connection is kept");
        polling.abort();

        // By signal, long before it would look by itself.
        let following = tokio::spawn(tls.follow(Duration::from_secs(3600)));
        write(&third);
        let hung_up = async {
            loop {
                // The handler may not be there yet: a signal to a process that has one is harmless.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let me = std::process::id().to_string();
                std::process::Command::new("kill").args(["-HUP", &me]).status().unwrap();
                if connect(addr, &[&TLS13]).await.1 == third.der {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), hung_up).await.expect("SIGHUP reloads");
        assert!(ask(&mut old).await.starts_with("HTTP/1.1 200"), "the connection is kept");
        following.abort();
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (a, b) = (make(), make());
        assert!(ApiTls::of_pem(a.chain.as_bytes(), b.key.as_bytes()).is_err());
        assert!(ApiTls::of_pem(b"", a.key.as_bytes()).is_err());
        assert!(ApiTls::of_pem(a.chain.as_bytes(), b"").is_err());
    }
}
