use crate::types::{ErrorBody, ErrorStatus, FieldError};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Why a request was not done.
///
/// It can be serialised, so that a node which forwards a write to the leader can hand the
/// leader's refusal to its own caller unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ApiError {
    /// No credential, or one that is malformed, expired or signed by somebody else.
    #[error("Could not validate credentials")]
    Unauthorized,
    /// Login with a wrong name or password; deliberately silent about which.
    #[error("Incorrect username or password")]
    BadCredentials,
    /// Second login step with a wrong or used code.
    #[error("Incorrect code")]
    BadCode,
    /// The caller lacks the permission of the operation.
    #[error("Admin role required")]
    Forbidden,
    /// The caller may use the operation, but not for this.
    #[error("{message}")]
    Denied {
        /// Why not.
        message: String,
    },
    /// Too many failed logins.
    #[error("Too many failed logins, try again in {retry_after_s} s")]
    LockedOut {
        /// When the next attempt is looked at.
        retry_after_s: u64,
    },
    /// What the path or body names does not exist.
    #[error("{what} not found")]
    NotFound {
        /// Such as `subscriber 42`.
        what: String,
    },
    /// No such path in this API.
    #[error("No such path")]
    NoSuchPath,
    /// The path exists, with other methods.
    #[error("Method not allowed")]
    MethodNotAllowed,
    /// The path, query or JSON cannot be read at all.
    #[error("{message}")]
    BadRequest {
        /// What could not be read.
        message: String,
    },
    /// The body is not declared as JSON.
    #[error("The body must be application/json")]
    UnsupportedMediaType,
    /// The body is longer than the endpoint accepts.
    #[error("The body is too large")]
    TooLarge,
    /// The body can be read, but what it says is wrong.
    #[error("{}", invalid_text(.errors))]
    Invalid {
        /// Everything that is wrong.
        errors: Vec<FieldError>,
    },
    /// The present state does not allow it.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        message: String,
    },
    /// What `If-Match` names is not the present version (RFC 9110 §13.1.1).
    #[error("{message}")]
    PreconditionFailed {
        /// What is there instead.
        message: String,
    },
    /// A part of a dialect that this product declines.
    #[error("{what} is not provided")]
    NotProvided {
        /// Such as `OAuth`.
        what: String,
    },
    /// This node already belongs to a cluster.
    #[error("This node already belongs to a cluster")]
    AlreadyInitialised,
    /// The node that should take over is not ready to.
    #[error("{message}")]
    NotEligible {
        /// Which node, and what it lacks.
        message: String,
    },
    /// This node belongs to no cluster yet.
    #[error("This node belongs to no cluster yet")]
    NotInitialised,
    /// There is no leader or no quorum. Nothing was proposed: another try, also on another node,
    /// is safe.
    #[error("No leader, try again in {retry_after_s} s")]
    NoLeader {
        /// When a leader may have been elected.
        retry_after_s: u64,
    },
    /// A queue is full. Nothing was proposed.
    #[error("Overloaded, try again in {retry_after_s} s")]
    Overloaded {
        /// When to try again.
        retry_after_s: u64,
    },
    /// No answer in time. A write may or may not have been done.
    #[error("No answer in time; the outcome is unknown")]
    Timeout,
    /// A fault of the node. The cause goes to the log only.
    #[error("Internal error")]
    Internal {
        /// For the log.
        cause: String,
    },
}

fn invalid_text(errors: &[FieldError]) -> String {
    match errors {
        [] => "The body was refused".to_owned(),
        [one] if one.path.is_empty() => one.message.clone(),
        [one] => format!("{}: {}", one.path, one.message),
        [first, rest @ ..] => {
            format!("{}: {} (and {} more)", first.path, first.message, rest.len())
        }
    }
}

impl ApiError {
    /// A thing that does not exist.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }

    /// A state that does not allow the request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    /// One thing wrong with the body.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { errors: vec![FieldError::new(path, message)] }
    }

    /// A wish that this caller may not have.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::Denied { message: message.into() }
    }

    /// A fault of the node; `cause` is logged and never told to the caller.
    pub fn internal(cause: impl Into<String>) -> Self {
        Self::Internal { cause: cause.into() }
    }

    /// Status and stable code, in one place.
    #[must_use]
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::BadCredentials => (StatusCode::UNAUTHORIZED, "bad_credentials"),
            Self::BadCode => (StatusCode::UNAUTHORIZED, "bad_code"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::Denied { .. } => (StatusCode::FORBIDDEN, "denied"),
            Self::LockedOut { .. } => (StatusCode::TOO_MANY_REQUESTS, "locked_out"),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Self::NoSuchPath => (StatusCode::NOT_FOUND, "no_such_path"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad_request"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Conflict { .. } => (StatusCode::CONFLICT, "conflict"),
            Self::PreconditionFailed { .. } => {
                (StatusCode::PRECONDITION_FAILED, "precondition_failed")
            }
            Self::NotProvided { .. } => (StatusCode::NOT_IMPLEMENTED, "not_provided"),
            Self::AlreadyInitialised => (StatusCode::CONFLICT, "already_initialised"),
            Self::NotEligible { .. } => (StatusCode::CONFLICT, "not_eligible"),
            Self::NotInitialised => (StatusCode::SERVICE_UNAVAILABLE, "not_initialised"),
            Self::NoLeader { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no_leader"),
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// The stable name of this kind of error: `code` in the body, label of the counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.status_and_code().1
    }

    /// Seconds for the header `Retry-After` (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::LockedOut { retry_after_s }
            | Self::NoLeader { retry_after_s }
            | Self::Overloaded { retry_after_s } => Some(*retry_after_s),
            Self::Unauthorized
            | Self::BadCredentials
            | Self::BadCode
            | Self::Forbidden
            | Self::Denied { .. }
            | Self::PreconditionFailed { .. }
            | Self::NotProvided { .. }
            | Self::NotFound { .. }
            | Self::NoSuchPath
            | Self::MethodNotAllowed
            | Self::BadRequest { .. }
            | Self::UnsupportedMediaType
            | Self::TooLarge
            | Self::Invalid { .. }
            | Self::Conflict { .. }
            | Self::AlreadyInitialised
            | Self::NotEligible { .. }
            | Self::NotInitialised
            | Self::Timeout
            | Self::Internal { .. } => None,
        }
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let text = self.to_string();
        let errors = if let Self::Invalid { errors } = self { errors.clone() } else { vec![] };
        ErrorBody {
            status: ErrorStatus::Error,
            message: text.clone(),
            error: text.clone(),
            detail: text,
            code: self.label().to_owned(),
            errors,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal { cause } = &self {
            tracing::error!(%cause, "request failed");
        }
        let (status, _) = self.status_and_code();
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(s) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §11.6.1: a 401 names the scheme.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
