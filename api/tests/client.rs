//! The typed client against a fake node on a real socket, with and without TLS.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;

use api::types::{
    AdmitRequest, FailoverRequest, InitRequest, JoinRequest, JoinTokenRequest, LoginRequest,
    RateRequest, SubscriberQuery,
};
use api::{Client, ClientConfig, ClientError, JoinTicket, ReadLevel, TlsTrust};
use axum::Router;
use axum_server::tls_rustls::RustlsConfig;
use fake::{BOOTSTRAP, Fake, JOIN_SECRET};
use model::{GroupService, NodeId, NodeRole, Revision, Secret, SessionId};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    url
}

/// A URL at which nobody listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(urls: &[&String], trust: TlsTrust) -> Client {
    let config = ClientConfig {
        urls: urls.iter().map(ToString::to_string).collect(),
        token: None,
        trust,
        timeout: Duration::from_secs(10),
    };
    Client::new(config).unwrap()
}

fn ann() -> LoginRequest {
    LoginRequest { username: "ann".into(), password: Secret::new("correct horse") }
}

async fn logged_in(client: Client) -> Client {
    let token = client.login(&ann()).await.unwrap().data.access_token;
    client.with_token(token)
}

#[tokio::test]
async fn every_call_reaches_its_endpoint() {
    let fake = Fake::new();
    let url = serve(api::router(fake.clone())).await;
    let c = logged_in(client(&[&url], TlsTrust::System)).await;

    assert!(c.health().await.unwrap().data.initialised);
    assert!(c.metrics().await.unwrap().contains("tandem_sessions 3"));
    assert_eq!(c.version().await.unwrap().data.product, "tandem");
    let query = SubscriberQuery {
        service: Some(GroupService::Pppoe),
        limit: Some(5),
        after: Some(SessionId(1)),
        username: Some("user3".into()),
        ip: Some([100, 64, 0, 3].into()),
        mac: Some("02:00:00:00:00:03".parse().unwrap()),
    };
    let list = c.subscribers(&query, ReadLevel::Local).await.unwrap();
    assert_eq!(list.data.sessions[0].id, SessionId(3));
    assert_eq!(list.revision, Some(Revision(42)));
    assert!(list.body.starts_with(r#"{"status":"ok","data":{"sessions":["#), "{}", list.body);
    assert_eq!(fake.state().calls.last().unwrap(), "subscribers Local");
    let totals = c.subscriber_totals(ReadLevel::Linearizable).await.unwrap();
    assert_eq!(totals.data.total, 3);
    assert_eq!(fake.state().calls.last().unwrap(), "summary Linearizable");
    let one = c.subscriber(SessionId(2), ReadLevel::Local).await.unwrap().data;
    assert_eq!(one.hostname.as_deref(), Some("router"));
    let rate = RateRequest { rate_down: 7, rate_up: 8 };
    assert_eq!(c.set_rate(SessionId(2), &rate).await.unwrap().data.rate_up, 8);
    let done = c.with_idempotency_key("k1").disconnect(SessionId(2)).await.unwrap();
    assert_eq!(done.revision, Some(Revision(44)));
    assert_eq!(fake.state().calls.last().unwrap(), "disconnect 2 by ann key k1");

    assert_eq!(c.cluster().await.unwrap().data.term, 7);
    assert_eq!(c.members().await.unwrap().data.count, 3);
    assert_eq!(c.remove_member(NodeId(2)).await.unwrap().data.name, "bng2");
    assert_eq!(c.groups().await.unwrap().data.count, 1);
    assert_eq!(c.group("south").await.unwrap().data.vrid, 51);
    let to = FailoverRequest { to: Some("bng2".into()) };
    assert_eq!(c.failover("south", &to).await.unwrap().data.from.as_deref(), Some("bng1"));

    let wish = JoinTokenRequest { ttl_s: Some(60), name: Some("bng4".into()), role: None };
    let token = c.join_token(&wish).await.unwrap().data.token;
    assert_eq!(JoinTicket::decode(token.expose()).unwrap().secret, Secret::new(JOIN_SECRET));
    let admit = AdmitRequest {
        token: Secret::new(JOIN_SECRET),
        name: "bng4".into(),
        role: NodeRole::Data,
        csr_pem: "csr".into(),
        raft_addr: "192.0.2.4:1".parse().unwrap(),
        lease_addr: "192.0.2.4:2".parse().unwrap(),
        api_addr: "192.0.2.4:3".parse().unwrap(),
    };
    assert_eq!(c.admit(&admit).await.unwrap().data.peers.len(), 3);

    let bootstrap = Secret::new(BOOTSTRAP);
    let init: InitRequest = serde_json::from_str(include_str!("support/init.json")).unwrap();
    fake.state().initialised = false;
    assert_eq!(c.cluster_init(&init, &bootstrap).await.unwrap().data.node_id, NodeId(1));
    fake.state().initialised = false;
    let join = JoinRequest { token };
    assert_eq!(c.cluster_join(&join, &bootstrap).await.unwrap().data.node_id, NodeId(4));
}

#[test]
fn the_same_cluster_can_be_written_in_toml() {
    let from_json: InitRequest = serde_json::from_str(include_str!("support/init.json")).unwrap();
    let toml = toml::to_string(&from_json).unwrap();
    assert_eq!(toml::from_str::<InitRequest>(&toml).unwrap(), from_json);
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_passed_over() {
    let url = serve(api::router(Fake::new())).await;
    let (dead, dead_too) = (nobody().await, nobody().await);
    let c = logged_in(client(&[&dead, &url], TlsTrust::System)).await;
    assert_eq!(c.groups().await.unwrap().data.count, 1);

    let c = client(&[&dead, &dead_too], TlsTrust::System);
    match c.health().await {
        Err(ClientError::Unreachable { tried }) => {
            let urls: Vec<_> = tried.iter().map(|(url, _)| url).collect();
            assert_eq!(urls, [&dead, &dead_too]);
            assert!(tried[0].1.contains("refused"), "{tried:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_node_without_a_leader_is_passed_over_and_a_refusal_is_not() {
    let (cut_off, well) = (Fake::new(), Fake::new());
    let cut_off_url = serve(api::router(cut_off.clone())).await;
    let well_url = serve(api::router(well.clone())).await;
    let c = logged_in(client(&[&cut_off_url, &well_url], TlsTrust::System)).await;
    cut_off.state().has_leader = false;
    c.disconnect(SessionId(1)).await.unwrap();
    assert_eq!(well.state().calls, ["disconnect 1 by ann key -"]);

    // The node that answered is asked first from now on; its refusal is final.
    cut_off.state().has_leader = true;
    let e = c.disconnect(SessionId(1)).await.unwrap_err();
    assert_eq!(e.code(), Some("not_found"));
    assert_eq!(cut_off.state().calls, [] as [&str; 0]);

    (cut_off.state().has_leader, well.state().has_leader) = (false, false);
    match c.disconnect(SessionId(2)).await {
        Err(ClientError::Api { status: 503, retry_after_s: Some(2), .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn init_is_never_done_on_another_node_than_the_first() {
    let fake = Fake::new();
    fake.state().initialised = false;
    let url = serve(api::router(fake.clone())).await;
    let c = client(&[&nobody().await, &url], TlsTrust::System);
    let init: InitRequest = serde_json::from_str(include_str!("support/init.json")).unwrap();
    let got = c.cluster_init(&init, &Secret::new(BOOTSTRAP)).await;
    assert!(matches!(got, Err(ClientError::Unreachable { .. })), "{got:?}");
    assert!(!fake.state().initialised);
}

#[tokio::test]
async fn an_answer_of_another_server_is_named_as_such() {
    let router = Router::new().fallback(async || "<html>it works</html>");
    let url = serve(router).await;
    let got = client(&[&url], TlsTrust::System).health().await;
    assert!(matches!(got, Err(ClientError::Foreign { status: 200, .. })), "{got:?}");
}

#[tokio::test]
async fn a_node_that_is_silent_leaves_the_outcome_unknown() {
    let router = Router::new().fallback(async || std::future::pending::<String>().await);
    let url = serve(router).await;
    let config = ClientConfig {
        urls: vec![url],
        token: None,
        trust: TlsTrust::System,
        timeout: Duration::from_millis(200),
    };
    let got = Client::new(config).unwrap().health().await;
    assert!(matches!(got, Err(ClientError::Timeout { .. })), "{got:?}");
}

struct Tls {
    url: String,
    ca_pem: String,
    ca_sha256: String,
    leaf_sha256: String,
}

fn sha256(der: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(der))
}

/// Serves HTTPS with a certificate for `name`, signed by an authority that is in the chain.
async fn serve_tls(name: &str) -> Tls {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, ca_key);
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ca.der().clone()],
            key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let service = api::router(Fake::new()).into_make_service_with_connect_info::<SocketAddr>();
    let server =
        axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(config)))
            .unwrap();
    tokio::spawn(server.serve(service));
    Tls { url, ca_pem: ca.pem(), ca_sha256: sha256(ca.der()), leaf_sha256: sha256(leaf.der()) }
}

#[tokio::test]
async fn only_a_trusted_node_is_believed() {
    let here = serve_tls("127.0.0.1").await;
    let elsewhere = serve_tls("192.0.2.1").await; // its certificate is for another host
    let ca = |t: &Tls| TlsTrust::Ca { pem: t.ca_pem.clone() };
    let pin = |sha256: &str| TlsTrust::Fingerprint { sha256: sha256.to_owned() };
    let colons = here.ca_sha256.as_bytes().chunks(2).map(|c| std::str::from_utf8(c).unwrap());
    let colons = colons.collect::<Vec<_>>().join(":").to_uppercase();
    let rows: Vec<(&str, &Tls, TlsTrust, bool)> = vec![
        ("its authority", &here, ca(&here), true),
        ("another authority", &here, ca(&elsewhere), false),
        ("its authority, another name", &elsewhere, ca(&elsewhere), false),
        ("fingerprint of the authority", &here, pin(&here.ca_sha256), true),
        ("fingerprint with colons", &here, pin(&colons), true),
        ("fingerprint of the authority, another name", &elsewhere, pin(&elsewhere.ca_sha256), true),
        ("fingerprint of the node", &here, pin(&here.leaf_sha256), true),
        ("fingerprint of another authority", &here, pin(&elsewhere.ca_sha256), false),
        ("system authorities", &here, TlsTrust::System, false),
        ("anybody", &elsewhere, TlsTrust::Insecure, true),
    ];
    for (row, node, trust, believed) in rows {
        let got = client(&[&node.url], trust).health().await;
        match (got, believed) {
            (Ok(_), true) | (Err(ClientError::Unreachable { .. }), false) => {}
            (other, _) => panic!("{row}: {other:?}"),
        }
    }
}

#[test]
fn a_client_that_can_trust_nobody_is_not_made() {
    let rows = [
        (TlsTrust::Ca { pem: String::new() }, "holds no certificate"),
        (TlsTrust::Ca { pem: "-----BEGIN CERTIFICATE-----\nx".into() }, "TLS set-up"),
        (TlsTrust::Fingerprint { sha256: "abc".into() }, "64 hexadecimal digits"),
    ];
    for (trust, part) in rows {
        let urls = vec!["https://192.0.2.1".to_owned()];
        let timeout = Duration::from_secs(1);
        let got = Client::new(ClientConfig { urls, token: None, trust, timeout });
        let text = got.expect_err(part).to_string();
        assert!(text.contains(part), "{text}");
    }
}
