//! `/metrics`: Prometheus text, without per-session labels.

use crate::clock;
use crate::daemon::Daemon;
use raft_store::Role;
use std::fmt::Write as _;

/// The whole text.
#[must_use]
pub fn text(daemon: &Daemon) -> String {
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, rows: &[(String, u64)]| {
        family(&mut out, name, "gauge", help, rows)
    };
    let one = |n: u64| vec![(String::new(), n)];
    let uptime = clock::now().since(daemon.started).as_secs();
    gauge("tandem_uptime_seconds", "Time since the daemon started.", &one(uptime));
    gauge(
        "tandem_build_info",
        "Version of the daemon.",
        &[(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1)],
    );
    let Some(member) = daemon.member.get() else { return out };
    let state = member.local.store.state();
    let raft = member.local.store.status().borrow().clone();
    gauge("tandem_raft_term", "Current Raft term.", &one(raft.term));
    gauge(
        "tandem_raft_leader",
        "1 on the Raft leader.",
        &one(u64::from(raft.role == Role::Leader)),
    );
    gauge(
        "tandem_raft_has_leader",
        "1 when a leader is known.",
        &one(u64::from(raft.leader.is_some())),
    );
    gauge("tandem_revision", "Last applied revision.", &one(state.applied().0));
    if let Some(programmed) = &member.local.programmed {
        gauge(
            "tandem_programmed_revision",
            "Everything up to here is in the kernel.",
            &one(programmed.borrow().0),
        );
    }
    gauge(
        "tandem_drift_repaired_total",
        "Differences between kernel and state.",
        &one(*member.drift.borrow()),
    );
    let open = member.local.lease.status().borrow().open.clone();
    let mut sessions = Vec::new();
    let mut fences = Vec::new();
    let mut epochs = Vec::new();
    for group in state.groups() {
        let label = format!("group=\"{}\"", group.name);
        let totals = crate::service::totals(state.sessions_of(group.id));
        for (n, text) in [(totals.pppoe, "pppoe"), (totals.dhcp, "dhcp")] {
            sessions.push((format!("{{{label},type=\"{text}\"}}"), n));
        }
        fences.push((format!("{{{label}}}"), u64::from(open.contains_key(&group.id))));
        epochs.push((format!("{{{label}}}"), group.epoch.0));
    }
    gauge("tandem_sessions", "Replicated sessions.", &sessions);
    gauge("tandem_fence_open", "1 while this node forwards and answers for the group.", &fences);
    gauge("tandem_group_epoch", "Ownerships of the group so far.", &epochs);
    let m = member.local.store.metrics();
    let mut counter = |name: &str, help: &str, rows: &[(String, u64)]| {
        family(&mut out, name, "counter", help, rows)
    };
    counter("tandem_log_entries_total", "Entries appended to the log.", &one(m.entries_appended));
    counter("tandem_log_flushes_total", "Flushes of the log to disk.", &one(m.flushes));
    if let Some(plane) = &member.local.dataplane {
        let rows: Vec<_> = plane
            .drops()
            .into_iter()
            .map(|(reason, n)| (format!("{{reason=\"{reason}\"}}"), n))
            .collect();
        counter(
            "tandem_dataplane_dropped_total",
            "Frames dropped in the kernel, by reason.",
            &rows,
        );
    }
    let rows: Vec<_> = member
        .counters
        .all()
        .into_iter()
        .map(|(name, label, n)| (format!("{{what=\"{name}\",reason=\"{label}\"}}"), n))
        .collect();
    counter("tandem_access_events_total", "Drops and events of the protocol engines.", &rows);
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str, rows: &[(String, u64)]) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in rows {
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}
