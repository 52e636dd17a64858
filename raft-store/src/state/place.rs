//! Which address a session gets.

use super::State;
use super::pool::PoolState;
use crate::command::Refusal;
use model::{GroupId, GroupService, Session};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What a session asks for.
pub(super) struct Wish<'a> {
    pub(super) group: GroupId,
    pub(super) service: GroupService,
    pub(super) username: &'a str,
    /// Exactly this address.
    pub(super) address: Option<Ipv4Addr>,
    /// Exactly this pool.
    pub(super) pool: Option<&'a str>,
    /// Sessions that go down for this one: what they hold counts as free.
    pub(super) giving_way: &'a [Arc<Session>],
    /// One of them, whose address is kept when nothing speaks against it.
    pub(super) heir_of: Option<&'a Session>,
}

impl State {
    pub(super) fn pool_states_of(
        &self,
        group: GroupId,
        service: GroupService,
    ) -> impl Iterator<Item = &PoolState> + '_ {
        self.pools_by_use
            .range((group, service, String::new())..)
            .take_while(move |(g, s, _)| (*g, *s) == (group, service))
            .filter_map(|(_, _, name)| self.pools.get(name))
    }

    /// The pool and address for a session; changes nothing.
    pub(super) fn place(&self, wish: &Wish<'_>) -> Result<(Arc<model::Pool>, Ipv4Addr), Refusal> {
        let mut pools: Vec<&PoolState> = self.pool_states_of(wish.group, wish.service).collect();
        if let Some(name) = wish.pool {
            pools.retain(|pool| pool.pool.name == name);
        }
        let Some(first) = pools.first() else { return Err(Refusal::UnknownPool) };
        if let Some(address) = wish.address {
            let pool = self.pool_for(&pools, address).ok_or(Refusal::AddressOutsidePool)?;
            return if self.may_have(wish, address) {
                Ok((Arc::clone(&pool.pool), address))
            } else {
                Err(Refusal::AddressTaken)
            };
        }
        let of_former = |session: &Session| {
            let pool = pools.iter().find(|pool| pool.pool.name == session.pool)?;
            let fits = pool.admits(session.address) && self.may_have(wish, session.address);
            fits.then(|| (Arc::clone(&pool.pool), session.address))
        };
        let next = |pool: &&PoolState| Some((Arc::clone(&pool.pool), pool.next_free(&|_| false)?));
        wish.heir_of
            .and_then(of_former)
            .or_else(|| pools.iter().find_map(next))
            .or_else(|| wish.giving_way.iter().find_map(|session| of_former(session)))
            .ok_or_else(|| Refusal::PoolExhausted { pool: first.pool.name.clone() })
    }

    /// The pool that a fixed address belongs to: by its range, else by its network.
    fn pool_for<'a>(&self, pools: &[&'a PoolState], address: Ipv4Addr) -> Option<&'a PoolState> {
        if self.gateways.contains_key(&address) {
            return None;
        }
        if let Some(around) = self.pool_around(address) {
            return pools.iter().find(|pool| pool.pool.name == around.pool.name).copied();
        }
        pools.iter().find(|pool| pool.admits(address)).copied()
    }

    /// Whether this session may have the address, once others have given way.
    fn may_have(&self, wish: &Wish<'_>, address: Ipv4Addr) -> bool {
        let held = self
            .by_address
            .get(&address)
            .is_some_and(|holder| !wish.giving_way.iter().any(|session| session.id == *holder));
        let reserved = self.reserved.get(&address).is_some_and(|user| user != wish.username);
        !held
            && !reserved
            && !self.declined.contains_key(&address)
            && !self.gateways.contains_key(&address)
    }

    /// Refuses when a session in this pool would get no port block.
    pub(super) fn check_blocks(
        &self,
        pool: &model::Pool,
        giving_way: &[Arc<Session>],
    ) -> Result<(), Refusal> {
        let Some(space) = self.nat_space(&pool.name) else { return Ok(()) };
        let returns = |session: &Arc<Session>| session.nat.is_some_and(|b| space.has_taken(b));
        if space.has_free() || giving_way.iter().any(returns) {
            return Ok(());
        }
        Err(Refusal::NatExhausted { pool: pool.name.clone() })
    }
}
