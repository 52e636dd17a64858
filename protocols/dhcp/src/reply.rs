use crate::request::Request;
use crate::wire::{CLIENT_PORT, Message, MessageType, OPTIONS_AT, Op, Options, SERVER_PORT, code};
use crate::{Action, PoolConfig};
use model::{Attachment, MacAddr};
use std::net::Ipv4Addr;

/// Where a reply goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Port and VLANs to send on, and the station behind them that the request came from.
    pub attachment: Attachment,
    /// Destination of the Ethernet frame: the station or broadcast.
    pub mac: MacAddr,
    /// Destination of the IP packet.
    pub ip: Ipv4Addr,
    /// UDP destination port: 68, or 67 at a relay agent.
    pub port: u16,
}

/// Why a client is told that its address is wrong; the text goes into option 56.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NakReason {
    WrongNetwork,
    AddressInUse,
    NotYourAddress,
    NoLease,
    Refused,
}

impl NakReason {
    const fn text(self) -> &'static str {
        match self {
            Self::WrongNetwork => "address is of another network",
            Self::AddressInUse => "address is in use",
            Self::NotYourAddress => "address is not the one of your lease",
            Self::NoLease => "no such lease",
            Self::Refused => "lease refused",
        }
    }
}

/// DHCPOFFER of `address`.
pub(crate) fn offer(request: &Request, address: Ipv4Addr, cfg: &PoolConfig) -> Action {
    let mut message = header(request, MessageType::Offer);
    message.ciaddr = Ipv4Addr::UNSPECIFIED; // RFC 2131 table 3: zero in an OFFER.
    message.yiaddr = address;
    message.options = settings(request, Some(cfg.lease_s), cfg);
    Action::Reply { to: destination(request, address), payload: message.encode() }
}

/// DHCPACK of a committed lease on `address`.
pub(crate) fn ack(request: &Request, address: Ipv4Addr, cfg: &PoolConfig) -> Action {
    let mut message = header(request, MessageType::Ack);
    message.yiaddr = address;
    message.options = settings(request, Some(cfg.lease_s), cfg);
    Action::Reply { to: destination(request, address), payload: message.encode() }
}

/// DHCPACK to an INFORM: settings only, no address and no lease times. RFC 2131 §4.3.5.
pub(crate) fn ack_inform(request: &Request, cfg: &PoolConfig) -> Action {
    let mut message = header(request, MessageType::Ack);
    message.options = settings(request, None, cfg);
    Action::Reply { to: destination(request, request.ciaddr), payload: message.encode() }
}

/// DHCPNAK: server identifier, client identifier and a text, nothing else. RFC 2131 table 3.
///
/// It is broadcast, since the client's address is wrong; through a relay agent the broadcast bit
/// makes the agent do so. RFC 2131 §4.1, §4.3.2.
pub(crate) fn nak(request: &Request, reason: NakReason, cfg: &PoolConfig) -> Action {
    let mut message = header(request, MessageType::Nak);
    message.ciaddr = Ipv4Addr::UNSPECIFIED;
    message.options.push(code::SERVER_ID, &cfg.gateway.octets());
    message.options.push(code::MESSAGE, reason.text().as_bytes());
    push_echoes(&mut message.options, request);
    let to = if request.is_relayed() {
        message.set_broadcast();
        destination(request, Ipv4Addr::UNSPECIFIED)
    } else {
        broadcast(request)
    };
    Action::Reply { to, payload: message.encode() }
}

/// The fields that every reply copies from the request. RFC 2131 table 3.
fn header(request: &Request, kind: MessageType) -> Message {
    let mut message = Message::from_client(kind, request.xid, request.key.attachment.mac);
    message.op = Op::Reply;
    message.flags = request.flags;
    message.ciaddr = request.ciaddr;
    message.giaddr = request.giaddr;
    message
}

