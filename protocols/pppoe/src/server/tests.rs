use super::*;
use model::{PortId, Vlans};
use std::time::Duration;

const KEY: [u8; 32] = [0x5a; 32];
const US: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 51]);
const ALL: MacAddr = MacAddr::BROADCAST;
const WALL: UnixMs = UnixMs(1_800_000_000_000);

fn cfg() -> ServerConfig {
    ServerConfig::new("bng1", KEY)
}

fn host(n: u8) -> Attachment {
    let vlans = Vlans { outer: 200, inner: 20 };
    Attachment { port: PortId(1), vlans, mac: MacAddr([2, 0, 0, 0, 0, n]) }
}

fn packet<'a>(code: Code, tags: &[(u16, &'a [u8])]) -> Packet<'a> {
    let tags = tags.iter().map(|(kind, value)| Tag::new(*kind, value)).collect();
    Packet { code, session_id: 0, tags }
}

fn padi<'a>() -> Packet<'a> {
    packet(Code::Padi, &[(tag::SERVICE_NAME, b"")])
}

fn one(actions: Vec<Action>) -> Action {
    let [action] = <[Action; 1]>::try_from(actions).unwrap();
    action
}

/// What a fresh server does with one packet.
fn handle(from: Attachment, to: MacAddr, packet: &Packet<'_>, cfg: &ServerConfig) -> Action {
    one(Server::new().on_frame(from, to, packet, Tick::from_ms(1000), WALL, cfg))
}

fn replied(action: &Action) -> Packet<'_> {
    let Action::Reply { payload, .. } = action else { panic!("{action:?} is no reply") };
    Packet::parse(payload).unwrap()
}

/// The cookie that `from` is given at `wall`.
fn cookie_of(from: Attachment, wall: UnixMs, cfg: &ServerConfig) -> Vec<u8> {
    let mut server = Server::new();
    let pado = one(server.on_frame(from, ALL, &padi(), Tick::from_ms(1), wall, cfg));
    replied(&pado).tag(tag::AC_COOKIE).unwrap().to_vec()
}

fn padr_at(from: Attachment, cookie: &[u8], wall: UnixMs, cfg: &ServerConfig) -> Action {
    let padr = packet(Code::Padr, &[(tag::SERVICE_NAME, b""), (tag::AC_COOKIE, cookie)]);
    one(Server::new().on_frame(from, US, &padr, Tick::from_ms(7), wall, cfg))
}

#[test]
fn a_padi_is_answered_with_what_it_asked_for() {
    let padi = packet(
        Code::Padi,
        &[
            (tag::HOST_UNIQ, b"abc"),
            (tag::SERVICE_NAME, b"internet"),
            (tag::RELAY_SESSION_ID, b"relay"),
            (tag::PPP_MAX_PAYLOAD, b"\x05\xdc"),
        ],
    );
    let action = handle(host(1), ALL, &padi, &ServerConfig { mtu: 1600, ..cfg() });
    let Action::Reply { to, .. } = &action else { panic!("{action:?}") };
    assert_eq!(*to, host(1));
    let pado = replied(&action);
    assert_eq!((pado.code, pado.session_id), (Code::Pado, 0));
    let kinds: Vec<u16> = pado.tags.iter().map(|t| t.kind).collect();
    assert_eq!(kinds, [0x0102, 0x0101, 0x0104, 0x0103, 0x0110, 0x0120]);
    assert_eq!(pado.tag(tag::AC_NAME), Some(b"bng1".as_slice()));
    assert_eq!(pado.tag(tag::SERVICE_NAME), Some(b"internet".as_slice()));
    assert_eq!(pado.tag(tag::HOST_UNIQ), Some(b"abc".as_slice()));
    assert_eq!(pado.tag(tag::RELAY_SESSION_ID), Some(b"relay".as_slice()));
    assert_eq!(pado.max_payload(), Some(1500));
}

