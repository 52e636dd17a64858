//! Password hashes: argon2id for new ones, bcrypt for those brought along.

use crate::service::internal;
use api::ApiError;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params};
use model::{ApiRole, ApiUser, Secret};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Hashes worked on at once: each takes a core and 19 MiB for some ten milliseconds, and what
/// serves subscribers must not wait for it.
const PARALLEL_MAX: usize = 2;
/// How long a caller waits for its turn.
const TURN_MAX: Duration = Duration::from_secs(5);
/// The longest password, in octets; more only costs time.
const PASSWORD_OCTETS_MAX: usize = 256;
/// The dearest bcrypt hash that is accepted; each step doubles the time of a login.
const BCRYPT_COST_MAX: u32 = 14;
/// The dearest argon2id hash that is accepted: KiB of memory and passes over them.
const ARGON2_KIB_MAX: u32 = 64 * 1024;
const ARGON2_PASSES_MAX: u32 = 10;
const ARGON2_LANES_MAX: u32 = 4;

fn argon2id(password: &str) -> Result<Secret, ApiError> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(internal)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(internal)?;
    Ok(Secret::new(hash.to_string()))
}

/// A user record with a fresh argon2id hash.
///
/// # Errors
/// [`ApiError::Internal`] when the hash function refuses its parameters.
pub fn hash_user(username: &str, password: &Secret) -> Result<ApiUser, ApiError> {
    Ok(ApiUser::new(username, argon2id(password.expose())?, ApiRole::admin()))
}

fn is_bcrypt(hash: &str) -> bool {
    hash.starts_with("$2")
}

fn verify(hash: &str, password: &str) -> bool {
    if is_bcrypt(hash) {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash)
        .is_ok_and(|h| Argon2::default().verify_password(password.as_bytes(), &h).is_ok())
}

/// Says what is wrong with a hash that was brought along.
pub(super) fn check_hash(hash: &str) -> Result<(), &'static str> {
    if is_bcrypt(hash) {
        let mut parts = hash.split('$').skip(1);
        let version = parts.next().is_some_and(|v| matches!(v, "2a" | "2b" | "2x" | "2y"));
        let cost = parts.next().and_then(|cost| cost.parse::<u32>().ok());
        let rest = parts.next().is_some_and(|rest| {
            rest.len() == 53
                && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
        });
        return match cost {
            Some(4..=BCRYPT_COST_MAX) if version && rest && parts.next().is_none() => Ok(()),
            Some(_) | None => Err("is no bcrypt hash with a cost of 4 to 14"),
        };
    }
    let wrong = "is no bcrypt or argon2id hash";
    let parsed = PasswordHash::new(hash).map_err(|_| wrong)?;
    if parsed.algorithm != Algorithm::Argon2id.ident() || parsed.hash.is_none() {
        return Err(wrong);
    }
    let params = Params::try_from(&parsed).map_err(|_| wrong)?;
    let cheap = params.m_cost() <= ARGON2_KIB_MAX
        && params.t_cost() <= ARGON2_PASSES_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    if cheap { Ok(()) } else { Err("takes too long to check: at most 64 MiB, 10 passes, 4 lanes") }
}

/// Says what is wrong with a new password.
pub(super) fn check_password(password: &str, length_min: u32) -> Result<(), String> {
    let length = u32::try_from(password.chars().count()).unwrap_or(u32::MAX);
    if length < length_min {
        return Err(format!("has fewer than {length_min} characters"));
    }
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(format!("has more than {PASSWORD_OCTETS_MAX} octets"));
    }
    Ok(())
}

/// Checked when there is no such user, so that both refusals take the same time.
static NOBODY: LazyLock<Secret> =
    LazyLock::new(|| argon2id("no such user").unwrap_or_else(|_| Secret::new("")));

/// Hashes off the asynchronous threads, a few at a time.
pub(crate) struct Hasher {
    turns: Semaphore,
}

impl Hasher {
    pub(crate) fn new() -> Self {
        Self { turns: Semaphore::new(PARALLEL_MAX) }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = tokio::time::timeout(TURN_MAX, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(ApiError::Overloaded { retry_after_s: 1 }) };
        tokio::task::spawn_blocking(work).await.map_err(internal)
    }

    /// A new argon2id hash.
    pub(super) async fn hash(&self, password: Secret) -> Result<Secret, ApiError> {
        self.run(move || argon2id(password.expose())).await?
    }

    /// Whether the password is that of the hash; with none, no, after the same time.
    pub(super) async fn verify(
        &self,
        hash: Option<Secret>,
        password: Secret,
    ) -> Result<bool, ApiError> {
        self.run(move || {
            let known = hash.is_some() && password.expose().len() <= PASSWORD_OCTETS_MAX;
            let hash = hash.filter(|_| known).unwrap_or_else(|| NOBODY.clone());
            verify(hash.expose(), password.expose()) && known
        })
        .await
    }
}

/// Whether a right password should be hashed anew: bcrypt takes another time than argon2id, and
/// would tell that the name exists.
pub(super) fn is_old(hash: &Secret) -> bool {
    is_bcrypt(hash.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_made_here_verifies_and_another_password_does_not() {
        let user = hash_user("admin", &Secret::new("changeme")).unwrap();
        let hash = user.password_hash.expose();
        assert!(hash.starts_with("$argon2id$"));
        assert!(verify(hash, "changeme") && !verify(hash, "changem"));
        assert_eq!(check_hash(hash), Ok(()));
    }

    #[test]
    fn a_bcrypt_hash_brought_along_verifies() {
        let hash = bcrypt::hash("changeme", 4).unwrap();
        assert!(verify(&hash, "changeme") && !verify(&hash, "other"));
        assert_eq!(check_hash(&hash), Ok(()));
        assert!(is_old(&Secret::new(hash)));
    }

    #[test]
    fn a_hash_that_is_none_or_takes_too_long_is_refused() {
        let good = bcrypt::hash("changeme", 4).unwrap();
        let dear = argon2::password_hash::PasswordHashString::new(
            "$argon2id$v=19$m=1048576,t=9,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b27fCg8dNkH9dg7M6IKu4nAX1E",
        );
        let rows = [
            String::new(),
            "changeme".to_owned(),
            "$1$abc$def".to_owned(),
            good.replacen("$04$", "$31$", 1),
            good.replacen("$2b$", "$2q$", 1),
            good[..good.len() - 1].to_owned(),
            format!("{good}$x"),
            dear.unwrap().to_string(),
            "$argon2i$v=19$m=16,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b27fA".to_owned(),
            "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ".to_owned(),
        ];
        for hash in rows {
            assert!(check_hash(&hash).is_err(), "{hash}");
        }
    }

    #[test]
    fn a_password_has_its_bounds() {
        assert!(check_password("1234567", 8).is_err());
        assert!(check_password("ääääääää", 8).is_ok());
        assert!(check_password(&"x".repeat(257), 8).is_err());
    }

    #[tokio::test]
    async fn an_unknown_user_is_checked_against_something_and_refused() {
        let hasher = Hasher::new();
        let password = Secret::new("no such user");
        assert_eq!(hasher.verify(None, password.clone()).await, Ok(false));
        let hash = hasher.hash(password.clone()).await.unwrap();
        assert_eq!(hasher.verify(Some(hash.clone()), password).await, Ok(true));
        let long = Secret::new("x".repeat(257));
        assert_eq!(hasher.verify(Some(hash), long).await, Ok(false));
    }
}
