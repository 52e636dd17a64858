//! The access concentrator's end of one session.

use crate::auth::{self, Authenticator};
use crate::automaton::{Automaton, Output};
use crate::config::{AuthProtocol, Policy, Seed, ServerConfig};
use crate::echo::{Beat, Keepalive};
use crate::error::{Dropped, WireError};
use crate::fsm::State;
use crate::ipcp::{self, Addresses};
use crate::lcp::{Auth, LcpOptions};
use crate::wire::{self, Packet, code, protocol};
use model::{DownReason, Tick};

mod event;
mod network;

pub use event::{Action, AuthOutcome, Event, LinkParameters, SessionOutcome};

/// What a resumed engine tells a peer that negotiates LCP anew.
const DIAL_AGAIN: &str = "please dial in again";

/// Where the link stands. RFC 1661 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before `Start`.
    Idle,
    /// LCP negotiates.
    Establish,
    /// LCP is open, the peer proves who it is.
    Authenticate,
    /// The peer is who it says; the cluster has not granted the session yet.
    Authorize,
    /// IPCP negotiates or is open.
    Network,
    /// Our Terminate-Request is out.
    Terminate(DownReason),
    /// `Down` was emitted.
    Done,
}

/// The server's PPP engine for one PPPoE session.
///
/// The order is LCP, PAP or CHAP-MD5, the cluster's grant, IPCP. Nothing of IPCP leaves before the
/// grant: an acknowledged address that no majority knows of could be handed out twice.
///
/// A peer may negotiate LCP anew at any time: it is authenticated again, and the session and its
/// addresses stay if the name does. An engine from [`Server::resume`] has no fresh challenge for
/// that and closes the link instead; the peer then dials in again.
#[derive(Clone, Debug)]
pub struct Server {
    phase: Phase,
    lcp: Automaton<LcpOptions>,
    ipcp: Automaton<ipcp::ServerOptions>,
    /// `None` in a resumed engine.
    auth: Option<Authenticator>,
    keepalive: Option<Keepalive>,
    /// When to give up unless IPCP is open.
    establish_by: Option<Tick>,
    /// Set when the peer is authenticated for the first time, and with it `RequestSession` is out.
    link: Option<LinkParameters>,
    /// Whether `Up` was emitted.
    announced: bool,
    /// Whether the peer has spoken IPCP since it was authenticated, and so knows that it was.
    peer_speaks_ipcp: bool,
    /// The newest IPCP Configure-Request from before the grant. The peer may start IPCP as soon as
    /// it is authenticated and would otherwise lose a whole Restart timer; one is enough.
    early_request: Option<Box<[u8]>>,
    dropped: Dropped,
}

