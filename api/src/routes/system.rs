use crate::error::ApiError;
use crate::extract::{Enveloped, NoQuery, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Meta, Service};
use crate::types::{Envelope, Health, Version};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi;

/// What `prometheus-client` writes; its text ends with `# EOF`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older Prometheus text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Health of this node
///
/// Open to everybody. The status code is 200 as long as the daemon answers.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "system",
    responses((status = 200, description = "How the node feels", body = Envelope<Health>)),
)]
pub(crate) async fn health<S: Service>(State(shared): State<Arc<Shared<S>>>) -> Enveloped<Health> {
    Enveloped(shared.service.health().await, Meta::default())
}

/// Prometheus metrics of this node
///
/// Open to everybody.
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    responses((
        status = 200, description = "Prometheus text format",
        body = String, content_type = "text/plain",
    )),
)]
pub(crate) async fn metrics<S: Service>(State(shared): State<Arc<Shared<S>>>) -> Response {
    let text = shared.service.metrics_text(shared.counters.counts()).await;
    let kind = if text.ends_with("# EOF\n") { OPEN_METRICS } else { PROMETHEUS };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What runs on this node
#[utoipa::path(
    get, path = "/api/v1/system/version", tag = "system",
    responses((status = 200, description = "Versions", body = Envelope<Version>)),
    security(("jwt" = ["dashboard:view"])),
)]
pub(crate) async fn version<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<Version>, ApiError> {
    Ok(Enveloped(shared.service.version().await, Meta::default()))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new().route("/api/v1/system/version", get(version::<S>))
}

/// The only paths that answer without a credential.
pub(crate) fn open_routes<S: Service>() -> Routes<S> {
    Routes::new().route("/api/v1/health", get(health::<S>)).route("/metrics", get(metrics::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(version, health, metrics))]
pub(crate) struct Documented;
