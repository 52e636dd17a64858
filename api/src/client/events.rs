use super::{Answer, Call, Client, ClientError, name_of, query_of, receive, transport};
use crate::types::event::{EventId, EventQuery, Resync, StreamItem, SubscriberEvent};
use crate::types::webhook::{
    DeadLetterList, DeadLetterQuery, WebhookCreated, WebhookDeleted, WebhookList, WebhookRequest,
};
use reqwest::{Method, Response, Url};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A node that has sent nothing for so long is gone: it sends its place every 15 seconds.
const SILENT: Duration = Duration::from_secs(40);
/// The stream itself has no end.
const STREAM_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Pause before all nodes are tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// How long no node may answer.
const RECONNECT_MAX: Duration = Duration::from_secs(60);
/// The longest event, in octets.
const EVENT_OCTETS_MAX: usize = 1 << 20;

/// Webhooks. Every method fails with [`ClientError`] as described there.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// `GET /api/v1/webhooks`.
    pub async fn webhooks(&self) -> Result<Answer<WebhookList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "webhooks"])).await
    }

    /// `POST /api/v1/webhooks`.
    pub async fn webhook_add(
        &self,
        request: &WebhookRequest,
    ) -> Result<Answer<WebhookCreated>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "webhooks"]);
        self.enveloped(call.json(request)).await
    }

    /// `DELETE /api/v1/webhooks/{id}`.
    pub async fn webhook_delete(&self, id: &str) -> Result<Answer<WebhookDeleted>, ClientError> {
        self.enveloped(Call::new(Method::DELETE, &["api", "v1", "webhooks", id])).await
    }

    /// `GET /api/v1/webhooks/dead-letters`.
    pub async fn dead_letters(
        &self,
        query: &DeadLetterQuery,
    ) -> Result<Answer<DeadLetterList>, ClientError> {
        let path = ["api", "v1", "webhooks", "dead-letters"];
        let mut call = Call::new(Method::GET, &path);
        call.query = query_of(&[
            ("limit", query.limit.map(|n| n.to_string())),
            ("before", query.before.clone()),
        ]);
        self.enveloped(call).await
    }

    /// `DELETE /api/v1/webhooks/dead-letters/{id}`.
    pub async fn dead_letter_delete(
        &self,
        id: &str,
    ) -> Result<Answer<WebhookDeleted>, ClientError> {
        let path = ["api", "v1", "webhooks", "dead-letters", id];
        self.enveloped(Call::new(Method::DELETE, &path)).await
    }

    /// `GET /api/v1/events/subscribers`, from [`EventQuery::last_event_id`] or from now on.
    #[must_use]
    pub fn follow_events(&self, query: EventQuery) -> EventFollower {
        let seen = query.last_event_id;
        EventFollower { client: self.clone(), query, seen, open: None }
    }
}

/// Follows events from node to node: when one dies, another goes on at the same place.
#[derive(Debug)]
pub struct EventFollower {
    client: Client,
    query: EventQuery,
    seen: Option<EventId>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    url: String,
    response: Response,
    parser: Parser,
    ready: VecDeque<StreamItem>,
}

impl EventFollower {
    /// The place up to which everything was returned.
    #[must_use]
    pub fn position(&self) -> Option<EventId> {
        self.seen
    }

