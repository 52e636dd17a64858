//! The option negotiation automaton as a pure table. RFC 1661 §4.1.
//!
//! The names of the RFC's abbreviations stand at the variants. The passive and the restart option
//! (footnotes p and r) are not used: an engine that stopped is thrown away.

/// RFC 1661 §4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Initial,
    Starting,
    Closed,
    Stopped,
    Closing,
    Stopping,
    ReqSent,
    AckRcvd,
    AckSent,
    Opened,
}

impl State {
    /// Whether the Restart timer runs here. RFC 1661 §4.2.
    pub(crate) const fn is_timed(self) -> bool {
        match self {
            Self::Closing | Self::Stopping | Self::ReqSent | Self::AckRcvd | Self::AckSent => true,
            Self::Initial | Self::Starting | Self::Closed | Self::Stopped | Self::Opened => false,
        }
    }
}

/// RFC 1661 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Up: the lower layer carries packets.
    Up,
    /// Down: it does not any more.
    Down,
    /// Open: the administrator allows the layer.
    Open,
    /// Close: not any more.
    Close,
    /// TO+: time to send again.
    TimeoutRetry,
    /// TO-: time is up and so are the attempts.
    TimeoutFinal,
    /// RCR+.
    RequestGood,
    /// RCR-.
    RequestBad,
    /// RCA.
    AckReceived,
    /// RCN: Nak or Reject.
    NakReceived,
    /// RTR.
    TerminateRequest,
    /// RTA.
    TerminateAck,
    /// RUC.
    UnknownCode,
    /// RXJ+: a reject that can be lived with.
    RejectHarmless,
    /// RXJ-: a reject that ends the layer.
    RejectFatal,
    /// RXR: Echo-Request, Echo-Reply, Discard-Request.
    Extended,
}

/// RFC 1661 §4.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// tlu
    LayerUp,
    /// tld
    LayerDown,
    /// tls
    LayerStarted,
    /// tlf
    LayerFinished,
    /// irc
    InitCounter,
    /// zrc
    ZeroCounter,
    /// scr
    SendRequest,
    /// sca
    SendAck,
    /// scn
    SendNak,
    /// str
    SendTerminate,
    /// sta
    SendTerminateAck,
    /// scj
    SendCodeReject,
    /// ser
    Extended,
}

use Act as A;
use Event as E;
use State as S;

type Step = (State, &'static [Act]);

/// Returns the next state and what to do, in this order. Events marked "-" in the table change nothing.
pub(crate) fn transition(state: State, event: Event) -> Step {
    match state {
        S::Initial => initial(event),
        S::Starting => starting(event),
        S::Closed => closed(event),
        S::Stopped => stopped(event),
        S::Closing => closing(event),
        S::Stopping => stopping(event),
        S::ReqSent => req_sent(event),
        S::AckRcvd => ack_rcvd(event),
        S::AckSent => ack_sent(event),
        S::Opened => opened(event),
    }
}

fn initial(event: Event) -> Step {
    match event {
        E::Up => (S::Closed, &[]),
        E::Open => (S::Starting, &[A::LayerStarted]),
        E::Close
        | E::Down
        | E::TimeoutRetry
        | E::TimeoutFinal
        | E::RequestGood
        | E::RequestBad
        | E::AckReceived
        | E::NakReceived
        | E::TerminateRequest
        | E::TerminateAck
        | E::UnknownCode
        | E::RejectHarmless
        | E::RejectFatal
        | E::Extended => (S::Initial, &[]),
    }
}

fn starting(event: Event) -> Step {
    match event {
        E::Up => (S::ReqSent, &[A::InitCounter, A::SendRequest]),
        E::Close => (S::Initial, &[A::LayerFinished]),
        E::Open
        | E::Down
        | E::TimeoutRetry
        | E::TimeoutFinal
        | E::RequestGood
        | E::RequestBad
        | E::AckReceived
        | E::NakReceived
        | E::TerminateRequest
        | E::TerminateAck
        | E::UnknownCode
        | E::RejectHarmless
        | E::RejectFatal
        | E::Extended => (S::Starting, &[]),
    }
}

fn closed(event: Event) -> Step {
    match event {
        E::Down => (S::Initial, &[]),
        E::Open => (S::ReqSent, &[A::InitCounter, A::SendRequest]),
        E::RequestGood | E::RequestBad | E::AckReceived | E::NakReceived | E::TerminateRequest => {
            (S::Closed, &[A::SendTerminateAck])
        }
        E::UnknownCode => (S::Closed, &[A::SendCodeReject]),
        E::RejectFatal => (S::Closed, &[A::LayerFinished]),
        E::Up
        | E::Close
        | E::TimeoutRetry
        | E::TimeoutFinal
        | E::TerminateAck
        | E::RejectHarmless
        | E::Extended => (S::Closed, &[]),
    }
}

fn stopped(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[A::LayerStarted]),
        E::Close => (S::Closed, &[]),
        E::RequestGood => (S::AckSent, &[A::InitCounter, A::SendRequest, A::SendAck]),
        E::RequestBad => (S::ReqSent, &[A::InitCounter, A::SendRequest, A::SendNak]),
        E::AckReceived | E::NakReceived | E::TerminateRequest => {
            (S::Stopped, &[A::SendTerminateAck])
        }
        E::UnknownCode => (S::Stopped, &[A::SendCodeReject]),
        E::RejectFatal => (S::Stopped, &[A::LayerFinished]),
        E::Up
        | E::Open
        | E::TimeoutRetry
        | E::TimeoutFinal
        | E::TerminateAck
        | E::RejectHarmless
        | E::Extended => (S::Stopped, &[]),
    }
}

