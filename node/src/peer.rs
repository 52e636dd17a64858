//! Requests between nodes that are not Raft's: eligibility, planned switches, status.

use crate::clock;
use crate::lease;
use dataplane::Dataplane;
use model::{Epoch, GroupId, NodeId, Revision};
use raft_store::Store;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a candidate may wait for its own kernel to catch up before it says "not eligible".
const CATCH_UP: Duration = Duration::from_millis(300);

/// A request to another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Would you take this group, programmed at least up to this revision?
    Candidate {
        /// The group.
        group: GroupId,
        /// Its replicated revision.
        revision: Revision,
    },
    /// To the leader: move this group by plan.
    Failover {
        /// The group.
        group: GroupId,
        /// The target, or the best one.
        to: Option<NodeId>,
    },
    /// How are you?
    Status,
    /// To the owner of this group: which sources wait to be let in? Answered with a list of
    /// [`crate::waiting::Waiting`].
    Waiting {
        /// The group.
        group: GroupId,
    },
    /// Certificate and key of the cluster's authority, for a member that has just joined.
    Authority,
}

/// Answer to [`Request::Candidate`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Everything up to here is in its kernel.
    pub programmed: Revision,
    /// Why it would not take the group; `None` when it would.
    pub refusal: Option<String>,
}

/// Answer to [`Request::Failover`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failover {
    /// The owner before.
    pub from: Option<NodeId>,
    /// The owner now.
    pub to: NodeId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Answer to [`Request::Status`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Last applied revision.
    pub applied: Revision,
    /// Everything up to here is in the kernel; `None` on a witness.
    pub programmed: Option<Revision>,
    /// Groups whose fence is open.
    pub open: BTreeMap<GroupId, Epoch>,
    /// Access and core interfaces have carrier.
    pub carrier: bool,
}

/// What this node knows of itself.
#[derive(Clone)]
pub struct Local {
    /// This node.
    pub me: NodeId,
    /// Replicated state.
    pub store: Store,
    /// The lease thread.
    pub lease: lease::Handle,
    /// Kernel progress; `None` on a witness.
    pub programmed: Option<watch::Receiver<Revision>>,
    /// Carrier of all interfaces; constant on a witness.
    pub carrier: watch::Receiver<bool>,
    /// Groups, by name, that have a port here.
    pub served: Arc<Vec<String>>,
    /// The packet side; `None` on a witness.
    pub dataplane: Option<Arc<Dataplane>>,
}

impl Local {
    /// Whether this node would take a group now; waits a little for its kernel to catch up.
    pub async fn candidate(&self, group: GroupId, revision: Revision) -> Candidate {
        let refuse =
            |programmed, why: &str| Candidate { programmed, refusal: Some(why.to_owned()) };
        let Some(mut programmed) = self.programmed.clone() else {
            return refuse(Revision(0), "a witness owns no group");
        };
        let at = *programmed.borrow();
        let state = self.store.state();
        if !state.group(group).is_some_and(|g| self.served.contains(&g.name)) {
            return refuse(at, "no access port of the group on this node");
        }
        if !*self.carrier.borrow() {
            return refuse(at, "an access or core interface has no carrier");
        }
        let caught_up = programmed.wait_for(|p| *p >= revision);
        match tokio::time::timeout(CATCH_UP, caught_up).await {
            Ok(Ok(p)) => Candidate { programmed: *p, refusal: None },
            Ok(Err(_)) | Err(_) => {
                refuse(at, "the kernel is not programmed up to the group's revision")
            }
        }
    }

    /// This node's answer to [`Request::Status`].
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            applied: self.store.state().applied(),
            programmed: self.programmed.as_ref().map(|p| *p.borrow()),
            open: self.lease.status().borrow().open.clone(),
            carrier: *self.carrier.borrow(),
        }
    }

    /// Asks `to`, or this node itself without the network.
    ///
    /// # Errors
    /// The peer's words, or why it could not be asked.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        to: NodeId,
        request: &Request,
        within: Duration,
    ) -> Result<T, String> {
        let payload = serde_json::to_vec(request).map_err(|e| e.to_string())?;
        let answer = self.store.request(to, "node", payload);
        let octets = tokio::time::timeout(within, answer)
            .await
            .map_err(|_| format!("node {to} did not answer within {} ms", within.as_millis()))?
            .map_err(|e| e.to_string())?;
        serde_json::from_slice(&octets).map_err(|e| e.to_string())
    }

    /// [`Request::Candidate`] to any node, this one included.
    pub async fn ask_candidate(
        &self,
        node: NodeId,
        group: GroupId,
        revision: Revision,
    ) -> Result<Candidate, String> {
        if node == self.me {
            return Ok(self.candidate(group, revision).await);
        }
        self.ask(
            node,
            &Request::Candidate { group, revision },
            CATCH_UP + Duration::from_millis(100),
        )
        .await
    }
}

/// Gives up groups at once when an interface loses its carrier: nobody can be served through it.
pub async fn watch_carrier(local: Local, publish: watch::Sender<bool>) {
    /// Reading it is one system call per interface.
    const POLL: Duration = Duration::from_millis(10);
    let Some(dataplane) = local.dataplane.clone() else { return };
    loop {
        let up = dataplane.carrier().iter().all(|(_, up)| *up);
        let changed = publish.send_if_modified(|was| std::mem::replace(was, up) != up);
        if changed && !up {
            let open: Vec<GroupId> = local.lease.status().borrow().open.keys().copied().collect();
            for group in open {
                tracing::warn!(%group, "carrier lost: giving the group up");
                local.lease.release(group);
            }
        }
        clock::until(Some(clock::now() + POLL)).await;
    }
}
