use super::login::Attempt;
use crate::error::ApiError;
use crate::extract::{Body, Enveloped, Flat, Message, NoQuery, Personal, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Meta, Origin, Service};
use crate::types::{CodeRequest, Envelope, ErrorBody, Me, MessageAnswer, StreamTicket, TotpSetup};
use axum::extract::State;
use axum::routing::{get, post};
use std::sync::Arc;
use utoipa::OpenApi;

/// Show the caller
#[utoipa::path(
    get, path = "/api/v1/auth/me", tag = "auth",
    responses((status = 200, description = "Who asks", body = Envelope<Me>)),
    security(("jwt" = [])),
)]
pub(crate) async fn me<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<Me>, ApiError> {
    Ok(Enveloped(shared.service.me(caller).await?, Meta::default()))
}

/// Make a ticket for a stream
///
/// For clients that cannot set headers. Good once, on any node, for 30 seconds.
#[utoipa::path(
    post, path = "/api/v1/auth/ws-ticket", tag = "auth",
    responses((status = 200, description = "The ticket", body = StreamTicket)),
    security(("jwt" = [])),
)]
pub(crate) async fn stream_ticket<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
) -> Result<Flat<StreamTicket>, ApiError> {
    let (ticket, meta) = shared.service.stream_ticket(caller).await?;
    Ok(Flat(ticket, meta))
}

/// Begin with a second factor
///
/// Gives a key for an authenticator and eight recovery codes. It is asked for once a first code
/// was verified; another call before that replaces the key.
#[utoipa::path(
    post, path = "/api/v1/auth/totp/setup", tag = "auth",
    responses(
        (status = 200, description = "The key", body = Envelope<TotpSetup>),
        (status = 409, description = "The user has a second factor", body = ErrorBody),
    ),
    security(("jwt" = [])),
)]
pub(crate) async fn totp_setup<S: Service>(
    Personal(caller): Personal,
    State(shared): State<Arc<Shared<S>>>,
) -> Result<Enveloped<TotpSetup>, ApiError> {
    let (setup, meta) = shared.service.totp_setup(caller).await?;
    Ok(Enveloped(setup, meta))
}

/// Switch the second factor on
#[utoipa::path(
    post, path = "/api/v1/auth/totp/verify", tag = "auth",
    request_body = CodeRequest,
    responses(
        (status = 200, description = "It is asked for from now on", body = MessageAnswer),
        (status = 409, description = "It is on, or was not begun", body = ErrorBody),
    ),
    security(("jwt" = [])),
)]
pub(crate) async fn totp_verify<S: Service>(
    Personal(caller): Personal,
    origin: Origin,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<CodeRequest>,
) -> Result<Message, ApiError> {
    let attempt = Attempt::begin(&shared, &caller.username, &origin)?;
    let meta = attempt.settle(shared.service.totp_verify(request.code, caller).await)?;
    Ok(Message("The second factor is on", meta))
}

/// Switch the second factor off
#[utoipa::path(
    post, path = "/api/v1/auth/totp/disable", tag = "auth",
    request_body = CodeRequest,
    responses(
        (status = 200, description = "It is gone", body = MessageAnswer),
        (status = 409, description = "There is none", body = ErrorBody),
    ),
    security(("jwt" = [])),
)]
pub(crate) async fn totp_disable<S: Service>(
    Personal(caller): Personal,
    origin: Origin,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<CodeRequest>,
) -> Result<Message, ApiError> {
    let attempt = Attempt::begin(&shared, &caller.username, &origin)?;
    let meta = attempt.settle(shared.service.totp_disable(request.code, caller).await)?;
    Ok(Message("The second factor is off", meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/auth/me", get(me::<S>))
        .route("/api/v1/auth/ws-ticket", post(stream_ticket::<S>))
        .route("/api/v1/auth/totp/setup", post(totp_setup::<S>))
        .route("/api/v1/auth/totp/verify", post(totp_verify::<S>))
        .route("/api/v1/auth/totp/disable", post(totp_disable::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(me, stream_ticket, totp_setup, totp_verify, totp_disable))]
pub(crate) struct Documented;
