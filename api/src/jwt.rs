//! Access tokens and login challenges: JWT (RFC 7519) signed with HS256, nothing else accepted.

use crate::error::ApiError;
use crate::service::Session;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{ApiRole, ClusterId, Secret, UnixMs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How long a challenge of the first login step is good, in seconds.
const CHALLENGE_LIFETIME_S: u64 = 300;
/// How far into the future a token may have been made, in seconds: clocks of nodes differ a little.
const SKEW_S: u64 = 60;
/// The longest token that is looked at, in octets.
const OCTETS_MAX: usize = 4096;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Id of the user, which is its login name.
    pub sub: String,
    /// Login name.
    pub username: String,
    /// The role when the token was made. What the caller may do is looked up at each use.
    pub role: ApiRole,
    /// The permissions when the token was made, one bit each, for user interfaces.
    pub perm: u64,
    /// The user's generation when the token was made.
    #[serde(rename = "gen")]
    pub generation: u64,
    /// Id of the token.
    pub jti: String,
    /// The family of refresh tokens that it belongs to, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fam: Option<String>,
    /// Expires, in seconds since 1970.
    pub exp: u64,
    /// Made, in seconds since 1970.
    pub iat: u64,
    /// The cluster that made it.
    pub iss: String,
}

/// Says that a password was right and a code is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    /// Login name.
    pub(crate) sub: String,
    /// The user's generation when the password was checked.
    #[serde(rename = "gen")]
    pub(crate) generation: u64,
    /// Expires, in seconds since 1970.
    pub(crate) exp: u64,
    /// The cluster that made it, with a mark that makes it no access token.
    pub(crate) iss: String,
}

fn challenge_issuer(iss: &ClusterId) -> String {
    format!("{iss}#code")
}

