//! A node: its daemon (announcer or stock router) and its kernel (fence or installed address).

use super::scenario::Kind;
use model::Tick;
use std::net::Ipv4Addr;
use vrrp::{
    Action, Announcer, AnnouncerConfig, AnnouncerEvent, Event, Received, Router, RouterConfig,
    StateName,
};

pub(super) const VRID: u8 = 51;
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 100);
/// Advert interval in centiseconds, of both kinds.
pub(super) const INTERVAL_CS: u16 = 10;
const STOCK_PRIORITY_TOP: u8 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Daemon {
    Running,
    Paused,
    Dead,
}

#[derive(Clone, Debug)]
enum Engine {
    Tandem { announcer: Announcer, thinks_open: bool },
    Stock { router: Router, installed: bool },
}

/// What survives the daemon is in the kernel: `fence_until`, `installed`, `powered`.
#[derive(Clone, Debug)]
pub(super) struct Speaker {
    engine: Engine,
    pub(super) daemon: Daemon,
    pub(super) powered: bool,
    pub(super) carrier: bool,
    /// Reaches the other members of the cluster.
    pub(super) clustered: bool,
    /// The kernel's deadline; master before it, silent from it on.
    pub(super) fence_until: Tick,
    /// Counts the daemon's lives, so that what a dead one had under way is known as such.
    pub(super) life: u32,
}

pub(super) fn source_of(speaker: usize) -> Ipv4Addr {
    let last = u8::try_from(speaker).unwrap_or(u8::MAX).saturating_add(1);
    Ipv4Addr::new(10, 80, 0, last)
}

fn engine(kind: Kind, index: usize) -> Engine {
    match kind {
        Kind::Tandem(_) => {
            let cfg = AnnouncerConfig::new(VRID, source_of(index), vec![ADDRESS]);
            Engine::Tandem { announcer: Announcer::new(cfg), thinks_open: false }
        }
        Kind::Stock => {
            let mut cfg = RouterConfig::new(VRID, source_of(index), vec![ADDRESS]);
            cfg.interval_cs = INTERVAL_CS;
            let steps = u8::try_from(index).unwrap_or(u8::MAX).min(STOCK_PRIORITY_TOP / 10 - 1);
            cfg.priority = STOCK_PRIORITY_TOP - 10 * steps;
            Engine::Stock { router: Router::new(cfg), installed: false }
        }
    }
}

impl Speaker {
    pub(super) fn new(kind: Kind, index: usize) -> Self {
        Self {
            engine: engine(kind, index),
            daemon: Daemon::Running,
            powered: true,
            carrier: true,
            clustered: true,
            fence_until: Tick::ZERO,
            life: 0,
        }
    }

    /// Whether it forwards and answers for the group; `fenced` says whether the kernel looks at the
    /// deadline.
    pub(super) fn is_master(&self, now: Tick, fenced: bool) -> bool {
        self.powered
            && match &self.engine {
                Engine::Tandem { .. } if fenced => now < self.fence_until,
                Engine::Tandem { thinks_open, .. } => *thinks_open,
                Engine::Stock { installed, .. } => *installed,
            }
    }

    /// Whether it could own the group.
    pub(super) fn is_eligible(&self) -> bool {
        self.can_act() && self.carrier && self.clustered
    }

    pub(super) fn can_act(&self) -> bool {
        self.powered && self.daemon == Daemon::Running
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        match &self.engine {
            Engine::Tandem { announcer, .. } => announcer.deadline(),
            Engine::Stock { router, .. } => router.deadline(),
        }
    }

    /// The daemon begins to run: a stock router starts up, an announcer waits for its owner.
    pub(super) fn startup(&mut self, now: Tick) -> Vec<Vec<u8>> {
        self.route(&Event::Startup, now)
    }

    pub(super) fn timer(&mut self, now: Tick) -> Vec<Vec<u8>> {
        if let Engine::Tandem { announcer, .. } = &mut self.engine {
            return announcer.step(AnnouncerEvent::Deadline, now);
        }
        self.route(&Event::Deadline, now)
    }

    /// An advert on the wire. An announcer listens to nobody.
    pub(super) fn hear(&mut self, received: &Received, now: Tick) -> Vec<Vec<u8>> {
        let std::net::IpAddr::V4(src_ip) = received.src_ip else { return vec![] };
        self.route(&Event::Advert { src_ip, advert: &received.advert }, now)
    }

    /// The daemon opens the fence and announces.
    pub(super) fn open(&mut self, now: Tick, until: Tick) -> Vec<Vec<u8>> {
        self.fence_until = until;
        match &mut self.engine {
            Engine::Tandem { announcer, thinks_open } => {
                *thinks_open = true;
                announcer.start(now)
            }
            Engine::Stock { .. } => vec![],
        }
    }

    /// The daemon gives the group up: farewell first, then the fence.
    pub(super) fn release(&mut self) -> Vec<Vec<u8>> {
        match &mut self.engine {
            Engine::Tandem { announcer, thinks_open } => {
                *thinks_open = false;
                announcer.stop_orderly()
            }
            Engine::Stock { .. } => vec![],
        }
    }

    /// The daemon finds that its lease has run out.
    pub(super) fn lapsed(&mut self) {
        if let Engine::Tandem { announcer, thinks_open } = &mut self.engine {
            *thinks_open = false;
            announcer.stop();
        }
    }

    pub(super) fn thinks_open(&self) -> bool {
        match &self.engine {
            Engine::Tandem { thinks_open, .. } => *thinks_open,
            Engine::Stock { installed, .. } => *installed,
        }
    }

    /// A new daemon on the same kernel. A stock one removes the address that the dead one left.
    pub(super) fn restart(&mut self, kind: Kind, index: usize) {
        self.engine = engine(kind, index);
        self.daemon = Daemon::Running;
        self.powered = true;
        self.life += 1;
    }

    fn route(&mut self, event: &Event<'_>, now: Tick) -> Vec<Vec<u8>> {
        let Engine::Stock { router, installed } = &mut self.engine else { return vec![] };
        let mut frames = vec![];
        for action in router.step(event, now) {
            match action {
                Action::Send(octets) => frames.push(octets),
                Action::Became(state) => *installed = state == StateName::Active,
            }
        }
        frames
    }
}
