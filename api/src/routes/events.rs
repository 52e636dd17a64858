use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Read, check_limit};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Service};
use crate::types::event::{EventId, EventQuery, StreamItem};
use crate::types::webhook::{
    DeadLetterList, DeadLetterQuery, WebhookCreated, WebhookDeleted, WebhookList, WebhookRequest,
};
use crate::types::{Envelope, ErrorBody, FieldError};
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::routing::{delete, get};
use futures::{Stream, StreamExt as _};
use std::convert::Infallible;
use std::sync::Arc;
use utoipa::OpenApi;

/// The header of a client that comes back (HTML, section 9.2.4).
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The longest URL of a webhook, in octets.
const URL_OCTETS_MAX: usize = 2048;
/// How long the key of a signature may be, in octets.
const SECRET_OCTETS: std::ops::RangeInclusive<usize> = 16..=256;

/// Follow subscriber events
///
/// Server-sent events. `event` is the name, `data` the event in JSON, `id` its place in the stream, which is the same on every node: a client whose
/// node died goes on at another with `Last-Event-ID` and neither misses an event nor sees one twice. Every 15 seconds without an event, a bare `id`
/// keeps the connection alive and the client's place fresh. When a place is no longer kept (65,536 revisions), the event `resync` says so,
/// and the stream goes on from there.
#[utoipa::path(
    get, path = "/api/v1/events/subscribers", tag = "events",
    params(
        EventQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Begin after this event"),
    ),
    responses(
        (status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
        (status = 400, description = "No such filter, or a place that the cluster has not come to", body = ErrorBody),
    ),
    security(("jwt" = ["subscribers:read"]), ("ticket" = ["subscribers:read"])),
)]
pub(crate) async fn subscriber_events<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    headers: HeaderMap,
    Read { query, .. }: Read<EventQuery>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let bad = |message: String| ApiError::BadRequest { message };
    let filter = query.filter().map_err(bad)?;
    let after = match headers.get(LAST_EVENT_ID) {
        // A browser that has seen no id yet sends none, or an empty one.
        Some(value) if !value.is_empty() => {
            let text = value.to_str().unwrap_or_default();
            Some(text.parse::<EventId>().map_err(|e| bad(format!("{LAST_EVENT_ID}: {e}")))?)
        }
        Some(_) | None => query.last_event_id,
    };
    let slot = shared.streams.clone().try_acquire_owned();
    let slot = slot.map_err(|_| ApiError::Overloaded { retry_after_s: 5 })?;
    let events = shared.service.events(after, filter).await?;
    Ok(Sse::new(events.map(move |item| {
        let _held_while_the_stream_lives = &slot;
        Ok(frame(&item))
    })))
}

fn frame(item: &StreamItem) -> Event {
    let with = |name: &str, id: EventId, data: Result<String, serde_json::Error>| {
        Event::default().event(name).id(id.to_string()).data(data.unwrap_or_default())
    };
    match item {
        StreamItem::Event(event) => {
            with(event.event.label(), event.id, serde_json::to_string(event))
        }
        StreamItem::Resync(resync) => with("resync", resync.from, serde_json::to_string(resync)),
        StreamItem::Position(id) => Event::default().id(id.to_string()),
    }
}

/// List webhooks
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "events",
    responses((status = 200, description = "All webhooks", body = Envelope<WebhookList>)),
    security(("jwt" = ["webhooks:read"])),
)]
pub(crate) async fn list_webhooks<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<WebhookList>, ApiError> {
    let (list, meta) = shared.service.webhooks(level).await?;
    Ok(Enveloped(list, meta))
}

