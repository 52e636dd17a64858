use super::fixture::*;
use crate::change::Change;
use crate::command::{Command, OpReply, Refusal, Reply, SessionBatch, SessionOp};
use model::{
    DownReason, Epoch, GroupId, GroupService, Rate, Session, SessionId, SessionKind, UnixMs,
};
use std::sync::Arc;

fn expires(session: &Session) -> u64 {
    match &session.kind {
        SessionKind::Dhcp(lease) => lease.expires_at.as_secs(),
        SessionKind::Pppoe(_) | SessionKind::Static(_) => panic!("no lease: {session:?}"),
    }
}

fn downs(cluster: &Cluster) -> Vec<(SessionId, DownReason)> {
    let down = |change: &Change| match change {
        Change::SessionDown { session, reason } => Some((session.id, *reason)),
        Change::SessionUp(_)
        | Change::SessionChanged(_)
        | Change::GroupChanged(_)
        | Change::OwnerChanged { .. }
        | Change::PoolChanged(_)
        | Change::NodeChanged(_)
        | Change::SubscriberChanged(_)
        | Change::ApiUserChanged(_)
        | Change::ClusterChanged
        | Change::DocumentPut { .. }
        | Change::DocumentDeleted { .. }
        | Change::BanChanged(_) => None,
    };
    cluster.changes.iter().filter_map(down).collect()
}

#[test]
fn a_pppoe_session_comes_up_with_everything_it_needs() {
    let mut cluster = Cluster::new();
    let session = cluster.up(pppoe(1, 7, "alice"));
    assert_eq!(cluster.changes, [Change::SessionUp(Arc::clone(&session))]);
    assert_eq!(session.id, SessionId(cluster.index * 4096));
    assert_eq!((session.address, session.pool.as_str()), (ip("10.0.0.10"), "ppp"));
    let block = session.nat.unwrap();
    assert_eq!((block.public, block.first_port), (ip("198.51.100.1"), 16_384));
    assert_eq!(session.rate, Rate { down_bps: 10, up_bps: 1 }, "the pool's");
    assert_eq!(session.started_at, UnixMs(1_000_000));
    assert_eq!(cluster.state.group(EAST).unwrap().revision, session.created);
    assert_eq!(cluster.state.session_by_pppoe(EAST, 7), Some(&session));
    let here: Vec<_> = cluster.state.sessions_by_attachment(EAST, &at(1)).collect();
    assert_eq!(here, [&session]);
    assert_eq!(cluster.state.sessions_of(EAST).count(), 1);
    assert_eq!(cluster.state.sessions_of(GroupId(2)).count(), 0);
    cluster.down(session.id);
    assert_eq!(downs(&cluster), [(session.id, DownReason::UserRequest)]);
    assert_eq!(cluster.state.group(EAST).unwrap().revision, cluster.state.applied());
    let again = SessionOp::Down { session: session.id, reason: DownReason::UserRequest };
    assert_eq!(cluster.op_refused(again), Refusal::UnknownSession);
}

#[test]
fn the_rate_is_the_sessions_then_the_users_then_the_pools() {
    let mut cluster = Cluster::new();
    let rate = |down_bps| Some(Rate { down_bps, up_bps: 0 });
    let mut user = subscriber("alice", None);
    user.rate = rate(20);
    cluster.done(Command::PutSubscriber(user));
    let mut told = pppoe(1, 1, "alice");
    if let SessionOp::PppoeUp { rate: wish, .. } = &mut told {
        *wish = rate(30);
    }
    assert_eq!(cluster.up(told).rate.down_bps, 30);
    assert_eq!(cluster.up(pppoe(2, 2, "alice")).rate.down_bps, 20);
    assert_eq!(cluster.up(pppoe(3, 3, "bob")).rate.down_bps, 10);
}

