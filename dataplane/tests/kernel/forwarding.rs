use crate::frame::{self, Wrap, read_udp, source_mac, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, GATEWAY, Lab, ROUTER_MAC, SERVER, Setup, VMAC, drain_udp, group, receive,
    run, session, vlans,
};
use dataplane::{SessionChange, SessionEntry, XdpMode};
use model::{MacAddr, NatBlock, NatPool, SessionId};
use std::net::Ipv4Addr;

fn up(marker: u32) -> Vec<u8> {
    udp((ADDRESS, 4000), (SERVER, 53), marker, 100)
}

fn down(marker: u32) -> Vec<u8> {
    udp((SERVER, 53), (ADDRESS, 4000), marker, 100)
}

fn from_router(ip: &[u8]) -> Vec<u8> {
    Wrap::PLAIN.data(VMAC, ROUTER_MAC, ip)
}

async fn both_ways(lab: &Lab, wrap: Wrap) {
    let entry = session(wrap);
    lab.put(entry).await;
    let before = lab.dp().counters(entry.id).unwrap();

    lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &up(7))).unwrap();
    let (got, _) = receive(&lab.core, "packet at the core", |f| read_udp(f).is_some()).await;
    assert_eq!(source_mac(&got), VMAC, "{wrap:?}");
    assert_eq!(got[..6], ROUTER_MAC.0, "{wrap:?}");
    let mut routed = up(7);
    routed[8] -= 1;
    routed[10..12].copy_from_slice(&[0, 0]);
    let sum = frame::checksum(&routed[..20]);
    routed[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(got[14..14 + routed.len()], routed, "{wrap:?}: only the TTL changes");

    lab.core.send(&from_router(&down(8))).unwrap();
    let (got, _) = receive(&lab.client, "frame at the subscriber", |f| {
        f.ends_with(&down(8)[20..]) && f[..6] == CLIENT_MAC.0
    })
    .await;
    let mut routed = down(8);
    routed[8] -= 1;
    routed[10..12].copy_from_slice(&[0, 0]);
    let sum = frame::checksum(&routed[..20]);
    routed[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(got, wrap.data(CLIENT_MAC, VMAC, &routed), "{wrap:?}");

    let after = lab.dp().counters(entry.id).unwrap();
    assert_eq!(after.packets_up - before.packets_up, 1, "{wrap:?}");
    assert_eq!(after.packets_down - before.packets_down, 1, "{wrap:?}");
    assert_eq!(after.bytes_up - before.bytes_up, 128, "{wrap:?}");
    assert_eq!(after.bytes_down - before.bytes_down, 128, "{wrap:?}");
}

const WRAPS: [Wrap; 7] = [
    Wrap::PLAIN,
    Wrap { vlans: vlans_of(100, 0), outer_tpid: 0x8100, pppoe_sid: None },
    Wrap { vlans: vlans_of(100, 200), outer_tpid: 0x88a8, pppoe_sid: None },
    Wrap { vlans: vlans_of(0, 0), outer_tpid: 0x8100, pppoe_sid: Some(0x1234) },
    Wrap { vlans: vlans_of(100, 0), outer_tpid: 0x8100, pppoe_sid: Some(1) },
    Wrap { vlans: vlans_of(100, 200), outer_tpid: 0x88a8, pppoe_sid: Some(2) },
    Wrap { vlans: vlans_of(100, 200), outer_tpid: 0x8100, pppoe_sid: Some(3) },
];

const fn vlans_of(outer: u16, inner: u16) -> model::Vlans {
    model::Vlans { outer, inner }
}

#[test]
fn packets_flow_both_ways_in_every_encapsulation() {
    run("wrap", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        for wrap in WRAPS {
            both_ways(lab, wrap).await;
        }
    });
}

#[test]
fn packets_flow_both_ways_with_native_xdp() {
    run("native", Setup { xdp: XdpMode::Native, ..Setup::default() }, async |lab: &mut Lab| {
        lab.open_fence();
        for wrap in WRAPS {
            both_ways(lab, wrap).await;
        }
    });
}

#[test]
fn a_session_that_moves_is_served_at_its_new_place_only() {
    run("move", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        both_ways(lab, Wrap::pppoe(5)).await;
        both_ways(lab, Wrap::pppoe(6)).await;
        let before = lab.dropped("spoofed_source");
        lab.client.send(&Wrap::pppoe(5).data(VMAC, CLIENT_MAC, &up(1))).unwrap();
        lab.wait_dropped("spoofed_source", before, 1).await;
        assert_eq!(drain_udp(&lab.core), []);
    });
}

