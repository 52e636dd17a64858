//! Real `bngd` processes, one per node namespace, made a cluster through their API.

mod members;

use super::topology::{Topology, mgmt, node_name, node_ns};
use super::{disk, netns, wall};
use anyhow::{Context as _, Result, anyhow, bail};
use api::types::{ClusterStatus, FailoverRequest, InitRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Name of the lab's only group.
pub const GROUP: &str = "g1";
/// API administrator of the lab.
pub const ADMIN: (&str, &str) = ("admin", "lab-admin-password");
/// Password of every simulated PPPoE user.
pub const PASSWORD: &str = "lab-secret";

/// Data nodes of a lab; a witness comes on top.
pub const DATA_NODES: usize = 2;

/// How long one node may take to answer before another is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long init and join may take.
const FORMING: Duration = Duration::from_secs(30);

/// A client of one node.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client_of(node: usize, timeout: Duration) -> Result<api::Client> {
    Ok(api::Client::new(api::ClientConfig {
        urls: vec![format!("https://{}:8443", mgmt(node))],
        token: None,
        trust: api::TlsTrust::Insecure,
        timeout,
    })?)
}

/// The API of each node.
#[must_use]
pub fn mgmt_urls(nodes: usize) -> Vec<String> {
    (0..nodes).map(|node| format!("https://{}:8443", mgmt(node))).collect()
}

/// A node by its place, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(pub usize);

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&node_name(self.0))
    }
}

/// Timer profile of a lab cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// 10 / 80 ms; refused where the machine cannot keep it.
    Fast,
    /// 25 / 200 ms.
    #[default]
    Default,
    /// 200 / 1500 ms.
    Wan,
}

impl Profile {
    /// The name in the daemon's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Wan => "wan",
        }
    }
}

/// What a lab cluster is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The daemon to run.
    pub bngd: PathBuf,
    /// PPPoE users to create.
    pub users: usize,
    /// Lease time told to DHCP clients, in seconds.
    pub lease_s: u32,
    /// `policer` or `htb`, for each data node.
    pub shapers: [&'static str; DATA_NODES],
    /// Timers.
    pub profile: Profile,
    /// A small file system of its own for each node's data; see [`disk`].
    pub own_disks: bool,
    /// A wall clock of its own for each node; see [`wall`].
    pub own_clocks: bool,
    /// What the cluster starts with besides two plain pools and the users.
    pub adjust: fn(&mut InitRequest),
}

impl Settings {
    /// Two plain pools and the users, and one shaper everywhere.
    ///
    /// # Errors
    /// When the daemon was not built.
    pub fn plain(users: usize, lease_s: u32, shaper: &'static str) -> Result<Self> {
        let shapers = [shaper; DATA_NODES];
        let (bngd, profile) = (sibling("bngd")?, Profile::Default);
        Ok(Self {
            bngd,
            users,
            lease_s,
            shapers,
            profile,
            own_disks: false,
            own_clocks: false,
            adjust: |_| {},
        })
    }
}

/// A running cluster. Dropping it ends its processes.
pub struct Cluster {
    topology: Topology,
    settings: Settings,
    children: Vec<Option<Child>>,
    clients: Vec<api::Client>,
    /// The node that answered last.
    preferred: AtomicUsize,
    /// How often each daemon was started.
    starts: Arc<Vec<AtomicUsize>>,
}

impl Cluster {
    /// Starts all nodes, makes the first one a cluster and lets the others join.
    ///
    /// # Errors
    /// What failed first; the logs stay in the lab's folder until the next clean-up.
    pub async fn start(topology: Topology, settings: Settings) -> Result<Self> {
        let clients = (0..topology.nodes).map(|i| client_of(i, PATIENCE)).collect::<Result<_>>()?;
        let children = (0..topology.nodes).map(|_| None).collect();
        let starts = Arc::new((0..topology.nodes).map(|_| AtomicUsize::new(0)).collect());
        let preferred = AtomicUsize::new(0);
        let mut this = Self { topology, settings, children, clients, preferred, starts };
        for node in (0..this.topology.nodes).map(NodeName) {
            this.write_config(node)?;
            if this.settings.own_disks {
                let image = this.topology.data_dir(node.0).join("disk.img");
                disk::mount(&image, &this.data(node))?;
            }
            this.set_clock(node, 0)?;
            this.spawn(node)?;
        }
        this.form().await?;
        Ok(this)
    }

