//! Replicated state as the API shows it.

use crate::member::Member;
use crate::peer::Status;
use api::types::{
    self, ClusterStatus, GroupNodeStatus, GroupStatus, NatBlockInfo, NodeStatus, RaftState,
    SessionCounts, SessionType, SubscriberDetail, SubscriberQuery, SubscriberSummary,
    SubscriberTotals,
};
use dataplane::Counters;
use model::{Fence, Group, Line, NodeId, NodeRole, PortId, Session, SessionKind};
use raft_store::{Role, State};
use std::collections::BTreeMap;
use std::sync::Arc;

type Statuses = BTreeMap<NodeId, Status>;

pub(super) fn subscribers(state: &State, query: &SubscriberQuery) -> Vec<SubscriberSummary> {
    let fits = |s: &&Arc<Session>| {
        query.service.is_none_or(|q| SessionType::from(q) == SessionType::from(&s.kind))
            && query.username.as_ref().is_none_or(|q| s.username == *q)
            && query.ip.is_none_or(|q| s.address == q)
            && query.mac.is_none_or(|q| s.attachment.mac == q)
    };
    let after = |s: &&Arc<Session>| query.after.is_none_or(|a| s.id > a);
    let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
    state.sessions().filter(after).filter(fits).take(limit).map(|s| summary(state, s)).collect()
}

/// Counts sessions by kind.
pub(crate) fn totals<'a>(sessions: impl Iterator<Item = &'a Arc<Session>>) -> SubscriberTotals {
    let mut totals = SubscriberTotals::default();
    for session in sessions {
        totals.total += 1;
        match session.kind {
            SessionKind::Pppoe(_) => totals.pppoe += 1,
            SessionKind::Dhcp(_) => totals.dhcp += 1,
            SessionKind::Static(_) => totals.statics += 1,
        }
    }
    totals
}

pub(crate) fn group_name(state: &State, session: &Session) -> String {
    state.group(session.group).map_or_else(|| session.group.to_string(), |g| g.name.clone())
}

pub(crate) fn interface(line: Line) -> String {
    let Line { port: PortId(port), vlans } = line;
    if vlans == model::Vlans::NONE { format!("port{port}") } else { format!("port{port}.{vlans}") }
}

pub(crate) fn state_name(s: &Session) -> &'static str {
    match s.kind {
        SessionKind::Static(fixed) if !fixed.allowed => "disallowed",
        SessionKind::Static(_) if !s.attachment.is_known() => "unseen",
        SessionKind::Pppoe(_) | SessionKind::Dhcp(_) | SessionKind::Static(_) => "active",
    }
}

fn summary(state: &State, s: &Session) -> SubscriberSummary {
    SubscriberSummary {
        id: s.id,
        session_type: SessionType::from(&s.kind),
        username: s.username.clone(),
        ip_address: s.address,
        mac_address: s.attachment.mac,
        interface: interface(s.attachment.line()),
        group: group_name(state, s),
        rate_down: s.rate.down_bps,
        rate_up: s.rate.up_bps,
        state: state_name(s).into(),
        started_at: s.started_at.as_secs(),
    }
}

pub(super) fn subscriber(state: &State, s: &Session, counters: Counters) -> SubscriberDetail {
    let (sid, lease, hostname) = match &s.kind {
        SessionKind::Pppoe(p) => (Some(p.sid), None, None),
        SessionKind::Dhcp(d) => (None, Some(d.expires_at.as_secs()), Some(d.hostname.clone())),
        SessionKind::Static(_) => (None, None, None),
    };
    let owner = state.group(s.group).and_then(|g| g.owner).and_then(|n| state.node(n));
    SubscriberDetail {
        id: s.id,
        session_type: SessionType::from(&s.kind),
        state: state_name(s).into(),
        username: s.username.clone(),
        mac_address: s.attachment.mac,
        ip_address: s.address,
        gateway: state.pool(&s.pool).map(|p| p.gateway),
        access_interface: interface(s.attachment.line()),
        // Sessions are map entries, not net devices.
        ppp_interface: None,
        rate_down_bps: s.rate.down_bps,
        rate_up_bps: s.rate.up_bps,
        overhead_profile: None,
        vrf_steered: false,
        acct_session_id: format!("tandem-{}-{}", s.started_at.as_secs(), s.id),
        started_at: s.started_at.as_secs(),
        bytes_in: counters.bytes_up,
        bytes_out: counters.bytes_down,
        packets_in: counters.packets_up,
        packets_out: counters.packets_down,
        group: group_name(state, s),
        node: owner.map(|n| n.name.clone()),
        pool: s.pool.clone(),
        vlan_outer: s.attachment.vlans.outer,
        vlan_inner: s.attachment.vlans.inner,
        pppoe_session_id: sid,
        lease_expires_at: lease,
        hostname,
        nat: s.nat.map(|b| NatBlockInfo {
            public: b.public,
            first_port: b.first_port,
            last_port: b.last_port,
        }),
        created_revision: s.created,
        modified_revision: s.modified,
    }
}

