use crate::framing::mended;
use ether::checksum;
use model::Tick;
use std::net::{IpAddr, Ipv4Addr};
use vrrp::{Event, Listener, Received, Router, RouterConfig, parse_frame};

const ETHERNET_OCTETS: usize = 14;
const IP_OCTETS: usize = 20;

pub(crate) fn vrrp_frame(data: &[u8]) {
    for octets in [data.to_vec(), sound(data)] {
        if let Ok(Some(received)) = parse_frame(&octets) {
            heard(&received);
        }
    }
}

fn heard(received: &Received) {
    let Received { src_ip, advert, .. } = received;
    let mut listener = Listener::new(advert.vrid);
    for ms in [0, 10, 20_000] {
        let _ = listener.advert(*src_ip, advert, Tick::from_ms(ms));
    }
    let IpAddr::V4(src_ip) = *src_ip else { return };
    let again = parse_frame(&vrrp::frame(advert, src_ip));
    let again = again.expect("an emitted advert is sound").expect("it is an advert");
    assert_eq!((again.src_ip, &again.advert), (IpAddr::V4(src_ip), advert));

    let own = Ipv4Addr::new(10, 0, 0, 9);
    let mut router = Router::new(RouterConfig::new(advert.vrid, own, advert_addresses(received)));
    let mut now = Tick::ZERO;
    let _ = router.step(&Event::Startup, now);
    for _ in 0..4 {
        let _ = router.step(&Event::Advert { src_ip, advert }, now);
        now = router.deadline().unwrap_or(now);
        let _ = router.step(&Event::Deadline, now);
    }
    let _ = router.step(&Event::Shutdown, now);
}

fn advert_addresses(received: &Received) -> Vec<Ipv4Addr> {
    received
        .advert
        .addresses
        .iter()
        .filter_map(|a| match a {
            IpAddr::V4(a) => Some(*a),
            IpAddr::V6(_) => None,
        })
        .collect()
}

/// An untagged IPv4 frame with both checksums made good, without which mutations would end there.
fn sound(data: &[u8]) -> Vec<u8> {
    let Some((ethernet, packet)) = data.split_at_checked(ETHERNET_OCTETS) else {
        return data.to_vec();
    };
    let mut packet = packet.to_vec();
    if let Some(total) = packet.get(2..4) {
        let total = usize::from(u16::from_be_bytes([total[0], total[1]]));
        let end = total.min(packet.len());
        if let Some(message) = packet.get_mut(IP_OCTETS..end).filter(|m| m.len() >= 8) {
            message[6..8].fill(0);
            let sum = checksum(&[message]);
            message[6..8].copy_from_slice(&sum.to_be_bytes());
        }
    }
    [ethernet, &mended(&packet)].concat()
}
