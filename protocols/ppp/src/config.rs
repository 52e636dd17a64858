use std::time::Duration;

/// How a peer proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthProtocol {
    /// Password Authentication Protocol, RFC 1334 §2.
    Pap,
    /// Challenge Handshake Authentication Protocol with MD5, RFC 1994.
    ChapMd5,
}

/// Settings of [`crate::Server`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// The MRU to ask for, and the most to send, in octets. RFC 2516 §7 allows 1492.
    pub mru_octets: u16,
    /// Protocols to demand, best first. Empty refuses every peer.
    pub auth: Vec<AuthProtocol>,
    /// Name in CHAP challenges: the AC-Name.
    pub name: String,
    /// Time between LCP echoes; zero sends none.
    pub echo_interval: Duration,
    /// Echoes in a row that may stay unanswered; the session ends one interval after the last.
    pub echo_unanswered_max: u8,
    /// RFC 1661 §4.6 Restart timer, also between CHAP challenges.
    pub restart: Duration,
    /// RFC 1661 §4.6 Max-Configure, also the most CHAP challenges.
    pub max_configure: u8,
    /// RFC 1661 §4.6 Max-Terminate.
    pub max_terminate: u8,
    /// RFC 1661 §4.6 Max-Failure, also the most refusals of our own options that are borne.
    pub max_failure: u8,
    /// Time from the start until IPCP must be open.
    pub auth_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            mru_octets: 1492,
            auth: vec![AuthProtocol::ChapMd5, AuthProtocol::Pap],
            name: "tandem".to_owned(),
            echo_interval: Duration::from_secs(30),
            echo_unanswered_max: 3,
            restart: Duration::from_secs(3),
            max_configure: 10,
            max_terminate: 2,
            max_failure: 5,
            auth_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerConfig {
    pub(crate) fn policy(&self) -> Policy<'_> {
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

/// The random values of one session, drawn by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// First magic number, RFC 1661 §6.4.
    pub magic: u32,
    /// CHAP challenge.
    pub challenge: [u8; 16],
    /// First CHAP identifier.
    pub chap_id: u8,
}

/// The settings that LCP, IPCP and authentication have in common in both roles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    pub(crate) restart: Duration,
    pub(crate) max_configure: u8,
    pub(crate) max_terminate: u8,
    pub(crate) max_failure: u8,
    pub(crate) mru_octets: u16,
    /// Server: what to demand, best first. Client: what to agree to.
    pub(crate) auth: &'a [AuthProtocol],
}
