use crate::WireError;
use model::{MacAddr, Vlans};

/// EtherType numbers of the IEEE registry that the project meets.
pub mod ethertype {
    /// Internet Protocol version 4.
    pub const IPV4: u16 = 0x0800;
    /// Address Resolution Protocol.
    pub const ARP: u16 = 0x0806;
    /// Customer VLAN tag, IEEE 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// Service VLAN tag, IEEE 802.1Q (formerly 802.1ad).
    pub const SVLAN: u16 = 0x88a8;
    /// Internet Protocol version 6.
    pub const IPV6: u16 = 0x86dd;
    /// PPPoE discovery stage, RFC 2516 §4.
    pub const PPPOE_DISCOVERY: u16 = 0x8863;
    /// PPPoE session stage, RFC 2516 §4.
    pub const PPPOE_SESSION: u16 = 0x8864;
}

/// Octets of the shortest frame, without the frame check sequence.
pub const FRAME_OCTETS_MIN: usize = 60;

/// VLAN tags that a frame may carry.
pub const TAGS_MAX: usize = 2;

/// Values below are IEEE 802.3 lengths, not types.
const ETHERTYPE_MIN: u16 = 0x0600;
const VID_MASK: u16 = 0x0fff;

/// An Ethernet II frame with up to two VLAN tags.
///
/// Priority and drop-eligible bits of tags are not kept. The payload of a received frame includes
/// its padding: what it carries must have a length of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// VLAN identifiers.
    pub vlans: Vlans,
    /// The outer tag's TPID is 0x88a8 instead of 0x8100.
    pub s_tag: bool,
    /// Type of the payload, after all tags.
    pub ethertype: u16,
    /// What follows the type.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads a frame without its frame check sequence.
    ///
    /// A priority tag (VID 0) is stepped over and leaves no trace, IEEE 802.1Q §9.6.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::GroupSource`], [`WireError::TooManyTags`] or
    /// [`WireError::NotEthernet2`].
    pub fn parse(octets: &'a [u8]) -> Result<Frame<'a>, WireError> {
        let truncated = WireError::Truncated { what: "frame", have: octets.len(), need: 14 };
        let (dst, rest) = octets.split_first_chunk::<6>().ok_or(truncated)?;
        let (src, mut rest) = rest.split_first_chunk::<6>().ok_or(truncated)?;
        let src = MacAddr(*src);
        if src.is_multicast() {
            return Err(WireError::GroupSource(src));
        }
        let (mut vlans, mut s_tag, mut tags) = (Vlans::NONE, false, 0);
        loop {
            let (field, after) = rest.split_first_chunk::<2>().ok_or(truncated)?;
            let field = u16::from_be_bytes(*field);
            if field != ethertype::VLAN && field != ethertype::SVLAN {
                if field < ETHERTYPE_MIN {
                    return Err(WireError::NotEthernet2(field));
                }
                let dst = MacAddr(*dst);
                return Ok(Self { dst, src, vlans, s_tag, ethertype: field, payload: after });
            }
            if tags == TAGS_MAX {
                return Err(WireError::TooManyTags);
            }
            tags += 1;
            let need = 14 + 4 * tags;
            let (tci, after) = after.split_first_chunk::<2>().ok_or(WireError::Truncated {
                what: "tagged frame",
                have: octets.len(),
                need,
            })?;
            let vid = u16::from_be_bytes(*tci) & VID_MASK;
            if vlans.outer == 0 {
                vlans.outer = vid;
                s_tag = vid != 0 && field == ethertype::SVLAN;
            } else {
                vlans.inner = vid;
            }
            rest = after;
        }
    }

    /// Returns the frame as octets, padded to [`FRAME_OCTETS_MIN`].
    ///
    /// The inner tag always has TPID 0x8100. An inner identifier without an outer one has no
    /// meaning and is left out.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity((14 + 4 * TAGS_MAX + self.payload.len()).max(60));
        out.extend_from_slice(&self.dst.0);
        out.extend_from_slice(&self.src.0);
        if self.vlans.outer != 0 {
            let tpid = if self.s_tag { ethertype::SVLAN } else { ethertype::VLAN };
            out.extend_from_slice(&tpid.to_be_bytes());
            out.extend_from_slice(&(self.vlans.outer & VID_MASK).to_be_bytes());
            if self.vlans.inner != 0 {
                out.extend_from_slice(&ethertype::VLAN.to_be_bytes());
                out.extend_from_slice(&(self.vlans.inner & VID_MASK).to_be_bytes());
            }
        }
        out.extend_from_slice(&self.ethertype.to_be_bytes());
        out.extend_from_slice(self.payload);
        out.resize(out.len().max(FRAME_OCTETS_MIN), 0);
        out
    }
}
