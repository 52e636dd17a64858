use api::ClientError;
use std::path::PathBuf;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The API client's reason; `json` is whether the caller wants the body on its output.
    #[error("{source}{}", hint(source))]
    Client { source: Box<ClientError>, json: bool },
    #[error("{path}: {cause}", path = path.display())]
    File { path: PathBuf, cause: String },
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotFound(String),
    /// The wish was accepted but has not come true in time.
    #[error("{0}")]
    NotYet(String),
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// The reader of our output went away.
    #[error("output closed")]
    OutputClosed,
}

impl From<ClientError> for CliError {
    fn from(e: ClientError) -> Self {
        Self::Client { source: Box::new(e), json: false }
    }
}

impl From<std::io::Error> for CliError {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Output(e)
        }
    }
}

/// What to do about it, where that is not obvious.
fn hint(e: &ClientError) -> &'static str {
    match e.code() {
        Some("unauthorized") => "\nhint: log in with `bngctl login`, or pass --token",
        Some("not_initialised") => {
            "\nhint: run `bngctl cluster init` or `bngctl cluster join` on that node"
        }
        _ => "",
    }
}

/// Documented in the long help of `bngctl`; scripts rely on these.
mod code {
    pub(super) const FAILURE: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    pub(super) const UNAVAILABLE: u8 = 3;
    pub(super) const UNAUTHORISED: u8 = 4;
    pub(super) const NOT_FOUND: u8 = 5;
    pub(super) const REFUSED: u8 = 6;
    pub(super) const UNKNOWN_OUTCOME: u8 = 7;
}

impl CliError {
    pub(crate) fn file(path: impl Into<PathBuf>, cause: impl std::fmt::Display) -> Self {
        let cause = format!("{cause}");
        Self::File { path: path.into(), cause }
    }

    pub(crate) fn in_json(self, json: bool) -> Self {
        match self {
            Self::Client { source, .. } => Self::Client { source, json },
            other @ (Self::File { .. }
            | Self::Usage(_)
            | Self::NotFound(_)
            | Self::NotYet(_)
            | Self::Output(_)
            | Self::OutputClosed) => other,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        matches!(self, Self::Client { json: true, .. })
    }

    /// The body of a refusal, as the node sent it.
    pub(crate) fn body(&self) -> Option<&str> {
        if let Self::Client { source, .. } = self
            && let ClientError::Api { raw, .. } = source.as_ref()
        {
            return Some(raw);
        }
        None
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Client { source, .. } => client_code(source),
            Self::Usage(_) => code::USAGE,
            Self::NotFound(_) => code::NOT_FOUND,
            Self::NotYet(_) => code::UNKNOWN_OUTCOME,
            Self::File { .. } | Self::Output(_) | Self::OutputClosed => code::FAILURE,
        }
    }
}

fn client_code(e: &ClientError) -> u8 {
    match e {
        ClientError::NoUrl | ClientError::Url { .. } => code::USAGE,
        ClientError::Unreachable { .. } => code::UNAVAILABLE,
        ClientError::Timeout { .. } | ClientError::Broken { .. } => code::UNKNOWN_OUTCOME,
        ClientError::CodeNeeded { .. } => code::UNAUTHORISED,
        ClientError::Tls(_) | ClientError::Foreign { .. } => code::FAILURE,
        ClientError::Api { status, .. } => match status {
            401 | 403 | 429 => code::UNAUTHORISED,
            404 => code::NOT_FOUND,
            400 | 409 | 412 | 413 | 415 | 422 => code::REFUSED,
            503 => code::UNAVAILABLE,
            504 => code::UNKNOWN_OUTCOME,
            _ => code::FAILURE,
        },
    }
}
