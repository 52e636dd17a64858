//! IPCP options of both roles. RFC 1332, RFC 1877.

use crate::WireError;
use crate::automaton::{Negotiation, Next, Reply, Verdict, judge_each};
use crate::config::Policy;
use crate::wire::{self, ConfigOption, ConfigOptions, protocol};
use std::net::Ipv4Addr;

const IP_ADDRESS: u8 = 3;
const PRIMARY_DNS: u8 = 129;
const SECONDARY_DNS: u8 = 131;

/// How many DNS servers IPCP can tell. RFC 1877 §1.
const DNS_MAX: usize = 2;

/// The addresses of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Ours.
    pub local: Ipv4Addr,
    /// The subscriber's.
    pub peer: Ipv4Addr,
    /// DNS servers; the first two are told.
    pub dns: Vec<Ipv4Addr>,
}

fn address(data: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from)
}

fn option(kind: u8, address: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::with_capacity(6);
    wire::put_option(&mut out, kind, &address.octets());
    out
}

/// Server side: hands out the granted addresses and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerOptions {
    addresses: Option<Addresses>,
    address_rejected: bool,
}

impl ServerOptions {
    pub(crate) fn new(addresses: Option<Addresses>) -> Self {
        Self { addresses, address_rejected: false }
    }

    /// The grant, once there is one.
    pub(crate) fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    pub(crate) fn grant(&mut self, mut addresses: Addresses) {
        addresses.dns.truncate(DNS_MAX);
        self.addresses = Some(addresses);
    }
}

impl Negotiation for ServerOptions {
    const PROTOCOL: u16 = protocol::IPCP;

    fn is_extended(_code: u8) -> bool {
        false
    }

    fn wanted(&self, out: &mut Vec<u8>) {
        if let Some(addresses) = self.addresses.as_ref().filter(|_| !self.address_rejected) {
            wire::put_option(out, IP_ADDRESS, &addresses.local.octets());
        }
    }

    fn judge(
        &mut self,
        options: &[u8],
        may_nak: bool,
        _p: &Policy<'_>,
    ) -> Result<Reply, WireError> {
        // The engine starts IPCP only with a grant; without one there is nothing to agree on.
        let Some(addresses) = &self.addresses else { return Ok(Reply::GiveUp) };
        let reply = judge_each(options, may_nak, |o| match (o.kind, address(o.data)) {
            (IP_ADDRESS, Some(asked)) => {
                if asked == addresses.peer {
                    Verdict::Ack
                } else {
                    Verdict::Insist(option(IP_ADDRESS, addresses.peer))
                }
            }
            (PRIMARY_DNS | SECONDARY_DNS, Some(asked)) => {
                match addresses.dns.get(usize::from(o.kind == SECONDARY_DNS)) {
                    Some(ours) if *ours == asked => Verdict::Ack,
                    Some(ours) => Verdict::Nak(option(o.kind, *ours)),
                    None => Verdict::Reject,
                }
            }
            // The deprecated IP-Addresses (1), header compression (2), NetBIOS name servers (130,
            // 132, RFC 1877), unknown and malformed options.
            (_, _) => Verdict::Reject,
        })?;
        let names_address =
            ConfigOptions::new(options).any(|o| o.is_ok_and(|o| o.kind == IP_ADDRESS));
        Ok(match reply {
            Reply::Reject(_) | Reply::GiveUp => reply,
            Reply::Ack | Reply::Nak(_) if names_address => reply,
            Reply::Ack | Reply::Nak(_) if !may_nak => Reply::GiveUp,
            // A peer that asks for no address would open a link it cannot use: RFC 1661 §5.3 lets
            // a Nak append what is missing.
            Reply::Ack => Reply::Nak(option(IP_ADDRESS, addresses.peer)),
            Reply::Nak(mut naks) => {
                naks.extend(option(IP_ADDRESS, addresses.peer));
                Reply::Nak(naks)
            }
        })
    }

    fn naked(&mut self, _option: ConfigOption<'_>, _p: &Policy<'_>) -> Next {
        // Our address is not the peer's to choose; the automaton bounds how often it may try.
        Next::Retry
    }

    fn rejected(&mut self, _kind: u8) -> Next {
        // It does not care who we are. RFC 1332 §3.3 lets the option be absent.
        self.address_rejected = true;
        Next::Retry
    }
}

/// Client side: takes what the server offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientOptions {
    pub(crate) local: Ipv4Addr,
    pub(crate) peer: Ipv4Addr,
    /// `None` after the server rejected the option.
    dns: [Option<Ipv4Addr>; DNS_MAX],
}

impl ClientOptions {
    pub(crate) fn new() -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { local: none, peer: none, dns: [Some(none); DNS_MAX] }
    }

    /// The DNS servers that were told.
    pub(crate) fn dns(&self) -> Vec<Ipv4Addr> {
        self.dns.into_iter().flatten().filter(|dns| !dns.is_unspecified()).collect()
    }
}

impl Negotiation for ClientOptions {
    const PROTOCOL: u16 = protocol::IPCP;

    fn is_extended(_code: u8) -> bool {
        false
    }

    fn wanted(&self, out: &mut Vec<u8>) {
        wire::put_option(out, IP_ADDRESS, &self.local.octets());
        for (kind, dns) in [PRIMARY_DNS, SECONDARY_DNS].into_iter().zip(self.dns) {
            if let Some(dns) = dns {
                wire::put_option(out, kind, &dns.octets());
            }
        }
    }

    fn judge(
        &mut self,
        options: &[u8],
        may_nak: bool,
        _p: &Policy<'_>,
    ) -> Result<Reply, WireError> {
        let mut peer = Ipv4Addr::UNSPECIFIED;
        let reply = judge_each(options, may_nak, |o| match (o.kind, address(o.data)) {
            (IP_ADDRESS, Some(theirs)) if !theirs.is_unspecified() => {
                peer = theirs;
                Verdict::Ack
            }
            (_, _) => Verdict::Reject,
        })?;
        if reply == Reply::Ack {
            self.peer = peer;
        }
        Ok(reply)
    }

    fn naked(&mut self, o: ConfigOption<'_>, _p: &Policy<'_>) -> Next {
        match (o.kind, address(o.data)) {
            (IP_ADDRESS, Some(offered)) => self.local = offered,
            (PRIMARY_DNS, Some(offered)) => self.dns[0] = Some(offered),
            (SECONDARY_DNS, Some(offered)) => self.dns[1] = Some(offered),
            (_, _) => {}
        }
        Next::Retry
    }

    fn rejected(&mut self, kind: u8) -> Next {
        match kind {
            PRIMARY_DNS => self.dns[0] = None,
            SECONDARY_DNS => self.dns[1] = None,
            // Without an address there is no link.
            _ => return Next::GiveUp,
        }
        Next::Retry
    }
}

#[cfg(test)]
mod tests;
