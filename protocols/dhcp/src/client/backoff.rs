use super::Config;
use model::Tick;
use std::time::Duration;

/// The wait doubles this many times: 4, 8, 16, 32, 64 s. RFC 2131 §4.1.
const DOUBLINGS_MAX: u8 = 4;

/// When to repeat a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backoff {
    /// When to send next.
    pub(super) at: Tick,
    /// How often it was sent.
    pub(super) sent: u8,
}

impl Backoff {
    /// The wait after the first sending.
    pub(super) fn first(cfg: &Config, random: &mut u64, now: Tick) -> Self {
        Self { at: now + wait(cfg, random, 0), sent: 1 }
    }

    /// Counts one more sending.
    pub(super) fn repeat(&mut self, cfg: &Config, random: &mut u64, now: Tick) {
        self.at = now + wait(cfg, random, self.sent);
        self.sent = self.sent.saturating_add(1);
    }
}

/// The wait after `sent` earlier sendings, give or take up to a quarter of the first one.
fn wait(cfg: &Config, random: &mut u64, sent: u8) -> Duration {
    let base = cfg.initial_retry;
    let jitter_ms = u64::try_from(base.as_millis() / 2).unwrap_or(u64::MAX).saturating_add(1);
    let jitter = Duration::from_millis(next(random) % jitter_ms);
    (base * (1 << sent.min(DOUBLINGS_MAX)) + jitter).saturating_sub(base / 4)
}

/// The next number of a `SplitMix64` generator.
pub(super) fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
