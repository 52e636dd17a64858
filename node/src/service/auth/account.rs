//! The caller's own account: who it is, tickets, the second factor.

use super::login::{RACES_MAX, change_user};
use super::records::{self, KeyDoc, TicketDoc, sha256};
use super::totp;
use crate::management::audit;
use crate::management::audit::{Act, Write};
use crate::service::Api;
use api::types::{CredentialKind, Me, StreamTicket, TotpSetup};
use api::{API_KEY_MARK, ApiError, Caller, Identity, Meta, Presented, ReadLevel};
use model::{ApiUser, Collection, Secret};
use raft_store::{Command, DocumentBatch, Expect, State};
use std::sync::PoisonError;

/// How long a ticket is good, in seconds.
const TICKET_LIFETIME_S: u64 = 30;
/// Hexadecimal digits of a key's id.
pub(super) const KEY_ID_DIGITS: usize = 16;

impl Api {
    pub(super) fn do_identify(&self, presented: Presented<'_>) -> Result<Identity, ApiError> {
        let state = self.member()?.local.store.state();
        let identity = match presented {
            Presented::Token(claims) => {
                let revoked = records::revoked_key(&claims.jti);
                let live = records::live_user(&state, &claims.sub, claims.generation);
                live.filter(|_| state.document(Collection::RefreshToken, &revoked).is_none())
                    .map(|user| records::identity(&state, user))
            }
            Presented::ApiKey(text) => self.identify_key(&state, text),
        };
        identity.ok_or(ApiError::Unauthorized)
    }

    fn identify_key(&self, state: &State, text: &str) -> Option<Identity> {
        let id = text.strip_prefix(API_KEY_MARK)?.get(..KEY_ID_DIGITS)?;
        let key: KeyDoc = records::read(state.document(Collection::ApiKey, id)?)?;
        let now = self.wall();
        // Digests: how far they agree tells nothing of the text.
        let good = key.digest == sha256(text)
            && key.expires_at_s.is_none_or(|expires| expires > now.as_secs());
        let owner = state.api_user(&key.owner).filter(|owner| good && owner.enabled)?;
        let identity = records::identity(state, owner);
        self.note_use(id, now.as_secs());
        let scope = key.scope().unwrap_or(identity.permissions);
        Some(Identity { permissions: identity.permissions.intersection(scope), ..identity })
    }

    fn note_use(&self, id: &str, now_s: u64) {
        let mut used = self.keys_used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= Collection::ApiKey.limits().documents_max && !used.contains_key(id) {
            used.clear();
        }
        used.insert(id.to_owned(), now_s);
    }

    pub(super) async fn do_spend_ticket(&self, ticket: &str) -> Result<Identity, ApiError> {
        let key = sha256(ticket);
        // It may have been made on another node a moment ago.
        let state = self.read(ReadLevel::Linearizable).await?;
        let stored = state.document(Collection::Ticket, &key).ok_or(ApiError::Unauthorized)?;
        let ticket: TicketDoc = records::read(stored).ok_or(ApiError::Unauthorized)?;
        let op = records::delete(Collection::Ticket, &key, Expect::Revision(stored.modified));
        let command = Command::Documents(DocumentBatch::from(vec![op]));
        // The log decides who was first, on whichever nodes it is shown.
        self.propose(command, None).await.map_err(|error| {
            if error.is_conflict() { ApiError::Unauthorized } else { error.into() }
        })?;
        let user = records::live_user(&state, &ticket.username, ticket.generation);
        let user = user.filter(|_| ticket.expires_at > self.wall());
        let identity = records::identity(&state, user.ok_or(ApiError::Unauthorized)?);
        let scope = ticket.permissions.iter().filter_map(|name| name.parse().ok()).collect();
        Ok(Identity { permissions: identity.permissions.intersection(scope), ..identity })
    }

    pub(super) async fn do_stream_ticket(
        &self,
        caller: &Caller,
    ) -> Result<(StreamTicket, Meta), ApiError> {
        if caller.credential == CredentialKind::Ticket {
            return Err(ApiError::denied("A ticket makes no tickets"));
        }
        let state = self.member()?.local.store.state();
        let user = state.api_user(&caller.username).ok_or(ApiError::Unauthorized)?;
        let ticket = hex::encode(self.secret_for(caller, "ticket")?);
        let document = TicketDoc {
            username: caller.username.clone(),
            generation: user.generation,
            permissions: caller.permissions.names(),
            expires_at: self.wall().plus_secs(TICKET_LIFETIME_S),
        };
        let op = records::put(Collection::Ticket, &sha256(&ticket), &document, Expect::Any);
        let command = Command::Documents(DocumentBatch::from(vec![op]));
        let key = caller.idempotency_key.as_deref();
        let client = audit::client(&caller.username, key, "ticket").map(|client| (client, 1));
        let committed = self.propose(command, client).await?;
        let ticket =
            StreamTicket { ticket: Secret::new(ticket), expires_in_seconds: TICKET_LIFETIME_S };
        Ok((ticket, Meta::at(committed.revision)))
    }

