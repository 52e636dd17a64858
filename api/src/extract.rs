//! What handlers take: credentials, ids, queries and bodies. Every refusal is an [`ApiError`].

use crate::error::ApiError;
use crate::jwt::Claims;
use crate::router::{RequestId, Shared};
use crate::service::{BootstrapAuth, Caller, IfMatch, Origin, ReadLevel, Service};
use crate::types::{CredentialKind, FieldError, MessageAnswer, OkStatus};
use crate::{IDEMPOTENCY_HEADER, REVISION_HEADER, service};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use model::Revision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The longest `Idempotency-Key`, in octets.
const IDEMPOTENCY_KEY_OCTETS_MAX: usize = 128;

/// Scheme, in lower case, and credential of `Authorization` (RFC 9110 §11.6.2).
pub(crate) fn authorization(headers: &HeaderMap) -> Option<(String, &str)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (!credential.is_empty()).then(|| (scheme.to_ascii_lowercase(), credential))
}

/// The credential of `Authorization: Bearer` (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers).filter(|(scheme, _)| scheme == "bearer").map(|(_, token)| token)
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| {
        (1..=IDEMPOTENCY_KEY_OCTETS_MAX).contains(&key.len())
            && key.bytes().all(|b| b.is_ascii_graphic())
    });
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(ApiError::BadRequest {
            message: format!(
                "{IDEMPOTENCY_HEADER} must be 1 to {IDEMPOTENCY_KEY_OCTETS_MAX} visible ASCII characters"
            ),
        }),
    }
}

pub(crate) fn request_id(parts: &Parts) -> String {
    parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// The caller that [`crate::access`] let in. An operation whose document asks for no credential
/// has none.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthorized)
    }
}

/// A caller that logged in itself: what is about the user is no matter for its programs.
pub(crate) struct Personal(pub(crate) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Personal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        match caller.credential {
            CredentialKind::Token => Ok(Self(caller)),
            CredentialKind::ApiKey | CredentialKind::Ticket | CredentialKind::DialectKey => {
                Err(ApiError::denied("This needs the access token of a login"))
            }
        }
    }
}

/// The claims of the caller's access token, if it came with one.
pub(crate) struct TokenOf(pub(crate) Option<Claims>);

impl<S: Send + Sync> FromRequestParts<S> for TokenOf {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(parts.extensions.get::<Claims>().cloned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self { address: peer(parts), request_id: request_id(parts) })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self::Any) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        let digits = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
        match bare.parse() {
            Ok(revision) if digits => Ok(Self::Revision(Revision(revision))),
            Ok(_) | Err(_) => {
                let message = "If-Match must be one revision, such as \"42\", or *".to_owned();
                Err(ApiError::BadRequest { message })
            }
        }
    }
}

impl<S: Service> FromRequestParts<Arc<Shared<S>>> for BootstrapAuth {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Arc<Shared<S>>,
    ) -> Result<Self, ApiError> {
        // An initialised node answers 409 to everybody; an absent token is a wrong one.
        shared.service.check_bootstrap(bearer(&parts.headers).unwrap_or_default())?;
        Ok(Self {
            request_id: request_id(parts),
            idempotency_key: idempotency_key(&parts.headers)?,
        })
    }
}

/// The address of the client, when the server tells it.
pub(crate) fn peer(parts: &Parts) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(addr)| addr.ip().to_canonical())
}

/// A part of the path.
pub(crate) struct PathArg<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathArg<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        let bad = |e: axum::extract::rejection::PathRejection| ApiError::BadRequest {
            message: e.body_text(),
        };
        path.map(|Path(value)| Self(value)).map_err(bad)
    }
}

/// No query beside `consistency`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

/// Refuses a page that is larger than a list gives, or empty.
pub(crate) fn check_limit(limit: Option<u32>, max: u32) -> Result<(), ApiError> {
    if limit.is_none_or(|n| (1..=max).contains(&n)) {
        return Ok(());
    }
    Err(ApiError::BadRequest { message: format!("limit must be 1 to {max}") })
}