pub(super) fn members(member: &Member) -> Vec<types::Member> {
    let state = member.local.store.state();
    let raft = member.local.store.status().borrow().clone();
    let votes = |id: NodeId| raft.membership.voters.iter().any(|set| set.contains(&id));
    state.nodes().map(|n| types::Member::from_node(n, votes(n.id))).collect()
}

pub(super) fn cluster(member: &Member, statuses: &Statuses) -> ClusterStatus {
    let state = member.local.store.state();
    let raft = member.local.store.status().borrow().clone();
    let name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |n| n.name.clone());
    let applied = state.applied().0;
    let nodes = state
        .nodes()
        .map(|n| {
            let status = statuses.get(&n.id);
            let voter = raft.membership.voters.iter().any(|set| set.contains(&n.id));
            NodeStatus {
                id: n.id,
                name: n.name.clone(),
                role: n.role,
                api_addr: n.api_addr,
                raft_state: raft_state(&raft, n.id, voter, status.is_some()),
                voter,
                reachable: status.is_some(),
                applied: status.map(|s| s.applied.0),
                lag: status.map(|s| applied.saturating_sub(s.applied.0)),
            }
        })
        .collect();
    ClusterStatus {
        cluster_id: member.identity.cluster_id.clone(),
        leader: raft.leader.map(name),
        term: raft.term,
        revision: state.applied(),
        nodes,
        groups: state.groups().map(|g| group(&state, g, statuses)).collect(),
    }
}

fn raft_state(
    raft: &raft_store::RaftStatus,
    id: NodeId,
    voter: bool,
    reachable: bool,
) -> RaftState {
    if raft.leader == Some(id) {
        RaftState::Leader
    } else if !reachable {
        RaftState::Unknown
    } else if id == raft.node && raft.role == Role::Candidate {
        RaftState::Candidate
    } else if voter {
        RaftState::Follower
    } else {
        RaftState::Learner
    }
}

fn group(state: &State, g: &Group, statuses: &Statuses) -> GroupStatus {
    let fence_of = |id: NodeId| {
        statuses
            .get(&id)
            .map(|s| if s.open.contains_key(&g.id) { Fence::Open } else { Fence::Shut })
    };
    let nodes = state
        .nodes()
        .filter(|n| n.role == NodeRole::Data)
        .map(|n| {
            let status = statuses.get(&n.id);
            let programmed = status.and_then(|s| s.programmed);
            GroupNodeStatus {
                name: n.name.clone(),
                programmed_revision: programmed,
                eligible: status.is_some_and(|s| s.unfit.is_none())
                    && programmed.is_some_and(|p| p >= g.revision),
                fence: fence_of(n.id),
            }
        })
        .collect();
    let sessions = totals(state.sessions_of(g.id));
    GroupStatus {
        id: g.id,
        name: g.name.clone(),
        vrid: g.vrid,
        virtual_mac: g.virtual_mac(),
        owner: g.owner.and_then(|o| state.node(o)).map(|n| n.name.clone()),
        epoch: g.epoch,
        fence: g.owner.and_then(fence_of),
        revision: g.revision,
        sessions: SessionCounts {
            pppoe: sessions.pppoe,
            dhcp: sessions.dhcp,
            statics: sessions.statics,
        },
        nodes,
    }
}
