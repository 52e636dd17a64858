use super::{GroupInit, InitRequest, NatInit, PoolInit, RateInit, SubscriberInit};
use crate::types::{AdminInit, FieldError, RATE_BPS_MAX};
use model::{GroupId, GroupService, Ipv4Range, NatPool, Pool, Rate, Subscriber};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Most groups of a cluster; each needs a virtual router id of its own.
const GROUPS_MAX: usize = 64;
/// Most pools that one request may bring.
const POOLS_MAX: usize = 256;
/// Most subscribers that one request may bring.
const SUBSCRIBERS_MAX: usize = 100_000;
/// Most errors that one answer lists.
pub(in crate::types) const ERRORS_MAX: usize = 100;
/// The longest name of a cluster, group, pool or node, in octets.
const NAME_OCTETS_MAX: usize = 63;
/// The longest AC-Name, in octets.
const AC_NAME_OCTETS_MAX: usize = 64;
/// The longest user name, in octets: what a RADIUS attribute can carry (RFC 2865 §5).
const USERNAME_OCTETS_MAX: usize = 253;
/// The longest subscriber password, in octets: PAP counts them in one octet (RFC 1334 §2.2.1).
const SECRET_OCTETS_MAX: usize = 255;
/// The shortest and longest password of an API user, in characters.
const ADMIN_PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=128;
/// DNS servers of a pool; a DHCP option of them stays small.
const DNS_MAX: usize = 4;
/// Lease times that are accepted, in seconds.
const LEASE_S: std::ops::RangeInclusive<u32> = 10..=2_592_000;
/// Port block sizes that are accepted.
const PORTS_PER_BLOCK: std::ops::RangeInclusive<u32> = 16..=32_768;

/// An [`InitRequest`] that was found to be right, in the types of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitPlan {
    /// A name for people.
    pub cluster_name: String,
    /// The first API user.
    pub admin: AdminInit,
    /// Groups, numbered from 1 in the order of the request.
    pub groups: Vec<GroupPlan>,
    /// Pools; their `group` is the number given above.
    pub pools: Vec<Pool>,
    /// Users that are checked without RADIUS.
    pub subscribers: Vec<Subscriber>,
}

/// A group whose preferred nodes are still names: the nodes join later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Its number.
    pub id: GroupId,
    /// Its name.
    pub name: String,
    /// Virtual router id.
    pub vrid: u8,
    /// The address on the core network that moves with the group.
    pub core_address: Ipv4Addr,
    /// Network prefix length of `core_address`.
    pub core_prefix_len: u8,
    /// Names of the nodes that should own it, best first.
    pub preferred: Vec<String>,
    /// AC-Name in PADO and PADS.
    pub ac_name: String,
    /// What the group serves.
    pub services: Vec<GroupService>,
}

impl InitRequest {
    /// Checks everything and converts it.
    ///
    /// # Errors
    /// All that is wrong, each with its path; at most 100 entries.
    pub fn plan(&self) -> Result<InitPlan, Vec<FieldError>> {
        let mut check = Check::default();
        check.name("cluster_name", &self.cluster_name);
        check.admin(&self.admin);
        let (groups, pools) = check.network_plan(&self.groups, &self.pools);
        check.count("subscribers", self.subscribers.len(), 0..=SUBSCRIBERS_MAX);
        // Of two with one name the first counts, as in the report about the second.
        let by_name = pools.iter().rev().map(|p| (p.name.as_str(), p)).collect();
        let names: BTreeSet<_> = self.pools.iter().map(|p| p.name.as_str()).collect();
        let subscribers = (self.subscribers.iter().take(SUBSCRIBERS_MAX).enumerate())
            .filter_map(|(i, s)| check.subscriber(i, s, &names, &by_name))
            .collect();
        let users = self.subscribers.iter().map(|s| Some(s.username.as_str()));
        check.distinct("subscribers", "username", users);
        let fixed = self.subscribers.iter().map(|s| s.address.as_deref());
        check.distinct("subscribers", "address", fixed);
        check.finish()?;
        Ok(InitPlan {
            cluster_name: self.cluster_name.clone(),
            admin: self.admin.clone(),
            groups,
            pools,
            subscribers,
        })
    }
}

