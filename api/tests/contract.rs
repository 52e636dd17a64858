//! The router in front of a fake node: paths, credentials, bodies, errors.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/site.rs"]
mod site;

use api::ApiError;
use api::types::FieldError;
use axum::body::Body;
use axum::http::Request;
use fake::{BOOTSTRAP, JOIN_SECRET};
use serde_json::{Value, json};
use site::Site;
use tower::ServiceExt;

const HOOK: &str =
    r#"{"url":"https://crm.example.net/x","events":["session.up"],"secret":"0123456789abcdef"}"#;
const BY_INTERFACE: &str = "/api/v1/subscribers/disconnect-by-interface";
const INIT: &str = include_str!("support/init.json");

#[tokio::test]
async fn a_token_expires() {
    let site = Site::new();
    let token = site.admin().await;
    let path = "/api/v1/subscribers/summary";
    let reply = site.ask("GET", path, &token, "").await;
    let want =
        json!({ "status": "ok", "data": { "total": 3, "pppoe": 2, "dhcp": 1, "static": 0 } });
    assert_eq!(reply.json(), want);

    site.fake.state().now = fake::START.plus_secs(3600);
    assert_eq!(site.ask("GET", path, &token, "").await.code(), (401, "unauthorized".into()));
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn every_endpoint_answers_in_its_envelope() {
    let site = Site::new();
    let token = site.admin().await;
    let rows: &[(&str, &str, &str, &str, &str)] = &[
        // method, path, body, a place in `data`, what stands there
        ("GET", "/api/v1/health", "", "/status", r#""ok""#),
        ("GET", "/api/v1/system/version", "", "/api", r#""v1""#),
        ("GET", "/api/v1/subscribers", "", "/count", "3"),
        ("GET", "/api/v1/subscribers", "", "/sessions/0/type", r#""PPPoE""#),
        ("GET", "/api/v1/subscribers?type=dhcp", "", "/sessions/0/id", "2"),
        ("GET", "/api/v1/subscribers?limit=2", "", "/next", "2"),
        ("GET", "/api/v1/subscribers?limit=2&after=2", "", "/sessions/0/id", "3"),
        ("GET", "/api/v1/subscribers?username=user3", "", "/count", "1"),
        ("GET", "/api/v1/subscribers?ip=100.64.0.2", "", "/sessions/0/id", "2"),
        ("GET", "/api/v1/subscribers?mac=02:00:00:00:00:03", "", "/sessions/0/id", "3"),
        ("GET", "/api/v1/subscribers?mac=02%3A00%3A00%3A00%3A00%3A03", "", "/count", "1"),
        ("GET", "/api/v1/subscribers/summary", "", "/total", "3"),
        ("GET", "/api/v1/subscribers/1", "", "/session_type", r#""PPPoE""#),
        ("GET", "/api/v1/subscribers/1", "", "/vrf_steered", "false"),
        ("PUT", "/api/v1/subscribers/1/rate", r#"{"rate_down":5,"rate_up":6}"#, "/rate_up", "6"),
        ("DELETE", "/api/v1/subscribers/1", "", "/reason", r#""admin_reset""#),
        ("GET", "/api/v1/cluster", "", "/leader", r#""wit""#),
        ("GET", "/api/v1/cluster", "", "/nodes/2/raft_state", r#""leader""#),
        ("GET", "/api/v1/cluster/members", "", "/members/2/role", r#""witness""#),
        ("DELETE", "/api/v1/cluster/members/2", "", "/name", r#""bng2""#),
        ("POST", "/api/v1/cluster/join-tokens", "", "/expires_at", "1700003600"),
        ("POST", "/api/v1/cluster/join-tokens", r#"{"ttl_s":60}"#, "/expires_at", "1700000060"),
        ("GET", "/api/v1/groups", "", "/count", "1"),
        ("GET", "/api/v1/groups/south", "", "/virtual_mac", r#""00:00:5e:00:01:33""#),
        ("POST", "/api/v1/groups/south/failover", "", "/to", r#""bng2""#),
        ("POST", "/api/v1/groups/south/failover", "null", "/to", r#""bng2""#),
        ("POST", "/api/v1/groups/south/failover", r#"{"to":"bng1"}"#, "/to", r#""bng1""#),
        ("GET", "/api/v1/groups/south", "", "/fence", r#""open""#),
        ("GET", "/api/v1/interfaces", "", "/interfaces/0/role", r#""access""#),
        ("GET", "/api/v1/interfaces/vlans", "", "/vlans/0/name", r#""port1.100.1""#),
        ("GET", "/api/v1/demux/config", "", "/profiles/0/trunk_interface", r#""eth1""#),
        ("GET", "/api/v1/demux/state", "", "/interfaces/0/sessions", "1"),
        ("GET", "/api/v1/qos?limit=1", "", "/next", "1"),
        ("GET", "/api/v1/qos/profiles", "", "/profiles/0/overhead", "0"),
        ("GET", "/api/v1/routing/bgp/summary", "", "/running", "false"),
        ("GET", "/api/v1/routing/routes", "", "/routes/0/gateway", r#""192.0.2.1""#),
        ("GET", "/api/v1/cgnat/sessions", "", "/sessions/0/last_port", "2047"),
        ("GET", "/api/v1/cgnat/stats", "", "/cgnat", "3"),
        ("GET", "/api/v1/system/health", "", "/serving/0", r#""south""#),
        ("POST", BY_INTERFACE, r#"{"interface":"port1"}"#, "/ids/0", "1"),
        ("GET", "/api/v1/webhooks", "", "/webhooks/0/id", r#""a1b2c3d4""#),
        ("POST", "/api/v1/webhooks", HOOK, "/secret", r#""0123456789abcdef""#),
        ("DELETE", "/api/v1/webhooks/a1b2c3d4", "", "/id", r#""a1b2c3d4""#),
        ("GET", "/api/v1/webhooks/dead-letters?limit=1", "", "/dead_letters/0/attempts", "10"),
        ("DELETE", "/api/v1/webhooks/dead-letters/7-1", "", "/id", r#""7-1""#),
        ("GET", "/api/v1/system/config", "", "/version", "7"),
        ("GET", "/api/v1/system/config/candidate", "", "/pending", "true"),
        ("GET", "/api/v1/system/config/compare", "", "/count", "1"),
        ("GET", "/api/v1/system/config/archive?limit=5", "", "/versions/0/version", "7"),
        ("GET", "/api/v1/system/config/archive/9", "", "/version", "9"),
        (
            "POST",
            "/api/v1/system/config/set",
            r#"{"path":"system.name","value":"south"}"#,
            "/errors/0/path",
            r#""pools.home""#,
        ),
        ("POST", "/api/v1/system/config/delete", r#"{"path":"system.name"}"#, "/count", "1"),
        ("POST", "/api/v1/system/config/load", "{}", "/count", "1"),
        ("POST", "/api/v1/system/config/commit", "", "/version", "43"),
        ("POST", "/api/v1/system/config/commit", r#"{"confirm_s":60}"#, "/confirm_deadline", "60"),
        ("POST", "/api/v1/system/config/rollback", r#"{"back":2}"#, "/count", "1"),
        ("POST", "/api/v1/system/config/discard", "", "/count", "1"),
    ];
    for (method, path, body, place, want) in rows {
        let reply = site.ask(method, path, &token, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        let json = reply.json();
        assert_eq!(json["status"], "ok", "{method} {path}");
        let want: Value = serde_json::from_str(want).unwrap();
        assert_eq!(json["data"].pointer(place), Some(&want), "{method} {path}: {json}");
    }
}

#[tokio::test]
async fn a_subscriber_has_all_documented_fields() {
    let site = Site::new();
    let token = site.admin().await;
    let list = site.ask("GET", "/api/v1/subscribers", &token, "").await.json();
    let list = &list["data"]["sessions"][0];
    let documented = "id type username ip_address interface rate_down rate_up state started_at";
    for field in documented.split(' ') {
        assert!(list.get(field).is_some(), "{field} in {list}");
    }
    let detail = site.ask("GET", "/api/v1/subscribers/1", &token, "").await.json();
    let documented = "id session_type state username mac_address ip_address gateway \
        access_interface ppp_interface rate_down_bps rate_up_bps overhead_profile vrf_steered \
        acct_session_id started_at bytes_in bytes_out packets_in packets_out";
    for field in documented.split_whitespace() {
        assert!(detail["data"].get(field).is_some(), "{field} in {detail}");
    }
}

#[tokio::test]
async fn a_credential_of_another_scheme_is_none() {
    let site = Site::new();
    let token = site.admin().await;
    for (value, status) in [
        (format!("bearer {token}"), 200),
        (format!("Basic {token}"), 401),
        (token.clone(), 401),
        ("Bearer ".to_owned(), 401),
        (format!("Bearer {token}x"), 401),
    ] {
        let request = Request::builder().uri("/api/v1/groups").header("authorization", &value);
        let reply = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, status, "{value}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn what_cannot_be_read_is_refused_with_its_place() {
    let site = Site::new();
    let token = site.admin().await;
    let rate = "/api/v1/subscribers/1/rate";
    let rows: &[(&str, &str, &str, u16, &str, &str)] = &[
        // method, path, body, status, code, part of the text
        ("PUT", rate, "{", 400, "bad_request", "EOF"),
        ("PUT", rate, r#"{"rate_down":1,"rate_up":1}x"#, 400, "bad_request", "not JSON"),
        ("PUT", rate, "[]", 422, "invalid", "invalid length 0"),
        ("PUT", rate, r#"{"rate_down":1}"#, 422, "invalid", "missing field `rate_up`"),
        ("PUT", rate, r#"{"rate_down":-1,"rate_up":1}"#, 422, "invalid", "rate_down: "),
        ("PUT", rate, r#"{"rate_down":1,"rate_up":"5M"}"#, 422, "invalid", "rate_up: "),
        ("PUT", rate, r#"{"rate_down":1,"rate_up":1,"x":1}"#, 422, "invalid", "unknown field `x`"),
        ("PUT", rate, r#"{"rate_down":1,"rate_up":2000000000000}"#, 422, "invalid", "rate_up: "),
        (
            "PUT",
            "/api/v1/subscribers/9/rate",
            r#"{"rate_down":1,"rate_up":1}"#,
            404,
            "not_found",
            "subscriber 9 not found",
        ),
        ("GET", "/api/v1/subscribers/x", "", 400, "bad_request", "Cannot parse"),
        ("GET", "/api/v1/subscribers/-1", "", 400, "bad_request", "Cannot parse"),
        ("GET", "/api/v1/subscribers/99999999999999999999", "", 400, "bad_request", "Cannot parse"),
        ("GET", "/api/v1/subscribers/9", "", 404, "not_found", "subscriber 9 not found"),
        ("DELETE", "/api/v1/subscribers/9", "", 404, "not_found", "subscriber 9 not found"),
        ("GET", "/api/v1/subscribers?type=l2tp", "", 400, "bad_request", "l2tp"),
        ("GET", "/api/v1/subscribers?limit=0", "", 400, "bad_request", "limit must be 1 to 1000"),
        ("GET", "/api/v1/subscribers?limit=1001", "", 400, "bad_request", "limit must be"),
        ("GET", "/api/v1/subscribers?user=x", "", 400, "bad_request", "unknown field `user`"),
        ("GET", "/api/v1/subscribers?ip=1.2.3", "", 400, "bad_request", "IP"),
        ("GET", "/api/v1/subscribers?consistency=some", "", 400, "bad_request", "consistency"),
        (
            "GET",
            "/api/v1/groups?consistency=local&consistency=local",
            "",
            400,
            "bad_request",
            "twice",
        ),
        ("GET", "/api/v1/groups?x=1", "", 400, "bad_request", "unknown field `x`"),
        ("GET", "/api/v1/groups/north", "", 404, "not_found", "group north not found"),
        ("POST", "/api/v1/groups/north/failover", "", 404, "not_found", "group north"),
        (
            "POST",
            "/api/v1/groups/south/failover",
            r#"{"to":"bng9"}"#,
            404,
            "not_found",
            "node bng9",
        ),
        (
            "POST",
            "/api/v1/groups/south/failover",
            r#"{"to":"wit"}"#,
            409,
            "not_eligible",
            "witness",
        ),
        (
            "POST",
            "/api/v1/groups/south/failover",
            r#"{"node":"wit"}"#,
            422,
            "invalid",
            "unknown field",
        ),
        ("DELETE", "/api/v1/cluster/members/9", "", 404, "not_found", "member 9"),
        ("POST", "/api/v1/cluster/join-tokens", r#"{"ttl_s":1}"#, 422, "invalid", "ttl_s: "),
        ("POST", "/api/v1/cluster/join-tokens", r#"{"role":"king"}"#, 422, "invalid", "role: "),
        ("POST", "/api/v1/cluster/admit", "{}", 422, "invalid", "missing field `token`"),
        ("GET", "/api/v1/nothing", "", 404, "no_such_path", "No such path"),
        ("GET", "/", "", 404, "no_such_path", "No such path"),
    ];
    for (method, path, body, status, code, part) in rows {
        let reply = site.ask(method, path, &token, body).await;
        let (got_status, got_code, text) = reply.error();
        assert_eq!(
            (got_status, got_code.as_str()),
            (*status, *code),
            "{method} {path} {body}: {text}"
        );
        assert!(text.contains(part), "{method} {path} {body}: {text}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let site = Site::new();
    let token = site.admin().await;
    let large = format!("{{\"rate_down\":1,\"rate_up\":1{}}}", " ".repeat(70_000));
    let reply = site.ask("PUT", "/api/v1/subscribers/1/rate", &token, &large).await;
    assert_eq!(reply.code(), (413, "too_large".into()));

    // Init brings many subscribers and may be larger.
    site.fake.state().initialised = false;
    let large = format!("{INIT}{}", " ".repeat(3_000_000));
    let reply = site.ask("POST", "/api/v1/cluster/init", BOOTSTRAP, &large).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn a_node_without_a_cluster_takes_init_or_join_and_nothing_else() {
    let site = Site::new();
    let token = site.admin().await;
    let ticket = site.ask("POST", "/api/v1/cluster/join-tokens", &token, "").await.json();
    let ticket = ticket["data"]["token"].clone();
    site.fake.state().initialised = false;

    let reply = site.ask("GET", "/api/v1/groups", &token, "").await;
    assert_eq!(reply.code(), (503, "not_initialised".into()));
    assert_eq!(site.login("ann", "correct horse").await.code(), (503, "not_initialised".into()));
    let reply = site.ask("GET", "/api/v1/health", "", "").await;
    assert_eq!(reply.json()["data"]["status"], "uninitialised");

    for wrong in ["", "guess", &token] {
        let reply = site.ask("POST", "/api/v1/cluster/init", wrong, INIT).await;
        assert_eq!(reply.code(), (401, "unauthorized".into()), "{wrong:?}");
    }
    let reply = site.ask("POST", "/api/v1/cluster/init", BOOTSTRAP, INIT).await;
    assert_eq!(reply.json()["data"]["cluster_id"], "c-1");
    let reply = site.ask("POST", "/api/v1/cluster/init", BOOTSTRAP, INIT).await;
    assert_eq!(reply.code(), (409, "already_initialised".into()));

    site.fake.state().initialised = false;
    let join = json!({ "token": "tandem1.junk" }).to_string();
    let reply = site.ask("POST", "/api/v1/cluster/join", BOOTSTRAP, &join).await;
    assert_eq!(reply.error(), (422, "invalid".into(), "token: join token is damaged".into()));
    let join = json!({ "token": ticket }).to_string();
    let reply = site.ask("POST", "/api/v1/cluster/join", BOOTSTRAP, &join).await;
    assert_eq!(reply.json()["data"], json!({ "cluster_id": "c-1", "node_id": 4 }));
    let reply = site.ask("POST", "/api/v1/cluster/join", BOOTSTRAP, &join).await;
    assert_eq!(reply.code(), (409, "already_initialised".into()));
}

#[tokio::test]
async fn init_lists_everything_that_is_wrong() {
    let site = Site::new();
    site.fake.state().initialised = false;
    let mut body: Value = serde_json::from_str(INIT).unwrap();
    body["groups"][0]["vrid"] = json!(0);
    body["pools"][1]["gateway"] = json!("nowhere");
    let reply = site.ask("POST", "/api/v1/cluster/init", BOOTSTRAP, &body.to_string()).await;
    assert_eq!(reply.code(), (422, "invalid".into()));
    let errors: Vec<FieldError> = serde_json::from_value(reply.json()["errors"].take()).unwrap();
    let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["groups[0].vrid", "pools[1].gateway"]);

    body["groups"][0]["vrrid"] = json!(1);
    let reply = site.ask("POST", "/api/v1/cluster/init", BOOTSTRAP, &body.to_string()).await;
    assert_eq!(reply.json()["errors"][0]["path"], "groups[0].vrrid");
    assert_eq!(site.fake.state().calls, [] as [&str; 0]);
}

#[tokio::test]
async fn admission_asks_for_the_secret_in_the_body_only() {
    let site = Site::new();
    let mut body = json!({
        "token": JOIN_SECRET, "name": "bng4", "role": "data", "csr_pem": "csr",
        "raft_addr": "192.0.2.4:8444", "lease_addr": "192.0.2.4:8445", "api_addr": "192.0.2.4:8443",
    });
    let reply = site.ask("POST", "/api/v1/cluster/admit", "", &body.to_string()).await;
    assert_eq!(reply.json()["data"]["node_id"], 4);
    assert_eq!(reply.json()["data"]["peers"][2]["name"], "wit");
    body["token"] = json!("guess");
    let reply = site.ask("POST", "/api/v1/cluster/admit", "", &body.to_string()).await;
    assert_eq!(reply.code(), (401, "unauthorized".into()));
}

#[tokio::test]
async fn without_a_leader_only_local_reads_are_answered() {
    let site = Site::new();
    let token = site.admin().await;
    site.fake.state().has_leader = false;
    for (method, path) in [
        ("GET", "/api/v1/subscribers"),
        ("GET", "/api/v1/subscribers/1?consistency=linearizable"),
        ("DELETE", "/api/v1/subscribers/1"),
        ("POST", "/api/v1/groups/south/failover"),
    ] {
        let reply = site.ask(method, path, &token, "").await;
        assert_eq!(reply.code(), (503, "no_leader".into()), "{method} {path}");
        assert_eq!(reply.header("retry-after"), Some("2"), "{method} {path}");
    }
    for path in ["/api/v1/subscribers?type=pppoe&consistency=local", "/api/v1/cluster"] {
        assert_eq!(site.ask("GET", path, &token, "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn answers_carry_revision_and_request_id_and_writes_their_key() {
    let site = Site::new();
    let token = site.admin().await;
    let reply = site.ask("GET", "/api/v1/subscribers", &token, "").await;
    assert_eq!(reply.header("x-tandem-revision"), Some("42"));
    assert_eq!(reply.header("x-request-id").unwrap().len(), 16);

    let delete = |key: &str| {
        let request = Request::builder().method("DELETE").uri("/api/v1/subscribers/1");
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.header("idempotency-key", key).header("x-request-id", "r-1");
        request.body(Body::empty()).unwrap()
    };
    for bad in ["", "a b", &"k".repeat(129)] {
        assert_eq!(site.send(delete(bad)).await.code(), (400, "bad_request".into()), "{bad:?}");
    }
    let reply = site.send(delete("k-1")).await;
    assert_eq!(reply.header("x-tandem-revision"), Some("43"));
    assert_eq!(reply.header("x-request-id"), Some("r-1"));
    assert_eq!(site.fake.state().calls.last().unwrap(), "disconnect 1 by ann key k-1");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_given_up() {
    let site = Site::new();
    let token = site.admin().await;
    site.fake.state().hangs = true;
    let reply = site.ask("GET", "/api/v1/subscribers", &token, "").await;
    assert_eq!(reply.code(), (504, "timeout".into()));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_at_once_are_refused_and_health_still_answers() {
    let site = Site::new();
    let token = site.admin().await;
    site.fake.state().hangs = true;
    let list = || {
        let request = Request::builder().uri("/api/v1/subscribers");
        let request = request.header("authorization", format!("Bearer {token}"));
        site.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let hanging: Vec<_> = (0..512).map(|_| tokio::spawn(list())).collect();
    while site.fake.state().hanging < hanging.len() {
        tokio::task::yield_now().await;
    }
    let reply = site.ask("GET", "/api/v1/groups", &token, "").await;
    assert_eq!(reply.code(), (503, "overloaded".into()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(site.ask("GET", "/api/v1/health", "", "").await.status, 200);
    for one in hanging {
        assert_eq!(one.await.unwrap().unwrap().status(), 504);
    }
    assert_eq!(site.ask("GET", "/api/v1/groups", &token, "").await.status, 200);
}

#[tokio::test]
async fn metrics_and_documentation_are_open() {
    let site = Site::new();
    let reply = site.ask("GET", "/metrics", "", "").await;
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(reply.text.contains("tandem_sessions 3"));
    let reply = site.ask("GET", "/api/openapi.json", "", "").await;
    assert_eq!(reply.json(), serde_json::to_value(api::openapi()).unwrap());
    let reply = site.ask("GET", "/api/docs/", "", "").await;
    assert!(reply.text.contains("swagger-ui"), "{}", reply.text);
    let reply = site.ask("GET", "/api/docs/swagger-ui-bundle.js", "", "").await;
    assert!(reply.status == 200 && reply.text.len() > 100_000, "{}", reply.status);
}

#[test]
fn an_error_survives_the_way_from_the_leader() {
    let errors = [
        ApiError::NoLeader { retry_after_s: 3 },
        ApiError::not_found("subscriber 1"),
        ApiError::invalid("a.b", "is wrong"),
        ApiError::internal("cause"),
        ApiError::AlreadyInitialised,
    ];
    for error in errors {
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<ApiError>(&json).unwrap(), error, "{json}");
    }
}

#[test]
fn the_cause_of_an_internal_error_is_not_told() {
    let body = serde_json::to_string(&ApiError::internal("secret path").body()).unwrap();
    assert!(!body.contains("secret path"), "{body}");
}
