use crate::abi::{self, DownValue, UpKey, UpValue};
use crate::config::{Drift, SessionEntry};
use crate::ebpf::map_error;
use crate::error::DataplaneError;
use crate::guard;
use crate::kernel::{Kernel, absent_is_fine, lock};
use crate::nft::Blocks;
use crate::simulated::Changes;
use crate::table::Placed;
use crate::tc::{ClassKey, Htb};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// What the maps should hold, or do hold.
#[derive(Debug, Default)]
struct Entries {
    up: BTreeMap<UpKey, UpValue>,
    down: BTreeMap<[u8; 4], DownValue>,
}

/// How one kind of kernel object differs from what is wanted.
#[derive(Debug)]
pub(crate) struct Difference<K, V> {
    pub(crate) stale: Vec<K>,
    /// Missing or changed, with the wanted value and whether something is there.
    pub(crate) wrong: Vec<(K, V, bool)>,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Difference<K, V> {
    pub(crate) fn between(actual: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> Self {
        let stale = actual.keys().filter(|k| !wanted.contains_key(k)).cloned().collect();
        let wrong = wanted
            .iter()
            .filter(|(k, v)| actual.get(k) != Some(v))
            .map(|(k, v)| (k.clone(), v.clone(), actual.contains_key(k)))
            .collect();
        Self { stale, wrong }
    }

    pub(crate) fn count(&self, drift: &mut Drift) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let changed = self.wrong.iter().filter(|(_, _, there)| *there).count();
        drift.stale += number(self.stale.len());
        drift.changed += number(changed);
        drift.missing += number(self.wrong.len() - changed);
    }
}

/// Compares programs, maps, NAT blocks, classes, routes and guarded networks with `desired` and repairs what differs. The order
/// is that of `apply`: close, translate and shape, open.
pub(crate) async fn run(
    kernel: &Kernel,
    desired: &[SessionEntry],
) -> Result<Drift, DataplaneError> {
    for entry in desired {
        kernel.slot(entry.group)?;
    }
    let steps = {
        let mut table = lock(&kernel.table);
        let plan = Changes::towards(&table, desired);
        table.apply(&plan.changes)?
    };
    for step in steps.iter().filter(|s| s.before.is_none()) {
        if let Some(placed) = step.after {
            kernel.clear_flows(placed.index)?;
        }
    }
    let placed: Vec<Placed> = lock(&kernel.table).iter().copied().collect();

    let wanted = wanted_entries(kernel, &placed)?;
    let actual = actual_entries(kernel)?;
    let up = Difference::between(&actual.up, &wanted.up);
    let down = Difference::between(&actual.down, &wanted.down);
    let mut drift = Drift { missing: kernel.repair_attachments().await?, ..Drift::default() };
    up.count(&mut drift);
    down.count(&mut drift);

    remove_stale(kernel, &up, &down)?;
    repair_blocks(kernel, &placed, &mut drift).await?;
    if let Some(htb) = kernel.htb {
        repair_classes(kernel, htb, &placed, &mut drift).await?;
    }
    repair_routes(kernel, &mut drift).await?;
    repair_guard(kernel, &mut drift)?;
    kernel.conntrack.note(&steps);
    kernel.conntrack.settled().await?;
    write_wrong(kernel, &up, &down)?;
    Ok(drift)
}

fn wanted_entries(kernel: &Kernel, placed: &[Placed]) -> Result<Entries, DataplaneError> {
    let mut entries = Entries::default();
    for p in placed {
        let r = abi::records(p, kernel.slot(p.entry.group)?, kernel.cfg.shaper);
        entries.up.insert(r.up_key, r.up);
        entries.down.insert(r.down_key, r.down);
    }
    Ok(entries)
}

fn actual_entries(kernel: &Kernel) -> Result<Entries, DataplaneError> {
    let maps = lock(&kernel.maps);
    Ok(Entries {
        up: maps.up.iter().collect::<Result<_, _>>().map_err(map_error("sessions_up"))?,
        down: maps.down.iter().collect::<Result<_, _>>().map_err(map_error("sessions_down"))?,
    })
}

fn remove_stale(
    kernel: &Kernel,
    up: &Difference<UpKey, UpValue>,
    down: &Difference<[u8; 4], DownValue>,
) -> Result<(), DataplaneError> {
    let mut maps = lock(&kernel.maps);
    for key in &up.stale {
        absent_is_fine(maps.up.remove(key)).map_err(map_error("sessions_up"))?;
    }
    for key in &down.stale {
        absent_is_fine(maps.down.remove(key)).map_err(map_error("sessions_down"))?;
    }
    Ok(())
}

fn write_wrong(
    kernel: &Kernel,
    up: &Difference<UpKey, UpValue>,
    down: &Difference<[u8; 4], DownValue>,
) -> Result<(), DataplaneError> {
    let mut maps = lock(&kernel.maps);
    for (key, value, _) in &down.wrong {
        maps.down.insert(key, value, 0).map_err(map_error("sessions_down"))?;
    }
    for (key, value, _) in &up.wrong {
        maps.up.insert(key, value, 0).map_err(map_error("sessions_up"))?;
    }
    Ok(())
}

async fn repair_blocks(
    kernel: &Kernel,
    placed: &[Placed],
    drift: &mut Drift,
) -> Result<(), DataplaneError> {
    let wanted: Blocks =
        placed.iter().filter_map(|p| Some((p.entry.address, p.entry.nat?))).collect();
    let actual = match kernel.nft.blocks().await {
        Ok(blocks) => blocks,
        // The whole table may be gone, rules and all.
        Err(_) => {
            let groups = lock(&kernel.groups).clone();
            kernel.nft.open(&kernel.cfg, &groups).await?;
            drift.missing += 1;
            kernel.nft.blocks().await?
        }
    };
    kernel.untranslated.store(kernel.nft.untranslated().await?, Ordering::Relaxed);
    Difference::between(&actual, &wanted).count(drift);
    kernel.nft.change(&actual, &wanted).await
}

async fn repair_classes(
    kernel: &Kernel,
    htb: Htb,
    placed: &[Placed],
    drift: &mut Drift,
) -> Result<(), DataplaneError> {
    let ports = kernel.ports();
    let mut wanted: BTreeMap<ClassKey, u64> = BTreeMap::new();
    for p in placed {
        wanted.append(&mut ports.classes(p));
    }
    let mut actual = BTreeMap::new();
    for interface in ports.access.values().map(String::as_str).chain(ports.core) {
        actual.append(&mut Htb::classes(interface).await?);
    }
    let difference = Difference::between(&actual, &wanted);
    difference.count(drift);
    let mut script = String::new();
    for key in &difference.stale {
        Htb::delete(key, &mut script);
    }
    for (key, rate_bps, there) in &difference.wrong {
        if *there {
            Htb::rate("change", key, *rate_bps, &mut script);
        } else {
            htb.add(key, *rate_bps, &mut script);
        }
    }
    Htb::run(&script).await
}

async fn repair_routes(kernel: &Kernel, drift: &mut Drift) -> Result<(), DataplaneError> {
    let groups: Vec<_> = lock(&kernel.groups).values().cloned().collect();
    for group in &groups {
        let vias = kernel.vias(group)?;
        let present = kernel.routes.present(&vias).await?;
        if present < vias.len() {
            drift.missing += u64::try_from(vias.len() - present).unwrap_or(u64::MAX);
            kernel.routes.put(group, &vias).await?;
        }
    }
    Ok(())
}

fn repair_guard(kernel: &Kernel, drift: &mut Drift) -> Result<(), DataplaneError> {
    let wanted = guard::networks(lock(&kernel.groups).values());
    let mut maps = lock(&kernel.maps);
    let actual = guard::held(&maps)?;
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    drift.missing += number(wanted.difference(&actual).count());
    drift.stale += number(actual.difference(&wanted).count());
    guard::change(&mut maps, &actual, &wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_tells_missing_changed_and_stale_apart() {
        let actual = BTreeMap::from([(1, 'a'), (2, 'b'), (3, 'c')]);
        let wanted = BTreeMap::from([(2, 'b'), (3, 'x'), (4, 'd'), (5, 'e')]);
        let difference = Difference::between(&actual, &wanted);
        let mut drift = Drift::default();
        difference.count(&mut drift);
        assert_eq!(drift, Drift { missing: 2, stale: 1, changed: 1 });
        assert_eq!(difference.wrong, [(3, 'x', true), (4, 'd', false), (5, 'e', false)]);
    }
}
