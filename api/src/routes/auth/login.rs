use crate::error::ApiError;
use crate::extract::{Body, Flat, Message, OptionalBody, Tagged, TokenOf};
use crate::jwt;
use crate::lockout::{Limits, Outcome};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, FirstStep, LoginOutcome, Meta, Origin, Service, Session};
use crate::types::{
    AuthSettings, ChallengeAnswer, Envelope, ErrorBody, LoginAnswer, LoginRequest, LogoutRequest,
    MessageAnswer, RefreshRequest, RegisterRequest, TokenAnswer, TokenPair, TotpLoginRequest,
    UserInfo,
};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use model::{ClusterId, Secret};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use utoipa::OpenApi;

fn limits(settings: &AuthSettings) -> Limits {
    Limits {
        failures_max: settings.max_login_attempts,
        lock: Duration::from_secs(settings.lockout_duration_secs.into()),
    }
}

/// An attempt that counts as failed unless its outcome is told: also when its caller goes away.
pub(super) struct Attempt<'a, S: Service> {
    shared: &'a Shared<S>,
    name: String,
    origin: Origin,
    outcome: Outcome,
}

impl<'a, S: Service> Attempt<'a, S> {
    /// Notes an attempt, unless the name or the address is locked.
    pub(super) fn begin(
        shared: &'a Shared<S>,
        name: &str,
        origin: &Origin,
    ) -> Result<Self, ApiError> {
        let limits = limits(&shared.service.auth_settings());
        let now = shared.service.tick();
        let mut lockout = shared.lockout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = lockout.wait(name, origin.address, now, limits) {
            let retry_after_s = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
            let address = origin.address.map(tracing::field::display);
            tracing::warn!(
                event = "TANDEM-LOGIN-LOCKED",
                user = name,
                address,
                retry_after_s,
                "too many failed logins"
            );
            shared.counters.logins_locked.add();
            return Err(ApiError::LockedOut { retry_after_s });
        }
        lockout.attempt(name, origin.address, now, limits);
        let (name, origin) = (name.to_owned(), origin.clone());
        Ok(Self { shared, name, origin, outcome: Outcome::Failed })
    }

    /// Notes what the answer says of the attempt.
    pub(super) fn settle<T>(mut self, answer: Result<T, ApiError>) -> Result<T, ApiError> {
        self.outcome = match &answer {
            Ok(_) => {
                self.shared.counters.logins_succeeded.add();
                Outcome::Succeeded
            }
            Err(ApiError::BadCredentials | ApiError::BadCode) => {
                self.shared.counters.logins_failed.add();
                let address = self.origin.address.map(tracing::field::display);
                tracing::info!(
                    event = "TANDEM-LOGIN-FAILED",
                    user = self.name,
                    address,
                    "wrong name, password or code"
                );
                Outcome::Failed
            }
            Err(_) => Outcome::Excused,
        };
        answer
    }

    /// The first of two steps was right: the attempt neither counts nor clears what counts.
    fn half_way(mut self) {
        self.outcome = Outcome::Excused;
    }
}

impl<S: Service> Drop for Attempt<'_, S> {
    fn drop(&mut self) {
        let now = self.shared.service.tick();
        let mut lockout = self.shared.lockout.lock().unwrap_or_else(PoisonError::into_inner);
        lockout.settle(&self.name, self.origin.address, now, self.outcome);
    }
}

fn keys<S: Service>(shared: &Shared<S>) -> Result<(Secret, ClusterId), ApiError> {
    let (key, iss) = (shared.service.jwt_secret(), shared.service.cluster_id());
    key.zip(iss).ok_or(ApiError::NotInitialised)
}

fn tokens<S: Service>(shared: &Shared<S>, session: &Session) -> Result<TokenAnswer, ApiError> {
    let (key, iss) = keys(shared)?;
    let now = shared.service.now();
    let (access_token, claims) = jwt::sign(session, &iss, now, &key)?;
    let refresh = session.refresh.as_ref();
    let token_type = "bearer".to_owned();
    let pair = TokenPair {
        access_token,
        refresh_token: refresh.map(|r| r.token.clone()),
        access_expires_at: claims.exp,
        refresh_expires_at: refresh.map(|r| r.expires_at),
        token_type: token_type.clone(),
    };
    Ok(TokenAnswer {
        access_token: pair.access_token.clone(),
        token_type,
        expires_in: claims.exp.saturating_sub(now.as_secs()),
        access_expires_at: pair.access_expires_at,
        refresh_token: pair.refresh_token.clone(),
        refresh_expires_at: pair.refresh_expires_at,
        role: session.role.clone(),
        totp_required: false,
        totp_setup_required: session.totp_setup_required,
        tokens: Some(pair),
    })
}

/// Log in
///
/// Gives an access token that is good on every node, and a refresh token. A user with a second
/// factor gets a challenge instead. The answer is not enveloped. After five failures for one name
/// or from one address, further attempts are refused for five minutes; the settings change both.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth",
    request_body = LoginRequest,
    responses(
        (status = 200, description = "Tokens, or the wish for a code", body = LoginAnswer),
        (status = 401, description = "Wrong name or password", body = ErrorBody),
        (status = 429, description = "Too many failed logins", body = ErrorBody),
    ),
)]
pub(crate) async fn login<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    origin: Origin,
    Body(request): Body<LoginRequest>,
) -> Result<Flat<LoginAnswer>, ApiError> {
    let (key, iss) = keys(&shared)?;
    let attempt = Attempt::begin(&shared, &request.username, &origin)?;
    let answer = match shared.service.login(request, origin).await {
        Ok(LoginOutcome::CodeNeeded { username, generation }) => {
            attempt.half_way();
            let now = shared.service.now();
            let challenge = jwt::sign_challenge(&username, generation, &iss, now, &key)?;
            LoginAnswer::Challenge(ChallengeAnswer { totp_required: true, tokens: None, challenge })
        }
        Ok(LoginOutcome::Session(session)) => {
            attempt.settle(Ok(()))?;
            LoginAnswer::Tokens(Box::new(tokens(&shared, &session)?))
        }
        Err(error) => return attempt.settle(Err(error)),
    };
    Ok(Flat(answer, Meta::default()))
}

