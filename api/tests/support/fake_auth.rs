//! Users, roles and keys of the fake node: enough to answer, nothing that proves anything.

use super::{Fake, START, State};
use api::types::*;
use api::{
    ApiError, Auth, Caller, Claims, FirstStep, Identity, IfMatch, LoginOutcome, Meta, Origin,
    PermissionSet, Presented, ReadLevel, Refresh, Reply, Session, builtin_role, builtin_roles,
};
use model::{ApiRole, Revision, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const API_KEY: &str = "tdm_0123456789abcdef";
pub(crate) const CODE: &str = "123456";
/// Number of the next access token.
static NEXT_JTI: AtomicU64 = AtomicU64::new(1);

/// What a test sets and looks at.
pub(crate) struct Access {
    /// Role of each user; passwords are in [`password`].
    pub(crate) users: BTreeMap<String, UserInfo>,
    pub(crate) roles: BTreeMap<String, RoleInfo>,
    /// Text and permissions of API keys, all of ann.
    pub(crate) keys: BTreeMap<String, PermissionSet>,
    pub(crate) tickets: BTreeSet<String>,
    pub(crate) revoked: BTreeSet<String>,
    pub(crate) settings: AuthSettings,
}

fn user(name: &str, role: &str) -> UserInfo {
    UserInfo {
        id: name.into(),
        username: name.into(),
        role: ApiRole::new(role),
        role_id: role.into(),
        enabled: true,
        totp_enabled: name == "tom",
        auth_provider: "local".into(),
        created_at: Some(START.as_secs()),
        revision: Revision(7),
    }
}

impl Default for Access {
    fn default() -> Self {
        let users = [("ann", "admin"), ("oli", "operator"), ("tom", "viewer"), ("eng", "engineer")];
        Self {
            users: users.map(|(name, role)| (name.to_owned(), user(name, role))).into(),
            roles: BTreeMap::new(),
            keys: [(API_KEY.to_owned(), PermissionSet::all())].into(),
            tickets: BTreeSet::new(),
            revoked: BTreeSet::new(),
            settings: AuthSettings::default(),
        }
    }
}

fn password(name: &str) -> Option<&'static str> {
    match name {
        "ann" => Some("correct horse"),
        "oli" => Some("battery staple"),
        "tom" | "eng" => Some("pass word"),
        _ => None,
    }
}

impl State {
    fn permissions(&self, role: &str) -> PermissionSet {
        let made = self.access.roles.get(role).map(|r| r.permissions);
        builtin_role(role).map(|r| r.permissions).or(made).unwrap_or_default()
    }

    fn identity(&self, name: &str) -> Result<Identity, ApiError> {
        let user =
            self.access.users.get(name).filter(|u| u.enabled).ok_or(ApiError::Unauthorized)?;
        let permissions = self.permissions(user.role.as_str());
        Ok(Identity { username: user.username.clone(), role: user.role.clone(), permissions })
    }

    fn session(&mut self, name: &str) -> Result<Session, ApiError> {
        let identity = self.identity(name)?;
        let jti = format!("j{}", NEXT_JTI.fetch_add(1, Ordering::Relaxed));
        Ok(Session {
            username: identity.username,
            role: identity.role,
            permissions: identity.permissions,
            generation: 0,
            jti,
            access_expires_at: self.now.as_secs() + 3600,
            refresh: Some(Refresh {
                token: Secret::new(format!("r-{name}")),
                family: format!("f-{name}"),
                expires_at: self.now.as_secs() + 86_400,
            }),
            totp_setup_required: false,
        })
    }

    fn user(&self, id: &str) -> Result<UserInfo, ApiError> {
        let user = self.access.users.get(id).cloned();
        user.ok_or_else(|| ApiError::not_found(format!("user {id}")))
    }
}

