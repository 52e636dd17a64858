//! Which message changes what: RFC 2131 §4.3.

use super::*;

#[test]
fn a_lease_lives_from_discover_to_release_and_no_ack_precedes_its_commit() {
    let mut b = Bench::new();
    let offer = b.hear(&discover(1), ALL);
    let (_, message) = reply(&offer);
    let address = message.yiaddr;
    assert_eq!(text(&offer), format!("Offer {address} to {address}"));

    let commit = b.hear(&select(1, address), ALL);
    assert_eq!(text(&commit), format!("grant {address} to {}", mac(1)), "not an ACK");
    let Action::Commit { token, request } = commit else { unreachable!() };
    let outcome = b.table.apply(&request, b.now);
    let acks = b.server.on_committed(token, outcome, b.now, &b.cfg);
    assert_eq!(texts(&acks), [format!("Ack {address} to {address}")]);

    b.pass(Duration::from_secs(1800));
    let got = b.settle(&renew(1, address), GATEWAY);
    assert_eq!(texts(&got), [format!("Ack {address} to {address}")]);
    b.pass(Duration::from_secs(3000)); // Past the end of the first lease, not of the renewed one.
    let got = b.settle(&renew(1, address), ALL);
    assert_eq!(texts(&got), [format!("Ack {address} to {address}")]);

    assert!(b.settle(&release(1, address), GATEWAY).is_empty());
    assert_eq!(b.table.by_address(address), None);
    assert_eq!(b.server.offers_outstanding(), 0);
}

#[test]
fn each_kind_of_request_is_judged_as_rfc_2131_says() {
    // Client 1 holds .101 (session 1), client 2 holds .102 (session 2).
    let other = Ipv4Addr::new(10, 70, 0, 2);
    let foreign = Ipv4Addr::new(10, 99, 0, 5);
    let nak = "Nak 0.0.0.0 to 255.255.255.255";
    let grant = "grant 10.70.0.105 to 02:00:00:00:00:03";
    let gateway = GATEWAY.octets();
    let inform = |ciaddr| Message { ciaddr, ..message(MessageType::Inform, 3) };
    let nameless = || message(MessageType::Request, 3);
    let rows: &[(&str, Message, Ipv4Addr, &str)] = &[
        ("SELECTING, lease again", select(1, ip(101)), ALL, "renew 1"),
        ("SELECTING, not the lease", select(1, ip(105)), ALL, nak),
        ("SELECTING, held by another", select(3, ip(102)), ALL, nak),
        ("SELECTING, free, offer unknown here", select(3, ip(105)), ALL, grant),
        ("SELECTING, outside the range", select(3, ip(50)), ALL, nak),
        ("SELECTING, the gateway", select(3, GATEWAY), ALL, nak),
        ("SELECTING, other network", select(3, foreign), ALL, nak),
        (
            "SELECTING, other server",
            with(reboot(3, ip(105)), code::SERVER_ID, &other.octets()),
            ALL,
            "drop other_server",
        ),
        (
            "SELECTING, no address",
            with(nameless(), code::SERVER_ID, &gateway),
            ALL,
            "drop no_address",
        ),
        (
            "SELECTING, address in ciaddr",
            with(renew(3, ip(105)), code::SERVER_ID, &gateway),
            ALL,
            grant,
        ),
        ("INIT-REBOOT, lease", reboot(1, ip(101)), ALL, "renew 1"),
        ("INIT-REBOOT, not the lease", reboot(1, ip(105)), ALL, nak),
        ("INIT-REBOOT, held by another", reboot(3, ip(102)), ALL, nak),
        ("INIT-REBOOT, unknown", reboot(3, ip(105)), ALL, "drop unknown_client"),
        ("INIT-REBOOT, other network", reboot(3, foreign), ALL, nak),
        ("RENEWING", renew(1, ip(101)), GATEWAY, "renew 1"),
        ("RENEWING, not the lease", renew(1, ip(102)), GATEWAY, nak),
        ("RENEWING, no lease", renew(3, ip(105)), GATEWAY, nak),
        ("RENEWING, other network", renew(3, foreign), GATEWAY, nak),
        ("RENEWING, other server", renew(1, ip(101)), other, "drop other_server"),
        ("REBINDING", renew(1, ip(101)), ALL, "renew 1"),
        ("REBINDING, not the lease", renew(1, ip(102)), ALL, nak),
        ("REBINDING, held by another", renew(3, ip(102)), ALL, nak),
        ("REBINDING, unknown", renew(3, ip(105)), ALL, "drop unknown_client"),
        ("REBINDING, other network", renew(3, foreign), ALL, nak),
        ("REQUEST for nothing", nameless(), ALL, "drop no_address"),
        ("RELEASE", release(1, ip(101)), GATEWAY, "release 1"),
        ("RELEASE of nothing", release(1, NOBODY), GATEWAY, "drop no_address"),
        ("RELEASE of another's", release(1, ip(102)), GATEWAY, "drop not_holder"),
        ("RELEASE without a lease", release(3, ip(105)), GATEWAY, "drop not_holder"),
        ("DECLINE of the lease", decline(1, ip(101)), ALL, "decline 10.70.0.101 of 1"),
        ("DECLINE of another's", decline(1, ip(102)), ALL, "drop not_holder"),
        ("DECLINE out of the blue", decline(3, ip(105)), ALL, "drop not_holder"),
        ("DECLINE of nothing", message(MessageType::Decline, 3), ALL, "drop no_address"),
        ("INFORM", inform(ip(50)), ALL, "Ack 0.0.0.0 to 10.70.0.50"),
        ("INFORM without address", inform(NOBODY), ALL, "drop no_address"),
        ("INFORM, other network", inform(foreign), ALL, "drop wrong_network"),
    ];
    for (name, message, dst_ip, want) in rows {
        let mut b = Bench::new();
        b.lease(1, ip(101));
        b.lease(2, ip(102));
        assert_eq!(text(&b.hear(message, *dst_ip)), *want, "{name}");
    }
}

