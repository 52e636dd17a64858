//! Delivering: one task for each webhook, on the leader only.

use super::post::Poster;
use super::store::{Cursor, Hook, Letter, Webhooks, hooks};
use crate::clock;
use crate::management::config::settings;
use crate::management::events::Reader;
use crate::peer::Local;
use api::ApiError;
use api::types::event::{EventId, SubscriberEvent};
use api::types::webhook::WebhookFailing;
use model::Tick;
use raft_store::Role;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// How often the leader looks for webhooks that came or went.
const LOOK: Duration = Duration::from_millis(500);
/// How often the cursor of a busy webhook is written.
const SAVE: Duration = Duration::from_secs(1);
/// A webhook that wants nothing of what happens has its cursor moved on after so many revisions: long before
/// they are no longer kept.
const IDLE_REVISIONS: u64 = 10_000;
/// Pause before a cursor is written again that the log did not take.
const SAVE_AGAIN: Duration = Duration::from_millis(500);

/// Pause after the first failure; doubles with each one after it.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const RETRY_MOST: Duration = Duration::from_secs(60);

/// The pause after `failed` tries.
fn pause(failed: u32) -> Duration {
    let factor = 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    RETRY_FIRST.saturating_mul(factor).min(RETRY_MOST)
}

/// Runs on every node, delivers on the leader.
pub async fn run(local: Local) {
    let poster = match Poster::new() {
        Ok(poster) => poster,
        Err(cause) => {
            error!(event = "TANDEM-WEBHOOK-DISABLED", %cause, "webhooks cannot be delivered by this node");
            return;
        }
    };
    let mut raft = local.store.status();
    while raft.wait_for(|r| r.role == Role::Leader).await.is_ok() {
        lead(&local, &poster).await;
    }
}

/// Serves all webhooks for as long as this node leads. Dropping the tasks ends them: what was in the air
/// is posted again by the next leader.
async fn lead(local: &Local, poster: &Poster) {
    let mut tasks = JoinSet::new();
    let mut served = BTreeMap::new();
    let raft = local.store.status();
    while raft.borrow().role == Role::Leader && raft.has_changed().is_ok() {
        let wanted = hooks(&local.store.state());
        served.retain(|id, task: &mut tokio::task::AbortHandle| {
            let stays = wanted.contains_key(id) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, (hook, cursor)) in wanted {
            served.entry(id.clone()).or_insert_with(|| {
                let webhooks = Webhooks::new(local.clone());
                let worker = Worker::new(webhooks, poster.clone(), id, hook, cursor);
                tasks.spawn(worker.run())
            });
        }
        while tasks.try_join_next().is_some() {}
        clock::until(Some(clock::now() + LOOK)).await;
    }
}

/// Serves one webhook.
struct Worker {
    webhooks: Webhooks,
    poster: Poster,
    id: String,
    hook: Hook,
    /// As it is in the log.
    saved: Cursor,
    /// Everything up to here was taken.
    at: EventId,
    last_save: Tick,
}

/// The webhook is gone, or is served by another leader.
struct Over;

impl Worker {
    fn new(webhooks: Webhooks, poster: Poster, id: String, hook: Hook, saved: Cursor) -> Self {
        let at = saved.at;
        Self { webhooks, poster, id, hook, saved, at, last_save: clock::now() }
    }

    async fn run(mut self) {
        let Err(Over) = self.serve().await;
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Over> {
        let store = self.webhooks.local.store.clone();
        let (mut reader, missing) = Reader::new(&store, self.at);
        if let Some(resync) = missing {
            self.lost(resync.from).await?;
        }
        loop {
            let next = tokio::time::timeout(SAVE, reader.next()).await;
            match next {
                Ok(Ok(events)) => {
                    for event in &events {
                        if self.hook.events.contains(&event.event) {
                            self.deliver(event).await?;
                        }
                    }
                    if let Some(last) = events.last() {
                        self.at = last.id;
                    }
                }
                Ok(Err(resync)) => self.lost(resync.from).await?,
                Err(_quiet) => {
                    let at = reader.position();
                    let idle = at.revision.0.saturating_sub(self.saved.at.revision.0);
                    if self.at > self.saved.at || idle > IDLE_REVISIONS {
                        self.at = at;
                        self.save(None, None).await?;
                    }
                }
            }
        }
    }

    fn attempts_max(&self) -> u32 {
        settings(&self.webhooks.local.store.state()).webhooks.attempts
    }

    /// Posts one event until it is taken or given up.
    async fn deliver(&mut self, event: &SubscriberEvent) -> Result<(), Over> {
        let mut failed = 0;
        loop {
            let Err(why) = self.poster.post(&self.id, &self.hook, event).await else { break };
            failed += 1;
            if failed >= self.attempts_max() {
                warn!(
                    event = "TANDEM-WEBHOOK-DEAD-LETTER", webhook = self.id, delivery = %event.id, attempts = failed, why,
                    "a delivery was given up"
                );
                let letter = Letter {
                    webhook: self.id.clone(),
                    attempts: failed,
                    error: why.clone(),
                    event: Some(event.clone()),
                };
                self.at = event.id;
                let failing = self.saved.failing.clone();
                return self.save(failing, Some(letter)).await;
            }
            if self.saved.failing.is_none() {
                warn!(
                    event = "TANDEM-WEBHOOK-FAILING",
                    webhook = self.id,
                    why,
                    "a webhook does not take events"
                );
                let since = self.webhooks.local.store.now().as_secs();
                self.save(Some(WebhookFailing { since, error: why }), None).await?;
            }
            clock::until(Some(clock::now() + pause(failed))).await;
        }
        self.at = event.id;
        if self.saved.failing.is_some() {
            info!(
                event = "TANDEM-WEBHOOK-RECOVERED",
                webhook = self.id,
                "a webhook takes events again"
            );
            return self.save(None, None).await;
        }
        if clock::now() >= self.last_save + SAVE {
            return self.save(None, None).await;
        }
        Ok(())
    }

    /// Events up to `from` can no longer be read: whoever counts on them must know.
    async fn lost(&mut self, from: EventId) -> Result<(), Over> {
        warn!(
            event = "TANDEM-WEBHOOK-GAP", webhook = self.id, after = %self.at, %from,
            "a webhook was behind for so long that events are no longer kept"
        );
        let letter = Letter {
            webhook: self.id.clone(),
            attempts: 0,
            error: format!("events after {} up to {from} were no longer kept", self.at),
            event: None,
        };
        self.at = from;
        self.save(self.saved.failing.clone(), Some(letter)).await
    }

    /// Writes the cursor, until the log has taken it. The letter must not be lost, nor written twice: a
    /// write whose outcome is unknown is looked up.
    async fn save(
        &mut self,
        failing: Option<WebhookFailing>,
        letter: Option<Letter>,
    ) -> Result<(), Over> {
        let cursor = Cursor { at: self.at, failing };
        if cursor == self.saved && letter.is_none() {
            return Ok(());
        }
        loop {
            match self.webhooks.save(&self.id, &cursor, letter.as_ref()).await {
                Ok(()) => break,
                Err(ApiError::NotFound { .. }) => return Err(Over),
                Err(cause) => {
                    info!(webhook = self.id, %cause, "cursor not written yet");
                    clock::until(Some(clock::now() + SAVE_AGAIN)).await;
                }
            }
        }
        self.saved = cursor;
        self.last_save = clock::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_in_about_four_minutes() {
        let pauses: Vec<u64> = (1..10).map(|n| pause(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(40), RETRY_MOST, "no overflow");
    }
}
