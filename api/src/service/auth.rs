//! Access to the management plane: who may do what.

use crate::error::ApiError;
use crate::jwt::Claims;
use crate::permission::PermissionSet;
use crate::service::{Caller, Meta, ReadLevel, Reply};
use crate::types::{
    ApiKeyCreated, ApiKeyInfo, ApiKeyRequest, AuditEntry, AuditQuery, AuthSettings,
    AuthSettingsUpdate, LoginRequest, Me, RoleCreate, RoleInfo, RoleUpdate, StreamTicket,
    TotpSetup, UserCreate, UserInfo, UserUpdate,
};
use model::{ApiRole, Revision, Secret};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::net::IpAddr;

/// Where a request without a credential comes from, for logs and audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Address of the client.
    pub address: Option<IpAddr>,
    /// Id of the request.
    pub request_id: String,
}

/// A credential whose form was found to be good.
#[derive(Clone, Copy, Debug)]
pub enum Presented<'a> {
    /// An access token of this cluster that has not expired.
    Token(&'a Claims),
    /// The text behind `ApiKey`.
    ApiKey(&'a str),
}

/// Whose credential it is, and what it may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Login name.
    pub username: String,
    /// The user's role.
    pub role: ApiRole,
    /// What this credential may do.
    pub permissions: PermissionSet,
}

/// A refresh token that was handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// Its text.
    pub token: Secret,
    /// The family that it belongs to.
    pub family: String,
    /// In seconds since 1970.
    pub expires_at: u64,
}

/// A login that has begun or goes on: what the access token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Login name.
    pub username: String,
    /// The user's role.
    pub role: ApiRole,
    /// What it may do.
    pub permissions: PermissionSet,
    /// The user's generation.
    pub generation: u64,
    /// Id of the access token.
    pub jti: String,
    /// In seconds since 1970.
    pub access_expires_at: u64,
    /// `None` when there was no quorum to keep it.
    pub refresh: Option<Refresh>,
    /// The user must set up a second factor before anything else.
    pub totp_setup_required: bool,
}

/// What a right password leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Logged in.
    Session(Session),
    /// A code is missing.
    CodeNeeded {
        /// Login name.
        username: String,
        /// The user's generation: a later change of the password voids the challenge.
        generation: u64,
    },
}

/// How a second login step proves that the password was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstStep {
    /// By the password itself.
    Password(LoginRequest),
    /// By a challenge that was verified.
    Challenge {
        /// Login name.
        username: String,
        /// The user's generation at the first step.
        generation: u64,
    },
}

impl FirstStep {
    /// Whose login it is.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Password(request) => &request.username,
            Self::Challenge { username, .. } => username,
        }
    }
}

/// The version that a write expects, from `If-Match` (RFC 9110 §13.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// No such header, or `*`: any version that is there.
    #[default]
    Any,
    /// This version.
    Revision(Revision),
}

