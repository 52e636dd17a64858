use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Read, check_limit};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Service};
use crate::types::{
    Disconnected, Envelope, ErrorBody, RateChanged, RateRequest, SubscriberDetail, SubscriberList,
    SubscriberQuery, SubscriberTotals,
};
use axum::extract::State;
use axum::routing::{get, put};
use model::SessionId;
use std::sync::Arc;
use utoipa::OpenApi;

/// List sessions
///
/// In pages, in order of their ids: pass `next` as `after` to get the next page.
#[utoipa::path(
    get, path = "/api/v1/subscribers", tag = "subscribers", params(SubscriberQuery),
    responses((status = 200, description = "A page of sessions", body = Envelope<SubscriberList>)),
    security(("jwt" = ["subscribers:read"])),
)]
pub(crate) async fn list_subscribers<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<SubscriberQuery>,
) -> Result<Enveloped<SubscriberList>, ApiError> {
    check_limit(query.limit, SubscriberQuery::LIMIT_MAX)?;
    let limit = query.limit();
    let (sessions, meta) = shared.service.subscribers(query, level).await?;
    let full = u32::try_from(sessions.len()).is_ok_and(|n| n >= limit);
    let next = sessions.last().filter(|_| full).map(|s| s.id);
    Ok(Enveloped(SubscriberList { count: sessions.len(), sessions, next }, meta))
}

/// Count sessions
#[utoipa::path(
    get, path = "/api/v1/subscribers/summary", tag = "subscribers",
    responses((status = 200, description = "Counts by type", body = Envelope<SubscriberTotals>)),
    security(("jwt" = ["subscribers:read"])),
)]
pub(crate) async fn subscriber_totals<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<SubscriberTotals>, ApiError> {
    let (totals, meta) = shared.service.summary(level).await?;
    Ok(Enveloped(totals, meta))
}

/// Show a session
#[utoipa::path(
    get, path = "/api/v1/subscribers/{id}", tag = "subscribers",
    params(("id" = u64, Path, description = "Session id")),
    responses(
        (status = 200, description = "The session", body = Envelope<SubscriberDetail>),
        (status = 404, description = "No such session", body = ErrorBody),
    ),
    security(("jwt" = ["subscribers:read"])),
)]
pub(crate) async fn show_subscriber<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<SessionId>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<SubscriberDetail>, ApiError> {
    let (detail, meta) = shared.service.subscriber(id, level).await?;
    Ok(Enveloped(detail, meta))
}

/// Disconnect a session
#[utoipa::path(
    delete, path = "/api/v1/subscribers/{id}", tag = "subscribers",
    params(("id" = u64, Path, description = "Session id")),
    responses(
        (status = 200, description = "The session is ended", body = Envelope<Disconnected>),
        (status = 404, description = "No such session", body = ErrorBody),
    ),
    security(("jwt" = ["subscribers:write"])),
)]
pub(crate) async fn disconnect_subscriber<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<SessionId>,
) -> Result<Enveloped<Disconnected>, ApiError> {
    let (done, meta) = shared.service.disconnect(id, caller).await?;
    Ok(Enveloped(done, meta))
}

/// Change the rates of a session
#[utoipa::path(
    put, path = "/api/v1/subscribers/{id}/rate", tag = "subscribers",
    params(("id" = u64, Path, description = "Session id")),
    request_body = RateRequest,
    responses(
        (status = 200, description = "The rates now in force", body = Envelope<RateChanged>),
        (status = 404, description = "No such session", body = ErrorBody),
        (status = 422, description = "A rate is out of range", body = ErrorBody),
    ),
    security(("jwt" = ["subscribers:write"])),
)]
pub(crate) async fn set_subscriber_rate<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<SessionId>,
    Body(request): Body<RateRequest>,
) -> Result<Enveloped<RateChanged>, ApiError> {
    request.check()?;
    let (changed, meta) = shared.service.set_rate(id, request, caller).await?;
    Ok(Enveloped(changed, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/subscribers", get(list_subscribers::<S>))
        .route("/api/v1/subscribers/summary", get(subscriber_totals::<S>))
        .route(
            "/api/v1/subscribers/{id}",
            get(show_subscriber::<S>).delete(disconnect_subscriber::<S>),
        )
        .route("/api/v1/subscribers/{id}/rate", put(set_subscriber_rate::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    list_subscribers,
    subscriber_totals,
    show_subscriber,
    disconnect_subscriber,
    set_subscriber_rate
))]
pub(crate) struct Documented;