fn encode<C: Serialize>(claims: &C, key: &Secret) -> Result<Secret, ApiError> {
    let key = EncodingKey::from_secret(key.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
        .map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(Secret::new(token))
}

fn decode<C: DeserializeOwned>(token: &str, iss: &str, key: &Secret) -> Result<C, ApiError> {
    if token.len() > OCTETS_MAX {
        return Err(ApiError::Unauthorized);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation.set_issuer(&[iss]);
    // The library would read the machine's clock; the caller compares with the time it is given.
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(key.expose().as_bytes());
    let data = jsonwebtoken::decode::<C>(token, &key, &validation);
    data.map(|data| data.claims).map_err(|_| ApiError::Unauthorized)
}

/// Signs the access token of a session.
pub(crate) fn sign(
    session: &Session,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<(Secret, Claims), ApiError> {
    let claims = Claims {
        sub: session.username.clone(),
        username: session.username.clone(),
        role: session.role.clone(),
        perm: session.permissions.bits(),
        generation: session.generation,
        jti: session.jti.clone(),
        fam: session.refresh.as_ref().map(|refresh| refresh.family.clone()),
        exp: session.access_expires_at,
        iat: now.as_secs(),
        iss: iss.0.clone(),
    };
    Ok((encode(&claims, key)?, claims))
}

/// Reads an access token of this cluster that has not expired.
pub(crate) fn verify(
    token: &str,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<Claims, ApiError> {
    let claims: Claims = decode(token, &iss.0, key)?;
    let now_s = now.as_secs();
    if claims.exp <= now_s || claims.iat > now_s.saturating_add(SKEW_S) {
        return Err(ApiError::Unauthorized);
    }
    Ok(claims)
}

/// Signs the answer to a right password of a user with a second factor.
pub(crate) fn sign_challenge(
    username: &str,
    generation: u64,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<Secret, ApiError> {
    let challenge = Challenge {
        sub: username.to_owned(),
        generation,
        exp: now.as_secs() + CHALLENGE_LIFETIME_S,
        iss: challenge_issuer(iss),
    };
    encode(&challenge, key)
}

/// Reads a challenge of this cluster that has not expired.
pub(crate) fn verify_challenge(
    token: &str,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<Challenge, ApiError> {
    let challenge: Challenge = decode(token, &challenge_issuer(iss), key)?;
    if challenge.exp <= now.as_secs() {
        return Err(ApiError::Unauthorized);
    }
    Ok(challenge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::{Permission, PermissionSet};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);
    const LIFETIME_S: u64 = 3600;

    fn ids() -> (ClusterId, Secret) {
        (ClusterId("c1".into()), Secret::new("k".repeat(64)))
    }

    fn session() -> Session {
        Session {
            username: "ann".into(),
            role: ApiRole::operator(),
            permissions: [Permission::DnsRead].into_iter().collect::<PermissionSet>(),
            generation: 7,
            jti: "j1".into(),
            access_expires_at: NOW.as_secs() + LIFETIME_S,
            refresh: None,
            totp_setup_required: false,
        }
    }

    #[test]
    fn a_token_is_good_for_its_time_on_its_cluster_only() {
        let (iss, key) = ids();
        let (token, claims) = sign(&session(), &iss, NOW, &key).unwrap();
        let other = ClusterId("c2".into());
        let wrong = Secret::new("x".repeat(64));
        let rows: &[(&str, &ClusterId, UnixMs, &Secret, bool)] = &[
            ("at once", &iss, NOW, &key, true),
            ("a second before the end", &iss, NOW.plus_secs(LIFETIME_S - 1), &key, true),
            ("at the end", &iss, NOW.plus_secs(LIFETIME_S), &key, false),
            ("a node a minute behind", &iss, UnixMs(NOW.0 - 60_000), &key, true),
            ("from the future", &iss, UnixMs(NOW.0 - 61_000), &key, false),
            ("another cluster", &other, NOW, &key, false),
            ("another key", &iss, NOW, &wrong, false),
        ];
        for (row, iss, now, key, good) in rows {
            let got = verify(token.expose(), iss, *now, key);
            let want = if *good { Ok(claims.clone()) } else { Err(ApiError::Unauthorized) };
            assert_eq!(got, want, "{row}");
        }
    }

    #[test]
    fn a_token_has_the_claims_that_others_read() {
        let (iss, key) = ids();
        let (token, _) = sign(&session(), &iss, NOW, &key).unwrap();
        let body = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1).unwrap()).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let want = serde_json::json!({
            "sub": "ann", "username": "ann", "role": "operator", "perm": 1 << 11, "gen": 7,
            "jti": "j1", "exp": 1_700_003_600, "iat": 1_700_000_000, "iss": "c1",
        });
        assert_eq!(body, want);
    }

    #[test]
    fn a_token_whose_role_was_changed_is_refused() {
        let (iss, key) = ids();
        let (token, claims) = sign(&session(), &iss, NOW, &key).unwrap();
        let mut parts: Vec<String> = token.expose().split('.').map(str::to_owned).collect();
        let forged = Claims { role: ApiRole::admin(), ..claims };
        parts[1] = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
        assert_eq!(verify(&parts.join("."), &iss, NOW, &key), Err(ApiError::Unauthorized));
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let (iss, key) = ids();
        let (token, _) = sign(&session(), &iss, NOW, &key).unwrap();
        let body = token.expose().split('.').nth(1).unwrap().to_owned();
        for header in [r#"{"alg":"none","typ":"JWT"}"#, r#"{"alg":"HS512","typ":"JWT"}"#] {
            let header = URL_SAFE_NO_PAD.encode(header);
            for signature in ["", token.expose().rsplit('.').next().unwrap()] {
                let forged = format!("{header}.{body}.{signature}");
                assert_eq!(verify(&forged, &iss, NOW, &key), Err(ApiError::Unauthorized));
            }
        }
        for junk in ["", ".", "..", "a.b.c", &"a".repeat(5000)] {
            assert_eq!(verify(junk, &iss, NOW, &key), Err(ApiError::Unauthorized), "{junk:?}");
        }
    }

    #[test]
    fn a_challenge_is_no_access_token_and_the_other_way_round() {
        let (iss, key) = ids();
        let challenge = sign_challenge("ann", 7, &iss, NOW, &key).unwrap();
        let (token, _) = sign(&session(), &iss, NOW, &key).unwrap();
        let (challenge, token) = (challenge.expose(), token.expose());
        let read = verify_challenge(challenge, &iss, NOW, &key).unwrap();
        assert_eq!((read.sub.as_str(), read.generation), ("ann", 7));
        assert!(verify(challenge, &iss, NOW, &key).is_err());
        assert!(verify_challenge(token, &iss, NOW, &key).is_err());
        let late = NOW.plus_secs(CHALLENGE_LIFETIME_S);
        assert!(verify_challenge(challenge, &iss, late, &key).is_err());
    }
}
