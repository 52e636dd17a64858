//! Raising the replicated level: once every member understands more, the leader writes it into the log.

use super::Inner;
use crate::command::{Command, LEVEL_SUPPORTED, Reply};
use crate::net::{Lane, within};
use crate::raft::wire::proto;
use model::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// How often a leader asks while the level is lower than its own build's.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Inner {
    /// The highest level that all members understand; `None` when one does not answer.
    ///
    /// A member that joins afterwards and understands less stops, as one would that slept through an upgrade.
    async fn common_level(&self) -> Option<u32> {
        let others: Vec<NodeId> = {
            let status = self.status.borrow();
            status.membership.addresses.keys().copied().filter(|node| *node != self.node).collect()
        };
        let answers = others.into_iter().map(|node| async move {
            let mut client = self.client(node, Lane::Forward).ok()?;
            let answer = within(ANSWER_WITHIN, client.level(proto::LevelRequest {})).await;
            answer.ok().map(|reply| reply.level)
        });
        let answers = futures::future::join_all(answers).await;
        answers.into_iter().try_fold(LEVEL_SUPPORTED, |least, level| Some(least.min(level?)))
    }
}

/// Runs until the level is as high as this build knows, or the store stops.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
        let level = inner.published.state.load().level();
        if level >= LEVEL_SUPPORTED {
            return;
        }
        if level == 0 || !inner.leads() {
            continue;
        }
        let Some(common) = inner.common_level().await.filter(|common| *common > level) else {
            continue;
        };
        let raised =
            inner.propose(Command::RaiseLevel { level: common }, None, None, super::PROPOSE_WITHIN);
        match raised.await {
            Ok(committed) if committed.reply == Reply::Done => tracing::info!(
                event = "TANDEM-LEVEL-RAISED",
                from = level,
                to = common,
                "every member understands more; the cluster now uses it"
            ),
            Ok(committed) => tracing::warn!(reply = ?committed.reply, "the level is not raised"),
            Err(error) => tracing::debug!(%error, "the level is not raised yet"),
        }
    }
}