/// Checks groups and pools alone, as a later change of them must be.
///
/// # Errors
/// As [`InitRequest::plan`].
pub(in crate::types) fn plan_network(
    groups: &[GroupInit],
    pools: &[PoolInit],
) -> Result<(Vec<GroupPlan>, Vec<Pool>), Vec<FieldError>> {
    let mut check = Check::default();
    let plan = check.network_plan(groups, pools);
    check.finish()?;
    Ok(plan)
}

/// `10.0.0.1/24` without its length.
fn host_part(text: &str) -> &str {
    text.split_once('/').map_or(text, |(host, _)| host)
}

/// Collects what is wrong.
#[derive(Default)]
struct Check {
    errors: Vec<FieldError>,
    left_off: usize,
}

impl Check {
    fn refuse(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX - 1 {
            self.errors.push(FieldError::new(path, message));
        } else {
            self.left_off += 1;
        }
    }

    fn finish(mut self) -> Result<(), Vec<FieldError>> {
        if self.left_off > 0 {
            self.errors.push(FieldError::new("", format!("and {} more errors", self.left_off)));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(self.errors) }
    }

    fn count(&mut self, path: &str, have: usize, want: std::ops::RangeInclusive<usize>) {
        if !want.contains(&have) {
            let (low, high) = want.into_inner();
            self.refuse(path, format!("has {have} entries, must have {low} to {high}"));
        }
    }

    fn name(&mut self, path: &str, name: &str) {
        let fits = (1..=NAME_OCTETS_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fits {
            self.refuse(
                path,
                format!("must be 1 to {NAME_OCTETS_MAX} letters, digits, '-', '_' or '.'"),
            );
        }
    }

    /// Text that goes into protocol fields and tables: no control characters.
    fn text(&mut self, path: &str, text: &str, octets_max: usize) {
        if text.is_empty() || text.len() > octets_max || text.chars().any(char::is_control) {
            self.refuse(path, format!("must be 1 to {octets_max} octets of printable text"));
        }
    }

    fn parse<T: FromStr>(&mut self, path: &str, text: &str, what: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(path, format!("{text:?} is not {what}"));
        }
        value
    }

    fn host(&mut self, path: &str, text: &str) -> Option<Ipv4Addr> {
        let addr: Ipv4Addr = self.parse(path, text, "an IPv4 address")?;
        if addr.is_unspecified() || addr.is_loopback() || addr.is_multicast() || addr.is_broadcast()
        {
            self.refuse(path, format!("{addr} is not the address of a host"));
            return None;
        }
        Some(addr)
    }

    fn service(&mut self, path: &str, text: &str) -> Option<GroupService> {
        match text {
            "pppoe" => Some(GroupService::Pppoe),
            "dhcp" => Some(GroupService::Dhcp),
            other => {
                self.refuse(path, format!("{other:?} is not \"pppoe\" or \"dhcp\""));
                None
            }
        }
    }

    fn rate(&mut self, path: &str, rate: RateInit) -> Rate {
        for (field, bps) in [("down_bps", rate.down_bps), ("up_bps", rate.up_bps)] {
            if bps > RATE_BPS_MAX {
                self.refuse(
                    format!("{path}.{field}"),
                    format!("{bps} is more than {RATE_BPS_MAX} bits per second"),
                );
            }
        }
        Rate { down_bps: rate.down_bps, up_bps: rate.up_bps }
    }

