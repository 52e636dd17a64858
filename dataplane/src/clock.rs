use model::Tick;
use nix::time::{ClockId, clock_gettime};

/// Returns the current `CLOCK_BOOTTIME`, the clock that fence deadlines are compared with.
///
/// Unlike `CLOCK_MONOTONIC` it counts suspended time, so a machine that slept finds its fences shut.
#[must_use]
pub fn boottime_now() -> Tick {
    read_clock(ClockId::CLOCK_BOOTTIME)
}

/// Returns wall time as nanoseconds since 1970, to turn kernel receive stamps into [`Tick`].
pub(crate) fn realtime_ns() -> u64 {
    read_clock(ClockId::CLOCK_REALTIME).as_ns()
}

fn read_clock(clock: ClockId) -> Tick {
    let at = clock_gettime(clock).expect("Linux has had these clocks since 2.6.39");
    let s = u64::try_from(at.tv_sec()).unwrap_or(0);
    let ns = u64::try_from(at.tv_nsec()).unwrap_or(0);
    Tick::from_ns(s.saturating_mul(1_000_000_000).saturating_add(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_does_not_step_back() {
        let first = boottime_now();
        let second = boottime_now();
        assert!(first > Tick::ZERO);
        assert!(second >= first);
    }
}
