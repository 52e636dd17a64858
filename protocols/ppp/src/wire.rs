//! PPP control packets, RFC 1661 §5 and §6.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------------------------------+---------------+---------------+
//! |           Protocol            |     Code      |  Identifier   |
//! +-------------------------------+---------------+---------------+
//! |            Length             |    Data ...
//! +-------------------------------+--------------
//! ```
//!
//! Length counts from Code; octets beyond it are padding.

use crate::WireError;

/// PPP protocol numbers.
pub mod protocol {
    /// IPv4 datagrams.
    pub const IPV4: u16 = 0x0021;
    /// IP Control Protocol, RFC 1332.
    pub const IPCP: u16 = 0x8021;
    /// Link Control Protocol, RFC 1661.
    pub const LCP: u16 = 0xc021;
    /// Password Authentication Protocol, RFC 1334.
    pub const PAP: u16 = 0xc023;
    /// Challenge Handshake Authentication Protocol, RFC 1994.
    pub const CHAP: u16 = 0xc223;
}

/// Packet codes of LCP; IPCP has the first seven. RFC 1661 §5, RFC 1570 §2.
pub mod code {
    /// Configure-Request.
    pub const CONFIGURE_REQUEST: u8 = 1;
    /// Configure-Ack.
    pub const CONFIGURE_ACK: u8 = 2;
    /// Configure-Nak.
    pub const CONFIGURE_NAK: u8 = 3;
    /// Configure-Reject.
    pub const CONFIGURE_REJECT: u8 = 4;
    /// Terminate-Request.
    pub const TERMINATE_REQUEST: u8 = 5;
    /// Terminate-Ack.
    pub const TERMINATE_ACK: u8 = 6;
    /// Code-Reject.
    pub const CODE_REJECT: u8 = 7;
    /// Protocol-Reject.
    pub const PROTOCOL_REJECT: u8 = 8;
    /// Echo-Request.
    pub const ECHO_REQUEST: u8 = 9;
    /// Echo-Reply.
    pub const ECHO_REPLY: u8 = 10;
    /// Discard-Request.
    pub const DISCARD_REQUEST: u8 = 11;
    /// Identification.
    pub const IDENTIFICATION: u8 = 12;
    /// Time-Remaining.
    pub const TIME_REMAINING: u8 = 13;
}

/// The longest frame that is looked at, in octets; negotiation never comes near it.
pub const FRAME_MAX_OCTETS: usize = 9_216;

/// The smallest MRU that a peer may ask for, in octets, and so the size that every answer keeps to.
pub(crate) const MRU_MIN_OCTETS: u16 = 128;

/// The most octets of a refused packet that a reject copies: fits each MRU we agree to.
pub(crate) const REJECTED_COPY_MAX_OCTETS: usize = MRU_MIN_OCTETS as usize - 6;

const PROTOCOL_OCTETS: usize = 2;
const HEADER_OCTETS: usize = 4;

/// Splits a frame into its protocol and the octets behind.
///
/// # Errors
/// [`WireError::Truncated`] without a protocol field, [`WireError::Oversize`].
pub fn split(frame: &[u8]) -> Result<(u16, &[u8]), WireError> {
    if frame.len() > FRAME_MAX_OCTETS {
        return Err(WireError::Oversize { have: frame.len(), max: FRAME_MAX_OCTETS });
    }
    match frame {
        [high, low, information @ ..] => Ok((u16::from_be_bytes([*high, *low]), information)),
        [] | [_] => {
            Err(WireError::Truncated { what: "frame", have: frame.len(), need: PROTOCOL_OCTETS })
        }
    }
}

/// A control packet, padding cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is.
    pub code: u8,
    /// Matches requests and replies.
    pub id: u8,
    /// Behind the header.
    pub data: &'a [u8],
    /// From the code to the end of the data.
    pub whole: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`WireError::Truncated`] without a full header, [`WireError::Length`].
    pub fn parse(information: &'a [u8]) -> Result<Self, WireError> {
        let &[code, id, high, low, ..] = information else {
            let have = information.len();
            return Err(WireError::Truncated { what: "packet", have, need: HEADER_OCTETS });
        };
        let length = u16::from_be_bytes([high, low]);
        let bad = WireError::Length { length, have: information.len() };
        let whole = information.get(..usize::from(length)).ok_or(bad)?;
        let data = whole.get(HEADER_OCTETS..).ok_or(bad)?;
        Ok(Self { code, id, data, whole })
    }
}