fn check(if_match: IfMatch, revision: Revision) -> Result<(), ApiError> {
    match if_match {
        IfMatch::Revision(wanted) if wanted != revision => {
            let message = format!("it is at revision {revision}");
            Err(ApiError::PreconditionFailed { message })
        }
        IfMatch::Revision(_) | IfMatch::Any => Ok(()),
    }
}

impl Fake {
    fn check_password(&self, request: &LoginRequest) -> Result<(), ApiError> {
        if request.username == "broken" {
            return Err(ApiError::internal("the disk is on fire"));
        }
        match password(&request.username) {
            Some(word) if word == request.password.expose() => Ok(()),
            Some(_) | None => Err(ApiError::BadCredentials),
        }
    }

    fn done(&self, what: &str, caller: &Caller) -> Result<Meta, ApiError> {
        self.write(what, caller)
    }
}

impl Auth for Fake {
    fn auth_settings(&self) -> AuthSettings {
        self.state().access.settings.clone()
    }

    fn identify(&self, presented: Presented<'_>) -> Result<Identity, ApiError> {
        let state = self.state();
        match presented {
            Presented::Token(claims) if state.access.revoked.contains(&claims.jti) => {
                Err(ApiError::Unauthorized)
            }
            Presented::Token(claims) => state.identity(&claims.sub),
            Presented::ApiKey(text) => {
                let scope = *state.access.keys.get(text).ok_or(ApiError::Unauthorized)?;
                let owner = state.identity("ann")?;
                let permissions = owner.permissions.intersection(scope);
                Ok(Identity { permissions, ..owner })
            }
        }
    }

    async fn spend_ticket(&self, ticket: &str) -> Result<Identity, ApiError> {
        let mut state = self.state();
        if !state.access.tickets.remove(ticket) {
            return Err(ApiError::Unauthorized);
        }
        state.identity("ann")
    }

    async fn login(&self, request: LoginRequest, _: Origin) -> Result<LoginOutcome, ApiError> {
        self.check_password(&request)?;
        let username = request.username;
        if username == "tom" {
            return Ok(LoginOutcome::CodeNeeded { username, generation: 0 });
        }
        self.state().session(&username).map(LoginOutcome::Session)
    }

    async fn totp_login(
        &self,
        first: FirstStep,
        code: Secret,
        _: Origin,
    ) -> Result<Session, ApiError> {
        if let FirstStep::Password(request) = &first {
            self.check_password(request)?;
        }
        if code.expose() != CODE {
            return Err(ApiError::BadCode);
        }
        self.state().session(first.username())
    }

    async fn refresh(&self, token: Secret, _: Origin) -> Result<Session, ApiError> {
        let name = token.expose().strip_prefix("r-").ok_or(ApiError::Unauthorized)?;
        self.state().session(name)
    }

    async fn logout(
        &self,
        token: Option<Claims>,
        _refresh: Option<Secret>,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        let meta = self.done("logout", &caller)?;
        self.state().access.revoked.extend(token.map(|claims| claims.jti));
        Ok(meta)
    }

    async fn register(&self, request: LoginRequest, _: Origin) -> Reply<UserInfo> {
        if !self.auth_settings().allow_registration {
            return Err(ApiError::denied("Registration is closed"));
        }
        let user = user(&request.username, "viewer");
        self.state().access.users.insert(request.username, user.clone());
        Ok((user, Meta::default()))
    }

    async fn me(&self, caller: Caller) -> Result<Me, ApiError> {
        Ok(Me {
            id: caller.username.clone(),
            totp_enabled: caller.username == "tom",
            username: caller.username,
            role_id: caller.role.to_string(),
            role: caller.role,
            permissions: caller.permissions,
            auth_provider: "local".into(),
            credential: caller.credential,
        })
    }

    async fn stream_ticket(&self, caller: Caller) -> Reply<StreamTicket> {
        let meta = self.done("ticket", &caller)?;
        let ticket = "ab".repeat(32);
        self.state().access.tickets.insert(ticket.clone());
        Ok((StreamTicket { ticket: Secret::new(ticket), expires_in_seconds: 30 }, meta))
    }

