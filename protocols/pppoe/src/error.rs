/// Why octets are not a PPPoE packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends before the header or the length it announces.
    #[error("packet has {have} octets, needs {need}")]
    Truncated {
        /// Octets present.
        have: usize,
        /// Octets that header and LENGTH ask for.
        need: usize,
    },
    /// VER and TYPE are not both 1.
    #[error("version/type is {0:#04x}, RFC 2516 §4 says 0x11")]
    VersionType(u8),
    /// A code that this stage does not have.
    #[error("code {0:#04x} is unknown in this stage")]
    Code(u8),
    /// A tag runs past the end of the packet.
    #[error("tag {kind:#06x} needs {need} octets, {have} are left")]
    TagTruncated {
        /// `TAG_TYPE`, 0 when not even that was there.
        kind: u16,
        /// Octets left after the tag header.
        have: usize,
        /// `TAG_LENGTH`.
        need: usize,
    },
    /// More tags than [`crate::TAGS_MAX`].
    #[error("packet has more than {} tags", crate::TAGS_MAX)]
    TooManyTags,
}

impl WireError {
    /// The stable name of the drop counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "pppoe_truncated",
            Self::VersionType(_) => "pppoe_version_type",
            Self::Code(_) => "pppoe_code",
            Self::TagTruncated { .. } => "pppoe_tag_truncated",
            Self::TooManyTags => "pppoe_too_many_tags",
        }
    }
}

/// Why the server did not answer a well-formed discovery packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// A packet that only a server sends.
    #[error("code is for hosts")]
    NotForServer,
    /// PADR or PADT to a group address, or PADI to a multicast address. RFC 2516 §5.
    #[error("destination address does not fit the code")]
    Destination,
    /// The source is a group address.
    #[error("source is a group address")]
    GroupSource,
    /// PADI or PADR with a session id, PADT without one. RFC 2516 §5.
    #[error("session id {0:#06x} does not fit the code")]
    SessionId(u16),
    /// PADI or PADR without Service-Name. RFC 2516 §5.1, §5.3.
    #[error("no Service-Name tag")]
    NoServiceName,
    /// PADI for a service that is not offered here; another concentrator may have it.
    #[error("service is not offered")]
    UnknownService,
    /// PADIs of all hosts on the port exceed the limit.
    #[error("PADI rate of the port exceeded")]
    PortRate,
    /// PADIs or PADRs of this host exceed the limit.
    #[error("discovery rate of the host exceeded")]
    HostRate,
    /// PADR without AC-Cookie.
    #[error("no AC-Cookie tag")]
    NoCookie,
    /// PADR with a cookie that was not made for this attachment.
    #[error("AC-Cookie is not ours")]
    BadCookie,
    /// The tags to be echoed leave no room in a frame.
    #[error("answer would have {0} octets")]
    AnswerTooLong(usize),
}

impl DropReason {
    /// The stable name of the drop counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotForServer => "pppoe_not_for_server",
            Self::Destination => "pppoe_destination",
            Self::GroupSource => "pppoe_group_source",
            Self::SessionId(_) => "pppoe_session_id",
            Self::NoServiceName => "pppoe_no_service_name",
            Self::UnknownService => "pppoe_unknown_service",
            Self::PortRate => "pppoe_port_rate",
            Self::HostRate => "pppoe_host_rate",
            Self::NoCookie => "pppoe_no_cookie",
            Self::BadCookie => "pppoe_bad_cookie",
            Self::AnswerTooLong(_) => "pppoe_answer_too_long",
        }
    }
}
