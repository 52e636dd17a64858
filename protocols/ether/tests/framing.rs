//! Frames, ARP, IPv4 and UDP: known octets, refusals, random input.

#![expect(clippy::unwrap_used, reason = "the helpers of this test are tests, too")]

use ether::{
    Arp, ArpOperation, FRAME_OCTETS_MIN, Frame, Ipv4, Udp4, WireError, checksum, ethertype,
    ip_protocol,
};
use model::{MacAddr, Vlans};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa1]);
const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc1]);

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

/// A frame to A from C: tags and type as given, then 46 octets.
fn tagged(tags: &str) -> Vec<u8> {
    let mut octets = hex(&format!("0200000000a1 0200000000c1 {tags}"));
    octets.resize(octets.len() + 46, 0x55);
    octets
}

#[test]
fn tags_of_every_kind_are_read() {
    for (tags, outer, inner, s_tag, ethertype) in [
        ("8863", 0, 0, false, ethertype::PPPOE_DISCOVERY),
        ("8100 0064 8864", 100, 0, false, ethertype::PPPOE_SESSION),
        ("8100 e064 8864", 100, 0, false, ethertype::PPPOE_SESSION), // priority 7
        ("88a8 00c9 0800", 201, 0, true, ethertype::IPV4),
        ("88a8 00c9 8100 0014 8863", 201, 20, true, ethertype::PPPOE_DISCOVERY),
        ("8100 00c8 8100 0014 8863", 200, 20, false, ethertype::PPPOE_DISCOVERY),
        ("8100 0000 86dd", 0, 0, false, ethertype::IPV6), // a priority tag is no VLAN
        ("88a8 0000 8100 0014 0806", 20, 0, false, ethertype::ARP),
    ] {
        let octets = tagged(tags);
        let frame = Frame::parse(&octets).unwrap();
        let payload = [0x55; 46].as_slice();
        let vlans = Vlans { outer, inner };
        let want = Frame { dst: A, src: C, vlans, s_tag, ethertype, payload };
        assert_eq!(frame, want, "{tags}");
        if !tags.contains("e064") && !tags.contains(" 0000") {
            assert_eq!(frame.emit(), octets, "{tags}");
        }
    }
}

#[test]
fn a_short_payload_is_padded() {
    let frame = Frame {
        dst: A,
        src: C,
        vlans: Vlans { outer: 5, inner: 6 },
        s_tag: true,
        ethertype: ethertype::ARP,
        payload: &[1, 2, 3],
    };
    let octets = frame.emit();
    assert_eq!(octets.len(), FRAME_OCTETS_MIN);
    assert_eq!(Frame::parse(&octets).unwrap().payload[..4], [1, 2, 3, 0]);
}

#[test]
fn unsound_frames_are_refused_by_name() {
    let cases: &[(&str, &str)] = &[
        ("0200000000a1 0200000000c1 88", "ether_truncated"),
        ("0200000000a1 0200000000c1 8100 00", "ether_truncated"),
        ("0200000000a1 0200000000c1 8100 0001", "ether_truncated"),
        ("0200000000a1 0300000000c1 0800", "ether_group_source"),
        ("0200000000a1 0200000000c1 0026 4242", "ether_not_ethernet2"),
        ("0200000000a1 0200000000c1 88a8 0001 8100 0002 8100 0003 0800", "ether_too_many_tags"),
    ];
    for (octets, label) in cases {
        assert_eq!(Frame::parse(&hex(octets)).unwrap_err().label(), *label, "{octets}");
    }
}

#[test]
fn an_announcement_is_a_request_for_the_own_address() {
    let ip = Ipv4Addr::new(10, 80, 0, 100);
    let mac = MacAddr::virtual_router(51);
    let want = "0001 0800 06 04 0001 00005e000133 0a500064 000000000000 0a500064";
    assert_eq!(Arp::gratuitous(mac, ip).emit(), hex(want));
}

