//! The free addresses of one pool.

use super::ranges::RangeSet;
use imbl::{OrdMap, OrdSet};
use model::{Pool, Revision};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Addresses in the pool's range.
    pub total: u64,
    /// Addresses that may be handed out to anybody now.
    pub free: u64,
    /// Sessions that draw from the pool, also those with a fixed address outside its range.
    pub sessions: u64,
}

/// A pool with its free addresses.
///
/// Free means: in the range, held by no session, set aside for no subscriber, not resting after a
/// decline and no gateway. A free address is either fresh or freed, never both.
#[derive(Clone, Debug)]
pub(super) struct PoolState {
    pub(super) pool: Arc<Pool>,
    /// Sessions that draw from this pool.
    pub(super) sessions: u64,
    /// Free and never used.
    fresh: RangeSet,
    /// Free and used before, the one that was released first in front. A client that comes back
    /// finds its former address longest in this way, and late packets for a former holder do not
    /// reach the next one.
    freed: OrdSet<(Revision, Ipv4Addr)>,
    freed_at: OrdMap<Ipv4Addr, Revision>,
}

fn number(address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address))
}

/// Addresses enter a [`RangeSet`] only through [`number`], so they come back whole.
fn address(number: u64) -> Option<Ipv4Addr> {
    u32::try_from(number).ok().map(Ipv4Addr::from)
}

impl PoolState {
    /// A pool whose whole range is free and fresh.
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        let fresh = RangeSet::span(number(pool.range.first), number(pool.range.last));
        Self { pool, sessions: 0, fresh, freed: OrdSet::new(), freed_at: OrdMap::new() }
    }

    pub(super) fn usage(&self) -> PoolUsage {
        PoolUsage {
            total: self.pool.range.count(),
            free: self.fresh.count() + u64::try_from(self.freed.len()).unwrap_or(u64::MAX),
            sessions: self.sessions,
        }
    }

    pub(super) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.fresh.contains(number(address)) || self.freed_at.contains_key(&address)
    }

    /// Makes an address no longer free.
    pub(super) fn take(&mut self, address: Ipv4Addr) {
        if let Some(revision) = self.freed_at.remove(&address) {
            self.freed.remove(&(revision, address));
        } else {
            self.fresh.remove(number(address));
        }
    }

    /// Makes an address of the range free, last in the queue.
    pub(super) fn release(&mut self, address: Ipv4Addr, revision: Revision) {
        self.take(address);
        self.freed_at.insert(address, revision);
        self.freed.insert((revision, address));
    }

    /// The free address to hand out next: fresh ones from below, then the one that rested longest.
    pub(super) fn next_free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let fresh = self.fresh.iter().filter_map(address);
        let freed = self.freed.iter().map(|&(_, address)| address);
        fresh.chain(freed).find(|&address| !skip(address))
    }

    /// The freed addresses in the order of their queue.
    pub(super) fn freed(&self) -> impl Iterator<Item = (Revision, Ipv4Addr)> + '_ {
        self.freed.iter().copied()
    }

    /// Whether a fixed address belongs to the pool's network and can be a host in it.
    pub(super) fn admits(&self, address: Ipv4Addr) -> bool {
        if self.pool.range.contains(address) {
            return true;
        }
        let host_bits = 32_u32.saturating_sub(self.pool.prefix_len.into());
        let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
        let (address, gateway) = (u32::from(address), u32::from(self.pool.gateway));
        // The first and last address of a network of more than two are its own and the broadcast
        // address.
        address & mask == gateway & mask
            && (host_bits < 2 || (address & !mask != 0 && address | mask != u32::MAX))
    }
}
