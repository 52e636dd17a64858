use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All ones.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// The virtual MAC of an IPv4 virtual router, `00:00:5e:00:01:VRID`. RFC 9568 §7.3.
    #[must_use]
    pub const fn virtual_router(vrid: u8) -> Self {
        Self([0x00, 0x00, 0x5e, 0x00, 0x01, vrid])
    }

    /// Whether the group bit is set: multicast or broadcast, never a source.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not six colon-separated hexadecimal octets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address such as 02:00:00:00:00:01")]
pub struct ParseMacError(pub String);

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || ParseMacError(s.to_owned());
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for octet in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(mac)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The VLAN identifiers of a frame, outermost first; 0 means no tag.
///
/// A priority tag (VID 0, IEEE 802.1Q §9.6) therefore counts as untagged.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Vlans {
    /// Service tag of a double-tagged frame, or the only tag.
    pub outer: u16,
    /// Customer tag of a double-tagged frame.
    pub inner: u16,
}

impl Vlans {
    /// An untagged frame.
    pub const NONE: Self = Self { outer: 0, inner: 0 };

    /// Whether the outer tag is a service tag, TPID 0x88a8: that of every double-tagged frame which
    /// answers none of the peer. IEEE 802.1Q §9.5; a single tag is a customer tag, 0x8100.
    #[must_use]
    pub const fn has_service_tag(self) -> bool {
        self.inner != 0
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.outer, self.inner) {
            (0, _) => f.write_str("untagged"),
            (outer, 0) => write!(f, "{outer}"),
            (outer, inner) => write!(f, "{outer}.{inner}"),
        }
    }
}

/// A logical access port, the same number on every data node of the group.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PortId(pub u16);

/// An inclusive range of IPv4 addresses, written `first-last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Range {
    /// The lowest address.
    pub first: Ipv4Addr,
    /// The highest address, not below `first`.
    pub last: Ipv4Addr,
}

impl Ipv4Range {
    /// How many addresses the range holds.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(u32::from(self.last)) - u64::from(u32::from(self.first)) + 1
    }

    /// Whether `addr` lies in the range.
    #[must_use]
    pub fn contains(self, addr: Ipv4Addr) -> bool {
        self.first <= addr && addr <= self.last
    }

    /// The `n`-th address, `None` past the end.
    #[must_use]
    pub fn nth(self, n: u64) -> Option<Ipv4Addr> {
        let at = u32::try_from(u64::from(u32::from(self.first)).checked_add(n)?).ok()?;
        (at <= u32::from(self.last)).then(|| Ipv4Addr::from(at))
    }
}

impl fmt::Display for Ipv4Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The text is not `first-last` with `first` at most `last`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 100.64.0.2-100.64.255.254")]
pub struct ParseRangeError(pub String);

impl FromStr for Ipv4Range {
    type Err = ParseRangeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad = || ParseRangeError(s.to_owned());
        let (first, last) = s.split_once('-').ok_or_else(bad)?;
        let first = first.trim().parse().map_err(|_| bad())?;
        let last = last.trim().parse().map_err(|_| bad())?;
        if first <= last { Ok(Self { first, last }) } else { Err(bad()) }
    }
}

impl Serialize for Ipv4Range {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Range {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_survives_text() {
        let mac = MacAddr([0, 0, 0x5e, 0, 1, 51]);
        assert_eq!(mac.to_string(), "00:00:5e:00:01:33");
        assert_eq!("00:00:5e:00:01:33".parse(), Ok(mac));
        for bad in
            ["", "00:00:5e:00:01", "00:00:5e:00:01:33:44", "0:0:5e:0:1:33", "zz:00:5e:00:01:33"]
        {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_range_knows_its_ends() {
        let r: Ipv4Range = "10.0.0.250-10.0.1.3".parse().unwrap();
        assert_eq!(r.count(), 10);
        assert_eq!(r.nth(9), Some(Ipv4Addr::new(10, 0, 1, 3)));
        assert_eq!(r.nth(10), None);
        assert!("10.0.1.3-10.0.0.250".parse::<Ipv4Range>().is_err());
    }
}
