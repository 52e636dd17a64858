//! The host's side of discovery: finds a concentrator and opens one session.

use crate::{Code, LineInfo, Packet, Tag, padt, tag};
use model::{MacAddr, Tick};
use std::time::Duration;

/// Settings of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Service wanted; empty takes any.
    pub service: Vec<u8>,
    /// Tells this host's packets from others of the same address; empty leaves the tag out.
    pub host_uniq: Vec<u8>,
    /// Only this concentrator will do.
    pub ac_name: Option<String>,
    /// PPP payload in octets to ask for, when above 1492. RFC 4638.
    pub max_payload: Option<u16>,
    /// What the access node in front of the host would insert. TR-101.
    pub line: LineInfo,
    /// Wait for the first answer; doubled with each repetition.
    pub timeout: Duration,
    /// How often PADI, and then PADR, is sent.
    pub attempts_max: u8,
}

impl Config {
    /// Returns the settings of an ordinary host (and the times of pppd: 5, 10 and 20 s).
    #[must_use]
    pub fn new(service: impl Into<Vec<u8>>, host_uniq: impl Into<Vec<u8>>) -> Self {
        Self {
            service: service.into(),
            host_uniq: host_uniq.into(),
            ac_name: None,
            max_payload: None,
            line: LineInfo::default(),
            timeout: Duration::from_secs(5),
            attempts_max: 3,
        }
    }
}

/// What happens to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Open a session.
    Start,
    /// A discovery packet addressed to the host.
    Frame {
        /// Its source.
        from_mac: MacAddr,
        /// The packet.
        packet: &'a Packet<'a>,
    },
    /// The time of [`Client::deadline`] may have come.
    Deadline,
    /// End the session, or stop looking for one.
    Close,
}

/// What a host does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a frame of type [`ether::ethertype::PPPOE_DISCOVERY`].
    Send {
        /// Where to.
        dst: MacAddr,
        /// Discovery payload.
        payload: Vec<u8>,
    },
    /// PPP may start.
    Opened {
        /// The session.
        sid: u16,
        /// The concentrator's address.
        server: MacAddr,
    },
    /// The session is over, by either side's wish.
    Closed,
    /// No session came about; [`Client::failure`] says why.
    Failed,
}

/// Why no session came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No PADO.
    NoOffer,
    /// No PADS.
    NoConfirmation,
    /// A PADS with an error, or without a session id.
    Refused {
        /// Kind of the error tag, 0 when there was none.
        kind: u16,
        /// Its text.
        text: String,
    },
}

/// What a host keeps of the PADO it accepted, to answer it as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    server: MacAddr,
    cookie: Option<Vec<u8>>,
    relay_session_id: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Looking { sent: u8, until: Tick },
    Requesting { offer: Offer, sent: u8, until: Tick },
    Open { server: MacAddr, sid: u16 },
    Failed(Failure),
}

/// A host that opens one session.
#[derive(Clone, Debug)]
pub struct Client {
    cfg: Config,
    state: State,
    max_payload: Option<u16>,
}

impl Client {
    /// Returns a host that waits for [`Event::Start`].
    #[must_use]
    pub fn new(cfg: Config) -> Self {
        Self { cfg, state: State::Idle, max_payload: None }
    }