#[test]
fn a_client_that_dials_in_again_takes_the_place_of_its_old_session() {
    // user, session id, wanted address; what becomes of the address
    let table: &[(&str, u16, Option<&str>, &str)] = &[
        ("alice", 2, None, "10.0.0.10"), // the same user: kept
        ("alice", 1, None, "10.0.0.10"), // the same session id, too
        ("bob", 2, None, "10.0.0.11"),   // another user: another address
        ("alice", 2, Some("10.0.0.12"), "10.0.0.12"),
        ("bob", 2, Some("10.0.0.10"), "10.0.0.10"), // free, now that the old one is gone
    ];
    for &(user, sid, wanted, want) in table {
        let mut cluster = Cluster::new();
        let old = cluster.up(pppoe(1, 1, "alice"));
        let op = wanted.map_or_else(|| pppoe(1, sid, user), |w| pppoe_at(1, sid, user, w));
        let new = cluster.up(op);
        assert_eq!(new.address, ip(want), "{user} {sid} {wanted:?}");
        let down = Change::SessionDown { session: old, reason: DownReason::Replaced };
        assert_eq!(cluster.changes, [down, Change::SessionUp(Arc::clone(&new))]);
        assert_eq!(cluster.state.sessions().len(), 1);
        assert_eq!(new.nat.unwrap().first_port, 16_384, "its own block is free again");
    }
}

#[test]
fn a_full_pool_still_takes_back_its_own_client() {
    let mut cluster = Cluster::new();
    for n in 1..=4 {
        cluster.up(pppoe(n, n.into(), &format!("u{n}")));
    }
    let full = Refusal::PoolExhausted { pool: "ppp".to_owned() };
    assert_eq!(cluster.op_refused(pppoe(5, 5, "u5")), full);
    assert_eq!(cluster.up(pppoe(2, 5, "u2")).address, ip("10.0.0.11"));
    assert_eq!(cluster.up(pppoe(2, 6, "other")).address, ip("10.0.0.11"));
}

#[test]
fn what_is_taken_or_unknown_is_refused() {
    let mut cluster = Cluster::new();
    cluster.done(Command::PutSubscriber(subscriber("fixed", Some("10.0.0.13"))));
    cluster.done(Command::PutSubscriber(subscriber("lost", Some("172.16.0.1"))));
    cluster.up(pppoe(1, 1, "alice"));
    let of_pool = |name: &str| {
        let mut op = pppoe(2, 2, "bob");
        if let SessionOp::PppoeUp { pool, .. } = &mut op {
            *pool = Some(name.to_owned());
        }
        op
    };
    let mut no_time = lease(2, b"", None);
    if let SessionOp::LeaseGrant { lease_s, .. } = &mut no_time {
        *lease_s = 0;
    }
    let table: Vec<(SessionOp, &str)> = vec![
        (pppoe(2, 1, "bob"), "session_id_taken"),
        (pppoe(2, 0, "bob"), "invalid"),
        (pppoe(2, 0xffff, "bob"), "invalid"),
        (pppoe(2, 2, ""), "invalid"),
        (pppoe_at(2, 2, "bob", "10.0.0.10"), "address_taken"),
        (pppoe_at(2, 2, "bob", "10.0.0.13"), "address_taken"),
        (pppoe_at(2, 2, "bob", "10.0.0.1"), "address_outside_pool"), // the gateway
        (pppoe_at(2, 2, "bob", "10.0.0.0"), "address_outside_pool"), // the network
        (pppoe_at(2, 2, "bob", "10.0.0.255"), "address_outside_pool"), // broadcast
        (pppoe_at(2, 2, "bob", "10.0.1.2"), "address_outside_pool"), // another pool
        (pppoe_at(2, 2, "bob", "192.0.2.77"), "address_outside_pool"),
        (pppoe(2, 2, "lost"), "address_outside_pool"),
        (of_pool("dhcp"), "unknown_pool"),
        (of_pool("none"), "unknown_pool"),
        (no_time, "invalid"),
        (lease(2, &[0; 256], None), "invalid"),
        (lease(2, b"", Some("10.0.1.5")), "address_outside_pool"),
        (SessionOp::LeaseRenew { session: SessionId(5), lease_s: 60 }, "unknown_session"),
        (SessionOp::Down { session: SessionId(5), reason: DownReason::Expired }, "unknown_session"),
        (SessionOp::Decline { address: ip("10.0.1.1"), pool: "none".to_owned() }, "unknown_pool"),
        (
            SessionOp::Decline { address: ip("10.0.0.10"), pool: "ppp".to_owned() },
            "unknown_session", // PPP has no decline
        ),
        (
            SessionOp::Decline { address: ip("10.0.9.9"), pool: "dhcp".to_owned() },
            "address_outside_pool",
        ),
    ];
    for (op, want) in table {
        let text = format!("{op:?}");
        assert_eq!(cluster.op_refused(op).label(), want, "{text}");
    }
}