/// Log in with a code
///
/// The second step for users with a second factor: challenge and code, or name, password and code
/// at once. A recovery code is accepted too. Each code is good once.
#[utoipa::path(
    post, path = "/api/v1/auth/totp/login", tag = "auth",
    request_body = TotpLoginRequest,
    responses(
        (status = 200, description = "Tokens", body = TokenAnswer),
        (status = 401, description = "Wrong challenge, password or code", body = ErrorBody),
        (status = 429, description = "Too many failed logins", body = ErrorBody),
    ),
)]
pub(crate) async fn totp_login<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    origin: Origin,
    Body(request): Body<TotpLoginRequest>,
) -> Result<Flat<TokenAnswer>, ApiError> {
    let (key, iss) = keys(&shared)?;
    let TotpLoginRequest { challenge, code, username, password, totp_code } = request;
    let code = code.or(totp_code).ok_or_else(|| ApiError::invalid("code", "is missing"))?;
    let first = match (challenge, username, password) {
        (Some(challenge), None, None) => {
            let now = shared.service.now();
            let read = jwt::verify_challenge(challenge.expose(), &iss, now, &key)?;
            FirstStep::Challenge { username: read.sub, generation: read.generation }
        }
        (None, Some(username), Some(password)) => {
            FirstStep::Password(LoginRequest { username, password })
        }
        (Some(_), _, _) | (None, _, _) => {
            let message = "give either challenge, or username and password";
            return Err(ApiError::invalid("challenge", message));
        }
    };
    let attempt = Attempt::begin(&shared, first.username(), &origin)?;
    let session = attempt.settle(shared.service.totp_login(first, code, origin).await)?;
    Ok(Flat(tokens(&shared, &session)?, Meta::default()))
}

/// Exchange a refresh token
///
/// Gives a new pair; the old refresh token is spent. One that is used a second time ends all tokens
/// that came from the same login, because one of its two users is a thief. A repetition within ten
/// seconds, as after a lost answer, gets the same refresh token again.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "auth",
    request_body = RefreshRequest,
    responses(
        (status = 200, description = "Tokens", body = TokenAnswer),
        (status = 401, description = "Unknown, spent or expired", body = ErrorBody),
    ),
)]
pub(crate) async fn refresh<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    origin: Origin,
    Body(request): Body<RefreshRequest>,
) -> Result<Flat<TokenAnswer>, ApiError> {
    keys(&shared)?;
    let session = shared.service.refresh(request.refresh_token, origin).await?;
    Ok(Flat(tokens(&shared, &session)?, Meta::default()))
}

/// Log out
///
/// The access token that asks and all refresh tokens of its login are worth nothing from now on.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    request_body(content = Option<LogoutRequest>, description = "May be left off"),
    responses((status = 200, description = "Logged out", body = MessageAnswer)),
    security(("jwt" = [])),
)]
pub(crate) async fn logout<S: Service>(
    caller: Caller,
    TokenOf(claims): TokenOf,
    State(shared): State<Arc<Shared<S>>>,
    OptionalBody(request): OptionalBody<LogoutRequest>,
) -> Result<Message, ApiError> {
    let meta = shared.service.logout(claims, request.refresh_token, caller).await?;
    Ok(Message("Logged out", meta))
}

/// Register
///
/// For everybody, if the settings allow it; the new user has the role `viewer`. While there is no
/// user at all, the first one becomes an administrator.
#[utoipa::path(
    post, path = "/api/v1/auth/register", tag = "auth",
    request_body = RegisterRequest,
    responses(
        (status = 201, description = "The new user", body = Envelope<UserInfo>),
        (status = 403, description = "Registration is closed", body = ErrorBody),
        (status = 409, description = "The name is taken", body = ErrorBody),
        (status = 429, description = "Too many registrations", body = ErrorBody),
    ),
)]
pub(crate) async fn register<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    origin: Origin,
    Body(request): Body<RegisterRequest>,
) -> Result<Response, ApiError> {
    keys(&shared)?;
    let RegisterRequest { username, password } = request;
    // It stays counted as a failure, so that an address registers a few users only.
    let attempt = Attempt::begin(&shared, &username, &origin)?;
    let request = LoginRequest { username, password };
    match shared.service.register(request, origin).await {
        Ok((user, meta)) => {
            let revision = user.revision;
            Ok((StatusCode::CREATED, Tagged(user, meta, revision)).into_response())
        }
        Err(error) => attempt.settle(Err(error)),
    }
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/auth/login", post(login::<S>))
        .route("/api/v1/auth/totp/login", post(totp_login::<S>))
        .route("/api/v1/auth/refresh", post(refresh::<S>))
        .route("/api/v1/auth/logout", post(logout::<S>))
        .route("/api/v1/auth/register", post(register::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(login, totp_login, refresh, logout, register))]
pub(crate) struct Documented;
