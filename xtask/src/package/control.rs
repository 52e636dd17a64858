//! The folder `DEBIAN`: what dpkg has to know.

use super::Release;
use crate::host;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: &[&str] = &["postinst", "prerm", "postrm"];

/// Writes `DEBIAN` into a staged tree; `scratch` is a folder outside of it.
pub(super) fn write(root: &Path, scratch: &Path, release: &Release) -> Result<()> {
    let files = files(root)?;
    let octets: u64 = files.iter().map(|f| fs::metadata(f).map_or(0, |m| m.len())).sum();
    let deploy = host::root().join("deploy/debian");
    let text = fs::read_to_string(deploy.join("control")).context("deploy/debian/control")?;
    let text = text
        .replace("@VERSION@", &release.version)
        .replace("@ARCH@", &release.architecture)
        .replace("@SIZE_KIB@", &octets.div_ceil(1024).to_string())
        .replace("@SHLIBS@", &libraries(root, scratch)?);
    ensure!(
        !text.contains('@') || text.matches('@').count() == 1,
        "a placeholder is left:\n{text}"
    );
    let debian = root.join("DEBIAN");
    fs::create_dir(&debian)?;
    fs::write(debian.join("control"), text)?;
    fs::copy(deploy.join("conffiles"), debian.join("conffiles"))?;
    for script in SCRIPTS {
        let to = debian.join(script);
        fs::copy(deploy.join(script), &to).with_context(|| format!("cannot copy {script}"))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(debian.join("md5sums"), digests(root, &files)?)?;
    Ok(())
}

/// Packages with the shared libraries that the programs are linked to.
fn libraries(root: &Path, scratch: &Path) -> Result<String> {
    // The program wants a source package around it.
    let dir = scratch.join("shlibdeps");
    fs::create_dir_all(dir.join("debian"))?;
    let control = "Source: tandem\n\nPackage: tandem\nArchitecture: any\n";
    fs::write(dir.join("debian/control"), control)?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.current_dir(&dir).arg("-O");
    for program in ["usr/sbin/bngd", "usr/bin/bngctl"] {
        command.arg(root.join(program));
    }
    let line = super::text(&mut command)?;
    let found = line.strip_prefix("shlibs:Depends=").map(str::to_owned);
    found.with_context(|| format!("dpkg-shlibdeps printed {line:?}"))
}

/// All files below a folder, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// For `dpkg --verify`. Files below `/etc` are the administrator's.
fn digests(root: &Path, files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut md5sum = Command::new("md5sum");
    md5sum.current_dir(root);
    for file in files {
        let file = file.strip_prefix(root)?;
        if !file.starts_with("etc") {
            md5sum.arg(file);
        }
    }
    Ok(host::output(&mut md5sum)?.stdout)
}