#[test]
fn a_fixed_address_is_used_by_its_user_only_inside_or_outside_the_range() {
    let mut cluster = Cluster::new();
    cluster.done(Command::PutSubscriber(subscriber("in", Some("10.0.0.10"))));
    cluster.done(Command::PutSubscriber(subscriber("out", Some("10.0.0.99"))));
    cluster.done(Command::PutSubscriber(subscriber("02:00:00:00:00:09", Some("10.0.1.1"))));
    assert_eq!(cluster.up(pppoe(1, 1, "x")).address, ip("10.0.0.11"));
    let fixed = cluster.up(pppoe(2, 2, "in"));
    assert_eq!(fixed.address, ip("10.0.0.10"));
    assert_eq!(cluster.op_refused(pppoe(3, 3, "in")), Refusal::AddressTaken, "at two places");
    let outside = cluster.up(pppoe(4, 4, "out"));
    assert_eq!((outside.address, outside.pool.as_str()), (ip("10.0.0.99"), "ppp"));
    assert_eq!(cluster.up(lease(9, b"id", None)).address, ip("10.0.1.1"), "by its MAC");
    cluster.down(fixed.id);
    assert_eq!(cluster.up(pppoe(5, 5, "y")).address, ip("10.0.0.12"), "still set aside");
}

#[test]
fn pools_are_tried_in_the_order_of_their_names() {
    let mut cluster = Cluster::new();
    let first = pool("a", GroupService::Pppoe, "10.0.3.2-10.0.3.2", "10.0.3.1");
    cluster.done(Command::PutPool(first));
    assert_eq!(cluster.up(pppoe(1, 1, "u")).pool, "a");
    assert_eq!(cluster.up(pppoe(2, 2, "u")).pool, "ppp");
    for n in 3..=5 {
        cluster.up(pppoe(n, n.into(), "u"));
    }
    let full = Refusal::PoolExhausted { pool: "a".to_owned() };
    assert_eq!(cluster.op_refused(pppoe(6, 6, "u")), full);
}

#[test]
fn a_known_client_keeps_its_lease_and_address() {
    let mut cluster = Cluster::new();
    let first = cluster.up(lease(1, b"id", None));
    assert_eq!((first.address, first.username.as_str()), (ip("10.0.1.1"), "02:00:00:00:00:01"));
    assert_eq!(cluster.state.lease_by_client(EAST, b"id", &at(1)), Some(&first));
    assert_eq!(cluster.state.lease_by_client(EAST, b"", &at(1)), None);
    cluster.now_s += 100;
    for wanted in [None, Some("10.0.1.1")] {
        let again = cluster.up(lease(1, b"id", wanted));
        assert_eq!((again.id, again.address), (first.id, first.address));
        assert_eq!(expires(&again), 1700);
        assert_eq!(cluster.changes, [Change::SessionChanged(Arc::clone(&again))]);
        assert_eq!(again.created, first.created);
        assert_eq!(again.modified, cluster.state.applied());
    }
}

#[test]
fn one_host_has_one_lease() {
    // MAC, client id, wanted address; the address it gets, whether the old session goes
    type Row<'a> = (u8, &'a [u8], Option<&'a str>, &'a str, bool);
    let table: &[Row<'_>] = &[
        (2, b"id", None, "10.0.1.1", true), // the client at another MAC keeps its address
        (1, b"id2", None, "10.0.1.1", true), // the host under another identifier, too
        (1, b"", None, "10.0.1.1", true),
        (1, b"id", Some("10.0.1.4"), "10.0.1.4", true), // another address on its own wish
        (1, b"id2", Some("10.0.1.1"), "10.0.1.1", true),
        (2, b"id2", None, "10.0.1.2", false), // somebody else
    ];
    for &(mac, client_id, wanted, want, replaced) in table {
        let mut cluster = Cluster::new();
        let old = cluster.up(lease(1, b"id", None));
        let new = cluster.up(lease(mac, client_id, wanted));
        let row = (mac, client_id, wanted);
        assert_eq!(new.address, ip(want), "{row:?}");
        let gone = if replaced { vec![(old.id, DownReason::Replaced)] } else { vec![] };
        assert_eq!(downs(&cluster), gone, "{row:?}");
        assert_ne!(new.id, old.id, "{row:?}");
    }
}

#[test]
fn a_client_at_another_mac_replaces_both_leases_that_stand_in_its_way() {
    let mut cluster = Cluster::new();
    let one = cluster.up(lease(1, b"id", None));
    let two = cluster.up(lease(2, b"id2", None));
    let new = cluster.up(lease(2, b"id", None));
    assert_eq!(new.address, one.address);
    let replaced = |session: &Session| (session.id, DownReason::Replaced);
    assert_eq!(downs(&cluster), [replaced(&one), replaced(&two)]);
}

