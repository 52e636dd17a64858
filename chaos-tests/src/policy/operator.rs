//! The operator of the policy run: proposes commands, and asks for the list of waiting sources, as the
//! witness could. So it needs no endpoint of the API.

use crate::lab::cluster::{Cluster, NodeName};
use anyhow::{Context as _, Result, bail};
use model::{Attachment, GroupId, NodeId};
use raft_store::{Command, Identity, RaftTiming, Remote, Reply};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where nodes listen for Raft.
const RAFT_PORT: u16 = 7400;
/// How long one command may take: elections included.
const PATIENCE: Duration = Duration::from_secs(5);
/// As profile `default`.
const TIMING: RaftTiming = RaftTiming {
    heartbeat: Duration::from_millis(30),
    election_min: Duration::from_millis(120),
    election_max: Duration::from_millis(200),
};

/// A source that waits to be let in, as nodes tell each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Waiting {
    pub(super) address: Ipv4Addr,
    pub(super) attachment: Attachment,
}

pub(super) struct Operator {
    remote: Remote,
    ids: BTreeMap<String, NodeId>,
    pub(super) group: GroupId,
    client: u64,
    sequence: AtomicU64,
}

impl Operator {
    pub(super) async fn new(cluster: &Cluster) -> Result<Self> {
        let status = cluster.status().await?;
        let witness = cluster.topology().data_dir(cluster.nodes() - 1).join("data/identity");
        let identity = Identity::load(&witness).context("the witness has no identity")?;
        let ids = status.nodes.iter().map(|n| (n.name.clone(), n.id)).collect();
        let raft = |ip: IpAddr| SocketAddr::new(ip, RAFT_PORT);
        let nodes = status.nodes.iter().map(|n| (n.id, raft(n.api_addr.ip()))).collect();
        let remote = Remote::new(identity, &TIMING, nodes).map_err(anyhow::Error::msg)?;
        let group = status.groups.first().context("no group")?.id;
        Ok(Self { remote, ids, group, client: rand::random(), sequence: AtomicU64::new(1) })
    }

    /// Carries out one command.
    pub(super) async fn run(&self, command: Command) -> Result<()> {
        let client = (self.client, self.sequence.fetch_add(1, Ordering::Relaxed));
        let done = self.remote.propose(&command, client, PATIENCE).await;
        match done.with_context(|| format!("{command:?}"))?.reply {
            Reply::Refused(refusal) => bail!("{command:?} was refused: {refusal}"),
            Reply::Done | Reply::Sessions(_) => Ok(()),
            other @ (Reply::Acquired { .. } | Reply::NodeId(_) | Reply::Documents { .. }) => {
                bail!("{command:?}: {other:?}")
            }
        }
    }

    /// The sources that a node says are waiting.
    pub(super) async fn waiting(&self, node: NodeName) -> Result<Vec<Waiting>> {
        let id = self.ids.get(&node.to_string()).with_context(|| format!("no node {node}"))?;
        let request = serde_json::json!({"kind": "waiting", "group": self.group});
        let answer = self.remote.call(*id, "node", serde_json::to_vec(&request)?, PATIENCE).await?;
        Ok(serde_json::from_slice(&answer)?)
    }
}
