//! The API contract carried out by this node.

mod auth;
mod config;
mod events;
mod network;
mod policy;
mod view;

pub use auth::hash_user;
pub(crate) use view::{group_name, interface, state_name, totals};

use crate::clock;
use crate::daemon::Daemon;
use crate::management::audit::{Act, Journal, Who, Write, WriteError};
use crate::member::Member;
use crate::metrics;
use crate::ownership::{self, SwitchError};
use crate::peer;
use api::types::{
    self, AdmitRequest, AdmitResponse, ClusterStatus, Disconnected, FailoverRequest,
    FailoverResponse, Health, HealthStatus, InitRequest, InitResponse, JoinRequest, JoinResponse,
    JoinToken, JoinTokenRequest, RateChanged, RateRequest, RemovedMember, SubscriberDetail,
    SubscriberQuery, SubscriberSummary, SubscriberTotals, Version,
};
use api::{AccessCounts, ApiError, BootstrapAuth, Caller, JoinTicket, Meta, ReadLevel, Service};
use auth::Hasher;
use model::{ClusterId, DownReason, Node, NodeId, Rate, Secret, Session, SessionId, Tick, UnixMs};
use raft_store::{Command, Committed, ProposeError, Refusal, Reply, State};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long other nodes have to answer for the status display.
const STATUS_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a planned switch may take until the new owner's fence is open.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

type Answer<T> = Result<(T, Meta), ApiError>;

/// [`Service`] over the running daemon.
pub struct Api {
    daemon: Arc<Daemon>,
    hasher: Hasher,
    /// When this node last saw an API key, in seconds since 1970. It stays on this node: an entry
    /// of the log for each request would be more than the requests themselves.
    keys_used: Mutex<BTreeMap<String, u64>>,
}

impl Api {
    /// The API of a daemon.
    #[must_use]
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, hasher: Hasher::new(), keys_used: Mutex::default() }
    }

    fn member(&self) -> Result<&Arc<Member>, ApiError> {
        self.daemon.member.get().ok_or(ApiError::NotInitialised)
    }

    /// The state to answer a read from.
    async fn read(&self, level: ReadLevel) -> Result<Arc<State>, ApiError> {
        let store = &self.member()?.local.store;
        if level == ReadLevel::Linearizable {
            store.read_index().await.map_err(|e| propose_error(&e))?;
        }
        Ok(store.state())
    }

    fn journal(&self) -> Result<Journal, ApiError> {
        Ok(Journal::new(&self.member()?.local))
    }

    /// Carries out a write together with its audit record.
    async fn commit(
        &self,
        who: &Who,
        write: impl Into<Write> + Send,
        act: Act,
    ) -> Result<Committed, WriteError> {
        self.journal().map_err(WriteError::Failed)?.commit(who, write, act).await
    }

    /// Proposes what is not worth a record.
    async fn propose(
        &self,
        command: Command,
        client: Option<(u64, u64)>,
    ) -> Result<Committed, WriteError> {
        self.journal().map_err(WriteError::Failed)?.propose(command, client).await
    }
}

pub(crate) fn propose_error(error: &ProposeError) -> ApiError {
    match error {
        ProposeError::NoLeader { .. } => ApiError::NoLeader { retry_after_s: 1 },
        ProposeError::Timeout => ApiError::Timeout,
        ProposeError::Overloaded { .. } => ApiError::Overloaded { retry_after_s: 1 },
        ProposeError::Stopped => internal("the store has stopped"),
    }
}

pub(crate) fn refused(refusal: &Refusal) -> ApiError {
    match refusal {
        Refusal::UnknownSession => ApiError::not_found("subscriber"),
        Refusal::UnknownGroup => ApiError::not_found("group"),
        Refusal::UnknownPool => ApiError::not_found("pool"),
        Refusal::UnknownNode => ApiError::not_found("member"),
        Refusal::UnknownStatic => ApiError::not_found("static subscriber"),
        Refusal::UnknownBan => ApiError::not_found("ban"),
        Refusal::UnknownSubscriber | Refusal::UnknownApiUser => ApiError::not_found("user"),
        Refusal::DocumentUnknown { collection, .. } => ApiError::not_found(collection.label()),
        Refusal::InvalidToken => ApiError::Unauthorized,
        Refusal::AlreadyBootstrapped => ApiError::AlreadyInitialised,
        Refusal::NotBootstrapped => ApiError::NotInitialised,
        Refusal::Invalid(message) => ApiError::invalid("", message.clone()),
        Refusal::StaleEpoch { .. }
        | Refusal::PoolExhausted { .. }
        | Refusal::NatExhausted { .. }
        | Refusal::AddressTaken
        | Refusal::AddressOutsidePool
        | Refusal::SessionIdTaken
        | Refusal::NotADataNode
        | Refusal::LevelTooLow
        | Refusal::InUse(_)
        | Refusal::BoundElsewhere
        | Refusal::SequenceTooOld
        | Refusal::DocumentConflict { .. }
        | Refusal::CollectionFull { .. }
        | Refusal::ApiUserConflict { .. } => ApiError::conflict(refusal.to_string()),
    }
}

