//! Policy over the real API of a running node: the PureNAS dialect, and `/api/v1/policy`.

use crate::site::{ann, free_ports};
use api::types::config::{CommitRequest, SetRequest};
use api::types::{LoginRequest, SubscriberQuery};
use api::{Client, ClientConfig, ConfigService as _, ReadLevel, TlsTrust};
use model::{Attachment, BanScope, MacAddr, PortId, Secret, SessionId, Tick, UnixMs, Vlans};
use node::daemon::Daemon;
use node::dev::{self, DevArgs};
use node::service::Api;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const KEY: &str = "0123456789abcdef";
/// In the network of the DHCP pool, and nobody's.
const FREE: Ipv4Addr = Ipv4Addr::new(100, 65, 200, 1);
const LEVEL: ReadLevel = ReadLevel::Linearizable;

struct Site {
    daemon: Arc<Daemon>,
    url: String,
    http: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Site {
    async fn start(key: Option<&str>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let args = DevArgs {
            listen: free_ports(),
            data_dir: None,
            sessions: 4,
            password: "tandem-dev".into(),
        };
        // Whoever comes first installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let daemon = dev::start(&args, data.path().join("node")).await.unwrap();
        if let Some(key) = key {
            let api = Api::new(daemon.clone());
            let set = SetRequest { path: "api.purenas.key".into(), value: json!(key) };
            api.config_set(set, ann()).await.unwrap();
            let commit = CommitRequest { comment: "open".into(), confirm_s: None };
            api.config_commit(commit, ann()).await.unwrap();
        }
        let http = reqwest::Client::builder().danger_accept_invalid_certs(true).build().unwrap();
        Self { daemon, url: format!("https://{}", args.listen), http, _data: data }
    }

    async fn raw(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}/api/{path}", self.url)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.raw(&format!("{path}?key={KEY}")).await
    }

    /// What an action says, once it is done.
    async fn done(&self, path: &str) -> String {
        let body = self.get(path).await;
        assert_eq!(body["success"], true, "{path}: {body}");
        body["output"].as_str().unwrap().to_owned()
    }

    async fn error(&self, path: &str) -> String {
        let body = self.get(path).await;
        assert_eq!(body["success"], false, "{path}: {body}");
        body["output"].as_str().unwrap().to_owned()
    }

    /// The row of an address in `getall`.
    async fn row(&self, address: Ipv4Addr) -> Value {
        self.get("subscriber/getall").await[address.to_string()].take()
    }