    /// Returns when [`Event::Deadline`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match &self.state {
            State::Looking { until, .. } | State::Requesting { until, .. } => Some(*until),
            State::Idle | State::Open { .. } | State::Failed(_) => None,
        }
    }

    /// Returns the session, once open: its id and the concentrator's address.
    #[must_use]
    pub fn session(&self) -> Option<(u16, MacAddr)> {
        match &self.state {
            State::Open { server, sid } => Some((*sid, *server)),
            State::Idle | State::Looking { .. } | State::Requesting { .. } | State::Failed(_) => {
                None
            }
        }
    }

    /// Returns the PPP payload in octets that the concentrator agreed to. RFC 4638.
    #[must_use]
    pub fn max_payload(&self) -> Option<u16> {
        self.max_payload
    }

    /// Returns why the last attempt failed.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Failed(failure) => Some(failure),
            State::Idle | State::Looking { .. } | State::Requesting { .. } | State::Open { .. } => {
                None
            }
        }
    }

    /// Consumes one event; the only place where the state changes.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Tick) -> Vec<Action> {
        let state = std::mem::replace(&mut self.state, State::Idle);
        let (state, actions) = match state {
            State::Idle | State::Failed(_) => self.at_rest(state, &event, now),
            State::Looking { sent, until } => self.looking(sent, until, &event, now),
            State::Requesting { offer, sent, until } => {
                self.requesting(offer, sent, until, &event, now)
            }
            State::Open { server, sid } => open(server, sid, &event),
        };
        self.state = state;
        actions
    }

    fn at_rest(&mut self, state: State, event: &Event<'_>, now: Tick) -> (State, Vec<Action>) {
        match event {
            Event::Start => {
                self.max_payload = None;
                self.look(0, now)
            }
            Event::Close => (State::Idle, vec![Action::Closed]),
            Event::Frame { .. } | Event::Deadline => (state, vec![]),
        }
    }

    fn looking(
        &mut self,
        sent: u8,
        until: Tick,
        event: &Event<'_>,
        now: Tick,
    ) -> (State, Vec<Action>) {
        let stay = State::Looking { sent, until };
        match event {
            Event::Start => (stay, vec![]),
            Event::Close => (State::Idle, vec![Action::Closed]),
            Event::Deadline if now < until => (stay, vec![]),
            Event::Deadline if sent >= self.cfg.attempts_max => {
                (State::Failed(Failure::NoOffer), vec![Action::Failed])
            }
            Event::Deadline => self.look(sent, now),
            Event::Frame { from_mac, packet } => match self.accept(*from_mac, packet) {
                Some(offer) => self.request(offer, 0, now),
                None => (stay, vec![]),
            },
        }
    }

    fn requesting(
        &mut self,
        offer: Offer,
        sent: u8,
        until: Tick,
        event: &Event<'_>,
        now: Tick,
    ) -> (State, Vec<Action>) {
        match event {
            Event::Close => (State::Idle, vec![Action::Closed]),
            Event::Deadline if now < until => (State::Requesting { offer, sent, until }, vec![]),
            Event::Deadline if sent >= self.cfg.attempts_max => {
                (State::Failed(Failure::NoConfirmation), vec![Action::Failed])
            }
            Event::Deadline => self.request(offer, sent, now),
            Event::Frame { from_mac, packet }
                if packet.code == Code::Pads
                    && *from_mac == offer.server
                    && self.is_mine(packet) =>
            {
                self.confirmed(offer.server, packet)
            }
            Event::Start | Event::Frame { .. } => {
                (State::Requesting { offer, sent, until }, vec![])
            }
        }
    }

    fn confirmed(&mut self, server: MacAddr, pads: &Packet<'_>) -> (State, Vec<Action>) {
        let error = pads.error().filter(|(kind, _)| {
            // Only a PADS without a session id refuses; Generic-Error may accompany a good one.
            pads.session_id == 0 || *kind != tag::GENERIC_ERROR
        });
        if pads.session_id == 0 || error.is_some() {
            let (kind, text) = error.unwrap_or_default();
            let failure = Failure::Refused { kind, text: text.into_owned() };
            return (State::Failed(failure), vec![Action::Failed]);
        }
        self.max_payload =
            pads.max_payload().filter(|octets| Some(*octets) <= self.cfg.max_payload);
        let sid = pads.session_id;
        (State::Open { server, sid }, vec![Action::Opened { sid, server }])
    }

    /// Returns what to keep of a PADO that suits this host.
    fn accept(&self, server: MacAddr, packet: &Packet<'_>) -> Option<Offer> {
        let service_fits = self.cfg.service.is_empty()
            || packet
                .tags
                .iter()
                .any(|t| t.kind == tag::SERVICE_NAME && t.value == self.cfg.service);
        let ac_fits = match &self.cfg.ac_name {
            Some(name) => packet.tag(tag::AC_NAME) == Some(name.as_bytes()),
            None => true,
        };
        let suits = packet.code == Code::Pado
            && !server.is_multicast()
            && packet.error().is_none()
            && self.is_mine(packet)
            && service_fits
            && ac_fits;
        suits.then(|| Offer {
            server,
            cookie: packet.tag(tag::AC_COOKIE).map(<[u8]>::to_vec),
            relay_session_id: packet.tag(tag::RELAY_SESSION_ID).map(<[u8]>::to_vec),
        })
    }

    fn is_mine(&self, packet: &Packet<'_>) -> bool {
        packet.tag(tag::HOST_UNIQ).unwrap_or_default() == self.cfg.host_uniq
    }

    fn look(&self, sent: u8, now: Tick) -> (State, Vec<Action>) {
        let payload = self.packet(Code::Padi, None);
        let state = State::Looking { sent: sent + 1, until: now + self.wait(sent) };
        (state, vec![Action::Send { dst: MacAddr::BROADCAST, payload }])
    }

    fn request(&self, offer: Offer, sent: u8, now: Tick) -> (State, Vec<Action>) {
        let payload = self.packet(Code::Padr, Some(&offer));
        let dst = offer.server;
        let state = State::Requesting { offer, sent: sent + 1, until: now + self.wait(sent) };
        (state, vec![Action::Send { dst, payload }])
    }

    /// Doubles with each repetition, at most 64-fold.
    fn wait(&self, sent: u8) -> Duration {
        const DOUBLINGS_MAX: u8 = 6;
        self.cfg.timeout.saturating_mul(1 << sent.min(DOUBLINGS_MAX))
    }

    fn packet(&self, code: Code, offer: Option<&Offer>) -> Vec<u8> {
        let mut tags = vec![Tag::new(tag::SERVICE_NAME, &self.cfg.service)];
        if !self.cfg.host_uniq.is_empty() {
            tags.push(Tag::new(tag::HOST_UNIQ, &self.cfg.host_uniq));
        }
        let max_payload = self.cfg.max_payload.map(u16::to_be_bytes);
        tags.extend(max_payload.iter().map(|octets| Tag::new(tag::PPP_MAX_PAYLOAD, octets)));
        let echoed = offer.map(|o| (&o.cookie, &o.relay_session_id));
        if let Some((cookie, relay)) = echoed {
            tags.extend(cookie.iter().map(|v| Tag::new(tag::AC_COOKIE, v)));
            tags.extend(relay.iter().map(|v| Tag::new(tag::RELAY_SESSION_ID, v)));
        }
        let line = self.cfg.line.emit();
        tags.extend(line.iter().map(|v| Tag::new(tag::VENDOR_SPECIFIC, v)));
        Packet { code, session_id: 0, tags }.emit()
    }
}

fn open(server: MacAddr, sid: u16, event: &Event<'_>) -> (State, Vec<Action>) {
    match event {
        Event::Close => {
            let farewell = Action::Send { dst: server, payload: padt(sid, None) };
            (State::Idle, vec![farewell, Action::Closed])
        }
        Event::Frame { from_mac, packet }
            if packet.code == Code::Padt && packet.session_id == sid && *from_mac == server =>
        {
            (State::Idle, vec![Action::Closed])
        }
        Event::Start | Event::Deadline | Event::Frame { .. } => {
            (State::Open { server, sid }, vec![])
        }
    }
}

#[cfg(test)]
mod tests;
