//! What strikes a lab, how it is undone, and how each strike is shown to have acted.

use super::clock_offset_s;
use crate::lab::cluster::{NodeName, eventually, pause};
use crate::lab::disk::{self, Stalled};
use crate::lab::faults::{self, Fault};
use crate::lab::loss::{Loss, Way};
use crate::lab::wall;
use crate::scenario::Lab;
use anyhow::{Result, ensure};
use clap::ValueEnum;
use model::NodeId;
use nix::sys::signal::Signal;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_pcg::Pcg64;
use std::fmt;
use std::time::Duration;

/// How long a signal may take to show.
const SIGNAL_MAX: Duration = Duration::from_secs(1);
/// How long a daemon may take to see its new wall clock: it looks once a second.
const CLOCK_MAX: Duration = Duration::from_secs(5);
/// How far the clock that a daemon shows may be from what was set: whole seconds, and a slow answer.
const CLOCK_ERROR_S: u64 = 60;
/// How long an orderly stop may take, handing over included.
const STOP_MAX: Duration = Duration::from_secs(4);
/// How long the others may take to go on without a member.
const REMOVAL_MAX: Duration = Duration::from_secs(5);
/// What a wall clock is stepped by, in seconds: hours either way, a day, and back to true time.
const STEPS_S: [i64; 5] = [-3 * 3600, 3 * 3600, 86_400, -600, 0];

/// A kind of fault, as flags and reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum FaultKind {
    /// SIGKILL of the daemon.
    Kill,
    /// SIGSTOP of the daemon.
    Pause,
    /// All cables of a data node go down at once.
    Power,
    /// The management cable goes down.
    Partition,
    /// An operator moves the group.
    Planned,
    /// A daemon is stopped in order and started again.
    Restart,
    /// Packets are lost on one cable: some of them, or all in one direction.
    Loss,
    /// The file system of a node's data has no room left.
    DiskFull,
    /// Every write to a node's data waits.
    DiskStall,
    /// The wall clock of a node steps; it stays wrong until the next step.
    Clock,
    /// The witness is removed and a fresh one joins.
    Churn,
}

impl FaultKind {
    /// What this kind needs of the machine.
    pub(super) fn available(self) -> Result<()> {
        match self {
            Self::DiskFull | Self::DiskStall => disk::available(),
            Self::Clock => wall::library().map(|_| ()),
            Self::Kill
            | Self::Pause
            | Self::Power
            | Self::Partition
            | Self::Planned
            | Self::Restart
            | Self::Loss
            | Self::Churn => Ok(()),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |v| v.get_name()))
    }
}

/// Who is who when a fault is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    pub(super) owner: Option<NodeName>,
    pub(super) leader: Option<NodeName>,
    pub(super) nodes: usize,
}

impl Roles {
    /// The owner and the leader are drawn more often than the others: there it hurts.
    fn draw(self, rng: &mut Pcg64, data_only: bool) -> NodeName {
        let count = if data_only { self.nodes - 1 } else { self.nodes };
        let mut targets: Vec<NodeName> = (0..count).map(NodeName).collect();
        targets.extend(self.owner);
        targets.extend(self.leader.filter(|n| n.0 < count));
        targets.choose(rng).copied().unwrap_or(NodeName(0))
    }
}

/// What strikes a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nemesis {
    Node(Fault, NodeName),
    Restart(NodeName),
    Loss(Loss),
    DiskFull(NodeName),
    DiskStall(NodeName),
    Clock(NodeName, i64),
    Churn(NodeName),
}

/// A nemesis at work.
pub(super) struct Struck {
    pub(super) nemesis: Nemesis,
    /// It has shown that it acts.
    pub(super) acted: bool,
    stalled: Option<Stalled>,
    removed: Option<NodeId>,
}

impl Nemesis {
    /// Draws one of a kind.
    pub(super) fn draw(kind: FaultKind, roles: Roles, rng: &mut Pcg64) -> Self {
        match kind {
            FaultKind::Kill => Self::Node(Fault::Kill, roles.draw(rng, false)),
            FaultKind::Pause => Self::Node(Fault::Pause, roles.draw(rng, false)),
            FaultKind::Power => Self::Node(Fault::Power, roles.draw(rng, true)),
            FaultKind::Partition => Self::Node(Fault::Partition, roles.draw(rng, false)),
            FaultKind::Planned => Self::Node(Fault::Planned, NodeName(0)),
            FaultKind::Restart => Self::Restart(roles.draw(rng, false)),
            FaultKind::Loss => Self::Loss(draw_loss(roles, rng)),
            FaultKind::DiskFull => Self::DiskFull(roles.draw(rng, false)),
            FaultKind::DiskStall => Self::DiskStall(roles.draw(rng, false)),
            FaultKind::Clock => {
                Self::Clock(roles.draw(rng, false), *STEPS_S.choose(rng).unwrap_or(&0))
            }
            FaultKind::Churn => Self::Churn(NodeName(roles.nodes - 1)),
        }
    }

