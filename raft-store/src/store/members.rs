//! Changing members and moving leadership. One at a time, on the leader: openraft can leave a joint configuration behind
//! when two changes overlap.

use super::{Inner, MemberError, RaftStatus, Role, TransferError};
use crate::net::Lane;
use crate::raft::TypeConfig;
use crate::raft::wire::proto;
use model::NodeId;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{BasicNode, ChangeMembers};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Entries that a learner may be behind when it becomes a voter, and a follower when it becomes the leader.
const LAG_MAX: u64 = 100;
/// How long a change may take, waiting for earlier ones included.
const CHANGE_WITHIN: Duration = Duration::from_secs(10);
/// How often a leader looks for a joint configuration that nobody finishes.
const JOINT_CHECK_EVERY: Duration = Duration::from_secs(2);

/// What can be asked of the leader.
#[derive(Clone, Debug)]
pub(super) enum AdminOp {
    AddLearner(NodeId, SocketAddr),
    Promote(NodeId),
    Remove(NodeId),
    TransferLeader(NodeId),
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminOutcome {
    Done,
    NotLeader,
    Refused(String),
    Timeout,
}

impl From<AdminOutcome> for proto::AdminReply {
    fn from(outcome: AdminOutcome) -> Self {
        use proto::admin_reply::Outcome as Out;
        let (outcome, reason) = match outcome {
            AdminOutcome::Done => (Out::Done, String::new()),
            AdminOutcome::NotLeader => (Out::NotLeader, String::new()),
            AdminOutcome::Refused(reason) => (Out::Refused, reason),
            AdminOutcome::Timeout => (Out::Timeout, String::new()),
        };
        Self { outcome: outcome.into(), reason }
    }
}

impl From<proto::AdminReply> for AdminOutcome {
    fn from(reply: proto::AdminReply) -> Self {
        use proto::admin_reply::Outcome as Out;
        match reply.outcome() {
            Out::Done => Self::Done,
            Out::NotLeader => Self::NotLeader,
            Out::Refused => Self::Refused(reply.reason),
            Out::Timeout | Out::Unspecified => Self::Timeout,
        }
    }
}

impl From<AdminOutcome> for Result<(), MemberError> {
    fn from(outcome: AdminOutcome) -> Self {
        match outcome {
            AdminOutcome::Done => Ok(()),
            AdminOutcome::NotLeader => Err(MemberError::NoLeader),
            AdminOutcome::Refused(reason) => Err(MemberError::Refused(reason)),
            AdminOutcome::Timeout => Err(MemberError::Timeout),
        }
    }
}

impl From<AdminOutcome> for Result<(), TransferError> {
    fn from(outcome: AdminOutcome) -> Self {
        match outcome {
            AdminOutcome::Done => Ok(()),
            AdminOutcome::NotLeader => Err(TransferError::NoLeader),
            AdminOutcome::Refused(reason) => Err(TransferError::Refused(reason)),
            AdminOutcome::Timeout => Err(TransferError::Timeout),
        }
    }
}

fn to_proto(op: &AdminOp) -> proto::AdminRequest {
    use proto::admin_request::Op;
    let op = match op {
        AdminOp::AddLearner(node, addr) => {
            Op::AddLearner(proto::Member { id: node.0, addr: addr.to_string() })
        }
        AdminOp::Promote(node) => Op::Promote(node.0),
        AdminOp::Remove(node) => Op::Remove(node.0),
        AdminOp::TransferLeader(node) => Op::TransferLeader(node.0),
    };
    proto::AdminRequest { op: Some(op) }
}

fn from_proto(request: proto::AdminRequest) -> Result<AdminOp, String> {
    use proto::admin_request::Op;
    match request.op {
        Some(Op::AddLearner(m)) => {
            let addr = m.addr.parse().map_err(|_| format!("{:?} is not an address", m.addr))?;
            Ok(AdminOp::AddLearner(NodeId(m.id), addr))
        }
        Some(Op::Promote(node)) => Ok(AdminOp::Promote(NodeId(node))),
        Some(Op::Remove(node)) => Ok(AdminOp::Remove(NodeId(node))),
        Some(Op::TransferLeader(node)) => Ok(AdminOp::TransferLeader(NodeId(node))),
        None => Err("an operation that this node does not know".to_owned()),
    }
}

impl Inner {
    /// Does it here when this node leads, else asks the leader once.
    pub(super) async fn admin(&self, op: AdminOp) -> AdminOutcome {
        let until = Instant::now() + self.leader_wait();
        let Some(leader) = self.leader(until).await else { return AdminOutcome::NotLeader };
        if leader == self.node {
            return self.lead(op).await;
        }
        let Ok(mut client) = self.client(leader, Lane::Forward) else {
            return AdminOutcome::NotLeader;
        };
        match timeout(CHANGE_WITHIN, client.admin(to_proto(&op))).await {
            Ok(Ok(reply)) => reply.into_inner().into(),
            Ok(Err(status)) if crate::net::was_never_sent(&status) => AdminOutcome::NotLeader,
            Ok(Err(_)) | Err(_) => AdminOutcome::Timeout,
        }
    }

    pub(crate) async fn serve_admin(&self, request: proto::AdminRequest) -> AdminOutcome {
        match from_proto(request) {
            Ok(op) => self.lead(op).await,
            Err(reason) => AdminOutcome::Refused(reason),
        }
    }

