//! A small cluster, and the checks that hold in every state.

use super::super::{ClientKey, State};
use crate::change::Change;
use crate::command::{Bootstrap, Command, Entry, OpReply, Refusal, Reply, SessionBatch, SessionOp};
use model::{
    ApiRole, ApiUser, Attachment, ClusterId, Collection, Epoch, Group, GroupId, GroupService,
    MacAddr, NatPool, Node, NodeId, NodeRole, Pool, PortId, Rate, Revision, Secret, Session,
    SessionId, SessionKind, Subscriber, UnixMs, Vlans,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

pub(super) const EAST: GroupId = GroupId(1);
pub(super) const A: NodeId = NodeId(1);
pub(super) const B: NodeId = NodeId(2);
pub(super) const WITNESS: NodeId = NodeId(3);

pub(super) fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

pub(super) fn node(id: u64, role: NodeRole) -> Node {
    Node {
        id: NodeId(id),
        name: format!("node-{id}"),
        role,
        raft_addr: "127.0.0.1:7000".parse().unwrap(),
        lease_addr: "127.0.0.1:7001".parse().unwrap(),
        api_addr: "127.0.0.1:8443".parse().unwrap(),
    }
}

pub(super) fn group(id: u32) -> Group {
    Group {
        id: GroupId(id),
        name: format!("group-{id}"),
        vrid: u8::try_from(id).unwrap(),
        core_address: Ipv4Addr::new(192, 0, 2, u8::try_from(id).unwrap()),
        core_prefix_len: 24,
        preferred: vec![],
        ac_name: "ac".to_owned(),
        services: vec![GroupService::Pppoe, GroupService::Dhcp],
        owner: Some(WITNESS), // ignored
        epoch: Epoch(77),     // ignored
        revision: Revision(77),
    }
}

pub(super) fn pool(name: &str, service: GroupService, range: &str, gateway: &str) -> Pool {
    Pool {
        name: name.to_owned(),
        group: EAST,
        service,
        range: range.parse().unwrap(),
        prefix_len: 24,
        gateway: ip(gateway),
        dns: vec![],
        lease_s: 600,
        nat: None,
        rate: Rate { down_bps: 10, up_bps: 1 },
    }
}

/// PPPoE: four addresses with NAT, six port blocks.
pub(super) fn ppp_pool() -> Pool {
    let nat =
        NatPool { public: "198.51.100.1-198.51.100.2".parse().unwrap(), ports_per_block: 16_384 };
    Pool { nat: Some(nat), ..pool("ppp", GroupService::Pppoe, "10.0.0.10-10.0.0.13", "10.0.0.1") }
}

/// DHCP: eight addresses around the gateway.
pub(super) fn dhcp_pool() -> Pool {
    pool("dhcp", GroupService::Dhcp, "10.0.1.1-10.0.1.9", "10.0.1.5")
}

pub(super) fn subscriber(username: &str, address: Option<&str>) -> Subscriber {
    Subscriber {
        username: username.to_owned(),
        password: Secret::new("pw"),
        rate: None,
        address: address.map(ip),
        pool: None,
    }
}

pub(super) fn api_user(username: &str, role: ApiRole) -> ApiUser {
    ApiUser::new(username, Secret::new("hash"), role)
}

pub(super) fn bootstrap() -> Bootstrap {
    Bootstrap {
        level: 1,
        cluster_id: ClusterId("test".to_owned()),
        nodes: vec![node(1, NodeRole::Data), node(2, NodeRole::Data), node(3, NodeRole::Witness)],
        groups: vec![group(1)],
        pools: vec![ppp_pool(), dhcp_pool()],
        subscribers: vec![],
        api_users: vec![api_user("admin", ApiRole::admin())],
        jwt_secret: Secret::new("jwt"),
        cookie_key: [1; 32],
    }
}

pub(super) fn at(n: u8) -> Attachment {
    Attachment {
        port: PortId(1),
        vlans: Vlans { outer: 100, inner: 0 },
        mac: MacAddr([2, 0, 0, 0, 0, n]),
    }
}

pub(super) fn pppoe(n: u8, sid: u16, username: &str) -> SessionOp {
    SessionOp::PppoeUp {
        attachment: at(n),
        sid,
        username: username.to_owned(),
        local_magic: 1,
        peer_magic: 2,
        mtu: 1492,
        mru: 1492,
        rate: None,
        address: None,
        pool: None,
    }
}

pub(super) fn pppoe_at(n: u8, sid: u16, username: &str, wanted: &str) -> SessionOp {
    let mut op = pppoe(n, sid, username);
    if let SessionOp::PppoeUp { address, .. } = &mut op {
        *address = Some(ip(wanted));
    }
    op
}

pub(super) fn lease(n: u8, client_id: &[u8], wanted: Option<&str>) -> SessionOp {
    SessionOp::LeaseGrant {
        attachment: at(n),
        client_id: client_id.to_vec(),
        hostname: String::new(),
        relay_info: vec![],
        address: wanted.map(ip),
        lease_s: 600,
        pool: None,
    }
}

/// A state with the log that made it.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) state: State,
    pub(super) index: u64,
    pub(super) now_s: u64,
    pub(super) changes: Vec<Change>,
}

