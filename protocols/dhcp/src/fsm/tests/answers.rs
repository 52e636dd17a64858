//! What replies contain and where they go: RFC 2131 §4.1 and table 3, RFC 3046, RFC 6842.

use super::*;

const CLIENT_ID: &[u8] = b"\x01client";
const RELAY_INFO: &[u8] = &[2, 1, 7, 1, 2, b'd', b'0'];
const RELAY_IP: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 254);

fn relayed(m: Message) -> Message {
    Message { giaddr: RELAY_IP, ..m }
}

fn flagged(m: Message) -> Message {
    Message { flags: 0x8000, ..m }
}

fn inform(n: u8, ciaddr: Ipv4Addr) -> Message {
    Message { ciaddr, ..message(MessageType::Inform, n) }
}

#[test]
fn replies_go_where_rfc_2131_section_4_1_sends_them() {
    type To = (MacAddr, Ipv4Addr, u16);
    let client = (mac(1), ip(101), CLIENT_PORT);
    let everybody = (MacAddr::BROADCAST, ALL, CLIENT_PORT);
    let agent = (RELAY.mac, RELAY_IP, SERVER_PORT);
    let router = (RELAY.mac, ip(101), CLIENT_PORT);
    let (c1, wrong) = (at(1), ip(109));
    // Client 1 holds .101.
    let rows: &[(&str, Message, Attachment, Ipv4Addr, To)] = &[
        ("OFFER", discover(1), c1, ALL, client),
        ("OFFER, broadcast bit", flagged(discover(1)), c1, ALL, everybody),
        ("OFFER, relayed", relayed(discover(1)), RELAY, GATEWAY, agent),
        ("OFFER, relayed, broadcast bit", relayed(flagged(discover(1))), RELAY, GATEWAY, agent),
        ("ACK, selecting", select(1, ip(101)), c1, ALL, client),
        ("ACK, broadcast bit", flagged(select(1, ip(101))), c1, ALL, everybody),
        ("ACK, renewing, broadcast bit", flagged(renew(1, ip(101))), c1, GATEWAY, client),
        ("ACK, rebinding", renew(1, ip(101)), c1, ALL, client),
        ("ACK, renewing through a router", renew(1, ip(101)), RELAY, GATEWAY, router),
        ("ACK, rebinding, relayed", relayed(renew(1, ip(101))), RELAY, GATEWAY, agent),
        ("NAK", reboot(1, wrong), c1, ALL, everybody),
        ("NAK, renewing", renew(1, wrong), c1, GATEWAY, everybody),
        ("NAK, relayed", relayed(reboot(1, wrong)), RELAY, GATEWAY, agent),
        ("INFORM", inform(1, ip(50)), c1, ALL, (mac(1), ip(50), CLIENT_PORT)),
    ];
    for (name, message, from, dst_ip, (mac, ip_to, port)) in rows {
        let mut b = Bench::new();
        b.lease(1, ip(101));
        let mut action = b.hear_from(message, *from, *dst_ip);
        if let Action::Commit { token, ref request } = action {
            let outcome = b.table.apply(request, b.now);
            action = b.server.on_committed(token, outcome, b.now, &b.cfg).remove(0);
        }
        let want = Destination { attachment: *from, mac: *mac, ip: *ip_to, port: *port };
        let (to, sent) = reply(&action);
        assert_eq!(to, want, "{name}");
        let copied = |m: &Message| (m.xid, m.giaddr, m.chaddr);
        assert_eq!(copied(&sent), copied(message), "{name}");
        let relayed_nak = sent.kind == MessageType::Nak && sent.giaddr == RELAY_IP;
        assert_eq!(sent.wants_broadcast(), message.wants_broadcast() || relayed_nak, "{name}");
    }
}

#[test]
fn a_message_of_another_station_is_dropped_unless_a_relay_or_router_explains_it() {
    let mut b = Bench::new();
    b.lease(1, ip(101));
    let foreign = Message { giaddr: [10, 99, 0, 1].into(), ..discover(1) };
    let rows = [
        (discover(1), "drop hardware_address_mismatch"),
        (select(1, ip(101)), "drop hardware_address_mismatch"),
        (decline(1, ip(101)), "drop hardware_address_mismatch"),
        (renew(1, ip(101)), "renew 1"),
        (foreign, "drop foreign_relay"),
        (relayed(discover(1)), "Offer 10.70.0.101 to 10.70.0.254"),
    ];
    for (message, want) in rows {
        assert_eq!(text(&b.hear_from(&message, RELAY, GATEWAY)), want, "{message:?}");
    }
}

#[test]
fn every_reply_echoes_the_client_identifier_and_then_option_82_as_its_last() {
    let mut b = Bench::new();
    let wrong = ip(109);
    let messages =
        [discover(1), select(1, ip(101)), renew(1, ip(101)), reboot(1, wrong), inform(1, ip(50))];
    for m in messages {
        let m = with(with(m, code::RELAY_INFO, RELAY_INFO), code::CLIENT_ID, CLIENT_ID);
        let got = b.settle(&m, ALL);
        let (_, sent) = reply(&got[0]);
        let codes = codes(&sent.options);
        assert_eq!(codes[codes.len() - 2..], [61, 82], "{:?}", sent.kind);
        assert_eq!(sent.options.get(code::CLIENT_ID), Some(CLIENT_ID), "{:?}", sent.kind);
        assert_eq!(sent.options.get(code::RELAY_INFO), Some(RELAY_INFO), "{:?}", sent.kind);
    }
}

