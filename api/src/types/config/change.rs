//! Requests and answers about the configuration.

use model::{Revision, UnixMs};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Sets one value of the candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRequest {
    /// Keys from the root, separated by dots, slashes or spaces; a key that holds one of these is
    /// put in double quotes.
    #[schema(example = "pppoe.lcp_echo_interval")]
    pub path: String,
    /// The new value, any JSON.
    pub value: Value,
}

/// Removes one key of the candidate with all below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// As in a set.
    #[schema(example = "pools.home")]
    pub path: String,
}

/// Makes the candidate the running configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommitRequest {
    /// Kept with the archived version.
    #[schema(max_length = 255)]
    pub comment: String,
    /// Go back after this many seconds unless a second commit confirms it.
    #[schema(minimum = 10, maximum = 86_400)]
    pub confirm_s: Option<u32>,
}

/// Loads an archived configuration as the candidate; nothing is applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RollbackRequest {
    /// Its version, as the history lists it.
    pub version: Option<u64>,
    /// Counted back from the newest, which is 0. Without both, 1: the one before the last commit.
    pub back: Option<u32>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChange {
    /// Keys from the root, separated by dots.
    pub path: String,
    /// The value before; absent when the key is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The value after; absent when the key is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// A configuration with its version. Secrets are replaced by `********`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// The tree.
    pub config: Value,
    /// Revision of the commit that made it; 0 before the first.
    pub version: u64,
    /// Whether there is a candidate that differs.
    pub pending: bool,
    /// A commit that waits for its confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<ConfirmPending>,
}

/// A commit that is taken back at its deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfirmPending {
    /// The deadline in replicated time, in seconds since 1970.
    pub deadline: u64,
    /// The version that comes back.
    pub previous_version: u64,
    /// Who committed.
    pub author: String,
}

/// What an edit of the candidate came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EditResponse {
    /// The differences between running and candidate.
    pub changes: Vec<ConfigChange>,
    /// How many.
    pub count: usize,
    /// What a commit would refuse now, all of it.
    pub errors: Vec<crate::types::FieldError>,
}

/// The differences between running and candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompareResponse {
    /// Each difference.
    pub changes: Vec<ConfigChange>,
    /// How many.
    pub count: usize,
    /// The same as lines for people, `-` before and `+` after.
    pub text: String,
    /// What a commit would refuse, all of it.
    pub errors: Vec<crate::types::FieldError>,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommitResponse {
    /// The version that runs now.
    pub version: u64,
    /// What changed.
    pub changes: Vec<ConfigChange>,
    /// How many.
    pub count: usize,
    /// Set when the commit goes back by itself: the deadline in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_deadline: Option<u64>,
    /// Whether this confirmed an earlier commit.
    pub confirmed: bool,
    /// Data nodes that did not answer the dry run, by name; they apply it when they are back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

/// What a discard dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiscardResponse {
    /// How many differences were dropped.
    pub count: usize,
}

/// Which archived versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// At most so many, newest first; 50 are kept.
    #[param(minimum = 1, maximum = 50)]
    pub limit: Option<u32>,
}

/// An archived version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveEntry {
    /// Its version.
    pub version: u64,
    /// When it was committed, in seconds since 1970.
    pub at: u64,
    /// Who committed it.
    pub author: String,
    /// What they said.
    pub comment: String,
    /// How many values it changed.
    pub changed: usize,
}

/// Archived versions, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveList {
    /// The versions.
    pub versions: Vec<ArchiveEntry>,
    /// How many.
    pub count: usize,
}

impl ArchiveEntry {
    /// An entry for a commit.
    #[must_use]
    pub fn new(version: Revision, at: UnixMs, author: &str, comment: &str, changed: usize) -> Self {
        Self {
            version: version.0,
            at: at.as_secs(),
            author: author.to_owned(),
            comment: comment.to_owned(),
            changed,
        }
    }
}
