//! Groups, pools and local users.

use super::apply::Effects;
use super::nat::{NatSpace, blocks_per_address};
use super::pool::PoolState;
use super::ranges::RangeSet;
use super::{SID_MAX, State};
use crate::change::Change;
use crate::command::Refusal;
use model::{Group, GroupId, GroupService, Ipv4Range, NatPool, Pool, Session, Subscriber};
use std::net::Ipv4Addr;
use std::sync::Arc;

const POOLS_MAX: usize = 4096;
const SUBSCRIBERS_MAX: usize = 1 << 20;
/// Longest name, in octets. A PPP user name fits (RFC 1334 §2.2.1 allows 255).
const NAME_MAX: usize = 255;
/// Most entries of a list in a group or pool.
const LIST_MAX: usize = 64;
/// Most public addresses of one NAT pool.
const NAT_PUBLIC_MAX: u64 = 65_536;

pub(super) fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Invalid(why.into()))
}

/// Accepts a name that can be printed and is not too long.
pub(super) fn check_name(name: &str, what: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return invalid(format!("{what} has 1 to {NAME_MAX} octets and no control characters"));
    }
    Ok(())
}

/// Refuses one more object when there are `max`.
pub(super) fn limit(have: usize, known: bool, max: usize, what: &str) -> Result<(), Refusal> {
    if !known && have >= max {
        return invalid(format!("there are at most {max} {what}"));
    }
    Ok(())
}

fn overlap(a: Ipv4Range, b: Ipv4Range) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// Accepts a range that hosts can have.
fn check_unicast(range: Ipv4Range, what: &str) -> Result<(), Refusal> {
    let unicast = Ipv4Addr::new(1, 0, 0, 0)..Ipv4Addr::new(224, 0, 0, 0);
    if range.first > range.last || !unicast.contains(&range.first) || !unicast.contains(&range.last)
    {
        return invalid(format!("{what} {range} is not a range of host addresses"));
    }
    Ok(())
}

fn check_nat(nat: &NatPool) -> Result<(), Refusal> {
    check_unicast(nat.public, "the public range")?;
    if nat.public.count() > NAT_PUBLIC_MAX {
        return invalid(format!("a NAT pool has at most {NAT_PUBLIC_MAX} public addresses"));
    }
    if blocks_per_address(nat.ports_per_block) == 0 {
        return invalid(format!("a block of {} ports fits nowhere", nat.ports_per_block));
    }
    Ok(())
}

/// What can be said of a pool without looking at anything else.
fn check_pool_alone(pool: &Pool) -> Result<(), Refusal> {
    check_name(&pool.name, "the pool's name")?;
    check_unicast(pool.range, "the range")?;
    if !(1..=32).contains(&pool.prefix_len) || pool.dns.len() > LIST_MAX {
        return invalid("the prefix length is 1 to 32, and DNS servers are few");
    }
    if pool.service == GroupService::Dhcp {
        if pool.lease_s == 0 {
            return invalid("a lease lasts at least a second");
        }
        let network = |address| u32::from(address) >> (32 - u32::from(pool.prefix_len));
        let of_gateway = network(pool.gateway);
        if network(pool.range.first) != of_gateway || network(pool.range.last) != of_gateway {
            return invalid("the gateway's network must hold the whole range");
        }
    }
    pool.nat.as_ref().map_or(Ok(()), check_nat)
}

/// Whether two pools may exist side by side.
fn check_pools_together(pool: &Pool, other: &Pool) -> Result<(), Refusal> {
    let clash = |what: &str| invalid(format!("{what} of pool {:?}", other.name));
    if overlap(pool.range, other.range) {
        return clash("the range overlaps that");
    }
    let public = |pool: &Pool| pool.nat.as_ref().map(|nat| nat.public);
    if public(pool).is_some_and(|range| overlap(range, other.range))
        || public(other).is_some_and(|range| overlap(range, pool.range))
    {
        return clash("public addresses overlap the range");
    }
    // Equal NAT pools share their blocks, but only inside a group: a public address is routed to
    // one owner.
    if let (Some(a), Some(b)) = (&pool.nat, &other.nat)
        && overlap(a.public, b.public)
        && (a != b || pool.group != other.group)
    {
        return clash("the public range overlaps that");
    }
    Ok(())
}