impl Server {
    /// An engine that waits for `Start`.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let [a, b, c, d, ..] = seed.challenge;
        let salt = u32::from_be_bytes([a, b, c, d]);
        // `start` replaces the placeholders of the configuration.
        let demand = Auth::Demanded(AuthProtocol::ChapMd5);
        let options = LcpOptions::new(demand, crate::lcp::MRU_DEFAULT_OCTETS, seed.magic, salt);
        Self {
            phase: Phase::Idle,
            lcp: Automaton::new(options),
            ipcp: Automaton::new(ipcp::ServerOptions::new(None)),
            auth: Some(Authenticator::new(seed)),
            keepalive: None,
            establish_by: None,
            link: None,
            announced: false,
            peer_speaks_ipcp: false,
            early_request: None,
            dropped: Dropped::default(),
        }
    }

    /// An engine for a session that another node brought up: LCP and IPCP are open, with the same
    /// magic numbers, MRU and addresses.
    ///
    /// Should the peer not have seen IPCP open, its Configure-Request gets the same answers again.
    /// Echoes start at once, spread over one interval, so that a peer that died during the takeover
    /// is found within `echo_interval * (echo_unanswered_max + 1)`.
    #[must_use]
    pub fn resume(
        link: LinkParameters,
        addresses: Addresses,
        now: Tick,
        cfg: &ServerConfig,
    ) -> Self {
        let policy = cfg.policy();
        // The peer may still hold packets of the other node; identifiers that start at another
        // place in each session make a mix-up unlikely.
        let [id, ..] = link.local_magic.to_le_bytes();
        let demand = Auth::Demanded(AuthProtocol::ChapMd5);
        let lcp = LcpOptions::agreed(demand, link.mru, link.local_magic, link.mtu, link.peer_magic);
        let mut ipcp = ipcp::ServerOptions::new(None);
        ipcp.grant(addresses);
        let first_echo = now + Keepalive::jitter(link.local_magic, cfg.echo_interval);
        Self {
            phase: Phase::Network,
            lcp: Automaton::opened(lcp, id, &policy),
            ipcp: Automaton::opened(ipcp, id, &policy),
            auth: None,
            keepalive: (!cfg.echo_interval.is_zero()).then(|| Keepalive::new(first_echo, id)),
            establish_by: None,
            link: Some(link),
            announced: true,
            peer_speaks_ipcp: true,
            early_request: None,
            dropped: Dropped::default(),
        }
    }

    /// Consumes one event; the only place where the engine changes.
    #[must_use]
    pub fn step(&mut self, event: Event<'_>, now: Tick, cfg: &ServerConfig) -> Vec<Action> {
        let mut run = Run { now, cfg, policy: cfg.policy(), actions: Vec::new() };
        match event {
            Event::Start => self.start(&mut run),
            Event::Frame(frame) => {
                if let Err(error) = self.frame(frame, &mut run) {
                    self.dropped.note(error);
                }
            }
            Event::Deadline => self.expire(&mut run),
            Event::Auth(outcome) => self.auth_decided(&outcome, &mut run),
            Event::Session(outcome) => self.session_decided(outcome, &mut run),
            Event::Close(reason) => self.close(reason, "", &mut run),
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
            self.auth.as_ref().and_then(Authenticator::deadline),
            self.keepalive.as_ref().map(Keepalive::deadline),
            self.establish_by,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether the subscriber may send: from `Up` until the link starts to end.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.announced && !self.is_ending()
    }

    /// Frames that were dropped so far, and why the last one was.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn is_ending(&self) -> bool {
        match self.phase {
            Phase::Terminate(_) | Phase::Done => true,
            Phase::Idle
            | Phase::Establish
            | Phase::Authenticate
            | Phase::Authorize
            | Phase::Network => false,
        }
    }

    fn start(&mut self, run: &mut Run<'_>) {
        if self.phase != Phase::Idle {
            return;
        }
        let Some(&best) = run.cfg.auth.first() else {
            // Nobody may come in unasked.
            return self.finish(DownReason::NegotiationFailed, run);
        };
        self.lcp.options.configure(Auth::Demanded(best), run.cfg.mru_octets);
        self.phase = Phase::Establish;
        self.establish_by = Some(run.now + run.cfg.auth_timeout);
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
            protocol::PAP => self.auth_frame(AuthProtocol::Pap, information, run),
            protocol::CHAP => self.auth_frame(AuthProtocol::ChapMd5, information, run),
            protocol::IPCP => self.ipcp_frame(information, run),
            other => self.foreign_frame(other, information, run),
        }
    }

    fn lcp_frame(&mut self, packet: Packet<'_>, run: &mut Run<'_>) -> Result<(), WireError> {
        let renegotiates = matches!(packet.code, code::CONFIGURE_REQUEST | code::TERMINATE_ACK);
        if renegotiates && self.auth.is_none() && !self.is_ending() {
            self.close(DownReason::NegotiationFailed, DIAL_AGAIN, run);
            return Ok(());
        }
        let mut out = Vec::new();
        self.lcp.receive(packet, run.now, &run.policy, &mut out)?;
        if packet.code == code::TERMINATE_REQUEST && !self.is_ending() {
            // Only the Ack leaves. RFC 1661 §4.4 would wait here for a Restart timer in case the
            // Ack gets lost; the PADT that follows `Down` ends the session on its own.
            for output in out {
                if let Output::Send(frame) = output {
                    run.send(frame);
                }
            }
            self.finish(DownReason::UserRequest, run);
            return Ok(());
        }
        if out.is_empty() && packet.code >= code::PROTOCOL_REJECT {
            // RFC 1661 §5.8: silently discarded unless opened.
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
                    let reason = match self.phase {
                        Phase::Terminate(reason) => reason,
                        Phase::Idle
                        | Phase::Establish
                        | Phase::Authenticate
                        | Phase::Authorize
                        | Phase::Network
                        | Phase::Done => DownReason::NegotiationFailed,
                    };
                    self.finish(reason, run);
                }
                Output::GiveUp => {
                    self.close(DownReason::NegotiationFailed, "options do not converge", run);
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
        let (Auth::Demanded(protocol), Some(auth)) = (self.lcp.options.auth, &mut self.auth) else {
            return;
        };
        self.phase = Phase::Authenticate;
        let output = auth.begin(protocol, &run.cfg.name, run.now, &run.policy);
        self.auth_output(output, run);
    }

    /// LCP is negotiated anew, or ends.
    fn lcp_down(&mut self, run: &mut Run<'_>) {
        if self.is_ending() {
            return;
        }
        self.leave_network(run);
        if self.lcp.state() == State::Stopping {
            // RFC 1661 §4.3 RXJ-: the peer refuses what LCP cannot do without.
            self.establish_by = None;
            self.phase = Phase::Terminate(DownReason::NegotiationFailed);
            return;
        }
        self.phase = Phase::Establish;
        if self.establish_by.is_none() {
            self.establish_by = Some(run.now + run.cfg.auth_timeout);
        }
    }

    fn leave_network(&mut self, run: &Run<'_>) {
        // What IPCP says on its way down is not for the peer: there is no link to say it on.
        self.ipcp.lower_down(run.now, &run.policy, &mut Vec::new());
        if let Some(auth) = &mut self.auth {
            auth.reset();
        }
        self.keepalive = None;
        self.peer_speaks_ipcp = false;
        self.early_request = None;
    }

    /// Codes from Protocol-Reject on, LCP being open.
    fn lcp_extended(&mut self, packet: Packet<'_>, run: &mut Run<'_>) {
        match packet.code {
            code::PROTOCOL_REJECT => self.protocol_rejected(packet, run),
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

    fn protocol_rejected(&mut self, packet: Packet<'_>, run: &mut Run<'_>) {
        let protocol = match wire::split(packet.data) {
            Ok((protocol, _)) => protocol,
            Err(error) => return self.dropped.note(error),
        };
        match protocol {
            protocol::LCP | protocol::PAP | protocol::CHAP | protocol::IPCP => {
                self.close(DownReason::NegotiationFailed, "a needed protocol was rejected", run);
            }
            // Nothing else was ever sent.
            _ => {}
        }
    }

    fn auth_frame(
        &mut self,
        protocol: AuthProtocol,
        information: &[u8],
        run: &mut Run<'_>,
    ) -> Result<(), WireError> {
        let out_of_phase = WireError::OutOfPhase {
            protocol: match protocol {
                AuthProtocol::Pap => protocol::PAP,
                AuthProtocol::ChapMd5 => protocol::CHAP,
            },
        };
        if self.is_ending() {
            return Err(out_of_phase);
        }
        let packet = Packet::parse(information)?;
        let Some(auth) = &mut self.auth else {
            // The peer was authenticated, or there would be no session to resume; it only missed
            // the outcome. RFC 1994 §4.2: a repeated response gets it again, whatever it says.
            run.send(auth::repeat_accepted(protocol, packet)?);
            return Ok(());
        };
        let output = auth.receive(protocol, packet)?;
        self.auth_output(Some(output), run);
        Ok(())
    }

    fn auth_output(&mut self, output: Option<auth::Output>, run: &mut Run<'_>) {
        match output {
            None => {}
            Some(auth::Output::Send(frame)) => run.send(frame),
            Some(auth::Output::Ask(credentials)) => {
                run.actions.push(Action::Authenticate(credentials));
            }
            Some(auth::Output::GiveUp) => {
                self.close(DownReason::NegotiationFailed, "no answer to the challenge", run);
            }
        }
    }

    fn auth_decided(&mut self, outcome: &AuthOutcome, run: &mut Run<'_>) {
        let (accepted, message) = match outcome {
            AuthOutcome::Accepted { message } => (true, message),
            AuthOutcome::Rejected { message } => (false, message),
        };
        let decided = self.auth.as_mut().and_then(|auth| auth.decide(accepted, message));
        // `None`: the question is from before LCP went down, or there was none.
        let Some((username, frame)) = decided else { return };
        run.send(frame);
        if accepted {
            self.authenticated(username, run);
        } else {
            self.close(DownReason::NegotiationFailed, message, run);
        }
    }

    fn authenticated(&mut self, username: String, run: &mut Run<'_>) {
        match &self.link {
            None => {
                let link = self.parameters(username, run);
                self.phase = Phase::Authorize;
                self.link = Some(link.clone());
                run.actions.push(Action::RequestSession(link));
            }
            Some(link) if link.username != username => {
                self.close(DownReason::NegotiationFailed, "the session is another user's", run);
            }
            Some(_) if self.ipcp.options.addresses().is_some() => self.start_ipcp(run),
            Some(_) => self.phase = Phase::Authorize,
        }
    }

    fn parameters(&self, username: String, run: &Run<'_>) -> LinkParameters {
        let lcp = &self.lcp.options;
        LinkParameters {
            username,
            local_magic: lcp.magic,
            peer_magic: lcp.peer_magic,
            mtu: lcp.peer_mru.min(run.cfg.mru_octets),
            mru: lcp.mru(),
        }
    }

    fn expire(&mut self, run: &mut Run<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        if self.establish_by.is_some_and(|at| at <= run.now) {
            return self.close(DownReason::NegotiationFailed, "the link took too long", run);
        }
        let mut out = Vec::new();
        self.lcp.expire(run.now, &run.policy, &mut out);
        self.lcp_outputs(out, None, run);
        let mut out = Vec::new();
        self.ipcp.expire(run.now, &run.policy, &mut out);
        if !out.is_empty() && !self.peer_speaks_ipcp {
            self.repeat_success(run);
        }
        self.ipcp_outputs(out, run);
        if let Some(auth) = &mut self.auth {
            let output = auth.expire(&run.cfg.name, run.now, &run.policy);
            self.auth_output(output, run);
        }
        self.echo(run);
    }

    /// Says again that the peer is authenticated, before IPCP speaks again.
    ///
    /// Common clients do not repeat their CHAP response, so one lost Success would leave both ends
    /// waiting for each other. A client that knows already ignores it.
    fn repeat_success(&mut self, run: &mut Run<'_>) {
        if let Some(frame) = self.auth.as_ref().and_then(Authenticator::success) {
            run.send(frame);
        }
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
            // Nobody is there to hear a Terminate-Request.
            Beat::Dead => self.finish(DownReason::LostCarrier, run),
        }
    }

    /// Ends the link in order: Terminate-Request, and `Down` once it is acknowledged or given up.
    fn close(&mut self, reason: DownReason, message: &str, run: &mut Run<'_>) {
        if self.is_ending() {
            return;
        }
        self.leave_network(run);
        self.establish_by = None;
        self.phase = Phase::Terminate(reason);
        let mut out = Vec::new();
        self.lcp.close(auth::short_text(message), run.now, &run.policy, &mut out);
        self.lcp_outputs(out, None, run);
        if self.lcp.deadline().is_none() {
            self.finish(reason, run);
        }
    }

    fn finish(&mut self, reason: DownReason, run: &mut Run<'_>) {
        if self.phase == Phase::Done {
            return;
        }
        self.phase = Phase::Done;
        self.leave_network(run);
        run.actions.push(Action::Down(reason));
    }
}

/// What one step works with.
struct Run<'a> {
    now: Tick,
    cfg: &'a ServerConfig,
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
