//! The owner's voice: adverts and gratuitous ARP from the virtual MAC while a group is owned.

use crate::{
    ADVERT_INTERVAL_CS_MAX, Advert, ChecksumForm, PRIORITY_OWNER, PRIORITY_RELEASE, frame_with,
    gratuitous_arp_frame,
};
use model::{MacAddr, Tick};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How many of the first adverts go with gratuitous ARP: a single broadcast may get lost just then,
/// when links and switches are changing.
pub const GARP_ROUNDS: u8 = 3;

/// Settings of an announcer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncerConfig {
    /// Virtual router id.
    pub vrid: u8,
    /// Time between adverts, rounded up to centiseconds, 10 ms to 40.95 s.
    pub interval: Duration,
    /// Addresses that move with the group on this network.
    pub addresses: Vec<Ipv4Addr>,
    /// Source address of the adverts.
    pub src_ip: Ipv4Addr,
    /// What the checksum covers, for peers that do not follow RFC 9568.
    pub checksum: ChecksumForm,
}

impl AnnouncerConfig {
    /// Returns the usual settings: ten adverts a second.
    #[must_use]
    pub fn new(vrid: u8, src_ip: Ipv4Addr, addresses: Vec<Ipv4Addr>) -> Self {
        let interval = Duration::from_millis(100);
        Self { vrid, interval, addresses, src_ip, checksum: ChecksumForm::default() }
    }

    fn interval_cs(&self) -> u16 {
        let cs = self.interval.as_millis().div_ceil(10);
        u16::try_from(cs).unwrap_or(u16::MAX).clamp(1, ADVERT_INTERVAL_CS_MAX)
    }
}

/// What happens to an announcer, besides being started and stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time of [`Announcer::deadline`] may have come.
    Deadline,
}

/// Sends as the address owner (priority 255) from [`Announcer::start`] until it is stopped.
///
/// It listens to nobody: whether this node may speak is decided by Raft and the fence. Start it when
/// the fence is open, and drop what it returns when the fence is shut.
#[derive(Clone, Debug)]
pub struct Announcer {
    cfg: AnnouncerConfig,
    speaking: Option<Speaking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Speaking {
    next_at: Tick,
    garp_rounds_left: u8,
}

impl Announcer {
    /// Returns a silent announcer.
    #[must_use]
    pub fn new(cfg: AnnouncerConfig) -> Self {
        Self { cfg, speaking: None }
    }

    /// Begins, or begins again, and returns the frames to send now: an advert, then a gratuitous ARP
    /// request for each address. RFC 9568 §6.4.1.
    #[must_use]
    pub fn start(&mut self, now: Tick) -> Vec<Vec<u8>> {
        self.speak(now, GARP_ROUNDS)
    }

    /// Consumes one event and returns the frames to send now.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Tick) -> Vec<Vec<u8>> {
        match self.speaking {
            None => vec![],
            Some(Speaking { next_at, garp_rounds_left }) => match event {
                Event::Deadline if now < next_at => vec![],
                Event::Deadline => self.speak(now, garp_rounds_left),
            },
        }
    }

    /// Stops and returns the farewell to send: an advert of priority 0, which lets others act at
    /// once. RFC 9568 §6.4.3.
    ///
    /// Only for a release that the node makes itself, while its fence is still open.
    #[must_use]
    pub fn stop_orderly(&mut self) -> Vec<Vec<u8>> {
        match self.speaking.take() {
            Some(_) => vec![self.advert(PRIORITY_RELEASE)],
            None => vec![],
        }
    }

    /// Stops without a word: the fence has fallen, and nothing may be said any more.
    pub fn stop(&mut self) {
        self.speaking = None;
    }

    /// Returns when [`Event::Deadline`] is due, `None` while silent.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.speaking.map(|speaking| speaking.next_at)
    }

    fn speak(&mut self, now: Tick, garp_rounds: u8) -> Vec<Vec<u8>> {
        let wait = Duration::from_millis(u64::from(self.cfg.interval_cs()) * 10);
        // From now and not from when it was due: after a pause there is nothing to catch up with.
        self.speaking =
            Some(Speaking { next_at: now + wait, garp_rounds_left: garp_rounds.saturating_sub(1) });
        let mut frames = vec![self.advert(PRIORITY_OWNER)];
        if garp_rounds > 0 {
            let addresses = self.cfg.addresses.iter();
            frames.extend(addresses.map(|a| gratuitous_arp_frame(self.cfg.vrid, *a)));
        }
        frames
    }

    fn advert(&self, priority: u8) -> Vec<u8> {
        let advert = Advert {
            vrid: self.cfg.vrid,
            priority,
            max_advert_interval_cs: self.cfg.interval_cs(),
            addresses: self.cfg.addresses.iter().map(|a| (*a).into()).collect(),
        };
        let mac = MacAddr::virtual_router(self.cfg.vrid);
        frame_with(&advert, self.cfg.src_ip, mac, self.cfg.checksum)
    }
}

#[cfg(test)]
mod tests;
