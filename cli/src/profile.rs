//! What `login` leaves for the commands after it: token, nodes, whom to believe.

use crate::error::CliError;
use api::TlsTrust;
use api::model::Secret;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) token: Secret,
    pub(crate) urls: Vec<String>,
    pub(crate) trust: TlsTrust,
}

/// `~/.config/bngctl/token.json`, or below `XDG_CONFIG_HOME` when that is set.
fn path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    Some(config?.join("bngctl").join("token.json"))
}

impl Profile {
    /// What the last login left, if it did.
    pub(crate) fn load() -> Result<Option<Self>, CliError> {
        let Some(path) = path() else { return Ok(None) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(CliError::file(path, e)),
        };
        let mode = fs::metadata(&path).map_err(|e| CliError::file(&path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            let cause = format!("mode {:o} lets others read the token; use 600", mode & 0o777);
            return Err(CliError::file(path, cause));
        }
        match Self::parse(&text) {
            Some(profile) => Ok(Some(profile)),
            None => Err(CliError::file(path, "is damaged; log in again")),
        }
    }

    /// Keeps it for the user alone. Returns where.
    pub(crate) fn save(&self) -> Result<PathBuf, CliError> {
        let path = path().ok_or_else(|| {
            CliError::Usage(
                "neither HOME nor XDG_CONFIG_HOME is set: no place for the token".into(),
            )
        })?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let failed = |e: std::io::Error| CliError::file(&path, e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        // A new file with its mode from the start: at no moment can others open it.
        let new = path.with_extension(format!("new.{}", std::process::id()));
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed)?;
        let written = file.write_all(format!("{:#}\n", self.json()).as_bytes());
        let moved = written.and_then(|()| fs::rename(&new, &path));
        if let Err(e) = moved {
            let _best_effort = fs::remove_file(&new);
            return Err(failed(e));
        }
        Ok(path)
    }

    /// Forgets the last login, if there was one.
    pub(crate) fn forget() -> Result<(), CliError> {
        let Some(path) = path() else { return Ok(()) };
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CliError::file(path, e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn json(&self) -> Value {
        let trust = match &self.trust {
            TlsTrust::System => json!({}),
            TlsTrust::Ca { pem } => json!({ "ca_pem": pem }),
            TlsTrust::Fingerprint { sha256 } => json!({ "fingerprint": sha256 }),
            TlsTrust::Insecure => json!({ "insecure": true }),
        };
        json!({ "access_token": self.token.expose(), "urls": self.urls, "trust": trust })
    }

    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let urls = value.get("urls")?.as_array()?;
        let urls = urls.iter().map(|u| u.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        let trust = value.get("trust")?;
        let text = |key: &str| trust.get(key).and_then(Value::as_str).map(str::to_owned);
        let trust = if let Some(pem) = text("ca_pem") {
            TlsTrust::Ca { pem }
        } else if let Some(sha256) = text("fingerprint") {
            TlsTrust::Fingerprint { sha256 }
        } else if trust.get("insecure") == Some(&Value::Bool(true)) {
            TlsTrust::Insecure
        } else {
            TlsTrust::System
        };
        let token = Secret::new(value.get("access_token")?.as_str()?);
        Some(Self { token, urls, trust })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_survives_its_file() {
        for trust in [
            TlsTrust::System,
            TlsTrust::Insecure,
            TlsTrust::Ca { pem: "pem".into() },
            TlsTrust::Fingerprint { sha256: "ab".into() },
        ] {
            let urls = vec!["https://192.0.2.1:8443".into()];
            let profile = Profile { token: Secret::new("t"), urls, trust };
            assert_eq!(Profile::parse(&profile.json().to_string()), Some(profile));
        }
        for junk in ["", "{}", "[]", r#"{"urls":[1],"trust":{},"access_token":"x"}"#] {
            assert_eq!(Profile::parse(junk), None, "{junk}");
        }
    }
}
