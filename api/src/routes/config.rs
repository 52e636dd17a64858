use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, OptionalBody, PathArg, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Service};
use crate::types::config::{
    ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigView, DeleteRequest,
    DiscardResponse, EditResponse, HistoryQuery, RollbackRequest, SetRequest,
};
use crate::types::{Configuration, Envelope, ErrorBody};
use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use serde_json::Value;
use std::sync::Arc;
use utoipa::{IntoResponses, OpenApi};

/// The largest tree that a load may bring, in octets.
const TREE_OCTETS_MAX: usize = 2 * 1024 * 1024;

/// How every write of the configuration may be refused.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only describes answers")]
enum Refusals {
    /// Somebody else was faster, or there is nothing to do
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// Everything that is wrong
    #[response(status = 422)]
    Invalid(ErrorBody),
}

/// Show the running configuration
///
/// Secrets are masked; a masked tree may be sent back.
#[utoipa::path(
    get, path = "/api/v1/system/config", tag = "configuration",
    responses(
        (status = 200, description = "Show the running configuration", body = Envelope<ConfigView>),
    ),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn show_config<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<ConfigView>, ApiError> {
    let (answer, meta) = shared.service.config(level).await?;
    Ok(Enveloped(answer, meta))
}

/// Show the candidate
///
/// The running configuration when there is none; secrets are masked.
#[utoipa::path(
    get, path = "/api/v1/system/config/candidate", tag = "configuration",
    responses(
        (status = 200, description = "Show the candidate", body = Envelope<ConfigView>),
    ),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn show_config_candidate<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<ConfigView>, ApiError> {
    let (answer, meta) = shared.service.config_candidate(level).await?;
    Ok(Enveloped(answer, meta))
}

/// Compare candidate and running configuration
///
/// Also tells everything that a commit would refuse.
#[utoipa::path(
    get, path = "/api/v1/system/config/compare", tag = "configuration",
    responses(
        (status = 200, description = "Compare candidate and running configuration", body = Envelope<CompareResponse>),
    ),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn compare_config<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<CompareResponse>, ApiError> {
    let (answer, meta) = shared.service.config_compare(level).await?;
    Ok(Enveloped(answer, meta))
}

/// List archived configurations
///
/// Newest first; the last 50 commits are kept.
#[utoipa::path(
    get, path = "/api/v1/system/config/archive", tag = "configuration", params(HistoryQuery),
    responses(
        (status = 200, description = "List archived configurations", body = Envelope<ArchiveList>),
    ),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn list_config_versions<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<HistoryQuery>,
) -> Result<Enveloped<ArchiveList>, ApiError> {
    let (answer, meta) = shared.service.config_history(query, level).await?;
    Ok(Enveloped(answer, meta))
}

/// Show an archived configuration
///
/// Secrets are masked.
#[utoipa::path(
    get, path = "/api/v1/system/config/archive/{version}", tag = "configuration", params(("version" = u64, Path, description = "Its version")),
    responses(
        (status = 200, description = "Show an archived configuration", body = Envelope<ConfigView>),
        (status = 404, description = "No such version", body = ErrorBody),
    ),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn show_config_version<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    PathArg(version): PathArg<u64>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<ConfigView>, ApiError> {
    let (answer, meta) = shared.service.config_version(version, level).await?;
    Ok(Enveloped(answer, meta))
}