#[test]
fn a_large_payload_is_agreed_on_only_when_both_ends_have_room() {
    for (mtu, asked, want) in [
        (1500, Some(1500_u16), None),
        (1600, None, None),
        (1600, Some(1492), None),
        (1600, Some(1400), None),
        (1600, Some(1500), Some(1500)),
        (1504, Some(1500), Some(1496)),
        (9000, Some(9000), Some(8992)),
    ] {
        let octets = asked.map(u16::to_be_bytes);
        let mut tags = vec![(tag::SERVICE_NAME, b"".as_slice())];
        tags.extend(octets.iter().map(|o| (tag::PPP_MAX_PAYLOAD, o.as_slice())));
        let action =
            handle(host(1), ALL, &packet(Code::Padi, &tags), &ServerConfig { mtu, ..cfg() });
        assert_eq!(replied(&action).max_payload(), want, "mtu {mtu}, asked {asked:?}");
    }
}

#[test]
fn unusable_packets_are_dropped_by_name() {
    let empty = packet(Code::Padi, &[]);
    let with_sid = |code, session_id| Packet { session_id, ..packet(code, &[]) };
    let no_cookie = packet(Code::Padr, &[(tag::SERVICE_NAME, b"")]);
    let huge = vec![7; 1400];
    let huge = packet(
        Code::Padi,
        &[(tag::SERVICE_NAME, b""), (tag::HOST_UNIQ, &huge), (tag::RELAY_SESSION_ID, &[1; 60])],
    );
    let group = Attachment { mac: MacAddr([1, 0, 0x5e, 0, 0, 1]), ..host(1) };
    let multicast = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    for (from, to, packet, want) in [
        (host(1), US, packet(Code::Pado, &[]), DropReason::NotForServer),
        (host(1), US, packet(Code::Pads, &[]), DropReason::NotForServer),
        (group, ALL, padi(), DropReason::GroupSource),
        (host(1), multicast, padi(), DropReason::Destination),
        (host(1), ALL, packet(Code::Padr, &[]), DropReason::Destination),
        (host(1), ALL, with_sid(Code::Padt, 9), DropReason::Destination),
        (host(1), ALL, with_sid(Code::Padi, 9), DropReason::SessionId(9)),
        (host(1), US, with_sid(Code::Padr, 9), DropReason::SessionId(9)),
        (host(1), US, with_sid(Code::Padt, 0), DropReason::SessionId(0)),
        (host(1), ALL, empty, DropReason::NoServiceName),
        (host(1), US, no_cookie, DropReason::NoCookie),
        (host(1), ALL, huge, DropReason::AnswerTooLong(1514)),
    ] {
        let got = handle(from, to, &packet, &cfg());
        assert_eq!(got, Action::Drop(want), "{:?} to {to}", packet.code);
    }
}

#[test]
fn a_padi_for_a_service_of_someone_else_meets_silence() {
    let cfg = ServerConfig { services: vec!["internet".into(), "iptv".into()], ..cfg() };
    let ask = |service| handle(host(1), ALL, &packet(Code::Padi, &[(0x0101, service)]), &cfg);
    assert_eq!(ask(b"voice"), Action::Drop(DropReason::UnknownService));
    let services = |action: &Action| -> Vec<Vec<u8>> {
        let tags = replied(action).tags;
        tags.iter().filter(|t| t.kind == 0x0101).map(|t| t.value.to_vec()).collect()
    };
    assert_eq!(services(&ask(b"iptv")), [b"iptv".to_vec()]);
    assert_eq!(services(&ask(b"")), [b"".to_vec(), b"internet".to_vec(), b"iptv".to_vec()]);
}

