//! Simulated subscribers: the protocol crates in the client role, hundreds of them behind one cable.
//!
//! One thread in `tdm-sub` speaks for all of them and sends and receives their probes; another in
//! `tdm-core` is the far end.

mod core;
mod host;
mod line;
mod load;

pub use host::{Host, Kind};
pub use load::Load;

use super::netns;
use super::probe::Track;
use anyhow::{Result, bail};
use dataplane::boottime_now;
use line::Line;
use model::{Tick, Vlans};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// Most probes per second and direction: beyond it two cores measure themselves.
const PROBES_PER_S_MAX: u32 = 10_000;
/// How often due probes are sent.
const PROBE_TICK: Duration = Duration::from_millis(1);

/// How the frames of subscribers are tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// Not at all.
    None,
    /// A third untagged, a third in four VLANs, a third each in a VLAN of its own below one of two
    /// service tags.
    Mixed,
}

impl Tagging {
    /// The tags of subscriber `i`.
    #[must_use]
    pub fn of(self, i: usize) -> Vlans {
        let n = u16::try_from(i).unwrap_or(u16::MAX);
        match (self, n % 3) {
            (Self::None, _) | (Self::Mixed, 0) => Vlans::NONE,
            (Self::Mixed, 1) => Vlans { outer: 100 + n / 3 % 4, inner: 0 },
            (Self::Mixed, _) => Vlans { outer: 200 + n / 3 % 2, inner: 10 + n % 1000 },
        }
    }
}

/// How many subscribers of which kind, and how they behave.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// PPPoE subscribers.
    pub pppoe: usize,
    /// DHCP subscribers.
    pub dhcp: usize,
    /// How many dial in per second.
    pub dial_per_s: u32,
    /// Time between two probes of one session and direction.
    pub probe_interval: Duration,
    /// How many subscribers of each kind are probed; the others only hold their session.
    pub probed_each: usize,
    /// Tags of their frames.
    pub tagging: Tagging,
    /// How many of the PPPoE subscribers, the last ones, have private addresses: the core knows them
    /// only by what the translation lets it see.
    pub private: usize,
}

impl Plan {
    /// All are probed as often as the machine bears, at most every 20 ms.
    #[must_use]
    pub fn new(pppoe: usize, dhcp: usize) -> Self {
        let probed_each = 100;
        let probed = u32::try_from(pppoe.min(probed_each) + dhcp.min(probed_each))
            .unwrap_or(u32::MAX)
            .max(1);
        let fastest = Duration::from_secs(1) * probed / PROBES_PER_S_MAX;
        Self {
            pppoe,
            dhcp,
            dial_per_s: 400,
            probe_interval: fastest.max(Duration::from_millis(20)),
            probed_each,
            tagging: Tagging::None,
            private: 0,
        }
    }

    /// Whether subscriber `i` has a private address.
    #[must_use]
    pub fn is_private(&self, i: usize) -> bool {
        i < self.pppoe && i + self.private >= self.pppoe
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        self.pppoe + self.dhcp
    }

    fn is_probed(&self, i: usize) -> bool {
        if i < self.pppoe { i < self.probed_each } else { i - self.pppoe < self.probed_each }
    }
}

/// What others may see of one subscriber.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its address as a number, 0 while it has none.
    pub address: AtomicU32,
    /// How often a session of it ended after it was up.
    pub lost: AtomicU64,
    /// How often it came up.
    pub came_up: AtomicU64,
    /// Probes from it that reached the core.
    pub up: Track,
    /// Probes to it that arrived.
    pub down: Track,
    /// Octets of a [`Load`] that arrived from it, IP headers included.
    pub up_octets: AtomicU64,
    /// Octets of a [`Load`] that arrived at it.
    pub down_octets: AtomicU64,
    /// Address and port from which its last probe came to the core, as a number.
    outside: AtomicU64,
}

impl Seen {
    /// Where its last probe came from, as the core saw it.
    #[must_use]
    pub fn outside(&self) -> Option<SocketAddrV4> {
        let bits = self.outside.load(Ordering::Acquire);
        let address = u32::try_from(bits >> 16).ok()?;
        let port = u16::try_from(bits & 0xffff).ok()?;
        (bits != 0).then(|| SocketAddrV4::new(address.into(), port))
    }

