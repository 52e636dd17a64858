use super::engine::{Counters, Pending, Wire};
use crate::management::config::settings;
use crate::proposer::OpOutcome;
use ether::{Frame, ethertype};
use model::{
    Attachment, DownReason, Group, GroupService, Session, SessionId, SessionKind, Tick, UnixMs,
};
use ppp::{Action, Addresses, AuthOutcome, Event, LinkParameters, Seed, SessionOutcome};
use pppoe::{Packet, Padr, PadsError};
use raft_store::{OpReply, SessionOp, State};
use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// Links between PADS and the committed session: bounds what a flood of PADRs can hold.
const HALF_OPEN_MAX: usize = 8192;
/// Links resumed at once after a takeover, and the pause between such steps.
const RESUME_STEP: usize = 50;
const RESUME_PAUSE: Duration = Duration::from_millis(20);
/// PADTs for unknown sessions per second: a helpful answer, not an amplifier.
const PADT_PER_S: u32 = 200;

struct Link {
    attachment: Attachment,
    s_tag: bool,
    ppp: ppp::Server,
    /// Known once the session is committed.
    session: Option<SessionId>,
    timer: Option<Tick>,
    padr: Option<Box<Padr>>,
}

/// PPPoE and PPP of one group.
pub(super) struct PppoeAccess {
    discovery: pppoe::Server,
    discovery_cfg: pppoe::ServerConfig,
    ppp_cfg: ppp::ServerConfig,
    links: BTreeMap<u16, Link>,
    timers: BTreeSet<(Tick, u16)>,
    half_open: usize,
    last_sid: u16,
    to_resume: VecDeque<SessionId>,
    resume_at: Tick,
    padt_window: (u64, u32),
    counters: Arc<Counters>,
}

impl PppoeAccess {
    pub(super) fn new(group: &Group, state: &State, counters: Arc<Counters>, now: Tick) -> Self {
        let set = settings(state).pppoe;
        let ppp_cfg = ppp::ServerConfig {
            name: group.ac_name.clone(),
            echo_interval: Duration::from_secs(set.lcp_echo_interval.into()),
            echo_unanswered_max: set.lcp_echo_failure,
            ..ppp::ServerConfig::default()
        };
        Self {
            discovery: pppoe::Server::new(),
            discovery_cfg: pppoe::ServerConfig::new(
                group.ac_name.clone(),
                state.cookie_key().copied().unwrap_or_default(),
            ),
            ppp_cfg,
            links: BTreeMap::new(),
            timers: BTreeSet::new(),
            half_open: 0,
            last_sid: 0,
            to_resume: state.sessions_of(group.id).filter(|s| is_pppoe(s)).map(|s| s.id).collect(),
            resume_at: now,
            padt_window: (0, 0),
            counters,
        }
    }

