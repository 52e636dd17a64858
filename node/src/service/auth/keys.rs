//! API keys, and the settings of logins.

use super::account::KEY_ID_DIGITS;
use super::login::RACES_MAX;
use super::records::{self, KeyDoc, SETTINGS, sha256};
use super::{conflict, expect};
use crate::management::audit::{Act, Write};
use crate::service::Api;
use api::types::{ApiKeyCreated, ApiKeyInfo, ApiKeyRequest, AuthSettings, AuthSettingsUpdate};
use api::{API_KEY_MARK, ApiError, Caller, IfMatch, Meta, PermissionSet, ReadLevel};
use model::{Collection, Revision, Secret};
use raft_store::{Expect, State};
use serde_json::json;
use std::sync::PoisonError;

/// Keys of one user.
const KEYS_PER_USER_MAX: usize = 64;
/// Characters of a key's name.
const NAME_CHARS_MAX: usize = 64;

fn not_found(id: &str) -> ApiError {
    ApiError::not_found(format!("API key {id}"))
}

impl Api {
    pub(super) fn key_list(&self, state: &State) -> Vec<ApiKeyInfo> {
        let used = self.keys_used.lock().unwrap_or_else(PoisonError::into_inner);
        let all = state.documents(Collection::ApiKey).filter_map(|(id, document)| {
            let key: KeyDoc = records::read(document)?;
            Some(ApiKeyInfo {
                id: id.to_owned(),
                permissions: key.scope(),
                name: key.name,
                prefix: key.prefix,
                owner: key.owner,
                created_at: key.created_at_s,
                expires_at: key.expires_at_s,
                last_used_at: used.get(id).copied(),
                revision: document.modified,
            })
        });
        all.collect()
    }

    pub(super) async fn do_create_api_key(
        &self,
        request: ApiKeyRequest,
        permissions: Option<PermissionSet>,
        caller: &Caller,
    ) -> Result<(ApiKeyCreated, Meta), ApiError> {
        let ApiKeyRequest { name, permissions: _, expires_at } = request;
        let fits = (1..=NAME_CHARS_MAX).contains(&name.chars().count())
            && !name.chars().any(char::is_control);
        if !fits {
            return Err(ApiError::invalid("name", format!("has 1 to {NAME_CHARS_MAX} characters")));
        }
        let now_s = self.wall().as_secs();
        if expires_at.is_some_and(|expires| expires <= now_s) {
            return Err(ApiError::invalid("expires_at", "has passed"));
        }
        if permissions.is_some_and(|wish| !wish.is_subset(caller.permissions)) {
            return Err(ApiError::denied("A key cannot allow more than you may do"));
        }
        let state = self.read(ReadLevel::Linearizable).await?;
        if records::keys_of(&state, &caller.username).len() >= KEYS_PER_USER_MAX {
            return Err(ApiError::conflict(format!("you have {KEYS_PER_USER_MAX} keys already")));
        }
        let id = hex::encode(self.secret_for(caller, "api-key-id")?);
        let id = id.chars().take(KEY_ID_DIGITS).collect::<String>();
        let secret = hex::encode(self.secret_for(caller, "api-key")?);
        let key = format!("{API_KEY_MARK}{id}{secret}");
        let prefix = format!("{API_KEY_MARK}{id}");
        let document = KeyDoc {
            name: name.clone(),
            owner: caller.username.clone(),
            prefix: prefix.clone(),
            digest: sha256(&key),
            permissions: permissions.map(PermissionSet::names),
            created_at_s: now_s,
            expires_at_s: expires_at,
        };
        let op = records::put(Collection::ApiKey, &id, &document, Expect::Absent);
        let act = Act::new("api_key.create", format!("api_key/{id}")).after(json!({
            "name": name, "permissions": document.permissions, "expires_at": expires_at,
        }));
        let committed = self.commit(&caller.into(), vec![op], act).await?;
        let created =
            ApiKeyCreated { id, name, key: Secret::new(key), prefix, permissions, expires_at };
        Ok((created, Meta::at(committed.revision)))
    }

    pub(super) async fn do_delete_api_key(
        &self,
        id: &str,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        let state = self.read(ReadLevel::Linearizable).await?;
        let stored = state.document(Collection::ApiKey, id);
        if stored.is_none() && caller.idempotency_key.is_none() {
            return Err(not_found(id));
        }
        let mut act = Act::new("api_key.delete", format!("api_key/{id}"));
        if let Some(key) = stored.and_then(records::read::<KeyDoc>) {
            let before =
                json!({ "name": key.name, "owner": key.owner, "permissions": key.permissions });
            act = act.before(before);
        }
        let op = records::delete(Collection::ApiKey, id, expect(if_match));
        match self.commit(&caller.into(), vec![op], act).await {
            Ok(committed) => Ok(Meta::at(committed.revision)),
            Err(error) if error.is_unknown() => Err(not_found(id)),
            Err(error) => Err(conflict(error, if_match, "API key")),
        }
    }

    pub(super) async fn do_update_settings(
        &self,
        request: AuthSettingsUpdate,
        if_match: IfMatch,
        caller: &Caller,
    ) -> Result<(AuthSettings, Meta), ApiError> {
        for attempt in 0..RACES_MAX {
            let state = self.read(ReadLevel::Linearizable).await?;
            let (old, present) = records::settings(&state);
            let new = request.apply(&old).map_err(|errors| ApiError::Invalid { errors })?;
            if new.require_totp && !old.require_totp {
                let has = state.api_user(&caller.username).is_some_and(model::ApiUser::has_totp);
                if !has {
                    let message = "set up your own second factor first";
                    return Err(ApiError::invalid("require_totp", message));
                }
            }
            // Version 0 is that of settings that nobody has changed yet.
            let condition = match if_match {
                IfMatch::Any if present == Revision(0) => Expect::Absent,
                IfMatch::Revision(Revision(0)) => Expect::Absent,
                IfMatch::Any => Expect::Revision(present),
                IfMatch::Revision(revision) => Expect::Revision(revision),
            };
            let op = records::put(Collection::Setting, SETTINGS, &new, condition);
            let json = |settings: &AuthSettings| {
                serde_json::to_value(settings).unwrap_or(serde_json::Value::Null)
            };
            let act = Act::new("settings.update", "settings/auth");
            let act = act.before(json(&old)).after(json(&new));
            let write = Write::from(vec![op]).attempt(attempt);
            match self.commit(&caller.into(), write, act).await {
                Ok(committed) => return Ok((new, Meta::at(committed.revision))),
                Err(error) if error.is_conflict() && if_match == IfMatch::Any => {}
                Err(error) => return Err(conflict(error, if_match, "setting")),
            }
        }
        Err(ApiError::Overloaded { retry_after_s: 1 })
    }
}
