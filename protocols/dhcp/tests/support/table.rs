//! A lease table in place of the replicated state.

use dhcp::{ClientKey, Commit, Lease, Leases, Outcome, PoolConfig};
use model::{SessionId, Tick, UnixMs};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Wall time at tick zero.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Leases by address, as the log's state machine would keep them.
pub(crate) struct LeaseTable {
    cfg: PoolConfig,
    leases: BTreeMap<Ipv4Addr, Lease>,
    declined: BTreeSet<Ipv4Addr>,
    sessions: u64,
}

impl LeaseTable {
    pub(crate) fn new(cfg: &PoolConfig) -> Self {
        let cfg = cfg.clone();
        Self { cfg, leases: BTreeMap::new(), declined: BTreeSet::new(), sessions: 0 }
    }

    /// Ends the leases whose time is over.
    pub(crate) fn expire(&mut self, now: Tick) {
        self.leases.retain(|_, lease| lease.expires_at > wall(now, 0));
    }

    pub(crate) fn apply(&mut self, commit: &Commit, now: Tick) -> Outcome {
        self.expire(now);
        match commit {
            Commit::Grant { key, address, lease_s, .. } => {
                self.grant(key, *address, wall(now, *lease_s))
            }
            Commit::Renew { session, lease_s } => {
                match self.leases.values_mut().find(|l| l.session == *session) {
                    Some(lease) => {
                        lease.expires_at = wall(now, *lease_s);
                        Outcome::Renewed
                    }
                    None => Outcome::Refused,
                }
            }
            Commit::Release { session } => {
                self.leases.retain(|_, l| l.session != *session);
                Outcome::Done
            }
            Commit::Decline { session, address } => {
                self.leases.retain(|_, l| Some(l.session) != *session);
                self.declined.insert(*address);
                Outcome::Done
            }
        }
    }

    fn grant(&mut self, key: &ClientKey, address: Ipv4Addr, expires_at: UnixMs) -> Outcome {
        let of_other = self.by_address(address).is_some_and(|l| l.key.identity() != key.identity());
        if of_other || self.declined.contains(&address) {
            return Outcome::Refused;
        }
        self.leases.retain(|_, l| l.key.identity() != key.identity());
        self.sessions += 1;
        let session = SessionId(self.sessions);
        self.leases.insert(address, Lease { session, key: key.clone(), address, expires_at });
        Outcome::Granted { session, address }
    }
}

impl Leases for LeaseTable {
    fn by_client(&self, key: &ClientKey) -> Option<Lease> {
        self.leases.values().find(|l| l.key.identity() == key.identity()).cloned()
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Lease> {
        self.leases.get(&address).cloned()
    }

    fn free(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let is_free = |a: &Ipv4Addr| {
            self.cfg.is_grantable(*a) && !self.leases.contains_key(a) && !self.declined.contains(a)
        };
        wanted.filter(is_free).or_else(|| {
            (0..self.cfg.range.count()).filter_map(|n| self.cfg.range.nth(n)).find(is_free)
        })
    }
}

fn wall(now: Tick, plus_s: u32) -> UnixMs {
    UnixMs(EPOCH_MS + now.as_ms()).plus_secs(plus_s.into())
}
