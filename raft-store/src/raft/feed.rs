//! The stream of changes: a bounded ring that any number of readers follow, each at its own pace.

use crate::change::ChangeBatch;
use model::Revision;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Batches kept for readers that are behind.
const BATCHES_MAX: usize = 65_536;
/// Changes in these batches; a session counts for about half a kilobyte.
const CHANGES_MAX: usize = 262_144;

/// The reader is too far behind: what it needs next is no longer kept. It must read the whole state and go on from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes up to revision {oldest} are no longer kept")]
pub struct Gone {
    /// Following is possible after this revision or a newer one.
    pub oldest: Revision,
}

#[derive(Debug)]
struct Ring {
    batches: VecDeque<Arc<ChangeBatch>>,
    changes: usize,
    /// Changes up to here are not kept.
    dropped: Revision,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Feed {
    ring: Mutex<Ring>,
    newest: watch::Sender<Revision>,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let ring = Ring { batches: VecDeque::new(), changes: 0, dropped: Revision(0) };
        Self { ring: Mutex::new(ring), newest: watch::Sender::new(Revision(0)) }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the batches of applied entries, oldest first, and wakes the readers.
    pub(crate) fn push(&self, batches: Vec<ChangeBatch>) {
        let Some(newest) = batches.last().map(|b| b.revision) else { return };
        let mut ring = self.lock();
        for batch in batches {
            ring.changes += batch.changes.len();
            ring.batches.push_back(Arc::new(batch));
        }
        while (ring.batches.len() > BATCHES_MAX || ring.changes > CHANGES_MAX)
            && ring.batches.len() > 1
            && let Some(old) = ring.batches.pop_front()
        {
            ring.changes -= old.changes.len();
            ring.dropped = old.revision;
        }
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// Empties the ring: the state now is a snapshot at `at`, and how it came there is not known here.
    pub(crate) fn reset(&self, at: Revision) {
        let mut ring = self.lock();
        ring.batches.clear();
        ring.changes = 0;
        ring.dropped = at;
        drop(ring);
        self.newest.send_replace(at);
    }

    /// A reader of everything after `after`.
    pub(crate) fn follow(self: &Arc<Self>, after: Revision) -> Result<ChangeFeed, Gone> {
        let newest = self.newest.subscribe();
        let oldest = self.lock().dropped;
        if after < oldest {
            return Err(Gone { oldest });
        }
        Ok(ChangeFeed { feed: Arc::clone(self), newest, after })
    }

    fn next_after(&self, after: Revision) -> Result<Option<Arc<ChangeBatch>>, Gone> {
        let ring = self.lock();
        if after < ring.dropped {
            return Err(Gone { oldest: ring.dropped });
        }
        let next = ring.batches.partition_point(|b| b.revision <= after);
        Ok(ring.batches.get(next).cloned())
    }
}

/// Follows the changes of the replicated state: in order, without a gap, none twice.
#[derive(Debug)]
pub struct ChangeFeed {
    feed: Arc<Feed>,
    newest: watch::Receiver<Revision>,
    after: Revision,
}

impl ChangeFeed {
    /// Waits for the next batch. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Gone`] when this reader has fallen behind the ring, or a snapshot replaced the state.
    pub async fn next(&mut self) -> Result<Arc<ChangeBatch>, Gone> {
        loop {
            // Marked as seen before looking, so that a batch pushed in between wakes us.
            self.newest.mark_unchanged();
            self.newest.borrow_and_update();
            if let Some(batch) = self.feed.next_after(self.after)? {
                self.after = batch.revision;
                return Ok(batch);
            }
            // The sender lives in `self.feed`, so this cannot fail.
            if self.newest.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The revision of the batch that [`ChangeFeed::next`] returned last, or where this reader began.
    #[must_use]
    pub fn position(&self) -> Revision {
        self.after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use model::UnixMs;

    fn batch(revision: u64, changes: usize) -> ChangeBatch {
        let changes = vec![Change::ClusterChanged; changes];
        ChangeBatch { revision: Revision(revision), at: UnixMs(0), trace: None, changes }
    }

    #[tokio::test]
    async fn a_reader_sees_each_batch_once_and_in_order_across_gaps_in_the_numbers() {
        let feed = Arc::new(Feed::new());
        let mut reader = feed.follow(Revision(0)).unwrap();
        let writer = {
            let feed = Arc::clone(&feed);
            tokio::spawn(async move {
                for revision in 1..=300 {
                    if revision % 7 != 0 {
                        feed.push(vec![batch(revision, 1)]);
                    }
                    tokio::task::yield_now().await;
                }
            })
        };
        for revision in (1..=300).filter(|r| r % 7 != 0) {
            assert_eq!(reader.next().await.unwrap().revision, Revision(revision));
        }
        writer.await.unwrap();
        let mut late = feed.follow(Revision(100)).unwrap();
        assert_eq!(late.next().await.unwrap().revision, Revision(101));
    }

    #[tokio::test]
    async fn a_reader_that_falls_out_of_the_ring_is_told_where_it_can_go_on() {
        let feed = Arc::new(Feed::new());
        let mut slow = feed.follow(Revision(0)).unwrap();
        feed.push((1..=10).map(|r| batch(r, CHANGES_MAX / 4)).collect());
        let gone = slow.next().await.unwrap_err();
        assert_eq!(gone, Gone { oldest: Revision(6) });
        assert_eq!(feed.follow(Revision(5)).unwrap_err(), gone);
        let mut again = feed.follow(gone.oldest).unwrap();
        assert_eq!(again.next().await.unwrap().revision, Revision(7));
    }

    #[tokio::test]
    async fn a_snapshot_ends_every_older_reader() {
        let feed = Arc::new(Feed::new());
        feed.push(vec![batch(1, 1), batch(2, 1)]);
        let mut reader = feed.follow(Revision(2)).unwrap();
        feed.reset(Revision(50));
        assert_eq!(reader.next().await.unwrap_err(), Gone { oldest: Revision(50) });
        assert!(feed.follow(Revision(50)).is_ok());
    }
}
