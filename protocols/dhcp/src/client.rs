//! The client: RFC 2131 §4.4, for simulated subscribers. It trusts its address and does not probe it
//! by ARP; a driver that does reports [`Event::Conflict`].

mod backoff;
mod lease;

use crate::wire::{Message, MessageType, Op, code};
use backoff::Backoff;
use lease::{Bound, accept};
use model::{MacAddr, Tick};
use std::net::Ipv4Addr;
use std::time::Duration;

/// REQUESTs sent for an offer before the client starts over. RFC 2131 §3.1, 5.
const REQUESTS_MAX: u8 = 4;
/// REQUESTs sent for a remembered address before the client starts over. RFC 2131 §3.2, 3.
const REBOOT_REQUESTS_MAX: u8 = 3;
/// How long a client waits after it declined an address. RFC 2131 §3.1, 5.
const DECLINE_PAUSE: Duration = Duration::from_secs(10);
/// Largest message that the client takes (option 57), in octets.
const MESSAGE_OCTETS_MAX: u16 = 1500;
/// What the client asks for (option 55).
const PARAMETERS: [u8; 8] = [
    code::SUBNET_MASK,
    code::ROUTER,
    code::DNS,
    code::DOMAIN_NAME,
    code::MTU,
    code::BROADCAST,
    code::T1,
    code::T2,
];

/// What a client is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Hardware address.
    pub mac: MacAddr,
    /// Option 61, empty for none.
    pub client_id: Vec<u8>,
    /// Option 12, empty for none.
    pub hostname: String,
    /// Wait before the first repetition; it doubles from there to sixteen times as much, each time
    /// give or take a quarter of this value. RFC 2131 §4.1 says 4 s, then 64 s, give or take 1 s.
    pub initial_retry: Duration,
    /// Shortest wait between repetitions of a renewal. RFC 2131 §4.4.5 says 60 s.
    pub renew_retry_min: Duration,
    /// Whether replies must be broadcast, because the stack takes no unicast without an address.
    pub broadcast_flag: bool,
    /// An address from an earlier life: the client starts with INIT-REBOOT.
    pub previous: Option<Ipv4Addr>,
}

impl Config {
    /// The settings of RFC 2131 for a client without identifier, host name and memory.
    #[must_use]
    pub fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            client_id: vec![],
            hostname: String::new(),
            initial_retry: Duration::from_secs(4),
            renew_retry_min: Duration::from_secs(60),
            broadcast_flag: false,
            previous: None,
        }
    }
}

/// What happens to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Begin, or begin again.
    Start,
    /// A UDP payload arrived at the client port.
    Message(&'a [u8]),
    /// [`Client::deadline`] has come.
    Deadline,
    /// Give the address back and stop.
    Release,
    /// Another station answers for the address: decline it and start over.
    Conflict,
}

/// What the driver of a client is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send from port 68 to port 67.
    Send {
        /// UDP payload.
        payload: Vec<u8>,
        /// Whether the frame is broadcast; else it goes to whoever answers ARP for `dst_ip`, or to
        /// the router.
        broadcast: bool,
        /// Source of the IP packet.
        src_ip: Ipv4Addr,
        /// Destination of the IP packet.
        dst_ip: Ipv4Addr,
    },
    /// The address is the client's, for the first time or once more.
    Bound {
        /// The address.
        address: Ipv4Addr,
        /// First router, if one was told.
        router: Option<Ipv4Addr>,
        /// Prefix length of the network.
        prefix_len: u8,
        /// DNS servers.
        dns: Vec<Ipv4Addr>,
        /// Lease time in seconds.
        lease_s: u32,
        /// Server identifier.
        server: Ipv4Addr,
    },
    /// The address must not be used any more: refused, expired, or found in use. Not sent after
    /// [`Event::Release`], which the driver asked for itself.
    Lost,
}

