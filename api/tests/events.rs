//! The stream of events and webhooks in front of a fake node.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;

use api::types::LoginRequest;
use api::types::event::{EventKind, EventQuery, StreamItem};
use api::{Client, ClientConfig, ClientError, TlsTrust};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fake::Fake;
use model::Secret;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

struct Site {
    fake: Arc<Fake>,
    client: Client,
    token: Secret,
    server: tokio::task::JoinHandle<()>,
}

async fn site() -> Site {
    let fake = Fake::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = api::router(fake.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    let config = ClientConfig {
        // The first node is dead: nothing listens on port 1.
        urls: vec!["http://127.0.0.1:1".into(), url],
        token: None,
        trust: TlsTrust::System,
        timeout: Duration::from_secs(5),
    };
    let client = Client::new(config).unwrap();
    let login = LoginRequest { username: "ann".into(), password: Secret::new("correct horse") };
    let token = client.login(&login).await.unwrap().data.access_token;
    Site { fake, client: client.with_token(token.clone()), token, server }
}

impl Site {
    async fn get(&self, query: &str, last: Option<&str>) -> (StatusCode, String, String) {
        let mut request = Request::builder()
            .uri(format!("/api/v1/events/subscribers{query}"))
            .header("authorization", format!("Bearer {}", self.token.expose()));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let router = api::router(self.fake.clone());
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let kind = parts.headers["content-type"].to_str().unwrap().to_owned();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (parts.status, kind, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn frames_carry_name_place_and_body() {
    let site = site().await;
    let (status, kind, text) = site.get("?events=session.down", None).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "text/event-stream"));
    let data = json!({
        "event": "session.down", "timestamp": "2023-11-14T22:13:20.5Z", "id": "43",
        "data": {
            "id": 3, "type": "PPPoE", "username": "user3", "ip_address": "100.64.0.1",
            "interface": "port1.100", "group": "south", "rate_down": 0, "rate_up": 0,
            "reason": "user_request",
        },
    });
    let (head, body) = text.split_once("data: ").unwrap();
    assert_eq!(head, "id: 42\n\nevent: session.down\nid: 43\n");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), data);
    assert!(text.ends_with("\n\n"));
}

#[tokio::test]
async fn the_place_comes_from_the_header_or_the_query() {
    let site = site().await;
    let rows: &[(&str, Option<&str>, Result<&str, u16>)] = &[
        ("", Some("7.2"), Ok("7.2")),
        ("?last_event_id=8", None, Ok("8")),
        ("?last_event_id=8", Some("9"), Ok("9")),
        ("?last_event_id=8", Some(""), Ok("8")),
        ("", Some("x"), Err(400)),
        ("?last_event_id=x", None, Err(400)),
        ("?last_event_id=1001", None, Err(400)),
        ("?events=session.gone", None, Err(400)),
        ("?colour=red", None, Err(400)),
    ];
    for (query, last, want) in rows {
        let (status, _, text) = site.get(query, *last).await;
        match want {
            Ok(from) => assert!(text.starts_with(&format!("id: {from}\n\n")), "{query}: {text}"),
            Err(code) => assert_eq!(status.as_u16(), *code, "{query} {last:?}: {text}"),
        }
    }
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_when_its_node_is_gone() {
    let site = site().await;
    let query = EventQuery { events: Some("session.up".into()), ..EventQuery::default() };
    let mut follower = site.client.follow_events(query);
    let StreamItem::Position(_) = follower.next().await.unwrap() else { panic!("a place first") };
    let StreamItem::Event(event) = follower.next().await.unwrap() else { panic!("an event") };
    assert_eq!((event.event, event.data.username.as_str()), (EventKind::SessionUp, "user1"));
    // The fake's stream ends: the follower asks again, from the event that it has seen.
    follower.next().await.unwrap();
    let calls = site.fake.state().calls.clone();
    let asked: Vec<_> = calls.iter().filter(|c| c.starts_with("events")).collect();
    assert_eq!(asked, ["events after 42", "events after 43.1"]);
}

#[tokio::test]
async fn a_refusal_ends_a_follower_and_is_told() {
    let site = site().await;
    let query = EventQuery { events: Some("nothing".into()), ..EventQuery::default() };
    let refused = site.client.follow_events(query).next().await.unwrap_err();
    assert!(matches!(refused, ClientError::Api { status: 400, .. }), "{refused}");
    let refused = site.client.with_token(Secret::new("a.b.c")).follow_events(EventQuery::default());
    let refused = { refused }.next().await.unwrap_err();
    assert!(matches!(refused, ClientError::Api { status: 401, .. }), "{refused}");
    site.server.abort();
}

#[tokio::test]
async fn a_webhook_that_cannot_work_is_refused_with_all_that_is_wrong() {
    let site = site().await;
    let router = api::router(site.fake.clone());
    let rows: &[(serde_json::Value, &[&str])] = &[
        (json!({"url": "https://a.example/x", "events": ["session.up"]}), &[]),
        (json!({"url": "http://192.0.2.1:8080", "events": ["session.down"]}), &[]),
        (json!({"url": "ftp://a.example", "events": []}), &["url", "events"]),
        (json!({"url": "https://u:p@a.example", "events": ["session.up"]}), &["url"]),
        (
            json!({"url": "nowhere", "events": ["session.up"], "secret": "short"}),
            &["url", "secret"],
        ),
        (
            json!({"url": format!("https://a.example/{}", "x".repeat(2048)), "events": ["session.up"]}),
            &["url"],
        ),
        (json!({"url": "https://a.example", "events": ["session.gone"]}), &["events[0]"]),
        (json!({"url": "https://a.example", "events": ["session.up"], "x": 1}), &["x"]),
    ];
    for (body, want) in rows {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/webhooks")
            .header("authorization", format!("Bearer {}", site.token.expose()))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let text = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let places: Vec<_> = answer["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|e| e["path"].as_str().unwrap())
            .collect();
        assert_eq!((status, places.as_slice()), (if want.is_empty() { 200 } else { 422 }, *want));
    }
}
