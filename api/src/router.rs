use crate::error::ApiError;
use crate::lockout::Lockout;
use crate::routes::{auth, cluster, groups, subscribers, system};
use crate::service::Service;
use crate::{REQUEST_ID_HEADER, openapi};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use utoipa_swagger_ui::SwaggerUi;

/// The largest body of an ordinary request, in octets.
const BODY_OCTETS_MAX: usize = 64 * 1024;
/// The largest body of `POST /cluster/init`, which may bring 100,000 subscribers, in octets.
const INIT_BODY_OCTETS_MAX: usize = 32 * 1024 * 1024;
/// How long an ordinary request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long init, join and admission may take: they write a store and wait for a quorum.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that are worked on at once; more are refused, not queued.
const REQUESTS_MAX: usize = 512;
/// The longest request id that a caller may give, in octets.
const REQUEST_ID_OCTETS_MAX: usize = 64;

/// What all handlers share.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<S>,
    pub(crate) lockout: Mutex<Lockout>,
    slots: Semaphore,
}

/// The id of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Every path of the API, ready to be served.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that the lockout of
/// logins can tell peers apart.
pub fn router<S: Service>(service: Arc<S>) -> Router {
    let shared = Arc::new(Shared {
        service,
        lockout: Mutex::new(Lockout::default()),
        slots: Semaphore::new(REQUESTS_MAX),
    });
    let open = Router::new()
        .route("/api/v1/health", get(system::health::<S>))
        .route("/metrics", get(system::metrics::<S>));
    let ordinary = Router::new()
        .route("/api/v1/auth/login", post(auth::login::<S>))
        .route("/api/v1/subscribers", get(subscribers::list_subscribers::<S>))
        .route("/api/v1/subscribers/summary", get(subscribers::subscriber_totals::<S>))
        .route(
            "/api/v1/subscribers/{id}",
            get(subscribers::show_subscriber::<S>).delete(subscribers::disconnect_subscriber::<S>),
        )
        .route("/api/v1/subscribers/{id}/rate", put(subscribers::set_subscriber_rate::<S>))
        .route("/api/v1/system/version", get(system::version::<S>))
        .route("/api/v1/cluster", get(cluster::cluster_status::<S>))
        .route("/api/v1/cluster/join-tokens", post(cluster::create_join_token::<S>))
        .route("/api/v1/cluster/members", get(cluster::list_members::<S>))
        .route("/api/v1/cluster/members/{id}", delete(cluster::remove_member::<S>))
        .route("/api/v1/groups", get(groups::list_groups::<S>))
        .route("/api/v1/groups/{name}", get(groups::show_group::<S>))
        .route("/api/v1/groups/{name}/failover", post(groups::failover_group::<S>))
        .layer(from_fn(|request: Request, next: Next| limit_time(REQUEST_TIMEOUT, request, next)));
    let membership = Router::new()
        .route(
            "/api/v1/cluster/init",
            post(cluster::init_cluster::<S>).layer(DefaultBodyLimit::max(INIT_BODY_OCTETS_MAX)),
        )
        .route("/api/v1/cluster/join", post(cluster::join_cluster::<S>))
        .route("/api/v1/cluster/admit", post(cluster::admit_node::<S>))
        .layer(from_fn(|request: Request, next: Next| {
            limit_time(MEMBERSHIP_TIMEOUT, request, next)
        }));
    let limited =
        ordinary.merge(membership).layer(from_fn_with_state(shared.clone(), limit_number));
    open.merge(limited)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .with_state(shared)
        .merge(SwaggerUi::new("/api/docs").url("/api/openapi.json", openapi::openapi()))
        .fallback(async || ApiError::NoSuchPath)
        .layer(DefaultBodyLimit::max(BODY_OCTETS_MAX))
        .layer(from_fn(identify))
}

/// Gives every request an id, and forbids caches to keep any answer.
async fn identify(mut request: Request, next: Next) -> Response {
    let id =
        given_id(request.headers()).unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
    let value = HeaderValue::from_str(&id);
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(value) = value {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID_HEADER)?.to_str().ok()?;
    let fits = (1..=REQUEST_ID_OCTETS_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    fits.then(|| id.to_owned())
}

async fn limit_time(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Timeout.into_response(),
    }
}

async fn limit_number<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    request: Request,
    next: Next,
) -> Response {
    match shared.slots.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => ApiError::Overloaded { retry_after_s: 1 }.into_response(),
    }
}
