//! How the disk under the log does. Readable at any time, without waiting for the disk.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Flushes that the recent latency is the median of: one outlier among them moves nothing.
const RECENT: usize = 5;

/// A reading of the disk under the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskHealth {
    /// Age of the oldest write whose flush has not returned.
    pub unfinished: Option<Duration>,
    /// Median of the last few writes, flush included; `None` before the first.
    pub recent: Option<Duration>,
    /// How long ago the last flush returned.
    pub last_ended: Option<Duration>,
}

/// Kept by the writer thread; its lock is never held during I/O.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch {
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    began: Option<Instant>,
    ended: Option<Instant>,
    recent: [Duration; RECENT],
    flushes: usize,
}

impl DiskWatch {
    fn lock(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch is about to be written.
    pub(super) fn begin(&self, now: Instant) {
        self.lock().began = Some(now);
    }

    /// The batch is written; only one that was `flushed` says how fast the disk is.
    pub(super) fn end(&self, now: Instant, flushed: bool) {
        let mut times = self.lock();
        let Some(began) = times.began.take() else { return };
        if flushed {
            let slot = times.flushes % RECENT;
            times.recent[slot] = now.saturating_duration_since(began);
            times.flushes += 1;
            times.ended = Some(now);
        }
    }

    pub(crate) fn read(&self, now: Instant) -> DiskHealth {
        let times = self.lock();
        let known = times.flushes.min(RECENT);
        let mut recent = times.recent;
        let recent = &mut recent[..known];
        recent.sort_unstable();
        DiskHealth {
            unfinished: times.began.map(|at| now.saturating_duration_since(at)),
            recent: recent.get(known / 2).copied(),
            last_ended: times.ended.map(|at| now.saturating_duration_since(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_unfinished_flush_ages_and_the_median_forgives_an_outlier() {
        let watch = DiskWatch::default();
        let start = Instant::now();
        assert_eq!(watch.read(start), DiskHealth::default());
        watch.begin(start);
        assert_eq!(watch.read(start + ms(700)).unfinished, Some(ms(700)));
        let mut now = start;
        for took in [2, 900, 3] {
            watch.begin(now);
            now += ms(took);
            watch.end(now, true);
        }
        let health = watch.read(now + ms(40));
        let want = DiskHealth { unfinished: None, recent: Some(ms(3)), last_ended: Some(ms(40)) };
        assert_eq!(health, want);
        for took in [800, 850] {
            watch.begin(now);
            now += ms(took);
            watch.end(now, true);
        }
        assert_eq!(watch.read(now).recent, Some(ms(800)), "three of five were slow");
    }

    #[test]
    fn a_batch_without_a_flush_says_nothing_about_the_disk() {
        let watch = DiskWatch::default();
        let now = Instant::now();
        watch.begin(now);
        watch.end(now + ms(1), false);
        assert_eq!(watch.read(now + ms(5)), DiskHealth::default());
    }
}