#[test]
fn what_no_client_may_send_is_dropped() {
    let rows: &[(&str, Message, &str)] = &[
        ("OFFER", message(MessageType::Offer, 3), "drop server_message"),
        ("ACK", message(MessageType::Ack, 3), "drop server_message"),
        ("NAK", message(MessageType::Nak, 3), "drop server_message"),
        ("a reply", Message { op: Op::Reply, ..discover(3) }, "drop server_message"),
        (
            "no hardware address",
            Message { chaddr: MacAddr::default(), ..discover(3) },
            "drop bad_hardware_address",
        ),
        (
            "a group's hardware address",
            Message { chaddr: MacAddr::BROADCAST, ..discover(3) },
            "drop bad_hardware_address",
        ),
        (
            "client identifier of 256 octets",
            with(discover(3), code::CLIENT_ID, &[7; 256]),
            "drop client_id_too_long",
        ),
        (
            "relay agent information of 256 octets",
            with(discover(3), code::RELAY_INFO, &[7; 256]),
            "drop relay_info_too_long",
        ),
        (
            "server identifier of 3 octets",
            with(discover(3), code::SERVER_ID, &[1, 2, 3]),
            "drop option_length",
        ),
    ];
    for (name, message, want) in rows {
        assert_eq!(text(&Bench::new().hear(message, ALL)), *want, "{name}");
    }
    assert_eq!(text(&Bench::new().hear_octets(&[1; 20], at(1), ALL)), "drop truncated");
}

