//! The wire watcher: which nodes send frames from the group's virtual MAC, when, and whether they may.
//!
//! It listens at the switch's end of each node's cables, behind everything that the node could do
//! about a frame. *One owner* means: on one side (access or core), the times in which two nodes send
//! from the virtual MAC never overlap, and no two fences are open at one time. *Silent standby* means:
//! no frame that only an owner sends comes from a node whose fence is shut; see [`super::silence`].

use super::netns;
use super::silence::{FenceLog, Judge, Side, Tally, Violation};
use super::topology::{PIN_ROOT, VRID, node_name};
use anyhow::{Result, bail};
use dataplane::{FenceView, PacketSocket, Received, boottime_now};
use model::{MacAddr, Tick};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A pause this long ends a stretch.
const PAUSE: Duration = Duration::from_millis(3);
const POLL: Duration = Duration::from_millis(20);
/// How often the fences are looked at.
const LOOK: Duration = Duration::from_millis(1);
/// Violations that are kept; one is a failure already.
const VIOLATIONS_MAX: usize = 16;
/// Octets of a frame that are kept: two tags, IPv4 with options, UDP.
const HEAD_OCTETS: usize = 128;

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
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Shared {
    stretches: Mutex<Stretches>,
    /// One for each data node.
    fences: Mutex<Vec<FenceLog>>,
    judged: Mutex<Judged>,
    stop: AtomicBool,
}

/// What was found out about single frames.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Frames by what they claim.
    pub tally: Tally,
    /// The first frames that a node behind a shut fence sent.
    pub violations: Vec<Violation>,
    /// When two fences were open at one time.
    pub both_open: Option<Tick>,
    /// The longest time that any node's fence was not looked at, all gaps together.
    pub unwatched: Duration,
}

impl Judged {
    /// Fails when a standby was not silent, or two fences were open.
    ///
    /// # Errors
    /// The first violation.
    pub fn verdict(&self) -> Result<()> {
        if let Some(at) = self.both_open {
            bail!(
                "two fences were open at {:.6} s",
                Duration::from_nanos(at.as_ns()).as_secs_f64()
            );
        }
        match self.violations.first() {
            Some(violation) => bail!("a standby was not silent: {violation}"),
            None => Ok(()),
        }
    }
}

