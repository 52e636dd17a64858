use crate::error::TimingError;
use std::time::Duration;

/// The times of the lease protocol, equal on all nodes of a cluster.
///
/// Only clock *rates* are ever compared. `d` (`drift_ppm`) bounds them: while one node's clock
/// advances by `t`, another's advances by at most `t(1+d)`.
///
/// The inequality that safety needs: a renewal leaves the holder at true time `s` and reaches a
/// voter at `r >= s`. Let `h` and `v` be the rates of their clocks, `v/h <= 1+d`. The promise ends
/// at `r + L/v`, the fence at `s + (L - margin)/h`. With `margin >= L*d/(1+d)`, that is
/// `L - margin <= L/(1+d)`:
///
/// ```text
/// s + (L - margin)/h  <=  s + L/((1+d)h)  <=  s + L/v  <=  r + L/v
/// ```
///
/// so the fence is shut before the promise ends. [`Timing::validate`] asks for `margin >= L*d`,
/// which is a little more. What `margin` has beyond that covers the way of a frame from the
/// kernel's check to the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timing {
    /// Time between two renewals of an owner whose fence is open.
    pub renew: Duration,
    /// How long a voter's promise lasts on its own clock (`L`).
    pub lease: Duration,
    /// By how much the holder's fence ends before the promise.
    pub margin: Duration,
    /// Largest difference between the rates of two clocks, in millionths (`d`).
    pub drift_ppm: u32,
}

const RENEW_MIN: Duration = Duration::from_millis(1);
/// No lease is longer; messages rely on it.
pub(crate) const LEASE_MAX: Duration = Duration::from_secs(60);
const DRIFT_MAX_PPM: u32 = 100_000;
/// Renewals that fit into an open fence: two may be lost in a row.
const RENEWALS_PER_LEASE: u32 = 3;
/// While waiting for a quorum, messages are sent this many times as often as renewals.
const EAGER_DIVISOR: u32 = 8;
const EAGER_MIN: Duration = Duration::from_millis(3);

impl Timing {
    /// For a site with SCHED_FIFO and a fast log disk.
    pub const FAST: Self = Self {
        renew: Duration::from_millis(10),
        lease: Duration::from_millis(80),
        margin: Duration::from_millis(4),
        drift_ppm: 20_000,
    };
    /// For nodes on one campus.
    pub const DEFAULT: Self = Self {
        renew: Duration::from_millis(25),
        lease: Duration::from_millis(200),
        margin: Duration::from_millis(10),
        drift_ppm: 20_000,
    };
    /// For nodes in different cities.
    pub const WAN: Self = Self {
        renew: Duration::from_millis(200),
        lease: Duration::from_millis(1_500),
        margin: Duration::from_millis(60),
        drift_ppm: 20_000,
    };

    /// How long one promise can matter to anyone, on any clock: `L(1+d)`.
    ///
    /// A voter makes no promise for so long after its process started, a holder opens no shut fence
    /// for so long after it learnt a membership, and a leader does not seal for so long after a
    /// committed change of voters.
    #[must_use]
    pub fn quarantine(&self) -> Duration {
        self.stretched(self.lease)
    }

    /// How long an acknowledged renewal keeps the fence open, from when it was sent: `L - margin`.
    #[must_use]
    pub fn open_for(&self) -> Duration {
        self.lease.saturating_sub(self.margin)
    }

    /// Time between two sends while a quorum is awaited: an eighth of `renew`, at least 3 ms.
    #[must_use]
    pub fn eager(&self) -> Duration {
        (self.renew / EAGER_DIVISOR).max(EAGER_MIN).min(self.renew)
    }

    /// How long this node's clock may need for `d` on another node's: `d(1+drift)`, rounded up.
    pub(crate) fn stretched(&self, d: Duration) -> Duration {
        d.saturating_add(self.drift_of(d))
    }

    fn drift_of(&self, d: Duration) -> Duration {
        let ns = d.as_nanos().saturating_mul(u128::from(self.drift_ppm)).div_ceil(1_000_000);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Checks that the times are safe for the drift bound, and that a fence can stay open.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), TimingError> {
        if self.renew < RENEW_MIN {
            return Err(TimingError::RenewTooShort { renew: self.renew, min: RENEW_MIN });
        }
        if self.lease > LEASE_MAX {
            return Err(TimingError::LeaseTooLong { lease: self.lease, max: LEASE_MAX });
        }
        if self.drift_ppm > DRIFT_MAX_PPM {
            return Err(TimingError::DriftTooLarge { ppm: self.drift_ppm, max: DRIFT_MAX_PPM });
        }
        let needed = self.drift_of(self.lease);
        if self.margin < needed {
            return Err(TimingError::MarginTooSmall { margin: self.margin, needed });
        }
        let (open, needed) = (self.open_for(), self.renew.saturating_mul(RENEWALS_PER_LEASE));
        if open < needed {
            return Err(TimingError::LeaseTooShort { open, needed });
        }
        Ok(())
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_profiles_are_valid() {
        for t in [Timing::FAST, Timing::DEFAULT, Timing::WAN] {
            assert_eq!(t.validate(), Ok(()), "{t:?}");
        }
        assert_eq!(Timing::default().quarantine(), ms(204));
    }

    #[test]
    fn unsafe_or_useless_times_are_refused() {
        let d = Timing::DEFAULT;
        let rows = [
            ("drift eats more than the margin", Timing { margin: ms(3), ..d }, "margin_too_small"),
            ("the margin eats the lease", Timing { margin: ms(130), ..d }, "lease_too_short"),
            ("no pause between renewals", Timing { renew: Duration::ZERO, ..d }, "renew_too_short"),
            ("a lease of two minutes", Timing { lease: ms(120_000), ..d }, "lease_too_long"),
            ("a clock gone mad", Timing { drift_ppm: 200_000, ..d }, "drift_too_large"),
        ];
        for (name, timing, want) in rows {
            assert_eq!(timing.validate().map_err(|e| e.label()), Err(want), "{name}");
        }
    }

    #[test]
    fn the_fence_ends_before_the_promise_for_the_slowest_holder_clock() {
        // On the clock of a holder that runs slow by d, the promise lasts L/(1+d).
        for t in [Timing::FAST, Timing::DEFAULT, Timing::WAN] {
            let promise_ns = t.lease.as_nanos() * 1_000_000 / (1_000_000 + u128::from(t.drift_ppm));
            assert!(t.open_for().as_nanos() < promise_ns, "{t:?}");
        }
    }
}
