//! The documents of this module, and what is read from the replicated state.

pub(super) use crate::management::document::{delete, put, read};
use api::types::AuthSettings;
use api::{Identity, PermissionSet, builtin_role};
use hmac::{Hmac, Mac as _};
use model::{ApiUser, Collection, Revision, Secret, UnixMs};
use raft_store::{DocumentOp, Expect, State};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Key of the settings of logins in [`Collection::Setting`].
pub(super) const SETTINGS: &str = "auth";
/// What the keys of families of refresh tokens begin with.
const FAMILY: &str = "family/";
/// What the keys of revoked access tokens begin with.
const REVOKED: &str = "revoked/";
/// Hexadecimal digits of a family's id that name its user.
const FAMILY_USER_DIGITS: usize = 16;
/// Logins of one user that can be refreshed; the one that was idle longest gives way.
pub(super) const FAMILIES_PER_USER_MAX: usize = 64;
/// Expired revocations that one logout clears away.
const SWEEP_MAX: usize = 32;

/// A custom role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RoleDoc {
    pub(super) description: String,
    /// Names, so that a node of an older build reads what it knows.
    pub(super) permissions: Vec<String>,
}

impl RoleDoc {
    pub(super) fn permissions(&self) -> PermissionSet {
        self.permissions.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

/// An API key; its id is the document's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyDoc {
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) prefix: String,
    /// SHA-256 of the whole text, in hexadecimal. The text has 256 random bits: no salt is needed.
    pub(super) digest: String,
    pub(super) permissions: Option<Vec<String>>,
    pub(super) created_at_s: u64,
    pub(super) expires_at_s: Option<u64>,
}

impl KeyDoc {
    pub(super) fn scope(&self) -> Option<PermissionSet> {
        let names = self.permissions.as_ref()?;
        Some(names.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// The refresh tokens that came from one login. Only the newest is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FamilyDoc {
    pub(super) username: String,
    pub(super) generation: u64,
    /// Digest of the good one.
    pub(super) current: String,
    /// Digest of the one before.
    pub(super) previous: Option<String>,
    pub(super) rotated_at: UnixMs,
    pub(super) expires_at_s: u64,
    /// The newest access token.
    pub(super) jti: String,
    pub(super) access_expires_at_s: u64,
}

/// An access token that is worth nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RevokedDoc {
    expires_at_s: u64,
}

/// A ticket; its digest is the document's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TicketDoc {
    pub(super) username: String,
    pub(super) generation: u64,
    pub(super) permissions: Vec<String>,
    pub(super) expires_at: UnixMs,
}

pub(super) fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// What only this cluster can derive from `parts`.
pub(super) fn derive(state: &State, label: &str, parts: &[&str]) -> [u8; 32] {
    let key = state.jwt_secret().map_or("", Secret::expose);
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .expect("HMAC takes keys of any length (RFC 2104 §3)");
    for part in std::iter::once(&label).chain(parts) {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// The settings of logins with their version, 0 when nobody ever changed them.
pub(super) fn settings(state: &State) -> (AuthSettings, Revision) {
    let document = state.document(Collection::Setting, SETTINGS);
    let revision = document.map_or(Revision(0), |d| d.modified);
    (document.and_then(read).unwrap_or_default(), revision)
}

/// What a role allows; nothing when there is no such role.
pub(super) fn role_permissions(state: &State, name: &str) -> Option<PermissionSet> {
    let made = || {
        let document = state.document(Collection::Role, name)?;
        read::<RoleDoc>(document).map(|role| role.permissions())
    };
    builtin_role(name).map(|role| role.permissions).or_else(made)
}

/// Whether the settings ask this user for a second factor that it does not have.
pub(super) fn lacks_totp(state: &State, user: &ApiUser) -> bool {
    !user.has_totp() && settings(state).0.require_totp
}

/// What a user may do now.
pub(super) fn identity(state: &State, user: &ApiUser) -> Identity {
    let permissions = if lacks_totp(state, user) {
        PermissionSet::NONE
    } else {
        role_permissions(state, user.role.as_str()).unwrap_or_default()
    };
    Identity { username: user.username.clone(), role: user.role.clone(), permissions }
}

/// A user that may log in, of that generation.
pub(super) fn live_user<'a>(
    state: &'a State,
    username: &str,
    generation: u64,
) -> Option<&'a ApiUser> {
    state.api_user(username).filter(|user| user.enabled && user.generation == generation)
}

