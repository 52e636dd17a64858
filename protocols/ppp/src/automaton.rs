//! Runs the table of [`crate::fsm`] for one control protocol: timers, counters, packets, options.

use crate::WireError;
use crate::config::Policy;
use crate::fsm::{Act, Event, State, transition};
use crate::wire::{self, ConfigOption, ConfigOptions, Packet, code};
use model::Tick;

/// What to say to one option of the peer's Configure-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Take it.
    Ack,
    /// Ask for this whole option instead; after Max-Failure of these it is rejected.
    Nak(Vec<u8>),
    /// As `Nak`, but without agreement there is no link: after Max-Failure the engine gives up.
    Insist(Vec<u8>),
    /// Never negotiable.
    Reject,
}

/// What to say to a Configure-Request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// All options are taken.
    Ack,
    /// These options should read so.
    Nak(Vec<u8>),
    /// These options must go.
    Reject(Vec<u8>),
    /// No agreement in sight.
    GiveUp,
}

/// What to do after the peer refused options of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask again with what is left.
    Retry,
    /// No agreement in sight.
    GiveUp,
}

/// The options of one control protocol in one role.
pub(crate) trait Negotiation {
    /// PPP protocol number.
    const PROTOCOL: u16;

    /// Whether `code` is one of the protocol's codes beyond Code-Reject.
    fn is_extended(code: u8) -> bool;

    /// Appends the options that we ask for now.
    fn wanted(&self, out: &mut Vec<u8>);

    /// Judges the peer's options; remembers them when the answer is an Ack.
    fn judge(&mut self, options: &[u8], may_nak: bool, p: &Policy<'_>) -> Result<Reply, WireError>;

    /// The peer wants one of our options to read differently.
    fn naked(&mut self, option: ConfigOption<'_>, p: &Policy<'_>) -> Next;

    /// The peer does not want one of our options.
    fn rejected(&mut self, kind: u8) -> Next;
}

/// Collects the verdicts on all options of a request.
///
/// Rejects leave before Naks: RFC 1661 §5.4. Each verdict is at most as long as its option (six
/// octets with a Nak of a six-octet option), so the reply never outgrows the request.
pub(crate) fn judge_each<'a>(
    options: &'a [u8],
    may_nak: bool,
    mut judge: impl FnMut(ConfigOption<'a>) -> Verdict,
) -> Result<Reply, WireError> {
    let (mut naks, mut rejects, mut give_up) = (Vec::new(), Vec::new(), false);
    for option in ConfigOptions::new(options) {
        let option = option?;
        match judge(option) {
            Verdict::Ack => {}
            Verdict::Nak(better) | Verdict::Insist(better) if may_nak => naks.extend(better),
            Verdict::Insist(_) => give_up = true,
            Verdict::Nak(_) | Verdict::Reject => rejects.extend_from_slice(option.whole),
        }
    }
    Ok(if give_up {
        Reply::GiveUp
    } else if !rejects.is_empty() {
        Reply::Reject(rejects)
    } else if !naks.is_empty() {
        Reply::Nak(naks)
    } else {
        Reply::Ack
    })
}

/// What an automaton asks of the engine around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// A frame for the peer.
    Send(Vec<u8>),
    /// This-Layer-Up.
    Up,
    /// This-Layer-Down.
    Down,
    /// This-Layer-Finished.
    Finished,
    /// An extended code arrived while opened.
    Extended,
    /// Options will not converge; the engine should close the link.
    GiveUp,
}

/// One control protocol's automaton.
#[derive(Clone, Debug)]
pub(crate) struct Automaton<N> {
    pub(crate) options: N,
    state: State,
    /// RFC 1661 §4.6 Restart counter.
    attempts_left: u8,
    /// Configure-Naks sent without an Ack since: bounded by Max-Failure.
    naks_sent: u8,
    /// Naks and Rejects of our options heard without an Ack since: bounded by Max-Failure, because
    /// each is answered at once.
    refusals: u8,
    /// Identifier of the newest Configure-Request.
    request_id: u8,
    /// Whether that request has no reply yet. A second reply is a copy and must not take an
    /// opened layer down.
    awaits_reply: bool,
    last_id: u8,
    deadline: Option<Tick>,
    /// Data of our Terminate-Requests.
    farewell: String,
}

/// What the actions of one event need.
struct Input<'a> {
    packet: Option<Packet<'a>>,
    reply: Option<(u8, Vec<u8>)>,
    now: Tick,
}

impl<N: Negotiation> Automaton<N> {
    pub(crate) fn new(options: N) -> Self {
        Self {
            options,
            state: State::Initial,
            attempts_left: 0,
            naks_sent: 0,
            refusals: 0,
            request_id: 0,
            awaits_reply: false,
            last_id: 0,
            deadline: None,
            farewell: String::new(),
        }
    }

