//! Numbered probes and the silence between them.

use model::Tick;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// UDP port of the probe target.
pub const TARGET_PORT: u16 = 9000;
/// UDP port of a subscriber.
pub const SUBSCRIBER_PORT: u16 = 40000;
/// Number of a probe that nobody of the lab should ever get.
pub const STRAY_SEQ: u64 = u64::MAX;
const MAGIC: u32 = 0x7461_6e64;
const OCTETS: usize = 16;

/// One probe: which session, and its number in that session and direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The session's place.
    pub session: u32,
    /// Counts up from 1.
    pub seq: u64,
}

impl Probe {
    /// The UDP payload.
    #[must_use]
    pub fn emit(self) -> [u8; OCTETS] {
        let mut out = [0; OCTETS];
        out[..4].copy_from_slice(&MAGIC.to_be_bytes());
        out[4..8].copy_from_slice(&self.session.to_be_bytes());
        out[8..].copy_from_slice(&self.seq.to_be_bytes());
        out
    }

    /// Reads a UDP payload; `None` when it is not a probe.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let octets: &[u8; OCTETS] = payload.first_chunk()?;
        let word = |at: usize| {
            u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
        };
        if word(0) != MAGIC {
            return None;
        }
        Some(Self { session: word(4), seq: u64::from(word(8)) << 32 | u64::from(word(12)) })
    }
}

/// Arrivals of one session in one direction, or of all sessions together.
#[derive(Debug, Default)]
pub struct Track {
    last_ns: AtomicU64,
    silence_ns: AtomicU64,
    received: AtomicU64,
}

impl Track {
    /// Notes an arrival.
    pub fn arrived(&self, now: Tick) {
        let last = self.last_ns.swap(now.as_ns(), Ordering::Relaxed);
        if last != 0 {
            self.silence_ns.fetch_max(now.as_ns().saturating_sub(last), Ordering::Relaxed);
        }
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the silence so far; the last arrival stays, so a silence that begins now counts whole.
    pub fn arm(&self) {
        self.silence_ns.store(0, Ordering::Relaxed);
    }

    /// The longest silence since [`Track::arm`], one that still lasts included.
    #[must_use]
    pub fn silence(&self, now: Tick) -> Duration {
        let last = self.last_ns.load(Ordering::Relaxed);
        let lasting = now.as_ns().saturating_sub(last);
        Duration::from_nanos(self.silence_ns.load(Ordering::Relaxed).max(lasting))
    }

    /// When the last probe arrived.
    #[must_use]
    pub fn last(&self) -> Tick {
        Tick::from_ns(self.last_ns.load(Ordering::Relaxed))
    }

    /// How many probes arrived.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Percentiles of a list of durations, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Percentiles {
    /// Half are not above.
    pub p50: f64,
    /// 99 of 100 are not above.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Percentiles {
    /// Of both directions together.
    #[must_use]
    pub fn of_both(up: &[Duration], down: &[Duration]) -> Self {
        Self::of(&mut [up, down].concat())
    }

    /// Of a list, which it sorts; zero for an empty one.
    #[must_use]
    pub fn of(values: &mut [Duration]) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let n = values.len();
            // Nearest rank.
            let rank = (n * percent).div_ceil(100).clamp(1, n.max(1));
            values.get(rank - 1).map_or(0.0, |d| (d.as_secs_f64() * 10_000.0).round() / 10.0)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_survives_its_payload() {
        let probe = Probe { session: 7, seq: 1 << 40 | 3 };
        assert_eq!(Probe::parse(&probe.emit()), Some(probe));
        assert_eq!(Probe::parse(&[0; OCTETS]), None);
        assert_eq!(Probe::parse(&probe.emit()[..15]), None);
    }

    #[test]
    fn a_silence_that_still_lasts_counts() {
        let track = Track::default();
        track.arrived(Tick::from_ms(100));
        track.arrived(Tick::from_ms(110));
        assert_eq!(track.silence(Tick::from_ms(115)), Duration::from_millis(10));
        track.arm();
        assert_eq!(track.silence(Tick::from_ms(400)), Duration::from_millis(290));
        track.arrived(Tick::from_ms(500));
        assert_eq!(track.silence(Tick::from_ms(501)), Duration::from_millis(390));
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(
            Percentiles::of(&mut values),
            Percentiles { p50: 100.0, p99: 198.0, max: 200.0 }
        );
        assert_eq!(Percentiles::of(&mut []), Percentiles::default());
    }
}
