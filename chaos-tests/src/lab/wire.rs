//! The wire watcher: which nodes send frames from the group's virtual MAC, and when.
//!
//! It listens at the switch's end of each node's cable, behind everything that the node could do
//! about a frame. *One owner* means: on one side (access or core), the times in which two nodes send
//! from the virtual MAC never overlap.

use super::netns;
use super::topology::VRID;
use anyhow::Result;
use dataplane::{PacketSocket, Received, boottime_now};
use model::{MacAddr, Tick};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A pause this long ends a stretch.
const PAUSE: Duration = Duration::from_millis(3);
const POLL: Duration = Duration::from_millis(20);

/// From the first to the last frame of a node without a longer pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Time of its first frame.
    pub first: Tick,
    /// Time of its last frame.
    pub last: Tick,
}

/// Cable name (`acc-n1`) to its stretches, in order.
pub type Stretches = BTreeMap<String, Vec<Stretch>>;

/// The running watcher.
pub struct Watcher {
    found: Arc<Mutex<Stretches>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Result<()>>>,
}

impl Watcher {
    /// Watches the cables of `data` data nodes.
    ///
    /// # Errors
    /// When the thread cannot start.
    pub fn start(data: usize) -> Result<Self> {
        let found = Arc::new(Mutex::new(Stretches::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, until) = (found.clone(), stop.clone());
        let thread = netns::thread_in("tdm-sw", "wire", move || async move {
            let mut tasks = Vec::new();
            for side in ["acc", "core"] {
                for n in 1..=data {
                    let cable = format!("{side}-n{n}");
                    tasks.push(watch(cable, shared.clone(), until.clone()));
                }
            }
            let local = tokio::task::LocalSet::new();
            let handles: Vec<_> = tasks.into_iter().map(|t| local.spawn_local(t)).collect();
            local.await;
            for handle in handles {
                handle.await??;
            }
            Ok(())
        })?;
        Ok(Self { found, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    #[must_use]
    pub fn stretches(&self) -> Stretches {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The largest number of nodes that sent from the virtual MAC at one time on one side.
    #[must_use]
    pub fn owners_max(&self) -> usize {
        owners_max(&self.stretches())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && !matches!(thread.join(), Ok(Ok(())))
        {
            eprintln!("lab: the wire watcher failed");
        }
    }
}

async fn watch(cable: String, found: Arc<Mutex<Stretches>>, stop: Arc<AtomicBool>) -> Result<()> {
    let vmac = MacAddr::virtual_router(VRID).0;
    let socket = PacketSocket::open_all(&cable)?;
    socket.stamp()?;
    let mut bufs = vec![vec![0u8; 128]; 64];
    let mut received: Vec<Received> = Vec::with_capacity(64);
    while !stop.load(Ordering::Acquire) {
        received.clear();
        let batch = tokio::time::timeout(POLL, socket.recv_batch(&mut bufs, &mut received)).await;
        let Ok(Ok(n)) = batch else {
            if batch.is_ok() {
                // The cable was pulled; it comes back.
                tokio::task::yield_now().await;
            }
            continue;
        };
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        let stretches = found.entry(cable.clone()).or_default();
        for (buf, frame) in bufs.iter().zip(&received).take(n) {
            if buf.get(6..12) == Some(&vmac[..]) {
                note(stretches, frame.at.unwrap_or_else(boottime_now));
            }
        }
    }
    Ok(())
}

fn note(stretches: &mut Vec<Stretch>, at: Tick) {
    match stretches.last_mut() {
        Some(open) if at <= open.last + PAUSE => open.last = open.last.max(at),
        Some(_) | None => stretches.push(Stretch { first: at, last: at }),
    }
}

/// See [`Watcher::owners_max`]. Two nodes overlap when a frame of one lies inside a stretch of the other.
#[must_use]
pub fn owners_max(stretches: &Stretches) -> usize {
    let mut most = 0;
    for side in ["acc-", "core-"] {
        let mut edges: Vec<(Tick, i32)> = Vec::new();
        for stretch in
            stretches.iter().filter(|(cable, _)| cable.starts_with(side)).flat_map(|(_, s)| s)
        {
            edges.push((stretch.first, 1));
            edges.push((stretch.last + Duration::from_nanos(1), -1));
        }
        edges.sort_unstable();
        let mut now = 0;
        for (_, step) in edges {
            now += step;
            most = most.max(now);
        }
    }
    usize::try_from(most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rows: &[(&str, &[u64])]) -> Stretches {
        let mut stretches = Stretches::new();
        for (cable, times) in rows {
            let list = stretches.entry((*cable).to_owned()).or_default();
            for ms in *times {
                note(list, Tick::from_ms(*ms));
            }
        }
        stretches
    }

    #[test]
    fn a_handover_is_one_owner_and_an_overlap_is_two() {
        assert_eq!(owners_max(&sent(&[])), 0);
        assert_eq!(owners_max(&sent(&[("acc-n1", &[1, 2, 3]), ("acc-n2", &[5, 6])])), 1);
        assert_eq!(
            owners_max(&sent(&[("acc-n1", &[1, 2, 3]), ("core-n2", &[2])])),
            1,
            "other side"
        );
        assert_eq!(owners_max(&sent(&[("acc-n1", &[1, 3, 5]), ("acc-n2", &[4])])), 2);
        assert_eq!(
            owners_max(&sent(&[("acc-n1", &[1, 2, 9, 10]), ("acc-n2", &[5, 6])])),
            1,
            "there and back"
        );
    }
}