#[test]
fn a_frame_that_is_not_the_sessions_own_is_dropped() {
    run("spoof", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let wrap = Wrap { vlans: vlans(100, 0), ..Wrap::pppoe(9) };
        lab.put(session(wrap)).await;
        let other_mac = MacAddr([2, 0, 0, 0, 0, 0x66]);
        let foreign = udp((Ipv4Addr::new(100, 64, 0, 10), 1), (SERVER, 53), 1, 20);
        let mut bad_version = up(1);
        bad_version[0] = 0x65;
        let mut long = wrap.data(VMAC, CLIENT_MAC, &up(1));
        long.truncate(60);
        let rows: Vec<(&str, Vec<u8>, &str)> = vec![
            ("address of another", wrap.data(VMAC, CLIENT_MAC, &foreign), "spoofed_source"),
            ("other MAC", wrap.data(VMAC, other_mac, &up(1)), "spoofed_source"),
            (
                "other VLAN",
                Wrap { vlans: vlans(101, 0), ..wrap }.data(VMAC, CLIENT_MAC, &up(1)),
                "spoofed_source",
            ),
            ("no VLAN", Wrap::pppoe(9).data(VMAC, CLIENT_MAC, &up(1)), "spoofed_source"),
            (
                "other session",
                Wrap { pppoe_sid: Some(10), ..wrap }.data(VMAC, CLIENT_MAC, &up(1)),
                "spoofed_source",
            ),
            (
                "without PPPoE",
                Wrap { pppoe_sid: None, ..wrap }.data(VMAC, CLIENT_MAC, &up(1)),
                "spoofed_source",
            ),
            ("nobody's address", Wrap::PLAIN.data(VMAC, other_mac, &foreign), "no_session"),
            ("to another station", wrap.data(ROUTER_MAC, CLIENT_MAC, &up(1)), "other_mac"),
            ("IPv6", Wrap::PLAIN.frame(VMAC, CLIENT_MAC, 0x86dd, &[0; 60]), "not_ipv4"),
            ("bad version", wrap.data(VMAC, CLIENT_MAC, &bad_version), "malformed"),
            ("cut short", long, "malformed"),
        ];
        for (name, frame, reason) in rows {
            let before = lab.dropped(reason);
            lab.client.send(&frame).unwrap();
            lab.wait(&format!("{name}: {reason}"), || lab.dropped(reason) == before + 1).await;
        }
        assert_eq!(drain_udp(&lab.core), []);
        assert_eq!(lab.dp().counters(session(wrap).id).unwrap().packets_up, 0);
    });
}

#[test]
fn the_gateway_answers_pings_and_nothing_else() {
    run("gateway", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let wrap = Wrap::pppoe(77);
        lab.put(session(wrap)).await;
        // To a closed port: the kernel would answer with an ICMP error.
        let closed = udp((ADDRESS, 1), (GATEWAY, 9), 1, 20);
        lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &closed)).unwrap();
        lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &frame::ping(ADDRESS, GATEWAY))).unwrap();
        let (got, _) = receive(&lab.client, "first answer", |f| f[12..14] == [0x88, 0x64]).await;
        assert_eq!(source_mac(&got), VMAC);
        assert_eq!(got[22 + 12..22 + 16], GATEWAY.octets());
        assert_eq!(got[22 + 20], 0, "an echo reply, not an error");
    });
}

#[test]
fn a_packet_above_the_session_mtu_is_answered_with_fragmentation_needed() {
    run("mtu", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(Wrap::pppoe(78))).await;
        let full = udp((SERVER, 53), (ADDRESS, 4000), 1, 1492 - 28);
        lab.core.send(&from_router(&full)).unwrap();
        let (got, _) = receive(&lab.client, "1492 octets", |f| f[12..14] == [0x88, 0x64]).await;
        assert_eq!(got.len(), 14 + 8 + 1492);

        let large = udp((SERVER, 53), (ADDRESS, 4000), 1, 1493 - 28);
        lab.core.send(&from_router(&large)).unwrap();
        let (got, _) =
            receive(&lab.core, "ICMP error", |f| f.len() > 40 && f[23] == frame::ICMP).await;
        assert_eq!(got[34..36], [3, 4], "destination unreachable, fragmentation needed");
        assert_eq!(u16::from_be_bytes([got[40], got[41]]), 1492);
    });
}

