//! Which crate may depend on which: `docs/ARCHITECTURE.md`, "Folders".

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::path::Path;

/// A crate of the workspace.
pub(crate) struct Crate {
    /// Its name.
    pub(crate) name: String,
    /// Its folder, from the root of the workspace, with slashes.
    pub(crate) folder: String,
    is_published: bool,
    /// Other crates of the workspace: name, and whether only tests use it.
    uses: Vec<(String, bool)>,
}

const PROTOCOLS: &str = "protocols/";

/// Crates and what they may use. `model` may be used by every crate's tests as well.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("ether", &["model"]),
    ("quorum-lease", &["model"]),
    ("dataplane", &["model"]),
    ("raft-store", &["model"]),
    ("api", &["model"]),
    ("cli", &["api"]),
    ("xtask", &[]),
];

/// What `node` and `chaos-tests` may use besides the protocols.
const LOWER: &[&str] = &["model", "dataplane", "raft-store", "api"];

/// Reads the workspace from `cargo metadata`.
///
/// # Errors
/// When the output has not the form that cargo documents.
pub(crate) fn crates(metadata: &Value) -> Result<Vec<Crate>> {
    let root = metadata["workspace_root"].as_str().context("no workspace_root")?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    packages.iter().map(|package| read(package, root)).collect()
}

fn read(package: &Value, root: &str) -> Result<Crate> {
    let name = package["name"].as_str().context("a package without name")?;
    let manifest = package["manifest_path"].as_str().context("a package without manifest_path")?;
    let folder = Path::new(manifest).parent().and_then(|p| p.strip_prefix(root).ok());
    let folder = folder.with_context(|| format!("{manifest} is outside of the workspace"))?;
    let dependencies =
        package["dependencies"].as_array().context("a package without dependencies")?;
    let uses = dependencies
        .iter()
        .filter(|d| d["path"].is_string())
        .map(|d| (d["name"].as_str().unwrap_or_default().to_owned(), d["kind"] == "dev"))
        .collect();
    Ok(Crate {
        name: name.to_owned(),
        folder: folder.to_string_lossy().into_owned(),
        // `null` allows every registry, an empty list none.
        is_published: !package["publish"].as_array().is_some_and(Vec::is_empty),
        uses,
    })
}

/// Checks names, `publish` and arrows.
pub(crate) fn check(crates: &[Crate]) -> Vec<String> {
    let mut findings = Vec::new();
    for krate in crates {
        let Crate { name, folder, .. } = krate;
        let manifest = format!("{folder}/Cargo.toml:1");
        if folder.rsplit('/').next() != Some(name) {
            findings
                .push(format!("{manifest}: the crate {name} lives in a folder of another name"));
        }
        if krate.is_published {
            findings.push(format!("{manifest}: {name} lacks publish = false"));
        }
        for (used, in_tests) in &krate.uses {
            let allowed = may_use(krate, used, crates) || (*in_tests && used == "model");
            if !allowed {
                findings.push(format!(
                    "{manifest}: {name} must not depend on {used}; the allowed arrows are in \
                     docs/ARCHITECTURE.md and xtask/src/tidy/arrows.rs"
                ));
            }
        }
    }
    findings
}

fn may_use(krate: &Crate, used: &str, crates: &[Crate]) -> bool {
    if let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == krate.name) {
        return allowed.contains(&used);
    }
    if krate.folder.starts_with(PROTOCOLS) {
        return ["model", "ether"].contains(&used);
    }
    let is_protocol = crates.iter().any(|c| c.name == used && c.folder.starts_with(PROTOCOLS));
    // Anything else is a new crate, which somebody has to place.
    ["node", "chaos-tests"].contains(&krate.name.as_str()) && (is_protocol || LOWER.contains(&used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(folder: &str, uses: &[(&str, bool)]) -> Crate {
        let name = folder.rsplit('/').next().unwrap_or_default().to_owned();
        let uses = uses.iter().map(|(n, dev)| ((*n).to_owned(), *dev)).collect();
        Crate { name, folder: folder.to_owned(), is_published: false, uses }
    }

    #[test]
    fn only_arrows_of_the_design_pass() {
        let rows: &[(&str, &str, bool, bool)] = &[
            // folder, uses, only in tests, allowed
            ("protocols/dhcp", "model", false, true),
            ("protocols/pppoe", "ether", false, true),
            ("protocols/pppoe", "dhcp", false, false),
            ("protocols/quorum-lease", "ether", false, false),
            ("model", "ether", false, false),
            ("api", "raft-store", false, false),
            ("node", "raft-store", false, true),
            ("node", "dhcp", false, true),
            ("node", "chaos-tests", true, false),
            ("cli", "api", false, true),
            ("cli", "model", false, false),
            ("cli", "model", true, true),
            ("cli", "node", true, false),
            ("chaos-tests", "dataplane", false, true),
            ("chaos-tests", "node", false, false),
            ("chaos-tests", "cli", true, false),
            ("xtask", "model", false, false),
            ("newcomer", "model", false, false),
        ];
        for (folder, used, in_tests, allowed) in rows {
            let crates = [krate(folder, &[(used, *in_tests)]), krate("protocols/dhcp", &[])];
            let findings = check(&crates);
            assert_eq!(findings.is_empty(), *allowed, "{folder} -> {used}: {findings:?}");
        }
    }

    #[test]
    fn a_crate_in_a_folder_of_another_name_or_ready_to_publish_is_found() {
        let mut wrong = krate("protocols/dhcp", &[]);
        wrong.name = "dhcp4".into();
        wrong.is_published = true;
        let findings = check(&[wrong]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("protocols/dhcp/Cargo.toml:1: "), "{findings:?}");
    }
}
