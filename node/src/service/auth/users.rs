//! Users of the API.

use super::login::{RACES_MAX, change_user, check_name, user_json};
use super::records;
use super::{conflict, password};
use crate::management::audit::{Act, Who, Write, WriteError};
use crate::service::Api;
use api::types::{UserCreate, UserInfo, UserUpdate};
use api::{ApiError, Caller, IfMatch, Meta, PermissionSet, ReadLevel, builtin_role};
use model::{ApiRole, ApiUser, Collection, Revision, Secret};
use raft_store::{Command, DocumentOp, Expect, State};

/// Changes that end what a user has, besides the change itself.
const REMOVALS_MAX: usize = 200;

pub(super) fn info(user: &ApiUser) -> UserInfo {
    UserInfo {
        id: user.username.clone(),
        username: user.username.clone(),
        role: user.role.clone(),
        role_id: user.role.to_string(),
        enabled: user.enabled,
        totp_enabled: user.has_totp(),
        auth_provider: "local".to_owned(),
        created_at: (user.created_at.0 > 0).then(|| user.created_at.as_secs()),
        revision: user.modified,
    }
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found(format!("user {id}"))
}

/// Refuses to touch what may do more than the caller: who could change an administrator's password
/// would be one.
fn within(caller: &Caller, permissions: PermissionSet, what: &str) -> Result<(), ApiError> {
    if permissions.is_subset(caller.permissions) {
        return Ok(());
    }
    Err(ApiError::denied(format!("{what} may do more than you may")))
}

/// What a role allows, when the caller may hand it out; and the condition that it stays there.
fn role_to_give(
    state: &State,
    role: &str,
    caller: &Caller,
) -> Result<Option<DocumentOp>, ApiError> {
    let permissions = records::role_permissions(state, role)
        .ok_or_else(|| ApiError::invalid("role", format!("there is no role {role:?}")))?;
    within(caller, permissions, &format!("role {role}"))?;
    let made = builtin_role(role).is_none();
    let key = role.to_owned();
    let collection = Collection::Role;
    Ok(made.then_some(DocumentOp::Check { collection, key, expect: Expect::Present }))
}

