use super::fixture::*;
use super::snapshots::read_damaged;
use crate::change::Change;
use crate::command::{
    Command, DocKey, DocumentBatch, DocumentOp, Expect, OpReply, PutStatic, Refusal, Reply,
    SessionBatch, SessionOp, StaticEdit,
};
use crate::{LEVEL_DOCUMENTS, LEVEL_POLICY, Section, SnapshotError, State};
use model::{
    Attachment, BanScope, Collection, DownReason, Epoch, GroupId, MacAddr, NodeRole, PortId, Rate,
    Session, SessionKind, StaticSession, Vlans,
};
use std::sync::Arc;

/// `kind hex`, one record a line, of a state with statics and bans. Lines are added, never changed.
const FROZEN: &str = include_str!("frozen_policy.txt");

const FREE: StaticSession = StaticSession { mac: None, line: None, allowed: true };

fn put(address: &str, fixed: StaticSession, seen: Option<Attachment>) -> Command {
    let address = ip(address);
    Command::PutStatic(PutStatic { group: EAST, address, fixed, rate: None, seen })
}

fn edit(address: &str, edit: StaticEdit) -> Command {
    Command::EditStatic { address: ip(address), edit }
}

fn seen(address: &str, attachment: Attachment) -> SessionOp {
    SessionOp::StaticSeen { address: ip(address), attachment }
}

fn ban(network: &str, scope: BanScope) -> Command {
    Command::PutBan { network: network.parse().unwrap(), scope }
}

fn unban(network: &str, scope: BanScope) -> Command {
    Command::RemoveBan { network: network.parse().unwrap(), scope }
}

/// A cluster whose members all know policy.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(Command::RaiseLevel { level: LEVEL_POLICY });
    cluster
}

/// Runs a command that answers with the subscriber.
#[track_caller]
fn subscriber_of(cluster: &mut Cluster, command: Command) -> Arc<Session> {
    let reply = cluster.run(command);
    let Reply::Sessions(replies) = &reply else { panic!("{reply:?}") };
    let [OpReply::Session(session)] = replies.as_slice() else { panic!("{replies:?}") };
    Arc::clone(session)
}

#[test]
fn policy_is_refused_below_its_level_and_touches_no_session_there() {
    let mut cluster = Cluster::new();
    cluster.done(Command::RaiseLevel { level: LEVEL_DOCUMENTS });
    let network = "198.51.100.0/24";
    let heard = SessionOp::StaticSeen { address: ip("10.0.1.2"), attachment: at(1) };
    let batch =
        |ops| Command::Sessions(SessionBatch { group: EAST, node: A, epoch: Epoch(1), ops });
    for command in [
        put("10.0.1.2", FREE, None),
        edit("10.0.1.2", StaticEdit::Allow(false)),
        Command::RemoveStatic(ip("10.0.1.2")),
        ban(network, BanScope::All),
        unban(network, BanScope::All),
        batch(vec![lease(1, b"", None), heard]),
    ] {
        assert_eq!(command.level(), LEVEL_POLICY, "{command:?}");
        assert_eq!(cluster.refused(command), Refusal::LevelTooLow);
    }
    assert_eq!(cluster.state.sessions().len(), 0);
    assert_eq!(batch(vec![lease(1, b"", None)]).level(), 0, "sessions wait for nothing");
    cluster.done(Command::RaiseLevel { level: LEVEL_POLICY });
    cluster.done(ban(network, BanScope::All));
    subscriber_of(&mut cluster, put("10.0.1.2", FREE, None));
}

