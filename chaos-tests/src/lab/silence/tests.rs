use super::*;
use ether::Udp4;
use model::Vlans;
use std::net::IpAddr;

const OWN_MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x11]);
const SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 9);
const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);

fn frame(src: MacAddr, vlans: Vlans, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    Frame { dst: MacAddr::BROADCAST, src, vlans, s_tag: false, ethertype, payload }.emit()
}

fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), octets: usize) -> Vec<u8> {
    let payload = vec![0; octets];
    Udp4 { src: src.0, dst: dst.0, src_port: src.1, dst_port: dst.1, ttl: 64, payload: &payload }
        .emit()
}

fn pado() -> Vec<u8> {
    // Version and type, code 0x07, session 0, no tags (RFC 2516 §5.2).
    vec![0x11, 0x07, 0, 0, 0, 0]
}

fn advert() -> Vec<u8> {
    let advert = vrrp::Advert {
        vrid: VRID,
        priority: 255,
        max_advert_interval_cs: 100,
        addresses: vec![IpAddr::V4(CORE_VIP)],
    };
    vrrp::frame(&advert, CORE_VIP)
}

/// Frames that a wrong standby might send: from its own MAC, so that nothing but the content tells.
fn forbidden() -> Vec<(Side, Vec<u8>, Claim)> {
    let vmac = MacAddr::virtual_router(VRID);
    let arp = |mac, ip| Arp::gratuitous(mac, ip).emit();
    let own_ip = Ipv4Addr::new(10, 254, 0, 11);
    let own = |ethertype, payload: &[u8]| frame(OWN_MAC, Vlans::NONE, ethertype, payload);
    let tagged = Vlans { outer: 100, inner: 7 };
    let offer = udp((GATEWAY, 67), (Ipv4Addr::BROADCAST, 68), 300);
    vec![
        (Side::Access, own(ethertype::ARP, &arp(OWN_MAC, GATEWAY)), Claim::Arp),
        (Side::Core, own(ethertype::ARP, &arp(OWN_MAC, CORE_VIP)), Claim::Arp),
        (Side::Core, own(ethertype::ARP, &arp(vmac, own_ip)), Claim::Arp),
        (Side::Access, own(ethertype::PPPOE_DISCOVERY, &pado()), Claim::Discovery),
        (
            Side::Access,
            frame(OWN_MAC, tagged, ethertype::PPPOE_DISCOVERY, &pado()),
            Claim::Discovery,
        ),
        (
            Side::Access,
            own(ethertype::PPPOE_SESSION, &[0x11, 0, 0, 1, 0, 2, 0xc0, 0x21]),
            Claim::Ppp,
        ),
        (Side::Access, own(ethertype::IPV4, &offer), Claim::Dhcp),
        (Side::Access, own(ethertype::IPV4, &offer)[..128].to_vec(), Claim::Dhcp),
        (Side::Access, advert(), Claim::Vrrp),
        (Side::Core, advert(), Claim::Vrrp),
        (
            Side::Core,
            own(ethertype::IPV4, &udp((SUBSCRIBER, 40_000), (TARGET, 9000), 16)),
            Claim::Subscriber,
        ),
        (
            Side::Access,
            own(ethertype::IPV4, &udp((TARGET, 9000), (SUBSCRIBER, 40_000), 16)),
            Claim::Subscriber,
        ),
        (Side::Access, frame(vmac, Vlans::NONE, 0x88b5, &[0; 46]), Claim::VirtualMac),
        (Side::Core, frame(vmac, tagged, ethertype::IPV6, &[0; 46]), Claim::VirtualMac),
    ]
}

/// Looks every 2 ms from `from_ms` to `to_ms`; `until_ms` tells what they find, 0 is shut.
fn looks(log: &mut FenceLog, from_ms: u64, to_ms: u64, until_ms: impl Fn(u64) -> u64) {
    for ms in (from_ms..=to_ms).step_by(2) {
        log.note(Tick::from_ms(ms), Tick::from_ms(ms), Tick::from_ms(until_ms(ms)));
    }
}

#[test]
fn each_kind_of_frame_from_a_node_whose_fence_is_shut_is_flagged() {
    let mut shut = FenceLog::default();
    looks(&mut shut, 0, 1_000, |_| 0);
    let mut open = FenceLog::default();
    looks(&mut open, 0, 1_000, |ms| ms / 25 * 25 + 200);
    for (side, octets, want) in forbidden() {
        let mut judge = Judge::new("acc-n2", side);
        judge.frame(Tick::from_ms(500), &octets).unwrap();
        let found = judge.settle(&shut);
        assert_eq!(
            found.iter().map(|v| v.claim).collect::<Vec<_>>(),
            [want],
            "{side:?} {octets:02x?}"
        );
        let mut judge = Judge::new("acc-n1", side);
        judge.frame(Tick::from_ms(500), &octets).unwrap();
        assert_eq!(judge.settle(&open), [], "{side:?} {want:?}");
        assert_eq!(judge.take_tally().legal, BTreeMap::from([(want, 1)]));
    }
}

