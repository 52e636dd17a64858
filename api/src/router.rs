use crate::access::{self, Rules};
use crate::counters::Counters;
use crate::error::ApiError;
use crate::lockout::Lockout;
use crate::routes::{self, Routes, cluster, system};
use crate::service::Service;
use crate::{REQUEST_ID_HEADER, openapi};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use utoipa_swagger_ui::SwaggerUi;

/// The largest body of an ordinary request, in octets.
const BODY_OCTETS_MAX: usize = 64 * 1024;
/// How long an ordinary request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long init, join and admission may take: they write a store and wait for a quorum.
const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests that are worked on at once; more are refused, not queued.
const REQUESTS_MAX: usize = 512;
/// Streams of events that are open at once.
const STREAMS_MAX: usize = 256;
/// The longest request id that a caller may give, in octets.
const REQUEST_ID_OCTETS_MAX: usize = 64;

/// What all handlers share.
pub(crate) struct Shared<S> {
    pub(crate) service: Arc<S>,
    pub(crate) lockout: Mutex<Lockout>,
    pub(crate) rules: Rules,
    pub(crate) counters: Counters,
    slots: Semaphore,
    pub(crate) streams: Arc<Semaphore>,
}

/// The id of a request.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Every path of the API, ready to be served.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that the lockout of
/// logins can tell peers apart.
pub fn router<S: Service>(service: Arc<S>) -> Router {
    let document = openapi::openapi();
    let shared = Arc::new(Shared {
        service,
        lockout: Mutex::new(Lockout::default()),
        rules: Rules::of(&document),
        counters: Counters::default(),
        slots: Semaphore::new(REQUESTS_MAX),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
    });
    let guarded =
        |routes: Routes<S>| routes.layer(from_fn_with_state(shared.clone(), access::check::<S>));
    let ordinary = guarded(routes::ordinary())
        .layer(from_fn(|request: Request, next: Next| limit_time(REQUEST_TIMEOUT, request, next)));
    let membership =
        guarded(cluster::membership_routes()).layer(from_fn(|request: Request, next: Next| {
            limit_time(MEMBERSHIP_TIMEOUT, request, next)
        }));
    let limited =
        ordinary.merge(membership).layer(from_fn_with_state(shared.clone(), limit_number));
    system::open_routes()
        .merge(limited)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .with_state(shared)
        .merge(SwaggerUi::new("/api/docs").url("/api/openapi.json", document))
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