    pub(super) fn kind(self) -> FaultKind {
        match self {
            Self::Node(Fault::Kill, _) => FaultKind::Kill,
            Self::Node(Fault::Pause, _) => FaultKind::Pause,
            Self::Node(Fault::Power, _) => FaultKind::Power,
            Self::Node(Fault::Partition, _) => FaultKind::Partition,
            Self::Node(Fault::Planned, _) => FaultKind::Planned,
            Self::Restart(_) => FaultKind::Restart,
            Self::Loss(_) => FaultKind::Loss,
            Self::DiskFull(_) => FaultKind::DiskFull,
            Self::DiskStall(_) => FaultKind::DiskStall,
            Self::Clock(..) => FaultKind::Clock,
            Self::Churn(_) => FaultKind::Churn,
        }
    }

    /// The node that is struck; none for a planned move.
    fn node(self) -> Option<NodeName> {
        match self {
            Self::Node(Fault::Planned, _) => None,
            Self::Node(_, node)
            | Self::Restart(node)
            | Self::DiskFull(node)
            | Self::DiskStall(node)
            | Self::Clock(node, _)
            | Self::Churn(node) => Some(node),
            Self::Loss(loss) => Some(loss.node),
        }
    }

    /// The node whose daemon may end by itself because of this.
    pub(super) fn may_end(self) -> Option<NodeName> {
        match self {
            Self::DiskFull(node) | Self::DiskStall(node) => Some(node),
            Self::Node(..)
            | Self::Restart(_)
            | Self::Loss(_)
            | Self::Clock(..)
            | Self::Churn(_) => None,
        }
    }

    /// Whether both may last at one time. A process that waits for a frozen disk cannot even be killed,
    /// and a replaced machine is in no state to suffer anything else.
    pub(super) fn goes_with(self, other: Self) -> bool {
        let exclusive = |n: Self| {
            matches!(n.kind(), FaultKind::DiskFull | FaultKind::DiskStall | FaultKind::Churn)
        };
        let same_node = self.node().is_some() && self.node() == other.node();
        self.kind() != other.kind() && !(same_node && (exclusive(self) || exclusive(other)))
    }

    /// Undone in this order: a join needs the other nodes.
    pub(super) fn heals_last(self) -> bool {
        matches!(self, Self::Churn(_))
    }

    /// Strikes.
    pub(super) async fn strike(self, lab: &mut Lab) -> Result<Struck> {
        let mut struck = Struck { nemesis: self, acted: false, stalled: None, removed: None };
        match self {
            // Refused while the cluster is not whole: that is an answer, not a failure.
            Self::Node(Fault::Planned, _) => struck.acted = lab.cluster.planned(None).await.is_ok(),
            Self::Node(fault, node) => struck.acted = strike_node(lab, fault, node).await?,
            Self::Restart(node) => {
                let _ = lab.cluster.signal(node, Signal::SIGTERM);
            }
            Self::Loss(loss) => loss.begin()?,
            Self::DiskFull(node) => {
                disk::fill(&lab.cluster.data(node))?;
                struck.acted = true;
            }
            Self::DiskStall(node) => {
                struck.stalled = Some(Stalled::begin(&lab.cluster.data(node))?)
            }
            Self::Clock(node, offset_s) => struck.acted = step(lab, node, offset_s).await?,
            Self::Churn(node) => {
                // Refused without a majority.
                struck.removed = lab.cluster.retire(node, REMOVAL_MAX).await.ok();
            }
        }
        Ok(struck)
    }
}

impl Struck {
    /// Undoes it; returns whether it has acted.
    ///
    /// # Errors
    /// When it cannot be undone.
    pub(super) async fn heal(self, lab: &mut Lab) -> Result<bool> {
        match self.nemesis {
            Nemesis::Node(Fault::Planned, _) | Nemesis::Clock(..) => Ok(self.acted),
            Nemesis::Node(Fault::Kill, node) => {
                lab.cluster.ensure_running(node)?;
                Ok(self.acted)
            }
            Nemesis::Node(fault, node) => {
                // A daemon that was killed meanwhile needs no SIGCONT.
                let healed = fault.heal(&mut lab.cluster, node);
                ensure!(healed.is_ok() || fault == Fault::Pause, "{healed:?}");
                Ok(self.acted)
            }
            Nemesis::Restart(node) => {
                let ended = end_of(lab, node).await;
                lab.cluster.ensure_running(node)?;
                Ok(ended)
            }
            Nemesis::Loss(loss) => Ok(loss.end()? > 0),
            Nemesis::DiskFull(node) => {
                let still_full = disk::is_full(&lab.cluster.data(node))?;
                disk::free(&lab.cluster.data(node))?;
                Ok(self.acted && still_full)
            }
            Nemesis::DiskStall(_) => self.stalled.map_or(Ok(false), Stalled::end),
            Nemesis::Churn(node) => match self.removed {
                Some(old) => Ok(lab.cluster.join(node).await? != old),
                None => {
                    lab.cluster.ensure_running(node)?;
                    Ok(false)
                }
            },
        }
    }
}