    /// `field` is empty for a list of plain values.
    fn distinct<T: Ord>(
        &mut self,
        list: &str,
        field: &str,
        values: impl Iterator<Item = Option<T>>,
    ) {
        let mut first = BTreeMap::new();
        for (i, value) in values.enumerate() {
            let Some(value) = value else { continue };
            if let Some(earlier) = first.get(&value) {
                let dot = if field.is_empty() { "" } else { "." };
                let text = format!("is the same as in {list}[{earlier}]");
                self.refuse(format!("{list}[{i}]{dot}{field}"), text);
            } else {
                first.insert(value, i);
            }
        }
    }

    fn admin(&mut self, admin: &AdminInit) {
        self.text("admin.username", &admin.username, NAME_OCTETS_MAX);
        let chars = admin.password.expose().chars().count();
        if !ADMIN_PASSWORD_CHARS.contains(&chars) {
            let (low, high) = ADMIN_PASSWORD_CHARS.into_inner();
            self.refuse("admin.password", format!("must have {low} to {high} characters"));
        }
    }

    fn network_plan(
        &mut self,
        groups: &[GroupInit],
        pools: &[PoolInit],
    ) -> (Vec<GroupPlan>, Vec<Pool>) {
        self.count("groups", groups.len(), 1..=GROUPS_MAX);
        self.count("pools", pools.len(), 0..=POOLS_MAX);
        let planned: Vec<_> = (groups.iter().take(GROUPS_MAX).enumerate())
            .filter_map(|(i, g)| self.group(i, g))
            .collect();
        self.distinct("groups", "name", groups.iter().map(|g| Some(g.name.as_str())));
        self.distinct("groups", "vrid", groups.iter().map(|g| Some(g.vrid)));
        let core = groups.iter().map(|g| Some(host_part(&g.core_address)));
        self.distinct("groups", "core_address", core);
        let planned_pools: Vec<_> = (pools.iter().take(POOLS_MAX).enumerate())
            .filter_map(|(i, p)| self.pool(i, p, groups).map(|pool| (i, pool)))
            .collect();
        self.distinct("pools", "name", pools.iter().map(|p| Some(p.name.as_str())));
        self.overlaps(&planned, &planned_pools);
        (planned, planned_pools.into_iter().map(|(_, pool)| pool).collect())
    }

    fn group(&mut self, i: usize, g: &GroupInit) -> Option<GroupPlan> {
        let at = |field: &str| format!("groups[{i}].{field}");
        self.name(&at("name"), &g.name);
        let vrid = u8::try_from(g.vrid).ok().filter(|vrid| *vrid != 0);
        if vrid.is_none() {
            self.refuse(at("vrid"), format!("{} is not 1 to 255", g.vrid));
        }
        let core = self.core_address(&at("core_address"), &g.core_address);
        self.text(&at("ac_name"), &g.ac_name, AC_NAME_OCTETS_MAX);
        if g.services.is_empty() {
            self.refuse(at("services"), "must name at least one service");
        }
        let services: Vec<_> = (g.services.iter().enumerate())
            .filter_map(|(k, s)| self.service(&at(&format!("services[{k}]")), s))
            .collect();
        self.distinct(&at("services"), "", services.iter().map(|s| Some(*s)));
        for (k, node) in g.preferred.iter().enumerate() {
            self.name(&at(&format!("preferred[{k}]")), node);
        }
        self.distinct(&at("preferred"), "", g.preferred.iter().map(Some));
        let (core_address, core_prefix_len) = core?;
        Some(GroupPlan {
            id: group_id(i),
            name: g.name.clone(),
            vrid: vrid?,
            core_address,
            core_prefix_len,
            preferred: g.preferred.clone(),
            ac_name: g.ac_name.clone(),
            services,
        })
    }

