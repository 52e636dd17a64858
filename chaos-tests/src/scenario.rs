//! A whole lab in the order of its life: network, cluster, subscribers, measured faults.

pub use crate::lab::cluster::DATA_NODES;
use crate::lab::cluster::{Cluster, NodeName, Settings, eventually, pause};
use crate::lab::faults::Fault;
use crate::lab::probe::Percentiles;
use crate::lab::subscribers::{Kept, Plan, Subscribers};
use crate::lab::wire::Watcher;
use crate::lab::{cluster, topology};
use anyhow::{Result, anyhow, ensure};
use dataplane::boottime_now;
use indicatif::{ProgressBar, ProgressStyle};
use model::Tick;
use std::time::Duration;

/// How long a fault may take until every probed session flows again.
const RECOVER: Duration = Duration::from_secs(15);
/// How long probes run before a fault, so that every session was heard from.
const WARM_UP: Duration = Duration::from_millis(400);
/// How long a pause lasts.
const PAUSE: Duration = Duration::from_secs(5);

/// A running lab. Dropping it ends processes and threads; [`topology::clean`] removes the rest.
pub struct Lab {
    /// Stops first: it watches what the others do.
    pub watcher: Watcher,
    /// The subscribers.
    pub subscribers: Subscribers,
    /// The nodes.
    pub cluster: Cluster,
}

/// One measured fault.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What happened.
    pub fault: Fault,
    /// To whom.
    pub node: NodeName,
    /// The node led Raft as well.
    pub led: bool,
    /// Longest silence per session, from subscribers to the core.
    pub up: Vec<Duration>,
    /// Longest silence per session, from the core to subscribers.
    pub down: Vec<Duration>,
    /// What became of the sessions.
    pub kept: Kept,
    /// From the end of the fault until the cluster was whole again.
    pub recovery: Duration,
}

impl Measured {
    /// Percentiles over all sessions and both directions.
    #[must_use]
    pub fn gap(&self) -> Percentiles {
        Percentiles::of_both(&self.up, &self.down)
    }
}

impl Lab {
    /// Builds network and cluster, and lets all subscribers dial in.
    ///
    /// # Errors
    /// What failed first.
    pub async fn raise(
        plan: Plan,
        shaper: &'static str,
        lease_s: u32,
        quiet: bool,
    ) -> Result<Self> {
        Self::raise_with(plan, Settings::plain(plan.pppoe, lease_s, shaper)?, quiet).await
    }

    /// As [`Lab::raise`], with everything that a cluster can be made with.
    ///
    /// # Errors
    /// What failed first.
    pub async fn raise_with(plan: Plan, settings: Settings, quiet: bool) -> Result<Self> {
        let step = spinner(quiet, "cluster: starting 2 data nodes and a witness");
        let cluster =
            Cluster::start(topology::Topology { nodes: DATA_NODES + 1 }, settings).await?;
        step.finish_with_message(
            "cluster: 2 data nodes and a witness, all voting, fence open on one",
        );
        let watcher = Watcher::start(DATA_NODES)?;
        let subscribers = Subscribers::start(plan)?;
        let lab = Self { watcher, subscribers, cluster };
        lab.dial_in(quiet).await?;
        Ok(lab)
    }