/// Compares by digests of equal length, which tells nothing of the secret.
pub(crate) fn same_secret(given: &str, right: &str) -> bool {
    Sha256::digest(given) == Sha256::digest(right)
}

/// A fault of this node; the cause goes to the log.
pub(crate) fn internal(cause: impl std::fmt::Display) -> ApiError {
    ApiError::internal(cause.to_string())
}

fn session_json(session: Option<&Arc<Session>>) -> Value {
    session.map_or(Value::Null, |s| {
        json!({
            "username": s.username, "address": s.address, "group": s.group,
            "rate_down": s.rate.down_bps, "rate_up": s.rate.up_bps,
        })
    })
}

impl Service for Api {
    /// Replicated time, so that a token is good on every node, whatever their wall clocks say.
    fn now(&self) -> UnixMs {
        self.daemon.member.get().map_or_else(clock::wall, |m| m.local.store.now())
    }

    fn tick(&self) -> Tick {
        clock::now()
    }

    fn jwt_secret(&self) -> Option<Secret> {
        let member = self.daemon.member.get()?;
        let given = self.daemon.api_secret.clone();
        given.or_else(|| member.local.store.state().jwt_secret().cloned())
    }

    fn cluster_id(&self) -> Option<ClusterId> {
        self.daemon.member.get().map(|m| m.identity.cluster_id.clone())
    }

    fn check_bootstrap(&self, token: &str) -> Result<(), ApiError> {
        if self.daemon.member.get().is_some() {
            return Err(ApiError::AlreadyInitialised);
        }
        if same_secret(token, self.daemon.bootstrap.expose()) {
            Ok(())
        } else {
            Err(ApiError::Unauthorized)
        }
    }

    async fn health(&self) -> Health {
        let uptime_s = clock::now().since(self.daemon.started).as_secs();
        let node = self.daemon.config.name.clone();
        let Some(member) = self.daemon.member.get() else {
            let status = HealthStatus::Uninitialised;
            return Health {
                status,
                node,
                initialised: false,
                has_leader: false,
                uptime_s,
                sessions: 0,
            };
        };
        let has_leader = member.local.store.status().borrow().leader.is_some();
        let healthy = has_leader && member.local.fitness.refusal().is_none();
        Health {
            status: if healthy { HealthStatus::Ok } else { HealthStatus::Degraded },
            node,
            initialised: true,
            has_leader,
            uptime_s,
            sessions: u64::try_from(member.local.store.state().sessions().len())
                .unwrap_or(u64::MAX),
        }
    }

    async fn metrics_text(&self, access: AccessCounts) -> String {
        metrics::text(&self.daemon, &access)
    }

    async fn subscribers(
        &self,
        query: SubscriberQuery,
        level: ReadLevel,
    ) -> Answer<Vec<SubscriberSummary>> {
        let state = self.read(level).await?;
        Ok((view::subscribers(&state, &query), Meta::at(state.applied())))
    }

    async fn summary(&self, level: ReadLevel) -> Answer<SubscriberTotals> {
        let state = self.read(level).await?;
        Ok((view::totals(state.sessions()), Meta::at(state.applied())))
    }

    async fn subscriber(&self, id: SessionId, level: ReadLevel) -> Answer<SubscriberDetail> {
        let state = self.read(level).await?;
        let session =
            state.session(id).ok_or_else(|| ApiError::not_found(format!("subscriber {id}")))?;
        let counters = self.member()?.traffic.read(session, level).await;
        Ok((view::subscriber(&state, session, counters), Meta::at(state.applied())))
    }

    async fn disconnect(&self, id: SessionId, caller: Caller) -> Answer<Disconnected> {
        let reason = DownReason::AdminReset;
        let command = Command::Disconnect { session: id, reason };
        let state = self.member()?.local.store.state();
        let act = Act::new("session.disconnect", format!("session/{id}"))
            .before(session_json(state.session(id)));
        let committed = self.commit(&(&caller).into(), command, act).await?;
        tracing::info!(event = "TANDEM-SESSION-RESET", session = %id, by = caller.username, "session ended by an operator");
        Ok((Disconnected { id, reason: reason.label().to_owned() }, Meta::at(committed.revision)))
    }

