//! Who may do what: credentials, permissions, logins, and input that is out to break something.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/operations.rs"]
mod operations;
#[path = "support/site.rs"]
mod site;

use api::{AccessCounts, PermissionSet};
use axum::body::Body;
use axum::http::Request;
use fake::auth::{API_KEY, CODE};
use model::Tick;
use operations::{Operation, operations};
use serde_json::{Value, json};
use site::{Reply, Site};
use std::time::Duration;

/// Operations that need no credential but are not about bootstrap.
const OPEN: &[&str] = &[
    "GET /metrics",
    "GET /api/v1/health",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/totp/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/cluster/admit",
    "GET /api/v1/auth/oauth/{provider}/authorize",
    "GET /api/v1/auth/oauth/{provider}/callback",
];

/// Operations for everybody with a credential, because they are about the caller only.
const ANYBODY: &[&str] = &[
    "GET /api/v1/auth/me",
    "POST /api/v1/auth/logout",
    "POST /api/v1/auth/ws-ticket",
    "POST /api/v1/auth/totp/setup",
    "POST /api/v1/auth/totp/verify",
    "POST /api/v1/auth/totp/disable",
];

/// A site with a custom role `noc`.
async fn site() -> Site {
    let site = Site::new();
    let token = site.admin().await;
    let body = json!({ "name": "noc", "permissions": ["dns:read"] }).to_string();
    assert_eq!(site.ask("POST", "/api/v1/auth/roles", &token, &body).await.status, 201);
    site.fake.state().calls.clear();
    site.fake.state().bans.insert(("198.51.100.7/32".parse().unwrap(), model::BanScope::All));
    let address = "172.16.0.4".parse().unwrap();
    site.fake.state().statics.insert(address, fake::policy::subscriber(address));
    site
}

/// Gives the key of ann exactly these permissions, and asks with it.
async fn with_key(site: &Site, permissions: PermissionSet, operation: &Operation) -> Reply {
    site.fake.state().access.keys.insert(API_KEY.to_owned(), permissions);
    let request = Request::builder().method(operation.method.as_str()).uri(operation.path());
    let request = request.header("authorization", format!("ApiKey {API_KEY}"));
    let request = request.header("content-type", "application/json");
    site.send(request.body(Body::from(operation.body())).unwrap()).await
}

fn is_credential_error(reply: &Reply, row: &str) {
    let want = (401, "unauthorized".into(), "Could not validate credentials".into());
    assert_eq!(reply.error(), want, "{row}");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{row}");
}

#[tokio::test]
async fn every_operation_of_the_document_checks_its_credential() {
    let site = site().await;
    for operation in operations() {
        let row = operation.name();
        let (method, path) = (operation.method.as_str(), operation.path());
        let stranger = site.ask(method, &path, "", "").await;
        let forged = site.ask(method, &path, "a.b.c", "").await;
        if operation.schemes.is_empty() {
            assert!(OPEN.contains(&row.as_str()), "{row} is open and not listed");
            assert_ne!(stranger.status, 403, "{row}");
        } else if operation.schemes == ["purenas_key"] {
            // Closed, in the shape of its dialect.
            for reply in [&stranger, &forged] {
                let want = json!({ "error": "Unauthorized access" });
                assert_eq!((reply.status.as_u16(), reply.json()), (200, want), "{row}");
            }
        } else if operation.schemes == ["bootstrap"] {
            assert_eq!(stranger.code(), (409, "already_initialised".into()), "{row}");
        } else {
            is_credential_error(&stranger, &row);
            is_credential_error(&forged, &row);
            assert!(operation.schemes.contains(&"api_key".to_owned()), "{row}");
            let any = operation.needs.is_none();
            assert_eq!(any, ANYBODY.contains(&row.as_str()), "{row} needs a permission");
        }
        let wrong_method = site.ask("PATCH", &path, "", "").await;
        assert_eq!(wrong_method.code(), (405, "method_not_allowed".into()), "{row}");
        assert!(wrong_method.header("allow").is_some_and(|a| a.contains(method)), "{row}");
    }
    assert_eq!(site.fake.state().calls, [] as [&str; 0]);
}