    async fn totp_setup(&self, caller: Caller) -> Reply<TotpSetup> {
        let meta = self.done("totp setup", &caller)?;
        let setup = TotpSetup {
            secret: Secret::new("ABCD"),
            provisioning_uri: Secret::new("otpauth://totp/x"),
            recovery_codes: vec![Secret::new("r1")],
        };
        Ok((setup, meta))
    }

    async fn totp_verify(&self, code: Secret, caller: Caller) -> Result<Meta, ApiError> {
        if code.expose() == CODE { self.done("totp on", &caller) } else { Err(ApiError::BadCode) }
    }

    async fn totp_disable(&self, code: Secret, caller: Caller) -> Result<Meta, ApiError> {
        if code.expose() == CODE { self.done("totp off", &caller) } else { Err(ApiError::BadCode) }
    }

    async fn users(&self, level: ReadLevel) -> Reply<Vec<UserInfo>> {
        let meta = self.read("users", level).await?;
        Ok((self.state().access.users.values().cloned().collect(), meta))
    }

    async fn user(&self, id: &str, level: ReadLevel) -> Reply<UserInfo> {
        let meta = self.read("user", level).await?;
        Ok((self.state().user(id)?, meta))
    }

    async fn create_user(&self, request: UserCreate, caller: Caller) -> Reply<UserInfo> {
        if self.state().access.users.contains_key(&request.username) {
            return Err(ApiError::conflict("the name is taken"));
        }
        let role = request.role.unwrap_or_else(|| "viewer".into());
        let meta = self.done(&format!("add user {}", request.username), &caller)?;
        let user = user(&request.username, &role);
        self.state().access.users.insert(request.username, user.clone());
        Ok((user, meta))
    }

