use crate::WireError;
use crate::wire::{HEADER_OCTETS, VERSION_TYPE, parse_header};

/// The header of a session-stage packet. RFC 2516 §4, §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionHeader {
    /// `SESSION_ID`.
    pub session_id: u16,
    /// LENGTH: octets of the PPP frame, from its protocol field on.
    pub ppp_octets: u16,
}

impl SessionHeader {
    /// Returns the header as octets.
    #[must_use]
    pub fn emit(self) -> [u8; HEADER_OCTETS] {
        let ([a, b], [c, d]) = (self.session_id.to_be_bytes(), self.ppp_octets.to_be_bytes());
        [VERSION_TYPE, 0, a, b, c, d]
    }
}

/// Reads the payload of a frame of type [`ether::ethertype::PPPOE_SESSION`]: the session id and the
/// PPP frame from its protocol field on, cut to LENGTH.
///
/// # Errors
/// [`WireError::Truncated`], [`WireError::VersionType`], or [`WireError::Code`] when CODE is not 0.
pub fn parse_session(payload: &[u8]) -> Result<(u16, &[u8]), WireError> {
    let (code, session_id, ppp) = parse_header(payload)?;
    if code == 0 { Ok((session_id, ppp)) } else { Err(WireError::Code(code)) }
}

/// Returns the payload of a frame of type [`ether::ethertype::PPPOE_SESSION`].
///
/// A PPP frame longer than LENGTH can tell cannot be sent and is cut there.
#[must_use]
pub fn emit_session(sid: u16, ppp: &[u8]) -> Vec<u8> {
    let ppp_octets = u16::try_from(ppp.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(HEADER_OCTETS + usize::from(ppp_octets));
    out.extend_from_slice(&SessionHeader { session_id: sid, ppp_octets }.emit());
    out.extend_from_slice(&ppp[..usize::from(ppp_octets)]);
    out
}