    async fn client(&self) -> Client {
        let config = |token| ClientConfig {
            urls: vec![self.url.clone()],
            token,
            trust: TlsTrust::Insecure,
            timeout: Duration::from_secs(30),
        };
        let password = Secret::new("tandem-dev");
        let request = LoginRequest { username: "admin".into(), password };
        let login = Client::new(config(None)).unwrap().login(&request).await.unwrap();
        Client::new(config(Some(login.data.access_token))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_subscriber_lives_its_life_in_the_dialect() {
    let site = Site::start(Some(KEY)).await;
    assert_eq!(site.get("subscriber/getall").await, json!([]));
    assert_eq!(
        site.done(&format!("subscriber/allow/{FREE}")).await,
        format!("== Added {FREE} to allowed_clients set ==")
    );
    let want = json!({
        "ip": FREE.to_string(), "state": "ACTIVE", "mac": null, "ratedown": "unlimited",
        "rateup": "unlimited", "hits": null, "flag": ""
    });
    assert_eq!(site.row(FREE).await, want);

    site.done(&format!("subscriber/shape/{FREE}/100000/512")).await;
    site.done(&format!("subscriber/mac/{FREE}/02:00:00:00:00:99")).await;
    site.done(&format!("subscriber/disallow/{FREE}")).await;
    let want = json!({
        "ip": FREE.to_string(), "state": "INACTIVE", "mac": "02:00:00:00:00:99",
        "ratedown": "100 Mbit", "rateup": "512 Kbit", "hits": 0, "flag": "S"
    });
    assert_eq!(site.row(FREE).await, want);
    site.done(&format!("subscriber/shape/{FREE}/700")).await;
    let row = site.row(FREE).await;
    assert_eq!((&row["ratedown"], &row["rateup"]), (&json!("700 Kbit"), &json!("700 Kbit")));

    for path in ["unshape", "unmac", "allow", "allow"] {
        site.done(&format!("subscriber/{path}/{FREE}")).await;
    }
    let row = site.row(FREE).await;
    assert_eq!((&row["state"], &row["ratedown"]), (&json!("ACTIVE"), &json!("unlimited")));
    assert_eq!((&row["mac"], &row["flag"]), (&Value::Null, &json!("")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_refuses_is_an_error_of_the_action() {
    let site = Site::start(Some(KEY)).await;
    for (path, part) in [
        ("subscriber/allow/100.64.9.9", "no IPoE network"), // PPPoE
        ("subscriber/allow/203.0.113.1", "no IPoE network"),
        ("subscriber/allow/100.65.0.1", "no IPoE network"), // the gateway
        ("subscriber/allow/100.65.0.2", "address"),         // leased
        ("subscriber/disallow/100.65.200.1", "no such static subscriber"),
        ("subscriber/mac/100.65.200.1/02:00:00:00:00:01", "no such static subscriber"),
        ("subscriber/shape/100.65.200.1/1000", "not found"),
        ("unban/ip/198.51.100.1", "not found"),
        ("ban/ip/127.0.0.0/8", "cuts off member"),
    ] {
        let error = site.error(path).await.to_lowercase();
        let part = part.to_lowercase();
        assert!(error.starts_with("error: "), "{path}: {error}");
        let static_unknown = part.starts_with("no such") && error.contains("not found");
        assert!(error.contains(&part) || static_unknown, "{path}: {error}");
    }
    assert_eq!(site.get("subscriber/getall").await, json!([]), "nothing was done");
    assert_eq!(site.get("subscriber/explode/1.2.3.4").await["error"], "Not specified action");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_protocol_is_shaped_by_its_address() {
    let site = Site::start(Some(KEY)).await;
    let client = site.client().await;
    let all = client.subscribers(&SubscriberQuery::default(), LEVEL).await.unwrap().data.sessions;
    let leased = all.iter().find(|s| s.ip_address.octets()[1] == 65).unwrap();
    site.done(&format!("subscriber/shape/{}/2000/1000", leased.ip_address)).await;
    let now = client.subscriber(leased.id, LEVEL).await.unwrap().data;
    assert_eq!((now.rate_down_bps, now.rate_up_bps), (2_000_000, 1_000_000));
    assert_eq!(site.get("subscriber/getall").await, json!([]), "it is not a static subscriber");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_listed_and_let_in_where_it_was_heard() {
    let site = Site::start(Some(KEY)).await;
    let member = site.daemon.member.get().unwrap();
    let group = member.local.store.state().groups().next().unwrap().id;
    let empty = json!({ "success": true, "waitauth": [] });
    assert_eq!(site.get("subscriber/getwaitauth").await, empty);
    let mac = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let place = Attachment { port: PortId(1), vlans: Vlans { outer: 7, inner: 0 }, mac };
    member.waiting.note(group, FREE, place, Tick::from_ms(u64::MAX / 2), UnixMs(5_000));
    let want = json!([{ "ip": FREE.to_string(), "mac": "02:00:00:00:00:77" }]);
    assert_eq!(site.get("subscriber/getwaitauth").await["waitauth"], want);
    let listed = site.client().await.waiting().await.unwrap().data.sources;
    assert_eq!((listed[0].interface.as_str(), listed[0].first_seen), ("port1.7", 5));

    site.done(&format!("subscriber/allow/{FREE}")).await;
    let row = site.row(FREE).await;
    assert_eq!((&row["mac"], &row["flag"]), (&json!("02:00:00:00:00:77"), &json!("R")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_are_put_on_and_lifted_in_both_ways_of_speaking() {
    let site = Site::start(Some(KEY)).await;
    let client = site.client().await;
    assert_eq!(site.done("ban/ip/198.51.100.0/24").await, "== Banned 198.51.100.0/24 ==");
    site.done("ban/icmp/198.51.100.7").await;
    let bans = client.bans(LEVEL).await.unwrap().data.bans;
    let bans: Vec<_> = bans.iter().map(|ban| (ban.network.to_string(), ban.scope)).collect();
    let want = [("198.51.100.0/24", BanScope::All), ("198.51.100.7/32", BanScope::Icmp)];
    assert_eq!(bans, want.map(|(network, scope)| (network.to_owned(), scope)));
    client.ban("198.51.100.7".parse().unwrap(), BanScope::Icmp, false).await.unwrap();
    site.done("unban/ip/198.51.100.0/24").await;
    assert_eq!(client.bans(LEVEL).await.unwrap().data.count, 0);

    client.allow(FREE, true).await.unwrap();
    client.bind(FREE, Some(MacAddr([2, 0, 0, 0, 0, 1]))).await.unwrap();
    let listed = client.statics(LEVEL).await.unwrap().data.subscribers;
    assert_eq!((listed[0].ip_address, listed[0].state.as_str()), (FREE, "unseen"));
    client.remove_static(FREE).await.unwrap();
    assert_eq!(client.statics(LEVEL).await.unwrap().data.count, 0);
    assert_ne!(listed[0].id, SessionId(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_described_and_a_wrong_key_opens_nothing() {
    let site = Site::start(Some(KEY)).await;
    let info = site.get("system/info").await;
    assert_eq!(info["os"], "Linux");
    assert!(info["memory"]["total"].as_u64().unwrap() > 0, "{info}");
    assert!(info["cpu"]["cores"].as_u64().unwrap() > 0, "{info}");
    assert!(info["uptime"]["seconds"].as_u64().unwrap() > 0, "{info}");
    for query in ["", "?key=", "?key=0123456789abcdeX"] {
        let ban = site.raw(&format!("ban/ip/198.51.100.1{query}")).await;
        assert_eq!(ban, json!({ "error": "Invalid API key" }), "{query}");
    }
    assert_eq!(site.client().await.bans(LEVEL).await.unwrap().data.count, 0);

    let shut = Site::start(None).await;
    let ban = shut.get("ban/ip/198.51.100.1").await;
    assert_eq!(ban, json!({ "error": "Unauthorized access" }));
}