#[test]
fn a_lease_comes_with_its_times_and_the_settings_in_the_order_the_client_asks_for_them() {
    // MTU, domain name, an option that we lack, router, MTU again, T2.
    let list = [26, 15, 42, 3, 26, 59];
    let mut b = Bench::new();
    let got = b.settle(&with(select(1, ip(101)), code::PARAMETER_LIST, &list), ALL);
    let (_, ack) = reply(&got[0]);
    assert_eq!(codes(&ack.options), [54, 51, 26, 15, 3, 59, 1, 6, 58]);
    let number = |code| u32::from_be_bytes(ack.options.array(code).unwrap().unwrap());
    assert_eq!((number(51), number(58), number(59)), (3600, 1800, 3150));
    assert_eq!(ack.options.ipv4(code::SUBNET_MASK), Ok(Some([255, 255, 255, 0].into())));
    assert_eq!(ack.options.ipv4(code::SERVER_ID), Ok(Some(GATEWAY)));
    assert_eq!(ack.options.ipv4s(code::ROUTER), Ok(vec![GATEWAY]));
    assert_eq!(ack.options.ipv4s(code::DNS), Ok(b.cfg.dns.clone()));
    assert_eq!(ack.options.get(code::MTU), Some(&1492_u16.to_be_bytes()[..]));
    assert_eq!(ack.options.get(code::DOMAIN_NAME), Some(&b"isp.example"[..]));

    let (_, plain) = reply(&b.settle(&select(2, ip(102)), ALL)[0]);
    assert_eq!(codes(&plain.options), [54, 51, 1, 3, 6, 58, 59], "without a list: what all need");
}

#[test]
fn a_nak_and_an_inform_carry_no_lease() {
    let mut b = Bench::new();
    b.lease(1, ip(101));
    let all: Vec<u8> = (1..=254).collect();
    let (_, nak) = reply(&b.hear(&with(renew(1, ip(102)), code::PARAMETER_LIST, &all), GATEWAY));
    assert_eq!(codes(&nak.options), [54, 56]);
    assert_eq!((nak.ciaddr, nak.yiaddr), (NOBODY, NOBODY));
    let ask = with(inform(1, ip(101)), code::PARAMETER_LIST, &all);
    let (_, ack) = reply(&b.hear(&ask, GATEWAY));
    assert_eq!(codes(&ack.options), [54, 1, 3, 6, 15, 26, 28]);
    assert_eq!((ack.ciaddr, ack.yiaddr), (ip(101), NOBODY));
}

#[test]
fn a_reply_stays_within_the_clients_message_size_and_keeps_what_matters_most() {
    // Size asked for, octets of the client identifier, octets of the datagram at most, domain told.
    let rows: &[(Option<u16>, usize, usize, bool)] = &[
        (None, 0, 576, false),
        (Some(100), 0, 576, false),
        (Some(576), 255, 576, false),
        (Some(700), 0, 700, true),
        (Some(u16::MAX), 255, 1500, true),
    ];
    for &(size, id_octets, datagram_octets_max, has_domain) in rows {
        let mut b = Bench::new();
        b.cfg.domain = "d".repeat(255);
        b.cfg.dns = vec![Ipv4Addr::new(192, 0, 2, 53); 40];
        let mut m = with(discover(1), code::PARAMETER_LIST, &[15, 26, 28, 1, 3, 6]);
        if let Some(size) = size {
            m.options.push(code::MAX_MESSAGE_SIZE, &size.to_be_bytes());
        }
        if id_octets > 0 {
            m.options.push(code::CLIENT_ID, &vec![5; id_octets]);
        }
        let action = b.hear(&m, ALL);
        let Action::Reply { payload, .. } = &action else { panic!("{action:?}") };
        assert!(payload.len() + 28 <= datagram_octets_max, "{size:?}: {} octets", payload.len());
        let (_, sent) = reply(&action);
        assert_eq!(sent.options.get(code::DOMAIN_NAME).is_some(), has_domain, "{size:?}");
        assert!(sent.options.ipv4s(code::DNS).unwrap().len() <= PoolConfig::DNS_MAX);
        for code in [51, 54, 1, 3] {
            assert!(sent.options.get(code).is_some(), "{size:?}: option {code} is missing");
        }
        assert_eq!(sent.options.get(code::CLIENT_ID).unwrap_or_default().len(), id_octets);
    }
}

#[test]
fn the_message_size_is_used_to_its_last_octet_and_no_further() {
    let mut longest = 0;
    for domain_octets in 1..=255 {
        let mut b = Bench::new();
        b.cfg.domain = "d".repeat(domain_octets);
        let m = with(discover(1), code::PARAMETER_LIST, &[code::DOMAIN_NAME]);
        let m = with(m, code::CLIENT_ID, &[5; 100]);
        let Action::Reply { payload, .. } = b.hear(&m, ALL) else { panic!("no offer") };
        assert!(payload.len() <= 548, "{domain_octets}: {} octets", payload.len());
        longest = longest.max(payload.len());
    }
    assert_eq!(longest, 548);
}
