//! Which source addresses must not leave towards the core: those of pools with NAT. The check is in
//! `core_egress`, so that it holds whatever becomes of the nftables rules.

use crate::config::GroupConfig;
use crate::ebpf::{Maps, map_error};
use crate::error::DataplaneError;
use crate::kernel::absent_is_fine;
use aya::maps::lpm_trie::Key;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Prefix length and network address.
pub(crate) type Network = (u8, Ipv4Addr);

const MAP: &str = "nat_networks";

/// Returns the networks of the pools with NAT of some groups.
pub(crate) fn networks<'a>(groups: impl IntoIterator<Item = &'a GroupConfig>) -> BTreeSet<Network> {
    let pools = groups.into_iter().flat_map(|g| &g.pools);
    pools.filter(|p| p.nat.is_some()).map(|p| (p.prefix_len, p.network)).collect()
}

/// Whether an address lies in one of the networks.
pub(crate) fn contains(networks: &BTreeSet<Network>, address: Ipv4Addr) -> bool {
    let differs = |a: Ipv4Addr| u32::from(a) ^ u32::from(address);
    networks.iter().any(|(len, network)| {
        differs(*network).checked_shr(32 - u32::from((*len).min(32))).unwrap_or(0) == 0
    })
}

/// Reads the networks that the kernel holds.
pub(crate) fn held(maps: &Maps) -> Result<BTreeSet<Network>, DataplaneError> {
    let mut held = BTreeSet::new();
    for key in maps.nat_networks.keys() {
        let key = key.map_err(map_error(MAP))?;
        let len = u8::try_from(key.prefix_len()).unwrap_or(u8::MAX);
        held.insert((len, Ipv4Addr::from(key.data())));
    }
    Ok(held)
}

/// Brings the kernel from `old` to `new`; what is added is added first.
pub(crate) fn change(
    maps: &mut Maps,
    old: &BTreeSet<Network>,
    new: &BTreeSet<Network>,
) -> Result<(), DataplaneError> {
    let key = |(len, network): &Network| Key::new(u32::from(*len), network.octets());
    for network in new.difference(old) {
        maps.nat_networks.insert(&key(network), 1, 0).map_err(map_error(MAP))?;
    }
    for network in old.difference(new) {
        absent_is_fine(maps.nat_networks.remove(&key(network))).map_err(map_error(MAP))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_the_network_around_it() {
        let network = |len, a: [u8; 4]| BTreeSet::from([(len, Ipv4Addr::from(a))]);
        let rows = [
            (16, [100, 64, 0, 0], [100, 64, 255, 255], true),
            (16, [100, 64, 0, 0], [100, 65, 0, 0], false),
            (32, [100, 64, 0, 1], [100, 64, 0, 1], true),
            (32, [100, 64, 0, 1], [100, 64, 0, 0], false),
            (0, [0, 0, 0, 0], [203, 0, 113, 9], true),
        ];
        for (len, a, address, want) in rows {
            let got = contains(&network(len, a), Ipv4Addr::from(address));
            assert_eq!(got, want, "{address:?} in {a:?}/{len}");
        }
    }
}
