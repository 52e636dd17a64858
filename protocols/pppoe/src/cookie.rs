use crate::ServerConfig;
use hmac::{Hmac, Mac};
use model::{Attachment, UnixMs};
use sha2::Sha256;
use std::time::Duration;

/// Time of issue (8 octets) and truncated HMAC (16 octets).
pub(crate) const COOKIE_OCTETS: usize = 24;
const TIME_OCTETS: usize = 8;

/// How far the wall clocks of two owners of a group may differ: a cookie of the old owner may look
/// older than it is, or come from the future.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(2);

/// Keeps these HMACs apart from any other use of the key.
const DOMAIN: &[u8] = b"pppoe ac-cookie v1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieCheck {
    Good,
    /// Ours, made for this attachment, but too long ago.
    Stale,
    Forged,
}

/// Returns the AC-Cookie of a PADO. RFC 2516 §5.2, appendix A.
///
/// It binds the answer to the attachment, so that only a host that receives frames sent to its
/// address can open a session, and needs no memory here.
pub(crate) fn make(cfg: &ServerConfig, from: Attachment, wall: UnixMs) -> [u8; COOKIE_OCTETS] {
    let mut cookie = [0; COOKIE_OCTETS];
    let time = wall.0.to_be_bytes();
    let tag = keyed(cfg, from, time).finalize().into_bytes();
    cookie[..TIME_OCTETS].copy_from_slice(&time);
    cookie[TIME_OCTETS..].copy_from_slice(&tag[..COOKIE_OCTETS - TIME_OCTETS]);
    cookie
}

/// Says whether `cookie` was made for `from` and when, in constant time over its secret part.
pub(crate) fn check(
    cfg: &ServerConfig,
    from: Attachment,
    wall: UnixMs,
    cookie: &[u8],
) -> CookieCheck {
    let Ok(cookie) = <[u8; COOKIE_OCTETS]>::try_from(cookie) else { return CookieCheck::Forged };
    let (time, tag) = cookie.split_first_chunk::<TIME_OCTETS>().expect("24 octets hold 8");
    if keyed(cfg, from, *time).verify_truncated_left(tag).is_err() {
        return CookieCheck::Forged;
    }
    let made = u64::from_be_bytes(*time);
    let early = Duration::from_millis(made.saturating_sub(wall.0));
    let age = Duration::from_millis(wall.0.saturating_sub(made));
    if early <= CLOCK_SKEW_MAX && age <= cfg.cookie_lifetime.saturating_add(CLOCK_SKEW_MAX) {
        CookieCheck::Good
    } else {
        CookieCheck::Stale
    }
}

fn keyed(cfg: &ServerConfig, from: Attachment, time: [u8; TIME_OCTETS]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&cfg.cookie_key).expect("HMAC takes any key");
    mac.update(DOMAIN);
    mac.update(&time);
    mac.update(&from.port.0.to_be_bytes());
    mac.update(&from.vlans.outer.to_be_bytes());
    mac.update(&from.vlans.inner.to_be_bytes());
    mac.update(&from.mac.0);
    mac
}
