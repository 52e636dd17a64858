//! Roles of the API.

use super::login::{RACES_MAX, check_name};
use super::records::{self, RoleDoc};
use super::users::wanted;
use super::{conflict, expect};
use crate::management::audit::{Act, Write};
use crate::service::Api;
use api::types::{RoleCreate, RoleInfo, RoleUpdate};
use api::{ApiError, Caller, IfMatch, Meta, PermissionSet, ReadLevel, builtin_role, builtin_roles};
use model::{Collection, Revision};
use raft_store::{Expect, State};
use serde_json::json;

/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 256;

fn info(name: &str, role: &RoleDoc, revision: Revision) -> RoleInfo {
    RoleInfo {
        id: name.to_owned(),
        name: name.to_owned(),
        description: role.description.clone(),
        permissions: role.permissions(),
        builtin: false,
        revision,
    }
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found(format!("role {id}"))
}

fn built_in(id: &str) -> Result<(), ApiError> {
    match builtin_role(id) {
        None => Ok(()),
        Some(_) => Err(ApiError::conflict(format!("role {id} is built in"))),
    }
}

fn check(
    caller: &Caller,
    permissions: PermissionSet,
    description: Option<&str>,
) -> Result<(), ApiError> {
    if description.is_some_and(|text| text.chars().count() > DESCRIPTION_CHARS_MAX) {
        let message = format!("has at most {DESCRIPTION_CHARS_MAX} characters");
        return Err(ApiError::invalid("description", message));
    }
    if !permissions.is_subset(caller.permissions) {
        return Err(ApiError::denied("A role cannot allow more than you may do"));
    }
    Ok(())
}

fn role_json(role: &RoleDoc) -> serde_json::Value {
    json!({ "description": role.description, "permissions": role.permissions })
}

impl Api {
    pub(super) fn role_list(state: &State) -> Vec<RoleInfo> {
        let builtin = builtin_roles().into_iter().map(|role| RoleInfo {
            id: role.name.to_owned(),
            name: role.name.to_owned(),
            description: role.description.to_owned(),
            permissions: role.permissions,
            builtin: true,
            revision: Revision(0),
        });
        let made = state.documents(Collection::Role).filter_map(|(name, document)| {
            Some(info(name, &records::read::<RoleDoc>(document)?, document.modified))
        });
        builtin.chain(made).collect()
    }

    pub(super) async fn do_create_role(
        &self,
        request: RoleCreate,
        permissions: PermissionSet,
        caller: &Caller,
    ) -> Result<(RoleInfo, Meta), ApiError> {
        check_name("name", &request.name)?;
        built_in(&request.name)?;
        check(caller, permissions, Some(&request.description))?;
        let name = request.name;
        let role = RoleDoc { description: request.description, permissions: permissions.names() };
        let op = records::put(Collection::Role, &name, &role, Expect::Absent);
        let act = Act::new("role.create", format!("role/{name}")).after(role_json(&role));
        let committed = self.commit(&caller.into(), vec![op], act).await.map_err(|error| {
            if error.is_conflict() {
                ApiError::conflict(format!("role {name} exists"))
            } else {
                error.into()
            }
        })?;
        Ok((info(&name, &role, committed.revision), Meta::at(committed.revision)))
    }

    pub(super) async fn do_update_role(
        &self,
        id: &str,
        request: RoleUpdate,
        permissions: Option<PermissionSet>,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<(RoleInfo, Meta), ApiError> {
        if request.name.as_ref().is_some_and(|name| name != id) {
            return Err(ApiError::invalid("name", "a role keeps its name"));
        }
        built_in(id)?;
        for attempt in 0..RACES_MAX {
            let state = self.read(ReadLevel::Linearizable).await?;
            let stored = state.document(Collection::Role, id).ok_or_else(|| not_found(id))?;
            let old: RoleDoc = records::read(stored).ok_or_else(|| not_found(id))?;
            // Also what it allowed before: nobody takes from others what it could not give.
            check(caller, old.permissions(), request.description.as_deref())?;
            check(caller, permissions.unwrap_or_default(), None)?;
            let new = RoleDoc {
                description: request.description.clone().unwrap_or(old.description.clone()),
                permissions: permissions.map_or(old.permissions.clone(), PermissionSet::names),
            };
            let condition = Expect::Revision(wanted(if_match, stored.modified));
            let op = records::put(Collection::Role, id, &new, condition);
            let act = Act::new("role.update", format!("role/{id}"))
                .before(role_json(&old))
                .after(role_json(&new));
            let write = Write::from(vec![op]).attempt(attempt);
            match self.commit(&caller.into(), write, act).await {
                Ok(committed) => {
                    let revision = committed.revision;
                    return Ok((info(id, &new, revision), Meta::at(revision)));
                }
                Err(error) if error.is_conflict() && if_match == IfMatch::Any => {}
                Err(error) => return Err(conflict(error, if_match, "role")),
            }
        }
        Err(ApiError::Overloaded { retry_after_s: 1 })
    }

    pub(super) async fn do_delete_role(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        built_in(id)?;
        let state = self.read(ReadLevel::Linearizable).await?;
        let stored = state.document(Collection::Role, id);
        if stored.is_none() && caller.idempotency_key.is_none() {
            return Err(not_found(id));
        }
        if let Some(user) = state.api_users().find(|user| user.role.as_str() == id) {
            return Err(ApiError::conflict(format!("user {} has role {id}", user.username)));
        }
        let mut act = Act::new("role.delete", format!("role/{id}"));
        if let Some(role) = stored.and_then(records::read::<RoleDoc>) {
            check(caller, role.permissions(), None)?;
            act = act.before(role_json(&role));
        }
        let op = records::delete(Collection::Role, id, expect(if_match));
        match self.commit(&caller.into(), vec![op], act).await {
            Ok(committed) => Ok(Meta::at(committed.revision)),
            Err(error) if error.is_unknown() => Err(not_found(id)),
            Err(error) => Err(conflict(error, if_match, "role")),
        }
    }
}
