use crate::{Attachment, MacAddr, PortId, UnixMs, Vlans};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network, written `address/length`; its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix_len: u8,
}

impl Ipv4Net {
    /// The network of that address and length; `None` for more than 32 bits or host bits set.
    #[must_use]
    pub fn new(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        let mask = mask_of(prefix_len)?;
        (u32::from(address) & !mask == 0).then_some(Self { address, prefix_len })
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: Ipv4Addr) -> Self {
        Self { address, prefix_len: 32 }
    }

    /// The lowest address.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many bits its addresses share.
    #[must_use]
    pub fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        let mask = mask_of(self.prefix_len).unwrap_or(u32::MAX);
        u32::from(address) & mask == u32::from(self.address)
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.prefix_len <= other.prefix_len && self.contains(other.address)
    }
}

fn mask_of(prefix_len: u8) -> Option<u32> {
    let host_bits = 32_u32.checked_sub(prefix_len.into())?;
    Some(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// The text is neither an address nor a network without host bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a network such as 192.0.2.0/24, host bits zero")]
pub struct ParseNetError(pub String);

impl FromStr for Ipv4Net {
    type Err = ParseNetError;

    /// A bare address is a network of one.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || ParseNetError(s.to_owned());
        let Some((address, prefix_len)) = s.split_once('/') else {
            return s.parse().map(Self::host).map_err(|_| bad());
        };
        let address = address.parse().map_err(|_| bad())?;
        let prefix_len = prefix_len.parse().map_err(|_| bad())?;
        Self::new(address, prefix_len).ok_or_else(bad)
    }
}

impl Serialize for Ipv4Net {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Net {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which packets of a banned network are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BanScope {
    /// All of them.
    All,
    /// Only ICMP.
    Icmp,
}

/// A network whose packets are dropped on every access and core port, as source and as destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// The network.
    pub network: Ipv4Net,
    /// Which of its packets.
    pub scope: BanScope,
    /// Since when.
    pub since: UnixMs,
}

/// An access line: a port and the VLAN tags on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Line {
    /// Access port.
    pub port: PortId,
    /// VLAN tags.
    pub vlans: Vlans,
}

impl Attachment {
    /// The place of a static subscriber that was not heard from yet.
    pub const UNKNOWN: Self = Self { port: PortId(0), vlans: Vlans::NONE, mac: MacAddr([0; 6]) };

    /// Whether it is a place at all. No frame comes from the MAC address of all zeros.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.mac != Self::UNKNOWN.mac
    }

    /// The access line.
    #[must_use]
    pub fn line(&self) -> Line {
        Line { port: self.port, vlans: self.vlans }
    }
}

/// What is fixed of an IPoE subscriber that has its address without DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticSession {
    /// The only MAC address that may use the address; without one, whoever was heard last.
    pub mac: Option<MacAddr>,
    /// The only line that may use the address; without one, wherever it was heard last.
    pub line: Option<Line>,
    /// Whether its packets pass. Those of a subscriber that is not allowed are dropped both ways.
    pub allowed: bool,
}

impl StaticSession {
    /// Whether the subscriber may be at that place.
    #[must_use]
    pub fn admits(&self, place: &Attachment) -> bool {
        self.mac.is_none_or(|mac| mac == place.mac)
            && self.line.is_none_or(|line| line == place.line())
    }

    /// Where the subscriber is when nothing was heard of it: known only when all of it is fixed.
    #[must_use]
    pub fn home(&self) -> Attachment {
        match (self.mac, self.line) {
            (Some(mac), Some(Line { port, vlans })) => Attachment { port, vlans, mac },
            (Some(_) | None, None) | (None, Some(_)) => Attachment::UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_no_host_bits() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.4/30", "192.0.2.5/32"] {
            assert_eq!(good.parse::<Ipv4Net>().unwrap().to_string(), good);
        }
        let host: Ipv4Net = "192.0.2.5".parse().unwrap();
        assert_eq!(host.to_string(), "192.0.2.5/32");
        for bad in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "1.2.3.4/-1"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_covers_its_parts() {
        let net: Ipv4Net = "192.0.2.0/24".parse().unwrap();
        assert!(net.contains(Ipv4Addr::new(192, 0, 2, 255)));
        assert!(!net.contains(Ipv4Addr::new(192, 0, 3, 0)));
        assert!("0.0.0.0/0".parse::<Ipv4Net>().unwrap().contains(Ipv4Addr::BROADCAST));
        assert!(net.covers("192.0.2.128/25".parse().unwrap()) && net.covers(net));
        assert!(!net.covers("192.0.0.0/16".parse().unwrap()));
    }

    #[test]
    fn a_subscriber_is_admitted_where_nothing_speaks_against_it() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let line = Line { port: PortId(1), vlans: Vlans { outer: 7, inner: 0 } };
        let place = Attachment { port: line.port, vlans: line.vlans, mac };
        let other_mac = Attachment { mac: MacAddr([2, 0, 0, 0, 0, 2]), ..place };
        let other_line = Attachment { vlans: Vlans::NONE, ..place };
        // bound MAC, bound line, admits (place, other MAC, other line), home is known
        let rows = [
            (None, None, [true, true, true], false),
            (Some(mac), None, [true, false, true], false),
            (None, Some(line), [true, true, false], false),
            (Some(mac), Some(line), [true, false, false], true),
        ];
        for (mac, line, admits, home) in rows {
            let fixed = StaticSession { mac, line, allowed: true };
            let got = [place, other_mac, other_line].map(|p| fixed.admits(&p));
            assert_eq!(got, admits, "{fixed:?}");
            assert_eq!(fixed.home().is_known(), home, "{fixed:?}");
        }
    }
}