#[test]
fn a_padr_for_an_unknown_service_is_refused_by_name() {
    let cfg = ServerConfig { services: vec!["internet".into()], ..cfg() };
    let cookie = cookie_of(host(1), WALL, &cfg);
    let padr = packet(
        Code::Padr,
        &[(tag::SERVICE_NAME, b"voice"), (tag::HOST_UNIQ, b"abc"), (tag::AC_COOKIE, &cookie)],
    );
    let action = handle(host(1), US, &padr, &cfg);
    let pads = replied(&action);
    assert_eq!((pads.code, pads.session_id), (Code::Pads, 0));
    assert_eq!(pads.error().unwrap().0, tag::SERVICE_NAME_ERROR);
    assert_eq!(pads.tag(tag::HOST_UNIQ), Some(b"abc".as_slice()));
}

#[test]
fn each_repetition_of_a_padr_opens_again() {
    let cookie = cookie_of(host(1), WALL, &cfg());
    let padr = packet(Code::Padr, &[(tag::SERVICE_NAME, b""), (tag::AC_COOKIE, &cookie)]);
    let mut server = Server::new();
    for at_ms in [1000, 6000, 16_000] {
        let now = Tick::from_ms(at_ms);
        let wall = UnixMs(WALL.0 + at_ms);
        let action = one(server.on_frame(host(1), US, &padr, now, wall, &cfg()));
        assert_eq!(action, Action::Open { from: host(1), request: Padr::default() }, "{at_ms}");
    }
}

#[test]
fn a_cookie_is_good_only_where_it_was_given() {
    let cookie = cookie_of(host(1), WALL, &cfg());
    let mut other_port = host(1);
    other_port.port = PortId(2);
    let mut other_vlan = host(1);
    other_vlan.vlans.inner = 21;
    for from in [host(2), other_port, other_vlan] {
        let got = padr_at(from, &cookie, WALL, &cfg());
        assert_eq!(got, Action::Drop(DropReason::BadCookie), "{from}");
    }
    let other_key = ServerConfig { cookie_key: [1; 32], ..cfg() };
    let got = padr_at(host(1), &cookie, WALL, &other_key);
    assert_eq!(got, Action::Drop(DropReason::BadCookie));
    for bit in 0..cookie.len() * 8 {
        let mut bad = cookie.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let got = padr_at(host(1), &bad, WALL, &cfg());
        assert_eq!(got, Action::Drop(DropReason::BadCookie), "bit {bit}");
    }
    for cut in [0, 8, 23] {
        let got = padr_at(host(1), &cookie[..cut], WALL, &cfg());
        assert_eq!(got, Action::Drop(DropReason::BadCookie), "cut at {cut}");
    }
}

#[test]
fn a_cookie_of_the_previous_owner_is_good_although_the_clocks_differ() {
    let lifetime_ms = u64::try_from(cfg().cookie_lifetime.as_millis()).unwrap();
    let cookie = cookie_of(host(1), WALL, &cfg());
    for (wall_ms, good) in [
        (WALL.0, true),
        (WALL.0 - 2000, true), // the next owner's clock is behind
        (WALL.0 - 2001, false),
        (WALL.0 + lifetime_ms + 2000, true), // or ahead
        (WALL.0 + lifetime_ms + 2001, false),
        (0, false),
        (u64::MAX, false),
    ] {
        let action = padr_at(host(1), &cookie, UnixMs(wall_ms), &cfg());
        if good {
            assert!(matches!(action, Action::Open { .. }), "{wall_ms}: {action:?}");
        } else {
            let pads = replied(&action);
            assert_eq!(pads.session_id, 0, "{wall_ms}");
            assert_eq!(pads.error().unwrap().0, tag::AC_SYSTEM_ERROR, "{wall_ms}");
        }
    }
}

