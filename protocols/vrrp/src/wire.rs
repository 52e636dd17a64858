use crate::WireError;
use ether::{Arp, Frame, Ipv4, checksum, ethertype, ip_protocol};
use model::{MacAddr, Vlans};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Priority of the router that owns the addresses. RFC 9568 §5.2.4.
pub const PRIORITY_OWNER: u8 = 255;
/// Priority that says that the sender stops. RFC 9568 §5.2.4.
pub const PRIORITY_RELEASE: u8 = 0;
/// The longest interval that 12 bits can tell, in centiseconds.
pub const ADVERT_INTERVAL_CS_MAX: u16 = 0x0fff;
/// Where IPv4 adverts go. RFC 9568 §5.1.1.2.
pub const MULTICAST_IPV4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The Ethernet form of [`MULTICAST_IPV4`].
pub const MULTICAST_MAC: MacAddr = MacAddr([0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);

const HEADER_OCTETS: usize = 8;
const IPV6_HEADER_OCTETS: usize = 40;
const VERSION: u8 = 3;
const TYPE_ADVERTISEMENT: u8 = 1;
const TTL: u8 = 255;
/// DSCP CS6, network control (RFC 4594 §3.1): adverts must not drown in subscribers' traffic.
const TOS: u8 = 0xc0;

/// What the checksum of an IPv4 advert covers.
///
/// RFC 5798 §5.2.8 could be read both ways, and implementations differ. RFC 9568 §5.2.8 settles it:
/// over IPv4 there is no pseudo-header. keepalived still adds one unless told `v3_checksum_as_v2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumForm {
    /// The VRRP message alone.
    #[default]
    Rfc9568,
    /// Pseudo-header and message; always so over IPv6.
    PseudoHeader,
}

/// A VRRPv3 ADVERTISEMENT. RFC 9568 §5.2.
///
/// ```text
///  0        1        2        3        4        5        6        8
/// +--------+--------+--------+--------+--------+--------+--------+-----------
/// |VER|TYPE| VRID   |PRIORITY| COUNT  |rsvd| INTERVAL cs |CHECKSUM| addresses
/// +--------+--------+--------+--------+--------+--------+--------+-----------
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Virtual router id.
    pub vrid: u8,
    /// [`PRIORITY_RELEASE`], [`PRIORITY_OWNER`] or between.
    pub priority: u8,
    /// Max Advertise Interval in centiseconds, 1 to [`ADVERT_INTERVAL_CS_MAX`].
    pub max_advert_interval_cs: u16,
    /// Virtual addresses, all of one family, 1 to 255.
    pub addresses: Vec<IpAddr>,
}

impl Advert {
    /// Reads the payload of an IP packet of protocol [`ip_protocol::VRRP`].
    ///
    /// Both forms of the checksum are accepted over IPv4 and told in the answer.
    ///
    /// # Errors
    /// Any [`WireError`] except [`WireError::Ttl`] and [`WireError::Frame`].
    pub fn parse(
        payload: &[u8],
        src: IpAddr,
        dst: IpAddr,
    ) -> Result<(Self, ChecksumForm), WireError> {
        let have = payload.len();
        let Some((h, rest)) = payload.split_first_chunk::<HEADER_OCTETS>() else {
            return Err(WireError::Truncated { have, need: HEADER_OCTETS });
        };
        if h[0] >> 4 != VERSION {
            return Err(WireError::Version(h[0] >> 4));
        }
        if h[0] & 0x0f != TYPE_ADVERTISEMENT {
            return Err(WireError::Type(h[0] & 0x0f));
        }
        let count = usize::from(h[3]);
        if count == 0 {
            return Err(WireError::NoAddress);
        }
        let address_octets = if src.is_ipv4() { 4 } else { 16 };
        let need = HEADER_OCTETS + count * address_octets;
        let octets =
            rest.get(..count * address_octets).ok_or(WireError::Truncated { have, need })?;
        let form = verify(payload, src, dst)?;
        let max_advert_interval_cs = u16::from_be_bytes([h[4], h[5]]) & ADVERT_INTERVAL_CS_MAX;
        if max_advert_interval_cs == 0 {
            return Err(WireError::NoInterval);
        }
        let addresses = octets.chunks_exact(address_octets).filter_map(address).collect();
        Ok((Self { vrid: h[1], priority: h[2], max_advert_interval_cs, addresses }, form))
    }

    /// Returns the IPv4 payload with the checksum of RFC 9568.
    ///
    /// IPv6 addresses have no place in it and are left out, as are addresses after the 255th; an
    /// interval out of range becomes the nearest in range.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = self.emit_without_checksum();
        let sum = checksum(&[&out]);
        out[6..8].copy_from_slice(&sum.to_be_bytes());
        out
    }

    /// Returns the IPv4 payload with [`ChecksumForm::PseudoHeader`], for peers that ask for it.
    #[must_use]
    pub fn emit_with_pseudo_header(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
        let mut out = self.emit_without_checksum();
        let sum = checksum(&[&pseudo_header_v4(src, dst, out.len()), &out]);
        out[6..8].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn emit_without_checksum(&self) -> Vec<u8> {
        let addresses = self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let interval = self.max_advert_interval_cs.clamp(1, ADVERT_INTERVAL_CS_MAX).to_be_bytes();
        let head = VERSION << 4 | TYPE_ADVERTISEMENT;
        let mut out = vec![head, self.vrid, self.priority, 0, interval[0], interval[1], 0, 0];
        let mut count: u8 = 0;
        for octets in addresses {
            let Some(more) = count.checked_add(1) else { break };
            count = more;
            out.extend_from_slice(&octets);
        }
        out[3] = count;
        out
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|o| Ipv4Addr::from(o).into()),
        _sixteen => <[u8; 16]>::try_from(octets).ok().map(|o| Ipv6Addr::from(o).into()),
    }
}