/// Builds a frame. `data` comes from a received frame or a bounded text, so it fits the length field.
pub(crate) fn frame(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(FRAME_MAX_OCTETS)];
    let length = u16::try_from(HEADER_OCTETS + data.len()).expect("data was cut to the bound");
    let mut out = Vec::with_capacity(PROTOCOL_OCTETS + HEADER_OCTETS + data.len());
    out.extend_from_slice(&protocol.to_be_bytes());
    out.extend_from_slice(&[code, id]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(data);
    out
}

/// Cuts `octets` to what a reject may copy.
pub(crate) fn rejected_copy(octets: &[u8]) -> &[u8] {
    &octets[..octets.len().min(REJECTED_COPY_MAX_OCTETS)]
}

/// Builds an LCP Protocol-Reject. RFC 1661 §5.7.
pub(crate) fn protocol_reject(id: u8, protocol: u16, information: &[u8]) -> Vec<u8> {
    let mut data = protocol.to_be_bytes().to_vec();
    data.extend_from_slice(rejected_copy(information));
    frame(protocol::LCP, code::PROTOCOL_REJECT, id, &data)
}

/// One configuration option. RFC 1661 §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigOption<'a> {
    /// Its type.
    pub kind: u8,
    /// Behind type and length.
    pub data: &'a [u8],
    /// With type and length.
    pub whole: &'a [u8],
}

/// Iterates over the options of a Configure packet; ends after the first error.
#[derive(Clone, Debug)]
pub struct ConfigOptions<'a> {
    rest: &'a [u8],
}

impl<'a> ConfigOptions<'a> {
    /// Starts at the first option of a packet's data.
    #[must_use]
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }
}

impl<'a> Iterator for ConfigOptions<'a> {
    type Item = Result<ConfigOption<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        match rest {
            [] => None,
            [_] => Some(Err(WireError::Truncated { what: "option", have: 1, need: 2 })),
            &[kind, length, ..] => {
                let bad = WireError::OptionLength { kind, length, have: rest.len() };
                let split = rest.split_at_checked(usize::from(length)).filter(|_| length >= 2);
                Some(split.ok_or(bad).map(|(whole, after)| {
                    self.rest = after;
                    ConfigOption { kind, data: &whole[2..], whole }
                }))
            }
        }
    }
}

/// Appends an option. `data` is one of our own values, a few octets long.
pub(crate) fn put_option(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let length = u8::try_from(data.len() + 2).expect("our option values are a few octets long");
    out.extend_from_slice(&[kind, length]);
    out.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_behind_the_length_is_cut_off() {
        let packet = Packet::parse(&[9, 7, 0, 6, 1, 2, 0, 0]).unwrap();
        assert_eq!((packet.code, packet.id, packet.data), (9, 7, &[1, 2][..]));
        assert_eq!(packet.whole.len(), 6);
    }

    #[test]
    fn a_length_below_the_header_or_beyond_the_frame_is_refused() {
        for (bytes, label) in [
            (&[1, 1, 0, 3][..], "length"),
            (&[1, 1, 0, 5], "length"),
            (&[1, 1, 0], "truncated"),
            (&[], "truncated"),
        ] {
            assert_eq!(Packet::parse(bytes).unwrap_err().label(), label, "{bytes:?}");
        }
        assert_eq!(split(&[0xc0]).unwrap_err().label(), "truncated");
        assert_eq!(split(&vec![0; FRAME_MAX_OCTETS + 1]).unwrap_err().label(), "oversize");
    }

    #[test]
    fn options_end_at_the_first_bad_length() {
        let kinds = |data: &[u8]| -> Result<Vec<u8>, WireError> {
            ConfigOptions::new(data).map(|o| o.map(|o| o.kind)).collect()
        };
        assert_eq!(kinds(&[7, 2, 1, 4, 5, 0xd4]), Ok(vec![7, 1]));
        for (bad, label) in
            [(&[1, 1][..], "option_length"), (&[1, 4, 5], "option_length"), (&[1], "truncated")]
        {
            assert_eq!(kinds(bad).unwrap_err().label(), label, "{bad:?}");
            assert_eq!(ConfigOptions::new(bad).count(), 1, "{bad:?} must not repeat");
        }
    }
}