impl State {
    pub(super) fn put_group(
        &mut self,
        group: &Group,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        check_name(&group.name, "the group's name")?;
        if group.vrid == 0 {
            return invalid("a VRID is 1 to 255"); // RFC 9568 §5.2.3
        }
        if !(1..=32).contains(&group.core_prefix_len) {
            return invalid("the core prefix length is 1 to 32");
        }
        if group.ac_name.len() > NAME_MAX
            || group.preferred.len() > LIST_MAX
            || group.services.len() > LIST_MAX
        {
            return invalid("a list or name is too long");
        }
        for other in self.groups.values().filter(|other| other.id != group.id) {
            if other.name == group.name || other.vrid == group.vrid {
                return invalid(format!("group {} has the same name or VRID", other.id));
            }
        }
        if let Some(pool) = self.pool_around(group.core_address) {
            return invalid(format!("the core address lies in pool {:?}", pool.pool.name));
        }
        // VRIDs are distinct, so there are at most 255 groups.
        let old = self.groups.get(&group.id);
        let owner = old.and_then(|old| old.owner);
        let former = || self.removed_groups.get(&group.id).copied().unwrap_or_default();
        let epoch = old.map_or_else(former, |old| old.epoch);
        if old.is_none() {
            self.removed_groups.remove(&group.id);
            self.free_sids.insert(group.id, RangeSet::span(1, SID_MAX.into()));
        }
        let revision = effects.revision;
        self.groups.insert(group.id, Group { owner, epoch, revision, ..group.clone() });
        effects.push(Change::GroupChanged(group.id));
        Ok(())
    }

    pub(super) fn remove_group(
        &mut self,
        id: GroupId,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let group = self.groups.get(&id).ok_or(Refusal::UnknownGroup)?;
        if let Some(pool) = self.pools().find(|pool| pool.group == id) {
            return Err(Refusal::InUse(format!("pool {:?} belongs to it", pool.name)));
        }
        // Should the id come back, the voters of the quorum lease still remember the epoch.
        self.removed_groups.insert(id, group.epoch);
        self.groups.remove(&id);
        self.free_sids.remove(&id);
        effects.push(Change::GroupChanged(id));
        Ok(())
    }

    pub(super) fn put_pool(&mut self, pool: &Pool, effects: &mut Effects) -> Result<(), Refusal> {
        check_pool_alone(pool)?;
        if !self.groups.contains_key(&pool.group) {
            return Err(Refusal::UnknownGroup);
        }
        limit(self.pools.len(), self.pools.contains_key(&pool.name), POOLS_MAX, "pools")?;
        for other in self.pools().filter(|other| other.name != pool.name) {
            check_pools_together(pool, other)?;
        }
        if let Some(group) = self.groups().find(|group| pool.range.contains(group.core_address)) {
            return invalid(format!("the range holds the core address of group {:?}", group.name));
        }
        let mut trial = self.clone();
        let old = trial.take_pool_out(&pool.name);
        trial.put_pool_in(pool, old.as_ref())?;
        *self = trial;
        if let Some(old) = old {
            effects.touch(old.pool.group);
        }
        effects.touch(pool.group);
        effects.push(Change::PoolChanged(pool.name.clone()));
        Ok(())
    }

    pub(super) fn remove_pool(&mut self, name: &str, effects: &mut Effects) -> Result<(), Refusal> {
        let pool = self.pools.get(name).ok_or(Refusal::UnknownPool)?;
        if pool.sessions > 0 {
            return Err(Refusal::InUse(format!("{} sessions draw from it", pool.sessions)));
        }
        if let Some(user) = self.subscribers().find(|user| user.pool.as_deref() == Some(name)) {
            return Err(Refusal::InUse(format!("subscriber {:?} names it", user.username)));
        }
        effects.touch(pool.pool.group);
        self.take_pool_out(name);
        effects.push(Change::PoolChanged(name.to_owned()));
        Ok(())
    }

    /// Removes a pool with what depends on it, but for its sessions.
    fn take_pool_out(&mut self, name: &str) -> Option<PoolState> {
        let state = self.pools.remove(name)?;
        let pool = &state.pool;
        self.pools_by_use.remove(&(pool.group, pool.service, pool.name.clone()));
        self.pools_by_first.remove(&pool.range.first);
        if let Some(count) = self.gateways.get_mut(&pool.gateway) {
            *count -= 1;
            if *count == 0 {
                self.gateways.remove(&pool.gateway);
            }
        }
        if let Some(nat) = &pool.nat
            && let Some(space) = self.nat.get_mut(&nat.public.first)
        {
            space.pools -= 1;
            if space.pools == 0 {
                self.nat.remove(&nat.public.first);
            }
        }
        self.refresh_address(pool.gateway);
        Some(state)
    }

