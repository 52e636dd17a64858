//! A node of a two-node cluster that lives in memory. Also used by the tests of `bngctl`.

#[path = "fake_auth.rs"]
pub(crate) mod auth;
#[path = "fake_config.rs"]
mod config;
#[path = "fake_events.rs"]
mod events;
#[path = "fake_network.rs"]
mod network;
#[path = "fake_policy.rs"]
pub(crate) mod policy;

use api::types::*;
use api::{
    AccessCounts, ApiError, BootstrapAuth, Caller, JoinTicket, Meta, ReadLevel, Reply, Service,
};
use model::{
    BanScope, ClusterId, Epoch, Fence, GroupId, GroupService, Ipv4Net, MacAddr, NodeId, NodeRole,
    Revision, Secret, SessionId, Tick, UnixMs,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) const BOOTSTRAP: &str = "bootstrap-token-of-this-node";
pub(crate) const JOIN_SECRET: &str = "join-secret";
pub(crate) const START: UnixMs = UnixMs(1_700_000_000_000);

/// What a test sets and looks at.
pub(crate) struct State {
    pub(crate) initialised: bool,
    pub(crate) has_leader: bool,
    /// Reads and writes of subscribers never come back.
    pub(crate) hangs: bool,
    /// How many hang.
    pub(crate) hanging: usize,
    pub(crate) now: UnixMs,
    pub(crate) tick: Tick,
    pub(crate) revision: u64,
    pub(crate) owner: &'static str,
    /// Stays at 4 until a test moves it; failovers answer 5.
    pub(crate) epoch: u64,
    pub(crate) sessions: BTreeMap<SessionId, SubscriberDetail>,
    pub(crate) statics: BTreeMap<Ipv4Addr, policy::StaticSubscriber>,
    pub(crate) bans: BTreeSet<(Ipv4Net, BanScope)>,
    /// Opens the PureNAS dialect.
    pub(crate) purenas_key: Option<&'static str>,
    /// One line per write, and per read with its level.
    pub(crate) calls: Vec<String>,
    pub(crate) access: auth::Access,
    /// As of the last scrape.
    pub(crate) counts: AccessCounts,
}

pub(crate) struct Fake(Mutex<State>);

fn session(id: u64) -> SubscriberDetail {
    let is_pppoe = id % 2 == 1;
    let last = u8::try_from(id).expect("tests use few sessions");
    SubscriberDetail {
        id: SessionId(id),
        session_type: if is_pppoe { SessionType::Pppoe } else { SessionType::Dhcp },
        state: "active".into(),
        username: if is_pppoe { format!("user{id}") } else { format!("02:00:00:00:00:{last:02x}") },
        mac_address: MacAddr([2, 0, 0, 0, 0, last]),
        ip_address: Ipv4Addr::new(100, 64, 0, last),
        gateway: Some(Ipv4Addr::new(100, 64, 0, 254)),
        access_interface: format!("port1.100.{id}"),
        ppp_interface: None,
        rate_down_bps: 100_000_000,
        rate_up_bps: 20_000_000,
        overhead_profile: None,
        vrf_steered: false,
        acct_session_id: format!("tandem-1700000000-{id}"),
        started_at: START.as_secs(),
        bytes_in: 1_234_567,
        bytes_out: 7_654_321,
        packets_in: 1000,
        packets_out: 6000,
        group: "south".into(),
        node: Some("bng1".into()),
        pool: "res".into(),
        vlan_outer: 100,
        vlan_inner: u16::from(last),
        pppoe_session_id: is_pppoe.then(|| u16::from(last)),
        lease_expires_at: (!is_pppoe).then(|| START.as_secs() + 3600),
        hostname: (!is_pppoe).then(|| "router".into()),
        nat: Some(NatBlockInfo {
            public: Ipv4Addr::new(203, 0, 113, 1),
            first_port: 1024,
            last_port: 2047,
        }),
        created_revision: Revision(10 + id),
        modified_revision: Revision(20 + id),
    }
}

