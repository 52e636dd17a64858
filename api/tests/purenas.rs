//! Policy in front of a fake node: the PureNAS dialect, every path, its shapes, its refusals, its key; and the same
//! under `/api/v1/policy`.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "support/fake.rs"]
mod fake;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use fake::Fake;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

const KEY: &str = "key of the dialect & more";
/// [`KEY`] in a query.
const QUERY: &str = "?key=key+of%20the%20dialect+%26+more";

struct Site {
    fake: Arc<Fake>,
    router: Router,
}

impl Site {
    fn new() -> Self {
        let fake = Fake::new();
        fake.state().purenas_key = Some(KEY);
        Self { router: api::router(fake.clone()), fake }
    }

    async fn send(&self, method: &str, uri: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn raw(&self, uri: &str) -> Value {
        let (status, body) = self.send("GET", uri).await;
        assert_eq!(status, 200, "{uri}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{uri}: {e}: {body}"))
    }

    /// With the key.
    async fn get(&self, path: &str) -> Value {
        self.raw(&format!("{path}{QUERY}")).await
    }

    /// Under `/api/v1/policy`, logged in as administrator.
    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let send = async |method, uri: String, token: &str, body: Value| {
            let request = Request::builder()
                .method(method)
                .uri(&uri)
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/json");
            let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
            let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), 200, "{uri}");
            let octets = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            serde_json::from_slice::<Value>(&octets).unwrap()
        };
        let login = json!({ "username": "ann", "password": "correct horse" });
        let login = send("POST", "/api/v1/auth/login".to_owned(), "", login).await;
        let token = login["access_token"].as_str().unwrap();
        let mut answer = send(method, format!("/api/v1/policy/{path}"), token, body).await;
        assert_eq!(answer["status"], "ok", "{path}");
        answer["data"].take()
    }

    async fn getall(&self) -> Value {
        self.get("/api/subscriber/getall").await
    }
}

fn done(text: &str) -> Value {
    json!({ "success": true, "output": format!("== {text} ==") })
}

fn failed(text: &str) -> Value {
    json!({ "success": false, "output": format!("Error: {text}") })
}

fn refused(text: &str) -> Value {
    json!({ "error": text })
}

#[tokio::test]
async fn every_path_answers_in_the_shape_of_the_dialect() {
    let site = Site::new();
    assert_eq!(site.getall().await, json!([]), "an empty table is a list");
    let waiting = json!({
        "success": true, "waitauth": [{ "ip": "172.16.0.50", "mac": "aa:bb:cc:dd:ee:ff" }]
    });
    assert_eq!(site.get("/api/subscriber/getwaitauth").await, waiting);
    let rows = [
        ("subscriber/allow/172.16.0.4", done("Added 172.16.0.4 to allowed_clients set")),
        (
            "subscriber/shape/172.16.0.4/1000",
            done("SHAPED: 172.16.0.4 down 1000 Kbit up 1000 Kbit"),
        ),
        (
            "subscriber/shape/172.16.0.4/1000/500",
            done("SHAPED: 172.16.0.4 down 1000 Kbit up 500 Kbit"),
        ),
        (
            "subscriber/mac/172.16.0.4/AA:bb:cc:dd:ee:01",
            done("Bound 172.16.0.4 to aa:bb:cc:dd:ee:01"),
        ),
        ("subscriber/disallow/172.16.0.4", done("Removed 172.16.0.4 from allowed_clients set")),
        ("ban/ip/1.2.3.4", done("Banned 1.2.3.4")),
        ("ban/ip/10.0.0.0/24", done("Banned 10.0.0.0/24")),
        ("ban/icmp/10.0.0.0%2F24", done("Banned ICMP of 10.0.0.0/24")),
    ];
    for (path, want) in rows {
        assert_eq!(site.get(&format!("/api/{path}")).await, want, "{path}");
    }
    let row = json!({
        "ip": "172.16.0.4", "state": "INACTIVE", "mac": "aa:bb:cc:dd:ee:ff", "ratedown": "1 Mbit",
        "rateup": "500 Kbit", "hits": 1234, "flag": "RS"
    });
    assert_eq!(site.getall().await, json!({ "172.16.0.4": row }));
    assert_eq!(site.fake.state().bans.len(), 3);

    let rows = [
        ("subscriber/unshape/172.16.0.4", done("UNSHAPED: 172.16.0.4")),
        ("subscriber/unmac/172.16.0.4", done("Unbound 172.16.0.4")),
        ("subscriber/allow/172.16.0.4", done("Added 172.16.0.4 to allowed_clients set")),
        ("unban/ip/1.2.3.4", done("Unbanned 1.2.3.4")),
        ("unban/ip/10.0.0.0/24", done("Unbanned 10.0.0.0/24")),
        ("unban/icmp/10.0.0.0/24", done("Unbanned ICMP of 10.0.0.0/24")),
    ];
    for (path, want) in rows {
        assert_eq!(site.get(&format!("/api/{path}")).await, want, "{path}");
    }
    let row = json!({
        "ip": "172.16.0.4", "state": "ACTIVE", "mac": "aa:bb:cc:dd:ee:ff",
        "ratedown": "unlimited", "rateup": "unlimited", "hits": null, "flag": "R"
    });
    assert_eq!(site.getall().await, json!({ "172.16.0.4": row }));
    assert_eq!(site.fake.state().bans.len(), 0);
}

