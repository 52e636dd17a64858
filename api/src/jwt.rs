//! Access tokens: JWT (RFC 7519) signed with HS256, nothing else accepted.

use crate::error::ApiError;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::{ApiRole, ClusterId, Secret, UnixMs};
use serde::{Deserialize, Serialize};

/// How long a token is good, in seconds.
pub(crate) const LIFETIME_S: u64 = 3600;
/// How far into the future a token may have been made, in seconds: nodes that have not applied the
/// newest entry are a little behind the one that signed.
const SKEW_S: u64 = 60;
/// The longest token that is looked at, in octets.
const OCTETS_MAX: usize = 4096;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Login name.
    pub(crate) sub: String,
    /// What the caller may do.
    pub(crate) role: ApiRole,
    /// Expires, in seconds since 1970.
    pub(crate) exp: u64,
    /// Made, in seconds since 1970.
    pub(crate) iat: u64,
    /// The cluster that made it.
    pub(crate) iss: String,
}

/// Signs a token for `sub`.
pub(crate) fn sign(
    sub: &str,
    role: ApiRole,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<(Secret, Claims), ApiError> {
    let iat = now.as_secs();
    let claims =
        Claims { sub: sub.to_owned(), role, exp: iat + LIFETIME_S, iat, iss: iss.0.clone() };
    let key = EncodingKey::from_secret(key.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|e| ApiError::internal(e.to_string()))?;
    Ok((Secret::new(token), claims))
}

/// Reads a token of this cluster that has not expired.
pub(crate) fn verify(
    token: &str,
    iss: &ClusterId,
    now: UnixMs,
    key: &Secret,
) -> Result<Claims, ApiError> {
    if token.len() > OCTETS_MAX {
        return Err(ApiError::Unauthorized);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "iss", "sub"]);
    validation.set_issuer(&[&iss.0]);
    // The library would read the machine's clock; tokens live in replicated time.
    validation.validate_exp = false;
    let key = DecodingKey::from_secret(key.expose().as_bytes());
    let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map_err(|_| ApiError::Unauthorized)?
        .claims;
    let now_s = now.as_secs();
    if claims.exp <= now_s || claims.iat > now_s + SKEW_S {
        return Err(ApiError::Unauthorized);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn ids() -> (ClusterId, Secret) {
        (ClusterId("c1".into()), Secret::new("k".repeat(64)))
    }

    #[test]
    fn a_token_is_good_for_an_hour_on_its_cluster_only() {
        let (iss, key) = ids();
        let (token, claims) = sign("ann", ApiRole::Operator, &iss, NOW, &key).unwrap();
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
    fn a_token_whose_role_was_changed_is_refused() {
        let (iss, key) = ids();
        let (token, claims) = sign("ann", ApiRole::Operator, &iss, NOW, &key).unwrap();
        let mut parts: Vec<String> = token.expose().split('.').map(str::to_owned).collect();
        let forged = Claims { role: ApiRole::Admin, ..claims };
        parts[1] = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&forged).unwrap());
        assert_eq!(verify(&parts.join("."), &iss, NOW, &key), Err(ApiError::Unauthorized));
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        let (iss, key) = ids();
        let (token, _) = sign("ann", ApiRole::Admin, &iss, NOW, &key).unwrap();
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
}