#[test]
fn an_arp_answer_turns_the_request_round() {
    let request = hex("0001 0800 06 04 0001 0200000000c1 64400002 000000000000 64400001 0000");
    let request = Arp::parse(&request).unwrap();
    let answer = request.answer(A);
    let want = hex("0001 0800 06 04 0002 0200000000a1 64400001 0200000000c1 64400002");
    assert_eq!(answer.emit(), want);
    assert_eq!(Arp::parse(&want).unwrap().operation, ArpOperation::Reply);
}

#[test]
fn arp_for_other_networks_is_refused() {
    let cases: &[(&str, &str)] = &[
        ("0001 0800 06 04 0001 0200000000c1 64400002 000000000000 644000", "ether_truncated"),
        ("0006 0800 06 04 0001 0200000000c1 64400002 000000000000 64400001", "arp_space"),
        ("0001 86dd 06 04 0001 0200000000c1 64400002 000000000000 64400001", "arp_space"),
        ("0001 0800 08 04 0001 0200000000c1 64400002 000000000000 64400001", "arp_lengths"),
        ("0001 0800 06 04 0003 0200000000c1 64400002 000000000000 64400001", "arp_operation"),
    ];
    for (octets, label) in cases {
        assert_eq!(Arp::parse(&hex(octets)).unwrap_err().label(), *label, "{octets}");
    }
}

fn dhcp_like() -> Udp4<'static> {
    Udp4 {
        src: Ipv4Addr::new(10, 70, 0, 1),
        dst: Ipv4Addr::new(10, 70, 0, 100),
        src_port: 67,
        dst_port: 68,
        ttl: 64,
        payload: b"hello",
    }
}

