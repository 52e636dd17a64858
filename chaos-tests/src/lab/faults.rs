//! What can happen to a node, and how it is undone.

use super::cluster::{Cluster, NodeName};
use super::netns::{ip_batch, run};
use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A fault of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// SIGKILL of the daemon; the machine and its kernel go on.
    Kill,
    /// SIGSTOP of the daemon for 5 s.
    Pause,
    /// All links of the node go down at the same instant.
    Power,
    /// The management network is cut: no Raft, no lease.
    Partition,
    /// An operator moves the group.
    Planned,
}

impl Fault {
    /// All of them, in the order of the reports.
    pub const ALL: [Self; 5] =
        [Self::Kill, Self::Pause, Self::Power, Self::Partition, Self::Planned];

    /// The name in reports and flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Partition => "partition",
            Self::Planned => "planned",
        }
    }

    /// Strikes `node`.
    ///
    /// # Errors
    /// When the fault cannot be made.
    pub async fn strike(self, cluster: &mut Cluster, node: NodeName) -> Result<()> {
        match self {
            Self::Kill => cluster.kill(node),
            Self::Pause => cluster.signal(node, Signal::SIGSTOP),
            Self::Power => links(node, &["acc", "core", "mgmt"], false),
            Self::Partition => links(node, &["mgmt"], false),
            Self::Planned => cluster.planned(None).await.map(|_| ()),
        }
    }

    /// Undoes the fault.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub fn heal(self, cluster: &mut Cluster, node: NodeName) -> Result<()> {
        match self {
            Self::Kill => cluster.spawn(node),
            Self::Pause => cluster.signal(node, Signal::SIGCONT),
            Self::Power => links(node, &["acc", "core", "mgmt"], true),
            Self::Partition => links(node, &["mgmt"], true),
            Self::Planned => Ok(()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(s: &str) -> Result<Self> {
        match Self::ALL.iter().find(|f| f.name() == s) {
            Some(fault) => Ok(*fault),
            None => bail!("{s:?} is none of kill, pause, power, partition, planned"),
        }
    }
}

/// Whether a cable of a node is up at the switch's end.
///
/// # Errors
/// When `ip` does not tell.
pub fn is_up(cable: &str, node: NodeName) -> Result<bool> {
    let shown =
        run("ip", &["-n", "tdm-sw", "-o", "link", "show", "dev", &format!("{cable}-{node}")])?;
    let flags = shown.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    Ok(flags.is_some_and(|(flags, _)| flags.split(',').any(|f| f == "UP")))
}

/// Takes cables of a node down or up, in one `ip` process, at the switch's end.
fn links(node: NodeName, cables: &[&str], up: bool) -> Result<()> {
    let state = if up { "up" } else { "down" };
    let lines: String = cables.iter().map(|c| format!("link set {c}-{node} {state}\n")).collect();
    ip_batch(Some("tdm-sw"), &lines)
}
