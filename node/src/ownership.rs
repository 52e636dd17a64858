//! Who owns which group: the leader decides, every node follows.
//!
//! Safety rests on the voters' promises alone (`quorum_lease`); what happens here only makes a
//! takeover prompt and orderly, and picks a good owner.

use crate::clock;
use crate::peer::{self, Local};
use futures::future::join_all;
use model::{Epoch, GroupId, NodeId, NodeRole, Revision, Tick};
use raft_store::{Change, Command, RaftStatus, Reply, Role, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{debug, info, warn};

/// How often the leader looks without being woken.
const LOOK: Duration = Duration::from_millis(50);
/// Pause after a takeover that did not succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long one proposal of an `Acquire` may take.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause between two attempts to place the leader elsewhere.
const PLACE_PAUSE: Duration = Duration::from_secs(2);
/// A leader that no quorum has confirmed for this long decides nothing.
const QUORUM_FRESH: Duration = Duration::from_secs(1);
/// A member that lags more entries than this is no target for the leadership.
const PLACE_LAG_MAX: u64 = 100;

/// Why a planned switch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// Another node leads.
    #[error("this node does not lead the cluster")]
    NotLeader,
    /// No such group.
    #[error("no such group")]
    UnknownGroup,
    /// The group is on its way already.
    #[error("the group is being moved already")]
    Busy,
    /// The target would not take it.
    #[error("node {node} cannot take the group: {why}")]
    NotEligible {
        /// The node.
        node: NodeId,
        /// Its words.
        why: String,
    },
    /// Nobody would take it.
    #[error("no other node can take the group: {0}")]
    NoCandidate(String),
    /// The log did not answer, or refused.
    #[error("the change of owner was not committed: {0}")]
    Propose(String),
}

/// What this node has seen of one group's current ownership.
#[derive(Clone, Copy, Debug)]
struct Seen {
    epoch: Epoch,
    since: Tick,
    promised: bool,
}

/// The manager; runs on every node, acts on the leader.
#[derive(Clone)]
pub struct Manager {
    local: Local,
    lease_length: Duration,
    moving: Arc<Mutex<BTreeSet<GroupId>>>,
}

impl Manager {
    /// A manager for a cluster whose promises last `lease_length`.
    #[must_use]
    pub fn new(local: Local, lease_length: Duration) -> Self {
        Self { local, lease_length, moving: Arc::default() }
    }

    /// Runs until the store stops.
    pub async fn run(self) {
        let mut raft = self.local.store.status();
        let mut lease = self.local.lease.status();
        let mut applied = self.local.store.applied();
        let mut seen: BTreeMap<GroupId, Seen> = BTreeMap::new();
        let mut placed_at = clock::now();
        loop {
            tokio::select! {
                r = raft.changed() => if r.is_err() { return },
                r = lease.changed() => if r.is_err() { return },
                r = applied.changed() => if r.is_err() { return },
                () = clock::until(Some(clock::now() + LOOK)) => {}
            }
            let status = raft.borrow_and_update().clone();
            applied.borrow_and_update();
            let suspects = self.suspects(&mut seen);
            lease.borrow_and_update();
            if !status.leads_within(QUORUM_FRESH) {
                continue;
            }
            for group in suspects {
                self.spawn_takeover(group);
            }
            if clock::now() >= placed_at + PLACE_PAUSE {
                placed_at = clock::now();
                self.place_leader(&status).await;
            }
        }
    }

