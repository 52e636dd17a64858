//! Access on real nodes: router, log and state, without sockets in front.

mod cluster;
mod hostile;
mod tls;
mod tokens;
mod users;

use super::totp;
use crate::daemon::Daemon;
use crate::dev::{self, DevArgs};
use crate::service::Api;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt as _;

const PASSWORD: &str = "tandem-test";

/// An address whose port, and the two after it, are free.
fn free() -> SocketAddr {
    for _ in 0..100 {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = first.local_addr().unwrap();
        let Some(raft) = addr.port().checked_add(1) else { continue };
        let Some(lease) = raft.checked_add(1) else { continue };
        let raft = TcpListener::bind((Ipv4Addr::LOCALHOST, raft));
        let lease = UdpSocket::bind((Ipv4Addr::LOCALHOST, lease));
        if raft.is_ok() && lease.is_ok() {
            return addr;
        }
    }
    panic!("no three free ports in a row");
}

struct Node {
    daemon: Arc<Daemon>,
    api: Arc<Api>,
    router: Router,
    _dir: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.json);
        self.json
    }

    fn revision(&self) -> u64 {
        self.headers["x-tandem-revision"].to_str().unwrap().parse().unwrap()
    }
}

impl Node {
    /// A node of a cluster of its own, with sessions.
    async fn new(sessions: u32) -> Self {
        Self::start(sessions, false).await.0
    }

    /// The same, and it listens.
    async fn serving() -> (Self, tokio::task::JoinHandle<()>) {
        let (node, serving) = Self::start(0, true).await;
        (node, serving.unwrap())
    }

    async fn start(sessions: u32, serve: bool) -> (Self, Option<tokio::task::JoinHandle<()>>) {
        let _first = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let args = DevArgs {
            listen: free(),
            data_dir: Some(dir.path().to_owned()),
            sessions,
            password: PASSWORD.into(),
        };
        let config = dev::config(&args, dir.path().to_owned());
        let daemon = Daemon::prepare(config).await.unwrap();
        let serving = serve.then(|| {
            let daemon = daemon.clone();
            tokio::spawn(async move { daemon.run().await.unwrap() })
        });
        while serve && tokio::net::TcpStream::connect(args.listen).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        dev::begin(&daemon, &args).await.unwrap();
        (Self::of(daemon, dir), serving)
    }

    fn of(daemon: Arc<Daemon>, dir: TempDir) -> Self {
        let api = Arc::new(Api::new(daemon.clone()));
        Self { router: api::router(api.clone()), api, daemon, _dir: dir }
    }

    fn state(&self) -> Arc<raft_store::State> {
        self.daemon.member.get().unwrap().local.store.state()
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, json }
    }

    /// `path` is what stands behind `/api/v1/`.
    async fn ask(&self, method: &str, path: &str, auth: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/v1/{path}");
        let headers = if auth.is_empty() { vec![] } else { vec![("authorization", auth)] };
        self.send(method, &path, &headers, body).await
    }

    async fn get(&self, path: &str, auth: &str) -> Answer {
        self.ask("GET", path, auth, Value::Null).await
    }

    async fn login_as(&self, username: &str, password: &str) -> Answer {
        let body = json!({ "username": username, "password": password });
        self.ask("POST", "auth/login", "", body).await
    }

    /// The authorization of an access token.
    async fn auth(&self, username: &str, password: &str) -> String {
        bearer(&self.login_as(username, password).await.is(200))
    }

    async fn admin(&self) -> String {
        self.auth("admin", PASSWORD).await
    }

    /// Adds a user with password `password`.
    async fn add_user(&self, name: &str, role: &str) {
        let body = json!({ "username": name, "password": "password", "role": role });
        self.ask("POST", "auth/users", &self.admin().await, body).await.is(201);
    }

    /// Adds a role.
    async fn add_role(&self, name: &str, permissions: &[&str]) {
        let body = json!({ "name": name, "permissions": permissions });
        self.ask("POST", "auth/roles", &self.admin().await, body).await.is(201);
    }

    /// The newest audit records.
    async fn audit(&self, count: u32) -> Vec<Value> {
        let auth = self.admin().await;
        // The login just now is one of them.
        let mut page = self.get(&format!("auth/audit?limit={}", count + 1), &auth).await.is(200);
        let mut all: Vec<Value> = serde_json::from_value(page["data"]["audit"].take()).unwrap();
        assert_eq!(all.remove(0)["action"], "login");
        all
    }
}

fn bearer(login: &Value) -> String {
    format!("Bearer {}", login["access_token"].as_str().unwrap())
}
