//! The process: files, TLS, API listener, and the way from a fresh machine to a cluster member.

mod files;

use crate::clock;
use crate::config::{Config, Profile};
use crate::disk;
use crate::member::{Member, MemberError, open_store};
use crate::members;
use crate::ownership::HANDOVER;
use crate::peer;
use crate::service::{Api, internal};
use crate::supervisor;
use crate::telemetry;
use crate::tls::ApiTls;
use files::{
    api_secret, at, bootstrap_token, chain_of, keep_ca, load_ca, load_identity, self_signed,
};
use model::{ClusterId, Epoch, Group, Node, NodeId, Revision, Secret, Tick};
use raft_store::{Bootstrap, ClusterCa, Command, Identity, JoinRequest as KeyRequest, Reply};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

const BOOTSTRAP_FILE: &str = "bootstrap-token";
/// How long one member may take to hand over the authority.
const AUTHORITY_TIMEOUT: Duration = Duration::from_millis(500);
/// How long the first entry of a new cluster, or the admission of a node, may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the daemon stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file of the data directory.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates.
    #[error("certificates: {0}")]
    Identity(#[from] raft_store::IdentityError),
    /// The member part did not start.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The API listener.
    #[error("cannot serve the API on {addr}: {source}")]
    Api {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The secret of the environment is unusable.
    #[error(
        "ABNG_API_SECRET has fewer than 16 characters; give more, or unset it to use the cluster's own secret"
    )]
    ApiSecret,
    /// The store cannot go on.
    #[error("this node stopped, and its groups go to another one: {0}")]
    Store(String),
    /// The machine cannot keep the timer profile.
    #[error(transparent)]
    Profile(#[from] disk::FastRefused),
}

/// The running process.
pub struct Daemon {
    /// Settings of this node.
    pub config: Config,
    /// Set once the node belongs to a cluster and runs.
    pub member: OnceLock<Arc<Member>>,
    /// One init or join at a time.
    starting: tokio::sync::Mutex<()>,
    /// Proof that a caller can read the data directory.
    pub bootstrap: Secret,
    /// Signs tokens instead of the replicated secret, when the environment gives one.
    pub api_secret: Option<Secret>,
    tls: ApiTls,
    /// When the process started.
    pub started: Tick,
}

