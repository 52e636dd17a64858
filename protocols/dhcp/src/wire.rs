//! Messages on the wire. RFC 2131 §2, RFC 2132, RFC 3396.
//!
//! ```text
//!   0 op  1 htype  2 hlen  3 hops | 4 xid | 8 secs  10 flags | 12 ciaddr | 16 yiaddr | 20 siaddr
//!  24 giaddr | 28 chaddr, 16 octets | 44 sname, 64 | 108 file, 128 | 236 cookie | 240 options ...
//! ```

use crate::WireError;
use model::MacAddr;
use std::net::Ipv4Addr;

/// UDP port of servers and relay agents.
pub const SERVER_PORT: u16 = 67;
/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;

/// Codes of the options that this crate writes or reads. RFC 2132; 82 is RFC 3046.
pub mod code {
    /// Subnet mask.
    pub const SUBNET_MASK: u8 = 1;
    /// Routers.
    pub const ROUTER: u8 = 3;
    /// DNS servers.
    pub const DNS: u8 = 6;
    /// Host name of the client.
    pub const HOST_NAME: u8 = 12;
    /// Domain name.
    pub const DOMAIN_NAME: u8 = 15;
    /// Interface MTU.
    pub const MTU: u8 = 26;
    /// Broadcast address.
    pub const BROADCAST: u8 = 28;
    /// Requested IP address.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Lease time in seconds.
    pub const LEASE_TIME: u8 = 51;
    /// `sname` and `file` carry options too.
    pub const OVERLOAD: u8 = 52;
    /// Message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Options that the client wants, best first.
    pub const PARAMETER_LIST: u8 = 55;
    /// Text, why the server said no.
    pub const MESSAGE: u8 = 56;
    /// Largest message that the client takes.
    pub const MAX_MESSAGE_SIZE: u8 = 57;
    /// T1 in seconds.
    pub const T1: u8 = 58;
    /// T2 in seconds.
    pub const T2: u8 = 59;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// Relay agent information.
    pub const RELAY_INFO: u8 = 82;
}

const PAD: u8 = 0;
const END: u8 = 255;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// Octets before the options: the fixed part and the cookie.
pub(crate) const OPTIONS_AT: usize = 240;
/// A BOOTP message has at least 300 octets (RFC 951 §3), and old relay agents drop shorter ones.
const MESSAGE_OCTETS_MIN: usize = 300;
const FLAG_BROADCAST: u16 = 0x8000;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// From a client.
    Request,
    /// From a server.
    Reply,
}

/// Option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Client looks for servers.
    Discover,
    /// Server offers an address.
    Offer,
    /// Client takes an offer, confirms an address or extends a lease.
    Request,
    /// Client found the address in use.
    Decline,
    /// Server commits to a lease.
    Ack,
    /// Server says that the client's address is wrong.
    Nak,
    /// Client gives its address back.
    Release,
    /// Client has an address and wants the other settings.
    Inform,
}

impl MessageType {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];

    fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.octet() == octet)
    }

    const fn octet(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
        }
    }
}

