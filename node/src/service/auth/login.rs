//! Logins: passwords, codes, refresh tokens.

use super::records::{self, FamilyDoc, derive, sha256};
use super::{password, totp};
use crate::management::audit::{Act, Who, Write, WriteError};
use crate::service::Api;
use api::types::{LoginRequest, UserInfo};
use api::{
    ApiError, Caller, Claims, FirstStep, LoginOutcome, Meta, Origin, ReadLevel, Refresh, Session,
};
use model::{ApiRole, ApiUser, Collection, Secret, UnixMs};
use raft_store::{Command, DocumentBatch, DocumentOp, Expect, Refusal, State};
use serde_json::json;

/// How long after its use a spent refresh token still gets the answer that may have been lost.
const GRACE_MS: u64 = 10_000;
/// How often a write is tried anew when somebody else was faster.
pub(super) const RACES_MAX: u64 = 4;
/// Characters of a user name.
const NAME_CHARS_MAX: usize = 64;

/// A refresh token: the id of its family and a secret.
struct RefreshText<'a> {
    family: &'a str,
    text: &'a str,
}

impl<'a> RefreshText<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (family, secret) = text.split_once('.')?;
        let hex = |t: &str, n: usize| t.len() == n && t.bytes().all(|b| b.is_ascii_hexdigit());
        (hex(family, 32) && hex(secret, 64)).then_some(Self { family, text })
    }
}

/// What the log says of a user, besides its name and role.
pub(super) fn user_json(user: &ApiUser) -> serde_json::Value {
    json!({ "role": user.role, "enabled": user.enabled, "totp_enabled": user.has_totp() })
}

/// Says what is wrong with the name of a new user or role.
pub(super) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let fits = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
    if fits {
        return Ok(());
    }
    let message = format!("has 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, '.', '_', '@' and '-'");
    Err(ApiError::invalid(field, message))
}

/// The command that puts `user` in the place of the version that it was made from.
pub(super) fn change_user(user: ApiUser, expect: Expect) -> Command {
    let username = user.username.clone();
    Command::ChangeApiUser { username, user: Some(Box::new(user)), expect }
}

impl Api {
    /// The user, and a better hash of the password if the present one is old.
    async fn check_password(
        &self,
        request: &LoginRequest,
    ) -> Result<(ApiUser, Option<Secret>), ApiError> {
        let state = self.member()?.local.store.state();
        let user = state.api_user(&request.username).cloned();
        let hash = user.as_ref().map(|user| user.password_hash.clone());
        let good = self.hasher.verify(hash, request.password.clone()).await?;
        let user = user.filter(|user| good && user.enabled).ok_or(ApiError::BadCredentials)?;
        let better = if password::is_old(&user.password_hash) {
            Some(self.hasher.hash(request.password.clone()).await?)
        } else {
            None
        };
        Ok((user, better))
    }

    pub(super) async fn do_login(
        &self,
        request: LoginRequest,
        origin: Origin,
    ) -> Result<LoginOutcome, ApiError> {
        let (user, better) = self.check_password(&request).await?;
        if user.has_totp() {
            let ApiUser { username, generation, .. } = user;
            return Ok(LoginOutcome::CodeNeeded { username, generation });
        }
        let changed = better.map(|password_hash| ApiUser { password_hash, ..user.clone() });
        let session = match self.begin_session(&user, changed.clone(), &origin).await {
            // The better hash can wait for another login.
            Err(_) if changed.is_some() => self.begin_session(&user, None, &origin).await,
            other => other,
        };
        match session {
            Ok(session) => Ok(LoginOutcome::Session(session)),
            // Without a quorum, or before an upgrade is complete.
            Err(error @ (WriteError::Failed(_) | WriteError::Refused(Refusal::LevelTooLow))) => {
                tracing::warn!(
                    event = "TANDEM-LOGIN-NOT-KEPT",
                    user = user.username,
                    %error,
                    "logged in without a refresh token: the log cannot be written"
                );
                let state = self.member()?.local.store.state();
                Ok(LoginOutcome::Session(session_of(&state, &user, new_jti(), self.wall(), None)))
            }
            Err(refused @ WriteError::Refused(_)) => Err(refused.into()),
        }
    }

