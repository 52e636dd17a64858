use crate::lab::cluster::NodeName;
use crate::lab::faults::Fault;
use crate::lab::netns::run;
use crate::lab::topology::node_ns;
use crate::scenario::Lab;
use anyhow::Result;
use nix::sys::signal::Signal;
use std::fmt;

/// What strikes a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nemesis {
    /// A fault of one node.
    Node(Fault, NodeName),
    /// Some of the management packets that come to a node are lost.
    LossIn(NodeName, u8),
    /// A node stops in order and starts again.
    Restart(NodeName),
}

impl Nemesis {
    /// Everything that may be drawn now.
    pub(super) fn candidates(
        owner: Option<NodeName>,
        leader: Option<NodeName>,
        nodes: usize,
    ) -> Vec<Self> {
        let mut all = vec![Self::Node(Fault::Planned, NodeName(0))];
        let mut targets: Vec<NodeName> = (0..nodes).map(NodeName).collect();
        // The owner and the leader are where it hurts.
        targets.extend(owner);
        targets.extend(leader);
        for node in targets {
            let data = node.0 + 1 < nodes;
            all.push(Self::Node(Fault::Kill, node));
            all.push(Self::Node(Fault::Pause, node));
            all.push(Self::Node(Fault::Partition, node));
            all.push(Self::LossIn(node, 30));
            all.push(Self::LossIn(node, 100));
            all.push(Self::Restart(node));
            if data {
                all.push(Self::Node(Fault::Power, node));
            }
        }
        all
    }

    /// Strikes.
    pub(super) async fn strike(&self, lab: &mut Lab) -> Result<()> {
        match self {
            // Refused while the cluster is not whole: that is an answer, not a failure.
            Self::Node(Fault::Planned, _) => {
                let _ = lab.cluster.planned(None).await;
                Ok(())
            }
            Self::Node(Fault::Kill, node) if !lab.cluster.is_running(*node) => Ok(()),
            Self::Node(fault, node) => match fault.strike(&mut lab.cluster, *node).await {
                Err(_) if !lab.cluster.is_running(*node) => Ok(()),
                other => other,
            },
            Self::LossIn(node, percent) => loss(*node, *percent),
            Self::Restart(node) => {
                let _ = lab.cluster.signal(*node, Signal::SIGTERM);
                Ok(())
            }
        }
    }

    /// Undoes it.
    pub(super) fn heal(&self, lab: &mut Lab) -> Result<()> {
        match self {
            Self::Node(Fault::Kill, node) | Self::Restart(node) => {
                lab.cluster.ensure_running(*node)
            }
            Self::Node(Fault::Pause, node) => {
                let _ = lab.cluster.signal(*node, Signal::SIGCONT);
                Ok(())
            }
            Self::Node(fault, node) => fault.heal(&mut lab.cluster, *node),
            Self::LossIn(node, _) => {
                let net = format!("--net=/run/netns/{}", node_ns(node.0));
                let _ = run("nsenter", &[&net, "nft", "delete", "table", "inet", "chaos"]);
                Ok(())
            }
        }
    }
}

/// Drops a share of what arrives on the management port: one direction only.
fn loss(node: NodeName, percent: u8) -> Result<()> {
    let net = format!("--net=/run/netns/{}", node_ns(node.0));
    let share =
        if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
    let rules = format!(
        "table inet chaos {{ chain in {{ type filter hook input priority -300; iifname \"mgmt\" {share} drop; }}; }}"
    );
    run("nsenter", &[&net, "nft", &rules]).map(|_| ())
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Fault::Planned, _) => f.write_str("planned switch"),
            Self::Node(fault, node) => write!(f, "{fault} {node}"),
            Self::LossIn(node, percent) => write!(f, "{percent} % loss towards {node}"),
            Self::Restart(node) => write!(f, "restart {node}"),
        }
    }
}
