use model::Tick;
use std::time::Duration;

/// What a keepalive wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing is due.
    Quiet,
    /// Send an Echo-Request with this identifier.
    Probe(u8),
    /// The peer has left too many probes unanswered.
    Dead,
}

/// LCP echoes towards the peer. RFC 1661 §5.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keepalive {
    next_at: Tick,
    unanswered: u8,
    id: u8,
}

impl Keepalive {
    /// The first probe leaves at `first_at`.
    pub(crate) fn new(first_at: Tick, id: u8) -> Self {
        Self { next_at: first_at, unanswered: 0, id }
    }

    /// A part of `interval` that differs between sessions.
    ///
    /// A node that takes over resumes all sessions in one instant; without this all their echoes
    /// would leave together for ever.
    pub(crate) fn jitter(magic: u32, interval: Duration) -> Duration {
        // Fibonacci hashing spreads magic numbers that were counted up instead of drawn.
        let spread = magic.wrapping_mul(0x9e37_79b1) >> 16;
        interval.saturating_mul(spread) / (1 << 16)
    }

    pub(crate) fn deadline(&self) -> Tick {
        self.next_at
    }

    pub(crate) fn answered(&mut self) {
        self.unanswered = 0;
    }

    pub(crate) fn expire(&mut self, now: Tick, interval: Duration, unanswered_max: u8) -> Beat {
        if now < self.next_at {
            return Beat::Quiet;
        }
        if self.unanswered >= unanswered_max {
            return Beat::Dead;
        }
        self.unanswered += 1;
        self.id = self.id.wrapping_add(1);
        self.next_at = now + interval;
        Beat::Probe(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    #[test]
    fn a_silent_peer_is_dead_one_interval_after_the_last_probe() {
        let mut echo = Keepalive::new(Tick::from_ms(10_000), 0);
        for (at_ms, reply, want) in [
            (9_999, false, Beat::Quiet),
            (10_000, false, Beat::Probe(1)),
            (10_000, false, Beat::Quiet),
            (20_000, false, Beat::Probe(2)),
            (20_020, true, Beat::Quiet),
            (30_000, false, Beat::Probe(3)),
            (40_000, false, Beat::Probe(4)),
            (49_999, false, Beat::Quiet),
            (50_000, false, Beat::Dead),
        ] {
            if reply {
                echo.answered();
            }
            let got = echo.expire(Tick::from_ms(at_ms), INTERVAL, 2);
            assert_eq!(got, want, "at {at_ms} ms");
        }
    }

    #[test]
    fn jitter_stays_below_the_interval_and_differs() {
        let all: Vec<Duration> =
            (0..1000).map(|magic| Keepalive::jitter(magic, INTERVAL)).collect();
        assert!(all.iter().all(|d| *d < INTERVAL));
        let late = all.iter().filter(|d| **d >= INTERVAL / 2).count();
        assert!((400..600).contains(&late), "{late} of 1000 in the second half");
    }
}
