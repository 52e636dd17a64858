//! PAP (RFC 1334 §2) and CHAP-MD5 (RFC 1994), both roles.

use crate::WireError;
use crate::config::{AuthProtocol, Policy, Seed};
use crate::wire::{Packet, frame, protocol};
use md5::{Digest, Md5};
use model::{Secret, Tick};
use std::hint::black_box;

/// The longest user name that is taken, in octets: what a RADIUS attribute can carry.
pub(crate) const USERNAME_MAX_OCTETS: usize = 253;

/// The most octets of a text for the peer; PAP counts it in one octet. RFC 1334 §2.2.2.
const MESSAGE_MAX_OCTETS: usize = 120;

pub(crate) const MD5_OCTETS: usize = 16;

/// Codes of PAP. RFC 1334 §2.2.
pub(crate) mod pap {
    pub(crate) const REQUEST: u8 = 1;
    pub(crate) const ACK: u8 = 2;
    pub(crate) const NAK: u8 = 3;
}

/// Codes of CHAP. RFC 1994 §4.
pub(crate) mod chap {
    pub(crate) const CHALLENGE: u8 = 1;
    pub(crate) const RESPONSE: u8 = 2;
    pub(crate) const SUCCESS: u8 = 3;
    pub(crate) const FAILURE: u8 = 4;
}

/// What a peer offered as proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Name and password in the clear.
    Pap {
        /// Peer-ID, octets that are not UTF-8 replaced.
        username: String,
        /// Password, octets that are not UTF-8 replaced.
        password: Secret,
    },
    /// The answer to a CHAP-MD5 challenge.
    Chap {
        /// Name, octets that are not UTF-8 replaced.
        username: String,
        /// Identifier of the challenge.
        id: u8,
        /// The challenge.
        challenge: Vec<u8>,
        /// MD5 over identifier, password and challenge.
        response: [u8; MD5_OCTETS],
    },
}

impl Credentials {
    /// The name that the peer gave.
    #[must_use]
    pub fn username(&self) -> &str {
        match self {
            Self::Pap { username, .. } | Self::Chap { username, .. } => username,
        }
    }

    /// Whether the peer knows `password`. The time taken tells no more than the lengths.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        match self {
            Self::Pap { password: offered, .. } => {
                is_equal(offered.expose().as_bytes(), password.as_bytes())
            }
            Self::Chap { id, challenge, response, .. } => {
                is_equal(&chap_md5(*id, password, challenge), response)
            }
        }
    }
}

fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (x, y)| black_box(all | (x ^ y)));
    a.len() == b.len() && differing == 0
}

/// The CHAP-MD5 response value. RFC 1994 §4.1.
pub(crate) fn chap_md5(id: u8, password: &str, challenge: &[u8]) -> [u8; MD5_OCTETS] {
    let mut md5 = Md5::new();
    md5.update([id]);
    md5.update(password);
    md5.update(challenge);
    md5.finalize().into()
}

/// A text cut to what fits each message, at a character's border.
pub(crate) fn short_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(MESSAGE_MAX_OCTETS)]
}

/// Octets with their length in one octet before them; the callers bound them.
fn put_counted(out: &mut Vec<u8>, octets: &[u8]) {
    let octets = &octets[..octets.len().min(usize::from(u8::MAX))];
    out.push(u8::try_from(octets.len()).expect("octets were cut to 255"));
    out.extend_from_slice(octets);
}

/// Splits off octets that stand behind their length.
pub(crate) fn take_counted<'a>(
    data: &'a [u8],
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), WireError> {
    let need = 1 + data.first().map_or(0, |length| usize::from(*length));
    let short = WireError::Truncated { what, have: data.len(), need };
    let (counted, rest) = data.split_at_checked(need).ok_or(short)?;
    Ok((&counted[1..], rest))
}

fn name(octets: &[u8]) -> Result<String, WireError> {
    if octets.len() > USERNAME_MAX_OCTETS {
        return Err(WireError::NameTooLong { have: octets.len(), max: USERNAME_MAX_OCTETS });
    }
    Ok(String::from_utf8_lossy(octets).into_owned())
}

/// Builds a PAP Authenticate-Request.
pub(crate) fn pap_request(id: u8, username: &str, password: &Secret) -> Vec<u8> {
    let mut data = Vec::new();
    put_counted(&mut data, username.as_bytes());
    put_counted(&mut data, password.expose().as_bytes());
    frame(protocol::PAP, pap::REQUEST, id, &data)
}