/// What a node does for users, roles, keys and the audit trail.
///
/// The router has checked that the caller has the permission that the document of the operation
/// names. Who may hand out which permission needs the replicated state and is checked here: nobody
/// gives what it does not have, and nobody changes a user that may do more than itself.
pub trait Auth: Send + Sync + 'static {
    // Called for every request; must not wait.

    /// The settings of logins, as this node knows them.
    fn auth_settings(&self) -> AuthSettings;
    /// Whose credential it is and what it may do now, as this node knows it.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] when the token was revoked, the key does not exist or has
    /// expired, or the user is gone, disabled or of another generation.
    fn identify(&self, presented: Presented<'_>) -> Result<Identity, ApiError>;

    /// Takes a ticket, which is then spent on all nodes.
    fn spend_ticket(&self, ticket: &str)
    -> impl Future<Output = Result<Identity, ApiError>> + Send;

    // Logins. `BadCredentials` and `BadCode` count towards the lockout.

    /// Checks name and password; takes the same time for an unknown name.
    fn login(
        &self,
        request: LoginRequest,
        origin: Origin,
    ) -> impl Future<Output = Result<LoginOutcome, ApiError>> + Send;
    /// Checks the code as well. Each code is good once.
    fn totp_login(
        &self,
        first: FirstStep,
        code: Secret,
        origin: Origin,
    ) -> impl Future<Output = Result<Session, ApiError>> + Send;
    /// Exchanges a refresh token. One that was spent before ends its family.
    fn refresh(
        &self,
        token: Secret,
        origin: Origin,
    ) -> impl Future<Output = Result<Session, ApiError>> + Send;
    /// Ends an access token with its family, and the family of `refresh`.
    fn logout(
        &self,
        token: Option<Claims>,
        refresh: Option<Secret>,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;
    /// Adds a user that comes by itself.
    fn register(
        &self,
        request: LoginRequest,
        origin: Origin,
    ) -> impl Future<Output = Reply<UserInfo>> + Send;

    // The caller's own account.

    /// The caller.
    fn me(&self, caller: Caller) -> impl Future<Output = Result<Me, ApiError>> + Send;
    /// Makes a ticket for one stream.
    fn stream_ticket(&self, caller: Caller) -> impl Future<Output = Reply<StreamTicket>> + Send;
    /// Makes a second factor that is not asked for yet.
    fn totp_setup(&self, caller: Caller) -> impl Future<Output = Reply<TotpSetup>> + Send;
    /// Switches the second factor on.
    fn totp_verify(
        &self,
        code: Secret,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;
    /// Switches the second factor off.
    fn totp_disable(
        &self,
        code: Secret,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;

    // Users.

    /// All users, by name.
    fn users(&self, level: ReadLevel) -> impl Future<Output = Reply<Vec<UserInfo>>> + Send;
    /// One user.
    fn user(&self, id: &str, level: ReadLevel) -> impl Future<Output = Reply<UserInfo>> + Send;
    /// Adds a user.
    fn create_user(
        &self,
        request: UserCreate,
        caller: Caller,
    ) -> impl Future<Output = Reply<UserInfo>> + Send;
    /// Changes a user.
    fn update_user(
        &self,
        id: &str,
        request: UserUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Reply<UserInfo>> + Send;
    /// Removes a user with its keys and tokens.
    fn delete_user(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;

    // Roles.

    /// All roles.
    fn roles(&self, level: ReadLevel) -> impl Future<Output = Reply<Vec<RoleInfo>>> + Send;
    /// Adds a role.
    fn create_role(
        &self,
        request: RoleCreate,
        permissions: PermissionSet,
        caller: Caller,
    ) -> impl Future<Output = Reply<RoleInfo>> + Send;
    /// Changes a role, for its users at once. `permissions` is what the request names.
    fn update_role(
        &self,
        id: &str,
        request: RoleUpdate,
        permissions: Option<PermissionSet>,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Reply<RoleInfo>> + Send;
    /// Removes a role that nobody has.
    fn delete_role(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;

    // Keys, settings, audit.

    /// All keys, by id.
    fn api_keys(&self, level: ReadLevel) -> impl Future<Output = Reply<Vec<ApiKeyInfo>>> + Send;
    /// Makes a key of the caller. `permissions` is what the request names.
    fn create_api_key(
        &self,
        request: ApiKeyRequest,
        permissions: Option<PermissionSet>,
        caller: Caller,
    ) -> impl Future<Output = Reply<ApiKeyCreated>> + Send;
    /// Removes a key.
    fn delete_api_key(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Result<Meta, ApiError>> + Send;
    /// The settings of logins; the revision is their version.
    fn read_auth_settings(
        &self,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<AuthSettings>> + Send;
    /// Changes the settings of logins.
    fn update_auth_settings(
        &self,
        request: AuthSettingsUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> impl Future<Output = Reply<AuthSettings>> + Send;
    /// At most [`AuditQuery::limit`] records, the newest first.
    fn audit(
        &self,
        query: AuditQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<Vec<AuditEntry>>> + Send;
}
