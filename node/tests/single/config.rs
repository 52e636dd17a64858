//! The configuration of a running node: edit, compare, commit, take back.

use crate::site::{ann, free_ports};
use api::types::config::{CommitRequest, DeleteRequest, HistoryQuery, RollbackRequest, SetRequest};
use api::{ApiError, ConfigService, ReadLevel};
use node::dev::{self, DevArgs};
use node::service::Api;
use serde_json::{Value, json};
use std::time::Duration;

const LEVEL: ReadLevel = ReadLevel::Linearizable;

struct Node {
    api: Api,
    _data: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let args = DevArgs {
            listen: free_ports(),
            data_dir: None,
            sessions: 2,
            password: "tandem-dev".into(),
        };
        let daemon = dev::start(&args, data.path().join("node")).await.unwrap();
        Self { api: Api::new(daemon), _data: data }
    }

    async fn set(&self, path: &str, value: Value) -> usize {
        let request = SetRequest { path: path.into(), value };
        self.api.config_set(request, ann()).await.unwrap().0.count
    }

    async fn commit(&self, confirm_s: Option<u32>) -> Result<u64, ApiError> {
        let request = CommitRequest { comment: "test".into(), confirm_s };
        self.api.config_commit(request, ann()).await.map(|(r, _)| r.version)
    }

    async fn running(&self) -> Value {
        self.api.config(LEVEL).await.unwrap().0.config
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_changes_pools_and_settings_in_one_step_and_a_rollback_brings_them_back() {
    let node = Node::start().await;
    assert_eq!(node.running().await["pools"]["dhcp"]["prefix_len"], 16);
    assert!(matches!(node.commit(None).await, Err(ApiError::Conflict { .. })), "nothing to commit");

    node.set("pppoe.lcp_echo_interval", json!(10)).await;
    let pool = json!({
        "group": "dev", "service": "pppoe", "range": "100.70.0.2-100.70.0.9", "prefix_len": 28,
        "gateway": "100.70.0.1", "rate_down": "50mbit"
    });
    assert_eq!(node.set("pools.extra", pool).await, 7, "one value and the six of the pool");
    assert!(node.running().await["pools"].get("extra").is_none(), "a candidate is not in force");
    let compare = node.api.config_compare(LEVEL).await.unwrap().0;
    assert_eq!((compare.count, compare.errors.len()), (7, 0), "{}", compare.text);

    let version = node.commit(None).await.unwrap();
    let running = node.running().await;
    assert_eq!(running["pools"]["extra"]["rate_down"], "50mbit");
    assert_eq!(running["pppoe"]["lcp_echo_interval"], 10);

    let history = node.api.config_history(HistoryQuery::default(), LEVEL).await.unwrap().0;
    let versions: Vec<_> = history.versions.iter().map(|v| v.version).collect();
    assert_eq!(versions, [version, 0], "the commit, and what was before it");
    node.api.config_rollback(RollbackRequest::default(), ann()).await.unwrap();
    assert!(node.running().await["pools"].get("extra").is_some(), "only the candidate changed");
    node.commit(None).await.unwrap();
    assert!(node.running().await["pools"].get("extra").is_none());
    assert_eq!(node.running().await.get("pppoe"), None, "back to the defaults");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_at_once_and_changes_nothing() {
    let node = Node::start().await;
    node.set("pppoe.lcp_echo_failure", json!(0)).await;
    node.set("pools.dhcp.gateway", json!("100.65.0.2")).await;
    node.set("groups.dev.preferred", json!(["nobody"])).await;
    let Err(ApiError::Invalid { errors }) = node.commit(None).await else {
        panic!("a wrong candidate must be refused");
    };
    assert!(errors.iter().any(|e| e.path == "pppoe.lcp_echo_failure"), "{errors:?}");
    node.set("pppoe.lcp_echo_failure", json!(3)).await;
    let Err(ApiError::Invalid { errors }) = node.commit(None).await else {
        panic!("a wrong candidate must be refused");
    };
    assert!(errors.iter().any(|e| e.path == "pools.dhcp.gateway"), "{errors:?}");
    assert_eq!(node.running().await["pools"]["dhcp"]["gateway"], "100.65.0.1");
    let gone = DeleteRequest { path: "pools.nothing".into() };
    let refused = node.api.config_delete(gone, ann()).await;
    assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
    // Sessions draw from it: only the state knows.
    node.api.config_discard(ann()).await.unwrap();
    node.api.config_delete(DeleteRequest { path: "pools.dhcp".into() }, ann()).await.unwrap();
    let Err(ApiError::Invalid { errors }) = node.commit(None).await else {
        panic!("a pool in use must stay");
    };
    assert_eq!(errors[0].path, "pools.dhcp", "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_confirms_goes_back_and_a_confirmed_one_stays() {
    let node = Node::start().await;
    node.set("system.name", json!("kept")).await;
    node.commit(Some(10)).await.unwrap();
    assert!(node.api.config(LEVEL).await.unwrap().0.confirm.is_some());
    node.commit(None).await.unwrap();
    assert!(node.api.config(LEVEL).await.unwrap().0.confirm.is_none(), "confirmed");

    node.set("system.name", json!("dropped")).await;
    node.commit(Some(10)).await.unwrap();
    assert_eq!(node.running().await["system"]["name"], "dropped");
    let back = async {
        while node.running().await["system"]["name"] != "kept" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), back).await.expect("it goes back by itself");
    let history = node.api.config_history(HistoryQuery::default(), LEVEL).await.unwrap().0;
    assert_eq!(history.versions[0].author, "system");
    assert_eq!(node.api.config(LEVEL).await.unwrap().0.confirm, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_never_shown_and_survives_a_round_trip() {
    let node = Node::start().await;
    node.set("api.freeradius.token", json!("165f9a790787fc38e5cc12c1640db2300648d9a2")).await;
    node.commit(None).await.unwrap();
    let shown = node.running().await;
    assert_eq!(shown["api"]["freeradius"]["token"], "********");
    let (edit, _) = node.api.config_load(shown, ann()).await.unwrap();
    assert_eq!(edit.count, 0, "what was shown comes back without a difference");
    node.set("api.freeradius.token", json!("another-secret-of-some-length")).await;
    let compare = node.api.config_compare(LEVEL).await.unwrap().0;
    assert_eq!(compare.count, 1);
    assert!(!compare.text.contains("another"), "{}", compare.text);
}