#[test]
fn a_discover_is_offered_the_old_lease_then_the_open_offer_then_the_wish_then_any_free_address() {
    let wish = |n, address: Ipv4Addr| with(discover(n), code::REQUESTED_ADDRESS, &address.octets());
    let mut b = Bench::new();
    b.lease(1, ip(101));
    let rows: &[(&str, Message, Option<u8>)] = &[
        ("lease before wish", wish(1, ip(105)), Some(101)),
        ("wish that is free", wish(2, ip(105)), Some(105)),
        ("open offer before wish", wish(2, ip(106)), Some(105)),
        ("wish that is leased", wish(3, ip(101)), None),
        ("wish that is offered", wish(4, ip(105)), None),
        ("wish outside the pool", wish(5, ip(50)), None),
        ("wish for the gateway", wish(6, GATEWAY), None),
        ("no wish", discover(7), None),
    ];
    let mut offered = vec![];
    for (name, message, want) in rows {
        let address = reply(&b.hear(message, ALL)).1.yiaddr;
        match want {
            Some(last) => assert_eq!(address, ip(*last), "{name}"),
            None => {
                assert!(b.cfg.is_grantable(address), "{name}: {address}");
                assert!(!offered.contains(&address), "{name}: {address} is another's");
                assert_eq!(b.table.by_address(address), None, "{name}");
            }
        }
        offered.push(address);
    }
}

#[test]
fn two_clients_are_not_offered_one_address_and_the_last_one_gets_silence() {
    let mut b = Bench::new();
    let offered = |b: &mut Bench, n| reply(&b.hear(&discover(n), ALL)).1.yiaddr;
    let mut addresses: Vec<_> = (1..=10).map(|n| offered(&mut b, n)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 10);
    assert_eq!(text(&b.hear(&discover(11), ALL)), "drop pool_exhausted");
    b.pass(OFFER_HOLD); // All offers lapse.
    assert!(addresses.contains(&offered(&mut b, 11)));
}

#[test]
fn a_client_tends_to_be_offered_the_same_address_also_by_another_owner() {
    for n in 1..=5 {
        let mut first = Bench::new();
        let mut second = Bench::new();
        let address = |b: &mut Bench| reply(&b.hear(&discover(n), ALL)).1.yiaddr;
        assert_eq!(address(&mut first), address(&mut second), "client {n}");
    }
}

#[test]
fn an_address_offered_to_one_client_is_refused_to_another_until_the_offer_lapses() {
    let mut b = Bench::new();
    let address = reply(&b.hear(&discover(1), ALL)).1.yiaddr;
    assert_eq!(text(&b.hear(&select(2, address), ALL)), "Nak 0.0.0.0 to 255.255.255.255");
    assert_eq!(b.server.deadline(), Some(b.now + OFFER_HOLD));
    b.pass(OFFER_HOLD);
    b.server.step(b.now);
    assert_eq!((b.server.offers_outstanding(), b.server.deadline()), (0, None));
    assert!(text(&b.hear(&select(2, address), ALL)).starts_with("grant"));
}

#[test]
fn a_repeated_discover_holds_its_offer_for_longer() {
    let mut b = Bench::new();
    let address = reply(&b.hear(&discover(1), ALL)).1.yiaddr;
    b.pass(Duration::from_secs(3));
    assert_eq!(reply(&b.hear(&discover(1), ALL)).1.yiaddr, address);
    assert_eq!(b.server.deadline(), Some(b.now + OFFER_HOLD));
    b.pass(Duration::from_secs(3)); // Past the end of the first offer.
    assert_eq!(text(&b.hear(&select(2, address), ALL)), "Nak 0.0.0.0 to 255.255.255.255");
}

#[test]
fn an_address_being_granted_is_kept_from_others_and_offered_again_to_its_client() {
    let mut b = Bench::new();
    assert!(text(&b.hear(&select(1, ip(103)), ALL)).starts_with("grant"));
    assert_eq!(text(&b.hear(&select(2, ip(103)), ALL)), "Nak 0.0.0.0 to 255.255.255.255");
    assert_eq!(reply(&b.hear(&discover(1), ALL)).1.yiaddr, ip(103));
    for n in 2..=10 {
        assert_ne!(reply(&b.hear(&discover(n), ALL)).1.yiaddr, ip(103), "client {n}");
    }
}

