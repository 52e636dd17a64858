use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Service};
use crate::types::policy::{
    AllowedRequest, BanChanged, BanList, BindRequest, RemovedStatic, StaticSubscriber,
    StaticSubscriberList, WaitingList,
};
use crate::types::{Envelope, ErrorBody, RateChanged, RateRequest};
use axum::extract::State;
use axum::routing::{delete, get, put};
use model::{BanScope, Ipv4Net};
use std::net::Ipv4Addr;
use std::sync::Arc;
use utoipa::{IntoResponses, OpenApi};

/// How a change of a static subscriber may be refused.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes answers")]
enum Refusals {
    /// No such static subscriber
    #[response(status = 404)]
    Unknown(ErrorBody),
    /// The address belongs to somebody else, or to no IPoE network; or not all members know policy yet
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// What is wrong with the request
    #[response(status = 422)]
    Invalid(ErrorBody),
}

/// List static subscribers
///
/// In order of their addresses, those that are not allowed among them.
#[utoipa::path(
    get, path = "/api/v1/policy/subscribers", tag = "policy",
    responses((status = 200, description = "All of them", body = Envelope<StaticSubscriberList>)),
    security(("jwt" = ["policy:read"])),
)]
pub(crate) async fn list_static_subscribers<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<StaticSubscriberList>, ApiError> {
    let (subscribers, meta) = shared.service.statics(level).await?;
    Ok(Enveloped(StaticSubscriberList { count: subscribers.len(), subscribers }, meta))
}

/// Allow or disallow a static subscriber
///
/// Allowing an unknown address of an IPoE network makes it a static subscriber, at the place where it was heard
/// waiting.
#[utoipa::path(
    put, path = "/api/v1/policy/subscribers/{address}/allowed", tag = "policy",
    params(("address" = String, Path, description = "IPv4 address")),
    request_body = AllowedRequest,
    responses(
        (status = 200, description = "The subscriber as it is now", body = Envelope<StaticSubscriber>),
        Refusals,
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn allow_static_subscriber<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(address): PathArg<Ipv4Addr>,
    Body(request): Body<AllowedRequest>,
) -> Result<Enveloped<StaticSubscriber>, ApiError> {
    let (subscriber, meta) = shared.service.allow(address, request.allowed, caller).await?;
    Ok(Enveloped(subscriber, meta))
}

/// Bind an address to a MAC address
///
/// Packets from another MAC address are dropped.
#[utoipa::path(
    put, path = "/api/v1/policy/subscribers/{address}/mac", tag = "policy",
    params(("address" = String, Path, description = "IPv4 address")),
    request_body = BindRequest,
    responses(
        (status = 200, description = "The subscriber as it is now", body = Envelope<StaticSubscriber>),
        Refusals,
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn bind_static_subscriber<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(address): PathArg<Ipv4Addr>,
    Body(request): Body<BindRequest>,
) -> Result<Enveloped<StaticSubscriber>, ApiError> {
    let (subscriber, meta) = shared.service.bind(address, Some(request.mac), caller).await?;
    Ok(Enveloped(subscriber, meta))
}

/// Lift the binding of an address
#[utoipa::path(
    delete, path = "/api/v1/policy/subscribers/{address}/mac", tag = "policy",
    params(("address" = String, Path, description = "IPv4 address")),
    responses(
        (status = 200, description = "The subscriber as it is now", body = Envelope<StaticSubscriber>),
        Refusals,
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn unbind_static_subscriber<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(address): PathArg<Ipv4Addr>,
) -> Result<Enveloped<StaticSubscriber>, ApiError> {
    let (subscriber, meta) = shared.service.bind(address, None, caller).await?;
    Ok(Enveloped(subscriber, meta))
}

/// Shape the session that has an address
///
/// Of whichever kind.
#[utoipa::path(
    put, path = "/api/v1/policy/subscribers/{address}/rate", tag = "policy",
    params(("address" = String, Path, description = "IPv4 address")),
    request_body = RateRequest,
    responses(
        (status = 200, description = "The rates now in force", body = Envelope<RateChanged>),
        Refusals,
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn shape_address<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(address): PathArg<Ipv4Addr>,
    Body(request): Body<RateRequest>,
) -> Result<Enveloped<RateChanged>, ApiError> {
    request.check()?;
    let (changed, meta) = shared.service.shape(address, request, caller).await?;
    Ok(Enveloped(changed, meta))
}

