//! Who owns which group: the leader decides, every node follows.
//!
//! Safety rests on the voters' promises alone (`quorum_lease`); what happens here only makes a
//! takeover prompt and orderly, and picks a good owner.

mod candidates;
mod placement;
mod voters;

use crate::clock;
use crate::fitness::Fault;
use crate::peer::{self, Local};
use candidates::{Answers, answer_of, first_answers, last_resort, no_candidate, pick};
use futures::future::join_all;
use model::{Epoch, Group, GroupId, NodeId, NodeRole, Revision, Tick};
use placement::Pace;
use quorum_lease::Timing;
use raft_store::{Change, Command, RaftStatus, Role, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{debug, info, warn};
use voters::VoterWatch;

/// How often the leader looks without being woken.
const LOOK: Duration = Duration::from_millis(50);
/// Pause after a takeover that did not succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long one proposal of an `Acquire` may take.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(500);
/// A leader that no quorum has confirmed for this long decides nothing.
const QUORUM_FRESH: Duration = Duration::from_secs(1);
/// How long the leader may take to move one group by plan.
pub const HANDOVER: Duration = Duration::from_millis(1500);

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
    /// The suspected owner is no longer the owner.
    #[error("the group has got another owner meanwhile")]
    Superseded,
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
    timing: Timing,
    moving: Arc<Mutex<BTreeSet<GroupId>>>,
    voters: Arc<Mutex<VoterWatch>>,
    /// The leadership is being moved.
    leaving: Arc<AtomicBool>,
}

impl Manager {
    /// A manager for a cluster with these lease times.
    #[must_use]
    pub fn new(local: Local, timing: Timing) -> Self {
        Self {
            local,
            timing,
            moving: Arc::default(),
            voters: Arc::default(),
            leaving: Arc::default(),
        }
    }