    async fn update_user(
        &self,
        id: &str,
        request: UserUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> Reply<UserInfo> {
        let mut user = self.state().user(id)?;
        check(if_match, user.revision)?;
        let meta = self.done(&format!("change user {id}"), &caller)?;
        user.enabled = request.enabled.unwrap_or(user.enabled);
        user.role = request.role.map_or(user.role, ApiRole::new);
        self.state().access.users.insert(id.into(), user.clone());
        Ok((user, meta))
    }

    async fn delete_user(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        check(if_match, self.state().user(id)?.revision)?;
        let meta = self.done(&format!("remove user {id}"), &caller)?;
        self.state().access.users.remove(id);
        Ok(meta)
    }

    async fn roles(&self, level: ReadLevel) -> Reply<Vec<RoleInfo>> {
        let meta = self.read("roles", level).await?;
        let builtin = builtin_roles().into_iter().map(|r| RoleInfo {
            id: r.name.into(),
            name: r.name.into(),
            description: r.description.into(),
            permissions: r.permissions,
            builtin: true,
            revision: Revision(0),
        });
        Ok((builtin.chain(self.state().access.roles.values().cloned()).collect(), meta))
    }

    async fn create_role(
        &self,
        request: RoleCreate,
        permissions: PermissionSet,
        caller: Caller,
    ) -> Reply<RoleInfo> {
        let meta = self.done(&format!("add role {}", request.name), &caller)?;
        let role = RoleInfo {
            id: request.name.clone(),
            name: request.name,
            description: request.description,
            permissions,
            builtin: false,
            revision: meta.revision.unwrap(),
        };
        self.state().access.roles.insert(role.id.clone(), role.clone());
        Ok((role, meta))
    }

    async fn update_role(
        &self,
        id: &str,
        request: RoleUpdate,
        permissions: Option<PermissionSet>,
        if_match: IfMatch,
        caller: Caller,
    ) -> Reply<RoleInfo> {
        let found = self.state().access.roles.get(id).cloned();
        let mut role = found.ok_or_else(|| ApiError::not_found(format!("role {id}")))?;
        check(if_match, role.revision)?;
        let meta = self.done(&format!("change role {id}"), &caller)?;
        role.permissions = permissions.unwrap_or(role.permissions);
        role.description = request.description.unwrap_or(role.description);
        self.state().access.roles.insert(id.into(), role.clone());
        Ok((role, meta))
    }

    async fn delete_role(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: Caller,
    ) -> Result<Meta, ApiError> {
        let found = self.state().access.roles.get(id).cloned();
        let role = found.ok_or_else(|| ApiError::not_found(format!("role {id}")))?;
        check(if_match, role.revision)?;
        let meta = self.done(&format!("remove role {id}"), &caller)?;
        self.state().access.roles.remove(id);
        Ok(meta)
    }

    async fn api_keys(&self, level: ReadLevel) -> Reply<Vec<ApiKeyInfo>> {
        let meta = self.read("keys", level).await?;
        let key = ApiKeyInfo {
            id: "k1".into(),
            name: "portal".into(),
            prefix: "tdm_k1".into(),
            owner: "ann".into(),
            permissions: Some(["dns:read".parse().unwrap()].into_iter().collect()),
            created_at: START.as_secs(),
            expires_at: None,
            last_used_at: Some(START.as_secs()),
            revision: Revision(7),
        };
        Ok((vec![key], meta))
    }

    async fn create_api_key(
        &self,
        request: ApiKeyRequest,
        permissions: Option<PermissionSet>,
        caller: Caller,
    ) -> Reply<ApiKeyCreated> {
        let meta = self.done(&format!("add key {}", request.name), &caller)?;
        let key = format!("tdm_{}", request.name);
        let scope = permissions.unwrap_or(PermissionSet::all());
        self.state().access.keys.insert(key.clone(), scope);
        let created = ApiKeyCreated {
            id: "k1".into(),
            name: request.name,
            prefix: key.chars().take(8).collect(),
            key: Secret::new(key),
            permissions,
            expires_at: request.expires_at,
        };
        Ok((created, meta))
    }

    async fn delete_api_key(&self, id: &str, _: IfMatch, caller: Caller) -> Result<Meta, ApiError> {
        if id != "k1" {
            return Err(ApiError::not_found(format!("API key {id}")));
        }
        self.done("remove key k1", &caller)
    }

    async fn read_auth_settings(&self, level: ReadLevel) -> Reply<AuthSettings> {
        let meta = self.read("auth settings", level).await?;
        Ok((self.auth_settings(), meta))
    }

    async fn update_auth_settings(
        &self,
        request: AuthSettingsUpdate,
        if_match: IfMatch,
        caller: Caller,
    ) -> Reply<AuthSettings> {
        let new = request.apply(&self.auth_settings());
        let new = new.map_err(|errors| ApiError::Invalid { errors })?;
        check(if_match, Revision(7))?;
        let meta = self.done("change auth settings", &caller)?;
        self.state().access.settings = new.clone();
        Ok((new, meta))
    }

    async fn audit(&self, query: AuditQuery, level: ReadLevel) -> Reply<Vec<AuditEntry>> {
        let meta = self.read("audit", level).await?;
        let entry = |n: u32| AuditEntry {
            id: format!("{n:020}"),
            revision: Revision(u64::from(n)),
            created_at: START.as_secs(),
            actor_id: "ann".into(),
            user_id: "ann".into(),
            role: "admin".into(),
            credential: "token".into(),
            action: "user.add".into(),
            object: "user/eve".into(),
            outcome: "done".into(),
            details: String::new(),
            before: serde_json::Value::Null,
            after: serde_json::Value::Null,
            ip_addr: None,
            request_id: String::new(),
            node: "bng1".into(),
        };
        let count = query.limit().min(3);
        Ok(((1..=count).rev().map(entry).collect(), meta))
    }
}