    fn core_address(&mut self, path: &str, text: &str) -> Option<(Ipv4Addr, u8)> {
        let Some((host, len)) = text.split_once('/') else {
            self.refuse(path, format!("{text:?} is not an address with a prefix length"));
            return None;
        };
        let len = len.parse::<u8>().ok().filter(|len| (8..=31).contains(len));
        if len.is_none() {
            self.refuse(path, format!("the prefix length of {text:?} is not 8 to 31"));
        }
        let (host, len) = (self.host(path, host)?, len?);
        if len <= 30 && is_edge(host, len) {
            self.refuse(path, format!("{host} is the network or broadcast address of its /{len}"));
            return None;
        }
        Some((host, len))
    }

    fn pool(&mut self, i: usize, p: &PoolInit, groups: &[GroupInit]) -> Option<Pool> {
        let at = |field: &str| format!("pools[{i}].{field}");
        self.name(&at("name"), &p.name);
        let service = self.service(&at("service"), &p.service);
        let group = groups.iter().position(|g| g.name == p.group);
        match group {
            None => self.refuse(at("group"), format!("there is no group {:?}", p.group)),
            Some(g) if service.is_some() && !groups[g].services.contains(&p.service) => {
                self.refuse(at("service"), format!("group {} does not serve it", p.group));
            }
            Some(_) => {}
        }
        let range = self.parse::<Ipv4Range>(&at("range"), &p.range, "an address range first-last");
        let gateway = self.host(&at("gateway"), &p.gateway);
        let prefix_len = u8::try_from(p.prefix_len).ok().filter(|len| (8..=32).contains(len));
        if prefix_len.is_none() {
            self.refuse(at("prefix_len"), format!("{} is not 8 to 32", p.prefix_len));
        }
        self.count(&at("dns"), p.dns.len(), 0..=DNS_MAX);
        let dns = (p.dns.iter().take(DNS_MAX).enumerate())
            .filter_map(|(k, d)| self.host(&at(&format!("dns[{k}]")), d))
            .collect();
        if !LEASE_S.contains(&p.lease_s) {
            let (low, high) = LEASE_S.into_inner();
            self.refuse(at("lease_s"), format!("{} is not {low} to {high}", p.lease_s));
        }
        let nat = match &p.nat {
            None => None,
            Some(nat) => Some(self.nat(&at("nat"), nat)?),
        };
        let rate = p.rate.map_or_else(Rate::default, |rate| self.rate(&at("rate"), rate));
        let pool = Pool {
            name: p.name.clone(),
            group: group_id(group?),
            service: service?,
            range: range?,
            prefix_len: prefix_len?,
            gateway: gateway?,
            dns,
            lease_s: p.lease_s,
            nat,
            rate,
        };
        self.pool_network(i, &pool);
        Some(pool)
    }

    /// How range, gateway and network fit together.
    fn pool_network(&mut self, i: usize, pool: &Pool) {
        let range = pool.range;
        if range.contains(pool.gateway) {
            self.refuse(format!("pools[{i}].gateway"), format!("lies inside the range {range}"));
        }
        match pool.service {
            // A PPP link has two ends and no subnet: RFC 1332 gives each end an address.
            GroupService::Pppoe => {}
            GroupService::Dhcp => {
                let len = pool.prefix_len;
                if len > 30 {
                    let text = format!("/{len} leaves a DHCP client no neighbour: at most 30");
                    self.refuse(format!("pools[{i}].prefix_len"), text);
                    return;
                }
                let network = network(pool.gateway, len);
                let inside = |a: Ipv4Addr| network.contains(a) && !is_edge(a, len);
                if !inside(range.first) || !inside(range.last) {
                    let text =
                        format!("is not inside the hosts of the gateway's network {network}");
                    self.refuse(format!("pools[{i}].range"), text);
                }
            }
        }
    }