#[tokio::test]
async fn the_machine_is_told_with_all_keys_of_the_dialect() {
    let info = Site::new().get("/api/system/info").await;
    let keys = "/os /os_release /os_full_release /hostname /machine_arch /php_version /cpu/name \
        /cpu/cores /memory/total /memory/free /memory/used /memory/used_percent \
        /memory/free_percent /uptime/seconds /uptime/days /uptime/hours /uptime/minutes \
        /load/la1 /load/la5 /load/la15 /load/load_percent /load/load_percent1 \
        /load/load_percent5 /load/load_percent15 /load/load_avg_percent";
    for key in keys.split_whitespace() {
        assert!(info.pointer(key).is_some(), "{key} in {info}");
    }
    assert_eq!(info.as_object().unwrap().len(), 10, "{info}");
}

#[tokio::test]
async fn refusals_have_the_two_shapes_of_the_dialect() {
    const DOWN: &str = "Download speed in kbit/s is required and must be greater than 0";
    const UP: &str = "Upload speed in kbit/s must be greater than 0";
    let site = Site::new();
    let rows = [
        ("subscriber", refused("Not specified action")),
        ("subscriber/", refused("Not specified action")),
        ("subscriber/explode/1.2.3.4", refused("Not specified action")),
        ("subscriber/getall/1.2.3.4", refused("Not specified action")),
        ("ban/allow", refused("Not specified action")),
        ("system", refused("Not specified action")),
        ("system/reboot", refused("Not specified action")),
        ("subscriber/allow", refused("IP address is required")),
        ("subscriber/allow/", refused("IP address is required")),
        ("subscriber/shape", refused("IP address is required")),
        ("ban/ip", refused("IP address is required")),
        ("unban/icmp/", refused("IP address is required")),
        ("subscriber/allow/1.2.3", refused("Invalid IP address format")),
        ("subscriber/allow/1.2.3.4/24", refused("Not specified action")),
        ("subscriber/disallow/2001:db8::1", refused("Invalid IP address format")),
        ("subscriber/shape/x/1000", refused("Invalid IP address format")),
        ("subscriber/shape/1.2.3.4", refused(DOWN)),
        ("subscriber/shape/1.2.3.4/0", refused(DOWN)),
        ("subscriber/shape/1.2.3.4/-5", refused(DOWN)),
        ("subscriber/shape/1.2.3.4/99999999999999999999", refused(DOWN)),
        ("subscriber/shape/1.2.3.4/18446744073709551615", refused(DOWN)),
        ("subscriber/shape/1.2.3.4/5/0", refused(UP)),
        ("subscriber/mac/1.2.3.4", refused("Invalid MAC address format")),
        ("subscriber/mac/1.2.3.4/aabbccddeeff", refused("Invalid MAC address format")),
        ("ban/ip/10.0.0.0/33", refused("Invalid IP address format")),
        ("ban/ip/10.0.0.1/24", refused("Invalid IP address format")),
        ("ban/icmp/host", refused("Invalid IP address format")),
        ("subscriber/allow/10.0.0.1", failed("10.0.0.1 lies in no IPoE network")),
        ("subscriber/disallow/172.16.0.9", failed("static subscriber not found")),
        ("subscriber/mac/172.16.0.9/02:00:00:00:00:01", failed("static subscriber not found")),
        ("unban/ip/1.2.3.4", failed("ban not found")),
        ("ban/ip/192.0.2.0/24", failed("it cuts off member bng1")),
    ];
    for (path, want) in rows {
        assert_eq!(site.get(&format!("/api/{path}")).await, want, "{path}");
    }
    site.fake.state().has_leader = false;
    let want = refused("No leader, try again in 2 s");
    for path in ["/api/subscriber/getall", "/api/ban/ip/1.2.3.4", "/api/subscriber/allow/1.2.3.4"] {
        assert_eq!(site.get(path).await, want, "{path}");
    }
}

