use super::fixture::*;
use crate::command::Command;
use crate::{Section, SnapshotError, State};
use model::{NodeRole, Pool, Revision, UnixMs};

/// `kind hex`, one record a line: a snapshot of an older build. Lines are added, never changed.
const FROZEN: &str = include_str!("frozen.txt");

/// A state that has something of everything.
fn full() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(Command::PutSubscriber(subscriber("fixed", Some("10.0.0.13"))));
    cluster.up(pppoe(1, 1, "fixed"));
    let gone = cluster.up(pppoe(2, 2, "u"));
    cluster.up(pppoe(3, 3, "v"));
    cluster.down(gone.id);
    cluster.up(lease(1, b"id", None));
    cluster.up(lease(2, b"", None));
    let pool = "dhcp".to_owned();
    cluster.op(crate::SessionOp::Decline { address: ip("10.0.1.2"), pool });
    cluster.done(Command::PutJoinToken {
        hash: vec![1; 32],
        role: NodeRole::Data,
        expires_at: UnixMs(9_000_000),
    });
    cluster.done(Command::RemoveNode(WITNESS));
    cluster.done(Command::PutGroup(group(2)));
    cluster.done(Command::RemoveGroup(model::GroupId(2)));
    for sequence in 1..40 {
        cluster.run_as(Some((5, sequence)), Command::Expire);
    }
    cluster
}

#[test]
fn a_state_comes_back_from_its_sections() {
    let cluster = full();
    let mut sections = cluster.state.write_sections();
    let kinds: Vec<u32> = sections.iter().map(|section| section.kind).collect();
    assert_eq!(kinds, (1..=12).collect::<Vec<_>>(), "this state has something of everything");
    sections.reverse();
    let back = State::from_sections(sections).unwrap();
    check(&back);
    assert_eq!(back.digest(), cluster.state.digest());
    assert_eq!(back.applied(), Revision(cluster.index));
    assert_eq!(back.time(), cluster.state.time());
    assert_eq!(back.pool_usage("ppp"), cluster.state.pool_usage("ppp"));
}

#[test]
fn a_restored_state_goes_on_like_the_original() {
    let mut one = full();
    let state = State::from_sections(one.state.sections()).unwrap();
    let mut two = Cluster { state, ..one.clone() };
    one.now_s += 700;
    two.now_s += 700;
    for n in 10..20 {
        for op in [pppoe(n, n.into(), "w"), lease(n, b"", None)] {
            assert_eq!(one.op(op.clone()), two.op(op));
        }
        assert_eq!(one.run(Command::Expire), two.run(Command::Expire));
        assert_eq!(one.changes, two.changes);
    }
    let replay = |cluster: &mut Cluster, sequence| {
        cluster.run_as(Some((5, sequence)), Command::RemovePool("none".to_owned()))
    };
    for sequence in [1, 39] {
        assert_eq!(replay(&mut one, sequence), replay(&mut two, sequence));
    }
    assert_eq!(one.state.digest(), two.state.digest());
}

#[test]
fn a_clone_is_not_touched_by_what_comes_after() {
    let mut cluster = full();
    let snapshot = cluster.state.clone();
    let digest = snapshot.digest();
    cluster.up(pppoe(9, 9, "later"));
    cluster.done(Command::PutPool(Pool { lease_s: 5, ..dhcp_pool() }));
    assert_eq!(snapshot.digest(), digest);
    assert_ne!(cluster.state.digest(), digest);
}

#[test]
fn long_kinds_are_cut_into_several_sections() {
    let mut cluster = Cluster::new();
    for n in 0..1030 {
        let user = subscriber(&format!("u{n:04}"), None);
        let at = UnixMs(0);
        let entry =
            crate::Entry { at, client: None, trace: None, command: Command::PutSubscriber(user) };
        cluster.state.apply(Revision(cluster.index + 1 + n), &entry);
    }
    let counts: Vec<usize> = cluster
        .state
        .sections()
        .filter(|section| section.kind == 7)
        .map(|section| section.records.len())
        .collect();
    assert_eq!(counts, [1024, 6]);
    let back = State::from_sections(cluster.state.sections()).unwrap();
    assert_eq!(back.digest(), cluster.state.digest());
}

#[test]
fn records_that_contradict_each_other_are_refused() {
    let sections = full().state.write_sections();
    let of = |kind: u32| sections.iter().position(|section| section.kind == kind).unwrap();
    let contradiction = |error: &SnapshotError| matches!(error, SnapshotError::Contradiction(_));
    for (what, kind) in
        [("group", 5), ("subscriber", 7), ("pool", 10), ("session", 11), ("client", 12)]
    {
        let mut twice = sections.clone();
        let record = twice[of(kind)].records[0].clone();
        twice[of(kind)].records.push(record);
        let error = State::from_sections(twice).unwrap_err();
        assert!(contradiction(&error), "a {what} twice: {error:?}");
    }
    for (what, kind) in [("pools", 10), ("groups", 5)] {
        let mut without = sections.clone();
        without.remove(of(kind));
        let error = State::from_sections(without).unwrap_err();
        assert!(contradiction(&error), "no {what}: {error:?}");
    }
    let mut without = sections.clone();
    without.remove(of(1));
    assert_eq!(State::from_sections(without).unwrap_err(), SnapshotError::Meta(0));
    let unknown = Section { kind: 99, records: vec![vec![]] };
    let error = State::from_sections([unknown]).unwrap_err();
    assert_eq!(error, SnapshotError::UnknownSection(99));
}

/// Reads a snapshot with each octet damaged in turn: an error or a state, but never a panic.
pub(super) fn read_damaged(sections: &[Section]) {
    for (s, section) in sections.iter().enumerate() {
        for (r, record) in section.records.iter().enumerate() {
            for at in 0..record.len() {
                let mut damaged = sections.to_vec();
                damaged[s].records[r][at] ^= 0x15;
                let _ = State::from_sections(damaged);
            }
        }
    }
}

#[test]
fn damaged_records_are_errors_or_states_but_never_a_panic() {
    read_damaged(&full().state.write_sections());
}

#[test]
fn the_bytes_of_every_kind_of_record_are_frozen() {
    let cluster = full();
    let mut lines = String::new();
    for section in cluster.state.sections() {
        for record in section.records {
            lines += &format!("{} {}\n", section.kind, hex::encode(record));
        }
    }
    assert_eq!(lines, FROZEN, "a change here makes snapshots of other builds unreadable");
    let sections = FROZEN.lines().map(|line| {
        let (kind, record) = line.split_once(' ').unwrap();
        Section { kind: kind.parse().unwrap(), records: vec![hex::decode(record).unwrap()] }
    });
    let back = State::from_sections(sections).unwrap();
    assert_eq!(back.digest(), cluster.state.digest());
}