    pub(super) fn resuming(&self) -> usize {
        self.to_resume.len()
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; the driver's view of one frame")]
    pub(super) fn on_discovery(
        &mut self,
        wire: &mut Wire,
        from: Attachment,
        frame: &Frame<'_>,
        shed: bool,
        state: &State,
        now: Tick,
        wall: UnixMs,
    ) {
        let packet = match Packet::parse(frame.payload) {
            Ok(packet) => packet,
            Err(error) => return self.counters.add("pppoe_drop", error.label()),
        };
        if shed && packet.code == pppoe::Code::Padi {
            return self.counters.add("pppoe_drop", "shed");
        }
        for action in
            self.discovery.on_frame(from, frame.dst, &packet, now, wall, &self.discovery_cfg)
        {
            match action {
                pppoe::Action::Reply { to, payload } => {
                    wire.send(to, frame.s_tag, to.mac, ethertype::PPPOE_DISCOVERY, &payload);
                }
                pppoe::Action::Open { from, request } => {
                    self.open(wire, from, frame.s_tag, request, state, now);
                }
                pppoe::Action::Close { from, sid } => self.on_padt(wire, from, sid, state),
                pppoe::Action::Drop(reason) => self.counters.add("pppoe_drop", reason.label()),
            }
        }
    }

    /// A PADR with a good cookie: PADS, and LCP at once.
    fn open(
        &mut self,
        wire: &mut Wire,
        from: Attachment,
        s_tag: bool,
        request: Padr,
        state: &State,
        now: Tick,
    ) {
        let again = self.links.iter().find(|(_, l)| l.session.is_none() && l.attachment == from);
        if let Some((&sid, _)) = again {
            let pads = pppoe::pads(&self.discovery_cfg, &request, sid);
            return wire.send(from, s_tag, from.mac, ethertype::PPPOE_DISCOVERY, &pads);
        }
        let sid = if self.half_open < HALF_OPEN_MAX { self.free_sid(wire, state) } else { None };
        let Some(sid) = sid else {
            self.counters.add("pppoe_drop", "no_session_id");
            let text = "too many sessions";
            let refusal =
                pppoe::pads_refused(&self.discovery_cfg, &request, PadsError::AcSystemError, text);
            return wire.send(from, s_tag, from.mac, ethertype::PPPOE_DISCOVERY, &refusal);
        };
        let pads = pppoe::pads(&self.discovery_cfg, &request, sid);
        wire.send(from, s_tag, from.mac, ethertype::PPPOE_DISCOVERY, &pads);
        let mut rng = rand::rng();
        let seed = Seed {
            magic: rng.random_range(1..=u32::MAX),
            challenge: rng.random(),
            chap_id: rng.random(),
        };
        let link = Link {
            attachment: from,
            s_tag,
            ppp: ppp::Server::new(seed),
            session: None,
            timer: None,
            padr: Some(Box::new(request)),
        };
        self.links.insert(sid, link);
        self.half_open += 1;
        self.step(wire, sid, Event::Start, state, now);
    }

    fn free_sid(&mut self, wire: &Wire, state: &State) -> Option<u16> {
        let links = &self.links;
        let sid = state.next_sid(wire.group, self.last_sid, &|sid| links.contains_key(&sid))?;
        self.last_sid = sid;
        Some(sid)
    }

    /// A PPP frame of a session; unknown sessions get a PADT.
    pub(super) fn on_session(
        &mut self,
        wire: &mut Wire,
        from: Attachment,
        frame: &Frame<'_>,
        state: &State,
        now: Tick,
    ) {
        let (sid, ppp) = match pppoe::parse_session(frame.payload) {
            Ok(parsed) => parsed,
            Err(error) => return self.counters.add("pppoe_drop", error.label()),
        };
        if !self.links.contains_key(&sid) {
            match state.session_by_pppoe(wire.group, sid) {
                Some(session) if session.attachment == from => {
                    self.resume(session, frame.s_tag, state, now)
                }
                Some(_) | None => return self.refuse(wire, from, frame.s_tag, sid, now),
            }
        }
        if self.links.get(&sid).is_some_and(|l| l.attachment == from) {
            self.step(wire, sid, Event::Frame(ppp), state, now);
        } else {
            self.refuse(wire, from, frame.s_tag, sid, now);
        }
    }

    fn refuse(&mut self, wire: &mut Wire, to: Attachment, s_tag: bool, sid: u16, now: Tick) {
        self.counters.add("pppoe_drop", "unknown_session");
        let second = now.as_ms() / 1000;
        if self.padt_window.0 != second {
            self.padt_window = (second, 0);
        }
        self.padt_window.1 += 1;
        if self.padt_window.1 <= PADT_PER_S {
            let padt = pppoe::padt(sid, Some("unknown session"));
            wire.send(to, s_tag, to.mac, ethertype::PPPOE_DISCOVERY, &padt);
        }
    }

    fn on_padt(&mut self, wire: &mut Wire, from: Attachment, sid: u16, state: &State) {
        if self.links.get(&sid).is_some_and(|l| l.attachment == from) {
            self.finish(wire, sid, DownReason::UserRequest, false);
        } else if let Some(session) = state.session_by_pppoe(wire.group, sid)
            && session.attachment == from
        {
            let op = SessionOp::Down { session: session.id, reason: DownReason::UserRequest };
            wire.propose(Pending::Nothing, op);
        }
    }

    /// Goes on with a session that another node, or this one before, has opened.
    fn resume(&mut self, session: &Session, s_tag: bool, state: &State, now: Tick) {
        let SessionKind::Pppoe(saved) = &session.kind else { return };
        let link = LinkParameters {
            username: session.username.clone(),
            local_magic: saved.local_magic,
            peer_magic: saved.peer_magic,
            mtu: saved.mtu,
            mru: saved.mru,
        };
        let Some(addresses) = addresses(session, state) else { return };
        let ppp = ppp::Server::resume(link, addresses, now, &self.ppp_cfg);
        let link = Link {
            attachment: session.attachment,
            s_tag,
            ppp,
            session: Some(session.id),
            timer: None,
            padr: None,
        };
        self.links.insert(saved.sid, link);
        self.arm(saved.sid);
    }

    fn step(&mut self, wire: &mut Wire, sid: u16, event: Event<'_>, state: &State, now: Tick) {
        let Some(link) = self.links.get_mut(&sid) else { return };
        let actions = link.ppp.step(event, now, &self.ppp_cfg);
        for action in actions {
            self.act(wire, sid, action, state, now);
        }
        self.arm(sid);
    }

    fn act(&mut self, wire: &mut Wire, sid: u16, action: Action, state: &State, now: Tick) {
        let Some(link) = self.links.get(&sid) else { return };
        let (to, s_tag) = (link.attachment, link.s_tag);
        match action {
            Action::Send(ppp) => {
                let payload = pppoe::emit_session(sid, &ppp);
                wire.send(to, s_tag, to.mac, ethertype::PPPOE_SESSION, &payload);
            }
            Action::Authenticate(credentials) => {
                let known = state.subscriber(credentials.username());
                let outcome = if known.is_some_and(|s| credentials.verify(s.password.expose())) {
                    AuthOutcome::Accepted { message: String::new() }
                } else {
                    self.counters.add("auth", "rejected");
                    AuthOutcome::Rejected { message: "authentication failed".into() }
                };
                self.step(wire, sid, Event::Auth(outcome), state, now);
            }
            Action::RequestSession(link) => {
                let op = SessionOp::PppoeUp {
                    attachment: to,
                    sid,
                    username: link.username,
                    local_magic: link.local_magic,
                    peer_magic: link.peer_magic,
                    mtu: link.mtu,
                    mru: link.mru,
                    rate: None,
                    address: None,
                    pool: None,
                };
                wire.propose(Pending::PppoeUp { sid }, op);
            }
            Action::Up(_) => self.counters.add("sessions", "pppoe_up"),
            Action::Down(reason) => self.finish(wire, sid, reason, true),
        }
    }

    /// The link is over: the session leaves the log, the peer hears it.
    fn finish(&mut self, wire: &mut Wire, sid: u16, reason: DownReason, tell: bool) {
        let Some(link) = self.links.remove(&sid) else { return };
        if let Some(at) = link.timer {
            self.timers.remove(&(at, sid));
        }
        self.counters.add("pppoe_down", reason.label());
        match link.session {
            Some(session) => wire.propose(Pending::Nothing, SessionOp::Down { session, reason }),
            None => self.half_open = self.half_open.saturating_sub(1),
        }
        if tell {
            let padt = pppoe::padt(sid, None);
            wire.send(
                link.attachment,
                link.s_tag,
                link.attachment.mac,
                ethertype::PPPOE_DISCOVERY,
                &padt,
            );
        }
    }

    pub(super) fn on_outcome(
        &mut self,
        wire: &mut Wire,
        sid: u16,
        outcome: &OpOutcome,
        state: &State,
        now: Tick,
    ) {
        match outcome {
            OpOutcome::Committed(OpReply::Session(session)) => {
                let ours = self.links.get_mut(&sid).filter(|l| l.attachment == session.attachment);
                let (Some(link), Some(addresses)) = (ours, addresses(session, state)) else {
                    // The peer hung up while the entry was on its way.
                    let op =
                        SessionOp::Down { session: session.id, reason: DownReason::UserRequest };
                    return wire.propose(Pending::Nothing, op);
                };
                link.session = Some(session.id);
                link.padr = None;
                self.half_open = self.half_open.saturating_sub(1);
                self.step(
                    wire,
                    sid,
                    Event::Session(SessionOutcome::Granted(addresses)),
                    state,
                    now,
                );
            }
            OpOutcome::Committed(OpReply::Refused(refusal)) => {
                self.counters.add("session_refused", refusal.label());
                tracing::warn!(event = "TANDEM-SESSION-REFUSED", sid, %refusal, "no session for an authenticated subscriber");
                let message = refusal.to_string();
                self.step(
                    wire,
                    sid,
                    Event::Session(SessionOutcome::Refused { message }),
                    state,
                    now,
                );
            }
            OpOutcome::Committed(OpReply::Done) | OpOutcome::Unknown => {
                self.counters.add("session_refused", "no_answer");
                self.step(wire, sid, Event::Close(DownReason::NegotiationFailed), state, now);
            }
        }
    }

    /// A session has left the log; if its link lives here, it is closed towards the peer.
    pub(super) fn on_down(
        &mut self,
        wire: &mut Wire,
        session: &Session,
        reason: DownReason,
        state: &State,
        now: Tick,
    ) {
        let SessionKind::Pppoe(saved) = &session.kind else { return };
        let sid = saved.sid;
        match self.links.get_mut(&sid) {
            Some(link) if link.session == Some(session.id) => {
                link.session = None;
                self.half_open += 1;
                self.step(wire, sid, Event::Close(reason), state, now);
            }
            Some(_) => {}
            None => {
                let padt = pppoe::padt(sid, None);
                let to = session.attachment;
                let s_tag = to.vlans.has_service_tag();
                wire.send(to, s_tag, to.mac, ethertype::PPPOE_DISCOVERY, &padt);
            }
        }
    }

    pub(super) fn on_time(&mut self, wire: &mut Wire, state: &State, now: Tick) {
        while let Some(&(at, sid)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(link) = self.links.get_mut(&sid) {
                link.timer = None;
            }
            self.step(wire, sid, Event::Deadline, state, now);
        }
        if !self.to_resume.is_empty() && now >= self.resume_at {
            self.resume_at = now + RESUME_PAUSE;
            for _ in 0..RESUME_STEP {
                let Some(id) = self.to_resume.pop_front() else { break };
                let Some(session) = state.session(id) else { continue };
                let SessionKind::Pppoe(saved) = &session.kind else { continue };
                if !self.links.contains_key(&saved.sid) {
                    let s_tag = session.attachment.vlans.has_service_tag();
                    self.resume(session, s_tag, state, now);
                }
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        let resume = (!self.to_resume.is_empty()).then_some(self.resume_at);
        let timer = self.timers.first().map(|(at, _)| *at);
        [resume, timer].into_iter().flatten().min()
    }

    fn arm(&mut self, sid: u16) {
        let Some(link) = self.links.get_mut(&sid) else { return };
        let next = link.ppp.deadline();
        if next == link.timer {
            return;
        }
        if let Some(at) = link.timer {
            self.timers.remove(&(at, sid));
        }
        if let Some(at) = next {
            self.timers.insert((at, sid));
        }
        link.timer = next;
    }
}

fn is_pppoe(session: &Session) -> bool {
    session.kind.service() == GroupService::Pppoe
}

fn addresses(session: &Session, state: &State) -> Option<Addresses> {
    let pool = state.pool(&session.pool);
    if pool.is_none() {
        debug!(pool = session.pool, "a session's pool is gone");
    }
    pool.map(|p| Addresses { local: p.gateway, peer: session.address, dns: p.dns.clone() })
}