    async fn lead(&self, op: AdminOp) -> AdminOutcome {
        let work = async {
            let _one = self.changing.lock().await;
            if self.status.borrow().role != Role::Leader {
                return AdminOutcome::NotLeader;
            }
            match op {
                AdminOp::AddLearner(node, addr) => self.add_learner(node, addr).await,
                AdminOp::Promote(node) => self.promote(node).await,
                AdminOp::Remove(node) => self.remove(node).await,
                AdminOp::TransferLeader(node) => self.transfer(node).await,
            }
        };
        timeout(CHANGE_WITHIN, work).await.unwrap_or(AdminOutcome::Timeout)
    }

    async fn add_learner(&self, node: NodeId, addr: SocketAddr) -> AdminOutcome {
        let members = self.status.borrow().membership.addresses.clone();
        let addr = addr.to_string();
        if members.get(&node).is_some_and(|known| *known == addr) {
            return AdminOutcome::Done;
        }
        if members.contains_key(&node) {
            return AdminOutcome::Refused(format!("node {node} is a member with another address"));
        }
        if members.values().any(|known| *known == addr) {
            return AdminOutcome::Refused(format!("{addr} is the address of another member"));
        }
        changed(self.raft.add_learner(node.0, BasicNode::new(addr), false).await)
    }

    async fn promote(&self, node: NodeId) -> AdminOutcome {
        let status = self.status.borrow().clone();
        if status.membership.voters.iter().all(|set| set.contains(&node)) {
            return AdminOutcome::Done;
        }
        if let Err(reason) = check_lag(&status, node) {
            return AdminOutcome::Refused(reason);
        }
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([node.0]));
        changed(self.raft.change_membership(change, true).await)
    }

    async fn remove(&self, node: NodeId) -> AdminOutcome {
        let membership = self.status.borrow().membership.clone();
        if !membership.addresses.contains_key(&node) {
            return AdminOutcome::Done;
        }
        let ids = BTreeSet::from([node.0]);
        if !membership.voters.iter().any(|set| set.contains(&node)) {
            return changed(
                self.raft.change_membership(ChangeMembers::RemoveNodes(ids), false).await,
            );
        }
        if membership.voters.iter().any(|set| set.len() <= 1) {
            return AdminOutcome::Refused(format!("node {node} is the last voter"));
        }
        changed(self.raft.change_membership(ChangeMembers::RemoveVoters(ids), false).await)
    }

    async fn transfer(&self, node: NodeId) -> AdminOutcome {
        if node == self.node {
            return AdminOutcome::Done;
        }
        let status = self.status.borrow().clone();
        if !status.membership.voters.iter().any(|set| set.contains(&node)) {
            return AdminOutcome::Refused(format!("node {node} has no vote"));
        }
        // openraft gives leadership up whether or not the target can take it, so the target is looked at first.
        if let Err(reason) = check_lag(&status, node) {
            return AdminOutcome::Refused(reason);
        }
        let age = status.quorum_acked_age;
        if age.is_none_or(|age| age > self.timing.election_max) {
            return AdminOutcome::Refused("this leader has no quorum".to_owned());
        }
        if self.raft.trigger().transfer_leader(node.0).await.is_err() {
            return AdminOutcome::NotLeader;
        }
        let mut status = self.status.subscribe();
        let taken = status.wait_for(|s| s.leader == Some(node));
        match timeout(self.leader_wait(), taken).await {
            Ok(Ok(_)) => AdminOutcome::Done,
            Ok(Err(_)) | Err(_) => AdminOutcome::Timeout,
        }
    }
}

fn check_lag(status: &RaftStatus, node: NodeId) -> Result<(), String> {
    match status.peers.get(&node) {
        None => Err(format!("node {node} is not a member")),
        Some(None) => Err(format!("node {node} has nothing of the log yet")),
        Some(Some(matched)) if matched + LAG_MAX < status.last_log => Err(format!(
            "node {node} is {} entries behind, at most {LAG_MAX} are allowed",
            status.last_log - matched
        )),
        Some(Some(_)) => Ok(()),
    }
}

type Changed =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

fn changed(result: Changed) -> AdminOutcome {
    match result {
        Ok(_) => AdminOutcome::Done,
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => AdminOutcome::NotLeader,
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_)) => {
            AdminOutcome::Timeout
        }
        Err(RaftError::APIError(
            e @ (ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_)),
        )) => AdminOutcome::Refused(e.to_string()),
    }
}

/// Finishes a change of voters that lost its leader half-way: a joint configuration needs two majorities for ever.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(JOINT_CHECK_EVERY) => {}
        }
        let joint = {
            let status = inner.status.borrow();
            status.role == Role::Leader && status.membership.voters.len() > 1
        };
        // Whoever holds the lock is finishing it.
        if joint && let Ok(_one) = inner.changing.try_lock() {
            tracing::warn!("a change of voters was left half-way; finishing it");
            let change = ChangeMembers::AddVoters(BTreeMap::new());
            let finish = inner.raft.change_membership(change, true);
            match timeout(CHANGE_WITHIN, finish).await.map(changed) {
                Ok(AdminOutcome::Done) => {}
                Ok(outcome) => tracing::warn!(?outcome, "the change of voters is not finished"),
                Err(_) => tracing::warn!("the change of voters is not finished in time"),
            }
        }
    }
}