#[test]
fn a_static_subscriber_lives_in_an_ipoe_network_and_nowhere_else() {
    let mut cluster = cluster();
    cluster.up(lease(1, b"", Some("10.0.1.3")));
    cluster.done(Command::PutSubscriber(subscriber("fixed", Some("10.0.1.4"))));
    for (address, want) in [
        ("10.0.1.3", Refusal::AddressTaken),         // leased
        ("10.0.1.4", Refusal::AddressTaken),         // set aside
        ("10.0.1.5", Refusal::AddressOutsidePool),   // the gateway
        ("10.0.1.0", Refusal::AddressOutsidePool),   // the network itself
        ("10.0.1.255", Refusal::AddressOutsidePool), // broadcast
        ("10.0.0.11", Refusal::AddressOutsidePool),  // PPPoE
        ("10.0.2.1", Refusal::AddressOutsidePool),   // nobody's
    ] {
        assert_eq!(cluster.refused(put(address, FREE, None)), want, "{address}");
    }
    let unknown = PutStatic {
        group: GroupId(9),
        address: ip("10.0.1.2"),
        fixed: FREE,
        rate: None,
        seen: None,
    };
    assert_eq!(cluster.refused(Command::PutStatic(unknown)), Refusal::UnknownGroup);
    for address in ["10.0.1.2", "10.0.1.200"] {
        let session = subscriber_of(&mut cluster, put(address, FREE, None));
        assert_eq!(session.rate, dhcp_pool().rate, "the pool's rate");
        assert_eq!((session.username.as_str(), session.pool.as_str()), (address, "dhcp"));
        assert!(!session.attachment.is_known());
        assert!(matches!(cluster.changes[..], [Change::SessionUp(_)]));
    }
    assert_eq!(cluster.state.statics().count(), 2);
    // Inside the range it is leased to nobody else.
    let taken = cluster.op_refused(lease(2, b"", Some("10.0.1.2")));
    assert_eq!(taken, Refusal::AddressTaken);
    assert!(matches!(cluster.refused(Command::RemovePool("dhcp".into())), Refusal::InUse(_)));
    cluster.done(Command::RemoveStatic(ip("10.0.1.2")));
    assert!(matches!(cluster.changes[..], [Change::SessionDown { .. }]));
    cluster.up(lease(2, b"", Some("10.0.1.2")));
    assert_eq!(cluster.refused(Command::RemoveStatic(ip("10.0.1.2"))), Refusal::UnknownStatic);
}

#[test]
fn the_waiting_address_outside_an_ipoe_network_is_nobodys() {
    let cluster = cluster();
    let pool = |address| cluster.state.ipoe_pool_of(ip(address)).map(|pool| pool.name.as_str());
    for (address, want) in [
        ("10.0.1.2", Some("dhcp")),
        ("10.0.1.200", Some("dhcp")),
        ("10.0.1.5", None),
        ("10.0.1.255", None),
        ("10.0.0.11", None),
        ("10.9.9.9", None),
    ] {
        assert_eq!(pool(address), want, "{address}");
    }
}

#[test]
fn a_subscriber_is_where_it_was_heard_last_unless_it_is_bound() {
    let mut cluster = cluster();
    subscriber_of(&mut cluster, put("10.0.1.2", FREE, None));
    let place =
        |cluster: &Cluster| cluster.state.static_by_address(ip("10.0.1.2")).unwrap().attachment;
    for n in [1, 2] {
        assert_eq!(cluster.up(seen("10.0.1.2", at(n))).attachment, at(n));
        assert!(matches!(cluster.changes[..], [Change::SessionChanged(_)]));
    }
    // Told again, nothing changes: no standby has to catch up with it.
    let revision = cluster.state.group(EAST).unwrap().revision;
    cluster.up(seen("10.0.1.2", at(2)));
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.state.group(EAST).unwrap().revision, revision);

    subscriber_of(&mut cluster, edit("10.0.1.2", StaticEdit::Bind(at(2).mac)));
    assert_eq!(place(&cluster), at(2), "it is at its place already");
    assert_eq!(cluster.op_refused(seen("10.0.1.2", at(3))), Refusal::BoundElsewhere);
    let moved = Attachment { port: PortId(2), vlans: Vlans::NONE, ..at(2) };
    cluster.up(seen("10.0.1.2", moved));
    subscriber_of(&mut cluster, edit("10.0.1.2", StaticEdit::Bind(at(3).mac)));
    assert!(!place(&cluster).is_known(), "the other station is no longer there");
    subscriber_of(&mut cluster, edit("10.0.1.2", StaticEdit::Unbind));
    cluster.up(seen("10.0.1.2", at(1)));

    let line = StaticSession { line: Some(moved.line()), ..FREE };
    subscriber_of(&mut cluster, put("10.0.1.2", line, None));
    assert!(!place(&cluster).is_known());
    assert_eq!(cluster.op_refused(seen("10.0.1.2", at(1))), Refusal::BoundElsewhere);
    let both = StaticSession { mac: Some(moved.mac), ..line };
    subscriber_of(&mut cluster, put("10.0.1.2", both, None));
    assert_eq!(place(&cluster), moved, "all of it is fixed, so nothing has to be heard");
}