    pub(crate) fn seen_from(&self, outside: SocketAddrV4) {
        let bits = u64::from(u32::from(*outside.ip())) << 16 | u64::from(outside.port());
        self.outside.store(bits, Ordering::Release);
    }

    /// The address, if it has one.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self.address.load(Ordering::Acquire) {
            0 => None,
            bits => Some(Ipv4Addr::from(bits)),
        }
    }
}

/// State shared with the threads.
pub struct Shared {
    /// Each subscriber; the PPPoE ones first.
    pub seen: Vec<Seen>,
    /// All probes that reached the core.
    pub up: Track,
    /// All probes that reached subscribers.
    pub down: Track,
    /// Frames for a subscriber that bore other tags than its own.
    pub mistagged: AtomicU64,
    /// Probes of strangers that reached a subscriber.
    pub strays: AtomicU64,
    loads: Mutex<Vec<Load>>,
    probing: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    /// What is to be sent besides probes.
    fn loads(&self) -> Vec<Load> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the driver asks of subscribers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Dial(usize),
    HangUp(usize),
    Vanish(usize),
}

/// Running subscribers. Dropping them stops the threads; nobody hangs up.
pub struct Subscribers {
    plan: Plan,
    shared: Arc<Shared>,
    wishes: mpsc::Sender<Wish>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

/// Addresses and counters at one moment, to compare with later.
#[derive(Clone, Debug)]
pub struct Mark {
    sessions: Vec<(Option<Ipv4Addr>, u64)>,
}

/// What became of the sessions since a [`Mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Kept {
    /// Sessions that were up.
    pub sessions: usize,
    /// Of those, still the same session with the same address.
    pub kept: usize,
    /// Ended and not back.
    pub lost: usize,
    /// Ended and dialled anew.
    pub redialled: usize,
}