#[test]
fn what_anybody_may_send_is_counted_and_not_judged() {
    let own_ip = Ipv4Addr::new(10, 254, 0, 11);
    let rows = [
        (
            Side::Core,
            frame(OWN_MAC, Vlans::NONE, ethertype::ARP, &Arp::gratuitous(OWN_MAC, own_ip).emit()),
        ),
        (
            Side::Core,
            frame(OWN_MAC, Vlans::NONE, ethertype::IPV4, &udp((own_ip, 5000), (TARGET, 9), 16)),
        ),
        (Side::Access, frame(OWN_MAC, Vlans::NONE, ethertype::IPV6, &[0; 46])),
        (Side::Access, vec![0xff; 9]),
    ];
    for (side, octets) in rows {
        let mut judge = Judge::new("core-n2", side);
        judge.frame(Tick::from_ms(1), &octets).unwrap();
        assert_eq!(judge.take_tally().free, 1, "{side:?} {octets:02x?}");
    }
}

#[test]
fn a_frame_is_judged_by_the_fence_of_its_own_time() {
    // Shut, open from 1,001 ms on and renewed, expires at 2,000 ms without being shut: a killed owner.
    let mut log = FenceLog::default();
    looks(&mut log, 0, 1_000, |_| 0);
    looks(&mut log, 1_002, 3_000, |ms| (ms / 25 * 25 + 200).min(2_000));
    let rows = [
        (500, Ruling::Shut),
        (999, Ruling::Shut),
        (1_001, Ruling::Open), // it opened between two looks
        (1_500, Ruling::Open),
        (1_999, Ruling::Open),
        (2_002, Ruling::Shut), // the value in the map has passed
        (2_900, Ruling::Shut),
        (3_001, Ruling::Later),
    ];
    for (ms, want) in rows {
        assert_eq!(log.rule(Tick::from_ms(ms)), want, "at {ms} ms");
    }
    // An orderly release: shut at once, long before the promise would have ended.
    looks(&mut log, 3_002, 3_100, |_| 3_500);
    looks(&mut log, 3_102, 3_200, |_| 0);
    for (ms, want) in [(3_101, Ruling::Open), (3_104, Ruling::Shut), (3_150, Ruling::Shut)] {
        assert_eq!(log.rule(Tick::from_ms(ms)), want, "at {ms} ms");
    }
}

#[test]
fn a_frame_that_left_just_before_the_end_may_arrive_just_after_it() {
    let mut log = FenceLog::default();
    looks(&mut log, 0, 1_000, |_| 500);
    let (end, transit) = (Tick::from_ms(500), TRANSIT_MAX);
    let fine = Duration::from_micros(10);
    assert_eq!(log.rule(end + transit - fine), Ruling::Open);
    assert_eq!(log.rule(end + transit + fine), Ruling::Shut);
}

#[test]
fn in_a_gap_between_two_looks_both_values_count() {
    // Open until 500 ms at 100 ms, shut at 110 ms; then open until 900 ms at 120 ms.
    let mut log = FenceLog::default();
    for (ms, until_ms) in [(90, 500), (100, 500), (110, 0), (112, 0), (122, 900), (200, 900)] {
        log.note(Tick::from_ms(ms), Tick::from_ms(ms), Tick::from_ms(until_ms));
    }
    for (ms, want) in [
        (99, Ruling::Open),
        (101, Ruling::Open),
        (109, Ruling::Open), // it may have been released at the last moment
        (112, Ruling::Shut),
        (113, Ruling::Open), // it may have opened right after the look
        (121, Ruling::Open),
    ] {
        assert_eq!(log.rule(Tick::from_ms(ms)), want, "at {ms} ms");
    }
}

#[test]
fn nothing_is_concluded_from_a_time_when_nobody_looked() {
    let mut log = FenceLog::default();
    looks(&mut log, 100, 200, |_| 0);
    looks(&mut log, 400, 500, |_| 0);
    let rows = [
        (50, Ruling::Unwatched), // before the first look
        (150, Ruling::Shut),
        (300, Ruling::Unwatched), // it may have opened and shut again
        (450, Ruling::Shut),
    ];
    for (ms, want) in rows {
        assert_eq!(log.rule(Tick::from_ms(ms)), want, "at {ms} ms");
    }
    assert_eq!(log.unwatched(), Duration::from_millis(200));
}