#[test]
fn a_source_that_waited_is_let_in_where_it_was_heard() {
    let mut cluster = cluster();
    let session = subscriber_of(&mut cluster, put("10.0.1.2", FREE, Some(at(7))));
    assert_eq!(session.attachment, at(7));
    // A binding to another station outweighs it.
    let bound = StaticSession { mac: Some(at(8).mac), ..FREE };
    let session = subscriber_of(&mut cluster, put("10.0.1.3", bound, Some(at(7))));
    assert!(!session.attachment.is_known());
}

#[test]
fn edits_change_one_thing_and_a_repetition_nothing() {
    let mut cluster = cluster();
    let first = subscriber_of(&mut cluster, put("10.0.1.2", FREE, Some(at(1))));
    let rate = Rate { down_bps: 7, up_bps: 8 };
    for (what, allowed, mac, rate) in [
        (StaticEdit::Allow(false), false, None, first.rate),
        (StaticEdit::Rate(rate), false, None, rate),
        (StaticEdit::Bind(at(1).mac), false, Some(at(1).mac), rate),
        (StaticEdit::Allow(true), true, Some(at(1).mac), rate),
        (StaticEdit::Unbind, true, None, rate),
    ] {
        let session = subscriber_of(&mut cluster, edit("10.0.1.2", what));
        assert_eq!(session.kind, SessionKind::Static(StaticSession { mac, line: None, allowed }));
        assert_eq!((session.rate, session.id, session.attachment), (rate, first.id, at(1)));
        subscriber_of(&mut cluster, edit("10.0.1.2", what));
        assert_eq!(cluster.changes, [], "{what:?} again");
    }
    // Put again without a rate, it keeps the one it has.
    assert_eq!(subscriber_of(&mut cluster, put("10.0.1.2", FREE, None)).rate, rate);
    let nobody = edit("10.0.1.9", StaticEdit::Unbind);
    assert_eq!(cluster.refused(nobody), Refusal::UnknownStatic);
    cluster.up(lease(2, b"", Some("10.0.1.9")));
    let leased = edit("10.0.1.9", StaticEdit::Allow(false));
    assert_eq!(cluster.refused(leased), Refusal::UnknownStatic);
}

#[test]
fn no_frame_and_no_disconnect_ends_a_static_subscriber() {
    let mut cluster = cluster();
    let session = subscriber_of(&mut cluster, put("10.0.1.2", FREE, Some(at(1))));
    let down = SessionOp::Down { session: session.id, reason: DownReason::UserRequest };
    assert_eq!(cluster.op_refused(down), Refusal::UnknownSession);
    let renew = SessionOp::LeaseRenew { session: session.id, lease_s: 60 };
    assert_eq!(cluster.op_refused(renew), Refusal::UnknownSession);
    let decline = SessionOp::Decline { address: session.address, pool: "dhcp".to_owned() };
    assert_eq!(cluster.op_refused(decline), Refusal::UnknownSession);
    cluster.now_s += 1_000_000;
    cluster.done(Command::Expire);
    // A disconnect makes the owner look for it anew.
    let disconnect = Command::Disconnect { session: session.id, reason: DownReason::AdminReset };
    cluster.done(disconnect.clone());
    assert!(!cluster.state.session(session.id).unwrap().attachment.is_known());
    cluster.done(disconnect);
    assert_eq!(cluster.changes, []);
}