    /// The API of one node, logged in as administrator.
    #[must_use]
    pub fn client(&self, node: NodeName) -> &api::Client {
        &self.clients[node.0]
    }

    /// Asks the node that answered last, then the others; one that hangs costs [`PATIENCE`].
    ///
    /// # Errors
    /// The last node's error.
    pub async fn ask<T>(
        &self,
        call: impl AsyncFn(&api::Client) -> Result<api::Answer<T>, api::ClientError>,
    ) -> Result<T> {
        let start = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for turn in 0..self.nodes() {
            let at = (start + turn) % self.nodes();
            match call(&self.clients[at]).await {
                Ok(answer) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(answer.data);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| anyhow!("no node"), anyhow::Error::from))
    }

    /// The cluster as the first node that answers sees it.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn status(&self) -> Result<ClusterStatus> {
        self.ask(async |c| c.cluster().await).await
    }

    /// How often each daemon was started, by node.
    #[must_use]
    pub fn starts(&self) -> Arc<Vec<AtomicUsize>> {
        self.starts.clone()
    }

    /// The network.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How many nodes there are.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.topology.nodes
    }

    fn write_config(&self, node: NodeName) -> Result<()> {
        let dir = self.topology.data_dir(node.0);
        std::fs::create_dir_all(&dir)?;
        let witness = self.is_witness(node);
        let role = if witness { "witness" } else { "data" };
        let mut text = format!(
            "[node]\nname = \"{node}\"\nrole = \"{role}\"\ndata_dir = \"{}\"\n\n[cluster]\naddress = \"{}\"\nprofile = \"{}\"\n",
            self.data(node).display(),
            mgmt(node.0),
            self.settings.profile.name()
        );
        if let Some(shaper) = self.settings.shapers.get(node.0).filter(|_| !witness) {
            text += &format!(
                "\n[dataplane]\ncore = \"core\"\nxdp = \"generic\"\nshaper = \"{shaper}\"\n\n[[dataplane.access]]\ninterface = \"acc\"\ngroup = \"{GROUP}\"\n"
            );
        }
        std::fs::write(dir.join("bngd.toml"), text)?;
        Ok(())
    }

    /// Starts the daemon of a node.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn spawn(&mut self, node: NodeName) -> Result<()> {
        let dir = self.topology.data_dir(node.0);
        let log = File::options().create(true).append(true).open(dir.join("bngd.log"))?;
        // `nsenter`, not `ip netns exec`: the latter mounts a fresh /sys, where pinned BPF objects are not seen.
        let mut command = Command::new("nsenter");
        if self.settings.own_clocks {
            wall::preload(&mut command, &dir.join("clock"))?;
        }
        let child = command
            .arg(format!("--net=/run/netns/{}", node_ns(node.0)))
            .arg(&self.settings.bngd)
            .arg("--config")
            .arg(dir.join("bngd.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.settings.bngd.display()))?;
        self.children[node.0] = Some(child);
        self.starts[node.0].fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Steps the wall clock of a node's daemon, running or not, to the true time and `offset_s`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_clock(&self, node: NodeName, offset_s: i64) -> Result<()> {
        wall::set(&self.topology.data_dir(node.0).join("clock"), offset_s)
    }

    fn is_witness(&self, node: NodeName) -> bool {
        node.0 + 1 == self.nodes()
    }

    /// Data directory of a node's daemon.
    #[must_use]
    pub fn data(&self, node: NodeName) -> PathBuf {
        self.topology.data_dir(node.0).join("data")
    }

    /// Every node votes, the group's fence is open, and every data node that is up could take it.
    #[must_use]
    pub fn is_ready(&self, status: &ClusterStatus) -> bool {
        status.nodes.len() == self.nodes()
            && status.nodes.iter().all(|n| n.voter && n.reachable)
            && status.leader.is_some()
            && status
                .groups
                .iter()
                .all(|g| g.fence == Some(model::Fence::Open) && g.nodes.iter().all(|n| n.eligible))
    }

    /// The daemon's log.
    #[must_use]
    pub fn log_path(&self, node: NodeName) -> PathBuf {
        self.topology.data_dir(node.0).join("bngd.log")
    }

    /// Waits until the cluster's own status satisfies `good`.
    ///
    /// # Errors
    /// When it does not in time, with the last status.
    pub async fn wait(
        &self,
        what: &str,
        within: Duration,
        good: impl Fn(&ClusterStatus) -> bool,
    ) -> Result<ClusterStatus> {
        eventually(what, within, || async {
            let status = self.status().await?;
            if good(&status) {
                Ok(status)
            } else {
                Err(anyhow!("last status: {}", serde_json::to_string(&status)?))
            }
        })
        .await
    }

    /// The node that owns the group.
    ///
    /// # Errors
    /// When no node answers, or nobody owns it.
    pub async fn owner(&self) -> Result<NodeName> {
        let status = self.status().await?;
        let group = status.groups.iter().find(|g| g.name == GROUP).context("the group is gone")?;
        let name = group.owner.as_deref().context("nobody owns the group")?;
        self.by_name(name)
    }

    /// A node by the name that the API shows.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn by_name(&self, name: &str) -> Result<NodeName> {
        (0..self.nodes())
            .map(NodeName)
            .find(|n| n.to_string() == name)
            .with_context(|| format!("no node {name}"))
    }

    /// Moves the group by plan and returns how long the API took, in milliseconds.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn planned(&self, to: Option<NodeName>) -> Result<u64> {
        let request = FailoverRequest { to: to.map(|n| n.to_string()) };
        Ok(self.ask(async |c| c.failover(GROUP, &request).await).await?.took_ms)
    }

    /// Sends a signal to a node's daemon.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, node: NodeName, signal: Signal) -> Result<()> {
        let child =
            self.children[node.0].as_ref().with_context(|| format!("{node} does not run"))?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        Ok(())
    }

    /// Kills a node's daemon and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self, node: NodeName) -> Result<()> {
        self.signal(node, Signal::SIGKILL)?;
        if let Some(mut child) = self.children[node.0].take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Starts a node's daemon unless it runs; waits for one that is on its way out.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn ensure_running(&mut self, node: NodeName) -> Result<()> {
        if let Some(mut child) = self.children[node.0].take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGCONT);
            for _ in 0..40 {
                if child.try_wait()?.is_some() {
                    break;
                }
                let (_keep, never) = std::sync::mpsc::channel::<()>();
                let _ = never.recv_timeout(Duration::from_millis(50));
            }
            let _ = child.kill();
            child.wait()?;
        }
        self.spawn(node)
    }

    /// Forgets the processes: they go on until the lab is cleaned.
    pub fn leave_running(mut self) {
        self.children.clear();
    }

    /// Whether a node's daemon still runs.
    pub fn is_running(&mut self, node: NodeName) -> bool {
        self.children[node.0].as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// How a node's daemon ended by itself; `None` while it runs, and when the lab has ended it.
    pub fn ended(&mut self, node: NodeName) -> Option<ExitStatus> {
        self.children[node.0].as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    /// Process state of a node's daemon, the letter of proc(5): `T` is stopped by a signal.
    #[must_use]
    pub fn process_state(&self, node: NodeName) -> Option<char> {
        let pid = self.children[node.0].as_ref()?.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name of the program stands in parentheses and may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// PPP user of subscriber `i`.
#[must_use]
pub fn user_name(i: usize) -> String {
    format!("user{i}@lab")
}

/// Tries until it succeeds or time is up.
///
/// # Errors
/// The last error, with what was waited for.
pub async fn eventually<T, F, Fut>(what: &str, within: Duration, mut attempt: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    const POLL: Duration = Duration::from_millis(25);
    let deadline = tokio::time::Instant::now() + within;
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if tokio::time::Instant::now() >= deadline => {
                return Err(error.context(format!("not within {} s: {what}", within.as_secs())));
            }
            Err(_) => {
                pause(POLL).await;
            }
        }
    }
}

/// Lets a load, a fault or the time between two looks last; nothing is being waited for.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The daemon beside this program, as cargo lays them.
///
/// # Errors
/// When it was not built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let path = me.parent().unwrap_or(Path::new(".")).join(name);
    if path.exists() {
        Ok(path)
    } else {
        bail!("{} is missing: cargo build --workspace --bins", path.display())
    }
}

/// Enters the namespace of operations; call before any other thread runs.
///
/// # Errors
/// When there is no lab.
pub fn enter_ops() -> Result<()> {
    netns::enter("tdm-ops")
}
