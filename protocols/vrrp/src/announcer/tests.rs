use super::*;
use crate::{Received, parse_frame};
use ether::{Arp, ArpOperation, Frame, ethertype};

const SRC: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 100);

fn announcer() -> Announcer {
    Announcer::new(AnnouncerConfig::new(51, SRC, vec![VIP]))
}

/// One word per frame: `advert PRIORITY` or `garp`.
fn words(frames: &[Vec<u8>]) -> Vec<String> {
    frames
        .iter()
        .map(|octets| match parse_frame(octets).unwrap() {
            Some(Received { src_mac, advert, .. }) => {
                assert_eq!(src_mac, MacAddr::virtual_router(51));
                assert_eq!(advert.max_advert_interval_cs, 10);
                format!("advert {}", advert.priority)
            }
            None => {
                let frame = Frame::parse(octets).unwrap();
                assert_eq!((frame.ethertype, frame.dst), (ethertype::ARP, MacAddr::BROADCAST));
                let arp = Arp::parse(frame.payload).unwrap();
                assert_eq!(arp.operation, ArpOperation::Request);
                assert_eq!((arp.sender_ip, arp.target_ip), (VIP, VIP));
                assert_eq!((arp.sender_mac, frame.src), (MacAddr::virtual_router(51), frame.src));
                "garp".to_owned()
            }
        })
        .collect()
}

#[test]
fn an_owner_speaks_at_once_and_then_each_interval() {
    let mut announcer = announcer();
    assert_eq!(words(&announcer.start(Tick::from_ms(1000))), ["advert 255", "garp"]);
    let script: &[(u64, &[&str])] = &[
        (1099, &[]), // woken early
        (1100, &["advert 255", "garp"]),
        (1100, &[]), // woken twice
        (1200, &["advert 255", "garp"]),
        (1300, &["advert 255"]),
        (5000, &["advert 255"]), // after a pause there is nothing to catch up with
        (5001, &[]),
        (5100, &["advert 255"]),
    ];
    for &(at_ms, want) in script {
        let got = announcer.step(Event::Deadline, Tick::from_ms(at_ms));
        assert_eq!(words(&got), want, "at {at_ms} ms");
    }
}

#[test]
fn an_orderly_stop_says_priority_0_once() {
    let mut announcer = announcer();
    assert!(announcer.stop_orderly().is_empty(), "never started");
    let _ = announcer.start(Tick::from_ms(1000));
    assert_eq!(words(&announcer.stop_orderly()), ["advert 0"]);
    assert_eq!(announcer.deadline(), None);
    assert!(announcer.stop_orderly().is_empty(), "already stopped");
    assert!(announcer.step(Event::Deadline, Tick::from_ms(9000)).is_empty());
}

#[test]
fn a_fallen_fence_silences_without_a_farewell() {
    let mut announcer = announcer();
    let _ = announcer.start(Tick::from_ms(1000));
    announcer.stop();
    assert_eq!(announcer.deadline(), None);
    assert!(announcer.stop_orderly().is_empty());
}

#[test]
fn an_interval_is_rounded_to_what_the_wire_can_tell() {
    for (ms, want_cs) in
        [(0, 1), (1, 1), (10, 1), (11, 2), (100, 10), (40_950, 4095), (99_999, 4095)]
    {
        let mut cfg = AnnouncerConfig::new(51, SRC, vec![VIP]);
        cfg.interval = Duration::from_millis(ms);
        assert_eq!(cfg.interval_cs(), want_cs, "{ms} ms");
    }
}