impl Cluster {
    pub(super) fn empty() -> Self {
        Self { state: State::new(), index: 0, now_s: 1000, changes: vec![] }
    }

    /// Bootstrapped, with the group owned by node A at epoch 1.
    pub(super) fn new() -> Self {
        let mut cluster = Self::empty();
        let reply = cluster.run(Command::Bootstrap(Box::new(bootstrap())));
        assert_eq!(reply, Reply::Done);
        let acquired = cluster.run(Command::Acquire { group: EAST, node: A, epoch: Epoch(1) });
        assert!(matches!(acquired, Reply::Acquired { .. }), "{acquired:?}");
        cluster
    }

    pub(super) fn run_as(&mut self, client: Option<(u64, u64)>, command: Command) -> Reply {
        self.index += 1;
        let at = UnixMs(self.now_s * 1000);
        let entry = Entry { at, client, trace: None, command };
        let (reply, changes) = self.state.apply(Revision(self.index), &entry);
        self.changes = changes;
        check(&self.state);
        reply
    }

    pub(super) fn run(&mut self, command: Command) -> Reply {
        self.run_as(None, command)
    }

    #[track_caller]
    pub(super) fn done(&mut self, command: Command) {
        let text = format!("{command:?}");
        assert_eq!(self.run(command), Reply::Done, "{text}");
    }

    /// Runs a command that must be refused, and makes sure that nothing but the log position
    /// changed.
    #[track_caller]
    pub(super) fn refused(&mut self, command: Command) -> Refusal {
        let text = format!("{command:?}");
        let mut before = self.state.clone();
        let Reply::Refused(refusal) = self.run(command) else { panic!("{text} was not refused") };
        before.advance(Revision(self.index));
        before.time = self.state.time;
        assert_eq!(before.digest(), self.state.digest(), "{text} changed something");
        assert_eq!(self.changes, [], "{text}");
        refusal
    }

    pub(super) fn ops_as(&mut self, node: NodeId, epoch: u64, ops: Vec<SessionOp>) -> Vec<OpReply> {
        let batch = SessionBatch { group: EAST, node, epoch: Epoch(epoch), ops };
        let Reply::Sessions(replies) = self.run(Command::Sessions(batch)) else {
            panic!("no batch")
        };
        replies
    }