    /// Runs until the store stops.
    pub async fn run(self) {
        let mut raft = self.local.store.status();
        let mut lease = self.local.lease.status();
        let mut applied = self.local.store.applied();
        let mut seen: BTreeMap<GroupId, Seen> = BTreeMap::new();
        let mut pace = Pace::default();
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
            let may_seal = self.voters_at(&status).may_seal(clock::now(), self.timing.quarantine());
            if !status.leads_within(QUORUM_FRESH) {
                continue;
            }
            if may_seal {
                for (group, epoch) in suspects {
                    self.spawn_takeover(group, epoch);
                }
            }
            self.place_leader(&status, &mut pace);
        }
    }

    /// The watch of voters, brought up to date.
    fn voters_at(&self, status: &RaftStatus) -> MutexGuard<'_, VoterWatch> {
        let mut voters = self.voters.lock().unwrap_or_else(PoisonError::into_inner);
        voters.observe(&status.membership, status.committed, clock::now());
        voters
    }

    /// When the voters last changed, as far as is known now.
    fn voters_changed_at(&self) -> Option<Tick> {
        let status = self.local.store.status().borrow().clone();
        self.voters_at(&status).changed_at()
    }

    /// Groups whose owner does not renew, or that never had one, with the epoch of that owner.
    fn suspects(&self, seen: &mut BTreeMap<GroupId, Seen>) -> Vec<(GroupId, Epoch)> {
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
            let patience_over = now >= entry.since + self.timing.lease.mul_f32(1.5);
            if !live && (entry.promised || patience_over || group.owner.is_none()) {
                suspects.push((group.id, group.epoch));
            }
        }
        suspects
    }

    fn spawn_takeover(&self, group: GroupId, suspected: Epoch) {
        let Some(guard) = self.begin(group) else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let started = clock::now();
            match this.take_over(group, suspected).await {
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
    async fn take_over(
        &self,
        group: GroupId,
        suspected: Epoch,
    ) -> Result<(NodeId, Epoch), SwitchError> {
        let state = self.local.store.state();
        let record = state.group(group).ok_or(SwitchError::UnknownGroup)?;
        // An earlier takeover may have ended between the look at the group and this one.
        if record.epoch != suspected {
            return Err(SwitchError::Superseded);
        }
        let seen = self.local.lease.status().borrow().seen.get(&group).copied().unwrap_or_default();
        let epoch = record.epoch.max(seen).next();
        let failed = record.owner;
        let voters_since = self.voters_changed_at();
        // A seal counts in the membership of its start; one that hangs is begun anew with the newest.
        let seal = tokio::time::timeout(self.timing.lease * 3, self.local.lease.seal(group, epoch));
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
        // Another leader decides by now, and may have found the owner alive.
        if self.local.store.status().borrow().role != Role::Leader {
            return Err(SwitchError::NotLeader);
        }
        if self.voters_changed_at() != voters_since {
            return Err(SwitchError::Propose("the voters changed during the seal".into()));
        }
        let target = match pick(&state, group, &candidates, failed) {
            Some(target) => target,
            None => {
                let target = last_resort(&state, group, &candidates, failed)
                    .ok_or_else(|| no_candidate(&candidates))?;
                let why = no_candidate(&candidates).to_string();
                warn!(event = "TANDEM-OWNER-LAST-RESORT", %group, to = %target, why, "no node is fit, taking the best of the others");
                target
            }
        };
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
        let mut guard = Some(self.begin(group).ok_or(SwitchError::Busy)?);
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
        if target == self.local.me && self.leave_before_owning(&state, &record).await {
            // The new leader moves the group, so that owner and leader are never the same.
            drop(guard.take());
            let request = peer::Request::Failover { group, to: Some(target) };
            return self.ask_leader(&request).await.map_err(SwitchError::Propose);
        }
        let seen = self.local.lease.status().borrow().seen.get(&group).copied().unwrap_or_default();
        let epoch = record.epoch.max(seen).next();
        self.acquire(group, target, epoch).await?;
        info!(event = "TANDEM-OWNER-SWITCHED", %group, from = ?record.owner, to = %target, %epoch, "planned switch");
        drop(guard);
        Ok(peer::Failover { from: record.owner, to: target, epoch })
    }

    async fn acquire(&self, group: GroupId, node: NodeId, epoch: Epoch) -> Result<(), SwitchError> {
        let command = Command::Acquire { group, node, epoch };
        let client = (rand::random(), 1);
        let proposed = self.local.store.propose_as(command, client, None, ACQUIRE_TIMEOUT).await;
        let committed = proposed.map_err(|error| SwitchError::Propose(error.to_string()))?;
        match committed.accepted() {
            Ok(_) => Ok(()),
            Err(refusal) => Err(SwitchError::Propose(refusal.to_string())),
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
            (node, answer_of(self.local.ask_candidate(node, group, revision).await))
        });
        first_answers(asked.collect()).await
    }

    /// Moves the leadership off a node that owns a group, or whose disk is slow.
    fn place_leader(&self, status: &RaftStatus, pace: &mut Pace) {
        let state = self.local.store.state();
        let owners = placement::owners(&state);
        if !owners.contains(&self.local.me) && !self.local.fitness.has(Fault::Disk) {
            return;
        }
        // A takeover or a planned move ends here first; the next look comes soon.
        if !self.moving().is_empty() {
            return;
        }
        let Some(to) = placement::target(status, &state, &owners) else { return };
        if !pace.due((status.term, to, owners), clock::now()) {
            return;
        }
        let this = self.clone();
        // A transfer may hang, and takeovers must go on meanwhile.
        tokio::spawn(async move { this.leave(to).await });
    }

    /// Hands the leadership to `to`; returns whether it leads now.
    async fn leave(&self, to: NodeId) -> bool {
        if self.leaving.swap(true, Ordering::AcqRel) {
            return false;
        }
        let started = clock::now();
        let moved = self.local.store.transfer_leader(to).await;
        self.leaving.store(false, Ordering::Release);
        let took_ms = clock::now().since(started).as_millis();
        match &moved {
            Ok(()) => info!(%to, took_ms, "moved the Raft leadership off a group owner"),
            Err(error) => warn!(%to, took_ms, %error, "leadership not moved"),
        }
        moved.is_ok()
    }

    /// Gives the leadership up before this node becomes the owner of a group by plan.
    async fn leave_before_owning(&self, state: &State, group: &Group) -> bool {
        let others = state.groups().filter(|g| g.id != group.id).filter_map(|g| g.owner);
        let owners = others.chain([self.local.me]).collect();
        let status = self.local.store.status().borrow().clone();
        match placement::target(&status, state, &owners) {
            Some(to) => self.leave(to).await,
            None => false,
        }
    }

    /// Asks the leader to move a group that this node owns to a better one.
    ///
    /// # Errors
    /// The leader's words, or that there is none.
    pub async fn move_away(&self, group: GroupId) -> Result<peer::Failover, String> {
        if self.local.store.status().borrow().leader == Some(self.local.me) {
            return self.switch(group, None).await.map_err(|e| e.to_string());
        }
        self.ask_leader(&peer::Request::Failover { group, to: None }).await
    }

    async fn ask_leader(&self, request: &peer::Request) -> Result<peer::Failover, String> {
        let leader = self.local.store.status().borrow().leader.ok_or("no leader")?;
        self.local.ask(leader, request, HANDOVER).await
    }

    fn moving(&self) -> MutexGuard<'_, BTreeSet<GroupId>> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, group: GroupId) -> Option<Moving> {
        self.moving().insert(group).then(|| Moving { group, set: self.moving.clone() })
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
        // Also when equal: the first membership of a new cluster is the entry 0.
        if status.committed >= newest.log_index && newest.log_index >= committed.log_index {
            committed = crate::lease::membership(newest);
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