fn closing(event: Event) -> Step {
    match event {
        E::Down => (S::Initial, &[]),
        E::Open => (S::Stopping, &[]),
        E::TimeoutRetry => (S::Closing, &[A::SendTerminate]),
        E::TimeoutFinal | E::TerminateAck | E::RejectFatal => (S::Closed, &[A::LayerFinished]),
        E::TerminateRequest => (S::Closing, &[A::SendTerminateAck]),
        E::UnknownCode => (S::Closing, &[A::SendCodeReject]),
        E::Up
        | E::Close
        | E::RequestGood
        | E::RequestBad
        | E::AckReceived
        | E::NakReceived
        | E::RejectHarmless
        | E::Extended => (S::Closing, &[]),
    }
}

fn stopping(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[]),
        E::Close => (S::Closing, &[]),
        E::TimeoutRetry => (S::Stopping, &[A::SendTerminate]),
        E::TimeoutFinal | E::TerminateAck | E::RejectFatal => (S::Stopped, &[A::LayerFinished]),
        E::TerminateRequest => (S::Stopping, &[A::SendTerminateAck]),
        E::UnknownCode => (S::Stopping, &[A::SendCodeReject]),
        E::Up
        | E::Open
        | E::RequestGood
        | E::RequestBad
        | E::AckReceived
        | E::NakReceived
        | E::RejectHarmless
        | E::Extended => (S::Stopping, &[]),
    }
}

fn req_sent(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[]),
        E::Close => (S::Closing, &[A::InitCounter, A::SendTerminate]),
        E::TimeoutRetry => (S::ReqSent, &[A::SendRequest]),
        E::TimeoutFinal | E::RejectFatal => (S::Stopped, &[A::LayerFinished]),
        E::RequestGood => (S::AckSent, &[A::SendAck]),
        E::RequestBad => (S::ReqSent, &[A::SendNak]),
        E::AckReceived => (S::AckRcvd, &[A::InitCounter]),
        E::NakReceived => (S::ReqSent, &[A::InitCounter, A::SendRequest]),
        E::TerminateRequest => (S::ReqSent, &[A::SendTerminateAck]),
        E::UnknownCode => (S::ReqSent, &[A::SendCodeReject]),
        E::Up | E::Open | E::TerminateAck | E::RejectHarmless | E::Extended => (S::ReqSent, &[]),
    }
}

fn ack_rcvd(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[]),
        E::Close => (S::Closing, &[A::InitCounter, A::SendTerminate]),
        E::TimeoutRetry => (S::ReqSent, &[A::SendRequest]),
        E::TimeoutFinal | E::RejectFatal => (S::Stopped, &[A::LayerFinished]),
        E::RequestGood => (S::Opened, &[A::SendAck, A::LayerUp]),
        E::RequestBad => (S::AckRcvd, &[A::SendNak]),
        E::AckReceived | E::NakReceived => (S::ReqSent, &[A::SendRequest]),
        E::TerminateRequest => (S::ReqSent, &[A::SendTerminateAck]),
        E::UnknownCode => (S::AckRcvd, &[A::SendCodeReject]),
        E::TerminateAck | E::RejectHarmless => (S::ReqSent, &[]),
        E::Up | E::Open | E::Extended => (S::AckRcvd, &[]),
    }
}

fn ack_sent(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[]),
        E::Close => (S::Closing, &[A::InitCounter, A::SendTerminate]),
        E::TimeoutRetry => (S::AckSent, &[A::SendRequest]),
        E::TimeoutFinal | E::RejectFatal => (S::Stopped, &[A::LayerFinished]),
        E::RequestGood => (S::AckSent, &[A::SendAck]),
        E::RequestBad => (S::ReqSent, &[A::SendNak]),
        E::AckReceived => (S::Opened, &[A::InitCounter, A::LayerUp]),
        E::NakReceived => (S::AckSent, &[A::InitCounter, A::SendRequest]),
        E::TerminateRequest => (S::ReqSent, &[A::SendTerminateAck]),
        E::UnknownCode => (S::AckSent, &[A::SendCodeReject]),
        E::Up | E::Open | E::TerminateAck | E::RejectHarmless | E::Extended => (S::AckSent, &[]),
    }
}

fn opened(event: Event) -> Step {
    match event {
        E::Down => (S::Starting, &[A::LayerDown]),
        E::Close => (S::Closing, &[A::LayerDown, A::InitCounter, A::SendTerminate]),
        E::RequestGood => (S::AckSent, &[A::LayerDown, A::SendRequest, A::SendAck]),
        E::RequestBad => (S::ReqSent, &[A::LayerDown, A::SendRequest, A::SendNak]),
        E::AckReceived | E::NakReceived | E::TerminateAck => {
            (S::ReqSent, &[A::LayerDown, A::SendRequest])
        }
        E::TerminateRequest => (S::Stopping, &[A::LayerDown, A::ZeroCounter, A::SendTerminateAck]),
        E::UnknownCode => (S::Opened, &[A::SendCodeReject]),
        E::RejectFatal => (S::Stopping, &[A::LayerDown, A::InitCounter, A::SendTerminate]),
        E::Extended => (S::Opened, &[A::Extended]),
        E::Up | E::Open | E::TimeoutRetry | E::TimeoutFinal | E::RejectHarmless => (S::Opened, &[]),
    }
}

#[cfg(test)]
mod tests;
