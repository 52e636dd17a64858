/// Why a received frame was dropped.
///
/// Nothing here is answered; what the protocol has an answer for is an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too short for the field that should be there.
    #[error("{what} has {have} octets, needs {need}")]
    Truncated {
        /// The field or packet.
        what: &'static str,
        /// Octets there are.
        have: usize,
        /// Octets needed.
        need: usize,
    },
    /// Longer than any control frame.
    #[error("frame has {have} octets, at most {max} are read")]
    Oversize {
        /// Octets there are.
        have: usize,
        /// The bound.
        max: usize,
    },
    /// The Length field is below the header or beyond the frame. RFC 1661 §5.
    #[error("Length field is {length}, the packet has {have} octets")]
    Length {
        /// The field's value.
        length: u16,
        /// Octets there are.
        have: usize,
    },
    /// An option's length is below 2 or beyond the packet. RFC 1661 §6.
    #[error("option {kind} has length {length} with {have} octets left")]
    OptionLength {
        /// Option type.
        kind: u8,
        /// The field's value.
        length: u8,
        /// Octets left in the packet.
        have: usize,
    },
    /// An answer to no request of ours, or to an older one.
    #[error("protocol {protocol:#06x} code {code} identifier {id} answers no open request")]
    Stale {
        /// PPP protocol.
        protocol: u16,
        /// Packet code.
        code: u8,
        /// Packet identifier.
        id: u8,
    },
    /// A Configure-Ack or Configure-Reject with options that we did not send. RFC 1661 §5.2, §5.4.
    #[error("protocol {protocol:#06x} code {code} carries options that were not requested")]
    ForeignOptions {
        /// PPP protocol.
        protocol: u16,
        /// Packet code.
        code: u8,
    },
    /// The protocol is not spoken in this phase. RFC 1661 §3.
    #[error("protocol {protocol:#06x} is not spoken in this phase")]
    OutOfPhase {
        /// PPP protocol.
        protocol: u16,
    },
    /// An authentication packet that the engine does not take now.
    #[error("protocol {protocol:#06x} code {code} is not expected now")]
    Unexpected {
        /// PPP protocol.
        protocol: u16,
        /// Packet code.
        code: u8,
    },
    /// Credentials came while others are still being checked.
    #[error("credentials are being checked already")]
    Busy,
    /// The name is longer than any account's.
    #[error("name has {have} octets, at most {max} are taken")]
    NameTooLong {
        /// Octets of the name.
        have: usize,
        /// The bound.
        max: usize,
    },
    /// A CHAP-MD5 response that is not 16 octets long. RFC 1994 §4.1.
    #[error("CHAP value has {have} octets, MD5 makes 16")]
    ChapValue {
        /// The Value-Size field.
        have: usize,
    },
    /// Our own magic number came back. RFC 1661 §6.4.
    #[error("magic number {magic:#010x} is our own: the link is looped back")]
    LoopedBack {
        /// The number.
        magic: u32,
    },
    /// The engine was not started or is finished.
    #[error("the engine is not running")]
    NotRunning,
}

impl WireError {
    /// The name of this variant's drop counter.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Oversize { .. } => "oversize",
            Self::Length { .. } => "length",
            Self::OptionLength { .. } => "option_length",
            Self::Stale { .. } => "stale",
            Self::ForeignOptions { .. } => "foreign_options",
            Self::OutOfPhase { .. } => "out_of_phase",
            Self::Unexpected { .. } => "unexpected",
            Self::Busy => "busy",
            Self::NameTooLong { .. } => "name_too_long",
            Self::ChapValue { .. } => "chap_value",
            Self::LoopedBack { .. } => "looped_back",
            Self::NotRunning => "not_running",
        }
    }
}

/// Frames that an engine dropped.
///
/// One event drops one frame at most, so a driver that looks after each step misses none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many, wrapping.
    pub count: u32,
    /// Why the newest one was dropped.
    pub last: Option<WireError>,
}

impl Dropped {
    pub(crate) fn note(&mut self, error: WireError) {
        self.count = self.count.wrapping_add(1);
        self.last = Some(error);
    }
}
