//! The second factor: one-time passwords (RFC 6238) and recovery codes.

use crate::service::internal;
use api::ApiError;
use model::{Secret, Totp, UnixMs};
use sha2::{Digest as _, Sha256};
use totp_rs::{Algorithm, Secret as Key, TOTP};

/// A new code comes every so many seconds.
const STEP_S: u64 = 30;
/// Steps before and after the present one whose codes are accepted: clocks differ (RFC 6238 §5.2).
const STEPS_AROUND: u64 = 1;
/// Recovery codes of a new second factor.
const RECOVERY_CODES: usize = 8;

/// A new second factor with what only its user may see.
pub(super) struct New {
    pub(super) totp: Totp,
    pub(super) secret: Secret,
    pub(super) uri: Secret,
    pub(super) recovery_codes: Vec<Secret>,
}

fn engine(secret: &Secret) -> Result<TOTP, ApiError> {
    let key = Key::Encoded(secret.expose().to_owned()).to_bytes().map_err(internal)?;
    TOTP::new(Algorithm::SHA1, 6, 0, STEP_S, key).map_err(internal)
}

fn digest(code: &str) -> Secret {
    Secret::new(hex::encode(Sha256::digest(code.to_ascii_lowercase())))
}

/// Percent-encodes what may not stand in a path or query as it is (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Makes a second factor of 20 random octets for its key (RFC 4226 §4) and 64 for the recovery
/// codes.
pub(super) fn new(username: &str, issuer: &str, key: [u8; 20], codes: [u8; 64]) -> New {
    let secret = match Key::Raw(key.to_vec()).to_encoded() {
        Key::Encoded(text) => Secret::new(text),
        Key::Raw(_) => Secret::new(""),
    };
    let codes = codes.as_chunks::<8>().0.iter().take(RECOVERY_CODES);
    let recovery_codes: Vec<_> = codes.map(|code| Secret::new(hex::encode(code))).collect();
    let (issuer, username) = (encode(issuer), encode(username));
    let uri = format!(
        "otpauth://totp/{issuer}:{username}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period={STEP_S}",
        secret.expose()
    );
    let recovery = recovery_codes.iter().map(|code| digest(code.expose())).collect();
    let totp = Totp { secret: secret.clone(), active: false, last_step: 0, recovery };
    New { totp, secret, uri: Secret::new(uri), recovery_codes }
}

/// What is left of the second factor when `code` was accepted: neither a code nor a recovery code
/// is good twice.
///
/// # Errors
/// [`ApiError::BadCode`].
pub(super) fn accept(totp: &Totp, code: &str, now: UnixMs) -> Result<Totp, ApiError> {
    let code = code.trim();
    if code.len() == 6 {
        let engine = engine(&totp.secret)?;
        let step = now.as_secs() / STEP_S;
        let first = step.saturating_sub(STEPS_AROUND).max(totp.last_step.saturating_add(1));
        let found = (first..=step.saturating_add(STEPS_AROUND))
            .find(|step| digest(&engine.generate(step * STEP_S)) == digest(code));
        let last_step = found.ok_or(ApiError::BadCode)?;
        return Ok(Totp { last_step, ..totp.clone() });
    }
    let code = digest(code);
    if !totp.active || !totp.recovery.contains(&code) {
        return Err(ApiError::BadCode);
    }
    let recovery = totp.recovery.iter().filter(|left| **left != code).cloned().collect();
    Ok(Totp { recovery, ..totp.clone() })
}

#[cfg(test)]
pub(super) fn code_at(secret: &str, now: UnixMs) -> String {
    engine(&Secret::new(secret)).unwrap().generate(now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor() -> New {
        new("ann b", "bng:south", *b"12345678901234567890", [7; 64])
    }

    #[test]
    fn the_codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        let secret = factor().secret;
        for (at_s, want) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
        ] {
            assert_eq!(code_at(secret.expose(), UnixMs(at_s * 1000)), want, "{at_s}");
        }
    }

    #[test]
    fn a_code_is_good_around_its_time_and_once() {
        let at = |s: u64| UnixMs(s * 1000);
        let factor = factor().totp;
        let code = code_at(factor.secret.expose(), at(3000));
        for (now_s, good) in
            [(2969, false), (2970, true), (3000, true), (3059, true), (3060, false)]
        {
            assert_eq!(accept(&factor, &code, at(now_s)).is_ok(), good, "{now_s}");
        }
        let used = accept(&factor, &code, at(3000)).unwrap();
        assert_eq!(accept(&used, &code, at(3001)), Err(ApiError::BadCode));
        let before = code_at(factor.secret.expose(), at(2970));
        assert_eq!(accept(&used, &before, at(3001)), Err(ApiError::BadCode), "an older step");
        let next = code_at(factor.secret.expose(), at(3030));
        assert!(accept(&used, &next, at(3001)).is_ok());
        for wrong in ["", "00000", "0000000", "abcdef", "      "] {
            assert!(accept(&used, wrong, at(3001)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_recovery_code_is_good_once_and_only_for_a_factor_that_is_on() {
        let New { totp, recovery_codes, .. } =
            new("ann", "t", [1; 20], std::array::from_fn(|i| u8::try_from(i).unwrap()));
        assert_eq!(recovery_codes.len(), RECOVERY_CODES);
        let code = recovery_codes[3].expose().to_uppercase();
        assert_eq!(accept(&totp, &code, UnixMs(0)), Err(ApiError::BadCode));
        let active = Totp { active: true, ..totp };
        let left = accept(&active, &code, UnixMs(0)).unwrap();
        assert_eq!(left.recovery.len(), RECOVERY_CODES - 1);
        assert_eq!(accept(&left, &code, UnixMs(0)), Err(ApiError::BadCode));
        assert!(accept(&left, recovery_codes[4].expose(), UnixMs(0)).is_ok());
    }

    #[test]
    fn the_uri_is_one_that_authenticators_read() {
        let want = "otpauth://totp/bng%3Asouth:ann%20b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=bng%3Asouth&algorithm=SHA1&digits=6&period=30";
        assert_eq!(factor().uri.expose(), want);
    }
}