#[tokio::test]
async fn nothing_is_told_or_done_without_the_key() {
    let site = Site::new();
    let paths = [
        "/api/subscriber/getall",
        "/api/subscriber/getwaitauth",
        "/api/subscriber/allow/172.16.0.4",
        "/api/subscriber/nothing",
        "/api/ban/ip/1.2.3.4",
        "/api/system/info",
        "/api/system",
    ];
    let wrong =
        ["", "?key=", "?key=wrong", "?Key=x", &format!("{QUERY}x"), &format!("{QUERY}&key=x")];
    for path in paths {
        for query in wrong {
            let got = site.raw(&format!("{path}{query}")).await;
            assert_eq!(got, refused("Invalid API key"), "{path}{query}");
        }
    }
    site.fake.state().purenas_key = None;
    for path in paths {
        for query in ["", "?key=", QUERY] {
            let got = site.raw(&format!("{path}{query}")).await;
            assert_eq!(got, refused("Unauthorized access"), "{path}{query}");
        }
    }
    assert_eq!(site.fake.state().calls, Vec::<String>::new());
}

/// Proxies and browsers send HEAD of their own accord.
#[tokio::test]
async fn only_a_get_changes_anything() {
    let site = Site::new();
    let path = format!("/api/ban/ip/1.2.3.4{QUERY}");
    site.send("HEAD", &path).await;
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(site.send(method, &path).await.0, 405, "{method}");
    }
    assert_eq!(site.fake.state().calls, Vec::<String>::new());
    site.get("/api/ban/ip/1.2.3.4").await;
    assert_eq!(site.fake.state().calls, ["ban 1.2.3.4/32 All true by purenas key -"]);
}

#[tokio::test]
async fn the_same_is_there_in_the_envelope_of_version_1() {
    let site = Site::new();
    let (none, mac) = (Value::Null, "02:00:00:00:00:01");
    let rows = [
        // method, path, body, a place in `data`, what stands there
        ("GET", "subscribers", none.clone(), "/count", json!(0)),
        (
            "PUT",
            "subscribers/172.16.0.4/allowed",
            json!({ "allowed": true }),
            "/state",
            json!("active"),
        ),
        ("PUT", "subscribers/172.16.0.4/mac", json!({ "mac": mac }), "/bound_mac", json!(mac)),
        ("DELETE", "subscribers/172.16.0.4/mac", none.clone(), "/bound_mac", none.clone()),
        (
            "PUT",
            "subscribers/172.16.0.4/rate",
            json!({ "rate_down": 5, "rate_up": 6 }),
            "/rate_down",
            json!(5),
        ),
        (
            "PUT",
            "subscribers/172.16.0.4/allowed",
            json!({ "allowed": false }),
            "/state",
            json!("disallowed"),
        ),
        ("GET", "subscribers", none.clone(), "/subscribers/0/rate_up", json!(6)),
        ("DELETE", "subscribers/172.16.0.4", none.clone(), "/ip_address", json!("172.16.0.4")),
        ("PUT", "bans/all/10.0.0.0%2F24", none.clone(), "/network", json!("10.0.0.0/24")),
        ("PUT", "bans/icmp/10.0.0.7", none.clone(), "/banned", json!(true)),
        ("GET", "bans", none.clone(), "/bans/1/network", json!("10.0.0.7/32")),
        ("DELETE", "bans/icmp/10.0.0.7", none.clone(), "/banned", json!(false)),
        ("GET", "bans", none.clone(), "/count", json!(1)),
        ("GET", "waiting", none, "/sources/0/ip_address", json!("172.16.0.50")),
    ];
    for (method, path, body, place, want) in rows {
        let data = site.ask(method, path, body).await;
        assert_eq!(data.pointer(place), Some(&want), "{method} {path}: {data}");
    }
}
