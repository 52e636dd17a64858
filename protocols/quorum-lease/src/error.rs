use std::time::Duration;

/// A datagram is not a lease message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Shorter than its kind and counts say.
    #[error("message has {have} octets, needs {need}")]
    Truncated {
        /// Octets received.
        have: usize,
        /// Octets the message needs at least.
        need: usize,
    },
    /// Another protocol version.
    #[error("lease protocol version is {0}, not {expected}", expected = crate::WIRE_VERSION)]
    Version(u8),
    /// A message kind that this version does not have.
    #[error("message kind {0} is unknown")]
    Kind(u8),
    /// An answer or outcome that this version does not have.
    #[error("answer {0} is unknown")]
    Answer(u8),
    /// More groups than one message may carry.
    #[error("message carries {0} groups, at most {max} are allowed", max = crate::GRANTS_MAX)]
    TooManyGrants(u8),
    /// A promise longer than any lease.
    #[error("promise has {0:?} left, no lease is that long")]
    LeftTooLong(Duration),
    /// Octets after the end of the message.
    #[error("{0} octets follow the message")]
    Trailing(usize),
}

impl WireError {
    /// The name of the drop counter; never renamed.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Version(_) => "version",
            Self::Kind(_) => "kind",
            Self::Answer(_) => "answer",
            Self::TooManyGrants(_) => "too_many_grants",
            Self::LeftTooLong(_) => "left_too_long",
            Self::Trailing(_) => "trailing",
        }
    }
}

/// Lease timing that would be unsafe or could not stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Renewals would follow each other without a pause.
    #[error("renew interval is {renew:?}, at least {min:?} is needed")]
    RenewTooShort {
        /// Configured interval.
        renew: Duration,
        /// Smallest allowed.
        min: Duration,
    },
    /// A lease beyond what messages can express.
    #[error("lease is {lease:?}, at most {max:?} is allowed")]
    LeaseTooLong {
        /// Configured lease.
        lease: Duration,
        /// Longest allowed.
        max: Duration,
    },
    /// No sane clock drifts like this.
    #[error("clock drift bound is {ppm} ppm, at most {max} is allowed")]
    DriftTooLarge {
        /// Configured bound.
        ppm: u32,
        /// Largest allowed.
        max: u32,
    },
    /// Clocks within their bound could keep two fences open.
    #[error("margin is {margin:?}, clock drift alone needs {needed:?}")]
    MarginTooSmall {
        /// Configured margin.
        margin: Duration,
        /// What the drift bound needs.
        needed: Duration,
    },
    /// Two lost renewals in a row would shut the fence.
    #[error("lease less margin is {open:?}, at least {needed:?} is needed, three renewals")]
    LeaseTooShort {
        /// How long one acknowledged renewal keeps the fence open.
        open: Duration,
        /// Three renew intervals.
        needed: Duration,
    },
}

impl TimingError {
    /// The stable name of the fault.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::RenewTooShort { .. } => "renew_too_short",
            Self::LeaseTooLong { .. } => "lease_too_long",
            Self::DriftTooLarge { .. } => "drift_too_large",
            Self::MarginTooSmall { .. } => "margin_too_small",
            Self::LeaseTooShort { .. } => "lease_too_short",
        }
    }
}
