//! Which file of the repository goes where.

use super::Release;
use crate::host;
use anyhow::{Context as _, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Files that are copied as they are: from the root of the checkout, to the root of the package.
const FILES: &[(&str, &str)] = &[
    ("deploy/config/bngd.toml", "etc/tandem/bngd.toml"),
    ("deploy/systemd/bngd.service", "usr/lib/systemd/system/bngd.service"),
    ("deploy/systemd/sysusers.conf", "usr/lib/sysusers.d/tandem.conf"),
    ("deploy/systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/tandem.conf"),
    ("deploy/debian/needrestart.conf", "etc/needrestart/conf.d/tandem.conf"),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/tandem"),
    ("deploy/debian/copyright", "usr/share/doc/tandem/copyright"),
    ("deploy/config/bng2.toml", "usr/share/doc/tandem/examples/bng2.toml"),
    ("deploy/config/witness.toml", "usr/share/doc/tandem/examples/witness.toml"),
    ("deploy/config/cluster.toml", "usr/share/doc/tandem/examples/cluster.toml"),
    ("deploy/grafana/tandem.json", "usr/share/doc/tandem/examples/grafana-tandem.json"),
    ("deploy/prometheus/tandem.rules.yml", "usr/share/doc/tandem/examples/tandem.rules.yml"),
    ("deploy/prometheus/scrape.yml", "usr/share/doc/tandem/examples/prometheus-scrape.yml"),
    ("docs/operator-guide.md", "usr/share/doc/tandem/operator-guide.md"),
    ("docs/upgrade.md", "usr/share/doc/tandem/upgrade.md"),
    ("docs/events.md", "usr/share/doc/tandem/events.md"),
    ("docs/metrics.md", "usr/share/doc/tandem/metrics.md"),
];

const PROGRAMS: &[(&str, &str)] = &[("bngd", "usr/sbin/bngd"), ("bngctl", "usr/bin/bngctl")];

/// Shells, and where Debian looks for completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/bngctl"),
    ("zsh", "usr/share/zsh/vendor-completions/_bngctl"),
    ("fish", "usr/share/fish/vendor_completions.d/bngctl.fish"),
];

/// Section of the manual, and the program that writes its pages.
const MANUALS: &[(&str, &str)] = &[("8", "bngd"), ("1", "bngctl")];

/// Fills `root`, which does not exist yet.
pub(super) fn stage(root: &Path, programs: &Path, release: &Release) -> Result<()> {
    for (from, to) in FILES {
        let to = place(root, to)?;
        fs::copy(host::root().join(from), to).with_context(|| format!("cannot copy {from}"))?;
    }
    for (name, to) in PROGRAMS {
        let to = place(root, to)?;
        let mut strip = Command::new("strip");
        strip.arg("--strip-unneeded").arg("-o").arg(&to).arg(programs.join(name));
        host::output(&mut strip)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let bngctl = programs.join("bngctl");
    for (shell, to) in COMPLETIONS {
        let script = host::output(Command::new(&bngctl).args(["completions", shell]))?.stdout;
        fs::write(place(root, to)?, script)?;
    }
    for (section, program) in MANUALS {
        let dir = root.join(format!("usr/share/man/man{section}"));
        fs::create_dir_all(&dir)?;
        host::output(Command::new(programs.join(program)).arg("man").arg(&dir))?;
        for page in fs::read_dir(&dir)? {
            let page = page?.path();
            let packed = gzip(&fs::read(&page)?)?;
            fs::write(page.with_added_extension("gz"), packed)?;
            fs::remove_file(page)?;
        }
    }
    let changes = fs::read(host::root().join("CHANGELOG.md"))?;
    fs::write(place(root, "usr/share/doc/tandem/changelog.gz")?, gzip(&changes)?)?;
    let packaging = gzip(changelog(release)?.as_bytes())?;
    fs::write(place(root, "usr/share/doc/tandem/changelog.Debian.gz")?, packaging)?;
    Ok(())
}

/// The path of a file in the package; its folder is there afterwards.
fn place(root: &Path, to: &str) -> Result<std::path::PathBuf> {
    let path = root.join(to);
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    Ok(path)
}

/// Packed without name and time, so that the same text gives the same octets.
fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip")
        .args(["-9", "-n"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run gzip")?;
    let mut stdin = child.stdin.take().context("gzip has an input")?;
    let packed = std::thread::scope(|scope| {
        // Fed from a thread of its own: a pipe that is full in both directions would stand still.
        let feed = scope.spawn(move || std::io::Write::write_all(&mut stdin, text));
        let packed = child.wait_with_output();
        let fed = feed.join().map_err(|_| anyhow::anyhow!("feeding gzip panicked"))?;
        fed?;
        anyhow::Ok(packed?)
    })?;
    anyhow::ensure!(packed.status.success(), "gzip failed: {}", packed.status);
    Ok(packed.stdout)
}

fn changelog(release: &Release) -> Result<String> {
    let at = format!("@{}", release.epoch);
    let date = super::text(Command::new("date").env("LC_ALL", "C").args(["-u", "-R", "-d", &at]))?;
    Ok(format!(
        "tandem ({}) unstable; urgency=medium\n\n  * What users see of it is in changelog.gz.\n\n \
         -- Tandem developers <tandem@example.invalid>  {date}\n",
        release.version
    ))
}

/// Makes modes independent of the umask: folders 755, files 644, or 755 when the owner may run them.
pub(super) fn settle_modes(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            settle_modes(&entry.path())?;
        } else {
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_package_is_in_the_repository() {
        for (from, _) in FILES {
            assert!(host::root().join(from).is_file(), "{from}");
        }
    }
}