/// Options in wire order, each code once; the message type is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    /// Adds an option; data for a code that is there already is joined to it (RFC 3396 §7).
    pub fn push(&mut self, code: u8, data: &[u8]) {
        match self.0.iter_mut().find(|(have, _)| *have == code) {
            Some((_, joined)) => joined.extend_from_slice(data),
            None => self.0.push((code, data.to_vec())),
        }
    }

    /// The data of an option.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&[u8]> {
        self.0.iter().find(|(have, _)| *have == code).map(|(_, data)| data.as_slice())
    }

    /// All options, in wire order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.0.iter().map(|(code, data)| (*code, data.as_slice()))
    }

    /// An option of `N` octets.
    ///
    /// # Errors
    /// [`WireError::OptionLength`] when it has another length.
    pub fn array<const N: usize>(&self, code: u8) -> Result<Option<[u8; N]>, WireError> {
        self.get(code)
            .map(|data| {
                data.try_into().map_err(|_| WireError::OptionLength { code, len: data.len() })
            })
            .transpose()
    }

    /// An option that is one address.
    ///
    /// # Errors
    /// [`WireError::OptionLength`] when it has not four octets.
    pub fn ipv4(&self, code: u8) -> Result<Option<Ipv4Addr>, WireError> {
        Ok(self.array::<4>(code)?.map(Ipv4Addr::from))
    }

    /// An option that is a list of addresses, empty when it is missing.
    ///
    /// # Errors
    /// [`WireError::OptionLength`] when its length is no multiple of four.
    pub fn ipv4s(&self, code: u8) -> Result<Vec<Ipv4Addr>, WireError> {
        let data = self.get(code).unwrap_or_default();
        let (addresses, rest) = data.as_chunks::<4>();
        if rest.is_empty() {
            Ok(addresses.iter().map(|&a| Ipv4Addr::from(a)).collect())
        } else {
            Err(WireError::OptionLength { code, len: data.len() })
        }
    }

    /// Octets that an option with `data_octets` of data takes, with its code and length octets.
    pub(crate) fn encoded_octets(data_octets: usize) -> usize {
        data_octets + 2 * data_octets.div_ceil(usize::from(u8::MAX)).max(1)
    }

    /// Reads one options field.
    fn read(&mut self, mut field: &[u8]) -> Result<(), WireError> {
        loop {
            field = match field {
                [] | [END, ..] => return Ok(()),
                [PAD, rest @ ..] => rest,
                [code] => return Err(WireError::OptionTruncated { code: *code, have: 0, need: 1 }),
                [code, len, rest @ ..] => {
                    let need = usize::from(*len);
                    let Some((data, rest)) = rest.split_at_checked(need) else {
                        let have = rest.len();
                        return Err(WireError::OptionTruncated { code: *code, have, need });
                    };
                    self.push(*code, data);
                    rest
                }
            }
        }
    }

    /// Removes an option.
    fn take(&mut self, code: u8) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(have, _)| *have == code)?;
        Some(self.0.remove(at).1)
    }
}

/// Appends an option, in as many parts as its length asks for (RFC 3396 §5).
fn write_option(out: &mut Vec<u8>, code: u8, data: &[u8]) {
    if data.is_empty() {
        out.extend_from_slice(&[code, 0]);
    }
    for part in data.chunks(usize::from(u8::MAX)) {
        out.extend([code, u8::try_from(part.len()).expect("chunks() bounds the part at 255")]);
        out.extend_from_slice(part);
    }
}

/// A DHCP message of an Ethernet client. `sname` and `file` serve network boot and are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Direction.
    pub op: Op,
    /// Relay agents passed.
    pub hops: u8,
    /// Transaction id, chosen by the client.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags as received: the broadcast bit, the rest must be zero.
    pub flags: u16,
    /// The address that the client has and answers ARP for.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// Next server of a network boot.
    pub siaddr: Ipv4Addr,
    /// Relay agent.
    pub giaddr: Ipv4Addr,
    /// Hardware address of the client.
    pub chaddr: MacAddr,
    /// Option 53.
    pub kind: MessageType,
    /// All other options.
    pub options: Options,
}

impl Message {
    /// A message from a client, with no address and no options yet.
    #[must_use]
    pub fn from_client(kind: MessageType, xid: u32, chaddr: MacAddr) -> Self {
        Self {
            op: Op::Request,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            kind,
            options: Options::default(),
        }
    }