    pub(super) fn do_me(&self, caller: Caller) -> Result<Me, ApiError> {
        let state = self.member()?.local.store.state();
        let user = state.api_user(&caller.username).ok_or(ApiError::Unauthorized)?;
        Ok(Me {
            id: caller.username.clone(),
            username: caller.username,
            role_id: caller.role.to_string(),
            role: caller.role,
            permissions: caller.permissions,
            totp_enabled: user.has_totp(),
            auth_provider: "local".to_owned(),
            credential: caller.credential,
        })
    }

    /// Random octets; the same ones for the same `Idempotency-Key` of the same user, so that a
    /// repetition shows what was kept and not something new.
    pub(in crate::service) fn secret_for(
        &self,
        caller: &Caller,
        label: &str,
    ) -> Result<[u8; 32], ApiError> {
        let state = self.member()?.local.store.state();
        Ok(match &caller.idempotency_key {
            Some(key) => records::derive(&state, label, &[&caller.username, key]),
            None => rand::random(),
        })
    }

    /// Changes the caller's own record; tried anew when somebody else was faster.
    async fn change_own<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        change: impl Fn(&ApiUser) -> Result<(ApiUser, T), ApiError> + Send + Sync,
    ) -> Result<(T, Meta), ApiError>
    where
        T: Send,
    {
        for attempt in 0..RACES_MAX {
            let state = self.read(ReadLevel::Linearizable).await?;
            let user = state.api_user(&caller.username).ok_or(ApiError::Unauthorized)?;
            let (changed, value) = change(user)?;
            let expect = Expect::Revision(user.modified);
            let act = Act::new(action, format!("user/{}", user.username))
                .before(super::login::user_json(user))
                .after(super::login::user_json(&changed));
            let write = Write::from(change_user(changed, expect)).attempt(attempt);
            match self.commit(&caller.into(), write, act).await {
                Ok(committed) => return Ok((value, Meta::at(committed.revision))),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ApiError::Overloaded { retry_after_s: 1 })
    }

    pub(super) async fn do_totp_setup(
        &self,
        caller: &Caller,
    ) -> Result<(TotpSetup, Meta), ApiError> {
        let issuer = self.member()?.identity.cluster_id.to_string();
        let [seed, first, second] = ["totp", "recovery-1", "recovery-2"];
        let seed = self.secret_for(caller, seed)?;
        let mut codes = [0; 64];
        codes[..32].copy_from_slice(&self.secret_for(caller, first)?);
        codes[32..].copy_from_slice(&self.secret_for(caller, second)?);
        let key = *seed.first_chunk::<20>().unwrap_or(&[0; 20]);
        let setup = self.change_own(caller, "totp.setup", |user| {
            if user.has_totp() {
                return Err(ApiError::conflict("The second factor is on; switch it off first"));
            }
            let new = totp::new(&user.username, &issuer, key, codes);
            let setup = TotpSetup {
                secret: new.secret,
                provisioning_uri: new.uri,
                recovery_codes: new.recovery_codes,
            };
            Ok((ApiUser { totp: Some(new.totp), ..user.clone() }, setup))
        });
        setup.await
    }

    pub(super) async fn do_totp_verify(
        &self,
        code: &Secret,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        let verified = self.change_own(caller, "totp.enable", |user| {
            let pending = user.totp.as_ref().filter(|totp| !totp.active);
            let pending = pending.ok_or_else(|| {
                ApiError::conflict("There is no second factor that waits for its first code")
            })?;
            let mut totp = totp::accept(pending, code.expose(), self.wall())?;
            totp.active = true;
            Ok((ApiUser { totp: Some(totp), ..user.clone() }, ()))
        });
        verified.await.map(|((), meta)| meta)
    }

    pub(super) async fn do_totp_disable(
        &self,
        code: &Secret,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        let disabled = self.change_own(caller, "totp.disable", |user| {
            let active = user.totp.as_ref().filter(|totp| totp.active);
            let active = active.ok_or_else(|| ApiError::conflict("There is no second factor"))?;
            totp::accept(active, code.expose(), self.wall())?;
            Ok((ApiUser { totp: None, ..user.clone() }, ()))
        });
        disabled.await.map(|((), meta)| meta)
    }
}