/// Make a webhook
///
/// From now on each of the named events is posted to the URL as JSON, in order, one at a time, at least once, with `X-Tandem-Event`,
/// `X-Tandem-Delivery` (webhook and event id: the same when a delivery is repeated) and `X-Tandem-Signature: sha256=` with the HMAC-SHA256 of the
/// body under the secret. Anything but a 2xx within ten seconds is tried again after 1, 2, 4 … 60 seconds; after ten tries the event becomes a
/// dead letter and the next one has its turn.
#[utoipa::path(
    post, path = "/api/v1/webhooks", tag = "events", request_body = WebhookRequest,
    responses(
        (status = 200, description = "The webhook, with its secret this once", body = Envelope<WebhookCreated>),
        (status = 422, description = "URL, events or secret cannot be used", body = ErrorBody),
    ),
    security(("jwt" = ["webhooks:write"])),
)]
pub(crate) async fn add_webhook<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(mut request): Body<WebhookRequest>,
) -> Result<Enveloped<WebhookCreated>, ApiError> {
    check(&request)?;
    request.events.sort_unstable();
    request.events.dedup();
    let (created, meta) = shared.service.webhook_add(request, caller).await?;
    Ok(Enveloped(created, meta))
}

fn check(request: &WebhookRequest) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    if let Err(why) = check_url(&request.url) {
        errors.push(FieldError::new("url", why));
    }
    if request.events.is_empty() {
        errors.push(FieldError::new("events", "names no event"));
    }
    if request.secret.as_ref().is_some_and(|s| !SECRET_OCTETS.contains(&s.expose().len())) {
        let (low, high) = SECRET_OCTETS.into_inner();
        errors.push(FieldError::new("secret", format!("must have {low} to {high} octets")));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid { errors }) }
}

fn check_url(url: &str) -> Result<(), String> {
    if url.len() > URL_OCTETS_MAX {
        return Err(format!("has more than {URL_OCTETS_MAX} octets"));
    }
    let url = reqwest::Url::parse(url).map_err(|e| format!("is not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a password: URLs are shown; check the signature".to_owned());
    }
    Ok(())
}

/// End a webhook
#[utoipa::path(
    delete, path = "/api/v1/webhooks/{id}", tag = "events",
    params(("id" = String, Path, description = "Id of the webhook")),
    responses(
        (status = 200, description = "It gets nothing more", body = Envelope<WebhookDeleted>),
        (status = 404, description = "No such webhook", body = ErrorBody),
    ),
    security(("jwt" = ["webhooks:write"])),
)]
pub(crate) async fn delete_webhook<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
) -> Result<Enveloped<WebhookDeleted>, ApiError> {
    let (done, meta) = shared.service.webhook_delete(id, caller).await?;
    Ok(Enveloped(done, meta))
}

/// List deliveries that were given up
///
/// The newest 1,000 are kept.
#[utoipa::path(
    get, path = "/api/v1/webhooks/dead-letters", tag = "events", params(DeadLetterQuery),
    responses((status = 200, description = "A page, newest first", body = Envelope<DeadLetterList>)),
    security(("jwt" = ["webhooks:read"])),
)]
pub(crate) async fn list_dead_letters<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<DeadLetterQuery>,
) -> Result<Enveloped<DeadLetterList>, ApiError> {
    check_limit(query.limit, DeadLetterQuery::LIMIT_MAX)?;
    let (list, meta) = shared.service.dead_letters(query, level).await?;
    Ok(Enveloped(list, meta))
}

/// Take a dead letter off the list
#[utoipa::path(
    delete, path = "/api/v1/webhooks/dead-letters/{id}", tag = "events",
    params(("id" = String, Path, description = "Id of the dead letter")),
    responses(
        (status = 200, description = "It is gone", body = Envelope<WebhookDeleted>),
        (status = 404, description = "No such dead letter", body = ErrorBody),
    ),
    security(("jwt" = ["webhooks:write"])),
)]
pub(crate) async fn delete_dead_letter<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
) -> Result<Enveloped<WebhookDeleted>, ApiError> {
    let (done, meta) = shared.service.dead_letter_delete(id, caller).await?;
    Ok(Enveloped(done, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/events/subscribers", get(subscriber_events::<S>))
        .route("/api/v1/webhooks", get(list_webhooks::<S>).post(add_webhook::<S>))
        .route("/api/v1/webhooks/{id}", delete(delete_webhook::<S>))
        .route("/api/v1/webhooks/dead-letters", get(list_dead_letters::<S>))
        .route("/api/v1/webhooks/dead-letters/{id}", delete(delete_dead_letter::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    subscriber_events,
    list_webhooks,
    add_webhook,
    delete_webhook,
    list_dead_letters,
    delete_dead_letter
))]
pub(crate) struct Documented;