    /// Groups whose owner does not renew, or that never had one.
    fn suspects(&self, seen: &mut BTreeMap<GroupId, Seen>) -> Vec<GroupId> {
        let now = clock::now();
        let state = self.local.store.state();
        let lease = self.local.lease.status().borrow().clone();
        let mut suspects = Vec::new();
        for group in state.groups() {
            let fresh = Seen { epoch: group.epoch, since: now, promised: false };
            let entry = seen.entry(group.id).or_insert(fresh);
            if entry.epoch != group.epoch {
                *entry = fresh;
            }
            if lease.quarantined {
                entry.since = now;
                continue;
            }
            let live =
                lease.promises.get(&group.id).is_some_and(|(_, epoch)| *epoch >= group.epoch);
            entry.promised |= live;
            // One lease length of patience for an owner that this voter has not heard of yet: it may
            // have been appointed just now, or this node may have started just now.
            let patience_over = now >= entry.since + self.lease_length.mul_f32(1.5);
            if !live && (entry.promised || patience_over || group.owner.is_none()) {
                suspects.push(group.id);
            }
        }
        suspects
    }

    fn spawn_takeover(&self, group: GroupId) {
        let Some(guard) = self.begin(group) else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let started = clock::now();
            match this.take_over(group).await {
                Ok((to, epoch)) => {
                    let took_ms = clock::now().since(started).as_millis();
                    info!(event = "TANDEM-OWNER-FAILED", %group, %to, %epoch, took_ms, "owner lost, group reassigned");
                }
                Err(error) => {
                    debug!(%group, %error, "takeover did not succeed, trying again");
                    clock::until(Some(clock::now() + RETRY_PAUSE)).await;
                }
            }
            drop(guard);
        });
    }

    /// Seals the group and gives it to the best node that answers.
    async fn take_over(&self, group: GroupId) -> Result<(NodeId, Epoch), SwitchError> {
        let state = self.local.store.state();
        let record = state.group(group).ok_or(SwitchError::UnknownGroup)?;
        let seen = self.local.lease.status().borrow().seen.get(&group).copied().unwrap_or_default();
        let epoch = record.epoch.max(seen).next();
        let failed = record.owner;
        // A seal counts in the membership of its start; one that hangs is begun anew with the newest.
        let seal = tokio::time::timeout(self.lease_length * 3, self.local.lease.seal(group, epoch));
        let (sealed, candidates) =
            tokio::join!(seal, self.candidates(&state, group, record.revision, None));
        match sealed {
            Ok(Ok(())) => {}
            Ok(Err(higher)) => {
                return Err(SwitchError::Propose(format!(
                    "epoch {higher} was seen, {epoch} is not enough"
                )));
            }
            Err(_) => return Err(SwitchError::Propose("no quorum answered the seal".into())),
        }
        let target =
            pick(&state, group, &candidates, failed).ok_or_else(|| no_candidate(&candidates))?;
        self.acquire(group, target, epoch).await?;
        Ok((target, epoch))
    }

    /// Moves a group by plan: no seal, no waiting; the old owner releases when it applies the entry.
    ///
    /// # Errors
    /// [`SwitchError`].
    pub async fn switch(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> Result<peer::Failover, SwitchError> {
        if self.local.store.status().borrow().role != Role::Leader {
            return Err(SwitchError::NotLeader);
        }
        let state = self.local.store.state();
        let record = state.group(group).ok_or(SwitchError::UnknownGroup)?.clone();
        let guard = self.begin(group).ok_or(SwitchError::Busy)?;
        let target = match to {
            Some(node) => {
                let answer = self.local.ask_candidate(node, group, record.revision).await;
                let why = match answer {
                    Ok(peer::Candidate { refusal, .. }) => refusal,
                    Err(why) => Some(why),
                };
                match why {
                    None => node,
                    Some(why) => return Err(SwitchError::NotEligible { node, why }),
                }
            }
            None => {
                let others = self.candidates(&state, group, record.revision, record.owner).await;
                pick(&state, group, &others, record.owner).ok_or_else(|| no_candidate(&others))?
            }
        };
        let seen = self.local.lease.status().borrow().seen.get(&group).copied().unwrap_or_default();
        let epoch = record.epoch.max(seen).next();
        self.acquire(group, target, epoch).await?;
        info!(event = "TANDEM-OWNER-SWITCHED", %group, from = ?record.owner, to = %target, %epoch, "planned switch");
        drop(guard);
        Ok(peer::Failover { from: record.owner, to: target, epoch })
    }

    async fn acquire(&self, group: GroupId, node: NodeId, epoch: Epoch) -> Result<(), SwitchError> {
        let command = Command::Acquire { group, node, epoch };
        match self.local.store.propose_as(command, (rand::random(), 1), None, ACQUIRE_TIMEOUT).await
        {
            Ok(committed) => match committed.reply {
                Reply::Refused(refusal) => Err(SwitchError::Propose(refusal.to_string())),
                Reply::Done
                | Reply::Acquired { .. }
                | Reply::Sessions(_)
                | Reply::NodeId(_)
                | Reply::Documents { .. } => Ok(()),
            },
            Err(error) => Err(SwitchError::Propose(error.to_string())),
        }
    }

    /// Asks all data nodes but `except` at once whether they would take the group.
    async fn candidates(
        &self,
        state: &State,
        group: GroupId,
        revision: Revision,
        except: Option<NodeId>,
    ) -> Answers {
        let fits = |n: &NodeId| Some(*n) != except;
        let data = state.nodes().filter(|n| n.role == NodeRole::Data).map(|n| n.id);
        let nodes: Vec<NodeId> = data.filter(fits).collect();
        let asked = nodes.into_iter().map(|node| async move {
            let answer = match self.local.ask_candidate(node, group, revision).await {
                Ok(peer::Candidate { refusal: None, .. }) => Ok(()),
                Ok(peer::Candidate { refusal: Some(why), .. }) | Err(why) => Err(why),
            };
            (node, answer)
        });
        first_answers(asked.collect()).await
    }

    /// Moves the leadership off a node that owns a group: a power loss then costs one election less.
    async fn place_leader(&self, status: &RaftStatus) {
        let state = self.local.store.state();
        let owners: BTreeSet<NodeId> = state.groups().filter_map(|g| g.owner).collect();
        if !owners.contains(&self.local.me) {
            return;
        }
        let lag = |n: NodeId| {
            let matched = (*status.peers.get(&n)?)?;
            Some(status.last_log.saturating_sub(matched))
        };
        let target = status
            .membership
            .voters
            .iter()
            .flatten()
            .copied()
            .filter(|n| *n != self.local.me && !owners.contains(n))
            .filter(|n| lag(*n).is_some_and(|l| l <= PLACE_LAG_MAX))
            .min_by_key(|n| state.node(*n).map(|r| r.role == NodeRole::Data));
        if let Some(to) = target {
            info!(%to, "moving the Raft leadership off a group owner");
            if let Err(error) = self.local.store.transfer_leader(to).await {
                warn!(%to, %error, "leadership not moved");
            }
        }
    }

    fn begin(&self, group: GroupId) -> Option<Moving> {
        let mut moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        moving.insert(group).then(|| Moving { group, set: self.moving.clone() })
    }
}

