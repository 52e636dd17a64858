//! Taking back a commit that nobody confirmed, on whichever node leads when its time comes.

use super::commit::{Plan, delete_confirm};
use super::store::{self, CANDIDATE, CONFIRM, ConfigStore, Confirm};
use crate::clock;
use crate::management::audit::Who;
use crate::management::document;
use crate::peer::Local;
use api::ApiError;
use model::Collection;
use raft_store::{Expect, Role};
use std::time::Duration;
use tracing::{error, warn};

/// How often the leader looks at the deadline.
const LOOK: Duration = Duration::from_millis(500);

/// Runs on every node, acts on the leader.
pub async fn watch(local: Local) {
    let store = ConfigStore::new(local);
    loop {
        clock::until(Some(clock::now() + LOOK)).await;
        if store.local.store.status().borrow().role != Role::Leader {
            continue;
        }
        match store.take_back_if_due().await {
            Ok(None) => {}
            Ok(Some(version)) => warn!(
                event = "TANDEM-CONFIG-REVERTED",
                version, "a commit was not confirmed in time and was taken back"
            ),
            // Another leader was faster, or there is none now: look again.
            Err(ApiError::Conflict { .. } | ApiError::NoLeader { .. } | ApiError::Timeout) => {}
            Err(cause) => error!(
                event = "TANDEM-CONFIG-REVERT-FAILED",
                %cause, "an unconfirmed commit could not be taken back; trying again"
            ),
        }
    }
}

impl ConfigStore {
    /// Takes the waiting commit back when its deadline has passed; returns the version that came
    /// back.
    ///
    /// # Errors
    /// What the log or a data node refuses.
    pub(super) async fn take_back_if_due(&self) -> Result<Option<u64>, ApiError> {
        let state = self.local.store.state();
        let Some((waiting, revision)) =
            store::load::<Confirm>(&state, Collection::Config, CONFIRM)?
        else {
            return Ok(None);
        };
        if self.local.store.now().0 < waiting.deadline_ms {
            return Ok(None);
        }
        let mut ops = vec![delete_confirm(Expect::Revision(revision))];
        // A candidate that was begun on the commit which now goes away would bring it back.
        if state.document(Collection::Config, CANDIDATE).is_some() {
            ops.push(document::delete(Collection::Config, CANDIDATE, Expect::Any));
        }
        let comment = format!("commit by {} not confirmed in time", waiting.author);
        let who = Who::system();
        let plan = Plan { tree: waiting.previous, who: &who, comment: &comment, ops };
        let (response, _) = self.carry_out(&state, plan).await?;
        Ok(Some(response.version))
    }
}
