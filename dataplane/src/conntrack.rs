//! Ends the flows of connection tracking that no longer belong to whom they say.
//!
//! A flow keeps its translation for as long as packets come. When a session ends, or gets another port
//! block, its flows would go on under a public address and ports that somebody else has by then. One
//! sweep lists all flows and deletes those that do not agree with the session table, so that a sweep serves any
//! number of ended sessions. Sweeps run in a task of their own: only a session that gets an address or
//! ports which were freed since the last sweep waits for the next one.

mod wire;

use crate::abi::{MARK_INDEX_MASK, MARK_SIGN, MARK_SIGN_MASK};
use crate::config::GroupConfig;
use crate::error::DataplaneError;
use crate::guard;
use crate::kernel::lock;
use crate::table::{Step, Table};
use model::{GroupId, NatBlock};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use wire::{Entry, Message, Name};

/// Longest silence of the kernel within an answer.
const ANSWER_TIMEOUT_S: i64 = 2;
/// Octets of one read; the kernel fills at most 32 KiB of a list at a time.
const READ_OCTETS: usize = 64 << 10;
/// Octets that may wait in the socket.
const RECEIVE_BUFFER_OCTETS: usize = 1 << 20;
/// Flows deleted between two looks at the whole list.
const STALE_MAX: usize = 65_536;
/// Deletions sent before their answers are read.
const DELETES_IN_FLIGHT: usize = 64;
/// Reads that may go into the rest of a list that was given up.
const DRAIN_MAX: usize = 65_536;
/// Pause after a sweep that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a session may wait for the sweep that makes room for it.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// How long a reconciliation waits for its sweep before it leaves the count to the next one.
const AUDIT_WAIT: Duration = Duration::from_millis(200);

/// The state that says whose a flow is.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    pub(crate) table: Arc<Mutex<Table>>,
    pub(crate) groups: Arc<Mutex<BTreeMap<GroupId, GroupConfig>>>,
}

/// What was asked of the sweeper and what it has done; sweeps are numbered from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// Newest sweep asked for.
    wanted: u64,
    /// Newest sweep asked for because sessions changed.
    wanted_by_change: u64,
    /// Newest sweep completed.
    done: u64,
    /// Flows deleted that no change of a session accounts for.
    strays: u64,
}