impl Daemon {
    /// Prepares files and TLS; starts nothing yet.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub async fn prepare(config: Config) -> Result<Arc<Self>, DaemonError> {
        let dir = &config.data_dir;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
        if config.profile == Profile::Fast {
            let measured = dir.clone();
            tokio::task::spawn_blocking(move || disk::check_fast(&measured))
                .await
                .map_err(|e| at(dir)(std::io::Error::other(e)))??;
        }
        let bootstrap = bootstrap_token(&dir.join(BOOTSTRAP_FILE))?;
        let tls = match (&config.api_tls, load_identity(&config)?) {
            (Some((cert, key)), _) => ApiTls::of_files(cert, key).map_err(at(cert))?,
            (None, Some(identity)) => {
                let (chain, key) = chain_of(&identity);
                ApiTls::of_pem(&chain, &key).map_err(at(dir))?
            }
            (None, None) => {
                let (chain, key) = self_signed(&config)?;
                ApiTls::of_pem(&chain, &key).map_err(at(dir))?
            }
        };
        Ok(Arc::new(Self {
            config,
            member: OnceLock::new(),
            starting: tokio::sync::Mutex::new(()),
            bootstrap,
            api_secret: api_secret()?,
            tls,
            started: clock::now(),
        }))
    }

    /// Serves until a signal or a fatal error.
    ///
    /// # Errors
    /// [`DaemonError`]; the caller exits with failure.
    pub async fn run(self: Arc<Self>) -> Result<(), DaemonError> {
        let addr = self.config.api_listen;
        let node: Arc<str> = self.config.name.as_str().into();
        let router = api::router(Arc::new(Api::new(self.clone())))
            .layer(axum::middleware::from_fn_with_state(node, telemetry::traced))
            .into_make_service_with_connect_info::<std::net::SocketAddr>();
        let handle = axum_server::Handle::new();
        let server =
            axum_server::bind_rustls(addr, self.tls.config()).handle(handle.clone()).serve(router);
        let mut server = tokio::spawn(server);
        tokio::select! {
            _ = handle.listening() => {}
            ended = &mut server => return api_ended(addr, ended),
        }
        let reload = tokio::spawn(self.tls.clone().follow_files());
        info!(%addr, name = self.config.name, "API listening");
        supervisor::ready();
        tokio::spawn(supervisor::watchdog(self.clone()));
        if let Some(identity) = load_identity(&self.config)? {
            info!(node = %identity.node, cluster = %identity.cluster_id, "member of a cluster");
            supervisor::status("member of a cluster; opening its store");
            let store = open_store(&self.config, &identity).await?;
            self.become_member(identity, store).await?;
        } else {
            let token = self.config.data_dir.join(BOOTSTRAP_FILE);
            info!(bootstrap_token = %token.display(), "belongs to no cluster: run `bngctl cluster init` or `bngctl cluster join`");
            supervisor::status("belongs to no cluster yet: `bngctl cluster init` or `join`");
        }
        let ended = tokio::select! {
            ended = server => api_ended(addr, ended),
            () = terminated() => Ok(()),
            fatal = self.store_failed() => Err(DaemonError::Store(fatal)),
        };
        reload.abort();
        supervisor::stopping();
        if let Err(DaemonError::Store(_)) = &ended {
            self.let_go().await;
        } else {
            self.hand_over().await;
        }
        if let Some(member) = self.member.get() {
            member.local.store.clone().shutdown().await;
        }
        ended
    }

    async fn store_failed(&self) -> String {
        loop {
            if let Some(member) = self.member.get() {
                return failure(&mut member.local.store.fatal()).await;
            }
            clock::until(Some(clock::now() + Duration::from_millis(200))).await;
        }
    }

    /// Shuts all fences at once: what this node would promise from here on is not kept.
    async fn let_go(&self) {
        let Some(member) = self.member.get() else { return };
        let local = &member.local;
        // Also what is not open yet; of a group that is not held this does nothing.
        for group in local.store.state().groups() {
            local.lease.release(group.id);
        }
        let mut lease = local.lease.status();
        let shut = lease.wait_for(|s| s.open.is_empty());
        if tokio::time::timeout(HANDOVER, shut).await.is_err() {
            warn!("the lease thread does not answer; the kernel's fences fall by themselves");
        }
    }

    /// Hands over what this node owns, then lets go of it.
    async fn hand_over(&self) {
        let Some(member) = self.member.get() else { return };
        let local = &member.local;
        let open: Vec<_> = local.lease.status().borrow().open.keys().copied().collect();
        for group in open {
            match member.manager.move_away(group).await {
                Ok(moved) => {
                    let mut lease = local.lease.status();
                    let gone = lease.wait_for(|s| !s.open.contains_key(&group));
                    let _ = tokio::time::timeout(HANDOVER, gone).await;
                    let told = member.traffic.parted(group);
                    let _ = tokio::time::timeout(HANDOVER, told).await;
                    info!(%group, to = %moved.to, "handed over");
                }
                Err(error) => {
                    warn!(%group, error, "not handed over; the fence is shut now and the leader finds another owner");
                    local.lease.release(group);
                }
            }
        }
    }

    async fn become_member(
        &self,
        identity: Identity,
        store: raft_store::Store,
    ) -> Result<Arc<Member>, DaemonError> {
        let ca = load_ca(&self.config)?;
        if self.config.api_tls.is_none() {
            let (chain, key) = chain_of(&identity);
            self.tls.replace(&chain, &key).map_err(at(&self.config.data_dir))?;
        }
        let mut fatal = store.fatal();
        let member = tokio::select! {
            member = Member::start(&self.config, identity, ca, store) => member?,
            reason = failure(&mut fatal) => return Err(DaemonError::Store(reason)),
        };
        tokio::spawn(members::run(
            member.local.clone(),
            crate::member::lease_timing(self.config.profile),
        ));
        if member.ca.get().is_none() {
            tokio::spawn(fetch_authority(member.clone(), self.config.data_dir.join("ca")));
        }
        supervisor::status(&format!(
            "node {} of cluster {}",
            member.identity.node, member.identity.cluster_id
        ));
        let _ = self.member.set(member.clone());
        let _ = std::fs::remove_file(self.config.data_dir.join(BOOTSTRAP_FILE));
        Ok(member)
    }

    /// Makes a new cluster with this node as its only member.
    ///
    /// # Errors
    /// [`api::ApiError`].
    pub async fn init(
        &self,
        plan: api::types::InitPlan,
    ) -> Result<api::types::InitResponse, api::ApiError> {
        let _one = self.starting.lock().await;
        if self.member.get().is_some() {
            return Err(api::ApiError::AlreadyInitialised);
        }
        let cluster_id = ClusterId(format!("{}-{:08x}", plan.cluster_name, rand::random::<u32>()));
        let ca = ClusterCa::generate(&cluster_id).map_err(internal)?;
        let node = self.node_record(NodeId(1));
        let cert = ca.issue(node.id, &cluster_id, &self.addresses()).map_err(internal)?;
        let identity = Identity {
            node: node.id,
            cluster_id: cluster_id.clone(),
            ca_pem: ca.cert_pem.clone(),
            cert_pem: cert.cert_pem,
            key_pem: cert.key_pem,
        };
        let store = open_store(&self.config, &identity).await.map_err(internal)?;
        let members = std::iter::once((node.id, node.raft_addr)).collect();
        store.initialize(members).await.map_err(internal)?;
        let bootstrap =
            bootstrap_command(plan, cluster_id.clone(), node.clone(), self.api_secret.clone())?;
        let reply = propose_first(&store, bootstrap).await?;
        if let Reply::Refused(refusal) = reply {
            return Err(api::ApiError::conflict(refusal.to_string()));
        }
        self.keep(&identity, &ca).map_err(internal)?;
        self.become_member(identity, store).await.map_err(internal)?;
        info!(event = "TANDEM-CLUSTER-CREATED", cluster = %cluster_id, "cluster created");
        Ok(api::types::InitResponse {
            cluster_id,
            node_id: node.id,
            ca_fingerprint: raft_store::fingerprint(&ca.cert_pem),
            ca_pem: ca.cert_pem,
        })
    }

    /// Joins the cluster that a ticket names.
    ///
    /// # Errors
    /// [`api::ApiError`].
    pub async fn join(
        &self,
        ticket: api::JoinTicket,
    ) -> Result<api::types::JoinResponse, api::ApiError> {
        let _one = self.starting.lock().await;
        if self.member.get().is_some() {
            return Err(api::ApiError::AlreadyInitialised);
        }
        let request = KeyRequest::generate().map_err(internal)?;
        let me = self.node_record(NodeId(0));
        let admit = api::types::AdmitRequest {
            token: ticket.secret.clone(),
            name: me.name,
            role: me.role,
            csr_pem: request.csr_pem,
            raft_addr: me.raft_addr,
            lease_addr: me.lease_addr,
            api_addr: me.api_addr,
        };
        let client = api::Client::new(api::ClientConfig {
            urls: ticket.api_addrs.iter().map(|a| format!("https://{a}")).collect(),
            token: None,
            trust: api::TlsTrust::Fingerprint { sha256: ticket.ca_fingerprint.clone() },
            timeout: START_TIMEOUT,
        })
        .map_err(internal)?;
        let admitted = client.admit(&admit).await.map(|answer| answer.data).map_err(|e| {
            api::ApiError::conflict(format!("the cluster did not admit this node: {e}"))
        })?;
        let identity = Identity {
            node: admitted.node_id,
            cluster_id: admitted.cluster_id.clone(),
            ca_pem: admitted.ca_pem,
            cert_pem: admitted.cert_pem,
            key_pem: request.key_pem,
        };
        identity.save(&self.config.data_dir.join("identity")).map_err(internal)?;
        let store = open_store(&self.config, &identity).await.map_err(internal)?;
        self.become_member(identity, store).await.map_err(internal)?;
        info!(event = "TANDEM-NODE-JOINED", node = %admitted.node_id, cluster = %admitted.cluster_id, "joined");
        Ok(api::types::JoinResponse { cluster_id: admitted.cluster_id, node_id: admitted.node_id })
    }

    fn node_record(&self, id: NodeId) -> Node {
        Node {
            id,
            name: self.config.name.clone(),
            role: self.config.role,
            raft_addr: self.config.raft_addr,
            lease_addr: self.config.lease_addr,
            api_addr: self.config.api_addr,
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![self.config.api_addr.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST)]
    }

    fn keep(&self, identity: &Identity, ca: &ClusterCa) -> Result<(), DaemonError> {
        identity.save(&self.config.data_dir.join("identity"))?;
        keep_ca(&self.config.data_dir.join("ca"), ca)
    }
}

