use model::Revision;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// Which audit records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Most records, 1 to 1000; 100 when absent.
    pub limit: Option<u32>,
    /// Only records before this id: `next` of the page before.
    pub before: Option<String>,
}

impl AuditQuery {
    /// Most records of one answer.
    pub const LIMIT_MAX: u32 = 1000;
    const LIMIT_DEFAULT: u32 = 100;

    /// The limit that holds.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.unwrap_or(Self::LIMIT_DEFAULT)
    }
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Sorts as the records were written.
    pub id: String,
    /// Revision of the record: for what the log does at once, that of the change itself.
    #[schema(value_type = u64)]
    pub revision: Revision,
    /// When, in seconds since 1970.
    pub created_at: u64,
    /// The user who did it.
    pub actor_id: String,
    /// The same.
    pub user_id: String,
    /// Its role at that time.
    pub role: String,
    /// `token`, `api_key` or `password`.
    pub credential: String,
    /// Such as `user.update`.
    pub action: String,
    /// Such as `user/ann`.
    pub object: String,
    /// `done`, `refused: ...`, or `requested` when the node stopped before it knew.
    pub outcome: String,
    /// All of it in one line, for people.
    pub details: String,
    /// What was there, without secrets; null for something new.
    #[schema(value_type = Object)]
    pub before: Value,
    /// What is there now, without secrets; null for something removed.
    #[schema(value_type = Object)]
    pub after: Value,
    /// Address of the client.
    pub ip_addr: Option<String>,
    /// Id of the request.
    pub request_id: String,
    /// The node that was asked.
    pub node: String,
}

/// Audit records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditList {
    /// The newest first.
    pub audit: Vec<AuditEntry>,
    /// How many.
    pub count: usize,
    /// `before` of the next page; null on the last one.
    pub next: Option<String>,
}