/// Marks a group as being moved; unmarks it when dropped.
struct Moving {
    group: GroupId,
    set: Arc<Mutex<BTreeSet<GroupId>>>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.group);
    }
}

type Answers = BTreeMap<NodeId, Result<(), String>>;

/// Collects answers; once one node has said yes, the silent ones get only a moment more.
///
/// A dead owner does not answer, and waiting for its time-out would be most of the takeover.
async fn first_answers<F>(asked: Vec<F>) -> Answers
where
    F: Future<Output = (NodeId, Result<(), String>)>,
{
    use futures::StreamExt as _;
    const GRACE: Duration = Duration::from_millis(3);
    let mut answers = Answers::new();
    let mut pending: futures::stream::FuturesUnordered<F> = asked.into_iter().collect();
    let mut stop_at = None;
    loop {
        let next = tokio::select! {
            answer = pending.next() => answer,
            () = clock::until(stop_at) => None,
        };
        let Some((node, answer)) = next else { return answers };
        if answer.is_ok() && stop_at.is_none() {
            stop_at = Some(clock::now() + GRACE);
        }
        answers.insert(node, answer);
    }
}

/// The best of those that said yes: not the failed one if there is another, then by configured
/// preference, then the one with the fewest groups, then the lowest id.
fn pick(
    state: &State,
    group: GroupId,
    answers: &Answers,
    failed: Option<NodeId>,
) -> Option<NodeId> {
    let record = state.group(group)?;
    let load = |node: NodeId| state.groups().filter(|g| g.owner == Some(node)).count();
    let preference =
        |node: NodeId| record.preferred.iter().position(|p| *p == node).unwrap_or(usize::MAX);
    answers
        .iter()
        .filter(|(_, answer)| answer.is_ok())
        .map(|(node, _)| *node)
        .min_by_key(|node| (Some(*node) == failed, preference(*node), load(*node), *node))
}

