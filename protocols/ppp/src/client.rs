//! The subscriber's end of one session: what simulated subscribers and tests dial in with.

use crate::auth::{self, chap, chap_md5, pap};
use crate::automaton::{Automaton, Output};
use crate::config::{AuthProtocol, Policy};
use crate::echo::{Beat, Keepalive};
use crate::error::{Dropped, WireError};
use crate::fsm::State;
use crate::ipcp::ClientOptions;
use crate::lcp::{Auth, LcpOptions, MRU_DEFAULT_OCTETS};
use crate::wire::{self, Packet, code, protocol};
use model::Tick;

mod types;

pub use types::{Action, Cause, ClientConfig, Event};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Establish,
    Authenticate,
    Network,
    Terminate(Cause),
    Done,
}

/// A PAP request or CHAP response that waits for its outcome and is repeated until then.
///
/// RFC 1994 leaves the repeating to us: the server answers a repeated response, but nobody would
/// repeat a lost Success.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attempt {
    /// `None` for PAP, whose frame has the password in it and is built when needed.
    chap_response: Option<Vec<u8>>,
    id: u8,
    attempts_left: u8,
    deadline: Tick,
}

/// The client's PPP engine for one PPPoE session.
#[derive(Clone, Debug)]
pub struct Client {
    phase: Phase,
    lcp: Automaton<LcpOptions>,
    ipcp: Automaton<ClientOptions>,
    attempt: Option<Attempt>,
    keepalive: Option<Keepalive>,
    establish_by: Option<Tick>,
    /// The newest `Up`.
    announced: Option<Action>,
    dropped: Dropped,
}

/// Tells our sequence of magic numbers from a server's.
const MAGIC_SALT: u32 = 0xc11e_4700;

impl Client {
    /// An engine that waits for `Start`.
    #[must_use]
    pub fn new(magic: u32) -> Self {
        // `start` replaces the placeholder of the configuration.
        let lcp = LcpOptions::new(Auth::Agreed(None), MRU_DEFAULT_OCTETS, magic, MAGIC_SALT);
        Self {
            phase: Phase::Idle,
            lcp: Automaton::new(lcp),
            ipcp: Automaton::new(ClientOptions::new()),
            attempt: None,
            keepalive: None,
            establish_by: None,
            announced: None,
            dropped: Dropped::default(),
        }
    }

