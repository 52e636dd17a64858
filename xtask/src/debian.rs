//! Debian packages that building, the lab and the tests need.

use crate::host::{self, Chatter};
use anyhow::{Result, bail};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::Command;

/// Packages that one thing needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    reason: &'static str,
    packages: &'static [&'static str],
}

/// `dataplane/build.rs` compiles the eBPF programs; `ring` and the linker need a C compiler.
pub(crate) const BUILD: Set = Set {
    reason: "to build",
    packages: &["build-essential", "clang", "libbpf-dev", "linux-libc-dev"],
};

/// `ip` and `tc`, `nft`, offload switches, `nsenter`.
pub(crate) const LAB: Set =
    Set { reason: "to run a lab", packages: &["iproute2", "nftables", "ethtool", "util-linux"] };

/// `dpkg-deb`, `dpkg-shlibdeps`, `strip`.
pub(crate) const PACKAGE: Set =
    Set { reason: "to make the Debian package", packages: &["dpkg-dev", "binutils"] };

/// Disks and wall clocks of single nodes, for faults of those.
pub(crate) const CHAOS: Set =
    Set { reason: "for faults of disks and clocks", packages: &["e2fsprogs", "libfaketime"] };

/// The yardstick of the benchmark. Debian starts keepalived only where it finds a configuration.
pub(crate) const BENCH: Set =
    Set { reason: "to compare with keepalived", packages: &["keepalived", "fping"] };

/// DHCP clients that are not ours, and `fping` that they are tried with.
pub(crate) const CLIENTS: Set = Set {
    reason: "to test with other DHCP clients",
    packages: &["isc-dhcp-client", "udhcpc", "dhcpcd-base", "fping"],
};

/// Installs what is missing of `sets`; says which packages, and why.
///
/// # Errors
/// When something is missing and cannot be installed; the message has the command to run.
pub(crate) fn ensure(sets: &[Set], chatter: Chatter) -> Result<()> {
    if !host::succeeds(Command::new("dpkg-query").arg("--version")) {
        let all: Vec<&str> = sets.iter().flat_map(|s| s.packages).copied().collect();
        chatter.say(&format!(
            "no dpkg here; what these Debian packages hold must be there: {}",
            all.join(" ")
        ));
        return Ok(());
    }
    let mut missing = Vec::new();
    for set in sets {
        let absent: Vec<&str> = set.packages.iter().copied().filter(|p| !is_installed(p)).collect();
        if !absent.is_empty() {
            chatter.say(&format!("missing {}: {}", set.reason, absent.join(" ")));
            missing.extend(absent);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if !host::is_root() {
        bail!("not root, so packages cannot be installed; run: sudo sh -c '{install}'");
    }
    if std::io::stdin().is_terminal() && !consents(&install)? {
        bail!("not installed; the command is: {install}");
    }
    // Old lists may still name what is needed, so a failed update alone stops nothing.
    if let Err(error) = apt(&["update"], chatter) {
        chatter.say(&format!("{error:#}; trying with the package lists that are there"));
    }
    apt(&[&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat(), chatter)
}

fn apt(args: &[&str], chatter: Chatter) -> Result<()> {
    host::check(
        Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"),
        chatter,
    )
}

/// Asks on standard error, so that standard output stays clean.
fn consents(install: &str) -> Result<bool> {
    eprint!("run `{install}`? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn is_installed(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    // Several architectures answer one after the other.
    query.is_ok_and(|out| out.status.success() && out.stdout.starts_with(b"installed"))
}