    pub(super) async fn do_totp_login(
        &self,
        first: FirstStep,
        code: &Secret,
        origin: &Origin,
    ) -> Result<Session, ApiError> {
        let state = self.read(ReadLevel::Linearizable).await?;
        let user = match &first {
            FirstStep::Password(request) => self.check_password(request).await?.0,
            FirstStep::Challenge { username, generation } => {
                let user = records::live_user(&state, username, *generation);
                user.cloned().ok_or(ApiError::Unauthorized)?
            }
        };
        let Some(factor) = user.totp.as_ref().filter(|totp| totp.active) else {
            return Err(ApiError::BadCode);
        };
        let left = totp::accept(factor, code.expose(), self.wall())?;
        let changed = ApiUser { totp: Some(left), ..user.clone() };
        // That the code is spent must be in the log before anybody is let in.
        self.begin_session(&user, Some(changed), origin)
            .await
            .map_err(|error| if error.is_conflict() { ApiError::BadCode } else { error.into() })
    }

    /// Writes a new family of refresh tokens, what else the login changes, and its record.
    async fn begin_session(
        &self,
        user: &ApiUser,
        changed: Option<ApiUser>,
        origin: &Origin,
    ) -> Result<Session, WriteError> {
        let state = self.member().map_err(WriteError::Failed)?.local.store.state();
        let now = self.wall();
        let (settings, _) = records::settings(&state);
        let family = records::family_id(&user.username, rand::random());
        let token = format!("{family}.{}", hex::encode(rand::random::<[u8; 32]>()));
        let expires_at_s = now.as_secs() + u64::from(settings.refresh_token_expiry_days) * 86_400;
        let refresh = Refresh {
            token: Secret::new(token.clone()),
            family: family.clone(),
            expires_at: expires_at_s,
        };
        let session = session_of(&state, user, new_jti(), now, Some(refresh));
        let document = FamilyDoc {
            username: user.username.clone(),
            generation: user.generation,
            current: sha256(&token),
            previous: None,
            rotated_at: now,
            expires_at_s,
            jti: session.jti.clone(),
            access_expires_at_s: session.access_expires_at,
        };
        let mut ops = records::trim_families(&state, &user.username, now);
        let key = records::family_key(&family);
        ops.push(records::put(Collection::RefreshToken, &key, &document, Expect::Absent));
        let expect = Expect::Revision(user.modified);
        let also = changed.into_iter().map(|changed| change_user(changed, expect)).collect();
        let who = Who::arriving(&user.username, user.role.as_str(), origin);
        let act = Act::new("login", format!("user/{}", user.username));
        self.commit(&who, Write { ops, also, attempt: 0 }, act).await?;
        Ok(session)
    }

    pub(super) async fn do_refresh(
        &self,
        token: &Secret,
        origin: &Origin,
    ) -> Result<Session, ApiError> {
        let text = RefreshText::parse(token.expose()).ok_or(ApiError::Unauthorized)?;
        for _ in 0..RACES_MAX {
            let state = self.read(ReadLevel::Linearizable).await?;
            match self.try_refresh(&state, &text, origin).await {
                Err(error) if error.is_conflict() => {}
                other => return Ok(other?),
            }
        }
        Err(ApiError::Overloaded { retry_after_s: 1 })
    }

    async fn try_refresh(
        &self,
        state: &State,
        token: &RefreshText<'_>,
        origin: &Origin,
    ) -> Result<Session, WriteError> {
        let refused = || WriteError::Failed(ApiError::Unauthorized);
        let now = self.wall();
        let key = records::family_key(token.family);
        let stored = state.document(Collection::RefreshToken, &key).ok_or_else(refused)?;
        let family: FamilyDoc = records::read(stored).ok_or_else(refused)?;
        let user = records::live_user(state, &family.username, family.generation);
        let user = user.filter(|_| family.expires_at_s > now.as_secs()).ok_or_else(refused)?;
        // The next token follows from this one, so that a repetition gets the same answer.
        let next = derive(state, "refresh", &[token.text]);
        let next = format!("{}.{}", token.family, hex::encode(next));
        let digest = sha256(token.text);
        let refresh = |expires_at| Refresh {
            token: Secret::new(next.clone()),
            family: token.family.to_owned(),
            expires_at,
        };
        if family.current == digest {
            let (settings, _) = records::settings(state);
            let days = u64::from(settings.refresh_token_expiry_days);
            let expires_at_s = now.as_secs() + days * 86_400;
            let session = session_of(state, user, new_jti(), now, Some(refresh(expires_at_s)));
            let document = FamilyDoc {
                current: sha256(&next),
                previous: Some(digest),
                rotated_at: now,
                expires_at_s,
                jti: session.jti.clone(),
                access_expires_at_s: session.access_expires_at,
                ..family
            };
            let expect = Expect::Revision(stored.modified);
            let op = records::put(Collection::RefreshToken, &key, &document, expect);
            // No record: programs refresh day and night, and would push out what people want to read.
            self.propose(Command::Documents(DocumentBatch::from(vec![op])), None).await?;
            return Ok(session);
        }
        let is_repetition = family.previous.as_deref() == Some(digest.as_str())
            && now.0.saturating_sub(family.rotated_at.0) <= GRACE_MS;
        if is_repetition {
            let again =
                session_of(state, user, family.jti, now, Some(refresh(family.expires_at_s)));
            return Ok(Session { access_expires_at: family.access_expires_at_s, ..again });
        }
        self.end_stolen(state, &key, &family, origin).await?;
        Err(refused())
    }