    async fn set_rate(
        &self,
        id: SessionId,
        request: RateRequest,
        caller: Caller,
    ) -> Answer<RateChanged> {
        let rate = Rate { down_bps: request.rate_down, up_bps: request.rate_up };
        let state = self.member()?.local.store.state();
        let act = Act::new("session.rate", format!("session/{id}"))
            .before(session_json(state.session(id)))
            .after(json!({ "rate_down": rate.down_bps, "rate_up": rate.up_bps }));
        let command = Command::SetRate { session: id, rate };
        let committed = self.commit(&(&caller).into(), command, act).await?;
        let changed = RateChanged { id, rate_down: rate.down_bps, rate_up: rate.up_bps };
        Ok((changed, Meta::at(committed.revision)))
    }

    async fn cluster(&self) -> Result<ClusterStatus, ApiError> {
        let member = self.member()?;
        let nodes = member.local.store.state().nodes().map(|n| n.id).collect();
        let statuses = ownership::statuses(&member.local, nodes, STATUS_TIMEOUT).await;
        Ok(view::cluster(member, &statuses))
    }

    async fn members(&self) -> Result<Vec<types::Member>, ApiError> {
        Ok(view::members(self.member()?))
    }

    async fn cluster_init(
        &self,
        request: InitRequest,
        _auth: BootstrapAuth,
    ) -> Result<InitResponse, ApiError> {
        let plan = request.plan().map_err(|errors| ApiError::Invalid { errors })?;
        self.daemon.init(plan).await
    }

    async fn join_token(&self, request: JoinTokenRequest, caller: Caller) -> Answer<JoinToken> {
        let member = self.member()?;
        let secret = hex::encode(self.secret_for(&caller, "join-token")?);
        let expires_at = member.local.store.now().plus_secs(u64::from(request.ttl_s()));
        let command = Command::PutJoinToken {
            hash: token_hash(&secret, request.name.as_deref()),
            role: request.role(),
            expires_at,
        };
        let act = Act::new("cluster.join_token", "cluster/join-token").after(json!({
            "name": request.name, "role": request.role(), "expires_at": expires_at.as_secs(),
        }));
        let committed = self.commit(&(&caller).into(), command, act).await?;
        let ticket = JoinTicket {
            secret: Secret::new(secret),
            cluster_id: member.identity.cluster_id.clone(),
            ca_fingerprint: raft_store::fingerprint(&member.identity.ca_pem),
            api_addrs: member.local.store.state().nodes().map(|n| n.api_addr).collect(),
        };
        let token = JoinToken { token: ticket.encode(), expires_at: expires_at.as_secs() };
        Ok((token, Meta::at(committed.revision)))
    }

    async fn cluster_join(
        &self,
        request: JoinRequest,
        _auth: BootstrapAuth,
    ) -> Result<JoinResponse, ApiError> {
        let ticket = JoinTicket::decode(request.token.expose())
            .map_err(|e| ApiError::invalid("token", e.to_string()))?;
        self.daemon.join(ticket).await
    }

    async fn admit(&self, request: AdmitRequest) -> Result<AdmitResponse, ApiError> {
        let member = self.member()?;
        let ca = member.ca.get().ok_or_else(|| {
            ApiError::conflict(
                "this node does not hold the cluster's authority; ask another member",
            )
        })?;
        if member.local.store.state().nodes().any(|n| n.name == request.name) {
            let message = format!(
                "a member is called {:?} already; remove it first, or give another node.name",
                request.name
            );
            return Err(ApiError::conflict(message));
        }
        let node = Node {
            id: NodeId(0),
            name: request.name.clone(),
            role: request.role,
            raft_addr: request.raft_addr,
            lease_addr: request.lease_addr,
            api_addr: request.api_addr,
        };
        let secret = request.token.expose();
        // A token for one name has another digest than one for any: the log need not know names.
        let named = token_hash(secret, Some(&request.name));
        let bound = member.local.store.state().join_token(&named).is_some();
        let hash = if bound { named } else { token_hash(secret, None) };
        let command = Command::UseJoinToken { hash, node };
        let committed = self.propose(command, None).await?;
        let Reply::NodeId(node_id) = committed.reply else {
            return Err(internal("the log gave no node id"));
        };
        let addresses =
            [request.api_addr.ip(), request.raft_addr.ip(), std::net::Ipv4Addr::LOCALHOST.into()];
        let cluster_id = member.identity.cluster_id.clone();
        let cert_pem =
            ca.sign_csr(&request.csr_pem, node_id, &cluster_id, &addresses).map_err(internal)?;
        tracing::info!(event = "TANDEM-NODE-ADMITTED", node = %node_id, name = request.name, "node admitted");
        let peers = view::members(member).into_iter().filter(|m| m.id != node_id).collect();
        Ok(AdmitResponse { node_id, cluster_id, ca_pem: ca.cert_pem.clone(), cert_pem, peers })
    }

