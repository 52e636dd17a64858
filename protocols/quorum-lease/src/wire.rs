//! Messages and their octets.
//!
//! All numbers are big-endian. A message fits a QUIC datagram of 1,200 octets.
//!
//! ```text
//! version:u8 = 1 | kind:u8 | body
//! 1 Renew     seq:u64 count:u8 count*{ group:u32 epoch:u64 }
//! 2 RenewAck  seq:u64 membership_index:u64 count:u8 count*{ group:u32 epoch:u64 answer:u8 (seen:u64) }
//! 3 Seal      seq:u64 group:u32 epoch:u64
//! 4 SealAck   seq:u64 group:u32 epoch:u64 outcome:u8 ( left_us:u32 | seen:u64 )
//! 5 Release   seq:u64 group:u32 epoch:u64
//! answer   1 Promised  2 EpochTooLow(seen)  3 HeldByOther  4 Quarantined; seen is there for 2 only
//! outcome  1 Sealed(left)  2 Refused(seen)
//! ```

use crate::config::LEASE_MAX;
use crate::error::WireError;
use model::{Epoch, GroupId};
use std::time::Duration;

/// The protocol version that this crate speaks.
pub const WIRE_VERSION: u8 = 1;

/// Groups in one message; an acknowledgement of as many still fits a datagram of 1,200 octets.
pub const GRANTS_MAX: usize = 48;

/// One datagram between the engines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Message {
    /// Holder to all voters: promise me these groups.
    Renew {
        /// Number of this renewal, growing for as long as the node's boot clock runs.
        seq: u64,
        /// Groups and the epochs at which the sender owns them, at most [`GRANTS_MAX`].
        grants: Vec<(GroupId, Epoch)>,
    },
    /// Voter to holder.
    RenewAck {
        /// The renewal that is answered.
        seq: u64,
        /// Log index of the newest membership the voter has seen.
        membership_index: u64,
        /// One answer for each grant.
        results: Vec<(GroupId, Epoch, Answer)>,
    },
    /// Leader to all voters: refuse renewals below this epoch from now on.
    Seal {
        /// Number of this request.
        seq: u64,
        /// The group to be given away.
        group: GroupId,
        /// The epoch its next owner will have.
        epoch: Epoch,
    },
    /// Voter to leader.
    SealAck {
        /// The request that is answered.
        seq: u64,
        /// Its group.
        group: GroupId,
        /// Its epoch.
        epoch: Epoch,
        /// What the voter did.
        outcome: SealOutcome,
    },
    /// Holder to all voters: my fence is shut, drop your promise.
    Release {
        /// From the numbers of [`Message::Renew`], so that a late release cannot end a promise
        /// that a later renewal asked for.
        seq: u64,
        /// The group given up.
        group: GroupId,
        /// The epoch that ends.
        epoch: Epoch,
    },
}

/// A voter's answer to one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// Promised for a lease, from when the voter received the renewal.
    Promised,
    /// The epoch is over.
    EpochTooLow {
        /// The lowest epoch the voter would accept.
        seen: Epoch,
    },
    /// Promised to another node, and not over.
    HeldByOther,
    /// The voter started too recently to promise anything.
    Quarantined,
}

/// A voter's answer to a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SealOutcome {
    /// Renewals below the epoch are refused from now on.
    Sealed {
        /// Time left on the promise, on the voter's clock.
        left: Duration,
    },
    /// The epoch is not new.
    Refused {
        /// The highest epoch seen.
        seen: Epoch,
    },
}

const RENEW: u8 = 1;
const RENEW_ACK: u8 = 2;
const SEAL: u8 = 3;
const SEAL_ACK: u8 = 4;
const RELEASE: u8 = 5;

const PROMISED: u8 = 1;
const EPOCH_TOO_LOW: u8 = 2;
const HELD_BY_OTHER: u8 = 3;
const QUARANTINED: u8 = 4;

const SEALED: u8 = 1;
const REFUSED: u8 = 2;

