//! What happens to subscribers, as every node tells it.

use crate::trio::{Trio, eventually};
use api::types::CredentialKind;
use api::types::config::{CommitRequest, SetRequest};
use api::types::event::{EventFilter, EventId, EventKind, StreamItem, SubscriberEvent};
use api::types::webhook::{DeadLetterQuery, WebhookRequest};
use api::{Caller, ConfigService, EventService, EventStream, PermissionSet, ReadLevel, Service};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::StreamExt;
use hmac::{Hmac, Mac};
use model::{ApiRole, Attachment, MacAddr, PortId, Revision, Secret, SessionId, Vlans};
use node::proposer::{OpOutcome, Proposer};
use raft_store::{OpReply, SessionOp};
use serde_json::json;
use sha2::Sha256;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

const LEVEL: ReadLevel = ReadLevel::Linearizable;
const SECRET: &str = "a secret of the receiver";

pub(crate) fn ann() -> Caller {
    Caller {
        username: "ann".into(),
        role: ApiRole::admin(),
        permissions: PermissionSet::all(),
        credential: CredentialKind::Token,
        address: None,
        request_id: "r".into(),
        idempotency_key: None,
    }
}

/// Dials sessions in, all at once, and returns their ids.
pub(crate) async fn dial(trio: &Trio, users: std::ops::Range<u8>) -> Vec<SessionId> {
    let owner = trio.served_by("the group is served", |_| true).await;
    let store = trio.member(owner).local.store.clone();
    let epoch = store.state().group(trio.group()).unwrap().epoch;
    let proposer = Proposer::start(store, owner, trio.group());
    let up = |user: u8| SessionOp::PppoeUp {
        attachment: Attachment {
            port: PortId(1),
            vlans: Vlans { outer: 100, inner: 0 },
            mac: MacAddr([2, 0, 0, 0, 0, user]),
        },
        sid: user.into(),
        username: format!("user{user}"),
        local_magic: 1,
        peer_magic: 2,
        mtu: 1492,
        mru: 1492,
        rate: None,
        address: None,
        pool: None,
    };
    let waiting: Vec<_> =
        users.map(|user| proposer.propose(epoch, up(user)).expect("room")).collect();
    let mut ids = Vec::new();
    for outcome in waiting {
        let outcome = outcome.await.unwrap();
        let OpOutcome::Committed(OpReply::Session(session)) = outcome else {
            panic!("{outcome:?}");
        };
        ids.push(session.id);
    }
    ids
}

/// The next `count` events.
async fn take(stream: &mut EventStream, count: usize) -> Vec<SubscriberEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        match stream.next().await.expect("the node runs") {
            StreamItem::Event(event) => events.push(*event),
            StreamItem::Position(_) => {}
            StreamItem::Resync(resync) => panic!("{resync:?}"),
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_changes_nodes_misses_nothing_and_sees_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    trio.served_by("the group is served", |_| true).await;
    let start = EventId::all_of(trio.any().local.store.state().applied());
    let ids = dial(&trio, 1..13).await;
    trio.api(0).disconnect(ids[3], ann()).await.unwrap();
    let count = ids.len() + 1;

    let all = EventFilter::default();
    let mut whole = trio.api(0).events(Some(start), all.clone()).await.unwrap();
    let want = take(&mut whole, count).await;
    assert!(want.iter().any(|e| e.id.to_string().contains('.')), "some share an entry: {want:?}");
    assert_eq!(want[count - 1].event, EventKind::SessionDown);
    assert_eq!(want[count - 1].data.reason.as_deref(), Some("admin_reset"));

    // Another node after each event, also in the middle of an entry.
    let mut seen = start;
    let mut got = Vec::new();
    for turn in 0..count {
        let mut stream = trio.api(turn % 3).events(Some(seen), all.clone()).await.unwrap();
        let event = take(&mut stream, 1).await.remove(0);
        seen = event.id;
        got.push(event);
    }
    assert_eq!(got, want);

    let filter = EventFilter {
        kinds: vec![EventKind::SessionUp],
        username: Some("user5".into()),
        ..EventFilter::default()
    };
    let mut filtered = trio.api(1).events(Some(start), filter).await.unwrap();
    assert_eq!(take(&mut filtered, 1).await[0].data.username, "user5");

    let ahead = EventId::all_of(Revision(1_000_000));
    let refused = trio.api(2).events(Some(ahead), all).await.err();
    assert!(refused.is_some_and(|e| e.to_string().contains("has not come to revision")));
}

/// A receiver of webhooks on loopback.
struct Receiver {
    url: String,
    /// What it answers.
    status: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    refused: Arc<AtomicU16>,
}

