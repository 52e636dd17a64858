mod admin;
mod audit;
mod settings;

pub use admin::{
    ApiKeyCreated, ApiKeyInfo, ApiKeyList, ApiKeyRequest, Deleted, PermissionInfo, PermissionList,
    RoleCreate, RoleInfo, RoleList, RoleUpdate, UserCreate, UserInfo, UserList, UserUpdate,
};
pub use audit::{AuditEntry, AuditList, AuditQuery};
pub use settings::{AuthSettings, AuthSettingsUpdate};

use crate::permission::PermissionSet;
use crate::types::OkStatus;
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

/// The second step of a login with a second factor: the challenge and the code, or everything
/// again with the code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TotpLoginRequest {
    /// From the answer to the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub challenge: Option<Secret>,
    /// The code, or a recovery code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "123456")]
    pub code: Option<Secret>,
    /// Login name, when there is no challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password, when there is no challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<Secret>,
    /// Another name for `code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub totp_code: Option<Secret>,
}

/// A refresh token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefreshRequest {
    /// From a login or the last refresh; good once.
    #[schema(value_type = String)]
    pub refresh_token: Secret,
}

/// What else to end besides the access token that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogoutRequest {
    /// Its family ends too. The family of the access token ends in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<Secret>,
}

/// A code of the second factor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// Six digits; for switching off also a recovery code.
    #[schema(value_type = String, example = "123456")]
    pub code: Secret,
}

/// A user that registers itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// Login name.
    pub username: String,
    /// Password; only its hash is stored.
    #[schema(value_type = String, format = Password)]
    pub password: Secret,
}

/// The tokens of a login once more, for clients that look for them here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenPair {
    /// As above.
    #[schema(value_type = String)]
    pub access_token: Secret,
    /// As above.
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<Secret>,
    /// As above.
    pub access_expires_at: u64,
    /// As above.
    pub refresh_expires_at: Option<u64>,
    /// Always `bearer`.
    pub token_type: String,
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
    /// For `POST /api/v1/auth/refresh`, once. Absent while the cluster has no quorum to keep it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub refresh_token: Option<Secret>,
    /// When the refresh token expires, in seconds since 1970.
    #[serde(default)]
    pub refresh_expires_at: Option<u64>,
    /// The role that the token carries.
    #[schema(value_type = String, example = "admin")]
    pub role: ApiRole,
    /// No second factor is asked for.
    #[serde(default)]
    pub totp_required: bool,
    /// The settings ask for a second factor that this user does not have: until it is set up, the
    /// token is good for nothing else.
    #[serde(default)]
    pub totp_setup_required: bool,
    /// The same tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenPair>,
}

/// The answer of a login whose code is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChallengeAnswer {
    /// Always true.
    pub totp_required: bool,
    /// Always null.
    pub tokens: Option<TokenPair>,
    /// For `POST /api/v1/auth/totp/login`, within five minutes.
    #[schema(value_type = String)]
    pub challenge: Secret,
}

/// The answer of a login: tokens, or the wish for a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LoginAnswer {
    /// Logged in.
    Tokens(Box<TokenAnswer>),
    /// The password was right.
    Challenge(ChallengeAnswer),
}

/// A new second factor. It is asked for once a first code was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TotpSetup {
    /// The key in base32, to be typed in.
    #[schema(value_type = String)]
    pub secret: Secret,
    /// The same as a URI, to be shown as a QR code.
    #[schema(value_type = String)]
    pub provisioning_uri: Secret,
    /// Each stands for a code once. Not shown again.
    #[schema(value_type = Vec<String>)]
    pub recovery_codes: Vec<Secret>,
}

/// A ticket for one stream; not enveloped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamTicket {
    /// 64 hexadecimal digits for `?ticket=`, once, on any node.
    #[schema(value_type = String)]
    pub ticket: Secret,
    /// Seconds until it expires.
    #[schema(example = 30)]
    pub expires_in_seconds: u64,
}

/// With what a caller has proven who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// An access token.
    Token,
    /// An API key.
    ApiKey,
    /// A ticket for one stream.
    Ticket,
    /// The key of a dialect that knows no users.
    DialectKey,
}

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// Id of the user: its login name.
    pub id: String,
    /// Login name.
    pub username: String,
    /// Role.
    #[schema(value_type = String)]
    pub role: ApiRole,
    /// Id of the role: its name.
    pub role_id: String,
    /// What this credential may do.
    #[schema(value_type = Vec<String>)]
    pub permissions: PermissionSet,
    /// Whether a login asks for a code.
    pub totp_enabled: bool,
    /// Always `local`.
    pub auth_provider: String,
    /// What this request was made with.
    pub credential: CredentialKind,
}

/// The answer to an action that has nothing to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageAnswer {
    /// Always `ok`.
    pub status: OkStatus,
    /// Always empty.
    #[schema(value_type = Object)]
    pub data: serde_json::Map<String, serde_json::Value>,
    /// What was done.
    pub message: String,
}