/// Waits until the store fails, and says why.
async fn failure(fatal: &mut watch::Receiver<Option<String>>) -> String {
    let failed = fatal.wait_for(Option::is_some).await.map(|f| f.clone());
    failed.ok().flatten().unwrap_or_else(|| "the store has stopped".into())
}

fn api_ended(
    addr: std::net::SocketAddr,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> Result<(), DaemonError> {
    let ended = ended.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    ended.map_err(|source| DaemonError::Api { addr, source })
}

/// Copies the cluster's authority from a member, so that this node can admit others later.
async fn fetch_authority(member: Arc<Member>, dir: PathBuf) {
    let local = &member.local;
    loop {
        let others: Vec<NodeId> =
            local.store.state().nodes().map(|n| n.id).filter(|n| *n != local.me).collect();
        for node in others {
            let answer: Result<(String, String), String> =
                local.ask(node, &peer::Request::Authority, AUTHORITY_TIMEOUT).await;
            if let Ok((cert_pem, key)) = answer {
                let ca = ClusterCa { cert_pem, key_pem: Secret::new(key) };
                if let Err(error) = keep_ca(&dir, &ca) {
                    warn!(%error, "the cluster's authority could not be kept");
                }
                let _ = member.ca.set(ca);
                return;
            }
        }
        clock::until(Some(clock::now() + AUTHORITY_TIMEOUT)).await;
    }
}

async fn propose_first(
    store: &raft_store::Store,
    command: Command,
) -> Result<Reply, api::ApiError> {
    let give_up = clock::now() + START_TIMEOUT;
    loop {
        match store.propose(command.clone()).await {
            Ok(committed) => return Ok(committed.reply),
            Err(error) if clock::now() >= give_up => return Err(internal(error)),
            Err(_) => clock::until(Some(clock::now() + Duration::from_millis(50))).await,
        }
    }
}

fn bootstrap_command(
    plan: api::types::InitPlan,
    cluster_id: ClusterId,
    node: Node,
    given: Option<Secret>,
) -> Result<Command, api::ApiError> {
    let mut admin = crate::service::hash_user(&plan.admin.username, &plan.admin.password)?;
    admin.created_at = clock::wall();
    let preferred =
        |names: &[String]| names.iter().filter(|n| **n == node.name).map(|_| node.id).collect();
    let groups = plan
        .groups
        .iter()
        .map(|g| Group {
            id: g.id,
            name: g.name.clone(),
            vrid: g.vrid,
            core_address: g.core_address,
            core_prefix_len: g.core_prefix_len,
            preferred: preferred(&g.preferred),
            ac_name: g.ac_name.clone(),
            services: g.services.clone(),
            owner: None,
            epoch: Epoch(0),
            revision: Revision(0),
        })
        .collect();
    let generated = || Secret::new(hex::encode(rand::random::<[u8; 32]>()));
    Ok(Command::Bootstrap(Box::new(Bootstrap {
        level: raft_store::LEVEL_SUPPORTED,
        cluster_id,
        nodes: vec![node],
        groups,
        pools: plan.pools,
        subscribers: plan.subscribers,
        api_users: vec![admin],
        jwt_secret: given.unwrap_or_else(generated),
        cookie_key: rand::random(),
    })))
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    info!("stopping");
}
