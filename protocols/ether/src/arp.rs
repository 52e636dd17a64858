use crate::{WireError, ethertype};
use model::MacAddr;
use std::net::Ipv4Addr;

const HARDWARE_ETHERNET: u16 = 1;
const ARP_OCTETS: usize = 28;

/// What an ARP packet asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet for IPv4 over Ethernet. RFC 826.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender, unspecified in a probe (RFC 5227 §2.1.1).
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target, zero in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Returns the announcement that `mac` has `ip`, to be broadcast.
    ///
    /// The request form, as RFC 5227 §2.3 and §3 ask for: some hosts ignore unasked replies.
    #[must_use]
    pub fn gratuitous(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self {
            operation: ArpOperation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr::default(),
            target_ip: ip,
        }
    }

    /// Returns the answer of `mac` to this request, which asked for our address `target_ip`.
    #[must_use]
    pub fn answer(&self, mac: MacAddr) -> Self {
        Self {
            operation: ArpOperation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }

    /// Reads the payload of a frame of type [`ethertype::ARP`]; padding after it is ignored.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::ArpSpace`], [`WireError::ArpLengths`] or
    /// [`WireError::ArpOperation`].
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let Some((p, _padding)) = payload.split_first_chunk::<ARP_OCTETS>() else {
            return Err(WireError::Truncated {
                what: "ARP packet",
                have: payload.len(),
                need: ARP_OCTETS,
            });
        };
        let hardware = u16::from_be_bytes([p[0], p[1]]);
        let protocol = u16::from_be_bytes([p[2], p[3]]);
        if hardware != HARDWARE_ETHERNET || protocol != ethertype::IPV4 {
            return Err(WireError::ArpSpace { hardware, protocol });
        }
        if (p[4], p[5]) != (6, 4) {
            return Err(WireError::ArpLengths { hardware: p[4], protocol: p[5] });
        }
        let operation = match u16::from_be_bytes([p[6], p[7]]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => return Err(WireError::ArpOperation(other)),
        };
        Ok(Self {
            operation,
            sender_mac: MacAddr([p[8], p[9], p[10], p[11], p[12], p[13]]),
            sender_ip: Ipv4Addr::new(p[14], p[15], p[16], p[17]),
            target_mac: MacAddr([p[18], p[19], p[20], p[21], p[22], p[23]]),
            target_ip: Ipv4Addr::new(p[24], p[25], p[26], p[27]),
        })
    }

    /// Returns the payload of a frame of type [`ethertype::ARP`].
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let operation: u16 = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        let mut out = Vec::with_capacity(ARP_OCTETS);
        out.extend_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        out.extend_from_slice(&ethertype::IPV4.to_be_bytes());
        out.extend_from_slice(&[6, 4]);
        out.extend_from_slice(&operation.to_be_bytes());
        out.extend_from_slice(&self.sender_mac.0);
        out.extend_from_slice(&self.sender_ip.octets());
        out.extend_from_slice(&self.target_mac.0);
        out.extend_from_slice(&self.target_ip.octets());
        out
    }
}