#[test]
fn equal_identifiers_on_other_lines_are_other_clients() {
    let mut cluster = Cluster::new();
    let one = cluster.up(lease(1, b"id", None));
    let mut op = lease(1, b"id", None);
    if let SessionOp::LeaseGrant { attachment, .. } = &mut op {
        attachment.vlans.outer = 101;
    }
    let two = cluster.up(op);
    assert_ne!(one.address, two.address);
    assert_eq!(downs(&cluster), []);
}

#[test]
fn ppp_and_dhcp_live_side_by_side_at_one_place() {
    let mut cluster = Cluster::new();
    cluster.up(pppoe(1, 1, "u"));
    cluster.up(lease(1, b"", None));
    assert_eq!(cluster.state.sessions_by_attachment(EAST, &at(1)).count(), 2);
    cluster.up(pppoe(1, 2, "u"));
    cluster.up(lease(1, b"x", None));
    assert_eq!(cluster.state.sessions_by_attachment(EAST, &at(1)).count(), 2);
}

#[test]
fn a_lease_ends_by_an_expire_entry_only_and_goes_on_by_a_renewal() {
    let mut cluster = Cluster::new();
    let one = cluster.up(lease(1, b"", None));
    let two = cluster.up(lease(2, b"", None));
    let ppp = cluster.up(pppoe(3, 3, "u"));
    let mut endless = lease(4, b"", None);
    if let SessionOp::LeaseGrant { lease_s, .. } = &mut endless {
        *lease_s = u32::MAX;
    }
    let endless = cluster.up(endless);
    cluster.now_s = 1500;
    let renewed = cluster.up(SessionOp::LeaseRenew { session: two.id, lease_s: 200 });
    assert_eq!((expires(&renewed), renewed.modified), (1700, cluster.state.applied()));
    assert_eq!(cluster.changes, [Change::SessionChanged(renewed)]);
    let ppp_renewed = SessionOp::LeaseRenew { session: ppp.id, lease_s: 200 };
    assert_eq!(cluster.op_refused(ppp_renewed), Refusal::UnknownSession);
    let script: &[(u64, Option<SessionId>)] =
        &[(1599, None), (1600, Some(one.id)), (1601, None), (1700, Some(two.id)), (9999, None)];
    for &(now_s, gone) in script {
        cluster.now_s = now_s;
        cluster.done(Command::SetRate { session: ppp.id, rate: Rate::default() });
        assert_eq!(downs(&cluster), [], "time alone ends nothing, at {now_s}");
        cluster.done(Command::Expire);
        let want: Vec<_> = gone.into_iter().map(|id| (id, DownReason::Expired)).collect();
        assert_eq!(downs(&cluster), want, "at {now_s}");
    }
    let left: Vec<_> = cluster.state.sessions().map(|session| session.id).collect();
    assert_eq!(left, [ppp.id, endless.id]);
}

#[test]
fn one_expire_ends_a_bounded_number_of_leases() {
    let mut cluster = Cluster::new();
    let wide = pool("wide", GroupService::Dhcp, "10.1.0.2-10.1.15.254", "10.1.0.1");
    cluster.done(Command::PutPool(model::Pool { prefix_len: 16, ..wide }));
    let ops: Vec<_> = (0..1024_u32)
        .map(|n| {
            let mut op = lease(1, &n.to_be_bytes(), None);
            if let SessionOp::LeaseGrant { attachment, pool, .. } = &mut op {
                attachment.vlans.inner = u16::try_from(n).unwrap() + 1;
                *pool = Some("wide".to_owned());
            }
            op
        })
        .collect();
    cluster.ops_as(A, 1, ops);
    cluster.up(lease(1, b"", None));
    cluster.now_s += 601;
    for left in [1, 0, 0] {
        cluster.done(Command::Expire);
        assert_eq!(cluster.state.sessions().len(), left);
    }
    assert_eq!(cluster.state.next_expiry(), None);
}

