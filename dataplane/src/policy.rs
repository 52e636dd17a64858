//! Bans in the kernel's table, and the sources that the kernel saw and nobody knows.

use crate::abi::UpKey;
use crate::config::Drift;
use crate::ebpf::map_error;
use crate::error::DataplaneError;
use crate::kernel::{Kernel, absent_is_fine, lock};
use crate::reconcile::Difference;
use aya::maps::lpm_trie::Key;
use model::{Attachment, Ban, BanScope, GroupId, Ipv4Net, MacAddr, PortId, Vlans};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

// Scopes of a ban, `bpf/policy.h`.
const BAN_ALL: u32 = 0x01;
const BAN_ICMP: u32 = 0x02;

/// A source of IPoE packets that belongs to no session where it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownSource {
    /// Its source address.
    pub address: Ipv4Addr,
    /// Where it was heard.
    pub attachment: Attachment,
}

/// Networks and the scopes that the kernel finds with them.
pub(crate) type BanTable = BTreeMap<Ipv4Net, u32>;

/// Returns the table of these bans. The kernel finds only the most specific network of an address, so
/// each bears the scopes of those around it.
pub(crate) fn table(bans: &[Ban]) -> BanTable {
    let mut table = BanTable::new();
    for ban in bans {
        *table.entry(ban.network).or_default() |= match ban.scope {
            BanScope::All => BAN_ALL,
            BanScope::Icmp => BAN_ICMP,
        };
    }
    // In this order a network comes after all that cover it, and before all that it does not.
    let mut around: Vec<(Ipv4Net, u32)> = Vec::new();
    for (network, scopes) in &mut table {
        while around.last().is_some_and(|(outer, _)| !outer.covers(*network)) {
            around.pop();
        }
        *scopes |= around.last().map_or(0, |(_, scopes)| *scopes);
        around.push((*network, *scopes));
    }
    table
}

/// Counts how two tables differ.
pub(crate) fn drift(actual: &BanTable, wanted: &BanTable) -> Drift {
    let mut drift = Drift::default();
    Difference::between(actual, wanted).count(&mut drift);
    drift
}

fn trie_key(network: Ipv4Net) -> Key<[u8; 4]> {
    Key::new(network.prefix_len().into(), network.address().octets())
}

/// Returns the network of a key; `None` for one that we never write.
fn network_of(key: &Key<[u8; 4]>) -> Option<Ipv4Net> {
    Ipv4Net::new(key.data().into(), u8::try_from(key.prefix_len()).ok()?)
}

impl Kernel {
    /// Makes the kernel's table that of these bans and returns what differed.
    pub(crate) fn set_bans(&self, bans: &[Ban]) -> Result<Drift, DataplaneError> {
        let wanted = table(bans);
        let mut maps = lock(&self.maps);
        let mut actual = BanTable::new();
        let mut foreign = Vec::new();
        for item in maps.bans.iter() {
            let (key, scopes) = item.map_err(map_error("bans"))?;
            match network_of(&key) {
                Some(network) => {
                    actual.insert(network, scopes);
                }
                None => foreign.push(key),
            }
        }
        let difference = Difference::between(&actual, &wanted);
        let mut drift = Drift::default();
        difference.count(&mut drift);
        drift.stale += u64::try_from(foreign.len()).unwrap_or(u64::MAX);
        // First what goes, so that there is room for what comes.
        let stale = difference.stale.iter().map(|network| trie_key(*network));
        for key in foreign.into_iter().chain(stale) {
            absent_is_fine(maps.bans.remove(&key)).map_err(map_error("bans"))?;
        }
        for (network, scopes, _) in &difference.wrong {
            maps.bans.insert(&trie_key(*network), *scopes, 0).map_err(map_error("bans"))?;
        }
        Ok(drift)
    }

    /// Takes the sources that were heard on the ports of a group since the last time.
    pub(crate) fn take_unknown(
        &self,
        group: GroupId,
    ) -> Result<Vec<UnknownSource>, DataplaneError> {
        let ours = |port: u16| {
            self.cfg.access.iter().any(|access| access.group == group && access.port.0 == port)
        };
        let mut maps = lock(&self.maps);
        // The kernel may add while this reads: a source that is missed now is there the next time.
        let keys: Vec<UpKey> =
            maps.unknown.keys().filter_map(Result::ok).filter(|key| ours(key.port)).collect();
        let mut sources = Vec::with_capacity(keys.len());
        for key in keys {
            absent_is_fine(maps.unknown.remove(&key)).map_err(map_error("unknown_sources"))?;
            sources.push(UnknownSource {
                address: key.address.into(),
                attachment: Attachment {
                    port: PortId(key.port),
                    vlans: Vlans { outer: key.outer, inner: key.inner },
                    mac: MacAddr(key.mac),
                },
            });
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::UnixMs;

    fn ban(network: &str, scope: BanScope) -> Ban {
        Ban { network: network.parse().unwrap(), scope, since: UnixMs(0) }
    }

    fn rows(bans: &[Ban]) -> Vec<(String, u32)> {
        table(bans).into_iter().map(|(network, scopes)| (network.to_string(), scopes)).collect()
    }

    #[test]
    fn a_network_bears_the_scopes_of_those_around_it_and_of_no_others() {
        let bans = [
            ban("10.1.2.3", BanScope::Icmp),
            ban("10.0.0.0/8", BanScope::All),
            ban("10.0.0.0/16", BanScope::Icmp),
            ban("11.0.0.1", BanScope::Icmp),
            ban("11.0.0.1", BanScope::All),
            ban("12.0.0.0/8", BanScope::Icmp),
            ban("12.255.255.255", BanScope::All),
            ban("13.0.0.0", BanScope::All),
        ];
        let want = [
            ("10.0.0.0/8", BAN_ALL),
            ("10.0.0.0/16", BAN_ALL | BAN_ICMP),
            ("10.1.2.3/32", BAN_ALL | BAN_ICMP),
            ("11.0.0.1/32", BAN_ALL | BAN_ICMP),
            ("12.0.0.0/8", BAN_ICMP),
            ("12.255.255.255/32", BAN_ALL | BAN_ICMP),
            ("13.0.0.0/32", BAN_ALL),
        ];
        assert_eq!(rows(&bans), want.map(|(network, scopes)| (network.to_owned(), scopes)));
        let everywhere = [ban("0.0.0.0/0", BanScope::Icmp), ban("9.9.9.9", BanScope::All)];
        assert_eq!(rows(&everywhere)[1].1, BAN_ALL | BAN_ICMP);
    }

    #[test]
    fn lifting_a_ban_leaves_to_the_inner_networks_what_is_their_own() {
        let both = [ban("10.0.0.0/8", BanScope::All), ban("10.1.2.3", BanScope::Icmp)];
        let (before, after) = (table(&both), table(&both[1..]));
        assert_eq!(after.values().copied().collect::<Vec<_>>(), [BAN_ICMP]);
        assert_eq!(drift(&before, &after), Drift { missing: 0, stale: 1, changed: 1 });
    }

    #[test]
    fn a_key_that_is_no_network_is_found_out() {
        let network = "192.0.2.0/24".parse().unwrap();
        assert_eq!(network_of(&trie_key(network)), Some(network));
        assert_eq!(network_of(&Key::new(24, [192, 0, 2, 1])), None);
    }
}
