use super::*;
use api::types::LoginRequest;
use api::{Client, ClientConfig, ClientError, TlsTrust};
use model::Secret;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take to see that its files changed, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts a new certificate where the daemon looks, and says by what to know it.
fn put_certificate(chain: &Path, key: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(chain, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    raft_store::fingerprint(&made.cert.pem())
}

fn client(url: &str, sha256: &str) -> Client {
    let trust = TlsTrust::Fingerprint { sha256: sha256.to_owned() };
    let timeout = Duration::from_secs(30);
    Client::new(ClientConfig { urls: vec![url.to_owned()], token: None, trust, timeout }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_shows_a_changed_certificate_to_new_connections_and_keeps_the_old_ones() {
    let _first = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let (chain, key) = (dir.path().join("api.pem"), dir.path().join("api.key"));
    let old = put_certificate(&chain, &key);
    let args = DevArgs {
        listen: free(),
        data_dir: Some(dir.path().to_owned()),
        sessions: 0,
        password: PASSWORD.into(),
    };
    let mut config = dev::config(&args, dir.path().join("node"));
    config.api_tls = Some((chain.clone(), key.clone()));
    let daemon = Daemon::prepare(config).await.unwrap();
    let serving = tokio::spawn(daemon.clone().run());
    dev::begin(&daemon, &args).await.unwrap();

    let url = format!("https://{}", args.listen);
    let login = LoginRequest { username: "admin".into(), password: Secret::new(PASSWORD) };
    let first = client(&url, &old);
    let token = first.login(&login).await.unwrap().data.access_token;
    let first = first.with_token(token.clone());
    first.version().await.unwrap();

    let new = put_certificate(&chain, &key);
    let reloaded = async {
        loop {
            match client(&url, &new).with_token(token.clone()).version().await {
                Ok(_) => return,
                Err(ClientError::Unreachable { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reloaded).await.expect("the new certificate is shown");
    // It would refuse the new certificate: its connection is the one from before.
    first.version().await.unwrap();
    assert!(client(&url, &old).with_token(token).version().await.is_err());
    serving.abort();
}