impl Api {
    /// The hash to store, of exactly one of a password and a hash.
    async fn new_hash(
        &self,
        password: Option<Secret>,
        hash: Option<Secret>,
        length_min: u32,
    ) -> Result<Option<Secret>, ApiError> {
        match (password, hash) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(ApiError::invalid("password_hash", "cannot stand beside password"))
            }
            (None, Some(hash)) => {
                password::check_hash(hash.expose())
                    .map_err(|message| ApiError::invalid("password_hash", message))?;
                Ok(Some(hash))
            }
            (Some(password), None) => {
                password::check_password(password.expose(), length_min)
                    .map_err(|message| ApiError::invalid("password", message))?;
                self.hasher.hash(password).await.map(Some)
            }
        }
    }

    /// Adds a user that is not there yet.
    pub(super) async fn add_user(
        &self,
        who: &Who,
        user: ApiUser,
        act: Act,
        ops: Vec<DocumentOp>,
    ) -> Result<(UserInfo, Meta), ApiError> {
        let name = user.username.clone();
        let also = vec![change_user(user.clone(), Expect::Absent)];
        let committed = self.commit(who, Write { ops, also, attempt: 0 }, act).await;
        let committed = committed.map_err(|error| {
            if error.is_conflict() {
                ApiError::conflict(format!("user {name} exists, or its role is gone"))
            } else {
                error.into()
            }
        })?;
        let state = self.member()?.local.store.state();
        let made = ApiUser { modified: committed.revision, ..user };
        let stored = state.api_user(&name).filter(|stored| stored.modified >= made.modified);
        Ok((info(stored.unwrap_or(&made)), Meta::at(committed.revision)))
    }

    pub(super) async fn do_create_user(
        &self,
        request: UserCreate,
        caller: &Caller,
    ) -> Result<(UserInfo, Meta), ApiError> {
        check_name("username", &request.username)?;
        let state = self.read(ReadLevel::Linearizable).await?;
        let role = request.role.as_deref().unwrap_or(ApiRole::VIEWER);
        let ops = role_to_give(&state, role, caller)?.into_iter().collect();
        let length_min = records::settings(&state).0.password_min_length;
        let hash = self.new_hash(request.password, request.password_hash, length_min).await?;
        let hash = hash.ok_or_else(|| ApiError::invalid("password", "is missing"))?;
        let user = ApiUser::new(request.username, hash, ApiRole::new(role));
        let act = Act::new("user.create", format!("user/{}", user.username));
        let act = act.after(user_json(&user));
        self.add_user(&caller.into(), user, act, ops).await
    }

    pub(super) async fn do_update_user(
        &self,
        id: &str,
        request: UserUpdate,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<(UserInfo, Meta), ApiError> {
        if request.username.as_ref().is_some_and(|name| name != id) {
            return Err(ApiError::invalid("username", "a user keeps its name"));
        }
        if request.totp_enabled == Some(true) {
            let message = "only the user can switch its second factor on";
            return Err(ApiError::invalid("totp_enabled", message));
        }
        let state = self.read(ReadLevel::Linearizable).await?;
        let length_min = records::settings(&state).0.password_min_length;
        state.api_user(id).ok_or_else(|| not_found(id))?;
        let hash = self.new_hash(request.password, request.password_hash, length_min).await?;
        for attempt in 0..RACES_MAX {
            let state = self.read(ReadLevel::Linearizable).await?;
            let user = state.api_user(id).ok_or_else(|| not_found(id))?;
            let has = records::role_permissions(&state, user.role.as_str()).unwrap_or_default();
            within(caller, has, &format!("user {id}"))?;
            let mut ops = Vec::new();
            let mut changed = user.clone();
            if let Some(role) = request.role.as_deref().filter(|r| *r != user.role.as_str()) {
                ops.extend(role_to_give(&state, role, caller)?);
                changed.role = ApiRole::new(role);
            }
            changed.enabled = request.enabled.unwrap_or(user.enabled);
            if request.totp_enabled == Some(false) {
                changed.totp = None;
            }
            if let Some(hash) = &hash {
                changed.password_hash = hash.clone();
            }
            if changed.totp != user.totp || hash.is_some() || !changed.enabled {
                changed.generation = user.generation.saturating_add(1);
                ops.extend(records::end_families(&state, id));
            }
            let expect = Expect::Revision(wanted(if_match, user.modified));
            let act = Act::new("user.update", format!("user/{id}"))
                .before(user_json(user))
                .after(user_json(&changed));
            let also = vec![change_user(changed.clone(), expect)];
            let write = Write { ops, also, attempt };
            match self.commit(&caller.into(), write, act).await {
                Ok(committed) => {
                    let changed = ApiUser { modified: committed.revision, ..changed };
                    return Ok((info(&changed), Meta::at(committed.revision)));
                }
                Err(error) if error.is_conflict() && if_match == IfMatch::Any => {}
                Err(error) => return Err(conflict(error, if_match, "user")),
            }
        }
        Err(ApiError::Overloaded { retry_after_s: 1 })
    }

    pub(super) async fn do_delete_user(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        let state = self.read(ReadLevel::Linearizable).await?;
        let user = state.api_user(id);
        // A repetition finds nobody, and the log remembers what it was told.
        if user.is_none() && caller.idempotency_key.is_none() {
            return Err(not_found(id));
        }
        let mut ops = Vec::new();
        let mut act = Act::new("user.delete", format!("user/{id}"));
        if let Some(user) = user {
            let has = records::role_permissions(&state, user.role.as_str()).unwrap_or_default();
            within(caller, has, &format!("user {id}"))?;
            act = act.before(user_json(user));
            ops = records::end_families(&state, id);
            let keys = records::keys_of(&state, id).into_iter();
            ops.extend(keys.map(|key| records::delete(Collection::ApiKey, key, Expect::Any)));
            ops.truncate(REMOVALS_MAX);
        }
        let expect = match if_match {
            IfMatch::Any => Expect::Present,
            IfMatch::Revision(revision) => Expect::Revision(revision),
        };
        let command = Command::ChangeApiUser { username: id.to_owned(), user: None, expect };
        let write = Write { ops, also: vec![command], attempt: 0 };
        match self.commit(&caller.into(), write, act).await {
            Ok(committed) => Ok(Meta::at(committed.revision)),
            Err(WriteError::Refused(raft_store::Refusal::UnknownApiUser)) => Err(not_found(id)),
            Err(error) => Err(conflict(error, if_match, "user")),
        }
    }
}

/// The version that a change is made from.
pub(super) fn wanted(if_match: IfMatch, present: Revision) -> Revision {
    match if_match {
        IfMatch::Any => present,
        IfMatch::Revision(revision) => revision,
    }
}
