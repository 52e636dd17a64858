use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on this process's monotonic clock, made from a number and never read by an engine.
///
/// Resolution is a nanosecond, so that a fence deadline loses nothing on its way into the kernel.
/// It has no relation to [`UnixMs`]; the two do not convert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The earliest point.
    pub const ZERO: Self = Self(0);

    /// The point `ms` milliseconds after zero.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// The point `ns` nanoseconds after zero.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Whole milliseconds since zero.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Nanoseconds since zero.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to here, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Self;

    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Replicated wall time in milliseconds since 1970, stamped by the leader, never stepping back.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Whole seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time `s` seconds later.
    #[must_use]
    pub const fn plus_secs(self, s: u64) -> Self {
        Self(self.0.saturating_add(s.saturating_mul(1000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_saturates_instead_of_wrapping() {
        assert_eq!(Tick::from_ms(5) - Duration::from_millis(10), Tick::ZERO);
        assert_eq!(Tick::from_ms(5).since(Tick::from_ms(9)), Duration::ZERO);
        assert_eq!(Tick::from_ms(5) + Duration::from_millis(10), Tick::from_ms(15));
    }
}
