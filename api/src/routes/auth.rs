use crate::error::ApiError;
use crate::extract::{Body, Peer};
use crate::jwt;
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::Service;
use crate::types::{LoginRequest, TokenAnswer};
use axum::Json;
use axum::extract::State;
use axum::routing::post;
use std::sync::{Arc, PoisonError};
use utoipa::OpenApi;

/// Log in
///
/// Gives a token that is good for one hour on every node. The answer is not enveloped. After five
/// wrong passwords for one name from one address, further attempts are refused for a while.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth",
    request_body = LoginRequest,
    responses(
        (status = 200, description = "A token", body = TokenAnswer),
        (status = 429, description = "Too many failed logins", body = crate::types::ErrorBody),
    ),
)]
pub(crate) async fn login<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Peer(peer): Peer,
    Body(request): Body<LoginRequest>,
) -> Result<Json<TokenAnswer>, ApiError> {
    let service = &shared.service;
    let (Some(key), Some(iss)) = (service.jwt_secret(), service.cluster_id()) else {
        return Err(ApiError::NotInitialised);
    };
    let name = request.username.clone();
    let lockout = || shared.lockout.lock().unwrap_or_else(PoisonError::into_inner);
    {
        let now = service.tick();
        let mut lockout = lockout();
        if let Some(wait) = lockout.wait(&name, peer, now) {
            let retry_after_s = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
            return Err(ApiError::LockedOut { retry_after_s });
        }
        lockout.attempt(&name, peer, now);
    }
    let login = match service.login(request).await {
        Ok(login) => login,
        Err(ApiError::BadCredentials) => return Err(ApiError::BadCredentials),
        Err(other) => {
            lockout().excuse(&name, peer);
            return Err(other);
        }
    };
    lockout().forget(&name, peer);
    let (access_token, claims) = jwt::sign(&login.username, login.role, &iss, service.now(), &key)?;
    Ok(Json(TokenAnswer {
        access_token,
        token_type: "bearer".to_owned(),
        expires_in: jwt::LIFETIME_S,
        access_expires_at: claims.exp,
        role: login.role,
        totp_required: false,
    }))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new().route("/api/v1/auth/login", post(login::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(login))]
pub(crate) struct Documented;
