//! Input that is out to break something.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;
#[path = "support/operations.rs"]
mod operations;
#[path = "support/site.rs"]
mod site;

use operations::operations;
use proptest::prelude::*;
use site::Site;

/// One request of a sequence: any operation, with a body, ids and a credential from a bag of good
/// and bad ones.
fn requests() -> impl Strategy<Value = (usize, usize, usize, usize)> {
    (any::<usize>(), any::<usize>(), any::<usize>(), any::<usize>())
}

const IDS: &[&str] = &[
    "1",
    "oli",
    "noc",
    "south",
    "k1",
    "nobody",
    "%00",
    "%2e%2e",
    "..",
    "-1",
    "99999999999999999999",
    "ä",
    "%ff",
    "a%2fb",
    "%22",
    "*",
];

const BODIES: &[&str] = &[
    "",
    "null",
    "{}",
    "[]",
    "0",
    "\"x\"",
    "{",
    "\u{0}",
    "{\"username\":null}",
    r#"{"username":"x","password":"y"}"#,
    r#"{"name":"x","permissions":["dns:read"]}"#,
    r#"{"code":"123456"}"#,
    r#"{"refresh_token":"r-ann"}"#,
    r#"{"refresh_token":"r-nobody"}"#,
    r#"{"rate_down":18446744073709551615,"rate_up":1e400}"#,
    r#"{"rate_down":1,"rate_up":1}"#,
    r#"{"to":"wit"}"#,
    r#"{"ttl_s":60}"#,
    r#"{"enabled":false}"#,
    r#"{"max_login_attempts":1}"#,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_requests_makes_the_node_fail(
        sequence in proptest::collection::vec(requests(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let site = Site::new();
            let operations = operations();
            let tokens = [String::new(), "junk".to_owned(), site.admin().await, site.operator().await];
            for (operation, body, id, token) in sequence {
                let operation = &operations[operation % operations.len()];
                let id = IDS[id % IDS.len()];
                let mut path = operation.template.clone();
                for name in ["{id}", "{name}", "{provider}", "{version}"] {
                    path = path.replace(name, id);
                }
                let Ok(uri) = path.parse::<axum::http::Uri>() else { continue };
                let body = match body % (BODIES.len() + 3) {
                    0 => "[".repeat(30_000),
                    1 => format!("{{\"path\":\"a\",\"value\":{}1{}}}", "[".repeat(200), "]".repeat(200)),
                    2 => format!("{{\"name\":\"{}\"}}", "x".repeat(70_000)),
                    n => BODIES[n - 3].to_owned(),
                };
                let token = &tokens[token % tokens.len()];
                let reply = site.ask(&operation.method, &uri.to_string(), token, &body).await;
                let declined = operation.template.contains("/oauth/") && reply.status == 501;
                assert!(
                    reply.status.as_u16() < 500 || declined,
                    "{} {uri} {body:.80}: {} {}", operation.method, reply.status, reply.text
                );
                if reply.status.as_u16() >= 400 {
                    // Also checks the shape.
                    reply.error();
                }
            }
        });
    }
}
