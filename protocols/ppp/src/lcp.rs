//! LCP options of both roles. RFC 1661 §6.

use crate::WireError;
use crate::automaton::{Negotiation, Next, Reply, Verdict, judge_each};
use crate::config::{AuthProtocol, Policy};
use crate::wire::{self, ConfigOption, MRU_MIN_OCTETS, Packet, code, protocol};

const MRU: u8 = 1;
const AUTH_PROTOCOL: u8 = 3;
const MAGIC_NUMBER: u8 = 5;

/// What each end can receive unless it says otherwise. RFC 1661 §6.1.
pub(crate) const MRU_DEFAULT_OCTETS: u16 = 1500;

const MAGIC_OCTETS: usize = 4;

/// CHAP algorithm number of MD5. RFC 1994 §3.
const CHAP_MD5: u8 = 5;

impl AuthProtocol {
    /// The option's data. RFC 1661 §6.2, RFC 1994 §3.
    fn option(self) -> &'static [u8] {
        match self {
            Self::Pap => &[0xc0, 0x23],
            Self::ChapMd5 => &[0xc2, 0x23, CHAP_MD5],
        }
    }

    fn from_option(data: &[u8]) -> Option<Self> {
        [Self::Pap, Self::ChapMd5].into_iter().find(|known| known.option() == data)
    }
}

/// Who authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// We demand this of the peer, and it may demand nothing of us.
    Demanded(AuthProtocol),
    /// The peer may demand of us; this is what we agreed to.
    Agreed(Option<AuthProtocol>),
}

/// LCP options, ours and the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LcpOptions {
    pub(crate) auth: Auth,
    /// The MRU that we ask for.
    mru: u16,
    mru_rejected: bool,
    /// Our magic number, 0 after the peer rejected the option.
    pub(crate) magic: u32,
    /// Tells our sequence of magic numbers from that of a peer with the same first one.
    salt: u32,
    pub(crate) peer_mru: u16,
    /// 0 when the peer has none.
    pub(crate) peer_magic: u32,
}

impl LcpOptions {
    pub(crate) fn new(auth: Auth, mru: u16, magic: u32, salt: u32) -> Self {
        Self {
            auth,
            mru,
            mru_rejected: false,
            // RFC 1661 §6.4: a number of zero is illegal in a request.
            magic: magic.max(1),
            salt,
            peer_mru: MRU_DEFAULT_OCTETS,
            peer_magic: 0,
        }
    }

    /// The options of a link that was negotiated by another node.
    pub(crate) fn agreed(auth: Auth, mru: u16, magic: u32, peer_mru: u16, peer_magic: u32) -> Self {
        Self { magic, peer_mru, peer_magic, ..Self::new(auth, mru, magic, 0) }
    }

    /// Sets what to ask for.
    pub(crate) fn configure(&mut self, auth: Auth, mru: u16) {
        self.auth = auth;
        self.mru = mru.max(MRU_MIN_OCTETS);
    }

    /// Builds an Echo-Request. RFC 1661 §5.8.
    pub(crate) fn probe(&self, id: u8) -> Vec<u8> {
        wire::frame(protocol::LCP, code::ECHO_REQUEST, id, &self.magic.to_be_bytes())
    }

    /// Checks an Echo-Request or Echo-Reply; returns the reply to a request.
    ///
    /// The magic number must not be ours, or the line is looped. It need not be the peer's either:
    /// a reply under another number still shows that somebody answers.
    ///
    /// # Errors
    /// Why the packet was dropped.
    pub(crate) fn echoed(&self, packet: Packet<'_>) -> Result<Option<Vec<u8>>, WireError> {
        let have = packet.data.len();
        let short = WireError::Truncated { what: "magic number", have, need: MAGIC_OCTETS };
        let (magic, rest) = packet.data.split_first_chunk::<MAGIC_OCTETS>().ok_or(short)?;
        let magic = u32::from_be_bytes(*magic);
        if magic != 0 && magic == self.magic {
            return Err(WireError::LoopedBack { magic });
        }
        if packet.code != code::ECHO_REQUEST {
            return Ok(None);
        }
        let mut data = self.magic.to_be_bytes().to_vec();
        data.extend_from_slice(rest);
        Ok(Some(wire::frame(protocol::LCP, code::ECHO_REPLY, packet.id, &data)))
    }

    /// Our MRU as the peer knows it.
    pub(crate) fn mru(&self) -> u16 {
        if self.mru_rejected { MRU_DEFAULT_OCTETS } else { self.mru }
    }

    /// The next number of our sequence: differs from its predecessor and is never 0.
    fn next_magic(&self) -> u32 {
        let next = self.magic.wrapping_mul(0x0019_660d).wrapping_add(self.salt | 1);
        if next == 0 || next == self.magic { next ^ 0x5bd1_e995 } else { next }
    }

