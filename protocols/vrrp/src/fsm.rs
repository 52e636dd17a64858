//! A stock VRRP router, as RFC 9568 §6 has it.

use crate::{
    ADVERT_INTERVAL_CS_MAX, Advert, PRIORITY_OWNER, PRIORITY_RELEASE, RouterConfig, frame,
    gratuitous_arp_frame,
};
use model::Tick;
use std::net::Ipv4Addr;
use std::time::Duration;

/// The states of RFC 9568 §6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// Waits for a startup event.
    Initialize,
    /// Watches the active router.
    Backup,
    /// Forwards for the virtual addresses.
    Active,
}

/// What happens to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Its interface came up.
    Startup,
    /// It is told to stop.
    Shutdown,
    /// An advert arrived, sound by [`crate::parse_frame`].
    Advert {
        /// Primary address of the sender.
        src_ip: Ipv4Addr,
        /// What it says.
        advert: &'a Advert,
    },
    /// The time of [`Router::deadline`] may have come.
    Deadline,
}

/// What a router does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this Ethernet frame.
    Send(Vec<u8>),
    /// It is now in another state.
    Became(StateName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Initialize,
    Backup { active_interval: Duration, active_down_at: Tick },
    Active { advert_at: Tick },
}

/// A stock VRRP router of one virtual router id on one interface.
#[derive(Clone, Debug)]
pub struct Router {
    cfg: RouterConfig,
    state: State,
}

/// Returns `Skew_Time`: the lower the priority, the longer the wait. RFC 9568 §6.1.
#[must_use]
pub fn skew_time(priority: u8, active_interval: Duration) -> Duration {
    active_interval * (256 - u32::from(priority)) / 256
}

/// Returns `Active_Down_Interval`: how long a silent active router is believed in. RFC 9568 §6.1.
#[must_use]
pub fn active_down_interval(priority: u8, active_interval: Duration) -> Duration {
    active_interval * 3 + skew_time(priority, active_interval)
}

const fn centiseconds(cs: u16) -> Duration {
    Duration::from_millis(cs as u64 * 10)
}

impl Router {
    /// Returns a router in Initialize.
    #[must_use]
    pub fn new(cfg: RouterConfig) -> Self {
        Self { cfg, state: State::Initialize }
    }

    /// Returns its state.
    #[must_use]
    pub fn state(&self) -> StateName {
        match self.state {
            State::Initialize => StateName::Initialize,
            State::Backup { .. } => StateName::Backup,
            State::Active { .. } => StateName::Active,
        }
    }

    /// Returns when [`Event::Deadline`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match self.state {
            State::Initialize => None,
            State::Backup { active_down_at, .. } => Some(active_down_at),
            State::Active { advert_at } => Some(advert_at),
        }
    }

    /// Consumes one event; the only place where the state changes. RFC 9568 §6.4.
    ///
    /// Adverts of other virtual routers are ignored, and an address owner ignores all (§7.1).
    #[must_use]
    pub fn step(&mut self, event: &Event<'_>, now: Tick) -> Vec<Action> {
        if let Event::Advert { advert, .. } = event
            && (advert.vrid != self.cfg.vrid || self.cfg.priority == PRIORITY_OWNER)
        {
            return vec![];
        }
        match self.state {
            State::Initialize => self.initialize(event, now),
            State::Backup { active_interval, active_down_at } => {
                self.backup(event, now, active_interval, active_down_at)
            }
            State::Active { advert_at } => self.active(event, now, advert_at),
        }
    }

    /// RFC 9568 §6.4.1.
    fn initialize(&mut self, event: &Event<'_>, now: Tick) -> Vec<Action> {
        match event {
            Event::Startup if self.cfg.priority == PRIORITY_OWNER => self.become_active(now),
            Event::Startup => self.become_backup(self.own_interval(), now),
            Event::Shutdown | Event::Advert { .. } | Event::Deadline => vec![],
        }
    }

    /// RFC 9568 §6.4.2.
    fn backup(
        &mut self,
        event: &Event<'_>,
        now: Tick,
        active_interval: Duration,
        active_down_at: Tick,
    ) -> Vec<Action> {
        match event {
            Event::Startup => vec![],
            Event::Shutdown => self.become_initialize(),
            Event::Deadline if now < active_down_at => vec![],
            Event::Deadline => self.become_active(now),
            Event::Advert { advert, .. } if advert.priority == PRIORITY_RELEASE => {
                let active_down_at = now + skew_time(self.cfg.priority, active_interval);
                self.state = State::Backup { active_interval, active_down_at };
                vec![]
            }
            Event::Advert { advert, .. }
                if !self.cfg.preempt || advert.priority >= self.cfg.priority =>
            {
                self.watch(centiseconds(advert.max_advert_interval_cs), now);
                vec![]
            }
            // A weaker router: let the timer run out and take over.
            Event::Advert { .. } => vec![],
        }
    }

    /// RFC 9568 §6.4.3.
    fn active(&mut self, event: &Event<'_>, now: Tick, advert_at: Tick) -> Vec<Action> {
        match event {
            Event::Startup => vec![],
            Event::Shutdown => {
                let farewell = self.advert(PRIORITY_RELEASE);
                let mut actions = vec![farewell];
                actions.extend(self.become_initialize());
                actions
            }
            Event::Deadline if now < advert_at => vec![],
            Event::Deadline => self.assert_active(now),
            Event::Advert { advert, .. } if advert.priority == PRIORITY_RELEASE => {
                self.assert_active(now)
            }
            Event::Advert { src_ip, advert }
                if (advert.priority, *src_ip) > (self.cfg.priority, self.cfg.src_ip) =>
            {
                self.become_backup(centiseconds(advert.max_advert_interval_cs), now)
            }
            // Tell the weaker one at once, and the switches where the virtual MAC is.
            Event::Advert { .. } => self.assert_active(now),
        }
    }

    fn become_initialize(&mut self) -> Vec<Action> {
        self.state = State::Initialize;
        vec![Action::Became(StateName::Initialize)]
    }

    fn become_backup(&mut self, active_interval: Duration, now: Tick) -> Vec<Action> {
        self.watch(active_interval, now);
        vec![Action::Became(StateName::Backup)]
    }

    fn become_active(&mut self, now: Tick) -> Vec<Action> {
        let mut actions = self.assert_active(now);
        let garp = |a: &Ipv4Addr| Action::Send(gratuitous_arp_frame(self.cfg.vrid, *a));
        actions.extend(self.cfg.addresses.iter().map(garp));
        actions.push(Action::Became(StateName::Active));
        actions
    }

    fn watch(&mut self, active_interval: Duration, now: Tick) {
        let active_down_at = now + active_down_interval(self.cfg.priority, active_interval);
        self.state = State::Backup { active_interval, active_down_at };
    }

    fn assert_active(&mut self, now: Tick) -> Vec<Action> {
        self.state = State::Active { advert_at: now + self.own_interval() };
        vec![self.advert(self.cfg.priority)]
    }

    fn own_interval(&self) -> Duration {
        centiseconds(self.cfg.interval_cs.clamp(1, ADVERT_INTERVAL_CS_MAX))
    }

    fn advert(&self, priority: u8) -> Action {
        let advert = Advert {
            vrid: self.cfg.vrid,
            priority,
            max_advert_interval_cs: self.cfg.interval_cs,
            addresses: self.cfg.addresses.iter().map(|a| (*a).into()).collect(),
        };
        Action::Send(frame(&advert, self.cfg.src_ip))
    }
}

#[cfg(test)]
mod tests;