fn verify(payload: &[u8], src: IpAddr, dst: IpAddr) -> Result<ChecksumForm, WireError> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            if checksum(&[payload]) == 0 {
                Ok(ChecksumForm::Rfc9568)
            } else if checksum(&[&pseudo_header_v4(src, dst, payload.len()), payload]) == 0 {
                Ok(ChecksumForm::PseudoHeader)
            } else {
                Err(WireError::Checksum)
            }
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            // RFC 8200 §8.1.
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
            let tail = [0, 0, 0, ip_protocol::VRRP];
            if checksum(&[&src.octets(), &dst.octets(), &length, &tail, payload]) == 0 {
                Ok(ChecksumForm::PseudoHeader)
            } else {
                Err(WireError::Checksum)
            }
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            Err(WireError::MixedFamilies)
        }
    }
}

fn pseudo_header_v4(src: Ipv4Addr, dst: Ipv4Addr, length: usize) -> [u8; 12] {
    let ([a, b, c, d], [e, f, g, h]) = (src.octets(), dst.octets());
    let [y, z] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, ip_protocol::VRRP, y, z]
}

/// Returns the whole Ethernet frame of an IPv4 advert, from the virtual MAC to the VRRP group.
#[must_use]
pub fn frame(advert: &Advert, src_ip: Ipv4Addr) -> Vec<u8> {
    frame_with(advert, src_ip, MacAddr::virtual_router(advert.vrid), ChecksumForm::Rfc9568)
}

/// Returns the frame with another source MAC or checksum form than [`frame`] uses.
#[must_use]
pub fn frame_with(
    advert: &Advert,
    src_ip: Ipv4Addr,
    src_mac: MacAddr,
    form: ChecksumForm,
) -> Vec<u8> {
    let message = match form {
        ChecksumForm::Rfc9568 => advert.emit(),
        ChecksumForm::PseudoHeader => advert.emit_with_pseudo_header(src_ip, MULTICAST_IPV4),
    };
    let packet = Ipv4 {
        src: src_ip,
        dst: MULTICAST_IPV4,
        protocol: ip_protocol::VRRP,
        ttl: TTL,
        payload: &message,
    }
    .emit_with_tos(TOS);
    untagged(MULTICAST_MAC, src_mac, ethertype::IPV4, &packet)
}

/// Returns the broadcast frame that announces `address` at the virtual MAC. RFC 9568 §6.4.1.
#[must_use]
pub fn gratuitous_arp_frame(vrid: u8, address: Ipv4Addr) -> Vec<u8> {
    let mac = MacAddr::virtual_router(vrid);
    let payload = Arp::gratuitous(mac, address).emit();
    untagged(MacAddr::BROADCAST, mac, ethertype::ARP, &payload)
}

fn untagged(dst: MacAddr, src: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    Frame { dst, src, vlans: Vlans::NONE, s_tag: false, ethertype, payload }.emit()
}

/// An advert with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Source MAC of the frame: the virtual MAC, if the sender follows RFC 9568 §7.2.
    pub src_mac: MacAddr,
    /// Primary address of the sender.
    pub src_ip: IpAddr,
    /// What it says.
    pub advert: Advert,
    /// How its checksum was made.
    pub form: ChecksumForm,
}

/// Source, destination, TTL or Hop Limit, and VRRP message of an IP packet.
type InIp<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

/// Reads a whole Ethernet frame; `None` when it is not VRRP over IPv4 or IPv6.
///
/// # Errors
/// [`WireError`], also for an advert that was routed here (RFC 9568 §7.1).
pub fn parse_frame(octets: &[u8]) -> Result<Option<Received>, WireError> {
    let frame = Frame::parse(octets)?;
    let (src_ip, dst_ip, ttl, payload): InIp<'_> = match frame.ethertype {
        ethertype::IPV4 => {
            let ip = match Ipv4::parse(frame.payload) {
                Err(ether::WireError::Fragment) => return Ok(None),
                parsed => parsed?,
            };
            if ip.protocol != ip_protocol::VRRP {
                return Ok(None);
            }
            (ip.src.into(), ip.dst.into(), ip.ttl, ip.payload)
        }
        ethertype::IPV6 => match vrrp_in_ipv6(frame.payload)? {
            Some(found) => found,
            None => return Ok(None),
        },
        _other => return Ok(None),
    };
    if ttl != TTL {
        return Err(WireError::Ttl(ttl));
    }
    let (advert, form) = Advert::parse(payload, src_ip, dst_ip)?;
    Ok(Some(Received { src_mac: frame.src, src_ip, advert, form }))
}

/// Reads an IPv6 header without extensions, RFC 8200 §3; VRRP never comes with any.
fn vrrp_in_ipv6(packet: &[u8]) -> Result<Option<InIp<'_>>, WireError> {
    let have = packet.len();
    let Some((h, rest)) = packet.split_first_chunk::<IPV6_HEADER_OCTETS>() else {
        return Err(WireError::Truncated { have, need: IPV6_HEADER_OCTETS });
    };
    if h[0] >> 4 != 6 || h[6] != ip_protocol::VRRP {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
    let need = IPV6_HEADER_OCTETS + length;
    let payload = rest.get(..length).ok_or(WireError::Truncated { have, need })?;
    let (addresses, _) = h[8..].as_chunks::<16>();
    let at = |n: usize| IpAddr::from(Ipv6Addr::from(addresses[n]));
    Ok(Some((at(0), at(1), h[7], payload)))
}