/// Builds a CHAP Challenge or Response.
pub(crate) fn chap_value(code: u8, id: u8, value: &[u8], name: &str) -> Vec<u8> {
    let mut data = Vec::new();
    put_counted(&mut data, value);
    data.extend_from_slice(name.as_bytes());
    frame(protocol::CHAP, code, id, &data)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// LCP is not open.
    Idle,
    /// The peer has not shown valid credentials yet.
    Waiting,
    Accepted,
    Rejected,
}

/// What an authenticator asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Send(Vec<u8>),
    Ask(Credentials),
    /// The peer never answered the challenges.
    GiveUp,
}

/// The server's side.
#[derive(Clone, Debug)]
pub(crate) struct Authenticator {
    stage: Stage,
    protocol: AuthProtocol,
    /// Of the challenge (CHAP) or of the newest request (PAP).
    id: u8,
    /// A question is with the driver. At most one is, so that an answer needs no name.
    asked: bool,
    /// LCP went down since; the answer must not count for the next attempt.
    asked_before_restart: bool,
    /// Whom the open question is about.
    username: String,
    challenge: [u8; MD5_OCTETS],
    attempts_left: u8,
    deadline: Option<Tick>,
    /// Text of the outcome, repeated when the peer repeats itself.
    message: String,
}

