//! Requests between nodes that are not Raft's: eligibility, planned switches, status.

use crate::clock;
use crate::counters::wire::Frame;
use crate::fitness::{Fault, Fitness};
use crate::lease;
use dataplane::Dataplane;
use model::{Epoch, GroupId, NodeId, Revision, SessionId};
use raft_store::Store;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a candidate may wait for its own kernel to catch up before it says "not eligible".
const CATCH_UP: Duration = Duration::from_millis(300);

/// Why a node that could not open its fence yet is no candidate.
const UNSETTLED: &str = "it learned the members less than a lease ago";

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
    /// Would this configuration work on you, once you have applied everything up to `revision`?
    DryRun {
        /// The whole tree.
        tree: serde_json::Value,
        /// What the asking node had applied.
        revision: Revision,
    },
    /// From the owner of a group: what its sessions have carried.
    Counters(Frame),
    /// To the owner of a session's group: what has it carried?
    Traffic {
        /// The session.
        session: SessionId,
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
    /// It would all the same when no other node is better.
    #[serde(default)]
    pub last_resort: bool,
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
    /// Why this node would take no group; `None` when it would.
    #[serde(default)]
    pub unfit: Option<String>,
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
    /// What keeps this node from owning groups.
    pub fitness: Fitness,
    /// Groups, by name, that have a port here.
    pub served: Arc<Vec<String>>,
    /// The packet side; `None` on a witness.
    pub dataplane: Option<Arc<Dataplane>>,
}

impl Local {
    /// Whether this node would take a group now; waits a little for its kernel to catch up.
    pub async fn candidate(&self, group: GroupId, revision: Revision) -> Candidate {
        let refuse = |programmed, why: &str| Candidate {
            programmed,
            refusal: Some(why.to_owned()),
            last_resort: false,
        };
        let Some(mut programmed) = self.programmed.clone() else {
            return refuse(Revision(0), "a witness owns no group");
        };
        let at = *programmed.borrow();
        let state = self.store.state();
        if !state.group(group).is_some_and(|g| self.served.contains(&g.name)) {
            return refuse(at, "no access port of the group on this node");
        }
        if let Some(why) = self.fitness.refusal() {
            return Candidate { last_resort: self.fitness.last_resort(), ..refuse(at, &why) };
        }
        let mut lease = self.lease.status();
        let ready = async {
            lease.wait_for(|l| l.settled).await.ok()?;
            programmed.wait_for(|p| *p >= revision).await.ok().map(|p| *p)
        };
        match tokio::time::timeout(CATCH_UP, ready).await {
            Ok(Some(programmed)) => Candidate { programmed, refusal: None, last_resort: false },
            Ok(None) | Err(_) if !self.lease.status().borrow().settled => refuse(at, UNSETTLED),
            Ok(None) | Err(_) => {
                refuse(at, "the kernel is not programmed up to the group's revision")
            }
        }
    }

    /// This node's answer to [`Request::Status`].
    #[must_use]
    pub fn status(&self) -> Status {
        // Borrowed once: a second borrow waits for a writer that waits for the first one.
        let lease = self.lease.status().borrow().clone();
        Status {
            applied: self.store.state().applied(),
            programmed: self.programmed.as_ref().map(|p| *p.borrow()),
            open: lease.open,
            unfit: (self.fitness.refusal())
                .or_else(|| (!lease.settled).then(|| UNSETTLED.to_owned())),
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

/// Notices at once when an interface loses its carrier: nobody can be served through it.
pub async fn watch_carrier(local: Local) {
    /// Reading it is one system call per interface.
    const POLL: Duration = Duration::from_millis(10);
    let Some(dataplane) = local.dataplane.clone() else { return };
    loop {
        let down: Vec<String> =
            dataplane.carrier().into_iter().filter(|(_, up)| !up).map(|(name, _)| name).collect();
        let words =
            (!down.is_empty()).then(|| format!("no carrier on interface {}", down.join(", ")));
        if local.fitness.set(Fault::Carrier, words) {
            if down.is_empty() {
                tracing::info!(event = "TANDEM-CARRIER-BACK", "all interfaces have carrier");
            } else {
                tracing::warn!(event = "TANDEM-CARRIER-LOST", ?down, "an interface has no carrier");
            }
        }
        clock::until(Some(clock::now() + POLL)).await;
    }
}