fn addr(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn member(id: u8, name: &str, role: NodeRole) -> Member {
    Member {
        id: NodeId(u64::from(id)),
        name: name.into(),
        role,
        raft_addr: addr(id, 8444),
        lease_addr: addr(id, 8445),
        api_addr: addr(id, 8443),
        voter: true,
    }
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            initialised: true,
            has_leader: true,
            hangs: false,
            hanging: 0,
            now: START,
            tick: Tick::ZERO,
            revision: 42,
            owner: "bng1",
            epoch: 4,
            sessions: (1..=3).map(|id| (SessionId(id), session(id))).collect(),
            statics: BTreeMap::new(),
            bans: BTreeSet::new(),
            purenas_key: None,
            calls: vec![],
            access: auth::Access::default(),
            counts: AccessCounts::default(),
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Refuses without a leader; else the revision that a write makes.
    fn write(&self, what: &str, caller: &Caller) -> Result<Meta, ApiError> {
        let mut state = self.state();
        if !state.has_leader {
            return Err(ApiError::NoLeader { retry_after_s: 2 });
        }
        let key = caller.idempotency_key.as_deref().unwrap_or("-");
        state.calls.push(format!("{what} by {} key {key}", caller.username));
        state.revision += 1;
        Ok(Meta::at(Revision(state.revision)))
    }

    async fn read(&self, what: &str, level: ReadLevel) -> Result<Meta, ApiError> {
        if self.state().hangs {
            self.state().hanging += 1;
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        state.calls.push(format!("{what} {level:?}"));
        match level {
            ReadLevel::Linearizable if !state.has_leader => {
                Err(ApiError::NoLeader { retry_after_s: 2 })
            }
            ReadLevel::Linearizable | ReadLevel::Local => Ok(Meta::at(Revision(state.revision))),
        }
    }

    fn find(&self, id: SessionId) -> Result<SubscriberDetail, ApiError> {
        let found = self.state().sessions.get(&id).cloned();
        found.ok_or_else(|| ApiError::not_found(format!("subscriber {id}")))
    }
}

impl Service for Fake {
    fn now(&self) -> UnixMs {
        self.state().now
    }

    fn tick(&self) -> Tick {
        self.state().tick
    }

    fn jwt_secret(&self) -> Option<Secret> {
        self.state().initialised.then(|| Secret::new("0123456789abcdef0123456789abcdef"))
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.state().initialised.then(|| ClusterId("c-1".into()))
    }

    fn check_bootstrap(&self, token: &str) -> Result<(), ApiError> {
        if self.state().initialised {
            Err(ApiError::AlreadyInitialised)
        } else if token == BOOTSTRAP {
            Ok(())
        } else {
            Err(ApiError::Unauthorized)
        }
    }

    async fn health(&self) -> Health {
        let state = self.state();
        Health {
            status: if state.initialised { HealthStatus::Ok } else { HealthStatus::Uninitialised },
            node: "bng1".into(),
            initialised: state.initialised,
            has_leader: state.has_leader,
            uptime_s: 60,
            sessions: 3,
        }
    }

    async fn metrics_text(&self, access: AccessCounts) -> String {
        self.state().counts = access;
        "# TYPE tandem_sessions gauge\ntandem_sessions 3\n# EOF\n".into()
    }

    async fn subscribers(
        &self,
        query: SubscriberQuery,
        level: ReadLevel,
    ) -> Reply<Vec<SubscriberSummary>> {
        let meta = self.read("subscribers", level).await?;
        let wanted = query.service.map(SessionType::from);
        let state = self.state();
        let list = state.sessions.values().filter(|s| {
            wanted.is_none_or(|w| w == s.session_type)
                && query.after.is_none_or(|id| s.id > id)
                && query.username.as_ref().is_none_or(|u| *u == s.username)
                && query.ip.is_none_or(|ip| ip == s.ip_address)
                && query.mac.is_none_or(|mac| mac == s.mac_address)
        });
        let list = list.take(usize::try_from(query.limit()).unwrap()).map(|s| SubscriberSummary {
            id: s.id,
            session_type: s.session_type,
            username: s.username.clone(),
            ip_address: s.ip_address,
            mac_address: s.mac_address,
            interface: s.access_interface.clone(),
            group: s.group.clone(),
            rate_down: s.rate_down_bps,
            rate_up: s.rate_up_bps,
            state: s.state.clone(),
            started_at: s.started_at,
        });
        Ok((list.collect(), meta))
    }

    async fn summary(&self, level: ReadLevel) -> Reply<SubscriberTotals> {
        let meta = self.read("summary", level).await?;
        let of = |service: GroupService| {
            let wanted = SessionType::from(service);
            let count = self.state().sessions.values().filter(|s| s.session_type == wanted).count();
            u64::try_from(count).unwrap()
        };
        let (pppoe, dhcp) = (of(GroupService::Pppoe), of(GroupService::Dhcp));
        Ok((SubscriberTotals { total: pppoe + dhcp, pppoe, dhcp, statics: 0 }, meta))
    }

    async fn subscriber(&self, id: SessionId, level: ReadLevel) -> Reply<SubscriberDetail> {
        let meta = self.read("subscriber", level).await?;
        Ok((self.find(id)?, meta))
    }

    async fn disconnect(&self, id: SessionId, caller: Caller) -> Reply<Disconnected> {
        self.find(id)?;
        let meta = self.write(&format!("disconnect {id}"), &caller)?;
        self.state().sessions.remove(&id);
        Ok((Disconnected { id, reason: "admin_reset".into() }, meta))
    }

    async fn set_rate(
        &self,
        id: SessionId,
        request: RateRequest,
        caller: Caller,
    ) -> Reply<RateChanged> {
        self.find(id)?;
        let RateRequest { rate_down, rate_up } = request;
        let meta = self.write(&format!("rate {id} {rate_down}/{rate_up}"), &caller)?;
        Ok((RateChanged { id, rate_down, rate_up }, meta))
    }

    async fn cluster(&self) -> Result<ClusterStatus, ApiError> {
        let state = self.state();
        let node = |id: u8, name: &str, role, raft_state, lag: u64| NodeStatus {
            id: NodeId(u64::from(id)),
            name: name.into(),
            role,
            api_addr: addr(id, 8443),
            raft_state,
            voter: true,
            reachable: lag < 100,
            applied: Some(state.revision - lag.min(20)),
            lag: Some(lag),
        };
        let ready = |name: &str| {
            let fence = if name == state.owner { Fence::Open } else { Fence::Shut };
            GroupNodeStatus {
                name: name.into(),
                programmed_revision: Some(Revision(state.revision)),
                eligible: true,
                fence: Some(fence),
            }
        };
        Ok(ClusterStatus {
            cluster_id: ClusterId("c-1".into()),
            leader: state.has_leader.then(|| "wit".to_owned()),
            term: 7,
            revision: Revision(state.revision),
            nodes: vec![
                node(1, "bng1", NodeRole::Data, RaftState::Follower, 0),
                node(2, "bng2", NodeRole::Data, RaftState::Follower, 1),
                node(3, "wit", NodeRole::Witness, RaftState::Leader, 0),
            ],
            groups: vec![GroupStatus {
                id: GroupId(1),
                name: "south".into(),
                vrid: 51,
                virtual_mac: MacAddr::virtual_router(51),
                owner: Some(state.owner.into()),
                epoch: Epoch(state.epoch),
                fence: Some(Fence::Open),
                revision: Revision(state.revision),
                sessions: SessionCounts { pppoe: 2, dhcp: 1, statics: 0 },
                nodes: vec![ready("bng1"), ready("bng2")],
            }],
        })
    }

    async fn members(&self) -> Result<Vec<Member>, ApiError> {
        Ok(vec![
            member(1, "bng1", NodeRole::Data),
            member(2, "bng2", NodeRole::Data),
            member(3, "wit", NodeRole::Witness),
        ])
    }

    async fn cluster_init(
        &self,
        request: InitRequest,
        auth: BootstrapAuth,
    ) -> Result<InitResponse, ApiError> {
        let plan = request.plan().map_err(|errors| ApiError::Invalid { errors })?;
        let mut state = self.state();
        let key = auth.idempotency_key.as_deref().unwrap_or("-");
        state.calls.push(format!("init {} key {key}", plan.cluster_name));
        state.initialised = true;
        Ok(InitResponse {
            cluster_id: ClusterId("c-1".into()),
            node_id: NodeId(1),
            ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
            ca_fingerprint: "ab".repeat(32),
        })
    }

    async fn join_token(&self, request: JoinTokenRequest, caller: Caller) -> Reply<JoinToken> {
        let meta = self.write(
            &format!("join-token {:?} {} {:?}", request.name, request.ttl_s(), request.role()),
            &caller,
        )?;
        let ticket = JoinTicket {
            secret: Secret::new(JOIN_SECRET),
            cluster_id: ClusterId("c-1".into()),
            ca_fingerprint: "ab".repeat(32),
            api_addrs: vec![addr(1, 8443)],
        };
        let expires_at = START.as_secs() + u64::from(request.ttl_s());
        Ok((JoinToken { token: ticket.encode(), expires_at }, meta))
    }

    async fn cluster_join(
        &self,
        request: JoinRequest,
        _auth: BootstrapAuth,
    ) -> Result<JoinResponse, ApiError> {
        let ticket = JoinTicket::decode(request.token.expose())
            .map_err(|e| ApiError::invalid("token", e.to_string()))?;
        self.state().initialised = true;
        Ok(JoinResponse { cluster_id: ticket.cluster_id, node_id: NodeId(4) })
    }

    async fn admit(&self, request: AdmitRequest) -> Result<AdmitResponse, ApiError> {
        if request.token.expose() != JOIN_SECRET {
            return Err(ApiError::Unauthorized);
        }
        Ok(AdmitResponse {
            node_id: NodeId(4),
            cluster_id: ClusterId("c-1".into()),
            ca_pem: "ca".into(),
            cert_pem: "cert".into(),
            peers: self.members().await?,
        })
    }

    async fn remove_member(&self, id: NodeId, caller: Caller) -> Reply<RemovedMember> {
        let members = self.members().await?;
        let member = members.into_iter().find(|m| m.id == id);
        let name = member.ok_or_else(|| ApiError::not_found(format!("member {id}")))?.name;
        let meta = self.write(&format!("remove {id}"), &caller)?;
        Ok((RemovedMember { id, name }, meta))
    }

    async fn failover(
        &self,
        group: String,
        request: FailoverRequest,
        caller: Caller,
    ) -> Reply<FailoverResponse> {
        if group != "south" {
            return Err(ApiError::not_found(format!("group {group}")));
        }
        let to = match request.to.as_deref() {
            None | Some("bng2") => "bng2",
            Some("bng1") => "bng1",
            Some("wit") => {
                let message = "node wit is a witness".into();
                return Err(ApiError::NotEligible { message });
            }
            Some(other) => return Err(ApiError::not_found(format!("node {other}"))),
        };
        let meta = self.write(&format!("failover {group} {to}"), &caller)?;
        let from = std::mem::replace(&mut self.state().owner, to);
        let (from, to) = (Some(from.into()), to.into());
        Ok((FailoverResponse { group, from, to, epoch: Epoch(5), took_ms: 12 }, meta))
    }

    async fn version(&self) -> Version {
        Version {
            product: "tandem".into(),
            version: "0.1.0".into(),
            api: "v1".into(),
            node: "bng1".into(),
            kernel: "6.18.0".into(),
        }
    }
}
