use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Read, Tagged};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, IfMatch, Service};
use crate::types::{Deleted, Envelope, ErrorBody, UserCreate, UserInfo, UserList, UserUpdate};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi;

/// List users
#[utoipa::path(
    get, path = "/api/v1/auth/users", tag = "auth",
    responses((status = 200, description = "All users", body = Envelope<UserList>)),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn list_users<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<UserList>, ApiError> {
    let (users, meta) = shared.service.users(level).await?;
    Ok(Enveloped(UserList { count: users.len(), users }, meta))
}

/// Show a user
#[utoipa::path(
    get, path = "/api/v1/auth/users/{id}", tag = "auth",
    params(("id" = String, Path, description = "Login name")),
    responses(
        (status = 200, description = "The user", body = Envelope<UserInfo>),
        (status = 404, description = "No such user", body = ErrorBody),
    ),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn show_user<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Tagged<UserInfo>, ApiError> {
    let (user, meta) = shared.service.user(&id, level).await?;
    let revision = user.revision;
    Ok(Tagged(user, meta, revision))
}

/// Add a user
///
/// Its role may not allow more than the caller may do.
#[utoipa::path(
    post, path = "/api/v1/auth/users", tag = "auth",
    request_body = UserCreate,
    responses(
        (status = 201, description = "The new user", body = Envelope<UserInfo>),
        (status = 409, description = "The name is taken", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn create_user<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<UserCreate>,
) -> Result<(StatusCode, Tagged<UserInfo>), ApiError> {
    let (user, meta) = shared.service.create_user(request, caller).await?;
    let revision = user.revision;
    Ok((StatusCode::CREATED, Tagged(user, meta, revision)))
}

/// Change a user
///
/// A new password, or a second factor taken away, ends all tokens of the user; another role or
/// `enabled` holds at once.
#[utoipa::path(
    put, path = "/api/v1/auth/users/{id}", tag = "auth",
    params(("id" = String, Path, description = "Login name")),
    request_body = UserUpdate,
    responses(
        (status = 200, description = "The user now", body = Envelope<UserInfo>),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 412, description = "It has another version", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn update_user<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
    Body(request): Body<UserUpdate>,
) -> Result<Tagged<UserInfo>, ApiError> {
    let (user, meta) = shared.service.update_user(&id, request, if_match, caller).await?;
    let revision = user.revision;
    Ok(Tagged(user, meta, revision))
}

/// Remove a user
///
/// With its keys and tokens. The last administrator stays.
#[utoipa::path(
    delete, path = "/api/v1/auth/users/{id}", tag = "auth",
    params(("id" = String, Path, description = "Login name")),
    responses(
        (status = 200, description = "Removed", body = Envelope<Deleted>),
        (status = 404, description = "No such user", body = ErrorBody),
        (status = 412, description = "It has another version", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn delete_user<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
) -> Result<Enveloped<Deleted>, ApiError> {
    let meta = shared.service.delete_user(&id, if_match, caller).await?;
    Ok(Enveloped(Deleted { id }, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new().route("/api/v1/auth/users", get(list_users::<S>).post(create_user::<S>)).route(
        "/api/v1/auth/users/{id}",
        get(show_user::<S>).put(update_user::<S>).delete(delete_user::<S>),
    )
}

#[derive(OpenApi)]
#[openapi(paths(list_users, create_user, show_user, update_user, delete_user))]
pub(crate) struct Documented;
