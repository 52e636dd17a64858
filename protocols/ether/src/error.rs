use model::MacAddr;

/// Why octets are not a frame or packet that this crate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends before the header or the length it announces.
    #[error("{what} has {have} octets, needs {need}")]
    Truncated {
        /// The part that is short.
        what: &'static str,
        /// Octets present.
        have: usize,
        /// Octets that the format asks for.
        need: usize,
    },
    /// The type field is an IEEE 802.3 length.
    #[error("type field {0:#06x} is an IEEE 802.3 length, not an EtherType")]
    NotEthernet2(u16),
    /// The source address has the group bit set.
    #[error("source {0} is a group address")]
    GroupSource(MacAddr),
    /// More VLAN tags than [`crate::TAGS_MAX`].
    #[error("frame has more than {} VLAN tags", crate::TAGS_MAX)]
    TooManyTags,
    /// ARP for something other than IPv4 over Ethernet.
    #[error("ARP hardware {hardware:#06x}, protocol {protocol:#06x} is not IPv4 over Ethernet")]
    ArpSpace {
        /// `ar$hrd`.
        hardware: u16,
        /// `ar$pro`.
        protocol: u16,
    },
    /// ARP address lengths other than 6 and 4.
    #[error("ARP address lengths are {hardware} and {protocol}, must be 6 and 4")]
    ArpLengths {
        /// `ar$hln`.
        hardware: u8,
        /// `ar$pln`.
        protocol: u8,
    },
    /// An ARP operation other than request and reply.
    #[error("ARP operation {0} is neither request nor reply")]
    ArpOperation(u16),
    /// The IP version nibble is not 4.
    #[error("IP version is {0}, must be 4")]
    IpVersion(u8),
    /// The header length is below 5 words or longer than the total length.
    #[error(
        "IPv4 header length of {header_octets} octets does not fit total length {total_octets}"
    )]
    IpLengths {
        /// IHL times four.
        header_octets: usize,
        /// Total Length.
        total_octets: usize,
    },
    /// The IPv4 header checksum does not match.
    #[error("IPv4 header checksum does not match")]
    IpChecksum,
    /// A fragment: the rest of the datagram is elsewhere.
    #[error("IPv4 packet is a fragment")]
    Fragment,
    /// The UDP length is below 8 or longer than the IP payload.
    #[error("UDP length {udp_octets} does not fit an IP payload of {ip_payload_octets} octets")]
    UdpLength {
        /// Length field.
        udp_octets: usize,
        /// What IP carries.
        ip_payload_octets: usize,
    },
    /// The UDP checksum does not match.
    #[error("UDP checksum does not match")]
    UdpChecksum,
}

impl WireError {
    /// The stable name of the drop counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "ether_truncated",
            Self::NotEthernet2(_) => "ether_not_ethernet2",
            Self::GroupSource(_) => "ether_group_source",
            Self::TooManyTags => "ether_too_many_tags",
            Self::ArpSpace { .. } => "arp_space",
            Self::ArpLengths { .. } => "arp_lengths",
            Self::ArpOperation(_) => "arp_operation",
            Self::IpVersion(_) => "ipv4_version",
            Self::IpLengths { .. } => "ipv4_lengths",
            Self::IpChecksum => "ipv4_checksum",
            Self::Fragment => "ipv4_fragment",
            Self::UdpLength { .. } => "udp_length",
            Self::UdpChecksum => "udp_checksum",
        }
    }
}