#[test]
fn a_udp_packet_carries_both_checksums() {
    let packet = dhcp_like().emit();
    assert_eq!(packet.len(), 20 + 8 + 5);
    assert_eq!(checksum(&[&packet[..20]]), 0);
    let pseudo = hex("0a460001 0a460064 00 11 000d");
    assert_eq!(checksum(&[&pseudo, &packet[20..]]), 0);
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_all_ones_and_means_none_when_received() {
    let sum_of = |payload: &[u8]| {
        let packet = Udp4 { payload, ..dhcp_like() }.emit();
        u16::from_be_bytes([packet[26], packet[27]])
    };
    // With a payload of 0 the field shows what is missing to the sum of 0xffff.
    let zero = sum_of(&[0, 0]).to_be_bytes();
    assert_eq!(sum_of(&zero), 0xffff);
    let mut packet = dhcp_like().emit();
    packet[26..28].copy_from_slice(&[0, 0]);
    assert_eq!(Udp4::parse(&packet), Ok(Some(dhcp_like())));
}

#[test]
fn any_flipped_bit_of_a_udp_packet_is_noticed() {
    let packet = dhcp_like().emit();
    for bit in 0..packet.len() * 8 {
        let mut bad = packet.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(Udp4::parse(&bad).is_err(), "bit {bit}");
    }
}

#[test]
fn what_is_not_whole_udp_is_none() {
    let tcp = Ipv4 {
        src: Ipv4Addr::LOCALHOST,
        dst: Ipv4Addr::LOCALHOST,
        protocol: 6,
        ttl: 1,
        payload: &[0; 20],
    };
    assert_eq!(Udp4::parse(&tcp.emit()), Ok(None));
    let mut fragment = dhcp_like().emit();
    fragment[6] = 0x20; // More Fragments
    fragment[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&[&fragment[..20]]).to_be_bytes();
    fragment[10..12].copy_from_slice(&sum);
    assert_eq!(Udp4::parse(&fragment), Ok(None));
    assert_eq!(Ipv4::parse(&fragment), Err(WireError::Fragment));
}

#[test]
fn options_and_padding_are_stepped_over() {
    // Router Alert (RFC 2113), then two octets of IGMP-like payload, then Ethernet padding.
    let mut packet =
        hex("46 c0 001a 0000 4000 01 02 0000 00000000 e0000016 94040000 abcd 00000000");
    let sum = checksum(&[&packet[..24]]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    let ip = Ipv4::parse(&packet).unwrap();
    assert_eq!((ip.protocol, ip.payload), (2, [0xab, 0xcd].as_slice()));
}

#[test]
fn lying_lengths_are_refused() {
    let with = |at: usize, octets: &[u8]| {
        let mut packet = dhcp_like().emit();
        packet[at..at + octets.len()].copy_from_slice(octets);
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&[&packet[..20]]).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        Udp4::parse(&packet).unwrap_err().label()
    };
    assert_eq!(with(0, &[0x55]), "ipv4_version");
    assert_eq!(with(0, &[0x44]), "ipv4_lengths");
    assert_eq!(with(0, &[0x4f]), "ipv4_lengths");
    assert_eq!(with(2, &[0, 19]), "ipv4_lengths");
    assert_eq!(with(2, &[0, 34]), "ether_truncated");
    assert_eq!(with(2, &[0, 27]), "ether_truncated"); // too short for UDP
    assert_eq!(with(24, &[0, 7]), "udp_length");
    assert_eq!(with(24, &[0, 14]), "udp_length");
    let mut packet = dhcp_like().emit();
    packet[8] = 9;
    assert_eq!(Udp4::parse(&packet).unwrap_err().label(), "ipv4_checksum");
}

#[test]
fn a_payload_that_no_length_field_can_tell_is_cut() {
    let payload = vec![7; 70_000];
    let packet = Udp4 { payload: &payload, ..dhcp_like() }.emit();
    assert_eq!(packet.len(), 65_535);
    assert_eq!(Udp4::parse(&packet).unwrap().unwrap().payload.len(), Udp4::PAYLOAD_OCTETS_MAX);
}

prop_compose! {
    fn any_vlans()(outer in 0..4096_u16, inner in 0..4096_u16) -> Vlans {
        Vlans { outer, inner: if outer == 0 { 0 } else { inner } }
    }
}

proptest! {
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = Frame::parse(&octets);
        let _ = Arp::parse(&octets);
        let _ = Ipv4::parse(&octets);
        let _ = Udp4::parse(&octets);
    }

    #[test]
    fn a_frame_is_read_as_it_was_written(
        (dst, src) in any::<([u8; 6], [u8; 6])>(),
        vlans in any_vlans(),
        s_tag: bool,
        kind in 0x0600..=u16::MAX,
        payload in prop::collection::vec(any::<u8>(), 46..100),
    ) {
        prop_assume!(src[0] & 1 == 0 && kind != ethertype::VLAN && kind != ethertype::SVLAN);
        let s_tag = s_tag && vlans.outer != 0;
        let (dst, src) = (MacAddr(dst), MacAddr(src));
        let frame = Frame { dst, src, vlans, s_tag, ethertype: kind, payload: &payload };
        let octets = frame.emit();
        prop_assert_eq!(Frame::parse(&octets), Ok(frame));
    }

    #[test]
    fn arp_is_read_as_it_was_written(
        reply: bool,
        (sender_mac, target_mac) in any::<([u8; 6], [u8; 6])>(),
        (sender_ip, target_ip) in any::<(Ipv4Addr, Ipv4Addr)>(),
    ) {
        let operation = if reply { ArpOperation::Reply } else { ArpOperation::Request };
        let (sender_mac, target_mac) = (MacAddr(sender_mac), MacAddr(target_mac));
        let arp = Arp { operation, sender_mac, sender_ip, target_mac, target_ip };
        let octets = arp.emit();
        prop_assert_eq!(Arp::parse(&octets), Ok(arp));
    }

    #[test]
    fn udp_is_read_as_it_was_written(
        (src, dst) in any::<(Ipv4Addr, Ipv4Addr)>(),
        (src_port, dst_port, ttl) in any::<(u16, u16, u8)>(),
        payload in prop::collection::vec(any::<u8>(), 0..600),
        padding in 0..20_usize,
    ) {
        let udp = Udp4 { src, dst, src_port, dst_port, ttl, payload: &payload };
        let mut packet = udp.emit();
        packet.resize(packet.len() + padding, 0);
        prop_assert_eq!(Udp4::parse(&packet), Ok(Some(udp)));
        prop_assert_eq!(Ipv4::parse(&packet).unwrap().protocol, ip_protocol::UDP);
    }
}