#[test]
fn nat_uses_the_ports_of_the_block_and_translates_back() {
    run("nat", Setup::default(), async |lab: &mut Lab| {
        let nat =
            NatPool { public: "203.0.113.1-203.0.113.9".parse().unwrap(), ports_per_block: 64 };
        lab.dp().put_group(&group(Some(nat))).await.unwrap();
        lab.open_fence();
        let wrap = Wrap::pppoe(79);
        let public = Ipv4Addr::new(203, 0, 113, 5);
        let mut entry = session(wrap);
        entry.nat = Some(NatBlock { public, first_port: 2048, last_port: 2111 });
        lab.put(entry).await;
        for source_port in [1, 2050, 40_000, 65_535] {
            let sent = udp((ADDRESS, source_port), (SERVER, 53), 5, 40);
            lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &sent)).unwrap();
            let (got, _) = receive(&lab.core, "translated", |f| read_udp(f).is_some()).await;
            let (src, dst, _) = read_udp(&got).unwrap();
            assert_eq!(src.0, public);
            assert!((2048..=2111).contains(&src.1), "port {}", src.1);
            lab.core.send(&from_router(&udp(dst, src, 6, 40))).unwrap();
            let (got, _) =
                receive(&lab.client, "translated back", |f| f[12..14] == [0x88, 0x64]).await;
            assert_eq!(got[22 + 16..22 + 20], ADDRESS.octets());
            assert_eq!(got[22 + 22..22 + 24], source_port.to_be_bytes());
        }
    });
}

#[test]
fn what_no_subscriber_asked_for_neither_loops_nor_passes_untranslated() {
    run("stray", Setup::default(), async |lab: &mut Lab| {
        let nat =
            NatPool { public: "203.0.113.1-203.0.113.9".parse().unwrap(), ports_per_block: 64 };
        lab.dp().put_group(&group(Some(nat))).await.unwrap();
        lab.open_fence();
        let wrap = Wrap::pppoe(79);
        let public = Ipv4Addr::new(203, 0, 113, 5);
        let block = NatBlock { public, first_port: 2048, last_port: 2111 };
        lab.put(SessionEntry { nat: Some(block), ..session(wrap) }).await;
        for target in [(public, 2050), (Ipv4Addr::new(203, 0, 113, 9), 7), (ADDRESS, 4000)] {
            lab.core.send(&from_router(&udp((SERVER, 53), target, 4, 40))).unwrap();
        }
        // One flow through the same queues tells that the strays were dealt with.
        let sent = udp((ADDRESS, 4000), (SERVER, 53), 5, 40);
        lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &sent)).unwrap();
        let (got, _) = receive(&lab.core, "first packet back", |f| read_udp(f).is_some()).await;
        let (inside, outside, marker) = read_udp(&got).unwrap();
        assert_eq!((inside.0, outside, marker), (public, (SERVER, 53), 5), "no stray came back");
        lab.core.send(&from_router(&udp(outside, inside, 6, 40))).unwrap();
        let (got, _) =
            receive(&lab.client, "first packet down", |f| f[12..14] == [0x88, 0x64]).await;
        assert_eq!(got[22 + 28..22 + 32], 6u32.to_be_bytes(), "no stray reached the subscriber");
    });
}

#[test]
fn a_successor_on_an_address_does_not_get_its_predecessors_packets() {
    run("stale", Setup::default(), async |lab: &mut Lab| {
        let nat =
            NatPool { public: "203.0.113.1-203.0.113.9".parse().unwrap(), ports_per_block: 64 };
        lab.dp().put_group(&group(Some(nat))).await.unwrap();
        lab.open_fence();
        let wrap = Wrap::pppoe(79);
        let public = Ipv4Addr::new(203, 0, 113, 5);
        let block = Some(NatBlock { public, first_port: 2048, last_port: 2111 });
        let first = SessionEntry { nat: block, ..session(wrap) };
        let second = SessionEntry { id: SessionId(1002), ..first };
        let send = |marker| {
            let sent = udp((ADDRESS, 4000), (SERVER, 53), marker, 40);
            lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &sent)).unwrap();
        };
        let is_data = |f: &[u8]| f[12..14] == [0x88, 0x64];

        lab.put(first).await;
        send(1);
        let (got, _) = receive(&lab.core, "translated", |f| read_udp(f).is_some()).await;
        let (inside, outside, _) = read_udp(&got).unwrap();
        let answer = from_router(&udp(outside, inside, 2, 40));
        lab.core.send(&answer).unwrap();
        receive(&lab.client, "answer", is_data).await;

        let changes = [SessionChange::Remove(first), SessionChange::Put(second)];
        lab.dp().apply(&changes).await.unwrap();
        lab.core.send(&answer).unwrap();
        lab.wait_dropped("stale_flow", 0, 1).await;
        // Once it sends into the flow itself, the flow is its own.
        send(3);
        receive(&lab.core, "packet of the successor", |f| read_udp(f).is_some()).await;
        lab.core.send(&answer).unwrap();
        receive(&lab.client, "answer to the successor", is_data).await;
    });
}