/// Handle of the sweeper.
#[derive(Debug)]
pub(crate) struct Conntrack {
    progress: watch::Sender<Progress>,
    freed: Mutex<Freed>,
    /// Strays that reconciliations have reported.
    reported: Mutex<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Conntrack {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Conntrack {
    /// Starts the sweeper of this thread's network namespace.
    pub(crate) fn open(owners: Owners) -> Result<Self, DataplaneError> {
        let socket = Arc::new(open_socket().map_err(|e| failed("open a ctnetlink socket", &e))?);
        let progress = watch::Sender::new(Progress::default());
        let task = tokio::spawn(run(socket, owners, progress.clone()));
        Ok(Self { progress, freed: Mutex::default(), reported: Mutex::default(), task })
    }

    /// Notes what some steps free, and asks for a sweep if that is anything. To be called when neither
    /// maps nor rules can make a new flow of the old kind.
    pub(crate) fn note(&self, steps: &[Step]) {
        if !steps.iter().any(frees) {
            return;
        }
        let mut freed = lock(&self.freed);
        let mut done = 0;
        let mut sweep = 0;
        self.progress.send_modify(|p| {
            p.wanted += 1;
            p.wanted_by_change = p.wanted;
            (sweep, done) = (p.wanted, p.done);
        });
        freed.forget(done);
        for step in steps {
            freed.note(step, sweep);
        }
    }

    /// Parts steps into those that may open at once and those that must wait until flows of their
    /// predecessors are gone.
    pub(crate) fn part(&self, steps: Vec<Step>) -> (Vec<Step>, Vec<Step>) {
        let mut freed = lock(&self.freed);
        freed.forget(self.progress.borrow().done);
        steps.into_iter().partition(|step| !freed.meets(step))
    }

    /// Waits until all that was freed is swept.
    pub(crate) async fn settled(&self) -> Result<(), DataplaneError> {
        let sweep = self.progress.borrow().wanted_by_change;
        self.wait(sweep, SETTLE_MAX).await
    }

    /// Sweeps and returns how many flows were deleted that nobody had freed. A long sweep goes on
    /// afterwards, and the next call tells what it found.
    pub(crate) async fn audit(&self) -> u64 {
        let mut sweep = 0;
        self.progress.send_modify(|p| {
            p.wanted += 1;
            sweep = p.wanted;
        });
        // Late or failed: the sweeper has logged why, or is still at it.
        let _ = self.wait(sweep, AUDIT_WAIT).await;
        let total = self.progress.borrow().strays;
        let mut reported = lock(&self.reported);
        total - std::mem::replace(&mut *reported, total)
    }

    async fn wait(&self, sweep: u64, within: Duration) -> Result<(), DataplaneError> {
        let mut progress = self.progress.subscribe();
        let done = tokio::time::timeout(within, progress.wait_for(|p| p.done >= sweep)).await;
        match done {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(DataplaneError::Conntrack {
                action: "end the flows of former sessions",
                detail: format!("no sweep was completed within {} ms", within.as_millis()),
            }),
        }
    }
}

/// Sweeps whenever asked; requests that come during a sweep share the next one.
async fn run(socket: Arc<OwnedFd>, owners: Owners, progress: watch::Sender<Progress>) {
    let mut asked = progress.subscribe();
    let mut sequence = 0;
    loop {
        let Ok(wanted) = asked.wait_for(|p| p.wanted > p.done).await.map(|p| *p) else { return };
        let (socket, owners) = (socket.clone(), owners.clone());
        let swept = tokio::task::spawn_blocking(move || {
            let mut sweep = Sweep { socket: &socket, sequence, owners: &owners };
            (sweep.run(), sweep.sequence)
        });
        let outcome = match swept.await {
            Ok((result, last)) => {
                sequence = last;
                result
            }
            Err(error) => Err(io::Error::other(error)),
        };
        match outcome {
            Ok(deleted) => progress.send_modify(|p| {
                if p.done >= wanted.wanted_by_change {
                    p.strays += deleted;
                }
                p.done = wanted.wanted;
            }),
            Err(error) => {
                tracing::warn!(
                    event = "TANDEM-CONNTRACK-FAILED",
                    %error,
                    "flows of former sessions are not ended yet"
                );
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Which flows are subject to the session table.
struct Ours {
    networks: BTreeSet<guard::Network>,
    gateways: BTreeSet<Ipv4Addr>,
}

impl Ours {
    fn of(groups: &BTreeMap<GroupId, GroupConfig>) -> Self {
        Self {
            networks: guard::networks(groups.values()),
            gateways: groups.values().flat_map(|g| &g.gateways).copied().collect(),
        }
    }

    /// A gateway is an address of the node's own, with flows of the node's own.
    fn has_subscriber(&self, address: Ipv4Addr) -> bool {
        guard::contains(&self.networks, address) && !self.gateways.contains(&address)
    }
}

/// One look at all flows, and more while there is much to delete.
struct Sweep<'a> {
    socket: &'a OwnedFd,
    /// Number of the newest request.
    sequence: u32,
    owners: &'a Owners,
}

impl Sweep<'_> {
    /// Returns the number of flows deleted.
    fn run(&mut self) -> io::Result<u64> {
        let ours = Ours::of(&lock(&self.owners.groups));
        let mut deleted = 0;
        if ours.networks.is_empty() {
            return Ok(deleted);
        }
        self.drain();
        loop {
            let stale = self.list(&ours)?;
            for names in stale.chunks(DELETES_IN_FLIGHT) {
                deleted += self.delete(names)?;
            }
            if stale.len() < STALE_MAX {
                return Ok(deleted);
            }
        }
    }

    /// Takes what a failed sweep left: the kernel gives one list at a time to a socket.
    fn drain(&self) {
        let mut buffer = vec![0; READ_OCTETS];
        for _ in 0..DRAIN_MAX {
            if recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_err() {
                return;
            }
        }
    }

    fn next_request(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Lists the stale flows, at most [`STALE_MAX`] of them.
    fn list(&mut self, ours: &Ours) -> io::Result<Vec<Name>> {
        let request = self.next_request();
        send(self.socket.as_raw_fd(), &wire::list(request), MsgFlags::empty())?;
        let mut stale = Vec::new();
        let mut buffer = vec![0; READ_OCTETS];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let table = lock(&self.owners.table);
            let mut end = None;
            wire::read(&buffer[..len], |sequence, message| match message {
                Message::Entry(entry) => {
                    if stale.len() < STALE_MAX
                        && ours.has_subscriber(entry.source)
                        && is_stale(&entry, &table)
                    {
                        stale.push(entry.name);
                    }
                }
                Message::Done if sequence == request => end = Some(0),
                Message::Answer(errno) if sequence == request => end = Some(errno),
                Message::Done | Message::Answer(_) | Message::Other => {}
            })
            .map_err(io::Error::other)?;
            match end {
                None => {}
                Some(0) => return Ok(stale),
                Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Deletes flows and returns how many were still there.
    fn delete(&mut self, names: &[Name]) -> io::Result<u64> {
        let mut requests = Vec::new();
        let mut open = BTreeSet::new();
        for name in names {
            let request = self.next_request();
            open.insert(request);
            requests.extend(wire::delete(request, name));
        }
        send(self.socket.as_raw_fd(), &requests, MsgFlags::empty())?;
        let mut deleted = 0;
        let mut refused = None;
        let mut buffer = vec![0; READ_OCTETS];
        while !open.is_empty() {
            let len = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            wire::read(&buffer[..len], |sequence, message| {
                let Message::Answer(errno) = message else { return };
                if !open.remove(&sequence) {
                    return;
                }
                match errno {
                    0 => deleted += 1,
                    // It ended by itself since it was listed.
                    libc::ENOENT => {}
                    errno => refused = Some(errno),
                }
            })
            .map_err(io::Error::other)?;
        }
        refused.map_or(Ok(deleted), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

/// Whether a flow from one of our private networks disagrees with the session that has its source
/// address now.
fn is_stale(entry: &Entry, table: &Table) -> bool {
    let Some(holder) = table.at(entry.source) else { return true };
    // nftables marks what passes towards the core with the session it came from (`nft.rs`).
    let outbound = entry.mark & MARK_SIGN_MASK == MARK_SIGN;
    let of_another = outbound && entry.mark & MARK_INDEX_MASK != holder.index;
    let translated = entry.answers_to != entry.source;
    let inside = holder.entry.nat.is_some_and(|block| {
        block.public == entry.answers_to
            && entry.answers_port.is_none_or(|p| (block.first_port..=block.last_port).contains(&p))
    });
    of_another || ((translated || outbound) && !inside)
}

/// Whether a step leaves an address or ports behind that may have flows.
fn frees(step: &Step) -> bool {
    let Some(before) = step.before.filter(|p| p.entry.nat.is_some()) else { return false };
    step.after
        .is_none_or(|a| (a.entry.address, a.entry.nat) != (before.entry.address, before.entry.nat))
}

/// Addresses and blocks that may still have flows, each with the sweep that ends them. Bounded by the
/// sessions that end during one sweep.
#[derive(Debug, Default)]
struct Freed {
    addresses: BTreeMap<Ipv4Addr, u64>,
    /// By public address and first port: last port and sweep.
    blocks: BTreeMap<(Ipv4Addr, u16), (u16, u64)>,
}

impl Freed {
    fn note(&mut self, step: &Step, sweep: u64) {
        let Some(before) = step.before.filter(|_| frees(step)).map(|p| p.entry) else { return };
        let after = step.after.map(|p| p.entry);
        if after.is_none_or(|a| a.address != before.address) {
            self.addresses.insert(before.address, sweep);
        }
        if let Some(block) = before.nat
            && after.is_none_or(|a| a.nat != before.nat)
        {
            self.blocks.insert((block.public, block.first_port), (block.last_port, sweep));
        }
    }

    fn forget(&mut self, done: u64) {
        self.addresses.retain(|_, sweep| *sweep > done);
        self.blocks.retain(|_, (_, sweep)| *sweep > done);
    }

    /// Whether a step takes something that is not swept yet.
    fn meets(&self, step: &Step) -> bool {
        let Some(after) = step.after.map(|p| p.entry) else { return false };
        let before = step.before.map(|p| p.entry);
        let address = before.is_none_or(|b| b.address != after.address)
            && self.addresses.contains_key(&after.address);
        let block = after
            .nat
            .filter(|_| before.is_none_or(|b| b.nat != after.nat))
            .is_some_and(|block| self.overlaps(&block));
        address || block
    }

    fn overlaps(&self, block: &NatBlock) -> bool {
        self.blocks
            .range((block.public, 0)..=(block.public, block.last_port))
            .any(|(_, (last, _))| *last >= block.first_port)
    }
}

fn open_socket() -> io::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(ANSWER_TIMEOUT_S, 0))?;
    // Without the right to go above the system's bound the default has to do.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_OCTETS);
    Ok(fd)
}

fn failed(action: &'static str, error: &io::Error) -> DataplaneError {
    DataplaneError::Conntrack { action, detail: error.to_string() }
}

#[cfg(test)]
mod tests;