    /// Whether the client cannot take unicast before it has an address. RFC 2131 §4.1.
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & FLAG_BROADCAST != 0
    }

    /// Sets the broadcast bit.
    pub fn set_broadcast(&mut self) {
        self.flags |= FLAG_BROADCAST;
    }

    /// Reads a UDP payload.
    ///
    /// A missing end option is forgiven, since the length of the datagram says the same.
    ///
    /// # Errors
    /// [`WireError`] says what is wrong; the message is then to be dropped.
    pub fn decode(octets: &[u8]) -> Result<Self, WireError> {
        let Some((fixed, field)) = octets.split_first_chunk::<OPTIONS_AT>() else {
            return Err(WireError::Truncated { have: octets.len(), need: OPTIONS_AT });
        };
        let op = match fixed[0] {
            1 => Op::Request,
            2 => Op::Reply,
            other => return Err(WireError::Op(other)),
        };
        if (fixed[1], fixed[2]) != (1, 6) {
            return Err(WireError::Hardware { htype: fixed[1], hlen: fixed[2] });
        }
        let word = |at: usize| [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        if word(236) != COOKIE {
            return Err(WireError::Cookie(word(236)));
        }
        let mut options = read_options(fixed, field)?;
        let kind = match options.take(code::MESSAGE_TYPE).as_deref() {
            None => return Err(WireError::NoMessageType),
            Some([octet]) => {
                MessageType::from_octet(*octet).ok_or(WireError::MessageType(*octet))?
            }
            Some(data) => {
                return Err(WireError::OptionLength { code: code::MESSAGE_TYPE, len: data.len() });
            }
        };
        let [c0, c1, c2, c3] = word(28);
        let [c4, c5, _, _] = word(32);
        let [s0, s1, f0, f1] = word(8);
        Ok(Self {
            op,
            hops: fixed[3],
            xid: u32::from_be_bytes(word(4)),
            secs: u16::from_be_bytes([s0, s1]),
            flags: u16::from_be_bytes([f0, f1]),
            ciaddr: word(12).into(),
            yiaddr: word(16).into(),
            siaddr: word(20).into(),
            giaddr: word(24).into(),
            chaddr: MacAddr([c0, c1, c2, c3, c4, c5]),
            kind,
            options,
        })
    }

    /// Writes a UDP payload: message type first, then the options in their order, padded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let op = match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        };
        let mut out = Vec::with_capacity(MESSAGE_OCTETS_MIN);
        out.extend([op, 1, 6, self.hops]);
        out.extend(self.xid.to_be_bytes());
        out.extend(self.secs.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            out.extend(address.octets());
        }
        out.extend(self.chaddr.0);
        out.resize(FILE.end, 0);
        out.extend(COOKIE);
        write_option(&mut out, code::MESSAGE_TYPE, &[self.kind.octet()]);
        for (code, data) in self.options.iter() {
            write_option(&mut out, code, data);
        }
        out.push(END);
        out.resize(out.len().max(MESSAGE_OCTETS_MIN), PAD);
        out
    }
}

/// Whether a UDP payload is a DISCOVER: the one message that an overloaded server may leave
/// unanswered, since its client has nothing to lose yet.
#[must_use]
pub fn is_discover(octets: &[u8]) -> bool {
    Message::decode(octets)
        .is_ok_and(|message| message.op == Op::Request && message.kind == MessageType::Discover)
}

/// Reads the options field, then `file` and `sname` when option 52 says so, in this order
/// (RFC 3396 §5). An option 52 inside these two has no meaning.
fn read_options(fixed: &[u8; OPTIONS_AT], field: &[u8]) -> Result<Options, WireError> {
    let mut options = Options::default();
    options.read(field)?;
    let overload = match options.take(code::OVERLOAD).as_deref() {
        None => return Ok(options),
        Some([octet @ 1..=3]) => *octet,
        Some([octet]) => return Err(WireError::Overload(*octet)),
        Some(data) => {
            return Err(WireError::OptionLength { code: code::OVERLOAD, len: data.len() });
        }
    };
    if overload & 1 != 0 {
        options.read(&fixed[FILE])?;
    }
    if overload & 2 != 0 {
        options.read(&fixed[SNAME])?;
    }
    options.take(code::OVERLOAD);
    Ok(options)
}

#[cfg(test)]
mod tests;
