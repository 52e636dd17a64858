//! The binary in front of a fake node.
#![allow(dead_code, reason = "not every test uses everything")]

use super::fake::Fake;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// A fake node, and a home of its own for `bngctl`.
pub(crate) struct Site {
    pub(crate) fake: Arc<Fake>,
    pub(crate) url: String,
    pub(crate) home: TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let fake = Fake::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let service = api::router(fake.clone()).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { fake, url, home: TempDir::new().unwrap() }
    }

    pub(crate) async fn logged_in() -> Self {
        let site = Self::new().await;
        site.ok(&["--url", &site.url, "login", "--username", "ann", "--password", "correct horse"]);
        site
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bngctl"));
        command.env_clear().env("HOME", self.home.path()).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// Runs what must succeed; its output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {out}{err}");
        out
    }

    pub(crate) fn profile(&self) -> std::path::PathBuf {
        self.home.path().join(".config/bngctl/token.json")
    }
}

/// Compares a table without the blanks at the ends of its lines.
pub(crate) fn same(got: &str, want: &str) {
    assert_eq!(got.trim_end(), want.trim(), "got:\n{got}\nwant:\n{want}");
}
