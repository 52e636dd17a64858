//! A passive observer of one virtual router: who is active, and is there ever a second one?

use crate::{Advert, PRIORITY_RELEASE};
use model::Tick;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Routers remembered; one that comes after that is only compared with the active one.
const SPEAKERS_MAX: usize = 16;

/// What an advert means to an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The active router goes on.
    Same,
    /// A router took over, or is the first one seen.
    New {
        /// Time since the last advert of whoever was active before.
        silence: Option<Duration>,
    },
    /// The active router released (priority 0).
    Released,
    /// Someone who is not active said farewell; harmless.
    LateRelease,
    /// A router that another one had replaced speaks again while that one is still heard: two are
    /// active.
    Conflict {
        /// The other one.
        active: IpAddr,
        /// Since its last advert.
        since: Duration,
    },
}

/// Watches one virtual router and takes part in nothing.
#[derive(Clone, Debug)]
pub struct Listener {
    vrid: u8,
    active: Option<IpAddr>,
    /// When each router that has not released spoke last.
    speakers: BTreeMap<IpAddr, Seen>,
    last_at: Option<Tick>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Tick,
    interval: Duration,
}

impl Seen {
    /// Whether the router would still be believed in by a backup, but for its priority.
    fn is_alive(self, now: Tick) -> bool {
        now.since(self.at) <= self.interval * 3
    }
}

impl Listener {
    /// Returns an observer of `vrid`.
    #[must_use]
    pub fn new(vrid: u8) -> Self {
        Self { vrid, active: None, speakers: BTreeMap::new(), last_at: None }
    }

    /// Returns who is active: the last speaker, unless it released or has been silent for more than
    /// three of its intervals.
    #[must_use]
    pub fn active(&self, now: Tick) -> Option<IpAddr> {
        self.active.filter(|src| self.speakers.get(src).is_some_and(|seen| seen.is_alive(now)))
    }

    /// Consumes one advert from `src`; `None` when it belongs to another virtual router.
    ///
    /// A new speaker alone is no conflict, however soon it comes: the one before may have died just
    /// after its advert. That one speaking again is.
    pub fn advert(&mut self, src: IpAddr, advert: &Advert, now: Tick) -> Option<Sighting> {
        if advert.vrid != self.vrid {
            return None;
        }
        if advert.priority == PRIORITY_RELEASE {
            return Some(self.released(src, now));
        }
        let silence = self.last_at.replace(now).map(|at| now.since(at));
        self.speakers.retain(|_, seen| seen.is_alive(now));
        let other = self.active.filter(|active| *active != src);
        let other = other.and_then(|active| Some((active, *self.speakers.get(&active)?)));
        let was_alive = self.speakers.contains_key(&src);
        let sighting = match other {
            Some((active, seen)) if was_alive => {
                Sighting::Conflict { active, since: now.since(seen.at) }
            }
            None if was_alive && self.active == Some(src) => Sighting::Same,
            Some(_) | None => Sighting::New { silence },
        };
        let interval = Duration::from_millis(u64::from(advert.max_advert_interval_cs) * 10);
        if was_alive || self.speakers.len() < SPEAKERS_MAX {
            self.speakers.insert(src, Seen { at: now, interval });
        }
        self.active = Some(src);
        Some(sighting)
    }

    fn released(&mut self, src: IpAddr, now: Tick) -> Sighting {
        self.speakers.remove(&src);
        if self.active == Some(src) {
            self.active = None;
            self.last_at = Some(now);
            Sighting::Released
        } else {
            Sighting::LateRelease
        }
    }
}

#[cfg(test)]
mod tests;
