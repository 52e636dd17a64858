//! Events and webhooks of the fake node: two events, one webhook.

use super::Fake;
use api::types::SessionType;
use api::types::event::*;
use api::types::webhook::*;
use api::{ApiError, Caller, EventService, EventStream, Meta, ReadLevel, Reply};
use model::{Revision, Secret, SessionId};
use std::net::Ipv4Addr;

pub(crate) fn event(id: &str, event: EventKind, session: u64) -> SubscriberEvent {
    SubscriberEvent {
        event,
        timestamp: "2023-11-14T22:13:20.5Z".into(),
        id: id.parse().expect("tests write good ids"),
        data: EventData {
            id: SessionId(session),
            session_type: SessionType::Pppoe,
            username: format!("user{session}"),
            ip_address: Ipv4Addr::new(100, 64, 0, 1),
            interface: "port1.100".into(),
            group: "south".into(),
            rate_down: 0,
            rate_up: 0,
            reason: (event == EventKind::SessionDown).then(|| "user_request".into()),
        },
    }
}

impl EventService for Fake {
    async fn events(
        &self,
        after: Option<EventId>,
        filter: EventFilter,
    ) -> Result<EventStream, ApiError> {
        if after.is_some_and(|id| id.revision > Revision(1000)) {
            return Err(ApiError::BadRequest { message: "not yet".into() });
        }
        let from = after.unwrap_or(EventId::all_of(Revision(42)));
        self.state().calls.push(format!("events after {from}"));
        let events =
            [event("43.1", EventKind::SessionUp, 1), event("43", EventKind::SessionDown, 3)];
        let wanted = events.into_iter().filter(|e| filter.fits(e));
        let items: Vec<_> = std::iter::once(StreamItem::Position(from))
            .chain(wanted.map(|e| StreamItem::Event(Box::new(e))))
            .collect();
        Ok(Box::pin(futures::stream::iter(items)))
    }

    async fn webhooks(&self, level: ReadLevel) -> Reply<WebhookList> {
        let meta = self.read("webhooks", level).await?;
        let hook = Webhook {
            id: "a1b2c3d4".into(),
            url: "https://crm.example.net/x".into(),
            events: vec![EventKind::SessionUp],
            created_by: "ann".into(),
            created_at: super::START.as_secs(),
            cursor: EventId::all_of(Revision(40)),
            failing: Some(WebhookFailing {
                since: super::START.as_secs(),
                error: "answered 500".into(),
            }),
            dead_letters: 1,
        };
        Ok((WebhookList { webhooks: vec![hook], count: 1 }, meta))
    }

    async fn webhook_add(&self, request: WebhookRequest, caller: Caller) -> Reply<WebhookCreated> {
        let WebhookRequest { url, events, secret } = request;
        let meta = self.write(&format!("webhook {url}"), &caller)?;
        let secret = secret.unwrap_or_else(|| Secret::new("made-by-the-node"));
        Ok((WebhookCreated { id: "a1b2c3d4".into(), url, events, secret }, meta))
    }

    async fn webhook_delete(&self, id: String, caller: Caller) -> Reply<WebhookDeleted> {
        self.delete("webhook", id, &caller)
    }

    async fn dead_letters(
        &self,
        query: DeadLetterQuery,
        level: ReadLevel,
    ) -> Reply<DeadLetterList> {
        let meta = self.read("dead letters", level).await?;
        let letter = DeadLetter {
            id: "7-1".into(),
            webhook: "a1b2c3d4".into(),
            at: super::START.as_secs(),
            attempts: 10,
            error: "answered 500".into(),
            event: Some(event("43.1", EventKind::SessionUp, 1)),
        };
        let next = (query.limit == Some(1)).then(|| "7-1".into());
        Ok((DeadLetterList { dead_letters: vec![letter], count: 1, next }, meta))
    }

    async fn dead_letter_delete(&self, id: String, caller: Caller) -> Reply<WebhookDeleted> {
        self.delete("dead letter", id, &caller)
    }
}

impl Fake {
    fn delete(
        &self,
        what: &str,
        id: String,
        caller: &Caller,
    ) -> Result<(WebhookDeleted, Meta), ApiError> {
        if id == "00000000" {
            return Err(ApiError::not_found(format!("{what} {id}")));
        }
        let meta = self.write(&format!("delete {what} {id}"), caller)?;
        Ok((WebhookDeleted { id }, meta))
    }
}