impl Watcher {
    /// Watches the cables and the fences of `data` data nodes, which have started.
    ///
    /// # Errors
    /// When a thread cannot start.
    pub fn start(data: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            fences: Mutex::new(vec![FenceLog::default(); data]),
            ..Shared::default()
        });
        let views = (0..data)
            .map(|i| FenceView::open(&Path::new(PIN_ROOT).join(node_name(i))))
            .collect::<Result<Vec<_>, _>>()?;
        let looking = shared.clone();
        let fences = netns::thread_in("tdm-sw", "fences", move || look(views, looking))?;
        let listening = shared.clone();
        let wire = netns::thread_in("tdm-sw", "wire", move || async move {
            let local = tokio::task::LocalSet::new();
            let mut handles = Vec::new();
            for (side, prefix) in [(Side::Access, "acc"), (Side::Core, "core")] {
                for i in 0..data {
                    handles.push(local.spawn_local(watch(prefix, side, i, listening.clone())));
                }
            }
            local.await;
            for handle in handles {
                handle.await??;
            }
            Ok(())
        })?;
        Ok(Self { shared, threads: vec![wire, fences] })
    }

    /// What was seen so far.
    #[must_use]
    pub fn stretches(&self) -> Stretches {
        lock(&self.shared.stretches).clone()
    }

    /// The largest number of nodes that sent from the virtual MAC at one time on one side.
    #[must_use]
    pub fn owners_max(&self) -> usize {
        owners_max(&self.stretches())
    }

    /// What was found out about single frames so far.
    #[must_use]
    pub fn judged(&self) -> Judged {
        let unwatched = lock(&self.shared.fences).iter().map(FenceLog::unwatched).max();
        let mut judged = lock(&self.shared.judged).clone();
        judged.unwatched = unwatched.unwrap_or_default();
        judged
    }

    /// Fails when a thread has ended: then nothing is watched any more.
    ///
    /// # Errors
    /// That it ended.
    pub fn check(&self) -> Result<()> {
        if self.threads.iter().any(std::thread::JoinHandle::is_finished) {
            bail!("a thread of the wire watcher has ended");
        }
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("lab: the wire watcher failed: {error:#}"),
                Err(_) => eprintln!("lab: the wire watcher panicked"),
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One look at one fence.
#[derive(Clone, Copy)]
struct Look {
    start: Tick,
    end: Tick,
    until: Tick,
}

impl Look {
    /// The lab has one group, and the first group of a node has slot 0.
    fn at(view: &FenceView) -> Result<Self> {
        let start = boottime_now();
        let until = view.until(0)?;
        Ok(Self { start, end: boottime_now(), until })
    }
}

/// Looks at all fences in turn, and at each once more after the others: what did not change between
/// is certain for the time of the looks in the middle.
async fn look(views: Vec<FenceView>, shared: Arc<Shared>) -> Result<()> {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    while !shared.stop.load(Ordering::Acquire) {
        tick.tick().await;
        let first = views.iter().map(Look::at).collect::<Result<Vec<_>>>()?;
        let again = views.iter().map(Look::at).collect::<Result<Vec<_>>>()?;
        if let Some(at) = both_open(&first, &again) {
            lock(&shared.judged).both_open.get_or_insert(at);
        }
        let mut logs = lock(&shared.fences);
        for ((log, first), again) in logs.iter_mut().zip(&first).zip(&again) {
            log.note(first.start, first.end, first.until);
            log.note(again.start, again.end, again.until);
        }
    }
    Ok(())
}

/// When two fences were certainly open at one time: both stood unchanged from the first round of looks
/// to the second, and neither had passed when the second began.
fn both_open(first: &[Look], again: &[Look]) -> Option<Tick> {
    let middle = first.iter().map(|l| l.end).max()?;
    let stood = first.iter().zip(again).filter(|(a, b)| a.until == b.until && a.until > middle);
    (stood.count() > 1).then_some(middle)
}

async fn watch(prefix: &str, side: Side, node: usize, shared: Arc<Shared>) -> Result<()> {
    let cable = format!("{prefix}-{}", node_name(node));
    let vmac = MacAddr::virtual_router(VRID).0;
    let socket = PacketSocket::open_all(&cable)?;
    socket.stamp()?;
    let mut judge = Judge::new(&cable, side);
    let mut bufs = vec![vec![0u8; HEAD_OCTETS]; 64];
    let mut received: Vec<Received> = Vec::with_capacity(64);
    while !shared.stop.load(Ordering::Acquire) {
        received.clear();
        let batch = tokio::time::timeout(POLL, socket.recv_batch(&mut bufs, &mut received)).await;
        if let Ok(Err(_)) = batch {
            // The cable was pulled; it comes back.
            tokio::task::yield_now().await;
        }
        let n = batch.map_or(0, |arrived| arrived.unwrap_or(0));
        {
            let mut found = lock(&shared.stretches);
            let stretches = found.entry(cable.clone()).or_default();
            for (buf, frame) in bufs.iter().zip(&received).take(n) {
                let at = frame.at.unwrap_or_else(boottime_now);
                if buf.get(6..12) == Some(&vmac[..]) {
                    note(stretches, at);
                }
                judge.frame(at, &buf[..frame.len.min(buf.len())])?;
            }
        }
        let wrong = judge.settle(&lock(&shared.fences)[node]);
        let mut judged = lock(&shared.judged);
        judged.tally.add(judge.take_tally());
        let room = VIOLATIONS_MAX.saturating_sub(judged.violations.len());
        judged.violations.extend(wrong.into_iter().take(room));
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
    fn two_fences_that_stand_open_through_both_looks_are_found() {
        let look = |at_ms: u64, until_ms: u64| Look {
            start: Tick::from_ms(at_ms),
            end: Tick::from_ms(at_ms),
            until: Tick::from_ms(until_ms),
        };
        // Ends of the two fences in the first round of looks, at 10 and 11 ms, and in the second.
        let rows = [
            ((200, 0), (200, 0), None),
            ((200, 210), (200, 210), Some(Tick::from_ms(11))),
            ((200, 210), (0, 210), None), // released between the looks
            ((200, 0), (0, 210), None),   // handed over between the looks
            ((9, 210), (9, 210), None),   // one has passed
            ((11, 210), (11, 210), None), // one passes just then
        ];
        for (first, again, want) in rows {
            let first = [look(10, first.0), look(11, first.1)];
            let again = [look(12, again.0), look(13, again.1)];
            assert_eq!(both_open(&first, &again), want);
        }
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