    /// An automaton that is open already; its next identifier follows `last_id`.
    pub(crate) fn opened(options: N, last_id: u8, p: &Policy<'_>) -> Self {
        let attempts_left = p.max_configure;
        Self { state: State::Opened, last_id, attempts_left, ..Self::new(options) }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    pub(crate) fn next_id(&mut self) -> u8 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    pub(crate) fn lower_up(&mut self, now: Tick, p: &Policy<'_>, out: &mut Vec<Output>) {
        self.naks_sent = 0;
        self.refusals = 0;
        self.awaits_reply = false;
        self.run(Event::Up, &Input { packet: None, reply: None, now }, p, out);
    }

    pub(crate) fn lower_down(&mut self, now: Tick, p: &Policy<'_>, out: &mut Vec<Output>) {
        self.run(Event::Down, &Input { packet: None, reply: None, now }, p, out);
    }

    pub(crate) fn open(&mut self, now: Tick, p: &Policy<'_>, out: &mut Vec<Output>) {
        self.run(Event::Open, &Input { packet: None, reply: None, now }, p, out);
    }

    /// `farewell` is cut by the caller.
    pub(crate) fn close(
        &mut self,
        farewell: &str,
        now: Tick,
        p: &Policy<'_>,
        out: &mut Vec<Output>,
    ) {
        farewell.clone_into(&mut self.farewell);
        self.run(Event::Close, &Input { packet: None, reply: None, now }, p, out);
    }

    /// Acts when the Restart timer has run out; harmless before.
    pub(crate) fn expire(&mut self, now: Tick, p: &Policy<'_>, out: &mut Vec<Output>) {
        if self.deadline.is_none_or(|at| now < at) {
            return;
        }
        let event = if self.attempts_left > 0 { Event::TimeoutRetry } else { Event::TimeoutFinal };
        self.run(event, &Input { packet: None, reply: None, now }, p, out);
    }

    /// Consumes a packet of this protocol.
    ///
    /// # Errors
    /// Why the packet was dropped.
    pub(crate) fn receive(
        &mut self,
        packet: Packet<'_>,
        now: Tick,
        p: &Policy<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), WireError> {
        if matches!(self.state, State::Initial | State::Starting) {
            return Err(WireError::OutOfPhase { protocol: N::PROTOCOL });
        }
        let mut input = Input { packet: Some(packet), reply: None, now };
        let event = match packet.code {
            code::CONFIGURE_REQUEST => match self.judge(packet, p)? {
                Reply::Ack => {
                    input.reply = Some((code::CONFIGURE_ACK, packet.data.to_vec()));
                    Event::RequestGood
                }
                Reply::Nak(options) => {
                    input.reply = Some((code::CONFIGURE_NAK, options));
                    Event::RequestBad
                }
                Reply::Reject(options) => {
                    input.reply = Some((code::CONFIGURE_REJECT, options));
                    Event::RequestBad
                }
                Reply::GiveUp => return Self::give_up(out),
            },
            code::CONFIGURE_ACK => {
                self.acked(packet)?;
                Event::AckReceived
            }
            code::CONFIGURE_NAK | code::CONFIGURE_REJECT => {
                match self.refused_options(packet, p)? {
                    Next::Retry => Event::NakReceived,
                    Next::GiveUp => return Self::give_up(out),
                }
            }
            code::TERMINATE_REQUEST => Event::TerminateRequest,
            code::TERMINATE_ACK => Event::TerminateAck,
            code::CODE_REJECT => match packet.data.first() {
                Some(&refused) if refused <= code::CODE_REJECT => Event::RejectFatal,
                Some(_) => Event::RejectHarmless,
                None => {
                    let what = "rejected packet";
                    return Err(WireError::Truncated { what, have: 0, need: 1 });
                }
            },
            other if N::is_extended(other) => Event::Extended,
            _ => Event::UnknownCode,
        };
        self.run(event, &input, p, out);
        Ok(())
    }

    fn give_up(out: &mut Vec<Output>) -> Result<(), WireError> {
        out.push(Output::GiveUp);
        Ok(())
    }

    fn judge(&mut self, packet: Packet<'_>, p: &Policy<'_>) -> Result<Reply, WireError> {
        if matches!(self.state, State::Closed | State::Closing | State::Stopping) {
            // The table treats good and bad requests alike here; the options must not change.
            return Ok(Reply::Ack);
        }
        let reply = self.options.judge(packet.data, self.naks_sent < p.max_failure, p)?;
        match reply {
            Reply::Ack => self.naks_sent = 0,
            Reply::Nak(_) => self.naks_sent += 1,
            Reply::Reject(_) | Reply::GiveUp => {}
        }
        Ok(reply)
    }

    /// Checks that `packet` is the first reply to the newest Configure-Request.
    fn is_current(&self, packet: Packet<'_>) -> Result<(), WireError> {
        if self.awaits_reply && packet.id == self.request_id {
            return Ok(());
        }
        Err(WireError::Stale { protocol: N::PROTOCOL, code: packet.code, id: packet.id })
    }

    /// RFC 1661 §5.2: the options must be exactly those of the request.
    fn acked(&mut self, packet: Packet<'_>) -> Result<(), WireError> {
        self.is_current(packet)?;
        let mut asked = Vec::new();
        self.options.wanted(&mut asked);
        if asked != packet.data {
            return Err(WireError::ForeignOptions { protocol: N::PROTOCOL, code: packet.code });
        }
        self.awaits_reply = false;
        self.refusals = 0;
        Ok(())
    }

    /// RFC 1661 §5.3, §5.4.
    fn refused_options(&mut self, packet: Packet<'_>, p: &Policy<'_>) -> Result<Next, WireError> {
        self.is_current(packet)?;
        let refused = ConfigOptions::new(packet.data).collect::<Result<Vec<_>, _>>()?;
        let is_nak = packet.code == code::CONFIGURE_NAK;
        let mut asked = Vec::new();
        self.options.wanted(&mut asked);
        let was_asked =
            |o: &ConfigOption<'_>| ConfigOptions::new(&asked).any(|a| a.as_ref() == Ok(o));
        if refused.is_empty() || !is_nak && !refused.iter().all(was_asked) {
            return Err(WireError::ForeignOptions { protocol: N::PROTOCOL, code: packet.code });
        }
        self.awaits_reply = false;
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals > p.max_failure {
            return Ok(Next::GiveUp);
        }
        for option in refused {
            let next = if is_nak {
                self.options.naked(option, p)
            } else {
                self.options.rejected(option.kind)
            };
            match next {
                Next::Retry => {}
                Next::GiveUp => return Ok(Next::GiveUp),
            }
        }
        Ok(Next::Retry)
    }

    fn run(&mut self, event: Event, input: &Input<'_>, p: &Policy<'_>, out: &mut Vec<Output>) {
        let (next, acts) = transition(self.state, event);
        self.state = next;
        if !next.is_timed() {
            self.deadline = None;
        }
        for act in acts {
            self.act(*act, input, p, out);
        }
    }

    fn act(&mut self, act: Act, input: &Input<'_>, p: &Policy<'_>, out: &mut Vec<Output>) {
        let heard_id = input.packet.map_or(0, |packet| packet.id);
        let send = |code, id, data: &[u8]| Output::Send(wire::frame(N::PROTOCOL, code, id, data));
        match act {
            Act::LayerUp => out.push(Output::Up),
            Act::LayerDown => out.push(Output::Down),
            Act::LayerStarted => {}
            Act::LayerFinished => out.push(Output::Finished),
            Act::InitCounter => self.attempts_left = self.attempts(p),
            Act::ZeroCounter => {
                self.attempts_left = 0;
                self.deadline = Some(input.now + p.restart);
            }
            Act::SendRequest => {
                let repeats = self.awaits_reply;
                // RFC 1661 §5.1: a repeated request may keep its identifier, so that a late reply
                // to the first copy still counts.
                if !repeats {
                    self.request_id = self.next_id();
                    self.awaits_reply = true;
                }
                let mut asked = Vec::new();
                self.options.wanted(&mut asked);
                out.push(send(code::CONFIGURE_REQUEST, self.request_id, &asked));
                self.spend_attempt(input.now, p);
            }
            Act::SendAck | Act::SendNak => {
                if let Some((code, options)) = &input.reply {
                    out.push(send(*code, heard_id, options));
                }
            }
            Act::SendTerminate => {
                self.awaits_reply = false;
                let id = self.next_id();
                out.push(send(code::TERMINATE_REQUEST, id, self.farewell.as_bytes()));
                self.spend_attempt(input.now, p);
            }
            Act::SendTerminateAck => out.push(send(code::TERMINATE_ACK, heard_id, &[])),
            Act::SendCodeReject => {
                if let Some(packet) = input.packet {
                    let id = self.next_id();
                    out.push(send(code::CODE_REJECT, id, wire::rejected_copy(packet.whole)));
                }
            }
            Act::Extended => out.push(Output::Extended),
        }
    }

    /// The Restart counter's first value: Max-Terminate on the way out, else Max-Configure.
    fn attempts(&self, p: &Policy<'_>) -> u8 {
        match self.state {
            State::Closing | State::Stopping => p.max_terminate,
            State::Initial
            | State::Starting
            | State::Closed
            | State::Stopped
            | State::ReqSent
            | State::AckRcvd
            | State::AckSent
            | State::Opened => p.max_configure,
        }
    }

    fn spend_attempt(&mut self, now: Tick, p: &Policy<'_>) {
        self.attempts_left = self.attempts_left.saturating_sub(1);
        self.deadline = Some(now + p.restart);
    }
}

#[cfg(test)]
mod tests;