pub(super) fn revoked_key(jti: &str) -> String {
    format!("{REVOKED}{jti}")
}

/// Makes an access token worth nothing until it expires anyway, and clears away what has.
pub(super) fn revoke(state: &State, jti: &str, expires_at_s: u64, now: UnixMs) -> Vec<DocumentOp> {
    let revoked = RevokedDoc { expires_at_s };
    let key = revoked_key(jti);
    let mut ops = vec![put(Collection::RefreshToken, &key, &revoked, Expect::Any)];
    let all = state.documents_from(Collection::RefreshToken, Some(REVOKED), SWEEP_MAX);
    for (key, document) in all.take_while(|(key, _)| key.starts_with(REVOKED)) {
        let over = read::<RevokedDoc>(document).is_none_or(|r| r.expires_at_s <= now.as_secs());
        if over && key != revoked_key(jti) {
            ops.push(delete(Collection::RefreshToken, key, Expect::Any));
        }
    }
    ops
}

/// The beginning of the ids of a user's families.
fn family_user(username: &str) -> String {
    sha256(username).chars().take(FAMILY_USER_DIGITS).collect()
}

/// An id for a new family of that user: whose it is cannot be read off, but all of one user are
/// found without looking at others.
pub(super) fn family_id(username: &str, random: u64) -> String {
    format!("{}{random:016x}", family_user(username))
}

pub(super) fn family_key(id: &str) -> String {
    format!("{FAMILY}{id}")
}

/// The families of a user with their keys.
pub(super) fn families(state: &State, username: &str) -> Vec<(String, FamilyDoc, Revision)> {
    let prefix = family_key(&family_user(username));
    // One user has few; the bound only holds off users whose digest begins alike.
    state
        .documents_from(Collection::RefreshToken, Some(&prefix), 4 * FAMILIES_PER_USER_MAX)
        .take_while(|(key, _)| key.starts_with(&prefix))
        .filter_map(|(key, document)| {
            Some((key.to_owned(), read::<FamilyDoc>(document)?, document.modified))
        })
        .filter(|(_, family, _)| family.username == username)
        .collect()
}

/// Ends all refresh tokens of a user.
pub(super) fn end_families(state: &State, username: &str) -> Vec<DocumentOp> {
    let all = families(state, username).into_iter().take(FAMILIES_PER_USER_MAX);
    all.map(|(key, ..)| delete(Collection::RefreshToken, &key, Expect::Any)).collect()
}

/// Makes room for one more family of a user: what has expired goes, then what was idle longest.
pub(super) fn trim_families(state: &State, username: &str, now: UnixMs) -> Vec<DocumentOp> {
    let mut all = families(state, username);
    all.sort_by_key(|(_, family, modified)| (family.expires_at_s > now.as_secs(), *modified));
    let expired = all.iter().filter(|(_, f, _)| f.expires_at_s <= now.as_secs()).count();
    let over = (all.len() + 1).saturating_sub(FAMILIES_PER_USER_MAX);
    let going = all.iter().take(expired.max(over).min(FAMILIES_PER_USER_MAX));
    going.map(|(key, ..)| delete(Collection::RefreshToken, key, Expect::Any)).collect()
}

/// The keys that a user owns.
pub(super) fn keys_of<'a>(state: &'a State, owner: &str) -> Vec<&'a str> {
    let all = state.documents(Collection::ApiKey);
    all.filter(|(_, d)| read::<KeyDoc>(d).is_some_and(|key| key.owner == owner))
        .map(|(id, _)| id)
        .collect()
}
