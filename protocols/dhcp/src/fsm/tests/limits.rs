//! Commits in flight, and what is bounded.

use super::*;

/// A client out of many.
fn nth(n: usize) -> MacAddr {
    let [a, b, c, d] = u32::try_from(n).unwrap().to_be_bytes();
    MacAddr([2, 1, a, b, c, d])
}

/// A pool of millions.
fn wide() -> Bench {
    let mut b = Bench::new();
    b.cfg.prefix_len = 8;
    b.cfg.range = "10.100.0.0-10.200.255.255".parse().unwrap();
    b.table = LeaseTable::new(&b.cfg);
    b
}

#[test]
fn a_request_repeated_while_its_commit_is_pending_commits_once_and_the_newest_is_answered() {
    let mut b = Bench::new();
    let commit = b.hear(&select(1, ip(101)), ALL);
    let again = Message { xid: 0x7777, ..select(1, ip(101)) };
    assert_eq!(text(&b.hear(&select(1, ip(101)), ALL)), "drop commit_pending");
    assert_eq!(text(&b.hear(&again, ALL)), "drop commit_pending");
    let elsewhere = Message { xid: 0x8888, ..select(1, ip(102)) };
    assert_eq!(text(&b.hear(&elsewhere, ALL)), "drop commit_pending");
    assert_eq!(b.server.commits_pending(), 1);
    let Action::Commit { token, request } = commit else { unreachable!() };
    let outcome = b.table.apply(&request, b.now);
    let got = b.server.on_committed(token, outcome, b.now, &b.cfg);
    assert_eq!(reply(&got[0]).1.xid, 0x7777);
    assert!(b.server.on_committed(token, outcome, b.now, &b.cfg).is_empty(), "twice");
}

#[test]
fn a_request_replayed_after_its_ack_is_acked_alike() {
    let mut b = Bench::new();
    let first = b.settle(&select(1, ip(101)), ALL);
    let second = b.settle(&select(1, ip(101)), ALL);
    assert_eq!(first, second);
    assert_eq!(b.table.by_address(ip(101)).unwrap().session, SessionId(1));
}

#[test]
fn the_outcome_of_a_commit_decides_the_answer() {
    let granted = |last| Outcome::Granted { session: SessionId(9), address: ip(last) };
    let nak = "Nak 0.0.0.0 to 255.255.255.255";
    let rows: &[(Outcome, &[&str])] = &[
        (granted(101), &["Ack 10.70.0.101 to 10.70.0.101"]),
        (granted(102), &[nak]),
        (Outcome::Refused, &[nak]),
        (Outcome::Unknown, &[]),
        (Outcome::Done, &[]),
    ];
    for (outcome, want) in rows {
        let mut b = Bench::new();
        let token = token(&b.hear(&select(1, ip(101)), ALL));
        let got = b.server.on_committed(token, *outcome, b.now, &b.cfg);
        assert_eq!(texts(&got), *want, "{outcome:?}");
        assert_eq!(b.server.commits_pending(), 0, "{outcome:?}");
    }
}

#[test]
fn a_release_is_committed_once_and_silences_a_renewal_still_under_way() {
    let mut b = Bench::new();
    b.lease(1, ip(101));
    let renewal = token(&b.hear(&renew(1, ip(101)), GATEWAY));
    let end = b.hear(&release(1, ip(101)), GATEWAY);
    assert_eq!(text(&end), "release 1");
    assert_eq!(text(&b.hear(&release(1, ip(101)), GATEWAY)), "drop commit_pending");
    assert_eq!(text(&b.hear(&renew(1, ip(101)), GATEWAY)), "drop commit_pending");
    assert!(b.server.on_committed(renewal, Outcome::Renewed, b.now, &b.cfg).is_empty());
    assert!(b.server.on_committed(token(&end), Outcome::Done, b.now, &b.cfg).is_empty());
    assert_eq!(b.server.commits_pending(), 0);
}

#[test]
fn an_outcome_that_never_comes_is_given_up_so_that_the_client_can_try_again() {
    let mut b = Bench::new();
    let lost = token(&b.hear(&select(1, ip(101)), ALL));
    assert_eq!(b.server.deadline(), Some(b.now + COMMIT_WAIT_MAX));
    b.pass(COMMIT_WAIT_MAX - Duration::from_millis(1));
    b.server.step(b.now);
    assert_eq!(b.server.commits_pending(), 1, "woken early");
    b.pass(Duration::from_millis(1));
    b.server.step(b.now);
    assert_eq!((b.server.commits_pending(), b.server.deadline()), (0, None));
    let again = token(&b.hear(&select(1, ip(101)), ALL));
    assert_ne!(lost, again);
    let late = Outcome::Granted { session: SessionId(1), address: ip(101) };
    assert!(b.server.on_committed(lost, late, b.now, &b.cfg).is_empty());
    assert_eq!(b.server.commits_pending(), 1);
}

#[test]
fn a_server_that_lost_ownership_forgets_all_and_answers_no_outcome() {
    let mut b = Bench::new();
    b.hear(&discover(2), ALL);
    let old = token(&b.hear(&select(1, ip(101)), ALL));
    b.server.clear();
    assert_eq!((b.server.offers_outstanding(), b.server.commits_pending()), (0, 0));
    assert_eq!(b.server.deadline(), None);
    let outcome = Outcome::Granted { session: SessionId(1), address: ip(101) };
    assert!(b.server.on_committed(old, outcome, b.now, &b.cfg).is_empty());
    assert_ne!(token(&b.hear(&select(1, ip(101)), ALL)), old, "tokens are never used twice");
}

#[test]
fn a_flood_of_discovers_holds_a_bounded_number_of_offers_and_commits_nothing() {
    let mut b = wide();
    let address = reply(&b.hear(&discover(1), ALL)).1.yiaddr;
    for n in 0..3 * MAX_OFFERS {
        let m = Message { chaddr: nth(n), ..discover(1) };
        assert!(text(&b.hear(&m, ALL)).starts_with("Offer"), "client {n}");
        assert!(b.server.offers_outstanding() <= MAX_OFFERS);
        b.pass(Duration::from_micros(10));
    }
    assert_eq!((b.server.offers_outstanding(), b.server.commits_pending()), (MAX_OFFERS, 0));
    // The first client's offer was pushed out, but nobody else took the address.
    assert_eq!(text(&b.hear(&select(1, address), ALL)), format!("grant {address} to {}", mac(1)));
    b.pass(OFFER_HOLD);
    b.server.step(b.now);
    assert_eq!(b.server.offers_outstanding(), 0);
}

#[test]
fn requests_beyond_the_bound_are_dropped_and_releases_have_room_of_their_own() {
    let mut b = wide();
    let held = Ipv4Addr::new(10, 199, 0, 1);
    b.lease(1, held);
    let mut last = String::new();
    for n in 0..=MAX_PENDING {
        let address = b.cfg.range.nth(u64::try_from(n).unwrap()).unwrap();
        last = text(&b.hear(&Message { chaddr: nth(n), ..select(1, address) }, ALL));
    }
    assert_eq!(last, "drop busy");
    assert_eq!(b.server.commits_pending(), MAX_PENDING);
    assert_eq!(text(&b.hear(&release(1, held), GATEWAY)), "release 1");
    assert!(b.server.commits_pending() <= MAX_PENDING + RELEASE_RESERVE);
}
