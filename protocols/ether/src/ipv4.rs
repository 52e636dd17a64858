use crate::{WireError, checksum};
use std::net::Ipv4Addr;

/// IP protocol numbers that the project meets.
pub mod ip_protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// Virtual Router Redundancy Protocol, RFC 9568 §5.1.1.4.
    pub const VRRP: u8 = 112;
}

const IP_HEADER_OCTETS: usize = 20;
const UDP_HEADER_OCTETS: usize = 8;
const DONT_FRAGMENT: u16 = 0x4000;
/// More Fragments and the fragment offset.
const FRAGMENT_MASK: u16 = 0x3fff;

/// A whole IPv4 packet; options of a received one are checked for length and skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv4<'a> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// What the packet carries, cut to Total Length.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Largest payload of a packet without options, in octets.
    pub const PAYLOAD_OCTETS_MAX: usize = 0xffff - IP_HEADER_OCTETS;

    /// Reads a packet and verifies its header checksum. RFC 791 §3.1.
    ///
    /// Octets after Total Length are Ethernet padding and left out.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::IpVersion`], [`WireError::IpLengths`],
    /// [`WireError::IpChecksum`], or [`WireError::Fragment`] for a sound packet that is a fragment.
    pub fn parse(packet: &'a [u8]) -> Result<Ipv4<'a>, WireError> {
        let truncated =
            |need| WireError::Truncated { what: "IPv4 packet", have: packet.len(), need };
        let Some((h, _)) = packet.split_first_chunk::<IP_HEADER_OCTETS>() else {
            return Err(truncated(IP_HEADER_OCTETS));
        };
        if h[0] >> 4 != 4 {
            return Err(WireError::IpVersion(h[0] >> 4));
        }
        let header_octets = usize::from(h[0] & 0x0f) * 4;
        let total_octets = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if header_octets < IP_HEADER_OCTETS || total_octets < header_octets {
            return Err(WireError::IpLengths { header_octets, total_octets });
        }
        let packet = packet.get(..total_octets).ok_or(truncated(total_octets))?;
        let (header, payload) = packet.split_at(header_octets);
        if checksum(&[header]) != 0 {
            return Err(WireError::IpChecksum);
        }
        if u16::from_be_bytes([h[6], h[7]]) & FRAGMENT_MASK != 0 {
            return Err(WireError::Fragment);
        }
        Ok(Self {
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]),
            protocol: h[9],
            ttl: h[8],
            payload,
        })
    }

    /// Returns the packet as octets, of the default traffic class.
    ///
    /// A payload above [`Self::PAYLOAD_OCTETS_MAX`] cannot be sent and is cut there.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        self.emit_with_tos(0)
    }

    /// Returns the packet as octets with the given Type of Service octet.
    ///
    /// Don't Fragment is set and the identification 0, which RFC 6864 §4.1 allows for packets that
    /// are never fragmented.
    #[must_use]
    pub fn emit_with_tos(&self, tos: u8) -> Vec<u8> {
        let payload = &self.payload[..self.payload.len().min(Self::PAYLOAD_OCTETS_MAX)];
        let total = u16::try_from(IP_HEADER_OCTETS + payload.len())
            .expect("the payload was cut to what 16 bits can tell");
        let mut out = Vec::with_capacity(usize::from(total));
        out.extend_from_slice(&[0x45, tos]);
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&DONT_FRAGMENT.to_be_bytes());
        out.extend_from_slice(&[self.ttl, self.protocol, 0, 0]);
        out.extend_from_slice(&self.src.octets());
        out.extend_from_slice(&self.dst.octets());
        let sum = checksum(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(payload);
        out
    }
}

/// A UDP datagram in an IPv4 packet of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp4<'a> {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Time to live of the packet.
    pub ttl: u8,
    /// What the datagram carries.
    pub payload: &'a [u8],
}

impl<'a> Udp4<'a> {
    /// Largest payload, in octets.
    pub const PAYLOAD_OCTETS_MAX: usize = Ipv4::PAYLOAD_OCTETS_MAX - UDP_HEADER_OCTETS;

    /// Reads the datagram of an IPv4 packet; `None` when the packet is not UDP or is a fragment.
    ///
    /// The checksum is verified unless the sender left it out (0, RFC 768).
    ///
    /// # Errors
    /// Those of [`Ipv4::parse`] except [`WireError::Fragment`], and [`WireError::Truncated`],
    /// [`WireError::UdpLength`] or [`WireError::UdpChecksum`].
    pub fn parse(packet: &'a [u8]) -> Result<Option<Udp4<'a>>, WireError> {
        let ip = match Ipv4::parse(packet) {
            Err(WireError::Fragment) => return Ok(None),
            parsed => parsed?,
        };
        if ip.protocol != ip_protocol::UDP {
            return Ok(None);
        }
        let Some((h, _)) = ip.payload.split_first_chunk::<UDP_HEADER_OCTETS>() else {
            return Err(WireError::Truncated {
                what: "UDP header",
                have: ip.payload.len(),
                need: UDP_HEADER_OCTETS,
            });
        };
        let udp_octets = usize::from(u16::from_be_bytes([h[4], h[5]]));
        let bad_length = WireError::UdpLength { udp_octets, ip_payload_octets: ip.payload.len() };
        if udp_octets < UDP_HEADER_OCTETS {
            return Err(bad_length);
        }
        let datagram = ip.payload.get(..udp_octets).ok_or(bad_length)?;
        let has_checksum = (h[6], h[7]) != (0, 0);
        if has_checksum && checksum(&[&pseudo_header(ip.src, ip.dst, [h[4], h[5]]), datagram]) != 0
        {
            return Err(WireError::UdpChecksum);
        }
        Ok(Some(Self {
            src: ip.src,
            dst: ip.dst,
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            ttl: ip.ttl,
            payload: &datagram[UDP_HEADER_OCTETS..],
        }))
    }

    /// Returns the whole IPv4 packet with both checksums.
    ///
    /// A payload above [`Self::PAYLOAD_OCTETS_MAX`] cannot be sent and is cut there.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let payload = &self.payload[..self.payload.len().min(Self::PAYLOAD_OCTETS_MAX)];
        let length = u16::try_from(UDP_HEADER_OCTETS + payload.len())
            .expect("the payload was cut to what 16 bits can tell")
            .to_be_bytes();
        let mut datagram = Vec::with_capacity(UDP_HEADER_OCTETS + payload.len());
        datagram.extend_from_slice(&self.src_port.to_be_bytes());
        datagram.extend_from_slice(&self.dst_port.to_be_bytes());
        datagram.extend_from_slice(&length);
        datagram.extend_from_slice(&[0, 0]);
        datagram.extend_from_slice(payload);
        let sum = match checksum(&[&pseudo_header(self.src, self.dst, length), &datagram]) {
            0 => 0xffff, // 0 would say that there is no checksum, RFC 768.
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        let (src, dst, protocol, ttl) = (self.src, self.dst, ip_protocol::UDP, self.ttl);
        Ipv4 { src, dst, protocol, ttl, payload: &datagram }.emit()
    }
}

/// RFC 768: source, destination, zero, protocol, UDP length.
fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, length: [u8; 2]) -> [u8; 12] {
    let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
    [a, b, c, d, e, f, g, h, 0, ip_protocol::UDP, length[0], length[1]]
}