#[test]
fn what_no_frame_can_carry_is_refused() {
    let mut cluster = cluster();
    for mac in [MacAddr::BROADCAST, MacAddr([1, 0, 0x5e, 0, 0, 1]), MacAddr([0; 6])] {
        let bound = StaticSession { mac: Some(mac), ..FREE };
        assert!(matches!(cluster.refused(put("10.0.1.2", bound, None)), Refusal::Invalid(_)));
        let heard = Attachment { mac, ..at(1) };
        assert!(matches!(cluster.refused(put("10.0.1.2", FREE, Some(heard))), Refusal::Invalid(_)));
    }
    subscriber_of(&mut cluster, put("10.0.1.2", FREE, None));
    for vlans in [Vlans { outer: 4095, inner: 0 }, Vlans { outer: 0, inner: 5 }] {
        let refused = cluster.op_refused(seen("10.0.1.2", Attachment { vlans, ..at(1) }));
        assert!(matches!(refused, Refusal::Invalid(_)), "{refused:?}");
    }
    let bind = edit("10.0.1.2", StaticEdit::Bind(MacAddr::BROADCAST));
    assert!(matches!(cluster.refused(bind), Refusal::Invalid(_)));
}

#[test]
fn a_former_owner_teaches_nothing() {
    let mut cluster = cluster();
    subscriber_of(&mut cluster, put("10.0.1.2", FREE, None));
    cluster.run(Command::Acquire { group: EAST, node: B, epoch: Epoch(2) });
    let replies = cluster.ops_as(A, 1, vec![seen("10.0.1.2", at(1))]);
    assert_eq!(replies, [OpReply::Refused(Refusal::StaleEpoch { current: Epoch(2) })]);
    let replies = cluster.ops_as(B, 2, vec![seen("10.0.1.2", at(1))]);
    assert!(matches!(replies[..], [OpReply::Session(_)]));
}

#[test]
fn a_ban_is_there_once_and_moves_every_group_on() {
    let mut cluster = cluster();
    let revision = |cluster: &Cluster| cluster.state.group(EAST).unwrap().revision.0;
    cluster.done(ban("198.51.100.0/24", BanScope::All));
    assert_eq!(revision(&cluster), cluster.index, "no standby may take over without it");
    let since = cluster.state.bans().next().unwrap().since;
    cluster.now_s += 10;
    cluster.done(ban("198.51.100.0/24", BanScope::All));
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.state.bans().next().unwrap().since, since);
    cluster.done(ban("198.51.100.0/24", BanScope::Icmp));
    assert_eq!(cluster.state.bans().len(), 2);
    cluster.done(unban("198.51.100.0/24", BanScope::All));
    assert_eq!(revision(&cluster), cluster.index);
    let scopes: Vec<_> = cluster.state.bans().map(|ban| ban.scope).collect();
    assert_eq!(scopes, [BanScope::Icmp]);
    for (network, scope) in
        [("198.51.100.0/24", BanScope::All), ("198.51.100.0/25", BanScope::Icmp)]
    {
        assert_eq!(cluster.refused(unban(network, scope)), Refusal::UnknownBan);
    }
}

#[test]
fn the_cluster_does_not_ban_itself() {
    let mut cluster = cluster();
    for network in ["127.0.0.1/32", "127.0.0.0/8", "0.0.0.0/0"] {
        let refused = cluster.refused(ban(network, BanScope::All));
        assert!(matches!(refused, Refusal::Invalid(_)), "{network}: {refused:?}");
    }
    cluster.done(ban("0.0.0.0/0", BanScope::Icmp));
    cluster.done(ban("192.0.2.0/24", BanScope::All));
    let mut joining = node(9, NodeRole::Data);
    joining.raft_addr = "192.0.2.9:7400".parse().unwrap();
    assert!(matches!(cluster.refused(Command::PutNode(joining)), Refusal::Invalid(_)));
}