#[tokio::test]
async fn without_its_permission_every_operation_is_refused_and_with_only_it_is_done() {
    for operation in operations() {
        let Some(needs) = operation.needs else { continue };
        let site = site().await;
        let row = operation.name();
        let others = PermissionSet::all().iter().filter(|p| *p != needs).collect();
        let refused = with_key(&site, others, &operation).await;
        let want = (403, "forbidden".into(), "Admin role required".into());
        assert_eq!(refused.error(), want, "{row}");
        assert_eq!(site.fake.state().calls, [] as [&str; 0], "{row}");
        let only = [needs].into_iter().collect();
        let reply = with_key(&site, only, &operation).await;
        let declined = operation.template.contains("/oauth/");
        let personal = row == "POST /api/v1/auth/api-keys";
        match reply.status.as_u16() {
            501 if declined => {}
            403 if personal => assert_eq!(reply.code().1, "denied", "a key makes no key"),
            200 | 201 => assert!(!declined && !personal, "{row}"),
            other => panic!("{row}: {other} {}", reply.text),
        }
    }
}

#[tokio::test]
async fn an_operator_reads_everything_and_changes_nothing() {
    let site = site().await;
    let operator = site.operator().await;
    for operation in operations().iter().filter(|o| o.needs.is_some()) {
        let row = operation.name();
        let body = operation.body();
        let reply = site.ask(&operation.method, &operation.path(), &operator, &body).await;
        if operation.template.contains("/oauth/") && operation.method == "GET" {
            assert_eq!(reply.code(), (501, "not_provided".into()), "{row}");
        } else if operation.method == "GET" {
            assert_eq!(reply.status, 200, "{row}");
        } else {
            let want = (403, "forbidden".into(), "Admin role required".into());
            assert_eq!(reply.error(), want, "{row}");
        }
    }
    assert_eq!(site.fake.state().calls.iter().filter(|c| c.contains(" by ")).count(), 0);
}

#[tokio::test]
async fn a_login_answers_flat_and_its_token_works() {
    let site = Site::new();
    let reply = site.login("ann", "correct horse").await;
    let mut body = reply.json();
    let token = body["access_token"].take();
    assert_eq!(body["tokens"]["access_token"].take(), token);
    let (access, refresh) = (fake::START.as_secs() + 3600, fake::START.as_secs() + 86_400);
    let want = json!({
        "access_token": null, "token_type": "bearer", "expires_in": 3600,
        "access_expires_at": access, "refresh_token": "r-ann", "refresh_expires_at": refresh,
        "role": "admin", "totp_required": false, "totp_setup_required": false,
        "tokens": {
            "access_token": null, "token_type": "bearer", "access_expires_at": access,
            "refresh_token": "r-ann", "refresh_expires_at": refresh,
        },
    });
    assert_eq!(body, want);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let token = token.as_str().unwrap();
    let me = site.ask("GET", "/api/v1/auth/me", token, "").await.json();
    assert_eq!(me["data"]["role_id"], "admin");
    assert_eq!(me["data"]["credential"], "token");
    let body = json!({ "refresh_token": "r-ann" }).to_string();
    let reply = site.ask("POST", "/api/v1/auth/refresh", "", &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(reply.json()["access_token"].is_string());

    let reply = site.ask("POST", "/api/v1/auth/logout", token, "").await;
    assert_eq!(reply.json(), json!({ "status": "ok", "data": {}, "message": "Logged out" }));
    is_credential_error(&site.ask("GET", "/api/v1/auth/me", token, "").await, "after logout");
}

#[tokio::test]
async fn a_second_factor_takes_a_second_step_in_either_form() {
    let site = Site::new();
    let reply = site.login("tom", "pass word").await.json();
    assert_eq!((&reply["totp_required"], &reply["tokens"]), (&json!(true), &Value::Null));
    let challenge = &reply["challenge"];
    is_credential_error(
        &site.ask("GET", "/api/v1/auth/me", challenge.as_str().unwrap(), "").await,
        "a challenge is no token",
    );
    let path = "/api/v1/auth/totp/login";
    let good = [
        json!({ "challenge": challenge, "code": CODE }),
        json!({ "username": "tom", "password": "pass word", "totp_code": CODE }),
    ];
    for body in good {
        let reply = site.ask("POST", path, "", &body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.json()["role"], "viewer");
    }
    let rows = [
        (json!({ "challenge": challenge, "code": "1" }), 401, "bad_code"),
        (json!({ "challenge": "x", "code": CODE }), 401, "unauthorized"),
        (json!({ "challenge": challenge, "username": "tom", "code": CODE }), 422, "invalid"),
        (json!({ "username": "tom", "code": CODE }), 422, "invalid"),
        (json!({ "challenge": challenge }), 422, "invalid"),
        (json!({ "username": "tom", "password": "x", "code": CODE }), 401, "bad_credentials"),
    ];
    for (body, status, code) in rows {
        let reply = site.ask("POST", path, "", &body.to_string()).await;
        assert_eq!(reply.code(), (status, code.into()), "{body}");
    }
    site.fake.state().now = fake::START.plus_secs(301);
    let late = json!({ "challenge": challenge, "code": CODE }).to_string();
    assert_eq!(site.ask("POST", path, "", &late).await.code(), (401, "unauthorized".into()));
}

#[tokio::test]
async fn a_credential_of_another_scheme_or_place_is_none() {
    let site = Site::new();
    let token = site.admin().await;
    for (value, status) in [
        (format!("bearer {token}"), 200),
        (format!("apikey {API_KEY}"), 200),
        (format!("ApiKey {API_KEY}x"), 401),
        (format!("ApiKey {token}"), 401),
        (format!("Bearer {API_KEY}"), 401),
        (format!("Basic {token}"), 401),
        (token.clone(), 401),
        ("Bearer ".to_owned(), 401),
        (format!("Bearer {token}x"), 401),
    ] {
        let request = Request::builder().uri("/api/v1/groups").header("authorization", &value);
        let reply = site.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, status, "{value}");
    }
    // Tickets are for streams only, and this is none: it is not even spent.
    let reply = site.ask("POST", "/api/v1/auth/ws-ticket", &token, "").await.json();
    assert_eq!(reply["expires_in_seconds"], 30);
    let ticket = reply["ticket"].as_str().unwrap();
    let reply = site.ask("GET", &format!("/api/v1/groups?ticket={ticket}"), "", "").await;
    is_credential_error(&reply, "a ticket at a list");
    assert!(site.fake.state().access.tickets.contains(ticket));
    let stream = format!("/api/v1/events/subscribers?type=pppoe&ticket={ticket}");
    assert_eq!(site.ask("GET", &stream, "", "").await.status, 200);
    is_credential_error(&site.ask("GET", &stream, "", "").await, "a spent ticket");
}

