//! Subscribers without tag, with one, and with two on the same port.

use super::checks::{Checks, until};
use super::{DHCP, PPPOE, Site, Takeover};
use crate::lab::subscribers::{Shared, Tagging};
use anyhow::{Context as _, Result, ensure};
use dataplane::boottime_now;
use model::{Tick, Vlans};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long everything may take to flow again; takeovers themselves are measured elsewhere.
const FLOW: Duration = Duration::from_secs(10);
/// Announcements are repeated up to 2 s after a takeover.
const ANNOUNCE: Duration = Duration::from_secs(4);

/// A subscriber's kind and how it is tagged.
fn kind_of(i: usize) -> (&'static str, &'static str) {
    let service = if i < PPPOE { "PPPoE" } else { "DHCP" };
    let tags = match Tagging::Mixed.of(i) {
        Vlans { outer: 0, .. } => "untagged",
        Vlans { inner: 0, .. } => "one tag",
        Vlans { .. } => "two tags",
    };
    (service, tags)
}

/// Fails when a subscriber of this kind was not heard in both directions after `since`.
fn flows(shared: &Shared, kind: (&str, &str), since: Tick) -> Result<String> {
    let mut heard = 0;
    for (i, seen) in shared.seen.iter().enumerate().filter(|(i, _)| kind_of(*i) == kind) {
        ensure!(seen.address().is_some(), "subscriber {i} has no address");
        ensure!(seen.up.last() > since, "nothing came from subscriber {i}");
        ensure!(seen.down.last() > since, "nothing came to subscriber {i}");
        heard += 1;
    }
    ensure!(heard > 0, "there is no such subscriber");
    Ok(format!("{heard} subscribers"))
}

impl Site {
    /// Checks that traffic flows both ways for each service and each way of tagging.
    pub(super) async fn check_flows(&self, checks: &mut Checks, when: &str) {
        let shared = self.lab.subscribers.shared();
        let kinds: BTreeSet<_> = (0..PPPOE + DHCP).map(kind_of).collect();
        for kind in kinds {
            let since = boottime_now();
            let waited =
                until("traffic both ways", FLOW, || flows(shared, kind, since).map(drop)).await;
            let found = waited.and_then(|()| flows(shared, kind, since));
            let (service, tags) = kind;
            checks.note("vlans", &format!("{service}, {tags}, flows both ways: {when}"), found);
        }
    }

    /// Checks on the wire that the new owner has told the switch in each VLAN where the virtual MAC is.
    pub(super) async fn check_announced(&self, checks: &mut Checks, takeover: &Takeover) {
        let all: BTreeSet<Vlans> = (0..PPPOE + DHCP).map(|i| Tagging::Mixed.of(i)).collect();
        let announced = || -> Result<Vec<Tick>> {
            let seen = self.tap.seen();
            all.iter()
                .map(|vlans| {
                    seen.first_announced(takeover.to, *vlans, takeover.since)
                        .with_context(|| format!("{} said nothing in VLAN {vlans}", takeover.to))
                })
                .collect()
        };
        let waited =
            until("an announcement in each VLAN", ANNOUNCE, || announced().map(drop)).await;
        let found = waited.and_then(|()| announced()).map(|times| {
            let (first, last) = (times.iter().min(), times.iter().max());
            let spread = last.zip(first).map_or(Duration::ZERO, |(l, f)| l.since(*f));
            format!("{} VLANs within {:.1} ms", times.len(), spread.as_secs_f64() * 1e3)
        });
        let name = format!("one frame per VLAN from the virtual MAC: after {}", takeover.what);
        checks.note("vlans", &name, found);
    }

    /// Checks what must hold for the whole run.
    pub(super) fn check_wire(&self, checks: &mut Checks) {
        let owners = self.lab.watcher.owners_max();
        let one = if owners == 1 {
            Ok(String::new())
        } else {
            Err(anyhow::anyhow!("{owners} nodes sent from the virtual MAC at the same time"))
        };
        checks.note("wire", "never more than one owner", one);
        let mistagged = self.lab.subscribers.shared().mistagged.load(Ordering::Relaxed);
        let none = |n: u64, what: &str| -> Result<String> {
            ensure!(n == 0, "{n} {what}");
            Ok(String::new())
        };
        checks.note(
            "wire",
            "every frame bears the tags of its subscriber",
            none(mistagged, "frames with other tags"),
        );
        let seen = self.tap.seen();
        checks.note(
            "wire",
            "no private source reached the core",
            none(seen.untranslated, "untranslated packets"),
        );
        checks.note(
            "wire",
            "no packet went back to the core",
            none(seen.looped, "packets to public addresses went back"),
        );
    }
}
