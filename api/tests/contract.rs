//! The router in front of a fake node: paths, credentials, bodies, errors.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;

use api::ApiError;
use api::types::FieldError;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use fake::{BOOTSTRAP, Fake, JOIN_SECRET};
use model::Tick;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const INIT: &str = include_str!("support/init.json");

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// Checks the shape of an error body; its status, code and text.
    fn error(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(body["status"], "error", "{body}");
        assert_eq!(body["message"], body["error"], "{body}");
        assert_eq!(body["message"], body["detail"], "{body}");
        let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }

    fn code(&self) -> (u16, String) {
        let (status, code, _) = self.error();
        (status, code)
    }
}

struct Site {
    fake: Arc<Fake>,
    router: Router,
}

impl Site {
    fn new() -> Self {
        let fake = Fake::new();
        Self { router: api::router(fake.clone()), fake }
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn login(&self, username: &str, password: &str) -> Reply {
        let body = json!({ "username": username, "password": password }).to_string();
        self.ask("POST", "/api/v1/auth/login", "", &body).await
    }

    async fn admin(&self) -> String {
        let reply = self.login("ann", "correct horse").await;
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn operator(&self) -> String {
        let reply = self.login("oli", "battery staple").await;
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_login_answers_flat_and_its_token_works() {
    let site = Site::new();
    let reply = site.login("ann", "correct horse").await;
    let mut body = reply.json();
    let token = body["access_token"].take();
    assert_eq!(
        body,
        json!({
            "access_token": null, "token_type": "bearer", "expires_in": 3600,
            "access_expires_at": fake::START.as_secs() + 3600, "role": "admin",
            "totp_required": false,
        })
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let token = token.as_str().unwrap();
    let path = "/api/v1/subscribers/summary";
    let reply = site.ask("GET", path, token, "").await;
    let want =
        json!({ "status": "ok", "data": { "total": 3, "pppoe": 2, "dhcp": 1, "static": 0 } });
    assert_eq!(reply.json(), want);

    site.fake.state().now = fake::START.plus_secs(3600);
    assert_eq!(site.ask("GET", path, token, "").await.code(), (401, "unauthorized".into()));
}

#[tokio::test]
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

/// All operations of the document: method, path with ids put in, credential.
fn operations() -> Vec<(String, String, String)> {
    let document = serde_json::to_value(api::openapi()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let known = [
                ("{id}", "1"),
                ("{name}", "south"),
                ("{version}", "7"),
                ("{address}", "172.16.0.4"),
                ("{ip}", "172.16.0.4"),
                ("{mac}", "02:00:00:00:00:01"),
                ("{down}", "1000"),
                ("{up}", "500"),
                ("{scope}", "all"),
                ("{network}", "198.51.100.7"),
            ];
            let path =
                known.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
            let scheme = &operation["security"][0];
            let scheme = scheme.as_object().and_then(|o| o.keys().next().cloned());
            all.push((method.to_uppercase(), path, scheme.unwrap_or_default()));
        }
    }
    assert_eq!(all.len(), 55, "a new endpoint must be named in the tests");
    all
}

#[tokio::test]
async fn every_operation_of_the_document_checks_its_credential() {
    let site = Site::new();
    let operator = site.operator().await;
    for (method, path, scheme) in operations() {
        let stranger = site.ask(&method, &path, "", "").await;
        let forged = site.ask(&method, &path, "a.b.c", "").await;
        let reader = site.ask(&method, &path, &operator, "").await;
        let row = format!("{method} {path}");
        match (scheme.as_str(), method.as_str()) {
            ("jwt", _) => {
                let want = (401, "unauthorized".into(), "Could not validate credentials".into());
                assert_eq!(stranger.error(), want, "{row}");
                assert_eq!(forged.error(), want, "{row}");
                assert_eq!(stranger.header("www-authenticate"), Some("Bearer"), "{row}");
                if method == "GET" {
                    assert_eq!(reader.status, 200, "{row}");
                } else {
                    let want = (403, "forbidden".into(), "Admin role required".into());
                    assert_eq!(reader.error(), want, "{row}");
                }
            }
            ("bootstrap", _) => {
                assert_eq!(stranger.code(), (409, "already_initialised".into()), "{row}");
            }
            ("purenas_key", "GET") => {
                for reply in [stranger, forged, reader] {
                    assert_eq!(reply.status, 200, "{row}");
                    assert_eq!(reply.json(), json!({ "error": "Unauthorized access" }), "{row}");
                }
            }
            ("", "GET") => assert_eq!(stranger.status, 200, "{row}"),
            ("", _) => assert_eq!(stranger.code(), (415, "unsupported_media_type".into()), "{row}"),
            other => panic!("{row}: {other:?}"),
        }
        let wrong_method = site.ask("PATCH", &path, &operator, "").await;
        assert_eq!(wrong_method.code(), (405, "method_not_allowed".into()), "{row}");
        assert!(wrong_method.header("allow").is_some_and(|a| a.contains(&method)), "{row}");
    }
    assert_eq!(site.fake.state().calls.iter().filter(|c| c.contains(" by ")).count(), 0);
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

#[tokio::test]
async fn guessing_a_password_is_slowed_down() {
    let site = Site::new();
    for _ in 0..5 {
        let reply = site.login("ann", "guess").await;
        let want = (401, "bad_credentials".into(), "Incorrect username or password".into());
        assert_eq!(reply.error(), want);
    }
    let reply = site.login("ann", "correct horse").await;
    assert_eq!(reply.code(), (429, "locked_out".into()));
    assert_eq!(reply.header("retry-after"), Some("30"));
    assert_eq!(site.login("oli", "battery staple").await.status, 200);
    site.fake.state().tick = Tick::ZERO + Duration::from_secs(30);
    assert_eq!(site.login("ann", "correct horse").await.status, 200);

    // A fault of the node is not the caller's guess, and its cause stays in the log.
    for _ in 0..9 {
        let reply = site.login("broken", "x").await;
        assert_eq!(reply.error(), (500, "internal".into(), "Internal error".into()));
    }
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