    fn judge_auth(&mut self, data: &[u8], p: &Policy<'_>) -> Verdict {
        match self.auth {
            Auth::Demanded(_) => Verdict::Reject,
            Auth::Agreed(_) => match AuthProtocol::from_option(data) {
                Some(known) if p.auth.contains(&known) => {
                    self.auth = Auth::Agreed(Some(known));
                    Verdict::Ack
                }
                Some(_) | None => match p.auth {
                    [best, ..] => Verdict::Nak(option(AUTH_PROTOCOL, best.option())),
                    [] => Verdict::Reject,
                },
            },
        }
    }

    fn judge_one(&mut self, o: ConfigOption<'_>, p: &Policy<'_>) -> Verdict {
        match (o.kind, o.data) {
            (MRU, &[high, low]) => {
                let mru = u16::from_be_bytes([high, low]);
                if mru < MRU_MIN_OCTETS {
                    return Verdict::Nak(option(MRU, &MRU_MIN_OCTETS.to_be_bytes()));
                }
                self.peer_mru = mru;
                Verdict::Ack
            }
            (AUTH_PROTOCOL, data) => self.judge_auth(data, p),
            (MAGIC_NUMBER, &[a, b, c, d]) => {
                let magic = u32::from_be_bytes([a, b, c, d]);
                if magic != 0 && magic != self.magic {
                    self.peer_magic = magic;
                    return Verdict::Ack;
                }
                let nak = option(MAGIC_NUMBER, &self.next_magic().to_be_bytes());
                // RFC 1661 §6.4: our own number again and again means a loop, which must not open.
                if magic == 0 { Verdict::Nak(nak) } else { Verdict::Insist(nak) }
            }
            // RFC 2516 §7 forbids ACFC, FCS alternatives and ACCM, and advises against PFC; callback,
            // quality reports and the rest are not spoken here. Malformed options land here too.
            (_, _) => Verdict::Reject,
        }
    }
}

fn option(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 2);
    wire::put_option(&mut out, kind, data);
    out
}

impl Negotiation for LcpOptions {
    const PROTOCOL: u16 = protocol::LCP;

    fn is_extended(code: u8) -> bool {
        (code::PROTOCOL_REJECT..=code::TIME_REMAINING).contains(&code)
    }

    fn wanted(&self, out: &mut Vec<u8>) {
        match self.auth {
            Auth::Demanded(auth) => wire::put_option(out, AUTH_PROTOCOL, auth.option()),
            Auth::Agreed(_) => {}
        }
        if self.mru() != MRU_DEFAULT_OCTETS {
            wire::put_option(out, MRU, &self.mru.to_be_bytes());
        }
        if self.magic != 0 {
            wire::put_option(out, MAGIC_NUMBER, &self.magic.to_be_bytes());
        }
    }

    fn judge(&mut self, options: &[u8], may_nak: bool, p: &Policy<'_>) -> Result<Reply, WireError> {
        // Absent options mean their defaults, also in a later request that takes one back.
        let mut next = Self { peer_mru: MRU_DEFAULT_OCTETS, peer_magic: 0, ..*self };
        next.auth = match self.auth {
            Auth::Demanded(auth) => Auth::Demanded(auth),
            Auth::Agreed(_) => Auth::Agreed(None),
        };
        let reply = judge_each(options, may_nak, |o| next.judge_one(o, p))?;
        if reply == Reply::Ack {
            *self = next;
        }
        Ok(reply)
    }

    fn naked(&mut self, o: ConfigOption<'_>, p: &Policy<'_>) -> Next {
        match (o.kind, o.data) {
            (MRU, &[high, low]) => {
                let wish = u16::from_be_bytes([high, low]);
                self.mru = wish.clamp(MRU_MIN_OCTETS, p.mru_octets.max(MRU_MIN_OCTETS));
                Next::Retry
            }
            (AUTH_PROTOCOL, data) => {
                if let Auth::Demanded(current) = self.auth {
                    let wish = AuthProtocol::from_option(data).filter(|w| p.auth.contains(w));
                    self.auth = Auth::Demanded(wish.unwrap_or_else(|| after(current, p.auth)));
                }
                Next::Retry
            }
            (MAGIC_NUMBER, _) => {
                // RFC 1661 §6.4: a new number, not the one in the Nak, whether that is our own Nak
                // on a looped line or not. The automaton bounds the rounds.
                self.magic = self.next_magic();
                Next::Retry
            }
            // A wish for an option that we never had: RFC 1661 §5.3 lets us ignore it.
            (_, _) => Next::Retry,
        }
    }

    fn rejected(&mut self, kind: u8) -> Next {
        match kind {
            MRU => self.mru_rejected = true,
            MAGIC_NUMBER => self.magic = 0,
            // A peer that will not authenticate gets no link, and more cannot have been asked for.
            _ => return Next::GiveUp,
        }
        Next::Retry
    }
}

/// The protocol to try after `current` met a Nak that names none of ours: the list's next, cyclic.
fn after(current: AuthProtocol, list: &[AuthProtocol]) -> AuthProtocol {
    let at = list.iter().position(|known| *known == current).unwrap_or(0);
    list.iter().cycle().nth(at + 1).copied().unwrap_or(current)
}

#[cfg(test)]
mod tests;