impl Subscribers {
    /// Starts the threads; nobody dials yet.
    ///
    /// # Errors
    /// When a thread cannot start.
    pub fn start(plan: Plan) -> Result<Self> {
        let shared = Arc::new(Shared {
            seen: (0..plan.total()).map(|_| Seen::default()).collect(),
            up: Track::default(),
            down: Track::default(),
            mistagged: AtomicU64::new(0),
            strays: AtomicU64::new(0),
            loads: Mutex::default(),
            probing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let (wishes, inbox) = mpsc::channel();
        let line_shared = shared.clone();
        let line = netns::thread_in("tdm-sub", "subscribers", move || {
            Line::run(plan, line_shared, inbox)
        })?;
        let core_shared = shared.clone();
        let core = netns::thread_in("tdm-core", "core", move || core::run(plan, core_shared))?;
        Ok(Self { plan, shared, wishes, threads: vec![line, core] })
    }

    /// Everybody dials, in order, at the plan's rate.
    pub fn dial_all(&self) {
        for i in 0..self.plan.total() {
            self.wish(Wish::Dial(i));
        }
    }

    /// One subscriber dials.
    pub fn dial(&self, i: usize) {
        self.wish(Wish::Dial(i));
    }

    /// One subscriber hangs up, in order.
    pub fn hang_up(&self, i: usize) {
        self.wish(Wish::HangUp(i));
    }

    /// One subscriber falls silent without a word, and stays so until it dials anew. Returns when it has.
    ///
    /// # Errors
    /// When the thread does not do it in time.
    pub async fn vanish(&self, i: usize) -> Result<()> {
        self.wish(Wish::Vanish(i));
        super::cluster::eventually("a subscriber falls silent", Duration::from_secs(5), || async {
            anyhow::ensure!(self.shared.seen[i].address().is_none(), "it has an address");
            Ok(())
        })
        .await
    }

    fn wish(&self, wish: Wish) {
        let _ = self.wishes.send(wish);
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// State shared with the threads.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How many have an address: PPPoE and DHCP.
    #[must_use]
    pub fn up(&self) -> (usize, usize) {
        let count = |range: &[Seen]| range.iter().filter(|s| s.address().is_some()).count();
        let (pppoe, dhcp) = self.shared.seen.split_at(self.plan.pppoe);
        (count(pppoe), count(dhcp))
    }

    /// Starts or stops the probes.
    pub fn probe(&self, on: bool) {
        self.shared.probing.store(on, Ordering::Release);
    }

    /// Sends these loads from now on, and no others.
    pub fn load(&self, loads: Vec<Load>) {
        *self.shared.loads.lock().unwrap_or_else(PoisonError::into_inner) = loads;
    }

    /// Fails when a thread has ended.
    ///
    /// # Errors
    /// That it ended.
    pub fn check(&self) -> Result<()> {
        if self.threads.iter().any(std::thread::JoinHandle::is_finished) {
            bail!("a subscriber thread has ended; see the messages above");
        }
        Ok(())
    }

    /// Begins a measurement.
    #[must_use]
    pub fn mark(&self) -> Mark {
        for seen in &self.shared.seen {
            seen.up.arm();
            seen.down.arm();
        }
        self.shared.up.arm();
        self.shared.down.arm();
        let sessions = self
            .shared
            .seen
            .iter()
            .map(|s| (s.address(), s.lost.load(Ordering::Acquire)))
            .collect();
        Mark { sessions }
    }

    /// What became of the sessions since `mark`.
    #[must_use]
    pub fn kept(&self, mark: &Mark) -> Kept {
        let mut kept = Kept::default();
        for ((address, lost), seen) in mark.sessions.iter().zip(&self.shared.seen) {
            if address.is_none() {
                continue;
            }
            kept.sessions += 1;
            let same = seen.address() == *address;
            if same && seen.lost.load(Ordering::Acquire) == *lost {
                kept.kept += 1;
            } else if seen.address().is_some() {
                kept.redialled += 1;
            } else {
                kept.lost += 1;
            }
        }
        kept
    }

    /// Whether one subscriber that was up at `mark` still has the same session.
    #[must_use]
    pub fn is_kept(&self, mark: &Mark, i: usize) -> bool {
        let (address, lost) = mark.sessions[i];
        let seen = &self.shared.seen[i];
        seen.address() == address && seen.lost.load(Ordering::Acquire) == lost
    }

    /// Whether every probed session that has an address was heard in both directions after `since`.
    #[must_use]
    pub fn all_flowing(&self, since: Tick) -> bool {
        let probed = self.probed().filter(|s| s.address().is_some());
        probed.into_iter().all(|s| s.up.last() > since && s.down.last() > since)
    }

    /// The longest silence of each probed session since the mark, up and down.
    #[must_use]
    pub fn silences(&self, mark: &Mark) -> (Vec<Duration>, Vec<Duration>) {
        let now = boottime_now();
        let had = |i: &usize| mark.sessions[*i].0.is_some();
        let probed: Vec<usize> =
            (0..self.plan.total()).filter(|i| self.plan.is_probed(*i)).filter(had).collect();
        let of = |track: fn(&Seen) -> &Track| {
            probed.iter().map(|i| track(&self.shared.seen[*i]).silence(now)).collect()
        };
        (of(|s| &s.up), of(|s| &s.down))
    }

    fn probed(&self) -> impl Iterator<Item = &Seen> {
        self.shared.seen.iter().enumerate().filter(|(i, _)| self.plan.is_probed(*i)).map(|(_, s)| s)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("lab: subscriber thread: {error:#}"),
                Err(_) => eprintln!("lab: a subscriber thread panicked"),
            }
        }
    }
}

/// Spreads probes evenly: tells how many are due.
pub(crate) struct Pace {
    interval: Duration,
    next: Tick,
    at: usize,
}

impl Pace {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { interval: plan.probe_interval, next: Tick::ZERO, at: 0 }
    }

    /// The next session out of `n` if its probe is due; after a stall nothing is made up for.
    pub(crate) fn due(&mut self, n: usize, now: Tick) -> Option<usize> {
        if n == 0 || now < self.next {
            return None;
        }
        let step = self.interval / u32::try_from(n).unwrap_or(u32::MAX);
        let late = now.since(self.next);
        self.next = if late > self.interval { now + step } else { self.next + step };
        self.at = (self.at + 1) % n;
        Some(self.at)
    }
}
