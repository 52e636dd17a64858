//! A capture at the switch's end of each data node's cables: what the nodes say in which VLAN, and
//! what must never be seen on the core.

use super::{PRIVATE_NET, PUBLIC_NET};
use crate::lab::cluster::{DATA_NODES, NodeName};
use crate::lab::netns;
use crate::lab::topology::VRID;
use anyhow::Result;
use dataplane::{PacketSocket, Received, boottime_now};
use ether::{Frame, Ipv4, ethertype};
use model::{MacAddr, Tick, Vlans};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);
/// Octets that are kept of a frame: all headers.
const FRAME_OCTETS: usize = 2048;
/// Announcements remembered per node and VLAN.
const ANNOUNCEMENTS_MAX: usize = 1000;

/// The tags of a frame, and whether the outer one is a service tag.
type Tags = (Vlans, bool);

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Broadcasts from the virtual MAC.
    announced: BTreeMap<(NodeName, Tags), Vec<Tick>>,
    /// Packets that a node sent to the core with a private source.
    pub(super) untranslated: u64,
    /// Packets to a public address that went to a node.
    pub(super) to_public: u64,
    /// Packets to a private address that went to a node.
    pub(super) to_private: u64,
    /// Packets to a public address that a node sent back to the core.
    pub(super) looped: u64,
}

/// The running capture.
pub(super) struct Tap {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Tap {
    /// Captures on all data cables.
    ///
    /// # Errors
    /// When the thread cannot start.
    pub(super) fn start() -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, until) = (seen.clone(), stop.clone());
        let thread = netns::thread_in("tdm-sw", "tap", move || async move {
            let local = tokio::task::LocalSet::new();
            let mut handles = Vec::new();
            for node in (0..DATA_NODES).map(NodeName) {
                for (side, on_frame) in
                    [("acc", Seen::on_access as OnFrame), ("core", Seen::on_core as OnFrame)]
                {
                    let cable = format!("{side}-{node}");
                    let (shared, until) = (shared.clone(), until.clone());
                    handles.push(local.spawn_local(capture(cable, node, on_frame, shared, until)));
                }
            }
            local.await;
            for handle in handles {
                handle.await??;
            }
            Ok(())
        })?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && !matches!(thread.join(), Ok(Ok(())))
        {
            eprintln!("lab: the tap failed");
        }
    }
}

type OnFrame = fn(&mut Seen, NodeName, &Received, &Frame<'_>);

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn capture(
    cable: String,
    node: NodeName,
    on_frame: OnFrame,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let socket = PacketSocket::open_capture(&cable)?;
    socket.stamp()?;
    let mut bufs = vec![vec![0u8; FRAME_OCTETS]; 64];
    let mut received: Vec<Received> = Vec::with_capacity(64);
    while !stop.load(Ordering::Acquire) {
        received.clear();
        let batch = tokio::time::timeout(POLL, socket.recv_batch(&mut bufs, &mut received)).await;
        let Ok(Ok(n)) = batch else { continue };
        let mut seen = lock(&seen);
        for (buf, received) in bufs.iter().zip(&received).take(n) {
            if let Ok(frame) = Frame::parse(&buf[..received.len.min(buf.len())]) {
                on_frame(&mut seen, node, received, &frame);
            }
        }
    }
    Ok(())
}

impl Seen {
    fn on_access(&mut self, node: NodeName, received: &Received, frame: &Frame<'_>) {
        let from_group = frame.src == MacAddr::virtual_router(VRID);
        // What the switch sends towards the node is no word of the node.
        if received.outgoing || !from_group || frame.dst != MacAddr::BROADCAST {
            return;
        }
        let times = self.announced.entry((node, (frame.vlans, frame.s_tag))).or_default();
        if times.len() < ANNOUNCEMENTS_MAX {
            times.push(received.at.unwrap_or_else(boottime_now));
        }
    }

    fn on_core(&mut self, _: NodeName, received: &Received, frame: &Frame<'_>) {
        if frame.ethertype != ethertype::IPV4 {
            return;
        }
        let Ok(packet) = Ipv4::parse(frame.payload) else { return };
        let (src, dst) = (packet.src, packet.dst);
        if received.outgoing {
            self.to_public += u64::from(is_in(PUBLIC_NET, dst));
            self.to_private += u64::from(is_in(PRIVATE_NET, dst));
        } else {
            self.looped += u64::from(is_in(PUBLIC_NET, dst));
            self.untranslated += u64::from(is_in(PRIVATE_NET, src));
        }
    }

    /// When `node` first announced itself behind these tags after `since`.
    pub(super) fn first_announced(
        &self,
        node: NodeName,
        vlans: Vlans,
        since: Tick,
    ) -> Option<Tick> {
        let times = self.announced.get(&(node, (vlans, vlans.has_service_tag())))?;
        times.iter().copied().find(|at| *at > since)
    }
}

/// Whether an address lies in a network that is given by its first octets.
fn is_in(net: &[u8], address: Ipv4Addr) -> bool {
    address.octets().starts_with(net)
}