    /// Waits for the next item. Connects again by itself.
    ///
    /// # Errors
    /// A refusal, or that no node was reachable for a minute.
    pub async fn next(&mut self) -> Result<StreamItem, ClientError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        loop {
            if let Some(item) = open.ready.pop_front() {
                self.seen = Some(match &item {
                    StreamItem::Event(event) => event.id,
                    StreamItem::Position(id) => *id,
                    StreamItem::Resync(resync) => resync.from,
                });
                self.open = Some(open);
                return Ok(item);
            }
            match tokio::time::timeout(SILENT, open.response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    open.ready = open.parser.push(&chunk).map_err(|cause| {
                        ClientError::Foreign { url: open.url.clone(), status: 200, cause }
                    })?;
                }
                // The node went away, or is silent: another one knows what comes next.
                Ok(Ok(None) | Err(_)) | Err(_) => open = self.connect().await?,
            }
        }
    }

    async fn connect(&self) -> Result<Open, ClientError> {
        let give_up = Instant::now() + RECONNECT_MAX;
        loop {
            let failed = match self.connect_once().await {
                Ok(open) => return Ok(open),
                Err(failed) => failed,
            };
            let passes = match &failed {
                ClientError::Unreachable { .. }
                | ClientError::Broken { .. }
                | ClientError::Timeout { .. } => true,
                ClientError::Api { status, .. } => *status == 503,
                ClientError::NoUrl
                | ClientError::Url { .. }
                | ClientError::Tls(_)
                | ClientError::CodeNeeded { .. }
                | ClientError::Foreign { .. } => false,
            };
            if !passes || Instant::now() >= give_up {
                return Err(failed);
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn connect_once(&self) -> Result<Open, ClientError> {
        let mut tried = Vec::new();
        for base in self.client.urls.iter() {
            match self.connect_to(base).await {
                Ok(open) => return Ok(open),
                Err(ClientError::Unreachable { tried: one }) => tried.extend(one),
                Err(
                    e @ (ClientError::Broken { .. }
                    | ClientError::Timeout { .. }
                    | ClientError::Api { status: 503, .. }),
                ) => tried.push((name_of(base), e.to_string())),
                Err(other) => return Err(other),
            }
        }
        Err(ClientError::Unreachable { tried })
    }

    async fn connect_to(&self, base: &Url) -> Result<Open, ClientError> {
        let EventQuery { events, service, username, group, session, last_event_id: _ } =
            &self.query;
        let path = ["api", "v1", "events", "subscribers"];
        let mut call = Call::new(Method::GET, &path);
        call.query = query_of(&[
            ("events", events.clone()),
            ("type", service.map(|service| service.label().to_owned())),
            ("username", username.clone()),
            ("group", group.clone()),
            ("session", session.map(|id| id.to_string())),
        ]);
        let mut request = self.client.request(base, &call).timeout(STREAM_TIMEOUT);
        if let Some(seen) = self.seen {
            request = request.header("Last-Event-ID", seen.to_string());
        }
        let url = name_of(base);
        let sent = tokio::time::timeout(SILENT, request.send()).await;
        let response = sent
            .map_err(|_| ClientError::Timeout { url: url.clone() })?
            .map_err(|e| transport(&url, &e))?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let cause = "an answer that is neither a stream nor an error".to_owned();
            return Err(match receive(url.clone(), response).await {
                Err(refused) => refused,
                Ok(_) => ClientError::Foreign { url, status, cause },
            });
        }
        Ok(Open { url, response, parser: Parser::default(), ready: VecDeque::new() })
    }
}

/// Reads `text/event-stream` (HTML, section 9.2.6) as the API writes it.
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    fn push(&mut self, chunk: &[u8]) -> Result<VecDeque<StreamItem>, String> {
        self.buffer.extend_from_slice(chunk);
        let mut items = VecDeque::new();
        while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
            let rest = self.buffer.split_off(end + 2);
            let block = std::mem::replace(&mut self.buffer, rest);
            items.extend(item(&String::from_utf8_lossy(&block))?);
        }
        if self.buffer.len() > EVENT_OCTETS_MAX {
            return Err(format!("an event of more than {EVENT_OCTETS_MAX} octets"));
        }
        Ok(items)
    }
}

fn item(block: &str) -> Result<Option<StreamItem>, String> {
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.strip_prefix(' ').unwrap_or(line))
    };
    let bad = |e: &dyn std::error::Error| format!("a part of the stream cannot be read: {e}");
    match (field("event"), field("id"), field("data")) {
        (Some("resync"), _, Some(data)) => {
            let resync: Resync = serde_json::from_str(data).map_err(|e| bad(&e))?;
            Ok(Some(StreamItem::Resync(resync)))
        }
        (Some(_), _, Some(data)) => {
            let event: SubscriberEvent = serde_json::from_str(data).map_err(|e| bad(&e))?;
            Ok(Some(StreamItem::Event(Box::new(event))))
        }
        (None, Some(id), None) => Ok(Some(StreamItem::Position(id.parse().map_err(|e| bad(&e))?))),
        // Comments, and what later versions may add.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_however_they_are_cut() {
        let text = b"id: 7\n\n: words\n\nevent: resync\nid: 9\ndata: {\"from\":\"9\",\"message\":\"m\"}\n\nid: 9.1\n\n";
        let id = |text: &str| text.parse::<EventId>().unwrap();
        let want = [
            StreamItem::Position(id("7")),
            StreamItem::Resync(Resync { from: id("9"), message: "m".into() }),
            StreamItem::Position(id("9.1")),
        ];
        for cut in 0..text.len() {
            let mut parser = Parser::default();
            let mut items = parser.push(&text[..cut]).unwrap();
            items.extend(parser.push(&text[cut..]).unwrap());
            assert_eq!(items, want, "cut at {cut}");
        }
        assert!(Parser::default().push(b"id: x\n\n").is_err());
    }
}
