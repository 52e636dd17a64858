//! Users, roles, keys: what administrators see and change.

use crate::permission::PermissionSet;
use model::{ApiRole, Revision, Secret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A user of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserInfo {
    /// Its id: the login name.
    pub id: String,
    /// Login name.
    pub username: String,
    /// Role.
    #[schema(value_type = String)]
    pub role: ApiRole,
    /// Id of the role: its name.
    pub role_id: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// Whether a login asks for a code.
    pub totp_enabled: bool,
    /// Always `local`.
    pub auth_provider: String,
    /// When it was added, in seconds since 1970; null when that is not known.
    pub created_at: Option<u64>,
    /// Its version, for `If-Match`.
    #[schema(value_type = u64)]
    pub revision: Revision,
}

/// Users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// All users, by name.
    pub users: Vec<UserInfo>,
    /// How many.
    pub count: usize,
}

/// A new user. One of `password` and `password_hash` is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// Login name.
    pub username: String,
    /// Only its argon2id hash is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<Secret>,
    /// A bcrypt (`$2b$`) or argon2id hash brought along from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password_hash: Option<Secret>,
    /// `viewer` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A change of a user; what is absent stays. A new password ends all tokens of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserUpdate {
    /// Must be the present name: a user keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// A new password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<Secret>,
    /// Its hash instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password_hash: Option<Secret>,
    /// Another role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Whether it may log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// `false` takes the second factor away, when the user has lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totp_enabled: Option<bool>,
}

/// Something is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// What it was.
    pub id: String,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleInfo {
    /// Its id: the name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What its users may do.
    #[schema(value_type = Vec<String>)]
    pub permissions: PermissionSet,
    /// Built in: it cannot be changed.
    pub builtin: bool,
    /// Its version, for `If-Match`; 0 for a built-in one.
    #[schema(value_type = u64)]
    pub revision: Revision,
}

/// Roles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleList {
    /// The built-in ones first.
    pub roles: Vec<RoleInfo>,
    /// How many.
    pub count: usize,
}

/// A new role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleCreate {
    /// Its name.
    #[schema(example = "noc")]
    pub name: String,
    /// What its users may do; at most what the caller may do.
    #[schema(example = json!(["subscribers:read", "subscribers:write"]))]
    pub permissions: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub description: String,
}

/// A change of a role; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleUpdate {
    /// Must be the present name: a role keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its users may do from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PermissionInfo {
    /// Its name.
    #[schema(example = "subscribers:read")]
    pub key: String,
    /// What it is about.
    #[schema(example = "subscribers")]
    pub category: String,
    /// What it allows there.
    #[schema(example = "read")]
    pub action: String,
}

/// Permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PermissionList {
    /// All there are.
    pub permissions: Vec<PermissionInfo>,
    /// How many.
    pub count: usize,
}

/// A new API key of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRequest {
    /// What it is for.
    #[schema(example = "prom-scraper")]
    pub name: String,
    /// What it may do, as far as its owner may at that time; everything of its owner when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// When it expires, in seconds since 1970; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// A new API key with its text, which is not shown again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyCreated {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// For `Authorization: ApiKey`.
    #[schema(value_type = String)]
    pub key: Secret,
    /// The beginning of the text, by which people tell keys apart.
    pub prefix: String,
    /// What it may do; null for everything of its owner.
    #[schema(value_type = Option<Vec<String>>)]
    pub permissions: Option<PermissionSet>,
    /// When it expires, in seconds since 1970.
    pub expires_at: Option<u64>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyInfo {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// The beginning of the text.
    pub prefix: String,
    /// The user that made it, and whose permissions bound it.
    pub owner: String,
    /// What it may do; null for everything of its owner.
    #[schema(value_type = Option<Vec<String>>)]
    pub permissions: Option<PermissionSet>,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// When it expires, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// When the answering node last saw it, in seconds since 1970; nodes do not tell each other.
    pub last_used_at: Option<u64>,
    /// Its version, for `If-Match`.
    #[schema(value_type = u64)]
    pub revision: Revision,
}

/// API keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyList {
    /// All keys, by id.
    pub api_keys: Vec<ApiKeyInfo>,
    /// How many.
    pub count: usize,
}
