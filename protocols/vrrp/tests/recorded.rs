//! Real adverts of keepalived: read, written again, and replayed to the engines.

#![expect(clippy::unwrap_used, reason = "the helpers of this test are tests, too")]

use model::{MacAddr, Tick};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use vrrp::{
    Action, ChecksumForm, Event, Listener, MULTICAST_IPV4, MULTICAST_MAC, Received, Router,
    RouterConfig, Sighting, StateName, WireError, parse_frame,
};

const MASTER: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const BACKUP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 100);

const CASES: [&str; 4] = [
    "adverts-link-cut-takeover-and-return",
    "higher-priority-starts-preempts",
    "priority-0-on-shutdown-takeover",
    "vmac-start-and-takeover",
];

/// Time and octets of each frame.
fn frames(case: &str) -> Vec<(Tick, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recorded/{case}.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let at = Tick::from_ns(fields[1].parse::<u64>().unwrap() * 1000);
            let pairs = (0..fields[2].len()).step_by(2).map(|i| &fields[2][i..i + 2]);
            (at, pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
        })
        .collect()
}

/// The adverts of one case for IPv4.
fn adverts(case: &str) -> Vec<(Tick, Ipv4Addr, Received)> {
    frames(case)
        .into_iter()
        .filter_map(|(at, octets)| {
            let received = parse_frame(&octets).unwrap()?;
            match received.src_ip {
                IpAddr::V4(src) => Some((at, src, received)),
                IpAddr::V6(_) => None,
            }
        })
        .collect()
}

#[test]
fn each_recorded_advert_is_read_and_written_again_octet_for_octet() {
    let (mut v4, mut v6) = (0, 0);
    for case in CASES {
        for (_, octets) in frames(case) {
            let Some(received) = parse_frame(&octets).unwrap() else { continue };
            assert_eq!(received.advert.max_advert_interval_cs, 10, "{case}");
            // keepalived reads RFC 5798 so, over IPv4 too.
            assert_eq!(received.form, ChecksumForm::PseudoHeader, "{case}");
            match received.src_ip {
                IpAddr::V4(src) => {
                    v4 += 1;
                    assert_eq!(received.advert.vrid, 51);
                    assert_eq!(received.advert.addresses, [IpAddr::from(VIP)]);
                    assert_eq!(&octets[..6], &MULTICAST_MAC.0);
                    let message = &octets[34..];
                    let ours = received.advert.emit_with_pseudo_header(src, MULTICAST_IPV4);
                    assert_eq!(ours, message, "{case}");
                    // The form of RFC 9568 differs in the checksum only.
                    let ours = received.advert.emit();
                    assert_eq!((&ours[..6], &ours[8..]), (&message[..6], &message[8..]));
                    assert_ne!(&ours[6..8], &message[6..8]);
                }
                IpAddr::V6(_) => {
                    v6 += 1;
                    assert_eq!((received.advert.vrid, received.advert.addresses.len()), (61, 2));
                }
            }
        }
    }
    assert_eq!((v4, v6), (130, 130), "adverts in the files");
}

#[test]
fn a_flipped_bit_is_noticed() {
    let (_, octets) = frames(CASES[0]).swap_remove(0);
    for bit in 0..octets.len() * 8 {
        let mut bad = octets.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 >= 34 {
            assert!(parse_frame(&bad).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn an_advert_that_was_routed_here_is_refused() {
    let (_, mut octets) = frames(CASES[0]).swap_remove(0);
    octets[22] = 254;
    octets[24..26].copy_from_slice(&[0, 0]);
    let sum = ether::checksum(&[&octets[14..34]]).to_be_bytes();
    octets[24..26].copy_from_slice(&sum);
    assert_eq!(parse_frame(&octets), Err(WireError::Ttl(254)));
}

#[test]
fn the_virtual_mac_is_seen_as_the_source() {
    let first = &adverts("vmac-start-and-takeover")[0].2;
    assert_eq!(first.src_mac, MacAddr::virtual_router(51));
}

/// Replays the adverts of the master to our router in the backup's place, and returns when ours and
/// keepalived's took over.
fn takeover(case: &str) -> (Tick, Tick) {
    let recorded = adverts(case);
    let theirs = recorded.iter().find(|(_, src, _)| *src == BACKUP).unwrap().0;
    let mut cfg = RouterConfig::new(51, BACKUP, vec![VIP]);
    cfg.interval_cs = 10;
    let mut router = Router::new(cfg);
    let _ = router.step(&Event::Startup, recorded[0].0);
    for (at, src_ip, received) in recorded.iter().filter(|(_, src, _)| *src == MASTER) {
        let ours = router.deadline().unwrap();
        if ours < *at {
            return (ours, theirs);
        }
        let event = Event::Advert { src_ip: *src_ip, advert: &received.advert };
        assert_eq!(router.step(&event, *at), []);
    }
    let ours = router.deadline().unwrap();
    let became = router.step(&Event::Deadline, ours);
    assert!(became.contains(&Action::Became(StateName::Active)), "{became:?}");
    (ours, theirs)
}

#[test]
fn our_router_takes_over_when_keepalived_does() {
    for case in ["priority-0-on-shutdown-takeover", "vmac-start-and-takeover"] {
        let (ours, theirs) = takeover(case);
        let late_ms = theirs.as_ms().abs_diff(ours.as_ms());
        assert!(late_ms <= 5, "{case}: ours at {ours:?}, keepalived's at {theirs:?}");
    }
}

#[test]
fn a_listener_names_the_active_router_through_each_handover() {
    // Not one of them is a conflict: also after the link cut the weaker router yields to the first
    // advert of the stronger, which on the wire looks like any preemption.
    let want: [&[&str]; 4] = [
        &["new 1", "new 2", "new 1"],
        &["new 2", "new 1"],
        &["new 1", "released", "new 2"],
        &["new 1", "released", "new 2"],
    ];
    for (case, want) in CASES.iter().zip(want) {
        let mut listener = Listener::new(51);
        let mut got = vec![];
        for (at, src, received) in adverts(case) {
            match listener.advert(src.into(), &received.advert, at) {
                Some(Sighting::Same) => {}
                Some(Sighting::New { .. }) => got.push(format!("new {}", src.octets()[3])),
                Some(Sighting::Released) => got.push("released".to_owned()),
                other => panic!("{case}: {other:?} of {src} at {at:?}"),
            }
        }
        assert_eq!(got, want, "{case}");
    }
}