    async fn remove_member(&self, id: NodeId, caller: Caller) -> Answer<RemovedMember> {
        let name = self.member()?.local.store.state().node(id).map(|n| n.name.clone());
        let name = name.ok_or_else(|| ApiError::not_found(format!("member {id}")))?;
        let act = Act::new("member.remove", format!("member/{id}")).before(json!({ "name": name }));
        let committed = self.commit(&(&caller).into(), Command::RemoveNode(id), act).await?;
        tracing::info!(event = "TANDEM-NODE-REMOVED", node = %id, by = caller.username, "node removed");
        Ok((RemovedMember { id, name }, Meta::at(committed.revision)))
    }

    async fn failover(
        &self,
        group: String,
        request: FailoverRequest,
        caller: Caller,
    ) -> Answer<FailoverResponse> {
        let member = self.member()?;
        let started = clock::now();
        let state = member.local.store.state();
        let record = state
            .group_by_name(&group)
            .ok_or_else(|| ApiError::not_found(format!("group {group}")))?;
        let to = match &request.to {
            Some(name) => {
                let node = state.nodes().find(|n| n.name == *name);
                Some(node.ok_or_else(|| ApiError::not_found(format!("member {name}")))?.id)
            }
            None => None,
        };
        tracing::info!(
            event = "TANDEM-SWITCH-REQUESTED",
            group,
            to = request.to,
            by = caller.username,
            "planned switch requested"
        );
        // The leader moves the group, not an entry of this caller: the record comes before, so that
        // it is there also when this node stops in between.
        let act = Act::new("group.failover", format!("group/{group}"))
            .before(json!({ "owner": record.owner, "epoch": record.epoch }));
        let journal = self.journal()?;
        let note = journal.begin(&(&caller).into(), act).await;
        let moved = match switch(member, record.id, to).await {
            Ok(moved) => moved,
            Err(error) => {
                journal.end(note, &format!("refused: {error}"), Value::Null).await;
                return Err(error);
            }
        };
        let after = json!({ "owner": moved.to, "epoch": moved.epoch });
        journal.end(note, "done", after).await;
        wait_open(member, record.id, &moved).await?;
        let state = member.local.store.state();
        let name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |n| n.name.clone());
        let took_ms = u64::try_from(clock::now().since(started).as_millis()).unwrap_or(u64::MAX);
        let response = FailoverResponse {
            group,
            from: moved.from.map(name),
            to: name(moved.to),
            epoch: moved.epoch,
            took_ms,
        };
        Ok((response, Meta::at(state.applied())))
    }

    async fn version(&self) -> Version {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Version {
            product: "Tandem".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            api: "v1".into(),
            node: self.daemon.config.name.clone(),
            kernel: kernel.trim().to_owned(),
        }
    }
}

async fn switch(
    member: &Member,
    group: model::GroupId,
    to: Option<NodeId>,
) -> Result<peer::Failover, ApiError> {
    let leader = member
        .local
        .store
        .status()
        .borrow()
        .leader
        .ok_or(ApiError::NoLeader { retry_after_s: 1 })?;
    if leader == member.local.me {
        return member.manager.switch(group, to).await.map_err(|e| match e {
            SwitchError::NotLeader => ApiError::NoLeader { retry_after_s: 1 },
            SwitchError::UnknownGroup => ApiError::not_found("group"),
            SwitchError::NotEligible { .. } | SwitchError::NoCandidate(_) => {
                ApiError::NotEligible { message: e.to_string() }
            }
            SwitchError::Busy | SwitchError::Superseded | SwitchError::Propose(_) => {
                ApiError::conflict(e.to_string())
            }
        });
    }
    let request = peer::Request::Failover { group, to };
    member
        .local
        .ask(leader, &request, SWITCH_TIMEOUT)
        .await
        .map_err(|message| ApiError::NotEligible { message })
}

/// Waits until the new owner says that its fence is open.
async fn wait_open(
    member: &Member,
    group: model::GroupId,
    moved: &peer::Failover,
) -> Result<(), ApiError> {
    let give_up = clock::now() + SWITCH_TIMEOUT;
    loop {
        let statuses = ownership::statuses(&member.local, vec![moved.to], STATUS_TIMEOUT).await;
        if statuses
            .get(&moved.to)
            .is_some_and(|s| s.open.get(&group).is_some_and(|e| *e >= moved.epoch))
        {
            return Ok(());
        }
        if clock::now() >= give_up {
            return Err(ApiError::Timeout);
        }
        clock::until(Some(clock::now() + Duration::from_millis(2))).await;
    }
}

/// What the log keeps of a join token; `name` is the only node that may use it.
fn token_hash(secret: &str, name: Option<&str>) -> Vec<u8> {
    let digest = Sha256::new().chain_update(secret);
    match name {
        Some(name) => digest.chain_update([0]).chain_update(name).finalize().to_vec(),
        None => digest.finalize().to_vec(),
    }
}