    async fn dial_in(&self, quiet: bool) -> Result<()> {
        let plan = *self.subscribers.plan();
        let total = u64::try_from(plan.total())?;
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(total) };
        bar.set_style(ProgressStyle::with_template("subscribers: {bar:40} {pos}/{len} {msg}")?);
        self.subscribers.dial_all();
        let within =
            Duration::from_secs(60) + Duration::from_millis(10) * u32::try_from(plan.total())?;
        eventually("all subscribers are up", within, || async {
            self.subscribers.check()?;
            let (pppoe, dhcp) = self.subscribers.up();
            bar.set_position(u64::try_from(pppoe + dhcp)?);
            ensure!(
                pppoe == plan.pppoe && dhcp == plan.dhcp,
                "{pppoe} PPPoE and {dhcp} DHCP are up"
            );
            Ok(())
        })
        .await?;
        bar.finish_with_message("up");
        self.subscribers.probe(true);
        self.wait_ready(Duration::from_secs(20)).await?;
        self.flowing(boottime_now()).await
    }

    /// Waits until every probed session is heard in both directions after `since`.
    ///
    /// # Errors
    /// When one stays silent.
    pub async fn flowing(&self, since: Tick) -> Result<()> {
        eventually("every probed session is heard in both directions", RECOVER, || async {
            ensure!(self.subscribers.all_flowing(since), "{}", self.silent(since));
            Ok(())
        })
        .await
    }

    fn silent(&self, since: Tick) -> String {
        let seen = &self.subscribers.shared().seen;
        let up = seen.iter().filter(|s| s.up.last() <= since).count();
        let down = seen.iter().filter(|s| s.down.last() <= since).count();
        format!("silent since then: {up} up, {down} down, of {}", seen.len())
    }

    /// Waits until the cluster is whole.
    ///
    /// # Errors
    /// When it does not become whole in time.
    pub async fn wait_ready(&self, within: Duration) -> Result<()> {
        self.cluster
            .wait("the cluster is whole", within, |s| self.cluster.is_ready(s))
            .await
            .map(|_| ())
    }

    /// Strikes the owner, measures, heals, and waits until the cluster is whole again.
    ///
    /// # Errors
    /// When the sessions do not flow again or the cluster does not recover.
    pub async fn measure(&mut self, fault: Fault) -> Result<Measured> {
        let node = self.cluster.owner().await?;
        let mark = self.subscribers.mark();
        self.flowing(boottime_now() + WARM_UP).await?;
        let mark_again = self.subscribers.mark();
        let leader = self.cluster.status().await?.leader;
        let led = leader.is_some_and(|leader| leader == node.to_string());
        let struck_at = boottime_now();
        fault.strike(&mut self.cluster, node).await?;
        // A daemon that is gone leaves its kernel forwarding until the fence falls: only what arrives
        // after the lease has certainly ended shows the new owner.
        let new_owner = self.changed_owner(node, RECOVER).await;
        self.flowing(boottime_now())
            .await
            .map_err(|e| e.context(format!("after {fault} of {node}")))?;
        new_owner?;
        if fault == Fault::Pause {
            pause(PAUSE.saturating_sub(boottime_now().since(struck_at))).await;
        }
        let (up, down) = self.subscribers.silences(&mark_again);
        let healed_at = boottime_now();
        fault.heal(&mut self.cluster, node)?;
        self.wait_ready(Duration::from_secs(30)).await?;
        let recovery = boottime_now().since(healed_at);
        self.flowing(boottime_now()).await?;
        let kept = self.subscribers.kept(&mark);
        Ok(Measured { fault, node, led, up, down, kept, recovery })
    }

    async fn changed_owner(&self, from: NodeName, within: Duration) -> Result<NodeName> {
        eventually("another node owns the group", within, || async {
            let status = self.cluster.status().await?;
            let group = status.groups.first().ok_or_else(|| anyhow!("no group"))?;
            ensure!(group.fence == Some(model::Fence::Open), "the fence is not open: {group:?}");
            let owner = self.cluster.by_name(group.owner.as_deref().unwrap_or_default())?;
            ensure!(owner != from, "{from} still owns it");
            Ok(owner)
        })
        .await
    }
}

/// A spinner, or silence.
#[must_use]
pub fn spinner(quiet: bool, text: &str) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The line of a status table.
#[must_use]
pub fn cluster_table(status: &api::types::ClusterStatus) -> String {
    let mut out = String::from("NODE  ROLE     RAFT      REVISION  GROUP  FENCE  PROGRAMMED\n");
    for node in &status.nodes {
        let role = match node.role {
            model::NodeRole::Data => "data",
            model::NodeRole::Witness => "witness",
        };
        let applied = node.applied.map_or_else(|| "-".into(), |a| a.to_string());
        let group = status.groups.first();
        let here = group.and_then(|g| g.nodes.iter().find(|n| n.name == node.name));
        let owns = group.is_some_and(|g| g.owner.as_deref() == Some(&node.name));
        let fence = match here.and_then(|h| h.fence) {
            Some(model::Fence::Open) => "open",
            Some(model::Fence::Shut) => "shut",
            None => "-",
        };
        let programmed =
            here.and_then(|h| h.programmed_revision).map_or_else(|| "-".into(), |p| p.to_string());
        let owner = if owns { "owner" } else { "-" };
        out += &format!(
            "{:<5} {role:<8} {:<9} {applied:<9} {owner:<6} {fence:<6} {programmed}\n",
            node.name,
            node.raft_state.to_string()
        );
    }
    let (cluster, group) = (&status.cluster_id, cluster::GROUP);
    let epoch = status.groups.first().map_or(0, |g| g.epoch.0);
    out + &format!(
        "cluster {cluster}, group {group} at epoch {epoch}, revision {}\n",
        status.revision
    )
}