/// RFC 2131 §4.4, figure 5. INIT is `Idle` with a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to do, or a pause before the next start.
    Idle {
        start_at: Option<Tick>,
    },
    Selecting {
        retry: Backoff,
    },
    Requesting {
        address: Ipv4Addr,
        server: Ipv4Addr,
        retry: Backoff,
    },
    Rebooting {
        address: Ipv4Addr,
        retry: Backoff,
    },
    Bound {
        lease: Bound,
    },
    Renewing {
        lease: Bound,
        retry_at: Tick,
    },
    Rebinding {
        lease: Bound,
        retry_at: Tick,
    },
}

/// A DHCP client.
#[derive(Clone, Debug)]
pub struct Client {
    cfg: Config,
    state: State,
    /// State of the generator that makes transaction ids and jitter.
    random: u64,
    xid: u32,
    /// Start of the exchange, for `secs`.
    began_at: Tick,
    /// When the first REQUEST of the exchange left: a lease counts from there, since an ACK does not
    /// say which of several it answers. RFC 2131 §4.4.1.
    requested_at: Tick,
}

impl Client {
    /// A client that waits for [`Event::Start`]. All its randomness comes from `seed`.
    #[must_use]
    pub fn new(cfg: Config, seed: u64) -> Self {
        let state = State::Idle { start_at: None };
        Self { cfg, state, random: seed, xid: 0, began_at: Tick::ZERO, requested_at: Tick::ZERO }
    }

