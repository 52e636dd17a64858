use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Read, Tagged};
use crate::permission::{Permission, PermissionSet};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, IfMatch, Meta, Service};
use crate::types::{
    Deleted, Envelope, ErrorBody, PermissionInfo, PermissionList, RoleCreate, RoleInfo, RoleList,
    RoleUpdate,
};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, put};
use std::sync::Arc;
use utoipa::OpenApi;

/// Reads the names of a request's field `permissions`.
pub(super) fn permissions(names: &[String]) -> Result<PermissionSet, ApiError> {
    PermissionSet::parse(names)
        .map_err(|(at, e)| ApiError::invalid(format!("permissions[{at}]"), e.to_string()))
}

/// List permissions
#[utoipa::path(
    get, path = "/api/v1/auth/permissions", tag = "auth",
    responses((status = 200, description = "All there are", body = Envelope<PermissionList>)),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn list_permissions(_: Read<NoQuery>) -> Enveloped<PermissionList> {
    let info = |p: &Permission| PermissionInfo {
        key: p.as_str().to_owned(),
        category: p.category().to_owned(),
        action: p.action().to_owned(),
    };
    let permissions: Vec<_> = Permission::ALL.iter().map(info).collect();
    Enveloped(PermissionList { count: permissions.len(), permissions }, Meta::default())
}

/// List roles
#[utoipa::path(
    get, path = "/api/v1/auth/roles", tag = "auth",
    responses((status = 200, description = "All roles", body = Envelope<RoleList>)),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn list_roles<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<RoleList>, ApiError> {
    let (roles, meta) = shared.service.roles(level).await?;
    Ok(Enveloped(RoleList { count: roles.len(), roles }, meta))
}

/// Add a role
///
/// It may not allow more than the caller may do.
#[utoipa::path(
    post, path = "/api/v1/auth/roles", tag = "auth",
    request_body = RoleCreate,
    responses(
        (status = 201, description = "The new role", body = Envelope<RoleInfo>),
        (status = 409, description = "The name is taken", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn create_role<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<RoleCreate>,
) -> Result<(StatusCode, Tagged<RoleInfo>), ApiError> {
    let permissions = permissions(&request.permissions)?;
    let (role, meta) = shared.service.create_role(request, permissions, caller).await?;
    let revision = role.revision;
    Ok((StatusCode::CREATED, Tagged(role, meta, revision)))
}

/// Change a role
///
/// Holds at once for all users that have it. Built-in roles do not change.
#[utoipa::path(
    put, path = "/api/v1/auth/roles/{id}", tag = "auth",
    params(("id" = String, Path, description = "Name of the role")),
    request_body = RoleUpdate,
    responses(
        (status = 200, description = "The role now", body = Envelope<RoleInfo>),
        (status = 404, description = "No such role", body = ErrorBody),
        (status = 409, description = "It is built in", body = ErrorBody),
        (status = 412, description = "It has another version", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn update_role<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
    Body(request): Body<RoleUpdate>,
) -> Result<Tagged<RoleInfo>, ApiError> {
    let permissions = request.permissions.as_deref().map(permissions).transpose()?;
    let changed = shared.service.update_role(&id, request, permissions, if_match, caller);
    let (role, meta) = changed.await?;
    let revision = role.revision;
    Ok(Tagged(role, meta, revision))
}

/// Remove a role
#[utoipa::path(
    delete, path = "/api/v1/auth/roles/{id}", tag = "auth",
    params(("id" = String, Path, description = "Name of the role")),
    responses(
        (status = 200, description = "Removed", body = Envelope<Deleted>),
        (status = 404, description = "No such role", body = ErrorBody),
        (status = 409, description = "It is built in, or a user has it", body = ErrorBody),
        (status = 412, description = "It has another version", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn delete_role<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
) -> Result<Enveloped<Deleted>, ApiError> {
    let meta = shared.service.delete_role(&id, if_match, caller).await?;
    Ok(Enveloped(Deleted { id }, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/auth/permissions", get(list_permissions))
        .route("/api/v1/auth/roles", get(list_roles::<S>).post(create_role::<S>))
        .route("/api/v1/auth/roles/{id}", put(update_role::<S>).delete(delete_role::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(list_permissions, list_roles, create_role, update_role, delete_role))]
pub(crate) struct Documented;
