//! Access to the management plane, on the replicated state.

mod account;
mod keys;
mod login;
mod password;
mod records;
mod roles;
#[cfg(test)]
mod tests;
mod totp;
mod users;

pub(crate) use password::Hasher;
pub use password::hash_user;

use crate::management::audit::{self, WriteError};
use crate::service::{Answer, Api};
use api::types::{
    ApiKeyCreated, ApiKeyInfo, ApiKeyRequest, AuditEntry, AuditQuery, AuthSettings,
    AuthSettingsUpdate, LoginRequest, Me, RoleCreate, RoleInfo, RoleUpdate, StreamTicket,
    TotpSetup, UserCreate, UserInfo, UserUpdate,
};
use api::{
    ApiError, Auth, Caller, Claims, FirstStep, Identity, IfMatch, LoginOutcome, Meta, Origin,
    PermissionSet, Presented, ReadLevel, Service, Session,
};
use model::{Secret, UnixMs};
use raft_store::{Expect, Refusal};

/// The condition of a removal.
fn expect(if_match: IfMatch) -> Expect {
    match if_match {
        IfMatch::Any => Expect::Present,
        IfMatch::Revision(revision) => Expect::Revision(revision),
    }
}

/// What a write that came too late is answered with: 412 when the caller named a version
/// (RFC 9110 §15.5.13), else 409.
fn conflict(error: WriteError, if_match: IfMatch, what: &str) -> ApiError {
    let present = match &error {
        WriteError::Refused(
            Refusal::DocumentConflict { revision, .. } | Refusal::ApiUserConflict { revision },
        ) => *revision,
        WriteError::Refused(_) | WriteError::Failed(_) => return error.into(),
    };
    let message = match present {
        Some(revision) => format!("the {what} is at revision {revision}"),
        None => format!("the {what} is not there"),
    };
    match if_match {
        IfMatch::Revision(_) => ApiError::PreconditionFailed { message },
        IfMatch::Any => ApiError::conflict(message),
    }
}

impl Api {
    /// The replicated time, by which all nodes judge what expires.
    fn wall(&self) -> UnixMs {
        Service::now(self)
    }
}

impl Auth for Api {
    fn auth_settings(&self) -> AuthSettings {
        self.member().map_or_else(
            |_| AuthSettings::default(),
            |member| records::settings(&member.local.store.state()).0,
        )
    }

    fn identify(&self, presented: Presented<'_>) -> Result<Identity, ApiError> {
        self.do_identify(presented)
    }

    async fn spend_ticket(&self, ticket: &str) -> Result<Identity, ApiError> {
        self.do_spend_ticket(ticket).await
    }

    async fn login(&self, request: LoginRequest, origin: Origin) -> Result<LoginOutcome, ApiError> {
        self.do_login(request, origin).await
    }

    async fn totp_login(
        &self,
        first: FirstStep,
        code: Secret,
        origin: Origin,
    ) -> Result<Session, ApiError> {
        self.do_totp_login(first, &code, &origin).await
    }

    async fn refresh(&self, token: Secret, origin: Origin) -> Result<Session, ApiError> {
        self.do_refresh(&token, &origin).await
    }

    async fn logout(
        &self,
        token: Option<Claims>,
        refresh: Option<Secret>,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        self.do_logout(token, refresh, &caller).await
    }

    async fn register(&self, request: LoginRequest, origin: Origin) -> Answer<UserInfo> {
        self.do_register(request, &origin).await
    }

    async fn me(&self, caller: Caller) -> Result<Me, ApiError> {
        self.do_me(caller)
    }

    async fn stream_ticket(&self, caller: Caller) -> Answer<StreamTicket> {
        self.do_stream_ticket(&caller).await
    }

    async fn totp_setup(&self, caller: Caller) -> Answer<TotpSetup> {
        self.do_totp_setup(&caller).await
    }

    async fn totp_verify(&self, code: Secret, caller: Caller) -> Result<Meta, ApiError> {
        self.do_totp_verify(&code, &caller).await
    }

    async fn totp_disable(&self, code: Secret, caller: Caller) -> Result<Meta, ApiError> {
        self.do_totp_disable(&code, &caller).await
    }

    async fn users(&self, level: ReadLevel) -> Answer<Vec<UserInfo>> {
        let state = self.read(level).await?;
        Ok((state.api_users().map(users::info).collect(), Meta::at(state.applied())))
    }

    async fn user(&self, id: &str, level: ReadLevel) -> Answer<UserInfo> {
        let state = self.read(level).await?;
        let user = state.api_user(id).ok_or_else(|| ApiError::not_found(format!("user {id}")))?;
        Ok((users::info(user), Meta::at(state.applied())))
    }

    async fn create_user(&self, request: UserCreate, caller: Caller) -> Answer<UserInfo> {
        self.do_create_user(request, &caller).await
    }

    async fn update_user(
        &self,
        id: &str,
        request: UserUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> Answer<UserInfo> {
        self.do_update_user(id, request, if_match, &caller).await
    }

    async fn delete_user(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        self.do_delete_user(id, if_match, &caller).await
    }

    async fn roles(&self, level: ReadLevel) -> Answer<Vec<RoleInfo>> {
        let state = self.read(level).await?;
        Ok((Self::role_list(&state), Meta::at(state.applied())))
    }

    async fn create_role(
        &self,
        request: RoleCreate,
        permissions: PermissionSet,
        caller: Caller,
    ) -> Answer<RoleInfo> {
        self.do_create_role(request, permissions, &caller).await
    }

    async fn update_role(
        &self,
        id: &str,
        request: RoleUpdate,
        permissions: Option<PermissionSet>,
        if_match: IfMatch,
        caller: Caller,
    ) -> Answer<RoleInfo> {
        self.do_update_role(id, request, permissions, if_match, &caller).await
    }

    async fn delete_role(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        self.do_delete_role(id, if_match, &caller).await
    }

    async fn api_keys(&self, level: ReadLevel) -> Answer<Vec<ApiKeyInfo>> {
        let state = self.read(level).await?;
        Ok((self.key_list(&state), Meta::at(state.applied())))
    }

    async fn create_api_key(
        &self,
        request: ApiKeyRequest,
        permissions: Option<PermissionSet>,
        caller: Caller,
    ) -> Answer<ApiKeyCreated> {
        self.do_create_api_key(request, permissions, &caller).await
    }

    async fn delete_api_key(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        self.do_delete_api_key(id, if_match, &caller).await
    }

    async fn read_auth_settings(&self, level: ReadLevel) -> Answer<AuthSettings> {
        let state = self.read(level).await?;
        let (settings, revision) = records::settings(&state);
        Ok((settings, Meta::at(revision)))
    }

    async fn update_auth_settings(
        &self,
        request: AuthSettingsUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> Answer<AuthSettings> {
        self.do_update_settings(request, if_match, &caller).await
    }

    async fn audit(&self, query: AuditQuery, level: ReadLevel) -> Answer<Vec<AuditEntry>> {
        let state = self.read(level).await?;
        Ok((audit::page(&state, &query), Meta::at(state.applied())))
    }
}
