use crate::auth::Credentials;
use crate::ipcp::Addresses;
use model::DownReason;

/// What happens to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The PPPoE session exists: PADS leaves now.
    Start,
    /// A received frame, from the two-octet PPP protocol field on.
    Frame(&'a [u8]),
    /// The time that [`crate::Server::deadline`] told has come.
    Deadline,
    /// The answer to [`Action::Authenticate`].
    Auth(AuthOutcome),
    /// The answer to [`Action::RequestSession`].
    Session(SessionOutcome),
    /// End the session, for this reason.
    Close(DownReason),
}

/// Whether the credentials were good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
    /// They were.
    Accepted {
        /// Text for the peer.
        message: String,
    },
    /// They were not.
    Rejected {
        /// Text for the peer.
        message: String,
    },
}

/// Whether the cluster took the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOutcome {
    /// The session is committed, with these addresses.
    Granted(Addresses),
    /// It is not.
    Refused {
        /// Text for the peer.
        message: String,
    },
}

/// What the driver shall do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this frame, from the PPP protocol field on.
    Send(Vec<u8>),
    /// Check these and answer with [`Event::Auth`]. At most one question is open.
    Authenticate(Credentials),
    /// Propose the session and answer with [`Event::Session`]. Asked once.
    RequestSession(LinkParameters),
    /// IPCP is open: the subscriber may send. Comes again only if the peer negotiated LCP anew and
    /// a parameter changed.
    Up(LinkParameters),
    /// The engine is finished. Emitted once; a PADT should follow, because from now on the engine
    /// answers nothing, not even a repeated Terminate-Request. A peer that failed to authenticate
    /// gives `NegotiationFailed`.
    Down(DownReason),
}

/// What LCP and authentication found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkParameters {
    /// Who was authenticated.
    pub username: String,
    /// Our magic number, 0 when the peer rejected the option.
    pub local_magic: u32,
    /// The peer's magic number, 0 when it has none.
    pub peer_magic: u32,
    /// The most to send, in octets: the smaller of the peer's MRU and our limit.
    pub mtu: u16,
    /// Our MRU, in octets.
    pub mru: u16,
}
