/// Why octets are not a VRRPv3 advertisement. RFC 9568 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends before the addresses that it announces.
    #[error("advert has {have} octets, needs {need}")]
    Truncated {
        /// Octets present.
        have: usize,
        /// Octets that the header asks for.
        need: usize,
    },
    /// Another version than 3.
    #[error("VRRP version is {0}, must be 3")]
    Version(u8),
    /// Another type than ADVERTISEMENT.
    #[error("VRRP type is {0}, must be 1")]
    Type(u8),
    /// No address at all. RFC 9568 §5.2.5.
    #[error("advert carries no address")]
    NoAddress,
    /// An interval of 0, which would make backups take over at once.
    #[error("Max Advertise Interval is 0")]
    NoInterval,
    /// The checksum matches neither with nor without pseudo-header.
    #[error("checksum does not match")]
    Checksum,
    /// TTL or Hop Limit is not 255: the packet was routed here.
    #[error("TTL is {0}, must be 255")]
    Ttl(u8),
    /// Source and destination are of different address families.
    #[error("source and destination are of different address families")]
    MixedFamilies,
    /// The frame around it is unsound.
    #[error("frame around the advert")]
    Frame(#[from] ether::WireError),
}

impl WireError {
    /// The stable name of the drop counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "vrrp_truncated",
            Self::Version(_) => "vrrp_version",
            Self::Type(_) => "vrrp_type",
            Self::NoAddress => "vrrp_no_address",
            Self::NoInterval => "vrrp_no_interval",
            Self::Checksum => "vrrp_checksum",
            Self::Ttl(_) => "vrrp_ttl",
            Self::MixedFamilies => "vrrp_mixed_families",
            Self::Frame(inner) => inner.label(),
        }
    }
}
