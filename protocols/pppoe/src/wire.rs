use crate::WireError;
use std::borrow::Cow;

/// Octets of the PPPoE header, in both stages.
pub const HEADER_OCTETS: usize = 6;

/// Tags that a packet may carry; real ones stay below ten.
pub const TAGS_MAX: usize = 32;

/// Longest discovery payload of an untagged 1500-octet link, PPPoE header included.
pub const DISCOVERY_OCTETS_MAX: usize = 1500;

/// VER 1 and TYPE 1. RFC 2516 §4.
pub(crate) const VERSION_TYPE: u8 = 0x11;

/// Vendor-Specific id of the Broadband Forum (formerly ADSL Forum), TR-101 appendix A.
pub const VENDOR_ADSL_FORUM: u32 = 0x0000_0de9;

/// `TAG_TYPE` values. RFC 2516 appendix A, RFC 4638.
pub mod tag {
    /// Ends the list.
    pub const END_OF_LIST: u16 = 0x0000;
    /// The service asked for or offered; empty means any.
    pub const SERVICE_NAME: u16 = 0x0101;
    /// The concentrator's name.
    pub const AC_NAME: u16 = 0x0102;
    /// The host's token, echoed unchanged.
    pub const HOST_UNIQ: u16 = 0x0103;
    /// The concentrator's token, echoed in the PADR.
    pub const AC_COOKIE: u16 = 0x0104;
    /// Vendor id and vendor data.
    pub const VENDOR_SPECIFIC: u16 = 0x0105;
    /// A relay's token, echoed unchanged.
    pub const RELAY_SESSION_ID: u16 = 0x0110;
    /// Largest PPP payload, for links above 1500 octets. RFC 4638.
    pub const PPP_MAX_PAYLOAD: u16 = 0x0120;
    /// The service cannot be honoured.
    pub const SERVICE_NAME_ERROR: u16 = 0x0201;
    /// The concentrator failed.
    pub const AC_SYSTEM_ERROR: u16 = 0x0202;
    /// Any other error.
    pub const GENERIC_ERROR: u16 = 0x0203;
}

/// What a discovery packet is. RFC 2516 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// Initiation: a host looks for concentrators.
    Padi,
    /// Offer of a concentrator.
    Pado,
    /// Request for a session.
    Padr,
    /// Session confirmation, or refusal when its session id is 0.
    Pads,
    /// End of a session, from either side.
    Padt,
}

impl Code {
    /// The CODE octet.
    #[must_use]
    pub const fn octet(self) -> u8 {
        match self {
            Self::Padi => 0x09,
            Self::Pado => 0x07,
            Self::Padr => 0x19,
            Self::Pads => 0x65,
            Self::Padt => 0xa7,
        }
    }

    const fn from_octet(octet: u8) -> Result<Self, WireError> {
        match octet {
            0x09 => Ok(Self::Padi),
            0x07 => Ok(Self::Pado),
            0x19 => Ok(Self::Padr),
            0x65 => Ok(Self::Pads),
            0xa7 => Ok(Self::Padt),
            other => Err(WireError::Code(other)),
        }
    }
}

/// A type-length-value element of a discovery packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag<'a> {
    /// One of [`tag`], or a number that nobody here knows.
    pub kind: u16,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Tag<'a> {
    /// Returns the tag.
    #[must_use]
    pub const fn new(kind: u16, value: &'a [u8]) -> Self {
        Self { kind, value }
    }
}

/// A discovery packet. RFC 2516 §4, §5.
///
/// ```text
///  0        1        2        3        4        5        6
/// +--------+--------+--------+--------+--------+--------+------
/// |VER|TYPE| CODE   |   SESSION_ID    |     LENGTH      | tags
/// +--------+--------+--------+--------+--------+--------+------
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub code: Code,
    /// `SESSION_ID`, 0 before there is a session.
    pub session_id: u16,
    /// At most [`TAGS_MAX`], without End-Of-List.
    pub tags: Vec<Tag<'a>>,
}

impl<'a> Packet<'a> {
    /// Reads the payload of a frame of type [`ether::ethertype::PPPOE_DISCOVERY`].
    ///
    /// Octets after LENGTH are padding; what follows End-Of-List is ignored.
    ///
    /// # Errors
    /// Any [`WireError`].
    pub fn parse(payload: &'a [u8]) -> Result<Packet<'a>, WireError> {
        let (code, session_id, mut rest) = parse_header(payload)?;
        let code = Code::from_octet(code)?;
        let mut tags = Vec::new();
        while !rest.is_empty() {
            let Some((header, value)) = rest.split_first_chunk::<4>() else {
                return Err(WireError::TagTruncated { kind: 0, have: rest.len(), need: 4 });
            };
            let kind = u16::from_be_bytes([header[0], header[1]]);
            if kind == tag::END_OF_LIST {
                break;
            }
            let need = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let Some((value, after)) = value.split_at_checked(need) else {
                return Err(WireError::TagTruncated { kind, have: value.len(), need });
            };
            if tags.len() == TAGS_MAX {
                return Err(WireError::TooManyTags);
            }
            tags.push(Tag { kind, value });
            rest = after;
        }
        Ok(Self { code, session_id, tags })
    }

    /// Returns the payload of a frame of type [`ether::ethertype::PPPOE_DISCOVERY`].
    ///
    /// A tag that LENGTH or `TAG_LENGTH` cannot tell is left out.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut out = vec![VERSION_TYPE, self.code.octet()];
        out.extend_from_slice(&self.session_id.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        let mut length: u16 = 0;
        for Tag { kind, value } in &self.tags {
            let Ok(value_octets) = u16::try_from(value.len()) else { continue };
            let Some(longer) = length.checked_add(4).and_then(|n| n.checked_add(value_octets))
            else {
                continue;
            };
            length = longer;
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&value_octets.to_be_bytes());
            out.extend_from_slice(value);
        }
        out[4..6].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// Returns the value of the first tag of this kind.
    #[must_use]
    pub fn tag(&self, kind: u16) -> Option<&'a [u8]> {
        self.tags.iter().find(|t| t.kind == kind).map(|t| t.value)
    }

