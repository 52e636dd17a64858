use model::Tick;
use std::time::Duration;

/// The switch that something hangs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first switch.
    Left,
    /// The second switch, behind the trunk.
    Right,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Self; 2] = [Self::Left, Self::Right];

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Left => 0,
            Self::Right => 1,
        }
    }
}

/// How the speakers decide who is master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Raft and the quorum lease decide; VRRP only speaks.
    Tandem(Option<Bug>),
    /// RFC 9568, each on its own. The first speaker has the highest priority.
    Stock,
}

/// A mistake put in on purpose, to see that the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The kernel does not compare the deadline: a node is master as long as its daemon thinks so.
    NoKernelFence,
    /// The group goes to another node before the promise to the owner has run out.
    EarlyTakeover,
}

/// What goes wrong, or is done on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The trunk between the switches fails without loss of carrier anywhere else.
    TrunkDown,
    /// The trunk works again.
    TrunkUp,
    /// The speaker's access link loses carrier.
    LinkDown(usize),
    /// The access link has carrier again.
    LinkUp(usize),
    /// The speaker's daemon dies at once; its kernel goes on.
    Kill(usize),
    /// The daemon starts anew.
    Start(usize),
    /// Daemon and kernel die at once.
    PowerOff(usize),
    /// The daemon is stopped (SIGSTOP); its kernel goes on.
    Pause(usize),
    /// The daemon goes on where it was.
    Resume(usize),
    /// The speaker loses the cluster's network, but not the access network.
    Isolate(usize),
    /// The speaker is back in the cluster's network.
    Rejoin(usize),
    /// An operator hands the group to this speaker (Tandem only).
    HandOver(usize),
}

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How mastership is decided.
    pub kind: Kind,
    /// Where each speaker hangs.
    pub speakers: Vec<Side>,
    /// What happens when.
    pub faults: Vec<(Tick, Fault)>,
    /// Frames lost on each hop, in thousandths.
    pub lost_per_mille: u32,
    /// How long to play.
    pub length: Duration,
}

impl Scenario {
    /// Returns a run of three seconds without faults: one speaker on each side.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            speakers: vec![Side::Left, Side::Right],
            faults: vec![],
            lost_per_mille: 0,
            length: Duration::from_secs(3),
        }
    }

    /// Adds a fault.
    #[must_use]
    pub fn at_ms(mut self, at_ms: u64, fault: Fault) -> Self {
        self.faults.push((Tick::from_ms(at_ms), fault));
        self
    }
}
