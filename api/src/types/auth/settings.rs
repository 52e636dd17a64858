use crate::types::FieldError;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// Settings of logins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AuthSettings {
    /// Minutes until an access token expires, 1 to 1440.
    pub access_token_expiry_mins: u32,
    /// Days until a refresh token that is not used expires, 1 to 365.
    pub refresh_token_expiry_days: u32,
    /// Users without a second factor can only set one up.
    pub require_totp: bool,
    /// Always false: there are no other providers.
    pub require_totp_for_oauth: bool,
    /// Always false: there are no other providers.
    pub auto_create_oauth_users: bool,
    /// Failures that are free, 1 to 100, for each client address and each user name.
    pub max_login_attempts: u32,
    /// Seconds until failures are forgotten, 10 to 86400.
    pub lockout_duration_secs: u32,
    /// Whether anybody may register and gets the role `viewer`.
    pub allow_registration: bool,
    /// Characters of a password, 8 to 64.
    pub password_min_length: u32,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            access_token_expiry_mins: 60,
            refresh_token_expiry_days: 30,
            require_totp: false,
            require_totp_for_oauth: false,
            auto_create_oauth_users: false,
            max_login_attempts: 5,
            lockout_duration_secs: 300,
            allow_registration: false,
            password_min_length: 8,
        }
    }
}

/// A change of the settings of logins; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthSettingsUpdate {
    /// See [`AuthSettings::access_token_expiry_mins`].
    pub access_token_expiry_mins: Option<u32>,
    /// See [`AuthSettings::refresh_token_expiry_days`].
    pub refresh_token_expiry_days: Option<u32>,
    /// See [`AuthSettings::require_totp`].
    pub require_totp: Option<bool>,
    /// Only `false` is accepted.
    pub require_totp_for_oauth: Option<bool>,
    /// Only `false` is accepted.
    pub auto_create_oauth_users: Option<bool>,
    /// See [`AuthSettings::max_login_attempts`].
    pub max_login_attempts: Option<u32>,
    /// See [`AuthSettings::lockout_duration_secs`].
    pub lockout_duration_secs: Option<u32>,
    /// See [`AuthSettings::allow_registration`].
    pub allow_registration: Option<bool>,
    /// See [`AuthSettings::password_min_length`].
    pub password_min_length: Option<u32>,
}

impl AuthSettingsUpdate {
    /// The settings with this change.
    ///
    /// # Errors
    /// Everything that is out of bounds.
    pub fn apply(&self, old: &AuthSettings) -> Result<AuthSettings, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut bounded = |name: &str, new: Option<u32>, old: u32, range: RangeInclusive<u32>| {
            let value = new.unwrap_or(old);
            if new.is_some() && !range.contains(&value) {
                let message = format!("must be {} to {}", range.start(), range.end());
                errors.push(FieldError::new(name, message));
            }
            value
        };
        let new = AuthSettings {
            access_token_expiry_mins: bounded(
                "access_token_expiry_mins",
                self.access_token_expiry_mins,
                old.access_token_expiry_mins,
                1..=1440,
            ),
            refresh_token_expiry_days: bounded(
                "refresh_token_expiry_days",
                self.refresh_token_expiry_days,
                old.refresh_token_expiry_days,
                1..=365,
            ),
            max_login_attempts: bounded(
                "max_login_attempts",
                self.max_login_attempts,
                old.max_login_attempts,
                1..=100,
            ),
            lockout_duration_secs: bounded(
                "lockout_duration_secs",
                self.lockout_duration_secs,
                old.lockout_duration_secs,
                10..=86_400,
            ),
            password_min_length: bounded(
                "password_min_length",
                self.password_min_length,
                old.password_min_length,
                8..=64,
            ),
            require_totp: self.require_totp.unwrap_or(old.require_totp),
            allow_registration: self.allow_registration.unwrap_or(old.allow_registration),
            require_totp_for_oauth: false,
            auto_create_oauth_users: false,
        };
        for (name, wish) in [
            ("require_totp_for_oauth", self.require_totp_for_oauth),
            ("auto_create_oauth_users", self.auto_create_oauth_users),
        ] {
            if wish == Some(true) {
                errors.push(FieldError::new(name, "OAuth providers are not provided"));
            }
        }
        if errors.is_empty() { Ok(new) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_keeps_the_rest_and_stays_in_bounds() {
        let old = AuthSettings { require_totp: true, ..AuthSettings::default() };
        let change = |json: &str| serde_json::from_str::<AuthSettingsUpdate>(json).unwrap();
        let new = change(r#"{"max_login_attempts":3}"#).apply(&old).unwrap();
        assert_eq!(new, AuthSettings { max_login_attempts: 3, ..old.clone() });
        for (json, field) in [
            (r#"{"access_token_expiry_mins":0}"#, "access_token_expiry_mins"),
            (r#"{"access_token_expiry_mins":1441}"#, "access_token_expiry_mins"),
            (r#"{"refresh_token_expiry_days":366}"#, "refresh_token_expiry_days"),
            (r#"{"max_login_attempts":0}"#, "max_login_attempts"),
            (r#"{"lockout_duration_secs":9}"#, "lockout_duration_secs"),
            (r#"{"password_min_length":7}"#, "password_min_length"),
            (r#"{"auto_create_oauth_users":true}"#, "auto_create_oauth_users"),
        ] {
            let errors = change(json).apply(&old).unwrap_err();
            assert_eq!(errors[0].path, field, "{json}");
        }
        assert!(serde_json::from_str::<AuthSettingsUpdate>(r#"{"x":1}"#).is_err());
    }

    #[test]
    fn settings_of_an_older_build_get_defaults() {
        let settings: AuthSettings = serde_json::from_str(r#"{"require_totp":true}"#).unwrap();
        assert_eq!(settings.max_login_attempts, 5);
    }
}