    /// Consumes one event; the only place where the engine changes.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Tick, cfg: &ClientConfig) -> Vec<Action> {
        let mut run = Run { now, cfg, policy: cfg.policy(), actions: Vec::new() };
        match event {
            Event::Start => self.start(&mut run),
            Event::Frame(frame) => {
                if let Err(error) = self.frame(frame, &mut run) {
                    self.dropped.note(error);
                }
            }
            Event::Deadline => self.expire(&mut run),
            Event::Close => self.close(Cause::Closed, "User request", &mut run),
        }
        run.actions
    }

    /// When `Event::Deadline` is wanted; earlier or repeated ones are harmless.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        if self.phase == Phase::Done {
            return None;
        }
        [
            self.lcp.deadline(),
            self.ipcp.deadline(),
            self.attempt.as_ref().map(|attempt| attempt.deadline),
            self.keepalive.as_ref().map(Keepalive::deadline),
            self.establish_by,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether IPCP has opened and the link is not ending.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.announced.is_some() && !self.is_ending()
    }

    /// Frames that were dropped so far, and why the last one was.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Terminate(_) | Phase::Done => true,
            Phase::Idle | Phase::Establish | Phase::Authenticate | Phase::Network => false,
        }
    }

    fn start(&mut self, run: &mut Run<'_>) {
        if self.phase != Phase::Idle {
            return;
        }
        self.lcp.options.configure(Auth::Agreed(None), run.cfg.mru_octets);
        self.phase = Phase::Establish;
        self.establish_by = Some(run.now + run.cfg.establish_timeout);
        let mut out = Vec::new();
        self.lcp.open(run.now, &run.policy, &mut out);
        self.lcp.lower_up(run.now, &run.policy, &mut out);
        self.lcp_outputs(out, None, run);
    }

    fn frame(&mut self, frame: &[u8], run: &mut Run<'_>) -> Result<(), WireError> {
        let (protocol, information) = wire::split(frame)?;
        if matches!(self.phase, Phase::Idle | Phase::Done) {
            return Err(WireError::NotRunning);
        }
        match protocol {
            protocol::LCP => self.lcp_frame(Packet::parse(information)?, run),
            protocol::PAP => self.pap_frame(Packet::parse(information)?, run),
            protocol::CHAP => self.chap_frame(Packet::parse(information)?, run),
            protocol::IPCP => self.ipcp_frame(Packet::parse(information)?, run),
            other if self.phase == Phase::Network && other != protocol::IPV4 => {
                let id = self.lcp.next_id();
                run.send(wire::protocol_reject(id, other, information));
                Ok(())
            }
            other => Err(WireError::OutOfPhase { protocol: other }),
        }
    }

    fn lcp_frame(&mut self, packet: Packet<'_>, run: &mut Run<'_>) -> Result<(), WireError> {
        let mut out = Vec::new();
        self.lcp.receive(packet, run.now, &run.policy, &mut out)?;
        if packet.code == code::TERMINATE_REQUEST && !self.is_ending() {
            for output in out {
                if let Output::Send(frame) = output {
                    run.send(frame);
                }
            }
            let message = String::from_utf8_lossy(packet.data).into_owned();
            self.finish(Cause::PeerTerminated { message }, run);
            return Ok(());
        }
        if out.is_empty() && packet.code >= code::PROTOCOL_REJECT {
            return Err(WireError::OutOfPhase { protocol: protocol::LCP });
        }
        self.lcp_outputs(out, Some(packet), run);
        Ok(())
    }

    fn lcp_outputs(&mut self, out: Vec<Output>, packet: Option<Packet<'_>>, run: &mut Run<'_>) {
        for output in out {
            match output {
                Output::Send(frame) => run.send(frame),
                Output::Up => self.lcp_up(run),
                Output::Down => self.lcp_down(run),
                Output::Finished => {
                    let cause = match &self.phase {
                        Phase::Terminate(cause) => cause.clone(),
                        Phase::Idle
                        | Phase::Establish
                        | Phase::Authenticate
                        | Phase::Network
                        | Phase::Done => Cause::NegotiationFailed,
                    };
                    self.finish(cause, run);
                }
                Output::GiveUp => {
                    self.close(Cause::NegotiationFailed, "options do not converge", run);
                }
                Output::Extended => {
                    if let Some(packet) = packet {
                        self.lcp_extended(packet, run);
                    }
                }
            }
        }
    }

    fn lcp_up(&mut self, run: &mut Run<'_>) {
        self.phase = Phase::Authenticate;
        match self.lcp.options.auth {
            Auth::Agreed(Some(AuthProtocol::Pap)) => {
                let id = self.lcp.next_id();
                self.begin_attempt(id, None, run);
            }
            // The server speaks first, or demands nothing.
            Auth::Agreed(Some(AuthProtocol::ChapMd5)) => {}
            Auth::Agreed(None) | Auth::Demanded(_) => self.start_ipcp(run),
        }
    }

    fn lcp_down(&mut self, run: &mut Run<'_>) {
        if self.is_ending() {
            return;
        }
        self.leave_network(run);
        if self.lcp.state() == State::Stopping {
            self.establish_by = None;
            self.phase = Phase::Terminate(Cause::NegotiationFailed);
            return;
        }
        self.phase = Phase::Establish;
        if self.establish_by.is_none() {
            self.establish_by = Some(run.now + run.cfg.establish_timeout);
        }
    }

    fn leave_network(&mut self, run: &Run<'_>) {
        self.ipcp.lower_down(run.now, &run.policy, &mut Vec::new());
        self.attempt = None;
        self.keepalive = None;
    }

    fn lcp_extended(&mut self, packet: Packet<'_>, run: &mut Run<'_>) {
        match packet.code {
            code::PROTOCOL_REJECT => match wire::split(packet.data) {
                Ok((protocol::LCP | protocol::PAP | protocol::CHAP | protocol::IPCP, _)) => {
                    self.close(Cause::NegotiationFailed, "a needed protocol was rejected", run);
                }
                Ok(_) => {}
                Err(error) => self.dropped.note(error),
            },
            code::ECHO_REQUEST | code::ECHO_REPLY => match self.lcp.options.echoed(packet) {
                Ok(Some(reply)) => run.send(reply),
                Ok(None) => {
                    if let Some(keepalive) = &mut self.keepalive {
                        keepalive.answered();
                    }
                }
                Err(error) => self.dropped.note(error),
            },
            // Discard-Request, Identification and Time-Remaining want nothing.
            _ => {}
        }
    }

    fn begin_attempt(&mut self, id: u8, chap_response: Option<Vec<u8>>, run: &mut Run<'_>) {
        let (attempts_left, deadline) = (run.cfg.max_configure, run.now);
        self.attempt = Some(Attempt { chap_response, id, attempts_left, deadline });
        self.send_attempt(run);
    }

    fn send_attempt(&mut self, run: &mut Run<'_>) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.attempts_left == 0 {
            return self.close(Cause::NegotiationFailed, "no answer to the password", run);
        }
        attempt.attempts_left -= 1;
        attempt.deadline = run.now + run.cfg.restart;
        let frame = match &attempt.chap_response {
            Some(response) => response.clone(),
            None => auth::pap_request(attempt.id, &run.cfg.username, &run.cfg.password),
        };
        run.send(frame);
    }

    fn pap_frame(&mut self, packet: Packet<'_>, run: &mut Run<'_>) -> Result<(), WireError> {
        let (protocol, code, id) = (protocol::PAP, packet.code, packet.id);
        let attempt = self.attempt.as_ref().filter(|attempt| attempt.chap_response.is_none());
        let attempt = attempt.ok_or(WireError::OutOfPhase { protocol })?;
        if id != attempt.id {
            return Err(WireError::Stale { protocol, code, id });
        }
        match code {
            pap::ACK => self.authenticated(run),
            pap::NAK => {
                // Some servers leave the message's length out when there is no message.
                let text = auth::take_counted(packet.data, "PAP message").map_or(&[][..], |m| m.0);
                self.auth_failed(text, run);
            }
            _ => return Err(WireError::Unexpected { protocol, code }),
        }
        Ok(())
    }

    fn chap_frame(&mut self, packet: Packet<'_>, run: &mut Run<'_>) -> Result<(), WireError> {
        let (protocol, code, id) = (protocol::CHAP, packet.code, packet.id);
        let is_agreed = self.lcp.options.auth == Auth::Agreed(Some(AuthProtocol::ChapMd5));
        if !is_agreed || !matches!(self.phase, Phase::Authenticate | Phase::Network) {
            return Err(WireError::OutOfPhase { protocol });
        }
        if code == chap::CHALLENGE {
            // Also after the Success: the server may ask again at any time. RFC 1994 §2.
            let (challenge, _) = auth::take_counted(packet.data, "CHAP value")?;
            let value = chap_md5(id, run.cfg.password.expose(), challenge);
            let response = auth::chap_value(chap::RESPONSE, id, &value, &run.cfg.username);
            self.begin_attempt(id, Some(response), run);
            return Ok(());
        }
        let is_awaited = self.attempt.as_ref().is_some_and(|attempt| attempt.id == id);
        match code {
            chap::SUCCESS | chap::FAILURE if !is_awaited => {
                Err(WireError::Stale { protocol, code, id })
            }
            chap::SUCCESS => {
                self.authenticated(run);
                Ok(())
            }
            chap::FAILURE => {
                self.auth_failed(packet.data, run);
                Ok(())
            }
            _ => Err(WireError::Unexpected { protocol, code }),
        }
    }

    fn authenticated(&mut self, run: &mut Run<'_>) {
        self.attempt = None;
        if self.phase == Phase::Authenticate {
            self.start_ipcp(run);
        }
    }

    fn auth_failed(&mut self, text: &[u8], run: &mut Run<'_>) {
        let message = String::from_utf8_lossy(text).into_owned();
        self.close(Cause::AuthFailed { message }, "authentication failed", run);
    }

    fn start_ipcp(&mut self, run: &mut Run<'_>) {
        self.phase = Phase::Network;
        let mut out = Vec::new();
        self.ipcp.open(run.now, &run.policy, &mut out);
        self.ipcp.lower_up(run.now, &run.policy, &mut out);
        self.ipcp_outputs(out, run);
    }

    fn ipcp_frame(&mut self, packet: Packet<'_>, run: &mut Run<'_>) -> Result<(), WireError> {
        if self.phase != Phase::Network {
            return Err(WireError::OutOfPhase { protocol: protocol::IPCP });
        }
        let mut out = Vec::new();
        self.ipcp.receive(packet, run.now, &run.policy, &mut out)?;
        self.ipcp_outputs(out, run);
        if packet.code == code::TERMINATE_REQUEST {
            let message = String::from_utf8_lossy(packet.data).into_owned();
            self.close(Cause::PeerTerminated { message }, "", run);
        }
        Ok(())
    }

    fn ipcp_outputs(&mut self, out: Vec<Output>, run: &mut Run<'_>) {
        for output in out {
            match output {
                Output::Send(frame) => run.send(frame),
                Output::Up => self.ipcp_up(run),
                Output::Down => {
                    if self.establish_by.is_none() {
                        self.establish_by = Some(run.now + run.cfg.establish_timeout);
                    }
                }
                Output::Finished | Output::GiveUp => {
                    self.close(Cause::NegotiationFailed, "no agreement on addresses", run);
                }
                // IPCP has no codes beyond Code-Reject.
                Output::Extended => {}
            }
        }
    }

    fn ipcp_up(&mut self, run: &mut Run<'_>) {
        self.establish_by = None;
        if self.keepalive.is_none() && !run.cfg.echo_interval.is_zero() {
            self.keepalive = Some(Keepalive::new(run.now + run.cfg.echo_interval, 0));
        }
        let ipcp = &self.ipcp.options;
        let up = Action::Up {
            local: ipcp.local,
            peer: ipcp.peer,
            dns: ipcp.dns(),
            mtu: self.lcp.options.peer_mru.min(run.cfg.mru_octets),
        };
        if self.announced.as_ref() != Some(&up) {
            self.announced = Some(up.clone());
            run.actions.push(up);
        }
    }

    fn expire(&mut self, run: &mut Run<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        if self.establish_by.is_some_and(|at| at <= run.now) {
            return self.close(Cause::NegotiationFailed, "the link took too long", run);
        }
        let mut out = Vec::new();
        self.lcp.expire(run.now, &run.policy, &mut out);
        self.lcp_outputs(out, None, run);
        let mut out = Vec::new();
        self.ipcp.expire(run.now, &run.policy, &mut out);
        self.ipcp_outputs(out, run);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.deadline <= run.now) {
            self.send_attempt(run);
        }
        self.echo(run);
    }

    fn echo(&mut self, run: &mut Run<'_>) {
        let Some(keepalive) = &mut self.keepalive else { return };
        if run.cfg.echo_interval.is_zero() {
            self.keepalive = None;
            return;
        }
        match keepalive.expire(run.now, run.cfg.echo_interval, run.cfg.echo_unanswered_max) {
            Beat::Quiet => {}
            Beat::Probe(id) => run.send(self.lcp.options.probe(id)),
            Beat::Dead => self.finish(Cause::LostCarrier, run),
        }
    }

    fn close(&mut self, cause: Cause, message: &str, run: &mut Run<'_>) {
        if self.is_ending() {
            return;
        }
        self.leave_network(run);
        self.establish_by = None;
        self.phase = Phase::Terminate(cause.clone());
        let mut out = Vec::new();
        self.lcp.close(auth::short_text(message), run.now, &run.policy, &mut out);
        self.lcp_outputs(out, None, run);
        if self.lcp.deadline().is_none() {
            self.finish(cause, run);
        }
    }

    fn finish(&mut self, cause: Cause, run: &mut Run<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Done;
        self.leave_network(run);
        run.actions.push(Action::Down(cause));
    }
}

/// What one step works with.
struct Run<'a> {
    now: Tick,
    cfg: &'a ClientConfig,
    policy: Policy<'a>,
    actions: Vec<Action>,
}

impl Run<'_> {
    fn send(&mut self, frame: Vec<u8>) {
        self.actions.push(Action::Send(frame));
    }
}

#[cfg(test)]
mod tests;