    pub(super) fn op(&mut self, op: SessionOp) -> OpReply {
        let mut replies = self.ops_as(A, 1, vec![op]);
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    #[track_caller]
    pub(super) fn up(&mut self, op: SessionOp) -> Arc<Session> {
        let text = format!("{op:?}");
        match self.op(op) {
            OpReply::Session(session) => session,
            other @ (OpReply::Done | OpReply::Refused(_)) => panic!("{text}: {other:?}"),
        }
    }

    /// Runs an operation that must be refused and change nothing.
    #[track_caller]
    pub(super) fn op_refused(&mut self, op: SessionOp) -> Refusal {
        let text = format!("{op:?}");
        let mut before = self.state.clone();
        let OpReply::Refused(refusal) = self.op(op) else { panic!("{text} was not refused") };
        before.advance(Revision(self.index));
        before.time = self.state.time;
        assert_eq!(before.digest(), self.state.digest(), "{text} changed something");
        refusal
    }

    pub(super) fn down(&mut self, session: SessionId) {
        let reason = model::DownReason::UserRequest;
        assert_eq!(self.op(SessionOp::Down { session, reason }), OpReply::Done);
    }
}

/// Checks everything that must hold between the parts of any state.
#[track_caller]
pub(super) fn check(state: &State) {
    let sessions: Vec<_> = state.sessions().collect();
    let count = sessions.len();
    let (mut sids, mut leases, mut statics, mut blocks) = (0, 0, 0, Vec::new());
    for session in &sessions {
        let Session { id, group, attachment, address, .. } = ***session;
        assert_eq!(state.session_by_address(address).map(|s| s.id), Some(id), "address index");
        assert!(state.by_group.contains(&(group, id)), "group index");
        assert!(state.by_attachment.contains(&(group, attachment, id)), "attachment index");
        match &session.kind {
            SessionKind::Pppoe(pppoe) => {
                sids += 1;
                assert_eq!(state.session_by_pppoe(group, pppoe.sid).map(|s| s.id), Some(id));
                assert!(!state.sid_free(group, pppoe.sid), "sid {} is free", pppoe.sid);
            }
            SessionKind::Dhcp(lease) => {
                leases += 1;
                let key = ClientKey::new(group, &lease.client_id, &attachment);
                assert_eq!(state.by_client.get(&key), Some(&id), "client index");
                assert!(state.by_end.contains(&(lease.expires_at, id)), "lease end index");
            }
            SessionKind::Static(fixed) => {
                statics += 1;
                assert_eq!(state.static_by_address(address).map(|s| s.id), Some(id));
                assert!(!attachment.is_known() || fixed.admits(&attachment), "{session:?}");
            }
        }
        let pool = state.pool(&session.pool).expect("a session's pool exists");
        assert!(!state.gateways.contains_key(&address), "{address} is a gateway");
        assert_eq!(session.nat.is_some(), pool.nat.is_some(), "{id}");
        if let Some(block) = session.nat {
            assert!(state.nat_space(&pool.name).unwrap().has_taken(block), "block of {id}");
            blocks.push((block.public, block.first_port, block.last_port));
            let by_nat = |port| state.session_by_nat(block.public, port).map(|s| s.id);
            assert_eq!(by_nat(block.first_port), Some(id));
            assert_eq!(by_nat(block.last_port), Some(id));
        }
    }
    assert_eq!(state.by_address.len(), count, "an address has one holder");
    blocks.sort_unstable();
    for pair in blocks.windows(2) {
        let ((public, _, last), (next, first, _)) = (pair[0], pair[1]);
        assert!(public < next || last < first, "blocks overlap: {pair:?}");
    }
    assert_eq!((state.by_group.len(), state.by_attachment.len()), (count, count));
    assert_eq!(state.by_sid.len(), sids);
    assert_eq!(state.statics().count(), statics);
    assert_eq!((state.by_client.len(), state.by_end.len()), (leases, leases));
    assert_eq!(state.declined.len(), state.declined_by_end.len());
    check_pools(state);
    check_documents(state);
}

#[track_caller]
fn check_documents(state: &State) {
    for collection in Collection::ALL {
        let limits = collection.limits();
        let octets: usize = state.documents(collection).map(|(_, doc)| doc.value.len()).sum();
        assert_eq!(state.document_octets(collection), octets as u64, "{collection}");
        assert!(octets as u64 <= limits.total_octets_max, "{collection} has {octets} octets");
        assert!(state.document_count(collection) <= limits.documents_max, "{collection}");
    }
}

#[track_caller]
fn check_pools(state: &State) {
    for pool in state.pools.values() {
        let name = &pool.pool.name;
        let of_pool = state.sessions().filter(|session| session.pool == *name).count() as u64;
        assert_eq!(pool.sessions, of_pool, "sessions of {name}");
        let mut free = 0;
        for n in 0..pool.pool.range.count() {
            let address = pool.pool.range.nth(n).unwrap();
            assert_eq!(pool.is_free(address), state.is_available(address), "{address} in {name}");
            free += u64::from(pool.is_free(address));
        }
        assert_eq!(pool.usage().free, free, "an address is fresh or freed, not both");
        let used = state.sessions().filter(|session| {
            session.nat.is_some() && state.pool(&session.pool).unwrap().nat == pool.pool.nat
        });
        let usage = state.nat_usage(name);
        assert_eq!(usage.map(|usage| usage.used), usage.map(|_| used.count() as u64), "blocks");
    }
    for group in state.groups() {
        let used = state.by_sid.keys().filter(|(id, _)| *id == group.id).count() as u64;
        assert_eq!(state.free_sids.get(&group.id).unwrap().count(), 0xfffe - used);
    }
}
