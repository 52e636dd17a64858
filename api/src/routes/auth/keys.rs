use super::roles::permissions;
use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, PathArg, Personal, Read, Tagged, check_limit};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, IfMatch, Service};
use crate::types::{
    ApiKeyCreated, ApiKeyList, ApiKeyRequest, AuditList, AuditQuery, AuthSettings,
    AuthSettingsUpdate, Deleted, Envelope, ErrorBody,
};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get};
use model::Revision;
use std::sync::Arc;
use utoipa::OpenApi;

/// List API keys
///
/// Of all users, without their text.
#[utoipa::path(
    get, path = "/api/v1/auth/api-keys", tag = "auth",
    responses((status = 200, description = "All keys", body = Envelope<ApiKeyList>)),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn list_api_keys<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<ApiKeyList>, ApiError> {
    let (api_keys, meta) = shared.service.api_keys(level).await?;
    Ok(Enveloped(ApiKeyList { count: api_keys.len(), api_keys }, meta))
}

/// Make an API key
///
/// Its text is shown in this answer and never again: only a digest is kept. It belongs to the
/// caller and never allows more than its owner may do.
#[utoipa::path(
    post, path = "/api/v1/auth/api-keys", tag = "auth",
    request_body = ApiKeyRequest,
    responses(
        (status = 201, description = "The key", body = Envelope<ApiKeyCreated>),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn create_api_key<S: Service>(
    Personal(caller): Personal,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<ApiKeyRequest>,
) -> Result<(StatusCode, Enveloped<ApiKeyCreated>), ApiError> {
    let permissions = request.permissions.as_deref().map(permissions).transpose()?;
    let (key, meta) = shared.service.create_api_key(request, permissions, caller).await?;
    Ok((StatusCode::CREATED, Enveloped(key, meta)))
}

/// Revoke an API key
#[utoipa::path(
    delete, path = "/api/v1/auth/api-keys/{id}", tag = "auth",
    params(("id" = String, Path, description = "Id of the key")),
    responses(
        (status = 200, description = "Revoked", body = Envelope<Deleted>),
        (status = 404, description = "No such key", body = ErrorBody),
        (status = 412, description = "It has another version", body = ErrorBody),
    ),
    security(("jwt" = ["users:write"])),
)]
pub(crate) async fn delete_api_key<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<String>,
) -> Result<Enveloped<Deleted>, ApiError> {
    let meta = shared.service.delete_api_key(&id, if_match, caller).await?;
    Ok(Enveloped(Deleted { id }, meta))
}

/// Show the settings of logins
#[utoipa::path(
    get, path = "/api/v1/auth/settings", tag = "auth",
    responses((status = 200, description = "The settings", body = Envelope<AuthSettings>)),
    security(("jwt" = ["settings:read"])),
)]
pub(crate) async fn auth_settings<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Tagged<AuthSettings>, ApiError> {
    let (settings, meta) = shared.service.read_auth_settings(level).await?;
    Ok(Tagged(settings, meta, meta.revision.unwrap_or(Revision(0))))
}

/// Change the settings of logins
#[utoipa::path(
    put, path = "/api/v1/auth/settings", tag = "auth",
    request_body = AuthSettingsUpdate,
    responses(
        (status = 200, description = "The settings now", body = Envelope<AuthSettings>),
        (status = 412, description = "They have another version", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["settings:write"])),
)]
pub(crate) async fn update_auth_settings<S: Service>(
    caller: Caller,
    if_match: IfMatch,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<AuthSettingsUpdate>,
) -> Result<Tagged<AuthSettings>, ApiError> {
    let changed = shared.service.update_auth_settings(request, if_match, caller);
    let (settings, meta) = changed.await?;
    Ok(Tagged(settings, meta, meta.revision.unwrap_or(Revision(0))))
}

/// Show the audit trail
///
/// The newest first. The last 10,000 records are kept.
#[utoipa::path(
    get, path = "/api/v1/auth/audit", tag = "auth", params(AuditQuery),
    responses((status = 200, description = "A page of records", body = Envelope<AuditList>)),
    security(("jwt" = ["users:read"])),
)]
pub(crate) async fn list_audit<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<AuditQuery>,
) -> Result<Enveloped<AuditList>, ApiError> {
    check_limit(query.limit, AuditQuery::LIMIT_MAX)?;
    let limit = query.limit();
    let (audit, meta) = shared.service.audit(query, level).await?;
    let full = u32::try_from(audit.len()).is_ok_and(|n| n >= limit);
    let next = audit.last().filter(|_| full).map(|entry| entry.id.clone());
    Ok(Enveloped(AuditList { count: audit.len(), audit, next }, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/auth/api-keys", get(list_api_keys::<S>).post(create_api_key::<S>))
        .route("/api/v1/auth/api-keys/{id}", delete(delete_api_key::<S>))
        .route("/api/v1/auth/settings", get(auth_settings::<S>).put(update_auth_settings::<S>))
        .route("/api/v1/auth/audit", get(list_audit::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    list_audit,
    list_api_keys,
    create_api_key,
    delete_api_key,
    auth_settings,
    update_auth_settings
))]
pub(crate) struct Documented;