/// Options of an OFFER or ACK, lease times only with `lease_s`.
///
/// Server identifier, lease time and client identifier are always there. Then comes what every
/// subscriber needs, asked for or not: mask, router, DNS, T1 and T2; then what else the client's
/// list names. What would exceed the client's message size is left out, and the rest stands in the
/// order of the list (RFC 2132 §9.8).
fn settings(request: &Request, lease_s: Option<u32>, cfg: &PoolConfig) -> Options {
    const NEEDED: [u8; 5] = [code::SUBNET_MASK, code::ROUTER, code::DNS, code::T1, code::T2];
    let mut options = Options::default();
    options.push(code::SERVER_ID, &cfg.gateway.octets());
    if let Some(lease_s) = lease_s {
        options.push(code::LEASE_TIME, &lease_s.to_be_bytes());
    }
    // Message type, end, and the client identifier, which is to be echoed and so keeps its room.
    let mut used = OPTIONS_AT + Options::encoded_octets(1) + 1;
    used += options.iter().map(|(_, data)| Options::encoded_octets(data.len())).sum::<usize>();
    if !request.key.client_id.is_empty() {
        used += Options::encoded_octets(request.key.client_id.len());
    }
    let mut chosen: Vec<(u8, Vec<u8>)> = vec![];
    for &code in NEEDED.iter().chain(&request.parameters) {
        let is_timer = matches!(code, code::T1 | code::T2);
        if chosen.iter().any(|(have, _)| *have == code) || (is_timer && lease_s.is_none()) {
            continue;
        }
        let Some(data) = setting(code, cfg) else { continue };
        let with = used + Options::encoded_octets(data.len());
        if with <= request.reply_octets_max {
            chosen.push((code, data));
            used = with;
        }
    }
    chosen.sort_by_key(|(code, _)| {
        request.parameters.iter().position(|asked| asked == code).unwrap_or(usize::MAX)
    });
    for (code, data) in chosen {
        options.push(code, &data);
    }
    push_echoes(&mut options, request);
    options
}

/// The pool's value of an option, `None` when it has none.
fn setting(code: u8, cfg: &PoolConfig) -> Option<Vec<u8>> {
    match code {
        code::SUBNET_MASK => Some(cfg.mask().octets().to_vec()),
        code::ROUTER => Some(cfg.gateway.octets().to_vec()),
        code::DNS => {
            let dns = cfg.dns.iter().take(PoolConfig::DNS_MAX).flat_map(Ipv4Addr::octets);
            Some(dns.collect::<Vec<_>>()).filter(|data| !data.is_empty())
        }
        code::DOMAIN_NAME => {
            let domain = cfg.domain.as_bytes();
            (!domain.is_empty() && domain.len() <= usize::from(u8::MAX)).then(|| domain.to_vec())
        }
        code::MTU => Some(cfg.mtu.to_be_bytes().to_vec()),
        code::BROADCAST => Some(cfg.broadcast().octets().to_vec()),
        code::T1 => Some(cfg.t1_s().to_be_bytes().to_vec()),
        code::T2 => Some(cfg.t2_s().to_be_bytes().to_vec()),
        _ => None,
    }
}

/// Client identifier (RFC 6842 §3), then relay agent information, which comes last (RFC 3046 §2.2).
fn push_echoes(options: &mut Options, request: &Request) {
    if !request.key.client_id.is_empty() {
        options.push(code::CLIENT_ID, &request.key.client_id);
    }
    if let Some(relay_info) = &request.relay_info {
        options.push(code::RELAY_INFO, relay_info);
    }
}

/// Where an OFFER or ACK with `yiaddr` goes. RFC 2131 §4.1.
///
/// The frame goes back to the station that the request came from: that is the client, except for a
/// relay agent, or a router in front of a client that renews.
fn destination(request: &Request, yiaddr: Ipv4Addr) -> Destination {
    let attachment = request.from;
    if request.is_relayed() {
        Destination { attachment, mac: attachment.mac, ip: request.giaddr, port: SERVER_PORT }
    } else if !request.ciaddr.is_unspecified() {
        Destination { attachment, mac: attachment.mac, ip: request.ciaddr, port: CLIENT_PORT }
    } else if request.wants_broadcast {
        broadcast(request)
    } else {
        Destination { attachment, mac: attachment.mac, ip: yiaddr, port: CLIENT_PORT }
    }
}

fn broadcast(request: &Request) -> Destination {
    Destination {
        attachment: request.from,
        mac: MacAddr::BROADCAST,
        ip: Ipv4Addr::BROADCAST,
        port: CLIENT_PORT,
    }
}
