use crate::error::ApiError;
use crate::extract::{Enveloped, NoQuery, OptionalBody, PathArg, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Meta, Service};
use crate::types::{
    Envelope, ErrorBody, FailoverRequest, FailoverResponse, GroupList, GroupStatus,
};
use axum::extract::State;
use axum::routing::{get, post};
use std::sync::Arc;
use utoipa::OpenApi;

/// List redundancy groups
///
/// As the answering node sees them, also without a quorum.
#[utoipa::path(
    get, path = "/api/v1/groups", tag = "groups",
    responses((status = 200, description = "All groups", body = Envelope<GroupList>)),
    security(("jwt" = ["cluster:read"])),
)]
pub(crate) async fn list_groups<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<GroupList>, ApiError> {
    let status = shared.service.cluster().await?;
    let list = GroupList { count: status.groups.len(), groups: status.groups };
    Ok(Enveloped(list, Meta::at(status.revision)))
}

/// Show a redundancy group
#[utoipa::path(
    get, path = "/api/v1/groups/{name}", tag = "groups",
    params(("name" = String, Path, description = "Name of the group")),
    responses(
        (status = 200, description = "The group", body = Envelope<GroupStatus>),
        (status = 404, description = "No such group", body = ErrorBody),
    ),
    security(("jwt" = ["cluster:read"])),
)]
pub(crate) async fn show_group<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    PathArg(name): PathArg<String>,
    _: Read<NoQuery>,
) -> Result<Enveloped<GroupStatus>, ApiError> {
    let status = shared.service.cluster().await?;
    let group = status.groups.into_iter().find(|g| g.name == name);
    let group = group.ok_or_else(|| ApiError::not_found(format!("group {name}")))?;
    Ok(Enveloped(group, Meta::at(status.revision)))
}

/// Give a group to another node
///
/// A planned change: the owner stops first. The answer comes when the change is committed; the new
/// owner forwards when its fence is `open`.
#[utoipa::path(
    post, path = "/api/v1/groups/{name}/failover", tag = "groups",
    params(("name" = String, Path, description = "Name of the group")),
    request_body(content = Option<FailoverRequest>, description = "May be left off"),
    responses(
        (status = 200, description = "The new owner", body = Envelope<FailoverResponse>),
        (status = 404, description = "No such group or node", body = ErrorBody),
        (status = 409, description = "The node is not ready to own it", body = ErrorBody),
    ),
    security(("jwt" = ["cluster:write"])),
)]
pub(crate) async fn failover_group<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(name): PathArg<String>,
    OptionalBody(request): OptionalBody<FailoverRequest>,
) -> Result<Enveloped<FailoverResponse>, ApiError> {
    let (done, meta) = shared.service.failover(name, request, caller).await?;
    Ok(Enveloped(done, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/groups", get(list_groups::<S>))
        .route("/api/v1/groups/{name}", get(show_group::<S>))
        .route("/api/v1/groups/{name}/failover", post(failover_group::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(list_groups, show_group, failover_group))]
pub(crate) struct Documented;