#[test]
fn a_flooding_host_is_limited_and_its_neighbours_are_not() {
    let cfg = ServerConfig { padi_per_s: 10, padi_burst: 5, padi_per_mac_per_s: 2, ..cfg() };
    let mut server = Server::new();
    let mut send = |n: u8, at_ms: u64| match one(server.on_frame(
        host(n),
        ALL,
        &padi(),
        Tick::from_ms(at_ms),
        WALL,
        &cfg,
    )) {
        Action::Reply { .. } => "pado",
        Action::Drop(reason) => reason.label(),
        other @ (Action::Open { .. } | Action::Close { .. }) => panic!("{other:?}"),
    };
    for (n, at_ms, want) in [
        (1, 1000, "pado"),
        (1, 1001, "pado"),
        (1, 1002, "pppoe_host_rate"),
        (1, 1003, "pppoe_host_rate"), // takes nothing from the port's share
        (2, 1004, "pado"),
        (3, 1005, "pado"),
        (4, 1006, "pado"),
        (5, 1007, "pppoe_port_rate"),
        (1, 1600, "pado"),
        (5, 1601, "pado"),
    ] {
        assert_eq!(send(n, at_ms), want, "host {n} at {at_ms} ms");
    }
}

#[test]
fn forged_padrs_of_one_host_are_limited() {
    let mut server = Server::new();
    let padr = packet(Code::Padr, &[(tag::SERVICE_NAME, b""), (tag::AC_COOKIE, &[0; 24])]);
    let got: Vec<Action> = (0..4)
        .map(|_| one(server.on_frame(host(1), US, &padr, Tick::from_ms(5), WALL, &cfg())))
        .collect();
    assert_eq!(got[2], Action::Drop(DropReason::BadCookie));
    assert_eq!(got[3], Action::Drop(DropReason::HostRate));
}

#[test]
fn a_padt_closes_whatever_tags_it_has() {
    for tags in [&[][..], &[(tag::GENERIC_ERROR, b"bye".as_slice())][..]] {
        let padt = Packet { session_id: 7, ..packet(Code::Padt, tags) };
        let got = handle(host(1), US, &padt, &cfg());
        assert_eq!(got, Action::Close { from: host(1), sid: 7 });
    }
    let octets = padt(7, Some("session unknown"));
    let parsed = Packet::parse(&octets).unwrap();
    assert_eq!((parsed.code, parsed.session_id), (Code::Padt, 7));
    assert_eq!(parsed.error().unwrap().1, "session unknown");
}

#[test]
fn a_padr_brings_the_line_along() {
    let mut vendor = 0x0de9_u32.to_be_bytes().to_vec();
    vendor.extend_from_slice(b"\x01\x07olt 1\n7\x02\x04line\x81\x04\x00\x00\x04\x00");
    let cookie = cookie_of(host(1), WALL, &cfg());
    let padr = packet(
        Code::Padr,
        &[
            (tag::SERVICE_NAME, b"any"),
            (tag::AC_COOKIE, &cookie),
            (tag::VENDOR_SPECIFIC, b"\x00\x00\x00\x09other vendor"),
            (tag::VENDOR_SPECIFIC, &vendor),
        ],
    );
    let Action::Open { request, .. } = handle(host(1), US, &padr, &cfg()) else { panic!() };
    assert_eq!(request.service, b"any");
    assert_eq!(request.circuit_id.as_deref(), Some("olt 1\u{fffd}7"));
    assert_eq!(request.remote_id.as_deref(), Some("line"));
    assert_eq!((request.line_up_kbps, request.line_down_kbps), (Some(1024), None));
}

#[test]
fn a_padr_whose_answer_would_not_fit_is_dropped_before_it_opens() {
    let cookie = cookie_of(host(1), WALL, &cfg());
    let unique = vec![7; 1480];
    let padr = packet(
        Code::Padr,
        &[(tag::SERVICE_NAME, b""), (tag::HOST_UNIQ, &unique), (tag::AC_COOKIE, &cookie)],
    );
    let got = handle(host(1), US, &padr, &cfg());
    assert_eq!(got, Action::Drop(DropReason::AnswerTooLong(1502)));
}

#[test]
fn the_default_lifetime_covers_the_repetitions_of_a_padr() {
    assert!(cfg().cookie_lifetime > Duration::from_secs(5 + 10));
}
