use super::fixture::*;
use crate::command::Command;
use model::{GroupService, Pool};
use std::cell::Cell;
use std::net::Ipv4Addr;

#[test]
fn a_released_address_is_the_last_to_be_handed_out_again() {
    let mut cluster = Cluster::new();
    let first = cluster.up(pppoe(1, 1, "u"));
    cluster.down(first.id);
    let mut order = Vec::new();
    for _ in 0..6 {
        let session = cluster.up(pppoe(1, 1, "u"));
        order.push(session.address.octets()[3]);
        cluster.down(session.id);
    }
    assert_eq!(order, [11, 12, 13, 10, 11, 12]);
}

#[test]
fn the_gateway_is_never_handed_out() {
    let mut cluster = Cluster::new();
    let got: Vec<_> =
        (1..=8).map(|n| cluster.up(lease(n, b"", None)).address.octets()[3]).collect();
    assert_eq!(got, [1, 2, 3, 4, 6, 7, 8, 9]);
    assert_eq!(cluster.state.free_address("dhcp", None, &|_| false), None);
}

#[test]
fn an_offer_is_the_wanted_address_if_free_else_what_a_grant_would_give() {
    let mut cluster = Cluster::new();
    cluster.up(lease(1, b"", None));
    let offer = |wanted: Option<&str>, skip: &[&str]| {
        let skip: Vec<Ipv4Addr> = skip.iter().map(|text| ip(text)).collect();
        cluster.state.free_address("dhcp", wanted.map(ip), &|address| skip.contains(&address))
    };
    assert_eq!(offer(None, &[]), Some(ip("10.0.1.2")));
    assert_eq!(offer(None, &["10.0.1.2", "10.0.1.3"]), Some(ip("10.0.1.4")));
    assert_eq!(offer(Some("10.0.1.8"), &[]), Some(ip("10.0.1.8")));
    assert_eq!(offer(Some("10.0.1.8"), &["10.0.1.8"]), Some(ip("10.0.1.2")));
    for taken in ["10.0.1.1", "10.0.1.5", "10.0.9.9"] {
        assert_eq!(offer(Some(taken), &[]), Some(ip("10.0.1.2")), "{taken}");
    }
    assert_eq!(cluster.state.free_address("none", None, &|_| false), None);
}

#[test]
fn a_nearly_full_pool_is_not_searched() {
    let mut cluster = Cluster::empty();
    let mut first = bootstrap();
    let wide = pool("wide", GroupService::Dhcp, "10.1.0.2-10.1.255.254", "10.1.0.1");
    first.pools = vec![Pool { prefix_len: 16, ..wide }];
    let holes = [40_000_u32, 65_000];
    for n in (0..65_533_u32).filter(|n| !holes.contains(n)) {
        let address = Ipv4Addr::from(u32::from(ip("10.1.0.2")) + n);
        first.subscribers.push(subscriber(&format!("u{n}"), Some(&address.to_string())));
    }
    // Not through `run`, whose checks would take minutes on a pool of this size.
    let at = model::UnixMs(0);
    let command = Command::Bootstrap(Box::new(first));
    let entry = crate::Entry { at, client: None, trace: None, command };
    cluster.state.apply(model::Revision(1), &entry);
    assert_eq!(cluster.state.pool_usage("wide").unwrap().free, 2);
    let asked = Cell::new(0);
    let found = cluster.state.free_address("wide", None, &|_| {
        asked.set(asked.get() + 1);
        asked.get() < 2
    });
    assert_eq!((found, asked.get()), (Some(ip("10.1.253.234")), 2));
}

#[test]
fn session_ids_go_round_and_skip_what_is_taken() {
    let mut cluster = Cluster::new();
    for (n, sid) in [(1, 1), (2, 2), (3, 4), (4, 0xfffe)] {
        cluster.up(pppoe(n, sid, "u"));
    }
    let next =
        |after, told: &[u16]| cluster.state.next_sid(EAST, after, &|sid| told.contains(&sid));
    let table: &[(u16, &[u16], u16)] = &[
        (0, &[], 3),
        (2, &[], 3),
        (3, &[], 5),
        (2, &[3, 5, 6], 7),
        (0xfffc, &[], 0xfffd),
        (0xfffd, &[], 3), // past the last, and 0xfffe is taken
        (0xffff, &[], 3),
        (0xfffd, &[3], 5),
    ];
    for &(after, told, want) in table {
        assert_eq!(next(after, told), Some(want), "after {after}, told {told:?}");
    }
    assert_eq!(cluster.state.next_sid(EAST, 9, &|_| true), None);
    assert_eq!(cluster.state.next_sid(model::GroupId(9), 9, &|_| false), None);
    assert!(cluster.state.sid_free(EAST, 3) && !cluster.state.sid_free(EAST, 4));
    assert!(!cluster.state.sid_free(EAST, 0) && !cluster.state.sid_free(EAST, 0xffff));
}

#[test]
fn who_had_this_public_address_and_port() {
    let mut cluster = Cluster::new();
    let sessions: Vec<_> = (1..=4).map(|n| cluster.up(pppoe(n, n.into(), "u"))).collect();
    let table = [
        ("198.51.100.1", 16_383, None),
        ("198.51.100.1", 16_384, Some(0)),
        ("198.51.100.1", 40_000, Some(1)),
        ("198.51.100.1", 65_535, Some(2)),
        ("198.51.100.2", 1, None),
        ("198.51.100.2", 32_767, Some(3)),
        ("198.51.100.2", 32_768, None),
    ];
    for (public, port, want) in table {
        let holder = cluster.state.session_by_nat(ip(public), port);
        assert_eq!(holder, want.map(|n: usize| &sessions[n]), "{public}:{port}");
    }
    cluster.down(sessions[1].id);
    assert_eq!(cluster.state.session_by_nat(ip("198.51.100.1"), 40_000), None);
    let next = cluster.up(pppoe(9, 9, "u")).nat.unwrap();
    assert_eq!(next.first_port, 32_768, "the lowest free block");
}