#[test]
fn taking_another_servers_offer_frees_ours() {
    let mut b = Bench::new();
    b.hear(&discover(1), ALL);
    assert_eq!(b.server.offers_outstanding(), 1);
    let other = with(reboot(1, ip(101)), code::SERVER_ID, &[10, 70, 0, 2]);
    assert_eq!(text(&b.hear(&other, ALL)), "drop other_server");
    assert_eq!(b.server.offers_outstanding(), 0);
}

#[test]
fn a_declined_address_is_not_offered_again_and_an_open_offer_may_be_declined() {
    let mut b = Bench::new();
    b.lease(1, ip(101));
    assert!(b.settle(&decline(1, ip(101)), ALL).is_empty());
    let address = reply(&b.hear(&discover(1), ALL)).1.yiaddr;
    assert_ne!(address, ip(101));
    assert_eq!(text(&b.hear(&decline(1, address), ALL)), format!("decline {address} of 0"));
    assert_eq!(b.server.offers_outstanding(), 0);
}

#[test]
fn only_the_attachment_that_holds_a_lease_can_end_it() {
    let mut b = Bench::new();
    let named = |m: Message| with(m, code::CLIENT_ID, b"same");
    b.settle(&named(select(1, ip(101))), ALL);
    assert_eq!(text(&b.hear(&named(release(2, ip(101))), GATEWAY)), "drop not_holder");
    assert_eq!(text(&b.hear(&named(decline(2, ip(101))), ALL)), "drop not_holder");
    assert_eq!(text(&b.hear(&named(release(1, ip(101))), GATEWAY)), "release 1");
}

#[test]
fn a_client_identifier_outlives_a_change_of_hardware_which_is_granted_anew() {
    let mut b = Bench::new();
    let named = |m: Message| with(m, code::CLIENT_ID, b"same");
    b.settle(&named(select(1, ip(101))), ALL);
    assert_eq!(reply(&b.hear(&named(discover(2)), ALL)).1.yiaddr, ip(101));
    let grant = b.hear(&named(select(2, ip(101))), ALL);
    assert_eq!(text(&grant), "grant 10.70.0.101 to 02:00:00:00:00:02");
    // Without the identifier the hardware address counts, and it has no lease.
    assert_ne!(reply(&b.hear(&discover(1), ALL)).1.yiaddr, ip(101));
}

#[test]
fn a_lease_of_a_former_network_gives_way_to_one_of_the_pools_network() {
    let mut b = Bench::new();
    b.lease(1, ip(101));
    b.cfg.range = "10.80.0.100-10.80.0.109".parse().unwrap();
    b.cfg.gateway = Ipv4Addr::new(10, 80, 0, 1);
    assert_eq!(text(&b.hear(&renew(1, ip(101)), ALL)), "Nak 0.0.0.0 to 255.255.255.255");
    assert_eq!(text(&b.hear(&reboot(1, ip(101)), ALL)), "Nak 0.0.0.0 to 255.255.255.255");
}

#[test]
fn a_host_name_is_kept_without_control_characters_and_option_82_as_received() {
    let mut b = Bench::new();
    let m = with(select(1, ip(101)), code::HOST_NAME, b"cp\x1be\xff1\0");
    let m = with(m, code::RELAY_INFO, &[2, 1, 7, 1, 2, b'd', b'0']);
    let Action::Commit { request: Commit::Grant { hostname, relay_info, lease_s, .. }, .. } =
        b.hear(&m, ALL)
    else {
        panic!("no grant");
    };
    assert_eq!(hostname, "cpe\u{fffd}1");
    assert_eq!(relay_info, [2, 1, 7, 1, 2, b'd', b'0']);
    assert_eq!(lease_s, 3600);
}

#[test]
fn a_host_name_fits_the_log_even_when_none_of_its_octets_is_text() {
    let m = with(select(1, ip(101)), code::HOST_NAME, &[0xff; 255]);
    let Action::Commit { request: Commit::Grant { hostname, .. }, .. } = Bench::new().hear(&m, ALL)
    else {
        panic!("no grant");
    };
    assert_eq!(hostname, "\u{fffd}".repeat(85));
}