#[test]
fn a_declined_address_rests_and_comes_back() {
    let mut cluster = Cluster::new();
    let decline =
        |address: &str| SessionOp::Decline { address: ip(address), pool: "dhcp".to_owned() };
    let session = cluster.up(lease(1, b"", None));
    assert_eq!(cluster.op(decline("10.0.1.1")), OpReply::Done);
    assert_eq!(downs(&cluster), [(session.id, DownReason::Declined)]);
    assert_eq!(cluster.op_refused(lease(1, b"", Some("10.0.1.1"))), Refusal::AddressTaken);
    assert_eq!(cluster.op(decline("10.0.1.2")), OpReply::Done, "nobody holds it");
    assert_eq!(
        cluster.op(decline("10.0.1.3")),
        OpReply::Done,
        "a quarter of the pool rests already"
    );
    assert_eq!(cluster.state.pool_usage("dhcp").unwrap().free, 6);
    assert_eq!(cluster.state.free_address("dhcp", None, &|_| false), Some(ip("10.0.1.3")));
    for (now_s, free) in [(1599, 6), (1600, 8)] {
        cluster.now_s = now_s;
        cluster.done(Command::Expire);
        assert_eq!(cluster.state.pool_usage("dhcp").unwrap().free, free, "at {now_s}");
    }
}

#[test]
fn operators_change_and_end_sessions_without_an_epoch() {
    let mut cluster = Cluster::new();
    let session = cluster.up(pppoe(1, 1, "u"));
    let rate = Rate { down_bps: 99, up_bps: 98 };
    cluster.done(Command::SetRate { session: session.id, rate });
    let changed = Arc::clone(cluster.state.session(session.id).unwrap());
    assert_eq!(changed.rate, rate);
    assert_eq!(cluster.changes, [Change::SessionChanged(changed)]);
    assert_eq!(cluster.state.group(EAST).unwrap().revision, cluster.state.applied());
    let reason = DownReason::AdminReset;
    cluster.done(Command::Disconnect { session: session.id, reason });
    assert_eq!(downs(&cluster), [(session.id, reason)]);
    let gone = Command::Disconnect { session: session.id, reason };
    assert_eq!(cluster.refused(gone), Refusal::UnknownSession);
    let gone = Command::SetRate { session: session.id, rate };
    assert_eq!(cluster.refused(gone), Refusal::UnknownSession);
}

#[test]
fn a_session_of_another_group_is_out_of_reach() {
    let mut cluster = Cluster::new();
    let session = cluster.up(lease(1, b"", None)).id;
    cluster.done(Command::PutGroup(group(2)));
    cluster.run(Command::Acquire { group: GroupId(2), node: B, epoch: Epoch(1) });
    let ops = vec![
        SessionOp::Down { session, reason: DownReason::LostCarrier },
        SessionOp::LeaseRenew { session, lease_s: 60 },
        SessionOp::Decline { address: ip("10.0.1.1"), pool: "dhcp".to_owned() },
        pppoe(1, 1, "u"),
    ];
    let batch = SessionBatch { group: GroupId(2), node: B, epoch: Epoch(1), ops };
    let refused = OpReply::Refused;
    let want = [
        refused(Refusal::UnknownSession),
        refused(Refusal::UnknownSession),
        refused(Refusal::UnknownPool),
        refused(Refusal::UnknownPool),
    ];
    assert_eq!(cluster.run(Command::Sessions(batch)), Reply::Sessions(want.to_vec()));
    let nowhere =
        SessionBatch { group: GroupId(9), node: B, epoch: Epoch(1), ops: vec![pppoe(1, 1, "u")] };
    let want = vec![refused(Refusal::UnknownGroup)];
    assert_eq!(cluster.run(Command::Sessions(nowhere)), Reply::Sessions(want));
}

#[test]
fn one_refused_operation_does_not_touch_the_others_of_its_batch() {
    let mut cluster = Cluster::new();
    let ops = vec![pppoe(1, 1, "a"), pppoe(2, 1, "b"), pppoe(3, 3, "c")];
    let replies = cluster.ops_as(A, 1, ops);
    let ids: Vec<_> = cluster.state.sessions().map(|session| session.id.0).collect();
    assert_eq!(replies[1], OpReply::Refused(Refusal::SessionIdTaken));
    assert_eq!(ids, [cluster.index * 4096, cluster.index * 4096 + 2]);
    let many = vec![pppoe(9, 9, "x"); SessionBatch::OPS_MAX + 1];
    let batch = SessionBatch { group: EAST, node: A, epoch: Epoch(1), ops: many };
    assert!(matches!(cluster.refused(Command::Sessions(batch)), Refusal::Invalid(_)));
}
