use super::*;
use crate::config::{Config, Profile};
use api::{ApiError, Auth as _, JoinTicket};
use model::NodeRole;
use std::time::Duration;

/// How long a node may take to join and catch up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn join(first: &Node, name: &str) -> Node {
    let body = json!({ "name": name, "role": "witness" });
    let auth = first.admin().await;
    let token = first.ask("POST", "cluster/join-tokens", &auth, body).await.is(200);
    let ticket = JoinTicket::decode(token["data"]["token"].as_str().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let api = free();
    let at = |ahead: u16| SocketAddr::new(api.ip(), api.port() + ahead);
    let config = Config {
        name: name.into(),
        role: NodeRole::Witness,
        data_dir: dir.path().to_owned(),
        storage_key: dir.path().join("storage.key"),
        raft_addr: at(1),
        lease_addr: at(2),
        profile: Profile::Default,
        disk_slow: Profile::Default.disk_slow(),
        api_listen: api,
        api_addr: api,
        api_tls: None,
        dataplane: None,
    };
    let daemon = Daemon::prepare(config).await.unwrap();
    daemon.join(ticket).await.unwrap();
    Node::of(daemon, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_gives_is_good_on_all_and_what_it_takes_is_gone_on_all() {
    let (first, serving) = Node::serving().await;
    let (second, third) = (join(&first, "two").await, join(&first, "three").await);
    let login = first.login_as("admin", PASSWORD).await.is(200);
    let revision = first.state().applied();
    for node in [&second, &third] {
        let caught_up = async {
            while node.state().applied() < revision {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.expect("the node catches up");
        let me = node.get("auth/me", &bearer(&login)).await.is(200);
        assert_eq!(me["data"]["username"], "admin");
    }
    // A write through one that does not lead, seen by a third.
    let auth = bearer(&login);
    let body = json!({ "username": "eve", "password": "password", "role": "operator" });
    second.ask("POST", "auth/users", &auth, body).await.is(201);
    third.get("auth/users/eve", &auth).await.is(200);

    let body = json!({ "refresh_token": login["refresh_token"] });
    let next = second.ask("POST", "auth/refresh", "", body.clone()).await.is(200);
    let again = third.ask("POST", "auth/refresh", "", body).await.is(200);
    assert_eq!(next["refresh_token"], again["refresh_token"]);

    let made = second.ask("POST", "auth/ws-ticket", &auth, Value::Null).await.is(200);
    let ticket = made["ticket"].as_str().unwrap();
    let spent = tokio::join!(
        first.api.spend_ticket(ticket),
        second.api.spend_ticket(ticket),
        third.api.spend_ticket(ticket)
    );
    let spent = [spent.0, spent.1, spent.2];
    assert_eq!(spent.iter().filter(|r| r.is_ok()).count(), 1, "{spent:?}");
    assert_eq!(spent.iter().filter(|r| **r == Err(ApiError::Unauthorized)).count(), 2);

    second.ask("POST", "auth/logout", &auth, Value::Null).await.is(200);
    let gone = async {
        while third.get("auth/me", &auth).await.status != 401 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the logout reaches every node");
    serving.abort();
}
