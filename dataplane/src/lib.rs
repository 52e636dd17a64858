//! EBPF programs and their control: maps, fences, tc classes, nftables, routes, reconciliation, and
//! the packet sockets of the daemon.
//!
//! The kernel forwards for a group only while `CLOCK_BOOTTIME` is before the group's fence. That
//! check, and the anti-spoofing of subscribers, happen per packet in `bpf/tandem.bpf.c`; the daemon
//! only writes maps. Everything is pinned, so the daemon may stop and start without touching traffic.

#[expect(unsafe_code, reason = "declares plain map layouts for the loader")]
mod abi;
mod clock;
mod config;
mod conntrack;
mod ebpf;
mod error;
mod guard;
pub mod host;
mod kernel;
mod link;
mod nft;
mod observe;
mod packet;
mod policy;
#[expect(unsafe_code, reason = "one system call that no dependency wraps")]
mod priority;
mod reconcile;
mod route;
mod simulated;
#[expect(unsafe_code, reason = "system calls that no dependency wraps")]
mod sys;
mod table;
mod tc;
mod tool;

pub use clock::boottime_now;
pub use config::{
    AccessPort, Config, Counters, Drift, GroupConfig, PoolRoute, SessionChange, SessionEntry,
    Shaper, XdpMode,
};
pub use error::DataplaneError;
pub use observe::FenceView;
pub use packet::{PacketSocket, Received};
pub use policy::UnknownSource;
pub use priority::raise_thread_priority;

use kernel::Kernel;
use model::{Ban, GroupId, SessionId, Tick};
use simulated::Simulated;

/// The data plane of one node: a handle that may be shared between tasks.
#[derive(Debug)]
pub struct Dataplane {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Kernel(Box<Kernel>),
    Simulated(Simulated),
}

impl Dataplane {
    /// Loads the programs or takes over what a former process pinned, and attaches them.
    ///
    /// All fences of a fresh start are shut; after a restart they stand as they were. Must run in a
    /// tokio runtime, in the network namespace of the interfaces.
    ///
    /// # Errors
    /// [`DataplaneError`] names what is missing. What was attached by then stays, fences shut.
    pub async fn open(cfg: Config) -> Result<Self, DataplaneError> {
        let kernel = Kernel::open(cfg).await?;
        Ok(Self { inner: Inner::Kernel(Box::new(kernel)) })
    }

    /// Returns a data plane without a kernel, for development: it remembers and forwards nothing.
    #[must_use]
    pub fn simulated() -> Self {
        Self { inner: Inner::Simulated(Simulated::default()) }
    }