fn draw_loss(roles: Roles, rng: &mut Pcg64) -> Loss {
    let cable = *["mgmt", "acc", "core"].choose(rng).unwrap_or(&"mgmt");
    let node = roles.draw(rng, cable != "mgmt");
    // Deaf or mute, or a bad cable.
    if cable == "mgmt" && rng.random_bool(0.4) {
        let way = if rng.random_bool(0.5) { Way::From } else { Way::To };
        return Loss { node, cable, way, percent: 100 };
    }
    Loss { node, cable, way: Way::Both, percent: rng.random_range(5..=30) }
}

async fn strike_node(lab: &mut Lab, fault: Fault, node: NodeName) -> Result<bool> {
    if !lab.cluster.is_running(node) && matches!(fault, Fault::Kill | Fault::Pause) {
        return Ok(false);
    }
    match fault.strike(&mut lab.cluster, node).await {
        // It ended by itself just now; what that means is judged elsewhere.
        Err(_) if !lab.cluster.is_running(node) => return Ok(false),
        other => other?,
    }
    match fault {
        Fault::Kill => Ok(lab.cluster.process_state(node).is_none()),
        Fault::Pause => Ok(eventually("the daemon stands", SIGNAL_MAX, || async {
            ensure!(lab.cluster.process_state(node) == Some('T'), "it does not");
            Ok(())
        })
        .await
        .is_ok()),
        Fault::Power | Fault::Partition => Ok(!faults::is_up("mgmt", node)?),
        Fault::Planned => Ok(true),
    }
}

/// Whether a daemon that was told to stop has ended.
async fn end_of(lab: &mut Lab, node: NodeName) -> bool {
    let deadline = tokio::time::Instant::now() + STOP_MAX;
    while lab.cluster.is_running(node) && tokio::time::Instant::now() < deadline {
        pause(Duration::from_millis(25)).await;
    }
    lab.cluster.ended(node).is_some()
}

/// Steps one node's wall clock and puts all others right: one clock is wrong at a time.
async fn step(lab: &mut Lab, node: NodeName, offset_s: i64) -> Result<bool> {
    for other in (0..lab.cluster.nodes()).map(NodeName) {
        lab.cluster.set_clock(other, if other == node { offset_s } else { 0 })?;
    }
    let client = lab.cluster.client(node).clone();
    let shown = eventually("the daemon shows its new clock", CLOCK_MAX, || async {
        let shown = clock_offset_s(&client.metrics().await?)?;
        ensure!(shown.abs_diff(offset_s) <= CLOCK_ERROR_S, "it is {shown} s off");
        Ok(())
    });
    // Without an answer there is no proof: the node may be down.
    Ok(shown.await.is_ok())
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(Fault::Planned, _) => f.write_str("planned switch"),
            Self::Node(fault, node) => write!(f, "{fault} {node}"),
            Self::Restart(node) => write!(f, "restart {node}"),
            Self::Loss(loss) => write!(f, "{loss}"),
            Self::DiskFull(node) => write!(f, "full disk of {node}"),
            Self::DiskStall(node) => write!(f, "stalled disk of {node}"),
            Self::Clock(node, offset_s) => write!(f, "wall clock of {node} to {offset_s:+} s"),
            Self::Churn(node) => write!(f, "replacement of {node}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_disk_and_a_replaced_machine_suffer_nothing_else() {
        let (n1, n2, n3) = (NodeName(0), NodeName(1), NodeName(2));
        let kill = |n| Nemesis::Node(Fault::Kill, n);
        let rows = [
            (Nemesis::DiskStall(n1), kill(n1), false),
            (kill(n1), Nemesis::DiskStall(n1), false),
            (Nemesis::DiskStall(n1), kill(n2), true),
            (Nemesis::Churn(n3), Nemesis::Node(Fault::Partition, n3), false),
            (Nemesis::Churn(n3), Nemesis::DiskFull(n2), true),
            (kill(n1), Nemesis::Node(Fault::Partition, n1), true),
            (kill(n1), kill(n2), false),
        ];
        for (a, b, want) in rows {
            assert_eq!(a.goes_with(b), want, "{a} with {b}");
        }
    }

    #[test]
    fn every_kind_is_drawn_as_itself() {
        use rand::SeedableRng as _;
        let roles = Roles { owner: Some(NodeName(0)), leader: Some(NodeName(2)), nodes: 3 };
        let mut rng = Pcg64::seed_from_u64(1);
        for kind in FaultKind::value_variants() {
            for _ in 0..50 {
                let drawn = Nemesis::draw(*kind, roles, &mut rng);
                assert_eq!(drawn.kind(), *kind);
                if matches!(kind, FaultKind::Power) {
                    assert!(
                        drawn.node().is_some_and(|n| n.0 < 2),
                        "{drawn}: a witness has no access"
                    );
                }
            }
        }
    }
}
