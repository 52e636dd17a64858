//! Frames built and read by hand, so that nothing of the code under test vouches for itself.

use model::{MacAddr, Vlans};
use std::net::Ipv4Addr;

pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;

/// How a subscriber's packets are wrapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrap {
    pub(crate) vlans: Vlans,
    /// TPID of the outer tag.
    pub(crate) outer_tpid: u16,
    pub(crate) pppoe_sid: Option<u16>,
}

impl Wrap {
    pub(crate) const PLAIN: Self = Self { vlans: Vlans::NONE, outer_tpid: 0x8100, pppoe_sid: None };

    pub(crate) fn pppoe(sid: u16) -> Self {
        Self { pppoe_sid: Some(sid), ..Self::PLAIN }
    }

    /// Wraps a payload of the given EtherType in Ethernet and tags, without PPPoE.
    pub(crate) fn frame(
        self,
        dst: MacAddr,
        src: MacAddr,
        ethertype: u16,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut f = [dst.0, src.0].concat();
        if self.vlans.outer != 0 {
            f.extend(self.outer_tpid.to_be_bytes());
            f.extend(self.vlans.outer.to_be_bytes());
        }
        if self.vlans.inner != 0 {
            f.extend([0x81, 0x00]);
            f.extend(self.vlans.inner.to_be_bytes());
        }
        f.extend(ethertype.to_be_bytes());
        f.extend(payload);
        f
    }

    /// Wraps an IPv4 packet as the subscriber sends and gets it.
    pub(crate) fn data(self, dst: MacAddr, src: MacAddr, ip: &[u8]) -> Vec<u8> {
        match self.pppoe_sid {
            None => self.frame(dst, src, 0x0800, ip),
            Some(sid) => {
                let mut payload = vec![0x11, 0x00];
                payload.extend(sid.to_be_bytes());
                payload.extend(u16::try_from(ip.len() + 2).unwrap().to_be_bytes());
                payload.extend([0x00, 0x21]);
                payload.extend(ip);
                self.frame(dst, src, 0x8864, &payload)
            }
        }
    }
}

/// The one's complement sum of RFC 1071.
pub(crate) fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

/// An IPv4 packet with TTL 64 and Don't Fragment.
pub(crate) fn ipv4(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap();
    let mut p = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0];
    p[2..4].copy_from_slice(&len.to_be_bytes());
    p.extend(src.octets());
    p.extend(dst.octets());
    let sum = checksum(&p);
    p[10..12].copy_from_slice(&sum.to_be_bytes());
    p.extend(payload);
    p
}

/// A UDP packet without a checksum; `marker` is the start of its payload of `len` octets.
pub(crate) fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), marker: u32, len: usize) -> Vec<u8> {
    let mut u = Vec::new();
    u.extend(src.1.to_be_bytes());
    u.extend(dst.1.to_be_bytes());
    u.extend(u16::try_from(8 + len).unwrap().to_be_bytes());
    u.extend([0, 0]);
    u.extend(marker.to_be_bytes());
    u.resize(8 + len, 0);
    ipv4(UDP, src.0, dst.0, &u)
}

/// Flags of a TCP header, RFC 9293 §3.1.
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// A TCP packet; `numbers` are sequence and acknowledgement, `marker` is its data unless it is a SYN.
pub(crate) fn tcp(
    src: (Ipv4Addr, u16),
    dst: (Ipv4Addr, u16),
    flags: u8,
    numbers: (u32, u32),
    marker: u32,
) -> Vec<u8> {
    let mut t = Vec::new();
    t.extend(src.1.to_be_bytes());
    t.extend(dst.1.to_be_bytes());
    t.extend(numbers.0.to_be_bytes());
    t.extend(numbers.1.to_be_bytes());
    t.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    if flags & SYN == 0 {
        t.extend(marker.to_be_bytes());
    }
    let len = u16::try_from(t.len()).unwrap();
    let pseudo = [&src.0.octets()[..], &dst.0.octets(), &[0, TCP], &len.to_be_bytes(), &t].concat();
    let sum = checksum(&pseudo);
    t[16..18].copy_from_slice(&sum.to_be_bytes());
    ipv4(TCP, src.0, dst.0, &t)
}

/// Source and destination of an untagged TCP frame.
pub(crate) fn read_tcp(frame: &[u8]) -> Option<((Ipv4Addr, u16), (Ipv4Addr, u16))> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip.len() < 40 || ip[9] != TCP {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let port = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    Some(((address(12), port(20)), (address(16), port(22))))
}

/// An ICMP echo request.
pub(crate) fn ping(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut e = vec![8, 0, 0, 0, 0, 1, 0, 1, 1, 2, 3, 4];
    let sum = checksum(&e);
    e[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(ICMP, src, dst, &e)
}

/// An ARP request for `target`.
pub(crate) fn arp_request(src: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4, 0, 1];
    payload.extend(src.0);
    payload.extend(sender.octets());
    payload.extend([0; 6]);
    payload.extend(target.octets());
    Wrap::PLAIN.frame(MacAddr::BROADCAST, src, 0x0806, &payload)
}

pub(crate) fn source_mac(frame: &[u8]) -> MacAddr {
    MacAddr(frame[6..12].try_into().unwrap())
}

/// Source, destination and marker of a UDP packet.
pub(crate) type Udp = ((Ipv4Addr, u16), (Ipv4Addr, u16), u32);

/// Source, destination, source port, destination port and marker of an untagged UDP frame.
pub(crate) fn read_udp(frame: &[u8]) -> Option<Udp> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip.len() < 32 || ip[9] != UDP {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let port = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    let marker = u32::from_be_bytes(ip[28..32].try_into().unwrap());
    Some(((address(12), port(20)), (address(16), port(22)), marker))
}