/// Forget a static subscriber
///
/// A source that goes on sending waits again.
#[utoipa::path(
    delete, path = "/api/v1/policy/subscribers/{address}", tag = "policy",
    params(("address" = String, Path, description = "IPv4 address")),
    responses(
        (status = 200, description = "It is no subscriber any more", body = Envelope<RemovedStatic>),
        (status = 404, description = "No such static subscriber", body = ErrorBody),
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn remove_static_subscriber<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(address): PathArg<Ipv4Addr>,
) -> Result<Enveloped<RemovedStatic>, ApiError> {
    let (removed, meta) = shared.service.remove_static(address, caller).await?;
    Ok(Enveloped(removed, meta))
}

/// List bans
///
/// In order of their networks.
#[utoipa::path(
    get, path = "/api/v1/policy/bans", tag = "policy",
    responses((status = 200, description = "All of them", body = Envelope<BanList>)),
    security(("jwt" = ["policy:read"])),
)]
pub(crate) async fn list_bans<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<BanList>, ApiError> {
    let (bans, meta) = shared.service.bans(level).await?;
    Ok(Enveloped(BanList { count: bans.len(), bans }, meta))
}

/// Ban a network
///
/// Its packets are dropped as source and as destination, those of flows that live already too. Refused when it
/// would cut off a member of the cluster.
#[utoipa::path(
    put, path = "/api/v1/policy/bans/{scope}/{network}", tag = "policy",
    params(
        ("scope" = String, Path, description = "`all`, or `icmp` only"),
        ("network" = String, Path, description = "IPv4 address or network; its `/` is written `%2F`"),
    ),
    responses(
        (status = 200, description = "The ban is in force", body = Envelope<BanChanged>),
        (status = 422, description = "It would cut off a member", body = ErrorBody),
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn put_ban<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg((scope, network)): PathArg<(BanScope, Ipv4Net)>,
) -> Result<Enveloped<BanChanged>, ApiError> {
    let (changed, meta) = shared.service.ban(network, scope, true, caller).await?;
    Ok(Enveloped(changed, meta))
}

/// Lift a ban
#[utoipa::path(
    delete, path = "/api/v1/policy/bans/{scope}/{network}", tag = "policy",
    params(
        ("scope" = String, Path, description = "`all`, or `icmp` only"),
        ("network" = String, Path, description = "The network as it was banned; its `/` is written `%2F`"),
    ),
    responses(
        (status = 200, description = "The ban is lifted", body = Envelope<BanChanged>),
        (status = 404, description = "No such ban", body = ErrorBody),
    ),
    security(("jwt" = ["policy:write"])),
)]
pub(crate) async fn lift_ban<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg((scope, network)): PathArg<(BanScope, Ipv4Net)>,
) -> Result<Enveloped<BanChanged>, ApiError> {
    let (changed, meta) = shared.service.ban(network, scope, false, caller).await?;
    Ok(Enveloped(changed, meta))
}

/// List sources that wait
///
/// As the owners of the groups hear them now: the list is theirs and is made anew after a takeover.
#[utoipa::path(
    get, path = "/api/v1/policy/waiting", tag = "policy",
    responses((status = 200, description = "All of them", body = Envelope<WaitingList>)),
    security(("jwt" = ["policy:read"])),
)]
pub(crate) async fn list_waiting<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<WaitingList>, ApiError> {
    let (sources, meta) = shared.service.waiting().await?;
    Ok(Enveloped(WaitingList { count: sources.len(), sources }, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/policy/subscribers", get(list_static_subscribers::<S>))
        .route("/api/v1/policy/subscribers/{address}", delete(remove_static_subscriber::<S>))
        .route("/api/v1/policy/subscribers/{address}/allowed", put(allow_static_subscriber::<S>))
        .route(
            "/api/v1/policy/subscribers/{address}/mac",
            put(bind_static_subscriber::<S>).delete(unbind_static_subscriber::<S>),
        )
        .route("/api/v1/policy/subscribers/{address}/rate", put(shape_address::<S>))
        .route("/api/v1/policy/bans", get(list_bans::<S>))
        .route("/api/v1/policy/bans/{scope}/{network}", put(put_ban::<S>).delete(lift_ban::<S>))
        .route("/api/v1/policy/waiting", get(list_waiting::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    list_static_subscribers,
    remove_static_subscriber,
    allow_static_subscriber,
    bind_static_subscriber,
    unbind_static_subscriber,
    shape_address,
    list_bans,
    put_ban,
    lift_ban,
    list_waiting
))]
pub(crate) struct Documented;