fn no_candidate(answers: &Answers) -> SwitchError {
    let words: Vec<String> = answers
        .iter()
        .filter_map(|(node, answer)| answer.as_ref().err().map(|why| format!("node {node}: {why}")))
        .collect();
    SwitchError::NoCandidate(if words.is_empty() {
        "nobody answered".into()
    } else {
        words.join("; ")
    })
}

/// Follows committed ownership on a data node: acquires and releases the lease.
///
/// What the state says at start is not taken up: after a restart a node becomes owner only by a new
/// `Acquire`, since its former promises may have ended.
pub async fn follow(local: Local) {
    let mut from = local.store.state().applied();
    loop {
        let Ok(mut feed) = local.store.changes(from) else {
            from = local.store.state().applied();
            continue;
        };
        while let Ok(batch) = feed.next().await {
            from = batch.revision;
            for change in &batch.changes {
                if let Change::OwnerChanged { group, owner, epoch, previous } = change {
                    on_owner(&local, *group, *owner, *epoch, *previous);
                }
            }
        }
        if local.store.status().has_changed().is_err() {
            return;
        }
    }
}

fn on_owner(local: &Local, group: GroupId, owner: NodeId, epoch: Epoch, previous: Option<NodeId>) {
    if owner == local.me {
        local.lease.acquire(group, epoch);
    } else if previous == Some(local.me) {
        local.lease.release(group);
    }
}

/// Keeps the lease thread informed of members and groups.
pub async fn feed_lease(local: Local) {
    let mut raft = local.store.status();
    let mut applied = local.store.applied();
    let mut committed = quorum_lease::Membership::default();
    loop {
        let status = raft.borrow_and_update().clone();
        applied.borrow_and_update();
        let state = local.store.state();
        local.lease.set_groups(state.groups().map(|g| g.id).collect());
        let peers =
            state.nodes().filter(|n| n.id != local.me).map(|n| (n.id, n.lease_addr)).collect();
        local.lease.set_peers(peers);
        let newest = &status.membership;
        if status.committed >= newest.log_index && newest.log_index > committed.log_index {
            let voters = newest.voters.iter().map(|set| set.iter().copied().collect()).collect();
            committed = quorum_lease::Membership { log_index: newest.log_index, voters };
        }
        local.lease.set_membership(newest.log_index, committed.clone());
        tokio::select! {
            r = raft.changed() => if r.is_err() { return },
            r = applied.changed() => if r.is_err() { return },
        }
    }
}

/// Asks all of `nodes` for their status at once.
pub async fn statuses(
    local: &Local,
    nodes: Vec<NodeId>,
    within: Duration,
) -> BTreeMap<NodeId, peer::Status> {
    let asked = nodes.into_iter().map(|node| async move {
        let status = if node == local.me {
            Some(local.status())
        } else {
            local.ask(node, &peer::Request::Status, within).await.ok()
        };
        status.map(|s| (node, s))
    });
    join_all(asked).await.into_iter().flatten().collect()
}
