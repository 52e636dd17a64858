//! A router in front of a fake node, asked without a socket.
#![allow(dead_code, reason = "not every test uses everything")]

use super::fake::Fake;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    /// Checks the shape of an error body; its status, code and text.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let body = self.json();
        assert_eq!(body["status"], "error", "{body}");
        assert_eq!(body["message"], body["error"], "{body}");
        assert_eq!(body["message"], body["detail"], "{body}");
        let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        (self.status.as_u16(), text("code"), text("message"))
    }

    pub(crate) fn code(&self) -> (u16, String) {
        let (status, code, _) = self.error();
        (status, code)
    }
}

pub(crate) struct Site {
    pub(crate) fake: Arc<Fake>,
    pub(crate) router: Router,
}

impl Site {
    pub(crate) fn new() -> Self {
        let fake = Fake::new();
        Self { router: api::router(fake.clone()), fake }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(crate) async fn login(&self, username: &str, password: &str) -> Reply {
        let body = json!({ "username": username, "password": password }).to_string();
        self.ask("POST", "/api/v1/auth/login", "", &body).await
    }

    pub(crate) async fn admin(&self) -> String {
        let reply = self.login("ann", "correct horse").await;
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn operator(&self) -> String {
        let reply = self.login("oli", "battery staple").await;
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }
}
