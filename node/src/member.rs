//! A node that belongs to a cluster: its store, its lease, and everything that follows the log.

use crate::access::{Access, Counters, Ports};
use crate::clock;
use crate::config::{Config, DataplaneConfig, Profile};
use crate::counters::Traffic;
use crate::counters::wire::Record;
use crate::disk;
use crate::fitness::{self, Fitness};
use crate::lease;
use crate::management::{config, webhook};
use crate::ownership::{self, Manager};
use crate::peer::{self, Local};
use crate::programmer::Programmer;
use crate::waiting::WaitingList;
use dataplane::{AccessPort, Dataplane, PacketSocket};
use model::{GroupId, NodeId, PortId, Revision, Tick};
use quorum_lease::Timing;
use raft_store::{ClusterCa, Command, Identity, RaftTiming, Role, Store, StoreConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{error, info, warn};

/// How often the leader takes down leases whose time has passed.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The Raft store did not open.
    #[error(transparent)]
    Store(#[from] raft_store::OpenError),
    /// The packet side did not open.
    #[error(transparent)]
    Dataplane(#[from] dataplane::DataplaneError),
    /// The lease socket could not be bound.
    #[error("cannot listen for lease datagrams on {addr}: {source}")]
    Lease {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An interface could not be read.
    #[error(
        "cannot open {interface} for control frames: {source}; does the interface exist, and has the daemon CAP_NET_RAW?"
    )]
    Socket {
        /// The interface.
        interface: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The running parts that the API needs.
pub struct Member {
    /// What this node knows of itself.
    pub local: Local,
    /// Decides ownership while this node leads.
    pub manager: Manager,
    /// Certificates of this node.
    pub identity: Identity,
    /// The cluster's authority; every member holds it, so that each can admit new ones.
    pub ca: OnceLock<ClusterCa>,
    /// Drop reasons and events of the access side.
    pub counters: Arc<Counters>,
    /// Packet counters of sessions.
    pub traffic: Arc<Traffic>,
    /// Differences between kernel and state that were repaired.
    pub drift: watch::Receiver<u64>,
    /// Sources that wait to be let in, of the groups that this node owns.
    pub waiting: Arc<WaitingList>,
}

/// Lease times of a profile, architecture section 4.
#[must_use]
pub fn lease_timing(profile: Profile) -> Timing {
    match profile {
        Profile::Fast => Timing::FAST,
        Profile::Default => Timing::DEFAULT,
        Profile::Wan => Timing::WAN,
    }
}

fn raft_timing(profile: Profile) -> RaftTiming {
    let ms = Duration::from_millis;
    match profile {
        Profile::Fast => {
            RaftTiming { heartbeat: ms(15), election_min: ms(60), election_max: ms(100) }
        }
        Profile::Default => {
            RaftTiming { heartbeat: ms(30), election_min: ms(120), election_max: ms(200) }
        }
        Profile::Wan => {
            RaftTiming { heartbeat: ms(150), election_min: ms(1000), election_max: ms(2000) }
        }
    }
}

/// Opens the store of this node under `identity`.
///
/// # Errors
/// [`MemberError::Store`].
pub async fn open_store(config: &Config, identity: &Identity) -> Result<Store, MemberError> {
    let cfg = StoreConfig {
        node: identity.node,
        cluster_id: identity.cluster_id.clone(),
        data_dir: config.data_dir.join("raft"),
        key_file: config.storage_key.clone(),
        listen: config.raft_addr,
        identity: identity.clone(),
        timing: raft_timing(config.profile),
        engine: raft_store::Engine::Sled,
        clock: Arc::new(clock::wall),
    };
    Ok(Store::open(cfg).await?)
}

impl Member {
    /// Starts everything on top of an open store.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn start(
        config: &Config,
        identity: Identity,
        ca: Option<ClusterCa>,
        store: Store,
    ) -> Result<Arc<Self>, MemberError> {
        let plane = match &config.dataplane {
            Some(cfg) => Some(Arc::new(open_dataplane(&config.name, cfg, &store).await?)),
            None => None,
        };
        let timing = lease_timing(config.profile);
        let lease = start_lease(config, &identity, timing, &store, plane.clone())?;
        let (programmed_tx, programmed) = watch::channel(Revision(0));
        let (drift_tx, drift) = watch::channel(0);
        let ports = ports_by_group(config);
        let local = Local {
            me: identity.node,
            store: store.clone(),
            lease,
            programmed: plane.as_ref().map(|_| programmed),
            fitness: Fitness::default(),
            served: Arc::new(ports.keys().cloned().collect()),
            dataplane: plane.clone(),
        };
        let manager = Manager::new(local.clone(), timing);
        let counters = Arc::new(Counters::default());
        let ca = ca.map_or_else(OnceLock::new, OnceLock::from);
        let member = Arc::new(Self {
            local: local.clone(),
            manager: manager.clone(),
            identity,
            ca,
            counters,
            traffic: Traffic::start(local.clone()),
            drift,
            waiting: Arc::default(),
        });
        answer_requests(&member);
        tokio::spawn(ownership::feed_lease(local.clone()));
        tokio::spawn(manager.clone().run());
        tokio::spawn(disk::watch(store.clone(), local.fitness.clone(), config.disk_slow));
        tokio::spawn(expire(store.clone()));
        tokio::spawn(config::watch(local.clone()));
        tokio::spawn(webhook::run(local.clone()));
        if let (Some(plane), Some(cfg)) = (plane, &config.dataplane) {
            let programmer = Programmer {
                store,
                dataplane: plane,
                ports,
                programmed: programmed_tx,
                drift: drift_tx,
                fitness: local.fitness.clone(),
            };
            tokio::spawn(programmer.run());
            tokio::spawn(ownership::follow(local.clone()));
            tokio::spawn(peer::watch_carrier(local.clone()));
            tokio::spawn(fitness::watch(local, manager));
            if !cfg.simulated {
                tokio::spawn(serve_groups(member.clone(), open_sockets(cfg)?));
            }
        }
        Ok(member)
    }
}

fn start_lease(
    config: &Config,
    identity: &Identity,
    timing: Timing,
    store: &Store,
    plane: Option<Arc<Dataplane>>,
) -> Result<lease::Handle, MemberError> {
    let fence: Arc<dyn Fn(GroupId, Tick) + Send + Sync> = Arc::new(move |group, until| {
        if let Some(plane) = &plane
            && let Err(error) = plane.set_fence(group, until)
        {
            error!(%group, %error, "the kernel's fence could not be moved");
        }
    });
    let settings = lease::Settings {
        me: identity.node,
        timing,
        listen: config.lease_addr,
        identity: identity.clone(),
        fence,
        logged_membership: store.logged_membership(),
    };
    lease::spawn(settings).map_err(|source| MemberError::Lease { addr: config.lease_addr, source })
}

/// Ports of each group that has one here, by group name.
fn ports_by_group(config: &Config) -> BTreeMap<String, Vec<PortId>> {
    let mut ports: BTreeMap<String, Vec<PortId>> = BTreeMap::new();
    for access in config.dataplane.iter().flat_map(|d| &d.access) {
        ports.entry(access.group.clone()).or_default().push(PortId(access.port));
    }
    ports
}

/// Opens the packet side. Group numbers come from the state, so this waits until the groups that the
/// configuration names are there: a joining node learns them from the log.
async fn open_dataplane(
    name: &str,
    cfg: &DataplaneConfig,
    store: &Store,
) -> Result<Dataplane, MemberError> {
    if cfg.simulated {
        return Ok(Dataplane::simulated());
    }
    let mut applied = store.applied();
    let ids = loop {
        applied.borrow_and_update();
        let state = store.state();
        let ids: BTreeMap<String, GroupId> =
            state.groups().map(|g| (g.name.clone(), g.id)).collect();
        let missing: BTreeSet<&str> =
            cfg.access.iter().map(|a| a.group.as_str()).filter(|g| !ids.contains_key(*g)).collect();
        if missing.is_empty() {
            break ids;
        }
        if !ids.is_empty() {
            warn!(
                ?missing,
                "the configuration names groups that the cluster does not have; waiting for them"
            );
        }
        if applied.changed().await.is_err() {
            break ids;
        }
    };
    let access = cfg
        .access
        .iter()
        .filter_map(|a| {
            let group = *ids.get(&a.group)?;
            Some(AccessPort { port: PortId(a.port), interface: a.interface.clone(), group })
        })
        .collect();
    let config = dataplane::Config {
        access,
        core: cfg.core.clone(),
        xdp: cfg.xdp,
        shaper: cfg.shaper,
        pin_dir: Path::new("/sys/fs/bpf/tandem").join(name),
    };
    Ok(Dataplane::open(config).await?)
}

/// Control sockets of one group's ports, by group name.
type GroupSockets = BTreeMap<String, Ports>;

fn open_sockets(cfg: &DataplaneConfig) -> Result<GroupSockets, MemberError> {
    let failed = |interface: &str| {
        let interface = interface.to_owned();
        move |source| MemberError::Socket { interface, source }
    };
    let mut groups = GroupSockets::new();
    for access in &cfg.access {
        let socket =
            PacketSocket::open_access(&access.interface).map_err(failed(&access.interface))?;
        let core = match &cfg.core {
            Some(core) => Some(Arc::new(PacketSocket::open_core(core).map_err(failed(core))?)),
            None => None,
        };
        let ports = groups
            .entry(access.group.clone())
            .or_insert_with(|| Ports { access: BTreeMap::new(), core });
        ports.access.insert(PortId(access.port), Arc::new(socket));
    }
    Ok(groups)
}

/// Serves each group with a port here, from when the log knows it.
async fn serve_groups(member: Arc<Member>, mut sockets: GroupSockets) {
    let mut applied = member.local.store.applied();
    loop {
        applied.borrow_and_update();
        let state = member.local.store.state();
        for group in state.groups() {
            if let Some(ports) = sockets.remove(&group.name) {
                let (local, counters) = (member.local.clone(), member.counters.clone());
                let access = Access::new(local, group.id, ports, counters, member.waiting.clone());
                tokio::spawn(access.run());
            }
        }
        if sockets.is_empty() || applied.changed().await.is_err() {
            return;
        }
    }
}

/// On the leader: takes down leases whose time has passed, by the replicated time: a wall clock that
/// was set back would keep them for as long as it is behind.
async fn expire(store: Store) {
    loop {
        clock::until(Some(clock::now() + EXPIRE_INTERVAL)).await;
        if store.status().borrow().role != Role::Leader
            || store.state().next_expiry().is_none_or(|at| at > store.now())
        {
            continue;
        }
        if let Err(error) = store.propose(Command::Expire).await {
            warn!(%error, "expired leases not taken down yet");
        }
    }
}

fn answer_requests(member: &Arc<Member>) {
    let weak = Arc::downgrade(member);
    member.local.store.on_request(Arc::new(
        move |from: NodeId, _kind: String, payload: Vec<u8>| {
            let member = weak.upgrade();
            Box::pin(async move {
                let member = member.ok_or_else(|| "the node is stopping".to_owned())?;
                let request = serde_json::from_slice(&payload).map_err(|e| e.to_string())?;
                member.answer(from, request).await
            })
        },
    ));
}

impl Member {
    async fn answer(&self, from: NodeId, request: peer::Request) -> Result<Vec<u8>, String> {
        let encoded = match request {
            peer::Request::Candidate { group, revision } => {
                serde_json::to_vec(&self.local.candidate(group, revision).await)
            }
            peer::Request::Failover { group, to } => {
                info!(%from, %group, ?to, "planned switch asked for");
                let switched = self.manager.switch(group, to).await.map_err(|e| e.to_string())?;
                serde_json::to_vec(&switched)
            }
            peer::Request::DryRun { tree, revision } => {
                let mut applied = self.local.store.applied();
                // The caller stops waiting before this could last.
                applied.wait_for(|at| *at >= revision).await.map_err(|e| e.to_string())?;
                let state = self.local.store.state();
                let errors = config::dry_run(&tree, &state).err().unwrap_or_default();
                serde_json::to_vec(&errors)
            }
            peer::Request::Counters(frame) => {
                serde_json::to_vec(&self.traffic.on_frame(from, &frame).await?)
            }
            peer::Request::Traffic { session } => {
                let total = self.traffic.confirmed(session).await?;
                serde_json::to_vec(&Record::new(session, total))
            }
            peer::Request::Waiting { group } => serde_json::to_vec(&self.waiting_here(group)?),
            peer::Request::Status => serde_json::to_vec(&self.local.status()),
            peer::Request::Authority => {
                let ca = self.ca.get().ok_or("this node does not hold the cluster's authority")?;
                serde_json::to_vec(&(ca.cert_pem.clone(), ca.key_pem.expose().to_owned()))
            }
        };
        encoded.map_err(|e| e.to_string())
    }
}