    /// A token that was spent long ago came again: the login ends for both who have it.
    async fn end_stolen(
        &self,
        state: &State,
        key: &str,
        family: &FamilyDoc,
        origin: &Origin,
    ) -> Result<(), WriteError> {
        let address = origin.address.map(tracing::field::display);
        tracing::warn!(
            event = "TANDEM-TOKEN-REUSED",
            user = family.username,
            address,
            "a spent refresh token came again; its login is ended"
        );
        let mut ops = records::revoke(state, &family.jti, family.access_expires_at_s, self.wall());
        ops.push(records::delete(Collection::RefreshToken, key, Expect::Any));
        let who = Who::arriving(&family.username, "", origin);
        let act = Act::new("token.reused", format!("user/{}", family.username));
        self.commit(&who, ops, act).await.map(|_| ())
    }

    pub(super) async fn do_logout(
        &self,
        token: Option<Claims>,
        refresh: Option<Secret>,
        caller: &Caller,
    ) -> Result<Meta, ApiError> {
        let state = self.member()?.local.store.state();
        let mut ops = Vec::new();
        let family = |id: &str| -> DocumentOp {
            records::delete(Collection::RefreshToken, &records::family_key(id), Expect::Any)
        };
        if let Some(claims) = &token {
            ops.extend(records::revoke(&state, &claims.jti, claims.exp, self.wall()));
            ops.extend(claims.fam.as_deref().map(family));
        }
        if let Some(refresh) = &refresh {
            let text = RefreshText::parse(refresh.expose());
            let text = text.ok_or_else(|| ApiError::invalid("refresh_token", "is none"))?;
            let stored =
                state.document(Collection::RefreshToken, &records::family_key(text.family));
            let stored = stored.and_then(records::read::<FamilyDoc>);
            if stored.is_some_and(|stored| stored.username == caller.username) {
                ops.push(family(text.family));
            }
        }
        let act = Act::new("logout", format!("user/{}", caller.username));
        let committed = self.commit(&caller.into(), ops, act).await?;
        Ok(Meta::at(committed.revision))
    }

    pub(super) async fn do_register(
        &self,
        request: LoginRequest,
        origin: &Origin,
    ) -> Result<(UserInfo, Meta), ApiError> {
        let state = self.read(ReadLevel::Linearizable).await?;
        let (settings, _) = records::settings(&state);
        let is_first = state.api_users().len() == 0;
        if !is_first && !settings.allow_registration {
            return Err(ApiError::denied("Registration is closed"));
        }
        check_name("username", &request.username)?;
        password::check_password(request.password.expose(), settings.password_min_length)
            .map_err(|message| ApiError::invalid("password", message))?;
        if state.api_user(&request.username).is_some() {
            return Err(ApiError::conflict(format!("user {} exists", request.username)));
        }
        let role = if is_first { ApiRole::admin() } else { ApiRole::new(ApiRole::VIEWER) };
        let hash = self.hasher.hash(request.password).await?;
        let user = ApiUser::new(request.username, hash, role);
        let who = Who::arriving(&user.username, "", origin);
        let act = Act::new("user.register", format!("user/{}", user.username));
        let act = act.after(user_json(&user));
        self.add_user(&who, user, act, vec![]).await
    }
}

fn new_jti() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

fn session_of(
    state: &State,
    user: &ApiUser,
    jti: String,
    now: UnixMs,
    refresh: Option<Refresh>,
) -> Session {
    let (settings, _) = records::settings(state);
    let identity = records::identity(state, user);
    Session {
        username: identity.username,
        role: identity.role,
        permissions: identity.permissions,
        generation: user.generation,
        jti,
        access_expires_at: now.as_secs() + u64::from(settings.access_token_expiry_mins) * 60,
        refresh,
        totp_setup_required: records::lacks_totp(state, user),
    }
}