/// A state with statics and bans of every form.
fn full() -> Cluster {
    let mut cluster = cluster();
    subscriber_of(&mut cluster, put("10.0.1.2", FREE, Some(at(1))));
    let bound = StaticSession { mac: Some(at(2).mac), line: None, allowed: false };
    subscriber_of(&mut cluster, put("10.0.1.200", bound, None));
    let fixed = StaticSession { mac: Some(at(3).mac), line: Some(at(3).line()), allowed: true };
    subscriber_of(&mut cluster, put("10.0.1.201", fixed, None));
    cluster.done(ban("198.51.100.0/24", BanScope::All));
    cluster.done(ban("198.51.100.7/32", BanScope::Icmp));
    cluster
}

#[test]
fn policy_comes_back_from_a_snapshot_whose_bytes_are_frozen() {
    let cluster = full();
    let mut lines = String::new();
    for section in cluster.state.sections().filter(|section| [11, 22].contains(&section.kind)) {
        for record in section.records {
            lines += &format!("{} {}\n", section.kind, hex::encode(record));
        }
    }
    assert_eq!(lines, FROZEN, "a change here makes snapshots of other builds unreadable");
    let mut sections = cluster.state.write_sections();
    sections.reverse();
    let back = State::from_sections(sections.clone()).unwrap();
    check(&back);
    assert_eq!(back.digest(), cluster.state.digest());
    assert_eq!(back.bans().collect::<Vec<_>>(), cluster.state.bans().collect::<Vec<_>>());
    assert_eq!(back.statics().count(), 3);

    let bans = sections.iter().position(|section| section.kind == 22).unwrap();
    let record = sections[bans].records[0].clone();
    sections.push(Section { kind: 22, records: vec![record] });
    let error = State::from_sections(sections).unwrap_err();
    assert!(matches!(error, SnapshotError::Contradiction(_)), "a ban twice: {error:?}");
}

#[test]
fn damaged_policy_records_never_panic() {
    read_damaged(&full().state.write_sections());
}

#[test]
fn a_change_of_policy_goes_with_its_audit_record_or_not_at_all() {
    let mut cluster = cluster();
    let with = |also: Vec<Command>| {
        let record = DocumentOp::Put {
            collection: Collection::Audit,
            key: DocKey::FromRevision,
            value: b"{}".to_vec(),
            expect: Expect::Any,
        };
        Command::Documents(DocumentBatch { ops: vec![record], also })
    };
    let address = ip("10.0.1.2");
    let reply = cluster.run(with(vec![put("10.0.1.2", FREE, None)]));
    assert!(matches!(reply, Reply::Documents { .. }), "{reply:?}");
    let reply = cluster.run(with(vec![edit("10.0.1.2", StaticEdit::Allow(false))]));
    assert!(matches!(reply, Reply::Documents { .. }), "{reply:?}");
    let session = cluster.state.static_by_address(address).unwrap();
    let SessionKind::Static(fixed) = &session.kind else { panic!("{session:?}") };
    assert!(!fixed.allowed);
    assert_eq!(cluster.state.document_count(Collection::Audit), 2);

    // An unknown one, and two whose ids would be the same.
    let two = vec![put("10.0.1.200", FREE, None), put("10.0.1.201", FREE, None)];
    for also in [vec![edit("10.0.1.3", StaticEdit::Unbind)], two] {
        let reply = cluster.run(with(also));
        assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
        assert_eq!(cluster.state.statics().count(), 1);
        assert_eq!(cluster.state.document_count(Collection::Audit), 2);
    }
}
