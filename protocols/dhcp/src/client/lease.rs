use super::Action;
use crate::wire::{Message, code};
use model::Tick;
use std::net::Ipv4Addr;
use std::time::Duration;

/// What a client remembers of its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) address: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    pub(super) t1_at: Tick,
    pub(super) t2_at: Tick,
    pub(super) expires_at: Tick,
}

/// Reads a lease that counts from `from`; `None` when the ACK lacks what a lease needs.
///
/// T1 and T2 are one half and seven eighths of the lease where the server does not say (RFC 2131
/// §4.4.5), or says something that is out of order.
pub(super) fn accept(ack: &Message, from: Tick) -> Option<(Bound, Action)> {
    let options = &ack.options;
    let server = options.ipv4(code::SERVER_ID).ok()??;
    let lease_s = u32::from_be_bytes(options.array(code::LEASE_TIME).ok()??);
    let address = ack.yiaddr;
    if address.is_unspecified() {
        return None;
    }
    let timer = |code| options.array(code).ok().flatten().map(u32::from_be_bytes);
    let (t1_s, t2_s) = match (timer(code::T1), timer(code::T2)) {
        (Some(t1_s), Some(t2_s)) if t1_s <= t2_s && t2_s <= lease_s => (t1_s, t2_s),
        _ => (lease_s / 2, lease_s - lease_s.div_ceil(8)),
    };
    let after = |s: u32| from + Duration::from_secs(s.into());
    let lease = Bound {
        address,
        server,
        t1_at: after(t1_s),
        t2_at: after(t2_s),
        expires_at: after(lease_s),
    };
    let mask = options.ipv4(code::SUBNET_MASK).ok().flatten();
    let bound = Action::Bound {
        address,
        router: options.ipv4s(code::ROUTER).ok().and_then(|routers| routers.first().copied()),
        prefix_len: mask.map_or(32, prefix_len),
        dns: options.ipv4s(code::DNS).unwrap_or_default(),
        lease_s,
        server,
    };
    Some((lease, bound))
}

/// Length of the run of ones that a mask begins with.
fn prefix_len(mask: Ipv4Addr) -> u8 {
    u8::try_from(u32::from(mask).leading_ones()).expect("leading_ones() of 32 bits is at most 32")
}
