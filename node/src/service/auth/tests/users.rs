use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_changed_by_version_and_recorded_in_the_same_entry() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    let body = json!({ "username": "eve", "password": "password", "role": "operator" });
    let made = node.ask("POST", "auth/users", &admin, body.clone()).await;
    let revision = made.revision();
    let user = made.is(201);
    assert_eq!(user["data"]["revision"], revision);
    assert_eq!(node.ask("POST", "auth/users", &admin, body).await.is(409)["code"], "conflict");

    let put = async |version: &str, body: Value| {
        let headers = [("authorization", admin.as_str()), ("if-match", version)];
        node.send("PUT", "/api/v1/auth/users/eve", &headers, body.to_string()).await
    };
    put("\"1\"", json!({ "enabled": false })).await.is(412);
    let changed = put(&format!("\"{revision}\""), json!({ "role": "viewer" })).await;
    let second = changed.revision();
    assert_eq!(changed.headers["etag"].to_str().unwrap(), format!("\"{second}\""));
    assert_eq!(changed.is(200)["data"]["role"], "viewer");
    put(&format!("\"{revision}\""), json!({ "enabled": false })).await.is(412);
    let now = node.get("auth/users/eve", &admin).await.is(200);
    assert_eq!((&now["data"]["enabled"], &now["data"]["revision"]), (&json!(true), &json!(second)));

    let audit = node.audit(2).await;
    assert_eq!(audit[0]["action"], "user.update");
    assert_eq!(audit[0]["revision"], second, "the record is in the entry of the change");
    assert_eq!(audit[0]["before"]["role"], "operator");
    assert_eq!(audit[0]["after"]["role"], "viewer");
    assert_eq!(audit[0]["actor_id"], "admin");
    assert_eq!(audit[0]["outcome"], "done");
    assert_eq!(
        (&audit[1]["action"], &audit[1]["revision"]),
        (&json!("user.create"), &json!(revision))
    );
    assert!(!json!(audit).to_string().contains("argon2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_or_takes_more_than_it_has() {
    let node = Node::new(0).await;
    node.add_role("staff", &["users:read", "users:write", "dns:read"]).await;
    node.add_role("wide", &["dns:write"]).await;
    node.add_user("eve", "staff").await;
    let eve = node.auth("eve", "password").await;
    let user = |role: &str| json!({ "username": "x", "password": "password", "role": role });
    let rows: &[(&str, &str, Value)] = &[
        ("POST", "auth/users", user("admin")),
        ("POST", "auth/users", user("viewer")),
        ("POST", "auth/users", user("wide")),
        ("PUT", "auth/users/eve", json!({ "role": "admin" })),
        ("PUT", "auth/users/admin", json!({ "password": "password" })),
        ("PUT", "auth/users/admin", json!({ "totp_enabled": false })),
        ("DELETE", "auth/users/admin", Value::Null),
        ("POST", "auth/roles", json!({ "name": "r", "permissions": ["dns:write"] })),
        ("PUT", "auth/roles/staff", json!({ "permissions": ["ha:manage"] })),
        ("PUT", "auth/roles/wide", json!({ "permissions": [] })),
        ("DELETE", "auth/roles/wide", Value::Null),
    ];
    let before = node.state().applied();
    for (method, path, body) in rows {
        let answer = node.ask(method, path, &eve, body.clone()).await;
        let answer = answer.is(403);
        assert_eq!(answer["code"], "denied", "{method} {path} {body}");
    }
    assert_eq!(node.state().applied(), before, "nothing was written");
    node.ask("POST", "auth/users", &eve, user("staff")).await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_have_their_rules() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    node.add_role("noc", &["subscribers:read"]).await;
    node.add_user("eve", "noc").await;
    let list = node.get("auth/roles", &admin).await.is(200);
    assert_eq!(list["data"]["count"], 5);
    let rows: &[(&str, &str, Value, u16)] = &[
        ("POST", "auth/roles", json!({ "name": "noc", "permissions": [] }), 409),
        ("POST", "auth/roles", json!({ "name": "admin", "permissions": [] }), 409),
        ("POST", "auth/roles", json!({ "name": "a b", "permissions": [] }), 422),
        ("PUT", "auth/roles/admin", json!({ "permissions": [] }), 409),
        ("PUT", "auth/roles/noc", json!({ "name": "other" }), 422),
        ("DELETE", "auth/roles/viewer", Value::Null, 409),
        ("DELETE", "auth/roles/noc", Value::Null, 409),
        ("PUT", "auth/users/eve", json!({ "role": "nobody" }), 422),
        ("PUT", "auth/users/eve", json!({ "username": "adam" }), 422),
        ("PUT", "auth/users/eve", json!({ "totp_enabled": true }), 422),
        ("PUT", "auth/users/eve", json!({ "password": "short" }), 422),
        ("PUT", "auth/users/admin", json!({ "role": "viewer" }), 422),
        ("PUT", "auth/users/admin", json!({ "enabled": false }), 422),
        ("DELETE", "auth/users/admin", Value::Null, 422),
        ("POST", "auth/users", json!({ "username": "a/b", "password": "password" }), 422),
        ("POST", "auth/register", json!({ "username": "x", "password": "password" }), 403),
    ];
    for (method, path, body, status) in rows {
        let answer = node.ask(method, path, &admin, body.clone()).await;
        assert_eq!(answer.status.as_u16(), *status, "{method} {path} {body}: {}", answer.json);
    }
    node.ask("PUT", "auth/users/eve", &admin, json!({ "role": "viewer" })).await.is(200);
    node.ask("DELETE", "auth/roles/noc", &admin, Value::Null).await.is(200);
    node.ask("PUT", "auth/settings", &admin, json!({ "allow_registration": true })).await.is(200);
    let body = json!({ "username": "guest", "password": "password" });
    let guest = node.ask("POST", "auth/register", "", body).await.is(201);
    assert_eq!(guest["data"]["role"], "viewer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_does_a_write_once() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    let send = async |method: &str, path: &str, key: &str, body: Value| {
        let headers = [("authorization", admin.as_str()), ("idempotency-key", key)];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        node.send(method, &format!("/api/v1/auth/{path}"), &headers, body).await
    };
    let body = json!({ "username": "eve", "password": "password" });
    let first = send("POST", "users", "k1", body.clone()).await;
    let second = send("POST", "users", "k1", body).await;
    assert_eq!(first.revision(), second.revision());
    assert_eq!(first.is(201)["data"], second.is(201)["data"]);
    send("DELETE", "users/eve", "k2", Value::Null).await.is(200);
    send("DELETE", "users/eve", "k2", Value::Null).await.is(200);
    send("DELETE", "users/eve", "k3", Value::Null).await.is(404);
    let deletes = node.audit(10).await;
    let deletes = deletes.iter().filter(|r| r["action"] == "user.delete" && r["outcome"] == "done");
    assert_eq!(deletes.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_recorded_with_what_it_changed() {
    let node = Node::new(0).await;
    let admin = node.admin().await;
    let body = json!({ "path": "pppoe.lcp_echo_interval", "value": 10 });
    node.ask("POST", "system/config/set", &admin, body).await.is(200);
    let done = node.ask("POST", "system/config/commit", &admin, json!({ "comment": "why" })).await;
    let revision = done.revision();
    assert_eq!(done.is(200)["data"]["version"], revision);
    let audit = node.audit(2).await;
    assert_eq!(audit[0]["action"], "config.commit");
    assert_eq!(audit[0]["revision"], revision, "the record is in the entry of the commit");
    assert_eq!(audit[0]["after"]["comment"], "why");
    let change = &audit[0]["after"]["changes"][0];
    assert_eq!(
        (&change["path"], &change["after"]),
        (&json!("pppoe.lcp_echo_interval"), &json!(10))
    );
    assert_eq!(audit[1]["action"], "config.set");
    // Whoever may read only changes nothing.
    node.add_user("oli", "operator").await;
    let operator = node.auth("oli", "password").await;
    node.get("system/config", &operator).await.is(200);
    let before = node.state().applied();
    for action in ["set", "delete", "load", "commit", "rollback", "discard"] {
        node.ask("POST", &format!("system/config/{action}"), &operator, json!({})).await.is(403);
    }
    assert_eq!(node.state().applied(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_to_sessions_and_cluster_are_recorded_too() {
    let node = Node::new(2).await;
    let admin = node.admin().await;
    let list = node.get("subscribers", &admin).await.is(200);
    let id = list["data"]["sessions"][0]["id"].as_u64().unwrap();
    let rate = json!({ "rate_down": 5_000_000, "rate_up": 1_000_000 });
    let path = format!("subscribers/{id}/rate");
    let changed = node.ask("PUT", &path, &admin, rate.clone()).await;
    let revision = changed.revision();
    changed.is(200);
    node.ask("DELETE", &format!("subscribers/{id}"), &admin, Value::Null).await.is(200);
    node.ask("PUT", &path, &admin, rate).await.is(404);
    node.ask("POST", "cluster/join-tokens", &admin, Value::Null).await.is(200);
    node.ask("POST", "groups/dev/failover", &admin, Value::Null).await.is(409);
    node.ask("DELETE", "cluster/members/1", &admin, Value::Null).await.is(409);
    let audit = node.audit(6).await;
    let row = |r: &Value| {
        let text = |key: &str| r[key].as_str().unwrap().split(':').next().unwrap().to_owned();
        (text("action"), text("object"), text("outcome"))
    };
    let rows: Vec<_> = audit.iter().map(row).collect();
    let want = [
        ("member.remove", "member/1".to_owned(), "refused"),
        ("group.failover", "group/dev".to_owned(), "refused"),
        ("cluster.join_token", "cluster/join-token".to_owned(), "done"),
        ("session.rate", format!("session/{id}"), "refused"),
        ("session.disconnect", format!("session/{id}"), "done"),
        ("session.rate", format!("session/{id}"), "done"),
    ];
    let want = want.map(|(a, o, out)| (a.to_owned(), o, out.to_owned()));
    assert_eq!(rows, want);
    assert_eq!(audit[5]["revision"], revision);
    assert_eq!(audit[5]["after"]["rate_down"], 5_000_000);
    assert!(audit[5]["before"]["username"].is_string());
}