#[tokio::test]
async fn a_disabled_user_and_a_changed_role_take_effect_at_once() {
    let site = Site::new();
    let token = site.operator().await;
    assert_eq!(site.ask("GET", "/api/v1/auth/users", &token, "").await.status, 200);
    site.fake.state().access.users.get_mut("oli").unwrap().role = model::ApiRole::new("viewer");
    let reply = site.ask("GET", "/api/v1/auth/users", &token, "").await;
    assert_eq!(reply.code(), (403, "forbidden".into()));
    site.fake.state().access.users.get_mut("oli").unwrap().enabled = false;
    is_credential_error(&site.ask("GET", "/api/v1/groups", &token, "").await, "disabled");
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
    assert_eq!(reply.header("retry-after"), Some("300"));
    let operator = site.operator().await;
    site.ask("GET", "/api/v1/groups", "junk", "").await;
    site.ask("DELETE", "/api/v1/subscribers/1", &operator, "").await;
    site.ask("GET", "/metrics", "", "").await;
    let want = AccessCounts {
        logins_succeeded: 1,
        logins_failed: 5,
        logins_locked: 1,
        unauthorized: 1,
        forbidden: 1,
    };
    assert_eq!(site.fake.state().counts, want);
    assert_eq!(site.login("oli", "battery staple").await.status, 200);
    site.fake.state().tick = Tick::ZERO + Duration::from_secs(300);
    assert_eq!(site.login("ann", "correct horse").await.status, 200);

    // A fault of the node is not the caller's guess, and its cause stays in the log.
    for _ in 0..9 {
        let reply = site.login("broken", "x").await;
        assert_eq!(reply.error(), (500, "internal".into(), "Internal error".into()));
    }
}

#[tokio::test]
async fn a_right_password_does_not_pay_for_guessing_codes() {
    let site = Site::new();
    let path = "/api/v1/auth/totp/login";
    for n in 0..5 {
        let challenge = site.login("tom", "pass word").await.json()["challenge"].take();
        let body = json!({ "challenge": challenge, "code": format!("{n:06}") }).to_string();
        assert_eq!(site.ask("POST", path, "", &body).await.code(), (401, "bad_code".into()));
    }
    assert_eq!(site.login("tom", "pass word").await.code(), (429, "locked_out".into()));
}