/// Show the schema of the configuration
///
/// JSON Schema 2020-12; a property of the format `password` is a secret.
#[utoipa::path(
    get, path = "/api/v1/system/config/schema", tag = "configuration",
    responses((status = 200, description = "The schema itself, not enveloped", body = Value)),
    security(("jwt" = ["backup:read"])),
)]
pub(crate) async fn show_config_schema<S: Service>(
    State(_shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Json<&'static Value> {
    Json(Configuration::schema())
}

/// Set one value of the candidate
///
/// The answer tells what a commit would refuse; nothing is applied.
#[utoipa::path(
    post, path = "/api/v1/system/config/set", tag = "configuration",
    request_body = SetRequest,
    responses(
        (status = 200, description = "Done", body = Envelope<EditResponse>),
        Refusals,
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn set_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<SetRequest>,
) -> Result<Enveloped<EditResponse>, ApiError> {
    let (answer, meta) = shared.service.config_set(request, caller).await?;
    Ok(Enveloped(answer, meta))
}

/// Delete one key of the candidate
///
/// With everything below it; nothing is applied.
#[utoipa::path(
    post, path = "/api/v1/system/config/delete", tag = "configuration",
    request_body = DeleteRequest,
    responses(
        (status = 200, description = "Done", body = Envelope<EditResponse>),
        Refusals,
        (status = 404, description = "No such key or version", body = ErrorBody),
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn delete_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<DeleteRequest>,
) -> Result<Enveloped<EditResponse>, ApiError> {
    let (answer, meta) = shared.service.config_delete(request, caller).await?;
    Ok(Enveloped(answer, meta))
}

/// Replace the whole candidate
///
/// The body is the tree itself; masked secrets keep their values.
#[utoipa::path(
    post, path = "/api/v1/system/config/load", tag = "configuration",
    request_body = Value,
    responses(
        (status = 200, description = "Done", body = Envelope<EditResponse>),
        Refusals,
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn load_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<Value>,
) -> Result<Enveloped<EditResponse>, ApiError> {
    let (answer, meta) = shared.service.config_load(request, caller).await?;
    Ok(Enveloped(answer, meta))
}

/// Commit the candidate
///
/// Checked here and on every data node, then applied everywhere by one entry of the log. With `confirm_s` it
/// goes back by itself unless a second commit confirms it, whichever node leads then.
#[utoipa::path(
    post, path = "/api/v1/system/config/commit", tag = "configuration",
    request_body = CommitRequest,
    responses(
        (status = 200, description = "Done", body = Envelope<CommitResponse>),
        Refusals,
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn commit_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    OptionalBody(request): OptionalBody<CommitRequest>,
) -> Result<Enveloped<CommitResponse>, ApiError> {
    let (answer, meta) = shared.service.config_commit(request, caller).await?;
    Ok(Enveloped(answer, meta))
}

/// Load an archived configuration as the candidate
///
/// Nothing is applied until a commit.
#[utoipa::path(
    post, path = "/api/v1/system/config/rollback", tag = "configuration",
    request_body = RollbackRequest,
    responses(
        (status = 200, description = "Done", body = Envelope<EditResponse>),
        Refusals,
        (status = 404, description = "No such key or version", body = ErrorBody),
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn rollback_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    OptionalBody(request): OptionalBody<RollbackRequest>,
) -> Result<Enveloped<EditResponse>, ApiError> {
    let (answer, meta) = shared.service.config_rollback(request, caller).await?;
    Ok(Enveloped(answer, meta))
}

/// Drop the candidate
///
/// The running configuration stays.
#[utoipa::path(
    post, path = "/api/v1/system/config/discard", tag = "configuration",
    responses(
        (status = 200, description = "Done", body = Envelope<DiscardResponse>),
        Refusals,
    ),
    security(("jwt" = ["backup:write"])),
)]
pub(crate) async fn discard_config<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
) -> Result<Enveloped<DiscardResponse>, ApiError> {
    let (answer, meta) = shared.service.config_discard(caller).await?;
    Ok(Enveloped(answer, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/system/config", get(show_config::<S>))
        .route("/api/v1/system/config/candidate", get(show_config_candidate::<S>))
        .route("/api/v1/system/config/compare", get(compare_config::<S>))
        .route("/api/v1/system/config/archive", get(list_config_versions::<S>))
        .route("/api/v1/system/config/archive/{version}", get(show_config_version::<S>))
        .route("/api/v1/system/config/schema", get(show_config_schema::<S>))
        .route("/api/v1/system/config/set", post(set_config::<S>))
        .route("/api/v1/system/config/delete", post(delete_config::<S>))
        .route(
            "/api/v1/system/config/load",
            post(load_config::<S>).layer(DefaultBodyLimit::max(TREE_OCTETS_MAX)),
        )
        .route("/api/v1/system/config/commit", post(commit_config::<S>))
        .route("/api/v1/system/config/rollback", post(rollback_config::<S>))
        .route("/api/v1/system/config/discard", post(discard_config::<S>))
}

#[derive(OpenApi)]
#[openapi(
    paths(
        show_config,
        show_config_candidate,
        compare_config,
        list_config_versions,
        show_config_version,
        show_config_schema,
        set_config,
        delete_config,
        load_config,
        commit_config,
        rollback_config,
        discard_config
    ),
    components(schemas(Configuration))
)]
pub(crate) struct Documented;
