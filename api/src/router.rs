use crate::access::{self, Rules};
use crate::counters::Counters;
use crate::error::ApiError;
use crate::lockout::Lockout;
use crate::routes::{self, Routes, cluster, system};
use crate::service::Service;
use crate::{REQUEST_ID_HEADER, openapi};
use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use model::Secret;
use serde::Deserialize;
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

/// The key of the PureNAS dialect, which its clients put into the query.
#[derive(Clone, Debug)]
pub(crate) struct QueryKey(pub(crate) Secret);

/// The query of the dialect; everything else in it means nothing.
#[derive(Deserialize)]
struct KeyQuery {
    key: Secret,
}

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
        .merge(routes::dialects())
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
    hide_key(&mut request);
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(value) = value {
        headers.insert(REQUEST_ID_HEADER, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Takes the key out of the URI of a request in the PureNAS dialect, before anything that may log
/// or trace the URI sees it.
fn hide_key(request: &mut Request) {
    let path = request.uri().path();
    if !["subscriber", "ban", "unban", "system"].iter().any(|noun| {
        let rest = path.strip_prefix("/api/").and_then(|rest| rest.strip_prefix(noun));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }) {
        return;
    }
    let key = Query::<KeyQuery>::try_from_uri(request.uri());
    // The path of a URI is one: this never fails.
    let Ok(uri) = Uri::builder().path_and_query(path).build() else { return };
    request.extensions_mut().insert(OriginalUri(uri.clone()));
    *request.uri_mut() = uri;
    if let Ok(Query(KeyQuery { key })) = key {
        request.extensions_mut().insert(QueryKey(key));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn a_key_in_the_query_is_seen_by_nobody_who_looks_at_the_uri() {
        for (uri, hidden) in [
            ("/api/subscriber/allow/192.0.2.1?key=open+sesame%21", true),
            ("/api/system?x=1&key=open+sesame%21", true),
            ("/api/v1/subscribers?type=dhcp", false),
            ("/api/systematic?key=other", false),
        ] {
            let mut request = Request::new(Body::empty());
            let parsed: Uri = uri.parse().unwrap();
            *request.uri_mut() = parsed.clone();
            request.extensions_mut().insert(OriginalUri(parsed));
            hide_key(&mut request);
            let original = request.extensions().get::<OriginalUri>().unwrap();
            let path = uri.split('?').next().unwrap();
            let want = if hidden { path } else { uri };
            assert_eq!(request.uri(), want);
            assert_eq!(original.0, want);
            let key = request.extensions().get::<QueryKey>();
            assert_eq!(key.map(|key| key.0.expose()), hidden.then_some("open sesame!"));
            assert!(!format!("{key:?} {:?}", request.uri()).contains("sesame"));
        }
    }
}