    fn nat(&mut self, path: &str, nat: &NatInit) -> Option<NatPool> {
        let range = format!("{path}.public");
        let public = self.parse::<Ipv4Range>(&range, &nat.public, "an address range first-last");
        let ports = u16::try_from(nat.ports_per_block).ok();
        let ports = ports.filter(|_| PORTS_PER_BLOCK.contains(&nat.ports_per_block));
        if ports.is_none() {
            let (low, high) = PORTS_PER_BLOCK.into_inner();
            let text = format!("{} is not {low} to {high}", nat.ports_per_block);
            self.refuse(format!("{path}.ports_per_block"), text);
        }
        Some(NatPool { public: public?, ports_per_block: ports? })
    }

    /// One address must not have two meanings.
    fn overlaps(&mut self, groups: &[GroupPlan], pools: &[(usize, Pool)]) {
        let mut taken: Vec<(String, Ipv4Range)> = groups
            .iter()
            .map(|g| {
                let only = Ipv4Range { first: g.core_address, last: g.core_address };
                (format!("the core address of group {}", g.name), only)
            })
            .collect();
        for (i, pool) in pools {
            let nat = pool.nat.as_ref().map(|nat| ("nat.public", nat.public));
            for (field, range) in [("range", pool.range)].into_iter().chain(nat) {
                let hit =
                    taken.iter().find(|(_, t)| t.first <= range.last && range.first <= t.last);
                if let Some((what, _)) = hit {
                    self.refuse(format!("pools[{i}].{field}"), format!("overlaps {what}"));
                }
                taken.push((format!("pools[{i}].{field}"), range));
            }
        }
        for (i, pool) in pools {
            let own = format!("pools[{i}].range"); // reported by `pool_network`
            let hit = taken.iter().find(|(what, t)| *what != own && t.contains(pool.gateway));
            if let Some((what, _)) = hit {
                self.refuse(format!("pools[{i}].gateway"), format!("lies inside {what}"));
            }
        }
    }

    fn subscriber(
        &mut self,
        i: usize,
        s: &SubscriberInit,
        names: &BTreeSet<&str>,
        pools: &BTreeMap<&str, &Pool>,
    ) -> Option<Subscriber> {
        let at = |field: &str| format!("subscribers[{i}].{field}");
        self.text(&at("username"), &s.username, USERNAME_OCTETS_MAX);
        let octets = s.password.expose().len();
        if octets == 0 || octets > SECRET_OCTETS_MAX {
            self.refuse(at("password"), format!("must have 1 to {SECRET_OCTETS_MAX} octets"));
        }
        let rate = s.rate.map(|rate| self.rate(&at("rate"), rate));
        let unknown = s.pool.as_deref().filter(|name| !names.contains(name));
        if let Some(name) = unknown {
            self.refuse(at("pool"), format!("there is no pool {name:?}"));
        }
        let address = match &s.address {
            None => None,
            Some(text) => Some(self.host(&at("address"), text)?),
        };
        if let (Some(address), None) = (address, unknown) {
            let inside = match &s.pool {
                // A pool that is itself wrong was reported; do not blame its users too.
                Some(name) => pools.get(name.as_str()).is_none_or(|p| p.range.contains(address)),
                None => pools.values().any(|p| p.range.contains(address)),
            };
            if !inside {
                self.refuse(at("address"), format!("{address} lies in no pool of this user"));
            }
        }
        Some(Subscriber {
            username: s.username.clone(),
            password: s.password.clone(),
            rate,
            address,
            pool: s.pool.clone(),
        })
    }
}

fn group_id(index: usize) -> GroupId {
    GroupId(u32::try_from(index + 1).expect("the index is below GROUPS_MAX"))
}

fn mask(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

fn network(host: Ipv4Addr, len: u8) -> Ipv4Range {
    let first = u32::from(host) & mask(len);
    Ipv4Range { first: first.into(), last: (first | !mask(len)).into() }
}

/// Whether `host` is the first or last address of its network.
fn is_edge(host: Ipv4Addr, len: u8) -> bool {
    let net = network(host, len);
    host == net.first || host == net.last
}

#[cfg(test)]
mod tests;
