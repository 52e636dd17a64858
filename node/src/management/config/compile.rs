//! Between the tree and the replicated groups and pools.

use api::types::config::{GroupConfig, NatConfig, PoolConfig, ServiceName, rate_text};
use api::types::{Configuration, FieldError};
use model::{Group, GroupId, GroupService, Pool};
use raft_store::{Command, State};
use std::collections::BTreeMap;

fn service_name(service: GroupService) -> ServiceName {
    match service {
        GroupService::Pppoe => ServiceName::Pppoe,
        GroupService::Dhcp => ServiceName::Dhcp,
    }
}

/// Puts groups and pools into a configuration as they are in the state.
pub(super) fn show(state: &State, config: &mut Configuration) {
    config.groups = state.groups().map(|g| (g.name.clone(), show_group(state, g))).collect();
    config.pools = state.pools().map(|p| (p.name.clone(), show_pool(state, p))).collect();
}

fn show_group(state: &State, group: &Group) -> GroupConfig {
    let name = |id| state.node(id).map_or_else(|| id.to_string(), |node| node.name.clone());
    GroupConfig {
        vrid: group.vrid,
        core_address: format!("{}/{}", group.core_address, group.core_prefix_len),
        ac_name: group.ac_name.clone(),
        services: group.services.iter().map(|s| service_name(*s)).collect(),
        preferred: group.preferred.iter().map(|id| name(*id)).collect(),
    }
}

fn show_pool(state: &State, pool: &Pool) -> PoolConfig {
    let rate = |bps: u64| (bps > 0).then(|| rate_text(bps));
    PoolConfig {
        group: state
            .group(pool.group)
            .map_or_else(|| pool.group.to_string(), |group| group.name.clone()),
        service: service_name(pool.service),
        range: pool.range.to_string(),
        prefix_len: pool.prefix_len,
        gateway: pool.gateway.to_string(),
        dns: pool.dns.iter().map(ToString::to_string).collect(),
        lease_s: pool.lease_s,
        nat: pool.nat.as_ref().map(|nat| NatConfig {
            public: nat.public.to_string(),
            ports_per_block: nat.ports_per_block,
        }),
        rate_down: rate(pool.rate.down_bps),
        rate_up: rate(pool.rate.up_bps),
    }
}

/// The commands that make the state's groups and pools those of the configuration, in an order in
/// which each finds what it needs.
///
/// # Errors
/// What the state must know to answer: names of nodes, and free group numbers.
pub(super) fn commands(
    config: &Configuration,
    state: &State,
) -> Result<Vec<Command>, Vec<FieldError>> {
    let (plans, pools) = config.plan()?;
    let mut errors = Vec::new();
    let known: BTreeMap<&str, &Group> = state.groups().map(|g| (g.name.as_str(), g)).collect();
    let mut free = (1..=u32::MAX).map(GroupId).filter(|id| state.group(*id).is_none());
    let mut ids = Vec::new();
    let mut groups = Vec::new();
    for plan in plans {
        let old = known.get(plan.name.as_str()).copied();
        let Some(id) = old.map(|g| g.id).or_else(|| free.next()) else { continue };
        ids.push(id);
        let mut preferred = Vec::new();
        for (i, name) in plan.preferred.iter().enumerate() {
            match state.nodes().find(|node| node.name == *name) {
                Some(node) => preferred.push(node.id),
                None => errors.push(FieldError::new(
                    format!("groups.{}.preferred[{i}]", plan.name),
                    format!("there is no member named {name:?}"),
                )),
            }
        }
        let group = Group {
            id,
            name: plan.name,
            vrid: plan.vrid,
            core_address: plan.core_address,
            core_prefix_len: plan.core_prefix_len,
            preferred,
            ac_name: plan.ac_name,
            services: plan.services,
            owner: old.and_then(|g| g.owner),
            epoch: old.map(|g| g.epoch).unwrap_or_default(),
            revision: old.map(|g| g.revision).unwrap_or_default(),
        };
        if old != Some(&group) {
            groups.push(Command::PutGroup(group));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let number = |pool: Pool| {
        let place = usize::try_from(pool.group.0).ok().and_then(|n| n.checked_sub(1));
        let id = place.and_then(|n| ids.get(n)).copied().unwrap_or(pool.group);
        Pool { group: id, ..pool }
    };
    let pools: Vec<Pool> = pools.into_iter().map(number).collect();
    let gone = |pool: &&Pool| !pools.iter().any(|new| new.name == pool.name);
    let mut all: Vec<Command> =
        state.pools().filter(gone).map(|pool| Command::RemovePool(pool.name.clone())).collect();
    let dropped = state.groups().filter(|g| !config.groups.contains_key(&g.name));
    // A pool may move to another group, and a group may go with the move: new groups come first,
    // old ones go last.
    let dropped: Vec<_> = dropped.map(|g| Command::RemoveGroup(g.id)).collect();
    all.extend(groups);
    let changed = pools.into_iter().filter(|new| !state.pools().any(|old| old == new));
    all.extend(changed.map(Command::PutPool));
    all.extend(dropped);
    Ok(all)
}