impl Receiver {
    async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(200));
        let taken: Arc<Mutex<Vec<(HeaderMap, Bytes)>>> = Arc::default();
        let refused = Arc::new(AtomicU16::new(0));
        let (answer, log, no) = (status.clone(), taken.clone(), refused.clone());
        let take = async move |headers: HeaderMap, body: Bytes| {
            let status = StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap();
            if status.is_success() {
                log.lock().unwrap().push((headers, body));
            } else {
                no.fetch_add(1, Ordering::SeqCst);
            }
            status
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let router = Router::new().route("/events", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, status, taken, refused }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Users of the events that were taken, in order, repetitions left out; checks every signature.
    fn users(&self) -> Vec<String> {
        let mut users: Vec<String> = Vec::new();
        for (headers, body) in &*self.taken.lock().unwrap() {
            let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
            let want = hex::encode(mac.chain_update(body).finalize().into_bytes());
            assert_eq!(headers["x-tandem-signature"], format!("sha256={want}"));
            let event: SubscriberEvent = serde_json::from_slice(body).unwrap();
            assert_eq!(headers["x-tandem-event"], event.event.label());
            let delivery = headers["x-tandem-delivery"].to_str().unwrap();
            assert!(delivery.ends_with(&format!(":{}", event.id)), "{delivery}");
            if !users.contains(&event.data.username) {
                users.push(event.data.username);
            }
        }
        users
    }
}

fn names(users: std::ops::Range<u8>) -> Vec<String> {
    users.map(|user| format!("user{user}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_gets_every_event_though_it_fails_and_the_leader_changes() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let receiver = Receiver::start().await;
    let request = WebhookRequest {
        url: receiver.url.clone(),
        events: vec![EventKind::SessionUp],
        secret: Some(Secret::new(SECRET)),
    };
    let (hook, _) = trio.api(1).webhook_add(request, ann()).await.unwrap();
    assert_eq!(hook.id.len(), 8);
    dial(&trio, 1..4).await;
    eventually("the first three", || (receiver.users() == names(1..4)).then_some(())).await;

    receiver.answers(500);
    dial(&trio, 4..6).await;
    eventually("a delivery fails", || (receiver.refused.load(Ordering::SeqCst) > 0).then_some(()))
        .await;
    let failing = || {
        let state = trio.any().local.store.state();
        let cursor = state.document(model::Collection::WebhookCursor, &hook.id)?;
        String::from_utf8_lossy(&cursor.value).contains("answered 500").then_some(())
    };
    eventually("the log says that it fails", failing).await;
    let shown = trio.api(2).webhooks(LEVEL).await.unwrap().0.webhooks.remove(0);
    assert!(shown.failing.is_some_and(|f| f.error.contains("answered 500")));

    // The next leader goes on where this one was. It is not the owner, which would hand the lead back at once.
    let owner = trio.served_by("the group is served", |_| true).await;
    let leader = eventually("another node leads", || trio.leader().filter(|l| *l != owner)).await;
    let others = || trio.members().map(|m| m.local.me);
    let next = others().find(|n| *n != leader && *n != owner).unwrap();
    trio.member(next).local.store.transfer_leader(next).await.unwrap();
    eventually("another leader", || trio.leader().filter(|l| *l != leader)).await;
    receiver.answers(204);
    eventually("all five", || (receiver.users() == names(1..6)).then_some(())).await;
    eventually("the log says that it works", || failing().is_none().then_some(())).await;

    trio.api(0).webhook_delete(hook.id.clone(), ann()).await.unwrap();
    let again = trio.api(0).webhook_delete(hook.id, ann()).await;
    assert!(again.is_err_and(|e| e.to_string().contains("webhook")));
    assert_eq!(trio.api(0).webhooks(LEVEL).await.unwrap().0.count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_listed_and_the_next_event_has_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let api = trio.api(0);
    let set = SetRequest { path: "webhooks.attempts".into(), value: json!(2) };
    api.config_set(set, ann()).await.unwrap();
    let commit = CommitRequest { comment: "hurry".into(), confirm_s: None };
    api.config_commit(commit, ann()).await.unwrap();

    let receiver = Receiver::start().await;
    receiver.answers(503);
    let request = WebhookRequest {
        url: receiver.url.clone(),
        events: vec![EventKind::SessionUp, EventKind::SessionDown],
        secret: Some(Secret::new(SECRET)),
    };
    let (hook, _) = api.webhook_add(request, ann()).await.unwrap();
    dial(&trio, 1..2).await;
    let dead =
        || trio.any().local.store.state().document_count(model::Collection::WebhookDeadLetter);
    eventually("a dead letter", || (dead() == 1).then_some(())).await;
    receiver.answers(200);
    dial(&trio, 2..3).await;
    eventually("the next event", || (receiver.users() == names(2..3)).then_some(())).await;

    let (list, _) = api.dead_letters(DeadLetterQuery::default(), LEVEL).await.unwrap();
    let letter = &list.dead_letters[0];
    assert_eq!((list.count, letter.attempts, &letter.webhook), (1, 2, &hook.id));
    assert_eq!(letter.error, "answered 503 Service Unavailable");
    assert_eq!(letter.event.as_ref().unwrap().data.username, "user1");
    api.dead_letter_delete(letter.id.clone(), ann()).await.unwrap();
    eventually("it is off the list", || (dead() == 0).then_some(())).await;
    let shown = api.webhooks(LEVEL).await.unwrap().0.webhooks.remove(0);
    assert_eq!((shown.failing, shown.dead_letters), (None, 0));
}
