//! Malformed and random input.

use model::{Attachment, MacAddr, PortId, Tick, UnixMs, Vlans};
use pppoe::{
    Code, LineInfo, Packet, Server, ServerConfig, TAGS_MAX, Tag, WireError, emit_session,
    parse_session, tag,
};
use proptest::prelude::*;

#[test]
fn malformed_packets_are_refused_by_name() {
    let many = [0x01, 0x03, 0, 0].repeat(TAGS_MAX + 1);
    let mut too_many = vec![0x11, 0x09, 0, 0, 0, u8::try_from(many.len()).unwrap()];
    too_many.extend_from_slice(&many);
    let cases: &[(&[u8], WireError)] = &[
        (&[0x11, 0x09, 0, 0, 0], WireError::Truncated { have: 5, need: 6 }),
        (&[0x11, 0x09, 0, 0, 0, 1], WireError::Truncated { have: 6, need: 7 }),
        (&[0x12, 0x09, 0, 0, 0, 0], WireError::VersionType(0x12)),
        (&[0x11, 0x0a, 0, 0, 0, 0], WireError::Code(0x0a)),
        (&[0x11, 0x09, 0, 0, 0, 3, 1, 1, 0], WireError::TagTruncated { kind: 0, have: 3, need: 4 }),
        (
            &[0x11, 0x09, 0, 0, 0, 5, 1, 1, 0, 2, 7, 7, 7],
            WireError::TagTruncated { kind: 0x0101, have: 1, need: 2 },
        ),
        (&too_many, WireError::TooManyTags),
    ];
    for (octets, want) in cases {
        assert_eq!(Packet::parse(octets), Err(*want), "{octets:02x?}");
    }
    assert_eq!(parse_session(&[0x11, 0x09, 0, 1, 0, 0]), Err(WireError::Code(9)));
}

#[test]
fn what_follows_the_end_of_the_list_is_ignored() {
    let octets = [0x11, 0x09, 0, 0, 0, 9, 1, 1, 0, 0, 0, 0, 0, 0, 0xff];
    let packet = Packet::parse(&octets).unwrap();
    assert_eq!(packet.tags, [Tag::new(tag::SERVICE_NAME, &[])]);
}

#[test]
fn a_session_packet_is_cut_to_its_length() {
    let mut octets = emit_session(0x0102, &[0xc0, 0x21, 9, 9]);
    octets.resize(46, 0); // Ethernet padding
    assert_eq!(parse_session(&octets), Ok((0x0102, [0xc0, 0x21, 9, 9].as_slice())));
}

#[test]
fn a_tag_that_no_length_can_tell_is_left_out() {
    let (huge, half) = (vec![1; 70_000], vec![2; 40_000]);
    let tags = vec![Tag::new(1, &huge), Tag::new(2, &half), Tag::new(3, &half), Tag::new(4, b"x")];
    let octets = Packet { code: Code::Padi, session_id: 0, tags }.emit();
    let kinds: Vec<u16> = Packet::parse(&octets).unwrap().tags.iter().map(|t| t.kind).collect();
    assert_eq!(kinds, [2, 4]);
}

fn any_code() -> impl Strategy<Value = Code> {
    prop::sample::select(vec![Code::Padi, Code::Pado, Code::Padr, Code::Pads, Code::Padt])
}

/// Tags that a packet can carry and whose kinds are likely to matter.
fn any_tags() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    let known =
        vec![0x0101, 0x0102, 0x0103, 0x0104, 0x0105, 0x0110, 0x0120, 0x0201, 0x0202, 0x0203];
    let kind = prop_oneof![prop::sample::select(known), 1..=u16::MAX];
    prop::collection::vec((kind, prop::collection::vec(any::<u8>(), 0..80)), 0..=TAGS_MAX)
}

proptest! {
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Packet::parse(&octets);
        let _ = parse_session(&octets);
        let mut framed = vec![0x11, 0x19, 0, 0, 0, u8::try_from(octets.len()).unwrap()];
        framed.extend_from_slice(&octets);
        if let Ok(packet) = Packet::parse(&framed) {
            let _ = (packet.line_info(), packet.error(), packet.max_payload());
        }
    }

    #[test]
    fn a_packet_is_read_as_it_was_written(
        code in any_code(),
        session_id: u16,
        tags in any_tags(),
        padding in 0..50_usize,
    ) {
        let tags = tags.iter().map(|(kind, value)| Tag::new(*kind, value)).collect();
        let packet = Packet { code, session_id, tags };
        let mut octets = packet.emit();
        octets.resize(octets.len() + padding, 0);
        prop_assert_eq!(Packet::parse(&octets), Ok(packet));
    }

    #[test]
    fn a_ppp_frame_is_read_as_it_was_written(
        sid: u16,
        ppp in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let octets = emit_session(sid, &ppp);
        prop_assert_eq!(parse_session(&octets), Ok((sid, ppp.as_slice())));
    }

    #[test]
    fn a_line_is_read_as_it_was_written(
        circuit in prop::option::of("[ -~]{0,63}"),
        remote in prop::option::of("[ -~]{0,63}"),
        up: Option<u32>,
        down: Option<u32>,
    ) {
        let line =
            LineInfo { circuit_id: circuit, remote_id: remote, up_kbps: up, down_kbps: down };
        let value = line.emit().unwrap_or_default();
        let tags = vec![Tag::new(tag::VENDOR_SPECIFIC, &value)];
        let packet = Packet { code: Code::Padi, session_id: 0, tags };
        prop_assert_eq!(packet.line_info(), line);
    }

    #[test]
    fn the_server_does_exactly_one_thing_and_sends_no_more_than_the_link_carries(
        code in any_code(),
        session_id: u16,
        tags in any_tags(),
        broadcast: bool,
    ) {
        let cfg = ServerConfig::new("bng1", [1; 32]);
        let tags = tags.iter().map(|(kind, value)| Tag::new(*kind, value)).collect();
        let packet = Packet { code, session_id, tags };
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let from = Attachment { port: PortId(0), vlans: Vlans::NONE, mac };
        let to = if broadcast { MacAddr::BROADCAST } else { mac };
        let now = Tick::from_ms(1);
        let actions = Server::new().on_frame(from, to, &packet, now, UnixMs(1), &cfg);
        prop_assert_eq!(actions.len(), 1);
        if let pppoe::Action::Reply { payload, .. } = &actions[0] {
            prop_assert!(payload.len() <= 1500);
        }
        // Nobody guesses a cookie.
        let opened = matches!(actions[0], pppoe::Action::Open { .. });
        prop_assert!(!opened);
    }
}
