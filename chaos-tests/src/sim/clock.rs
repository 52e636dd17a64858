//! True time, and the clocks of nodes that run at their own rates.

use model::Tick;

/// Nanoseconds of true time since the simulation began: what no node can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrueNs(pub u64);

impl TrueNs {
    /// `us` microseconds later.
    #[must_use]
    pub fn plus_us(self, us: u64) -> Self {
        Self(self.0 + us * 1_000)
    }
}

/// A node's boot clock. It never stops or steps, but runs fast by some millionths.
#[derive(Clone, Copy, Debug)]
pub struct DriftingClock {
    set_at: TrueNs,
    local_ns: u64,
    fast_ppm: u32,
}

impl DriftingClock {
    /// A clock that shows `local` now.
    #[must_use]
    pub fn new(now: TrueNs, local: Tick, fast_ppm: u32) -> Self {
        Self { set_at: now, local_ns: local.as_ns(), fast_ppm }
    }

    /// What the clock shows at `now`.
    #[must_use]
    pub fn at(&self, now: TrueNs) -> Tick {
        let passed = u128::from(now.0 - self.set_at.0);
        let local = passed * (1_000_000 + u128::from(self.fast_ppm)) / 1_000_000;
        Tick::from_ns(self.local_ns + u64::try_from(local).expect("a simulation of hours"))
    }

    /// The first true time, `now` at least, at which the clock shows `local` or more.
    #[must_use]
    pub fn when(&self, local: Tick, now: TrueNs) -> TrueNs {
        let ahead = u128::from(local.as_ns().saturating_sub(self.local_ns));
        let passed = (ahead * 1_000_000).div_ceil(1_000_000 + u128::from(self.fast_ppm));
        TrueNs(self.set_at.0 + u64::try_from(passed).expect("a simulation of hours")).max(now)
    }

    /// Changes the rate from `now` on.
    pub fn set_rate(&mut self, now: TrueNs, fast_ppm: u32) {
        *self = Self::new(now, self.at(now), fast_ppm);
    }
}