impl Authenticator {
    pub(crate) fn new(seed: Seed) -> Self {
        Self {
            stage: Stage::Idle,
            protocol: AuthProtocol::ChapMd5,
            // `begin` counts up before the first challenge.
            id: seed.chap_id.wrapping_sub(1),
            asked: false,
            asked_before_restart: false,
            username: String::new(),
            challenge: seed.challenge,
            attempts_left: 0,
            deadline: None,
            message: String::new(),
        }
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    /// LCP opened: challenges the peer, or waits for its password.
    pub(crate) fn begin(
        &mut self,
        protocol: AuthProtocol,
        name: &str,
        now: Tick,
        p: &Policy<'_>,
    ) -> Option<Output> {
        self.stage = Stage::Waiting;
        self.protocol = protocol;
        match protocol {
            AuthProtocol::Pap => None,
            AuthProtocol::ChapMd5 => {
                self.id = self.id.wrapping_add(1);
                self.attempts_left = p.max_configure;
                self.challenge_peer(name, now, p)
            }
        }
    }

    fn challenge_peer(&mut self, name: &str, now: Tick, p: &Policy<'_>) -> Option<Output> {
        if self.attempts_left == 0 {
            self.deadline = None;
            return Some(Output::GiveUp);
        }
        self.attempts_left -= 1;
        self.deadline = Some(now + p.restart);
        Some(Output::Send(chap_value(chap::CHALLENGE, self.id, &self.challenge, short_text(name))))
    }

    /// LCP is not open any more.
    pub(crate) fn reset(&mut self) {
        self.asked_before_restart |= self.asked;
        self.stage = Stage::Idle;
        self.deadline = None;
        // RFC 1994 §2.3 wants another challenge each time. The next one follows from this one: it
        // repeats none, and who sees this one sits on the path of a link without integrity anyway.
        self.challenge = Md5::digest(self.challenge).into();
    }

    /// Repeats the challenge when its time has come. RFC 1994 §4.1: until a valid response.
    pub(crate) fn expire(&mut self, name: &str, now: Tick, p: &Policy<'_>) -> Option<Output> {
        if self.deadline.is_none_or(|at| now < at) {
            return None;
        }
        self.challenge_peer(name, now, p)
    }

    /// Consumes a packet of `protocol`, PAP or CHAP.
    ///
    /// # Errors
    /// Why the packet was dropped.
    pub(crate) fn receive(
        &mut self,
        protocol: AuthProtocol,
        packet: Packet<'_>,
    ) -> Result<Output, WireError> {
        if protocol != self.protocol || self.stage == Stage::Idle {
            return Err(WireError::OutOfPhase { protocol: number(protocol) });
        }
        match protocol {
            AuthProtocol::Pap => self.pap_received(packet),
            AuthProtocol::ChapMd5 => self.chap_received(packet),
        }
    }

    fn pap_received(&mut self, packet: Packet<'_>) -> Result<Output, WireError> {
        if packet.code != pap::REQUEST {
            return Err(WireError::Unexpected { protocol: protocol::PAP, code: packet.code });
        }
        let (username, rest) = take_counted(packet.data, "PAP Peer-ID")?;
        let (password, _) = take_counted(rest, "PAP password")?;
        let username = name(username)?;
        match self.stage {
            Stage::Idle | Stage::Waiting if self.asked => Err(WireError::Busy),
            Stage::Idle | Stage::Waiting => {
                self.id = packet.id;
                self.asked = true;
                self.username.clone_from(&username);
                let password = Secret::new(String::from_utf8_lossy(password));
                Ok(Output::Ask(Credentials::Pap { username, password }))
            }
            // RFC 1334 §2.2.1: a repeated request gets the same answer, under its own identifier.
            Stage::Accepted | Stage::Rejected => {
                self.id = packet.id;
                Ok(Output::Send(self.outcome()))
            }
        }
    }

    fn chap_received(&mut self, packet: Packet<'_>) -> Result<Output, WireError> {
        if packet.code != chap::RESPONSE {
            return Err(WireError::Unexpected { protocol: protocol::CHAP, code: packet.code });
        }
        if packet.id != self.id {
            let (code, id) = (packet.code, packet.id);
            return Err(WireError::Stale { protocol: protocol::CHAP, code, id });
        }
        let (value, username) = take_counted(packet.data, "CHAP value")?;
        let bad = WireError::ChapValue { have: value.len() };
        let response = value.try_into().map_err(|_| bad)?;
        let username = name(username)?;
        match self.stage {
            Stage::Idle | Stage::Waiting if self.asked => Err(WireError::Busy),
            Stage::Idle | Stage::Waiting => {
                self.asked = true;
                self.username.clone_from(&username);
                self.deadline = None;
                let (id, challenge) = (self.id, self.challenge.to_vec());
                Ok(Output::Ask(Credentials::Chap { username, id, challenge, response }))
            }
            // RFC 1994 §4.2: a repeated response gets the same answer, whatever it says now.
            Stage::Accepted | Stage::Rejected => Ok(Output::Send(self.outcome())),
        }
    }

    /// Takes the driver's answer; returns the name and the frame for the peer, `None` when nobody
    /// waits for it.
    pub(crate) fn decide(&mut self, accepted: bool, message: &str) -> Option<(String, Vec<u8>)> {
        let is_current = self.asked && !self.asked_before_restart;
        (self.asked, self.asked_before_restart) = (false, false);
        let username = std::mem::take(&mut self.username);
        if !is_current {
            return None;
        }
        self.stage = if accepted { Stage::Accepted } else { Stage::Rejected };
        short_text(message).clone_into(&mut self.message);
        Some((username, self.outcome()))
    }

    /// The Ack or Success once more, `None` unless the peer is authenticated.
    pub(crate) fn success(&self) -> Option<Vec<u8>> {
        (self.stage == Stage::Accepted).then(|| self.outcome())
    }

    /// PAP Ack or Nak, CHAP Success or Failure.
    fn outcome(&self) -> Vec<u8> {
        let accepted = self.stage == Stage::Accepted;
        match self.protocol {
            AuthProtocol::Pap => {
                let mut data = Vec::with_capacity(1 + self.message.len());
                put_counted(&mut data, self.message.as_bytes());
                let code = if accepted { pap::ACK } else { pap::NAK };
                frame(protocol::PAP, code, self.id, &data)
            }
            AuthProtocol::ChapMd5 => {
                let code = if accepted { chap::SUCCESS } else { chap::FAILURE };
                frame(protocol::CHAP, code, self.id, self.message.as_bytes())
            }
        }
    }
}

/// The Ack or Success for a peer that another node accepted.
///
/// # Errors
/// [`WireError::Unexpected`] when the packet does not ask for an outcome.
pub(crate) fn repeat_accepted(
    protocol: AuthProtocol,
    packet: Packet<'_>,
) -> Result<Vec<u8>, WireError> {
    match (protocol, packet.code) {
        (AuthProtocol::Pap, pap::REQUEST) => Ok(frame(protocol::PAP, pap::ACK, packet.id, &[0])),
        (AuthProtocol::ChapMd5, chap::RESPONSE) => {
            Ok(frame(protocol::CHAP, chap::SUCCESS, packet.id, &[]))
        }
        (AuthProtocol::Pap | AuthProtocol::ChapMd5, code) => {
            Err(WireError::Unexpected { protocol: number(protocol), code })
        }
    }
}

fn number(protocol: AuthProtocol) -> u16 {
    match protocol {
        AuthProtocol::Pap => protocol::PAP,
        AuthProtocol::ChapMd5 => protocol::CHAP,
    }
}

#[cfg(test)]
mod tests;
