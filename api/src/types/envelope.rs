use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The word `ok`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OkStatus {
    /// The request was done.
    #[default]
    Ok,
}

/// The word `error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStatus {
    /// The request was refused or failed.
    #[default]
    Error,
}

/// Every successful answer but the login: `{"status":"ok","data":{...}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Envelope<T> {
    /// Always `ok`.
    pub status: OkStatus,
    /// The answer itself; always an object, lists stand under a named key beside their count.
    pub data: T,
}

impl<T> Envelope<T> {
    /// Wraps an answer.
    pub fn new(data: T) -> Self {
        Self { status: OkStatus::Ok, data }
    }
}

/// One thing wrong with a request body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Where, such as `pools[0].gateway`.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    /// Names a place and what is wrong there.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Every failed answer. One text under three names, because the clients of three dialects look
/// for it under `message`, `error` and `detail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Always `error`.
    pub status: ErrorStatus,
    /// What went wrong, for people.
    pub message: String,
    /// The same text.
    pub error: String,
    /// The same text.
    pub detail: String,
    /// What went wrong, for programs; never renamed.
    #[schema(example = "not_found")]
    pub code: String,
    /// Everything wrong with the body, when its content was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}
