use std::net::Ipv4Addr;

/// What is wrong with the octets of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than the fixed part of a message.
    #[error("message has {have} octets, the fixed part takes {need}")]
    Truncated {
        /// Octets received.
        have: usize,
        /// Octets of the fixed part and the cookie.
        need: usize,
    },
    /// Neither BOOTREQUEST nor BOOTREPLY.
    #[error("op is {0}, RFC 2131 §2 knows 1 and 2")]
    Op(u8),
    /// Not Ethernet.
    #[error("hardware type {htype} with addresses of {hlen} octets is not Ethernet (1, 6)")]
    Hardware {
        /// Field `htype`.
        htype: u8,
        /// Field `hlen`.
        hlen: u8,
    },
    /// No options field, so BOOTP with a vendor area of another kind.
    #[error("magic cookie is {0:02x?}, RFC 2131 §3 says 63 82 53 63")]
    Cookie([u8; 4]),
    /// An option reaches past the end of its field.
    #[error("option {code} needs {need} octets, {have} are left")]
    OptionTruncated {
        /// Option code.
        code: u8,
        /// Octets left in the field.
        have: usize,
        /// Octets that the option claims.
        need: usize,
    },
    /// An option of fixed length has another one.
    #[error("option {code} has {len} octets")]
    OptionLength {
        /// Option code.
        code: u8,
        /// Its length, after joining its parts (RFC 3396).
        len: usize,
    },
    /// Option 52 is not 1, 2 or 3.
    #[error("option overload is {0}, RFC 2132 §9.3 knows 1 to 3")]
    Overload(u8),
    /// Without option 53 it is BOOTP, which has no leases.
    #[error("no message type: plain BOOTP")]
    NoMessageType,
    /// A message type that this crate does not speak.
    #[error("message type {0} is not one of RFC 2131")]
    MessageType(u8),
}

impl WireError {
    /// The stable name, as in drop counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Op(_) => "op",
            Self::Hardware { .. } => "hardware",
            Self::Cookie(_) => "cookie",
            Self::OptionTruncated { .. } => "option_truncated",
            Self::OptionLength { .. } => "option_length",
            Self::Overload(_) => "overload",
            Self::NoMessageType => "no_message_type",
            Self::MessageType(_) => "message_type",
        }
    }
}

/// Why the server stays silent. RFC 2131 asks for silence in most of these cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropReason {
    /// The octets are not a DHCP message.
    #[error("not a DHCP message")]
    Malformed(#[from] WireError),
    /// A message that only servers send.
    #[error("a server's message came to the server port")]
    ServerMessage,
    /// The hardware address is zero or a group address.
    #[error("chaddr is not the address of a station")]
    BadHardwareAddress,
    /// The frame's source is not `chaddr`, and no router or relay explains it.
    #[error("chaddr is not the source of the frame")]
    HardwareAddressMismatch,
    /// A client identifier longer than one option cannot be echoed.
    #[error("client identifier has {0} octets")]
    ClientIdTooLong(usize),
    /// Relay agent information longer than one option (RFC 3046 §2.0) is not kept in the log.
    #[error("relay agent information has {0} octets")]
    RelayInfoTooLong(usize),
    /// The message lacks the address that its kind must name.
    #[error("the message names no address")]
    NoAddress,
    /// The relay agent is on a network that this pool does not serve.
    #[error("relay {0} is outside the pool's network")]
    ForeignRelay(Ipv4Addr),
    /// The client took another server's offer, or speaks to another server.
    #[error("meant for server {0}")]
    OtherServer(Ipv4Addr),
    /// The client has an address of its own from a network that this pool does not serve.
    #[error("{0} is outside the pool's network")]
    WrongNetwork(Ipv4Addr),
    /// No record of the client: RFC 2131 §4.3.2 demands silence.
    #[error("no lease of this client is known")]
    UnknownClient,
    /// RELEASE or DECLINE of an address that the client does not hold.
    #[error("{0} is not held by this client")]
    NotHolder(Ipv4Addr),
    /// No address is left.
    #[error("no free address")]
    PoolExhausted,
    /// The same client's previous request is still being committed.
    #[error("a request of this client is being committed")]
    CommitPending,
    /// Too many requests are being committed.
    #[error("too many requests are being committed")]
    Busy,
}

impl DropReason {
    /// The stable name, as in drop counters.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(wire) => wire.label(),
            Self::ServerMessage => "server_message",
            Self::BadHardwareAddress => "bad_hardware_address",
            Self::HardwareAddressMismatch => "hardware_address_mismatch",
            Self::ClientIdTooLong(_) => "client_id_too_long",
            Self::RelayInfoTooLong(_) => "relay_info_too_long",
            Self::NoAddress => "no_address",
            Self::ForeignRelay(_) => "foreign_relay",
            Self::OtherServer(_) => "other_server",
            Self::WrongNetwork(_) => "wrong_network",
            Self::UnknownClient => "unknown_client",
            Self::NotHolder(_) => "not_holder",
            Self::PoolExhausted => "pool_exhausted",
            Self::CommitPending => "commit_pending",
            Self::Busy => "busy",
        }
    }
}
