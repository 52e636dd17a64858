use crate::config::{AuthProtocol, Policy};
use model::Secret;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Settings of [`super::Client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Who dials in.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The MRU to ask for, and the most to send, in octets.
    pub mru_octets: u16,
    /// What the server may demand, best first.
    pub auth: Vec<AuthProtocol>,
    /// Time between LCP echoes; zero sends none.
    pub echo_interval: Duration,
    /// Echoes in a row that may stay unanswered.
    pub echo_unanswered_max: u8,
    /// RFC 1661 §4.6 Restart timer, also between PAP requests.
    pub restart: Duration,
    /// RFC 1661 §4.6 Max-Configure, also the most PAP requests.
    pub max_configure: u8,
    /// RFC 1661 §4.6 Max-Terminate.
    pub max_terminate: u8,
    /// RFC 1661 §4.6 Max-Failure.
    pub max_failure: u8,
    /// Time from the start until IPCP must be open.
    pub establish_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            username: String::new(),
            password: Secret::default(),
            mru_octets: 1492,
            auth: vec![AuthProtocol::ChapMd5, AuthProtocol::Pap],
            echo_interval: Duration::from_secs(30),
            echo_unanswered_max: 3,
            restart: Duration::from_secs(3),
            max_configure: 10,
            max_terminate: 2,
            max_failure: 5,
            establish_timeout: Duration::from_secs(60),
        }
    }
}

impl ClientConfig {
    pub(super) fn policy(&self) -> Policy<'_> {
        Policy {
            restart: self.restart,
            max_configure: self.max_configure,
            max_terminate: self.max_terminate,
            max_failure: self.max_failure,
            mru_octets: self.mru_octets,
            auth: &self.auth,
        }
    }
}

/// What happens to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The PPPoE session exists: PADS has arrived.
    Start,
    /// A received frame, from the two-octet PPP protocol field on.
    Frame(&'a [u8]),
    /// The time that [`super::Client::deadline`] told has come.
    Deadline,
    /// Hang up.
    Close,
}

/// What the driver shall do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this frame, from the PPP protocol field on.
    Send(Vec<u8>),
    /// IPCP is open. Comes again only if the server negotiated anew and something changed.
    Up {
        /// Our address.
        local: Ipv4Addr,
        /// The server's address, unspecified when it told none.
        peer: Ipv4Addr,
        /// DNS servers, at most two.
        dns: Vec<Ipv4Addr>,
        /// The most to send, in octets.
        mtu: u16,
    },
    /// The engine is finished. Emitted once.
    Down(Cause),
}

/// Why the link ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The driver asked for it.
    Closed,
    /// The server sent a Terminate-Request.
    PeerTerminated {
        /// The request's text.
        message: String,
    },
    /// The server did not take the credentials.
    AuthFailed {
        /// The server's text.
        message: String,
    },
    /// LCP echoes unanswered.
    LostCarrier,
    /// LCP, authentication or IPCP came to no end.
    NegotiationFailed,
}