    /// Returns the error that the peer reports: the kind of the tag and its text.
    #[must_use]
    pub fn error(&self) -> Option<(u16, Cow<'a, str>)> {
        let kinds = [tag::SERVICE_NAME_ERROR, tag::AC_SYSTEM_ERROR, tag::GENERIC_ERROR];
        let tag = self.tags.iter().find(|t| kinds.contains(&t.kind))?;
        Some((tag.kind, String::from_utf8_lossy(tag.value)))
    }

    /// Returns PPP-Max-Payload in octets; a value below the default of 1492 has no meaning and is
    /// ignored. RFC 4638.
    #[must_use]
    pub fn max_payload(&self) -> Option<u16> {
        let value: [u8; 2] = self.tag(tag::PPP_MAX_PAYLOAD)?.try_into().ok()?;
        Some(u16::from_be_bytes(value)).filter(|octets| *octets >= crate::config::MRU_DEFAULT)
    }

    /// Returns what the access node says about the line in its TR-101 tag.
    #[must_use]
    pub fn line_info(&self) -> LineInfo {
        self.tags
            .iter()
            .filter(|t| t.kind == tag::VENDOR_SPECIFIC)
            .find_map(|t| t.value.strip_prefix(&VENDOR_ADSL_FORUM.to_be_bytes()))
            .map(LineInfo::parse)
            .unwrap_or_default()
    }
}

/// Reads the header of either stage: code, session id and the payload cut to LENGTH.
pub(crate) fn parse_header(payload: &[u8]) -> Result<(u8, u16, &[u8]), WireError> {
    let have = payload.len();
    let Some((h, rest)) = payload.split_first_chunk::<HEADER_OCTETS>() else {
        return Err(WireError::Truncated { have, need: HEADER_OCTETS });
    };
    if h[0] != VERSION_TYPE {
        return Err(WireError::VersionType(h[0]));
    }
    let length = usize::from(u16::from_be_bytes([h[4], h[5]]));
    let rest =
        rest.get(..length).ok_or(WireError::Truncated { have, need: HEADER_OCTETS + length })?;
    Ok((h[1], u16::from_be_bytes([h[2], h[3]]), rest))
}

/// What an access node (DSLAM, OLT) inserts about a subscriber's line. TR-101 §3.9.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineInfo {
    /// Agent Circuit ID: access node, slot and port.
    pub circuit_id: Option<String>,
    /// Agent Remote ID: the operator's name of the line.
    pub remote_id: Option<String>,
    /// Actual data rate upstream, in kbit/s.
    pub up_kbps: Option<u32>,
    /// Actual data rate downstream, in kbit/s.
    pub down_kbps: Option<u32>,
}

impl LineInfo {
    const CIRCUIT_ID: u8 = 0x01;
    const REMOTE_ID: u8 = 0x02;
    const ACTUAL_UP: u8 = 0x81;
    const ACTUAL_DOWN: u8 = 0x82;

    /// Reads the sub-options; stops where they stop making sense and keeps what came before, for a
    /// line without a name is better than a subscriber without service.
    fn parse(mut rest: &[u8]) -> Self {
        let mut info = Self::default();
        while let Some((&[kind, length], after)) = rest.split_first_chunk::<2>() {
            let Some((value, after)) = after.split_at_checked(usize::from(length)) else { break };
            rest = after;
            let rate = || value.try_into().ok().map(u32::from_be_bytes);
            match kind {
                Self::CIRCUIT_ID => info.circuit_id = Some(printable(value)),
                Self::REMOTE_ID => info.remote_id = Some(printable(value)),
                Self::ACTUAL_UP => info.up_kbps = rate(),
                Self::ACTUAL_DOWN => info.down_kbps = rate(),
                _other => {}
            }
        }
        info
    }

    /// Returns the value of the Vendor-Specific tag that says this, `None` when there is nothing to
    /// say. An id is cut at 63 octets, the limit of TR-101 §3.9.
    #[must_use]
    pub fn emit(&self) -> Option<Vec<u8>> {
        const ID_OCTETS_MAX: usize = 63;
        if *self == Self::default() {
            return None;
        }
        let mut out = VENDOR_ADSL_FORUM.to_be_bytes().to_vec();
        for (kind, id) in [(Self::CIRCUIT_ID, &self.circuit_id), (Self::REMOTE_ID, &self.remote_id)]
        {
            let Some(id) = id else { continue };
            let id = &id.as_bytes()[..id.len().min(ID_OCTETS_MAX)];
            let length = u8::try_from(id.len()).expect("cut to 63 on the line above");
            out.extend_from_slice(&[kind, length]);
            out.extend_from_slice(id);
        }
        for (kind, rate) in [(Self::ACTUAL_UP, self.up_kbps), (Self::ACTUAL_DOWN, self.down_kbps)] {
            let Some(rate) = rate else { continue };
            out.extend_from_slice(&[kind, 4]);
            out.extend_from_slice(&rate.to_be_bytes());
        }
        Some(out)
    }
}

/// Returns the text without control characters, which have no place in logs and answers.
fn printable(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
