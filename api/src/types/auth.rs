use model::{ApiRole, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Name and password of an API user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Login name.
    #[schema(example = "admin")]
    pub username: String,
    /// Password in clear text: the API speaks TLS only.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
}

/// Who logged in, as the node found by checking the password hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Login name, as stored.
    pub username: String,
    /// What the user may do.
    pub role: ApiRole,
}

/// The answer of a login; not enveloped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenAnswer {
    /// JWT (HS256) for `Authorization: Bearer`; good on every node of the cluster.
    #[schema(value_type = String)]
    pub access_token: Secret,
    /// Always `bearer`.
    #[schema(example = "bearer")]
    pub token_type: String,
    /// Seconds until the token expires.
    #[schema(example = 3600)]
    pub expires_in: u64,
    /// When it expires, in seconds since 1970.
    pub access_expires_at: u64,
    /// The role that the token carries.
    #[schema(value_type = String, example = "admin")]
    pub role: ApiRole,
    /// No second factor is asked for.
    #[serde(default)]
    pub totp_required: bool,
}