    /// Enters a pool and counts in the sessions that have drawn from it. May leave a half-changed
    /// state when it refuses.
    pub(super) fn put_pool_in(
        &mut self,
        pool: &Pool,
        old: Option<&PoolState>,
    ) -> Result<(), Refusal> {
        if self.by_address.contains_key(&pool.gateway) {
            return Err(Refusal::InUse(format!("a session holds {}", pool.gateway)));
        }
        *self.gateways.entry(pool.gateway).or_insert(0) += 1;
        let mut blocks_known = true;
        if let Some(nat) = &pool.nat {
            blocks_known = self.nat.contains_key(&nat.public.first);
            let new = || NatSpace::new(nat.clone());
            self.nat.entry(nat.public.first).or_insert_with(new).pools += 1;
        }
        let mut state = PoolState::new(Arc::new(pool.clone()));
        for address in self.unavailable_in(pool.range) {
            state.take(address);
        }
        for (revision, address) in old.into_iter().flat_map(PoolState::freed) {
            if state.is_free(address) {
                state.release(address, revision);
            }
        }
        let of_pool = |session: &&Arc<Session>| session.pool == pool.name;
        let sessions: Vec<_> = match old {
            None => Vec::new(),
            Some(_) => self.sessions.values().filter(of_pool).map(Arc::clone).collect(),
        };
        for session in &sessions {
            if session.group != pool.group
                || session.kind.service() != pool.service
                || !state.admits(session.address)
                || session.nat.is_some() != pool.nat.is_some()
            {
                return Err(Refusal::InUse(format!("session {} would fall out of it", session.id)));
            }
        }
        state.sessions = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        self.pools.insert(pool.name.clone(), state);
        self.pools_by_use.insert((pool.group, pool.service, pool.name.clone()));
        self.pools_by_first.insert(pool.range.first, pool.name.clone());
        self.refresh_address(pool.gateway);
        self.keep_blocks(pool, &sessions, blocks_known)
    }

    /// Makes sure that the sessions of a pool have their port blocks in the space the pool has now.
    fn keep_blocks(
        &mut self,
        pool: &Pool,
        sessions: &[Arc<Session>],
        blocks_known: bool,
    ) -> Result<(), Refusal> {
        let Some(space) = self.nat_space_mut(&pool.name) else { return Ok(()) };
        for session in sessions {
            let Some(block) = session.nat else { continue };
            let kept = if blocks_known { space.has_taken(block) } else { space.take(block) };
            if !kept {
                return Err(Refusal::InUse(format!("session {} would lose its ports", session.id)));
            }
        }
        Ok(())
    }

    /// The addresses of a range that cannot be handed out to anybody.
    fn unavailable_in(&self, range: Ipv4Range) -> Vec<Ipv4Addr> {
        let all = range.first..=range.last;
        let held = self.by_address.range(all.clone()).map(|(address, _)| *address);
        let reserved = self.reserved.range(all.clone()).map(|(address, _)| *address);
        let declined = self.declined.range(all.clone()).map(|(address, _)| *address);
        let gateways = self.gateways.range(all).map(|(address, _)| *address);
        held.chain(reserved).chain(declined).chain(gateways).collect()
    }

    pub(super) fn put_subscriber(
        &mut self,
        subscriber: &Subscriber,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let username = &subscriber.username;
        check_name(username, "the user name")?;
        let old = self.subscribers.get(username).and_then(|old| old.address);
        let known = self.subscribers.contains_key(username);
        limit(self.subscribers.len(), known, SUBSCRIBERS_MAX, "subscribers")?;
        if let Some(pool) = &subscriber.pool
            && !self.pools.contains_key(pool)
        {
            return Err(Refusal::UnknownPool);
        }
        if let Some(address) = subscriber.address
            && self.reserved.get(&address).is_some_and(|holder| holder != username)
        {
            return Err(Refusal::AddressTaken);
        }
        self.reserve(username, old, subscriber.address);
        self.subscribers.insert(username.clone(), Arc::new(subscriber.clone()));
        effects.push(Change::SubscriberChanged(username.clone()));
        Ok(())
    }

    pub(super) fn remove_subscriber(
        &mut self,
        username: &str,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let old = self.subscribers.remove(username).ok_or(Refusal::UnknownSubscriber)?;
        self.reserve(username, old.address, None);
        effects.push(Change::SubscriberChanged(username.to_owned()));
        Ok(())
    }

    /// Moves a user's fixed address.
    fn reserve(&mut self, username: &str, old: Option<Ipv4Addr>, new: Option<Ipv4Addr>) {
        if old == new {
            return;
        }
        if let Some(address) = old {
            self.reserved.remove(&address);
            self.refresh_address(address);
        }
        if let Some(address) = new {
            self.reserved.insert(address, username.to_owned());
            self.refresh_address(address);
        }
    }
}
