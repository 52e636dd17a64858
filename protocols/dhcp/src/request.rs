use crate::wire::{Message, MessageType, Op, code};
use crate::{ClientKey, DropReason, PoolConfig};
use model::{Attachment, MacAddr};
use std::net::Ipv4Addr;

/// Longest data that goes into the log, in octets: what one option can carry.
const OPTION_OCTETS_MAX: usize = 255;
/// IPv4 and UDP headers, which the sizes of option 57 include.
const HEADER_OCTETS: usize = 28;
/// The smallest size that option 57 may name and each client takes. RFC 2131 §2, RFC 2132 §9.10.
const DATAGRAM_OCTETS_MIN: usize = 576;
/// Replies never exceed an Ethernet frame, whatever the client asks for.
const DATAGRAM_OCTETS_MAX: usize = 1500;

/// A client's message after all checks that need no lease: what an answer is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: MessageType,
    /// Where the frame came from; its MAC is the client's, a relay agent's or a router's.
    pub(crate) from: Attachment,
    /// Destination of the IP packet.
    pub(crate) dst_ip: Ipv4Addr,
    pub(crate) xid: u32,
    pub(crate) flags: u16,
    pub(crate) wants_broadcast: bool,
    pub(crate) ciaddr: Ipv4Addr,
    pub(crate) giaddr: Ipv4Addr,
    pub(crate) key: ClientKey,
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) server_id: Option<Ipv4Addr>,
    /// Option 55.
    pub(crate) parameters: Vec<u8>,
    /// Octets that a reply may have, without option 82, which never reaches the client.
    pub(crate) reply_octets_max: usize,
    pub(crate) hostname: String,
    /// Option 82, as received.
    pub(crate) relay_info: Option<Vec<u8>>,
}

impl Request {
    /// Reads and checks a client's message.
    pub(crate) fn parse(
        octets: &[u8],
        from: Attachment,
        dst_ip: Ipv4Addr,
        cfg: &PoolConfig,
    ) -> Result<Self, DropReason> {
        let message = Message::decode(octets)?;
        check_source(&message, from, cfg)?;
        let options = &message.options;
        let client_id = options.get(code::CLIENT_ID).unwrap_or_default().to_vec();
        if client_id.len() > OPTION_OCTETS_MAX {
            return Err(DropReason::ClientIdTooLong(client_id.len()));
        }
        let relay_info = options.get(code::RELAY_INFO).map(<[u8]>::to_vec);
        if let Some(relay_info) = relay_info.as_ref().filter(|info| info.len() > OPTION_OCTETS_MAX)
        {
            return Err(DropReason::RelayInfoTooLong(relay_info.len()));
        }
        let size = options.array(code::MAX_MESSAGE_SIZE)?.map_or(0, u16::from_be_bytes);
        let size = usize::from(size).clamp(DATAGRAM_OCTETS_MIN, DATAGRAM_OCTETS_MAX);
        Ok(Self {
            kind: message.kind,
            from,
            dst_ip,
            xid: message.xid,
            flags: message.flags,
            wants_broadcast: message.wants_broadcast(),
            ciaddr: message.ciaddr,
            giaddr: message.giaddr,
            key: ClientKey { attachment: Attachment { mac: message.chaddr, ..from }, client_id },
            requested: options.ipv4(code::REQUESTED_ADDRESS)?.filter(|a| !a.is_unspecified()),
            server_id: options.ipv4(code::SERVER_ID)?,
            parameters: options.get(code::PARAMETER_LIST).unwrap_or_default().to_vec(),
            reply_octets_max: size - HEADER_OCTETS,
            hostname: hostname(options.get(code::HOST_NAME).unwrap_or_default()),
            relay_info,
        })
    }

    /// Whether a relay agent passed the message on.
    pub(crate) fn is_relayed(&self) -> bool {
        !self.giaddr.is_unspecified()
    }

    /// The server that the message is meant for, when it is not `gateway`.
    pub(crate) fn other_server(&self, gateway: Ipv4Addr) -> Option<Ipv4Addr> {
        self.server_id.filter(|&id| id != gateway)
    }
}

/// Checks who sent the message, and from which network.
///
/// Without a relay agent the frame's source must be the client itself: the data plane lets a
/// session's packets in from `chaddr` only, and one port could else draw the whole pool by inventing
/// hardware addresses. A client that has an address (`ciaddr`) may be behind a router, past its
/// relay agent, when it renews or releases.
fn check_source(message: &Message, from: Attachment, cfg: &PoolConfig) -> Result<(), DropReason> {
    if message.op == Op::Reply {
        return Err(DropReason::ServerMessage);
    }
    if message.chaddr.is_multicast() || message.chaddr == MacAddr::default() {
        return Err(DropReason::BadHardwareAddress);
    }
    if !message.giaddr.is_unspecified() {
        // RFC 2131 §4.3.1: a relayed client needs an address of the relay agent's network.
        return if cfg.in_network(message.giaddr) {
            Ok(())
        } else {
            Err(DropReason::ForeignRelay(message.giaddr))
        };
    }
    if message.chaddr != from.mac && message.ciaddr.is_unspecified() {
        return Err(DropReason::HardwareAddressMismatch);
    }
    Ok(())
}

/// Option 12 as text for logs and displays: control characters and trailing NULs are left out, and
/// so is what exceeds an option's length once octets that are no UTF-8 have become U+FFFD.
fn hostname(octets: &[u8]) -> String {
    let text: String =
        String::from_utf8_lossy(octets).chars().filter(|c| !c.is_control()).collect();
    text[..text.floor_char_boundary(OPTION_OCTETS_MAX)].to_owned()
}