    /// When [`Event::Deadline`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match &self.state {
            State::Idle { start_at } => *start_at,
            State::Selecting { retry }
            | State::Requesting { retry, .. }
            | State::Rebooting { retry, .. } => Some(retry.at),
            State::Bound { lease } => Some(lease.t1_at),
            State::Renewing { lease, retry_at } => Some(lease.t2_at.min(*retry_at)),
            State::Rebinding { lease, retry_at } => Some(lease.expires_at.min(*retry_at)),
        }
    }

    /// The address that the client may use now.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.lease().map(|lease| lease.address)
    }

    /// Consumes one event.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Tick) -> Vec<Action> {
        match event {
            Event::Start => {
                let mut actions = self.lost();
                actions.extend(self.start(now));
                actions
            }
            Event::Message(octets) => self.on_message(octets, now),
            Event::Deadline if self.deadline().is_none_or(|at| now < at) => vec![],
            Event::Deadline => self.on_deadline(now),
            Event::Release => self.on_release(now),
            Event::Conflict => self.on_conflict(now),
        }
    }

    fn lease(&self) -> Option<&Bound> {
        match &self.state {
            State::Bound { lease }
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. } => Some(lease),
            State::Idle { .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Rebooting { .. } => None,
        }
    }

    /// `Lost`, if there is something to lose.
    fn lost(&self) -> Vec<Action> {
        self.lease().map(|_| Action::Lost).into_iter().collect()
    }

    /// INIT, or INIT-REBOOT with a remembered address.
    fn start(&mut self, now: Tick) -> Vec<Action> {
        self.new_exchange(now);
        let retry = self.first_retry(now);
        if let Some(address) = self.cfg.previous.take() {
            self.requested_at = now;
            self.state = State::Rebooting { address, retry };
            return vec![self.request_by_option(address, None, now)];
        }
        self.state = State::Selecting { retry };
        vec![self.discover(now)]
    }

    fn on_deadline(&mut self, now: Tick) -> Vec<Action> {
        match self.state.clone() {
            State::Idle { .. } => self.start(now),
            State::Selecting { mut retry } => {
                retry.repeat(&self.cfg, &mut self.random, now);
                self.state = State::Selecting { retry };
                vec![self.discover(now)]
            }
            State::Requesting { retry, .. } if retry.sent >= REQUESTS_MAX => self.start(now),
            State::Requesting { address, server, mut retry } => {
                retry.repeat(&self.cfg, &mut self.random, now);
                self.state = State::Requesting { address, server, retry };
                vec![self.request_by_option(address, Some(server), now)]
            }
            State::Rebooting { retry, .. } if retry.sent >= REBOOT_REQUESTS_MAX => self.start(now),
            State::Rebooting { address, mut retry } => {
                retry.repeat(&self.cfg, &mut self.random, now);
                self.state = State::Rebooting { address, retry };
                vec![self.request_by_option(address, None, now)]
            }
            State::Bound { lease } => self.extend(lease, true, now),
            State::Renewing { lease, .. } => {
                let is_first = now >= lease.t2_at;
                self.extend(lease, is_first, now)
            }
            State::Rebinding { lease, .. } => self.extend(lease, false, now),
        }
    }

    /// Sends the REQUEST that the age of the lease asks for: unicast from T1, broadcast from T2;
    /// at the end the address is lost. RFC 2131 §4.4.5.
    fn extend(&mut self, lease: Bound, is_first: bool, now: Tick) -> Vec<Action> {
        if now >= lease.expires_at {
            let mut actions = self.lost();
            actions.extend(self.start(now));
            return actions;
        }
        if is_first {
            self.new_exchange(now);
            self.requested_at = now;
        }
        let is_rebinding = now >= lease.t2_at;
        let until = if is_rebinding { lease.expires_at } else { lease.t2_at };
        // Half of the remaining time, but no shorter than the minimum.
        let retry_at = now + (until.since(now) / 2).max(self.cfg.renew_retry_min);
        let mut message = self.message(MessageType::Request, now);
        message.ciaddr = lease.address;
        self.push_request_options(&mut message);
        let (broadcast, dst_ip) =
            if is_rebinding { (true, Ipv4Addr::BROADCAST) } else { (false, lease.server) };
        let src_ip = lease.address;
        self.state = if is_rebinding {
            State::Rebinding { lease, retry_at }
        } else {
            State::Renewing { lease, retry_at }
        };
        vec![Action::Send { payload: message.encode(), broadcast, src_ip, dst_ip }]
    }

    /// Drops what is broken, or meant for another client or exchange.
    fn on_message(&mut self, octets: &[u8], now: Tick) -> Vec<Action> {
        let Ok(message) = Message::decode(octets) else { return vec![] };
        if message.op != Op::Reply || message.xid != self.xid || message.chaddr != self.cfg.mac {
            return vec![];
        }
        match message.kind {
            MessageType::Offer => self.on_offer(&message, now),
            MessageType::Ack => self.on_ack(&message),
            MessageType::Nak => self.on_nak(now),
            MessageType::Discover
            | MessageType::Request
            | MessageType::Decline
            | MessageType::Release
            | MessageType::Inform => vec![],
        }
    }

    /// Takes the first offer.
    fn on_offer(&mut self, message: &Message, now: Tick) -> Vec<Action> {
        let State::Selecting { .. } = self.state else { return vec![] };
        let Ok(Some(server)) = message.options.ipv4(code::SERVER_ID) else { return vec![] };
        let address = message.yiaddr;
        if address.is_unspecified() {
            return vec![];
        }
        let retry = self.first_retry(now);
        self.requested_at = now;
        self.state = State::Requesting { address, server, retry };
        vec![self.request_by_option(address, Some(server), now)]
    }

    fn on_ack(&mut self, message: &Message) -> Vec<Action> {
        let (address, server) = match &self.state {
            State::Idle { .. } | State::Selecting { .. } | State::Bound { .. } => return vec![],
            State::Requesting { address, server, .. } => (*address, Some(*server)),
            State::Rebooting { address, .. } => (*address, None),
            State::Renewing { lease, .. } | State::Rebinding { lease, .. } => (lease.address, None),
        };
        let Some((lease, bound)) = accept(message, self.requested_at) else { return vec![] };
        if lease.address != address || server.is_some_and(|server| server != lease.server) {
            return vec![];
        }
        self.state = State::Bound { lease };
        vec![bound]
    }

    fn on_nak(&mut self, now: Tick) -> Vec<Action> {
        match self.state {
            State::Idle { .. } | State::Selecting { .. } | State::Bound { .. } => vec![],
            State::Requesting { .. } => {
                // The offer was not kept. A pause keeps the two from going round at line speed.
                self.state = State::Idle { start_at: Some(self.first_retry(now).at) };
                vec![]
            }
            State::Rebooting { .. } | State::Renewing { .. } | State::Rebinding { .. } => {
                let mut actions = self.lost();
                actions.extend(self.start(now));
                actions
            }
        }
    }

    /// RFC 2131 §4.4.6. The server need not answer, so the message is sent once.
    fn on_release(&mut self, now: Tick) -> Vec<Action> {
        let lease = self.lease().cloned();
        self.new_exchange(now);
        self.state = State::Idle { start_at: None };
        let Some(lease) = lease else { return vec![] };
        let mut message = self.message(MessageType::Release, now);
        message.flags = 0;
        message.ciaddr = lease.address;
        message.options.push(code::SERVER_ID, &lease.server.octets());
        let payload = message.encode();
        vec![Action::Send {
            payload,
            broadcast: false,
            src_ip: lease.address,
            dst_ip: lease.server,
        }]
    }

    /// RFC 2131 §4.4.4.
    fn on_conflict(&mut self, now: Tick) -> Vec<Action> {
        let Some(lease) = self.lease().cloned() else { return vec![] };
        self.new_exchange(now);
        self.state = State::Idle { start_at: Some(now + DECLINE_PAUSE) };
        let mut message = self.message(MessageType::Decline, now);
        message.flags = 0;
        message.options.push(code::REQUESTED_ADDRESS, &lease.address.octets());
        message.options.push(code::SERVER_ID, &lease.server.octets());
        vec![broadcast(&message), Action::Lost]
    }

    fn discover(&self, now: Tick) -> Action {
        let mut message = self.message(MessageType::Discover, now);
        self.push_request_options(&mut message);
        broadcast(&message)
    }

    /// A REQUEST in SELECTING, which names the server, or in INIT-REBOOT, which must not.
    fn request_by_option(&self, address: Ipv4Addr, server: Option<Ipv4Addr>, now: Tick) -> Action {
        let mut message = self.message(MessageType::Request, now);
        message.options.push(code::REQUESTED_ADDRESS, &address.octets());
        if let Some(server) = server {
            message.options.push(code::SERVER_ID, &server.octets());
        }
        self.push_request_options(&mut message);
        broadcast(&message)
    }

    fn message(&self, kind: MessageType, now: Tick) -> Message {
        let mut message = Message::from_client(kind, self.xid, self.cfg.mac);
        message.secs = u16::try_from(now.since(self.began_at).as_secs()).unwrap_or(u16::MAX);
        if self.cfg.broadcast_flag {
            message.set_broadcast();
        }
        if !self.cfg.client_id.is_empty() {
            message.options.push(code::CLIENT_ID, &self.cfg.client_id);
        }
        message
    }

    fn push_request_options(&self, message: &mut Message) {
        message.options.push(code::MAX_MESSAGE_SIZE, &MESSAGE_OCTETS_MAX.to_be_bytes());
        if !self.cfg.hostname.is_empty() {
            message.options.push(code::HOST_NAME, self.cfg.hostname.as_bytes());
        }
        message.options.push(code::PARAMETER_LIST, &PARAMETERS);
    }

    fn new_exchange(&mut self, now: Tick) {
        let [_, _, _, _, xid @ ..] = backoff::next(&mut self.random).to_be_bytes();
        self.xid = u32::from_be_bytes(xid);
        self.began_at = now;
    }

    fn first_retry(&mut self, now: Tick) -> Backoff {
        Backoff::first(&self.cfg, &mut self.random, now)
    }
}

/// From a client without an address to every server.
fn broadcast(message: &Message) -> Action {
    Action::Send {
        payload: message.encode(),
        broadcast: true,
        src_ip: Ipv4Addr::UNSPECIFIED,
        dst_ip: Ipv4Addr::BROADCAST,
    }
}

#[cfg(test)]
mod tests;