    /// Adds or changes a group: its virtual MAC, gateways and pool routes. Leaves its fence alone.
    ///
    /// # Errors
    /// [`DataplaneError`]; repeating the call completes what was left undone.
    pub async fn put_group(&self, group: &GroupConfig) -> Result<(), DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.put_group(group).await?,
            Inner::Simulated(s) => s.put_group(group),
        }
        Ok(())
    }

    /// Shuts the fence of a group and removes its gateways and routes. Its sessions are the caller's.
    ///
    /// # Errors
    /// [`DataplaneError`]; the fence is shut in any case.
    pub async fn remove_group(&self, id: GroupId) -> Result<(), DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.remove_group(id).await?,
            Inner::Simulated(s) => s.remove_group(id),
        }
        Ok(())
    }

    /// Opens the fence of a group until a point of [`boottime_now`]: one map write.
    ///
    /// # Errors
    /// [`DataplaneError::UnknownGroup`], or the map's refusal.
    pub fn set_fence(&self, group: GroupId, until: Tick) -> Result<(), DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.set_fence(group, until),
            Inner::Simulated(s) => s.set_fence(group, until),
        }
    }

    /// Shuts the fence of a group at once.
    ///
    /// # Errors
    /// As [`set_fence`](Self::set_fence).
    pub fn shut_fence(&self, group: GroupId) -> Result<(), DataplaneError> {
        self.set_fence(group, Tick::ZERO)
    }

    /// Returns until when the kernel's fence is open; zero for an unknown group.
    #[must_use]
    pub fn fence(&self, group: GroupId) -> Tick {
        match &self.inner {
            Inner::Kernel(k) => k.fence(group),
            Inner::Simulated(s) => s.fence(group),
        }
    }

    /// Programs changes in their order, as one batch: each session ends in its last state.
    ///
    /// # Errors
    /// [`DataplaneError`]. Some of the batch may be programmed then; [`reconcile`](Self::reconcile)
    /// completes it.
    pub async fn apply(&self, changes: &[SessionChange]) -> Result<(), DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.apply(changes).await,
            Inner::Simulated(s) => s.apply(changes),
        }
    }

    /// Compares the kernel with what is desired, repairs it, and returns what had to be repaired.
    ///
    /// # Errors
    /// [`DataplaneError`] when the kernel cannot be read or repaired.
    pub async fn reconcile(&self, desired: &[SessionEntry]) -> Result<Drift, DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.reconcile(desired).await,
            Inner::Simulated(s) => s.reconcile(desired),
        }
    }

    /// Makes these bans, and no others, those of the kernel; returns what had to be changed.
    ///
    /// What is banned is dropped on access and core ports, packet by packet: a flow that was there
    /// before ends too.
    ///
    /// # Errors
    /// [`DataplaneError`]; repeating the call completes what was left undone.
    pub fn set_bans(&self, bans: &[Ban]) -> Result<Drift, DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.set_bans(bans),
            Inner::Simulated(s) => Ok(s.set_bans(bans)),
        }
    }

    /// Takes the sources of IPoE packets on the ports of a group that belong to no session where they
    /// were heard: each once, however much it sends, and a bounded number of them.
    ///
    /// They are noted while the fence of the group is open.
    ///
    /// # Errors
    /// [`DataplaneError`] when the kernel refuses to let go of them.
    pub fn take_unknown(&self, group: GroupId) -> Result<Vec<UnknownSource>, DataplaneError> {
        match &self.inner {
            Inner::Kernel(k) => k.take_unknown(group),
            Inner::Simulated(_) => Ok(Vec::new()),
        }
    }

    /// Returns the traffic of a session, base included; `None` when it is not programmed.
    #[must_use]
    pub fn counters(&self, id: SessionId) -> Option<Counters> {
        match &self.inner {
            Inner::Kernel(k) => k.counters(id),
            Inner::Simulated(s) => s.counters(id),
        }
    }

    /// Returns the traffic of all sessions, in the order of their ids.
    #[must_use]
    pub fn all_counters(&self) -> Vec<(SessionId, Counters)> {
        match &self.inner {
            Inner::Kernel(k) => k.all_counters(),
            Inner::Simulated(s) => s.all_counters(),
        }
    }

    /// Adds traffic of a session that other nodes carried; returns whether the session is programmed here.
    ///
    /// Packets that are counted at the same time are not lost. What is added survives a restart of the
    /// daemon, and adding it twice counts it twice: the caller has to know what it has added.
    #[must_use]
    pub fn raise_counter_base(&self, id: SessionId, by: Counters) -> bool {
        match &self.inner {
            Inner::Kernel(k) => k.raise_counter_base(id, by),
            Inner::Simulated(s) => s.raise_counter_base(id, by),
        }
    }

    /// Returns how many packets the programs dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        match &self.inner {
            Inner::Kernel(k) => k.drops(),
            Inner::Simulated(_) => Vec::new(),
        }
    }

    /// Returns whether each configured interface is up with carrier; one that is gone has none.
    #[must_use]
    pub fn carrier(&self) -> Vec<(String, bool)> {
        match &self.inner {
            Inner::Kernel(k) => k.carrier(),
            Inner::Simulated(_) => Vec::new(),
        }
    }

    /// Lets go of the data plane and leaves it as it is in the kernel, for the next process.
    pub async fn close(self) {
        drop(self);
    }

    /// Takes out of the kernel all that [`open`](Self::open) and the other calls put there.
    ///
    /// # Errors
    /// The first failure, after everything was tried.
    pub async fn purge(self) -> Result<(), DataplaneError> {
        match self.inner {
            Inner::Kernel(k) => k.purge().await,
            Inner::Simulated(_) => Ok(()),
        }
    }
}
