//! `/metrics`: Prometheus text, without per-session labels.

mod store;

use crate::clock;
use crate::daemon::Daemon;
use crate::fitness::Fault;
use crate::member::Member;
use api::AccessCounts;
use raft_store::Role;
use std::fmt::Write as _;

/// Rows of a family: labels in braces, or nothing, and the value.
type Rows = Vec<(String, u64)>;

/// The whole text.
#[must_use]
pub fn text(daemon: &Daemon, counts: &AccessCounts) -> String {
    let mut text = Text(String::new());
    text.gauge("tandem_uptime_seconds", "Time since the daemon started.", one(seconds_up(daemon)));
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    text.gauge("tandem_build_info", "Version of the daemon.", vec![(version, 1)]);
    access(&mut text, counts);
    if let Some(member) = daemon.member.get() {
        raft(&mut text, member);
        fitness(&mut text, member);
        groups(&mut text, member);
        drops(&mut text, member);
    }
    text.0
}

fn seconds_up(daemon: &Daemon) -> u64 {
    clock::now().since(daemon.started).as_secs()
}

fn access(text: &mut Text, counts: &AccessCounts) {
    let rows = |label: &str, rows: &[(&str, u64)]| {
        rows.iter().map(|(value, n)| (format!("{{{label}=\"{value}\"}}"), *n)).collect()
    };
    let logins = [
        ("succeeded", counts.logins_succeeded),
        ("failed", counts.logins_failed),
        ("locked", counts.logins_locked),
    ];
    text.counter("tandem_api_logins_total", "Logins, by outcome.", rows("outcome", &logins));
    let refused = [("credential", counts.unauthorized), ("permission", counts.forbidden)];
    text.counter(
        "tandem_api_refused_total",
        "Requests without a valid credential, or without the permission.",
        rows("reason", &refused),
    );
}

fn raft(text: &mut Text, member: &Member) {
    let raft = member.local.store.status().borrow().clone();
    let state = member.local.store.state();
    text.gauge("tandem_raft_term", "Current Raft term.", one(raft.term));
    text.gauge(
        "tandem_raft_leader",
        "1 on the Raft leader.",
        one(u64::from(raft.role == Role::Leader)),
    );
    text.gauge(
        "tandem_raft_has_leader",
        "1 when a leader is known.",
        one(u64::from(raft.leader.is_some())),
    );
    text.gauge("tandem_revision", "Last applied revision.", one(state.applied().0));
    if let Some(programmed) = &member.local.programmed {
        let revision = programmed.borrow().0;
        text.gauge(
            "tandem_programmed_revision",
            "Everything up to here is in the kernel.",
            one(revision),
        );
    }
    let store = &member.local.store;
    let offset_s = i128::from(clock::wall().as_secs()) - i128::from(store.now().as_secs());
    text.family(
        "tandem_clock_offset_seconds",
        "gauge",
        "Wall clock of this node less the replicated time.",
        [(String::new(), offset_s)],
    );
    store::write(text, &store.metrics());
}

fn fitness(text: &mut Text, member: &Member) {
    let rows = Fault::ALL.map(|fault| {
        let lasts = u64::from(member.local.fitness.has(fault));
        (format!("{{reason=\"{}\"}}", fault.label()), lasts)
    });
    text.gauge("tandem_unfit", "1 while this node would own no group, by reason.", rows.into());
    let disk = member.local.store.disk();
    let us = |d: Option<std::time::Duration>| {
        one(u64::try_from(d.unwrap_or_default().as_micros()).unwrap_or(u64::MAX))
    };
    text.gauge(
        "tandem_log_write_recent_microseconds",
        "Median of the last writes of the log, flush included.",
        us(disk.recent),
    );
    text.gauge(
        "tandem_log_write_unfinished_microseconds",
        "Age of the oldest write of the log that is not finished; 0 when there is none.",
        us(disk.unfinished),
    );
}

fn groups(text: &mut Text, member: &Member) {
    let open = member.local.lease.status().borrow().open.clone();
    let (mut sessions, mut fences) = (Rows::new(), Rows::new());
    let (mut epochs, mut waiting) = (Rows::new(), Rows::new());
    let state = member.local.store.state();
    for group in state.groups() {
        let label = format!("group=\"{}\"", group.name);
        let totals = crate::service::totals(state.sessions_of(group.id));
        for (n, kind) in
            [(totals.pppoe, "pppoe"), (totals.dhcp, "dhcp"), (totals.statics, "static")]
        {
            sessions.push((format!("{{{label},type=\"{kind}\"}}"), n));
        }
        fences.push((format!("{{{label}}}"), u64::from(open.contains_key(&group.id))));
        let heard = u64::try_from(member.waiting.len(group.id)).unwrap_or(u64::MAX);
        waiting.push((format!("{{{label}}}"), heard));
        epochs.push((format!("{{{label}}}"), group.epoch.0));
    }
    text.gauge("tandem_sessions", "Replicated sessions.", sessions);
    text.gauge(
        "tandem_fence_open",
        "1 while this node forwards and answers for the group.",
        fences,
    );
    let bans = u64::try_from(state.bans().len()).unwrap_or(u64::MAX);
    text.gauge("tandem_bans", "Bans in force.", one(bans));
    text.gauge("tandem_waiting_sources", "Sources heard here that wait to be let in.", waiting);
    text.counter("tandem_group_epoch", "Ownerships of the group so far.", epochs);
}

fn drops(text: &mut Text, member: &Member) {
    let repaired = *member.drift.borrow();
    text.counter(
        "tandem_drift_repaired_total",
        "Differences between kernel and state.",
        one(repaired),
    );
    if let Some(plane) = &member.local.dataplane {
        let rows =
            plane.drops().into_iter().map(|(reason, n)| (format!("{{reason=\"{reason}\"}}"), n));
        text.counter(
            "tandem_dataplane_dropped_total",
            "Frames dropped in the kernel, by reason.",
            rows.collect(),
        );
    }
    let events = member.counters.all().into_iter();
    let rows =
        events.map(|(what, reason, n)| (format!("{{what=\"{what}\",reason=\"{reason}\"}}"), n));
    text.counter(
        "tandem_access_events_total",
        "Drops and events of the protocol engines.",
        rows.collect(),
    );
}

fn one(n: u64) -> Rows {
    vec![(String::new(), n)]
}

struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, rows: Rows) {
        self.family(name, "gauge", help, rows);
    }

    fn counter(&mut self, name: &str, help: &str, rows: Rows) {
        self.family(name, "counter", help, rows);
    }

    fn family<V: std::fmt::Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        rows: impl IntoIterator<Item = (String, V)>,
    ) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}
