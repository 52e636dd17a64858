use super::*;
use crate::clock;
use api::{ApiError, Auth as _};
use model::Collection;

async fn refresh(node: &Node, token: &Value) -> Answer {
    node.ask("POST", "auth/refresh", "", json!({ "refresh_token": token })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_a_second_use_ends_the_login() {
    let node = Node::new(0).await;
    let first = node.login_as("admin", PASSWORD).await.is(200);
    let second = refresh(&node, &first["refresh_token"]).await.is(200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    // The answer was lost and the client asks again: it gets the same token, not a verdict.
    let again = refresh(&node, &first["refresh_token"]).await.is(200);
    assert_eq!(again["refresh_token"], second["refresh_token"]);
    let third = refresh(&node, &second["refresh_token"]).await.is(200);
    let other = node.login_as("admin", PASSWORD).await.is(200);
    node.get("auth/me", &bearer(&third)).await.is(200);

    refresh(&node, &first["refresh_token"]).await.is(401);
    refresh(&node, &third["refresh_token"]).await.is(401);
    node.get("auth/me", &bearer(&third)).await.is(401);
    node.get("auth/me", &bearer(&other)).await.is(200);
    refresh(&node, &other["refresh_token"]).await.is(200);
    let audit = node.audit(3).await;
    assert!(audit.iter().any(|r| r["action"] == "token.reused"), "{audit:?}");
    for junk in ["", "x", "a.b", &"0".repeat(97)] {
        refresh(&node, &json!(junk)).await.is(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_two_send_at_once_gives_both_the_same() {
    let node = Node::new(0).await;
    let login = node.login_as("admin", PASSWORD).await.is(200);
    let token = &login["refresh_token"];
    let (a, b, c) =
        tokio::join!(refresh(&node, token), refresh(&node, token), refresh(&node, token));
    let (a, b, c) = (a.is(200), b.is(200), c.is(200));
    assert_eq!(a["refresh_token"], b["refresh_token"]);
    assert_eq!(a["refresh_token"], c["refresh_token"]);
    refresh(&node, &a["refresh_token"]).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_access_token_and_its_refresh_tokens() {
    let node = Node::new(0).await;
    let login = node.login_as("admin", PASSWORD).await.is(200);
    let auth = bearer(&login);
    node.ask("POST", "auth/logout", &auth, Value::Null).await.is(200);
    node.get("auth/me", &auth).await.is(401);
    refresh(&node, &login["refresh_token"]).await.is(401);
    let junk = json!({ "refresh_token": "x" });
    node.ask("POST", "auth/logout", &node.admin().await, junk).await.is(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_has_ends_with_its_password_its_account_or_its_role() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    node.add_user("eve", "operator").await;
    let login = node.login_as("eve", "password").await.is(200);
    let auth = bearer(&login);
    node.get("auth/users", &auth).await.is(200);
    node.ask("PUT", "auth/users/eve", &admin, json!({ "role": "viewer" })).await.is(200);
    node.get("auth/users", &auth).await.is(403);
    node.get("subscribers", &auth).await.is(200);
    node.ask("PUT", "auth/users/eve", &admin, json!({ "password": "password2" })).await.is(200);
    node.get("subscribers", &auth).await.is(401);
    refresh(&node, &login["refresh_token"]).await.is(401);
    node.login_as("eve", "password").await.is(401);
    let auth = node.auth("eve", "password2").await;
    node.ask("PUT", "auth/users/eve", &admin, json!({ "enabled": false })).await.is(200);
    node.get("subscribers", &auth).await.is(401);
    node.login_as("eve", "password2").await.is(401);
    node.ask("PUT", "auth/users/eve", &admin, json!({ "enabled": true })).await.is(200);
    node.get("subscribers", &auth).await.is(401);
    let auth = node.auth("eve", "password2").await;
    node.ask("DELETE", "auth/users/eve", &admin, Value::Null).await.is(200);
    node.get("subscribers", &auth).await.is(401);
    assert_eq!(super::super::records::families(&node.state(), "eve").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_factor_from_its_setup_to_its_end() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    let strict = json!({ "require_totp": true });
    node.ask("PUT", "auth/settings", &admin, strict.clone()).await.is(422);
    let setup = node.ask("POST", "auth/totp/setup", &admin, Value::Null).await.is(200);
    let secret = setup["data"]["secret"].as_str().unwrap().to_owned();
    let recovery: Vec<String> =
        serde_json::from_value(setup["data"]["recovery_codes"].clone()).unwrap();
    let code = |ahead_s| totp::code_at(&secret, clock::wall().plus_secs(ahead_s));
    // Not asked for before a first code.
    node.login_as("admin", PASSWORD).await.is(200);
    node.ask("POST", "auth/totp/verify", &admin, json!({ "code": "1234567" })).await.is(401);
    node.ask("POST", "auth/totp/verify", &admin, json!({ "code": code(0) })).await.is(200);
    node.ask("POST", "auth/totp/setup", &admin, Value::Null).await.is(409);
    let me = node.get("auth/me", &admin).await.is(200);
    assert_eq!(me["data"]["totp_enabled"], true);

    let first = node.login_as("admin", PASSWORD).await.is(200);
    assert_eq!((&first["totp_required"], &first["tokens"]), (&json!(true), &Value::Null));
    let step = |code: String| json!({ "challenge": first["challenge"], "code": code });
    let next = code(30);
    let login = node.ask("POST", "auth/totp/login", "", step(next.clone())).await.is(200);
    node.get("auth/me", &bearer(&login)).await.is(200);
    node.ask("POST", "auth/totp/login", "", step(next)).await.is(401);
    node.ask("POST", "auth/totp/login", "", step(recovery[0].clone())).await.is(200);
    node.ask("POST", "auth/totp/login", "", step(recovery[0].clone())).await.is(401);

    // With the setting, users without one get a token for nothing but setting it up.
    node.ask("PUT", "auth/settings", &admin, strict).await.is(200);
    let body = json!({ "username": "eve", "password": "password", "role": "operator" });
    node.ask("POST", "auth/users", &admin, body).await.is(201);
    let eve = node.login_as("eve", "password").await.is(200);
    assert_eq!(eve["totp_setup_required"], true);
    node.get("subscribers", &bearer(&eve)).await.is(403);
    node.ask("POST", "auth/totp/setup", &bearer(&eve), Value::Null).await.is(200);

    let body = json!({ "code": recovery[1] });
    node.ask("POST", "auth/totp/disable", &admin, body).await.is(200);
    let login = node.login_as("admin", PASSWORD).await.is(200);
    assert_eq!(login["totp_setup_required"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_kept_as_a_digest_and_never_allows_more_than_its_owner() {
    let node = Node::new(0).await;
    node.add_role("ops", &["users:read", "users:write", "cluster:read", "dns:read"]).await;
    node.add_user("eve", "ops").await;
    let eve = node.auth("eve", "password").await;
    let body = json!({ "name": "prom", "permissions": ["cluster:read", "dns:read"] });
    let path = "/api/v1/auth/api-keys";
    let headers = [("authorization", eve.as_str()), ("idempotency-key", "k-1")];
    let made = node.send("POST", path, &headers, body.to_string()).await.is(201);
    let again = node.send("POST", path, &headers, body.to_string()).await.is(201);
    assert_eq!(made["data"], again["data"], "a repetition shows the same key");
    let text = made["data"]["key"].as_str().unwrap();
    let key = format!("ApiKey {text}");
    node.get("groups", &key).await.is(200);
    node.get("subscribers", &key).await.is(403);
    node.get("groups", &format!("ApiKey {}", &text[..text.len() - 1])).await.is(401);
    node.get("groups", &format!("ApiKey {text}0")).await.is(401);
    for collection in Collection::ALL {
        for (_, document) in node.state().documents(collection) {
            let document = String::from_utf8_lossy(&document.value).into_owned();
            assert!(!document.contains(text) && !document.contains("tandem-test"), "{document}");
        }
    }
    let list = node.get("auth/api-keys", &eve).await.is(200);
    assert_eq!(list["data"]["count"], 1);
    assert!(list["data"]["api_keys"][0]["last_used_at"].is_u64());
    assert!(!list.to_string().contains(text));

    let wide = json!({ "name": "x", "permissions": ["settings:write"] });
    node.ask("POST", "auth/api-keys", &eve, wide).await.is(403);
    let late = json!({ "name": "x", "expires_at": 1000 });
    node.ask("POST", "auth/api-keys", &eve, late).await.is(422);
    // The owner's role shrinks, and the key with it.
    let body = json!({ "permissions": ["users:read", "dns:read"] });
    node.ask("PUT", "auth/roles/ops", &node.admin().await, body).await.is(200);
    node.get("groups", &key).await.is(403);
    let id = made["data"]["id"].as_str().unwrap();
    let admin = node.admin().await;
    node.ask("DELETE", &format!("auth/api-keys/{id}"), &admin, Value::Null).await.is(200);
    node.get("groups", &key).await.is(401);
    node.ask("DELETE", &format!("auth/api-keys/{id}"), &admin, Value::Null).await.is(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_good_once() {
    let node = Node::new(0).await;
    let made = node.ask("POST", "auth/ws-ticket", &node.admin().await, Value::Null).await.is(200);
    let ticket = made["ticket"].as_str().unwrap();
    assert_eq!((ticket.len(), &made["expires_in_seconds"]), (64, &json!(30)));
    let (a, b) = tokio::join!(node.api.spend_ticket(ticket), node.api.spend_ticket(ticket));
    let won = [&a, &b].into_iter().filter(|r| r.is_ok()).count();
    assert_eq!(won, 1, "{a:?} {b:?}");
    assert_eq!(node.api.spend_ticket(ticket).await, Err(ApiError::Unauthorized));
    assert_eq!(node.api.spend_ticket("").await, Err(ApiError::Unauthorized));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_hash_becomes_a_new_one_at_the_next_login() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    let hash = bcrypt::hash("from elsewhere", 4).unwrap();
    let body = json!({ "username": "old", "password_hash": hash });
    node.ask("POST", "auth/users", &admin, body).await.is(201);
    node.login_as("old", "wrong").await.is(401);
    let hash = |node: &Node| {
        let state = node.state();
        state.api_user("old").unwrap().password_hash.expose().to_owned()
    };
    assert!(hash(&node).starts_with("$2b$"));
    let auth = node.auth("old", "from elsewhere").await;
    assert!(hash(&node).starts_with("$argon2id$"));
    node.get("subscribers", &auth).await.is(200);
    node.login_as("old", "from elsewhere").await.is(200);
    let both = json!({ "username": "x", "password": "12345678", "password_hash": "$2b$" });
    node.ask("POST", "auth/users", &admin, both).await.is(422);
    let none = json!({ "username": "x" });
    node.ask("POST", "auth/users", &admin, none).await.is(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_user_are_bounded() {
    let node = Node::new(0).await;
    let max = super::super::records::FAMILIES_PER_USER_MAX;
    let first = node.login_as("admin", PASSWORD).await.is(200);
    for _ in 0..max {
        node.login_as("admin", PASSWORD).await.is(200);
    }
    let kept = super::super::records::families(&node.state(), "admin").len();
    assert_eq!(kept, max);
    refresh(&node, &first["refresh_token"]).await.is(401);
    node.get("auth/me", &bearer(&first)).await.is(200);
}
