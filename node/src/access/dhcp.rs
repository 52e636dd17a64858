use super::engine::{Counters, Pending, Wire};
use crate::proposer::OpOutcome;
use dhcp::{
    Action, ClientKey, Commit, Destination, Lease, Leases, Outcome, PoolConfig, Server, Token,
};
use ether::{Udp4, ethertype};
use model::{Attachment, DownReason, GroupId, GroupService, Pool, Session, SessionKind, Tick};
use raft_store::{OpReply, Refusal, SessionOp, State};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tracing::debug;

const SERVER_PORT: u16 = 67;
const TTL: u8 = 64;
const MTU_OCTETS: u16 = 1500;
/// Octets before giaddr in a BOOTP message. RFC 2131 figure 1.
const GIADDR_OFFSET: usize = 24;

/// DHCPv4 of one group: one server engine for each pool.
pub(super) struct DhcpAccess {
    servers: BTreeMap<String, Server>,
    counters: Arc<Counters>,
}

/// What the engine may know of one pool's leases.
struct View<'a> {
    state: &'a State,
    group: GroupId,
    pool: &'a str,
}

impl Leases for View<'_> {
    fn by_client(&self, key: &ClientKey) -> Option<Lease> {
        let found = self.state.lease_by_client(self.group, &key.client_id, &key.attachment);
        found.and_then(|s| lease_of(s))
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Lease> {
        self.state.session_by_address(address).and_then(|s| lease_of(s))
    }

    fn free(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        self.state.free_address(self.pool, wanted, &|_| false)
    }
}

fn lease_of(session: &Session) -> Option<Lease> {
    let SessionKind::Dhcp(dhcp) = &session.kind else { return None };
    Some(Lease {
        session: session.id,
        key: ClientKey { attachment: session.attachment, client_id: dhcp.client_id.clone() },
        address: session.address,
        expires_at: dhcp.expires_at,
    })
}

impl DhcpAccess {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { servers: BTreeMap::new(), counters }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; the driver's view of one message"
    )]
    pub(super) fn on_message(
        &mut self,
        wire: &mut Wire,
        from: Attachment,
        s_tag: bool,
        udp: &Udp4<'_>,
        shed: bool,
        state: &State,
        now: Tick,
    ) {
        let Some(pool) = pool_for(state, wire.group, udp.payload) else {
            return self.counters.add("dhcp_drop", "no_pool");
        };
        if shed && dhcp::is_discover(udp.payload) {
            return self.counters.add("dhcp_drop", "shed");
        }
        let view = View { state, group: wire.group, pool: &pool.name };
        let server = self.servers.entry(pool.name.clone()).or_default();
        let actions = server.on_message(&view, udp.payload, from, udp.dst, now, &config(pool));
        self.act(wire, pool, s_tag, actions);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call site; the driver's view of one outcome"
    )]
    pub(super) fn on_outcome(
        &mut self,
        wire: &mut Wire,
        pool: &str,
        token: Token,
        s_tag: bool,
        outcome: &OpOutcome,
        state: &State,
        now: Tick,
    ) {
        let (Some(pool), Some(server)) = (state.pool(pool), self.servers.get_mut(pool)) else {
            return;
        };
        let outcome = match outcome {
            OpOutcome::Committed(OpReply::Session(s)) => {
                Outcome::Granted { session: s.id, address: s.address }
            }
            OpOutcome::Committed(OpReply::Done) => Outcome::Done,
            // Not the owner any more: another node answers, this one stays silent.
            OpOutcome::Committed(OpReply::Refused(Refusal::StaleEpoch { .. }))
            | OpOutcome::Unknown => Outcome::Unknown,
            OpOutcome::Committed(OpReply::Refused(refusal)) => {
                self.counters.add("session_refused", refusal.label());
                debug!(%refusal, "a DHCP request was refused");
                Outcome::Refused
            }
        };
        let actions = server.on_committed(token, outcome, now, &config(pool));
        self.act(wire, pool, s_tag, actions);
    }

    fn act(&mut self, wire: &mut Wire, pool: &Pool, s_tag: bool, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply { to, payload } => reply(wire, pool, s_tag, &to, &payload),
                Action::Commit { token, request } => {
                    let pending = Pending::Dhcp { pool: pool.name.clone(), token, s_tag };
                    for op in ops(request, &pool.name) {
                        wire.propose(pending.clone(), op);
                    }
                }
                Action::Drop(reason) => self.counters.add("dhcp_drop", reason.label()),
            }
        }
    }

    pub(super) fn on_time(&mut self, now: Tick) {
        for server in self.servers.values_mut() {
            server.step(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.servers.values().filter_map(Server::deadline).min()
    }
}

fn reply(wire: &mut Wire, pool: &Pool, s_tag: bool, to: &Destination, payload: &[u8]) {
    let packet = Udp4 {
        src: pool.gateway,
        dst: to.ip,
        src_port: SERVER_PORT,
        dst_port: to.port,
        ttl: TTL,
        payload,
    }
    .emit();
    wire.send(to.attachment, s_tag, to.mac, ethertype::IPV4, &packet);
}

fn ops(request: Commit, pool: &str) -> Vec<SessionOp> {
    match request {
        Commit::Grant { key, address, hostname, relay_info, lease_s } => {
            vec![SessionOp::LeaseGrant {
                attachment: key.attachment,
                client_id: key.client_id,
                hostname,
                relay_info,
                address: Some(address),
                lease_s,
                pool: Some(pool.to_owned()),
            }]
        }
        Commit::Renew { session, lease_s } => vec![SessionOp::LeaseRenew { session, lease_s }],
        Commit::Release { session } => {
            vec![SessionOp::Down { session, reason: DownReason::UserRequest }]
        }
        // The state machine takes down the session on the address, if there is one.
        Commit::Decline { address, .. } => {
            vec![SessionOp::Decline { address, pool: pool.to_owned() }]
        }
    }
}

/// The pool of a message: by the relay's address, else the group's first.
fn pool_for<'a>(state: &'a State, group: GroupId, message: &[u8]) -> Option<&'a Pool> {
    let giaddr = message
        .get(GIADDR_OFFSET..GIADDR_OFFSET + 4)
        .map(|o| Ipv4Addr::new(o[0], o[1], o[2], o[3]))
        .filter(|a| !a.is_unspecified());
    let mut pools = state.pools_of(group, GroupService::Dhcp);
    match giaddr {
        Some(relay) => pools.find(|p| config(p).in_network(relay)),
        None => pools.next(),
    }
}

fn config(pool: &Pool) -> PoolConfig {
    PoolConfig {
        range: pool.range,
        prefix_len: pool.prefix_len,
        gateway: pool.gateway,
        dns: pool.dns.clone(),
        lease_s: pool.lease_s,
        mtu: MTU_OCTETS,
        domain: String::new(),
    }
}