#[tokio::test]
async fn an_address_is_locked_whatever_names_it_tries() {
    let site = Site::new();
    let login = async |host: u8, name: &str, password: &str| {
        let from = std::net::SocketAddr::from(([192, 0, 2, host], 40_000));
        let body = json!({ "username": name, "password": password }).to_string();
        let request = Request::builder().method("POST").uri("/api/v1/auth/login");
        let request = request
            .header("content-type", "application/json")
            .extension(axum::extract::ConnectInfo(from));
        site.send(request.body(Body::from(body)).unwrap()).await.status.as_u16()
    };
    for n in 0..5 {
        assert_eq!(login(1, &format!("user{n}"), "guess").await, 401);
    }
    assert_eq!(login(1, "ann", "correct horse").await, 429);
    assert_eq!(login(2, "ann", "correct horse").await, 200);
}

#[tokio::test]
async fn registration_is_closed_until_a_setting_opens_it_and_slow_then() {
    let site = Site::new();
    let path = "/api/v1/auth/register";
    let body = |n: u32| json!({ "username": format!("u{n}"), "password": "12345678" }).to_string();
    let reply = site.ask("POST", path, "", &body(0)).await;
    assert_eq!(reply.error(), (403, "denied".into(), "Registration is closed".into()));
    site.fake.state().access.settings.allow_registration = true;
    assert_eq!(site.ask("POST", path, "", &body(0)).await.status, 201);
}

#[tokio::test]
async fn a_version_that_is_not_the_present_one_changes_nothing() {
    let site = site().await;
    let token = site.admin().await;
    let reply = site.ask("GET", "/api/v1/auth/users/oli", &token, "").await;
    assert_eq!(reply.header("etag"), Some("\"7\""));
    for (value, status, code) in [
        ("\"6\"", 412, "precondition_failed"),
        ("6", 412, "precondition_failed"),
        ("\"x\"", 400, "bad_request"),
        ("\"7\", \"8\"", 400, "bad_request"),
        ("-7", 400, "bad_request"),
        ("99999999999999999999", 400, "bad_request"),
        ("", 400, "bad_request"),
    ] {
        for (method, path, body) in [
            ("PUT", "/api/v1/auth/users/oli", "{}"),
            ("DELETE", "/api/v1/auth/users/oli", ""),
            ("PUT", "/api/v1/auth/settings", "{}"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json")
                .header("if-match", value);
            let reply = site.send(request.body(Body::from(body)).unwrap()).await;
            assert_eq!(reply.code(), (status, code.into()), "{method} {path} {value:?}");
        }
    }
    assert_eq!(site.fake.state().calls.iter().filter(|c| c.contains(" by ")).count(), 0);
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_and_nothing_is_done() {
    let site = Site::new();
    let token = site.admin().await;
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    let deep = format!(r#"{{"name":"x","permissions":{deep}}}"#);
    let rows: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "users", r#"{"username":"x","pass":"y"}"#, 422, "unknown field"),
        ("POST", "users", r#"{"username":1}"#, 422, "username: "),
        ("POST", "roles", r#"{"name":"x","permissions":["a:b"]}"#, 422, "permissions[0]: "),
        ("POST", "roles", r#"{"name":"x","permissions":"all"}"#, 422, "permissions: "),
        ("POST", "roles", &deep, 422, "permissions[0]"),
        ("POST", "api-keys", r#"{"name":"x","expires_at":"soon"}"#, 422, "expires_at: "),
        ("POST", "api-keys", r#"{"permissions":[]}"#, 422, "missing field `name`"),
        ("PUT", "settings", r#"{"max_login_attempts":0}"#, 422, "max_login_attempts: "),
        ("PUT", "settings", r#"{"lock":1}"#, 422, "unknown field"),
        ("PUT", "users/nobody", "{}", 404, "user nobody not found"),
        ("DELETE", "roles/none", "", 404, "role none not found"),
        ("DELETE", "api-keys/none", "", 404, "API key none not found"),
        ("GET", "audit?limit=0", "", 400, "limit must be 1 to 1000"),
        ("GET", "audit?limit=1001", "", 400, "limit must be"),
        ("GET", "audit?offset=1", "", 400, "unknown field"),
        ("POST", "totp/verify", r#"{"code":123456}"#, 422, "code: "),
        ("POST", "login", r#"{"username":"x"}"#, 422, "missing field `password`"),
    ];
    for (method, path, body, status, part) in rows {
        let reply = site.ask(method, &format!("/api/v1/auth/{path}"), &token, body).await;
        let (got, _, text) = reply.error();
        assert_eq!(got, *status, "{method} {path} {body}: {text}");
        assert!(text.contains(part), "{method} {path} {body}: {text}");
    }
    assert_eq!(site.fake.state().calls.iter().filter(|c| c.contains(" by ")).count(), 0);
}