impl Message {
    /// The octets of the message.
    ///
    /// Grants and results past [`GRANTS_MAX`] are left out, which the other side takes as neither
    /// asked nor promised; the engines make no such message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![WIRE_VERSION];
        match self {
            Self::Renew { seq, grants } => {
                out.push(RENEW);
                out.extend(seq.to_be_bytes());
                put_count(&mut out, grants.len());
                for &(group, epoch) in grants.iter().take(GRANTS_MAX) {
                    put_group(&mut out, group, epoch);
                }
            }
            Self::RenewAck { seq, membership_index, results } => {
                out.push(RENEW_ACK);
                out.extend(seq.to_be_bytes());
                out.extend(membership_index.to_be_bytes());
                put_count(&mut out, results.len());
                for &(group, epoch, answer) in results.iter().take(GRANTS_MAX) {
                    put_group(&mut out, group, epoch);
                    put_answer(&mut out, answer);
                }
            }
            Self::Seal { seq, group, epoch } => {
                out.push(SEAL);
                out.extend(seq.to_be_bytes());
                put_group(&mut out, *group, *epoch);
            }
            Self::SealAck { seq, group, epoch, outcome } => {
                out.push(SEAL_ACK);
                out.extend(seq.to_be_bytes());
                put_group(&mut out, *group, *epoch);
                put_outcome(&mut out, *outcome);
            }
            Self::Release { seq, group, epoch } => {
                out.push(RELEASE);
                out.extend(seq.to_be_bytes());
                put_group(&mut out, *group, *epoch);
            }
        }
        out
    }

    /// Reads one message, which must fill `octets`.
    ///
    /// # Errors
    /// [`WireError`] for everything that [`Message::encode`] of this version does not write.
    pub fn decode(octets: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader { octets, at: 0 };
        let version = r.u8()?;
        if version != WIRE_VERSION {
            return Err(WireError::Version(version));
        }
        let message = match r.u8()? {
            RENEW => {
                let seq = r.u64()?;
                let grants = (0..r.count()?).map(|_| r.group()).collect::<Result<_, _>>()?;
                Self::Renew { seq, grants }
            }
            RENEW_ACK => {
                let (seq, membership_index) = (r.u64()?, r.u64()?);
                let results = (0..r.count()?)
                    .map(|_| {
                        let (group, epoch) = r.group()?;
                        Ok((group, epoch, r.answer()?))
                    })
                    .collect::<Result<_, _>>()?;
                Self::RenewAck { seq, membership_index, results }
            }
            SEAL => {
                let seq = r.u64()?;
                let (group, epoch) = r.group()?;
                Self::Seal { seq, group, epoch }
            }
            SEAL_ACK => {
                let seq = r.u64()?;
                let (group, epoch) = r.group()?;
                Self::SealAck { seq, group, epoch, outcome: r.outcome()? }
            }
            RELEASE => {
                let seq = r.u64()?;
                let (group, epoch) = r.group()?;
                Self::Release { seq, group, epoch }
            }
            kind => return Err(WireError::Kind(kind)),
        };
        match octets.len() - r.at {
            0 => Ok(message),
            rest => Err(WireError::Trailing(rest)),
        }
    }

    /// The stable name of the kind, for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Renew { .. } => "renew",
            Self::RenewAck { .. } => "renew_ack",
            Self::Seal { .. } => "seal",
            Self::SealAck { .. } => "seal_ack",
            Self::Release { .. } => "release",
        }
    }

    /// Whether the receiver hands the message to its voter; a [`Message::RenewAck`] goes to the
    /// holder, a [`Message::SealAck`] to the sealer of its group.
    #[must_use]
    pub fn is_for_voter(&self) -> bool {
        match self {
            Self::Renew { .. } | Self::Seal { .. } | Self::Release { .. } => true,
            Self::RenewAck { .. } | Self::SealAck { .. } => false,
        }
    }
}

fn put_count(out: &mut Vec<u8>, len: usize) {
    out.push(u8::try_from(len.min(GRANTS_MAX)).expect("GRANTS_MAX fits an octet"));
}

fn put_group(out: &mut Vec<u8>, group: GroupId, epoch: Epoch) {
    out.extend(group.0.to_be_bytes());
    out.extend(epoch.0.to_be_bytes());
}

fn put_answer(out: &mut Vec<u8>, answer: Answer) {
    match answer {
        Answer::Promised => out.push(PROMISED),
        Answer::EpochTooLow { seen } => {
            out.push(EPOCH_TOO_LOW);
            out.extend(seen.0.to_be_bytes());
        }
        Answer::HeldByOther => out.push(HELD_BY_OTHER),
        Answer::Quarantined => out.push(QUARANTINED),
    }
}

fn put_outcome(out: &mut Vec<u8>, outcome: SealOutcome) {
    match outcome {
        SealOutcome::Sealed { left } => {
            out.push(SEALED);
            // Rounded up: the leader must not believe in less than there is.
            let us = left.min(LEASE_MAX).as_nanos().div_ceil(1_000);
            out.extend(u32::try_from(us).unwrap_or(u32::MAX).to_be_bytes());
        }
        SealOutcome::Refused { seen } => {
            out.push(REFUSED);
            out.extend(seen.0.to_be_bytes());
        }
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let truncated = WireError::Truncated { have: self.octets.len(), need: self.at + N };
        let rest = self.octets.get(self.at..).ok_or(truncated)?;
        let &octets = rest.first_chunk::<N>().ok_or(truncated)?;
        self.at += N;
        Ok(octets)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        self.take::<1>().map(|[octet]| octet)
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.take().map(u64::from_be_bytes)
    }

    fn count(&mut self) -> Result<u8, WireError> {
        let count = self.u8()?;
        if usize::from(count) > GRANTS_MAX {
            Err(WireError::TooManyGrants(count))
        } else {
            Ok(count)
        }
    }

    fn group(&mut self) -> Result<(GroupId, Epoch), WireError> {
        Ok((GroupId(self.u32()?), Epoch(self.u64()?)))
    }

    fn answer(&mut self) -> Result<Answer, WireError> {
        match self.u8()? {
            PROMISED => Ok(Answer::Promised),
            EPOCH_TOO_LOW => Ok(Answer::EpochTooLow { seen: Epoch(self.u64()?) }),
            HELD_BY_OTHER => Ok(Answer::HeldByOther),
            QUARANTINED => Ok(Answer::Quarantined),
            other => Err(WireError::Answer(other)),
        }
    }

    fn outcome(&mut self) -> Result<SealOutcome, WireError> {
        match self.u8()? {
            SEALED => match Duration::from_micros(u64::from(self.u32()?)) {
                left if left > LEASE_MAX => Err(WireError::LeftTooLong(left)),
                left => Ok(SealOutcome::Sealed { left }),
            },
            REFUSED => Ok(SealOutcome::Refused { seen: Epoch(self.u64()?) }),
            other => Err(WireError::Answer(other)),
        }
    }
}

#[cfg(test)]
mod tests;