/// The query of a read.
pub(crate) struct Read<T> {
    pub(crate) level: ReadLevel,
    pub(crate) query: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Read<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let bad = |message: String| ApiError::BadRequest { message };
        let mut level = None;
        let mut rest = Vec::new();
        for pair in parts.uri.query().unwrap_or_default().split('&') {
            match pair.strip_prefix("consistency=") {
                None => rest.push(pair),
                Some(_) if level.is_some() => {
                    return Err(bad("consistency is given twice".to_owned()));
                }
                Some("local") => level = Some(ReadLevel::Local),
                Some("linearizable") => level = Some(ReadLevel::Linearizable),
                Some(_) => {
                    return Err(bad("consistency must be local or linearizable".to_owned()));
                }
            }
        }
        let uri: Uri = format!("/?{}", rest.join("&"))
            .parse()
            .map_err(|_| bad("the query cannot be read".to_owned()))?;
        let Query(query) = Query::<T>::try_from_uri(&uri).map_err(|e| bad(e.body_text()))?;
        Ok(Self { level: level.unwrap_or_default(), query })
    }
}

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|e| bytes_error(&e))?;
        if json { parse(&bytes).map(Self) } else { Err(ApiError::UnsupportedMediaType) }
    }
}

/// A JSON body that may be left off, or `null`.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(|e| bytes_error(&e))?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => Ok(Self(parse::<Option<T>>(&bytes)?.unwrap_or_default())),
            (false, false) => Err(ApiError::UnsupportedMediaType),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = value.and_then(|v| v.split(';').next()).unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn bytes_error(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::TooLarge
    } else {
        ApiError::BadRequest { message: rejection.body_text() }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let inner = e.into_inner();
        match inner.classify() {
            Category::Data => {
                ApiError::Invalid { errors: vec![FieldError::new(path, inner.to_string())] }
            }
            Category::Syntax | Category::Eof | Category::Io => not_json(&inner),
        }
    })?;
    json.end().map_err(|e| not_json(&e))?;
    Ok(value)
}

fn not_json(e: &serde_json::Error) -> ApiError {
    ApiError::BadRequest { message: format!("The body is not JSON: {e}") }
}

/// A successful answer in its envelope, with its revision in the header.
pub(crate) struct Enveloped<T>(pub(crate) T, pub(crate) service::Meta);

impl<T: Serialize> IntoResponse for Enveloped<T> {
    fn into_response(self) -> Response {
        with_revision(Json(crate::types::Envelope::new(self.0)).into_response(), self.1)
    }
}

/// An enveloped answer about one thing, whose version goes into `ETag` (RFC 9110 §8.8.3).
pub(crate) struct Tagged<T>(pub(crate) T, pub(crate) service::Meta, pub(crate) Revision);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Enveloped(self.0, self.1).into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.2)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// An answer outside an envelope.
pub(crate) struct Flat<T>(pub(crate) T, pub(crate) service::Meta);

impl<T: Serialize> IntoResponse for Flat<T> {
    fn into_response(self) -> Response {
        with_revision(Json(self.0).into_response(), self.1)
    }
}

/// The answer to an action that has nothing to show.
pub(crate) struct Message(pub(crate) &'static str, pub(crate) service::Meta);

impl IntoResponse for Message {
    fn into_response(self) -> Response {
        let body = MessageAnswer {
            status: OkStatus::Ok,
            data: serde_json::Map::new(),
            message: self.0.to_owned(),
        };
        with_revision(Json(body).into_response(), self.1)
    }
}

fn with_revision(mut response: Response, meta: service::Meta) -> Response {
    if let Some(revision) = meta.revision {
        response.headers_mut().insert(REVISION_HEADER, HeaderValue::from(revision.0));
    }
    response
}
