use crate::abi::{self, BaseValue, Flow, Flows, GROUPS_MAX, GroupValue, PortValue, VmacKey};
use crate::config::{Config, Counters, Drift, GroupConfig, SessionChange, SessionEntry, Shaper};
use crate::conntrack::{Conntrack, Owners};
use crate::ebpf::{self, Fences, Maps, Programs, map_error};
use crate::error::DataplaneError;
use crate::guard;
use crate::link::{self, Links};
use crate::nft::{self, Nft};
use crate::reconcile;
use crate::route::{Routes, Via};
use crate::table::{Placed, Step, Table};
use crate::tc::{self, Htb, Ports};
use aya::programs::TcAttachType;
use model::{GroupId, PortId, SessionId, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sessions whose counters are read under one lock.
const COUNTERS_AT_ONCE: usize = 1024;

/// The data plane in the kernel.
pub(crate) struct Kernel {
    pub(crate) cfg: Config,
    /// Access port number to interface name.
    pub(crate) access: BTreeMap<u16, String>,
    /// One programming operation at a time; fences and counters do not wait for it.
    work: tokio::sync::Mutex<()>,
    pub(crate) maps: Mutex<Maps>,
    /// A lock of its own: the fence is written every few ms, whatever else goes on.
    fences: Mutex<Fences>,
    pub(crate) table: Arc<Mutex<Table>>,
    slots: Mutex<BTreeMap<GroupId, u8>>,
    pub(crate) groups: Arc<Mutex<BTreeMap<GroupId, GroupConfig>>>,
    links: Links,
    pub(crate) routes: Routes,
    pub(crate) nft: Nft,
    pub(crate) conntrack: Conntrack,
    /// Packets that the rules dropped, as read by the last reconciliation.
    pub(crate) untranslated: AtomicU64,
    pub(crate) htb: Option<Htb>,
    programs: Mutex<Programs>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("cfg", &self.cfg).finish_non_exhaustive()
    }
}

/// Locks a mutex whose data stays meaningful when a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    pub(crate) async fn open(cfg: Config) -> Result<Self, DataplaneError> {
        Links::check(&cfg)?;
        let links = Links::open()?;
        let (mut programs, mut maps, fences) = ebpf::load(&cfg.pin_dir)?;
        let mut slots = restore_slots(&maps)?;
        for port in &cfg.access {
            slot_of(&mut slots, port.group)?;
        }
        write_ports(&cfg, &slots, &mut maps)?;
        // The egress programs first: nothing of the kernel's own may leave an access port that is
        // being prepared.
        for (interface, program, direction) in attachments(&cfg) {
            programs.attach_tc(interface, program, direction)?;
        }
        link::prepare_host()?;
        for port in &cfg.access {
            links.prepare_access(&port.interface)?;
        }
        if let Some(core) = &cfg.core {
            links.prepare_core(core)?;
        }
        let nft = Nft::new(&cfg);
        nft.open(&cfg, &BTreeMap::new()).await?;
        let htb = open_shaper(&cfg).await?;

        let table = restore_table(&maps, &slots, &nft.blocks().await?)?;
        let sessions = table.len();
        let owners = Owners { table: Arc::new(Mutex::new(table)), groups: Arc::default() };
        let conntrack = Conntrack::open(owners.clone())?;

        for port in &cfg.access {
            let index = Links::index(&port.interface)?;
            let mode = programs.attach_xdp(&port.interface, index, cfg.xdp)?;
            tracing::info!(interface = port.interface, mode, "access port attached");
        }
        tracing::info!(pins = %programs.pins().display(), sessions, "data plane open");
        Ok(Self {
            access: cfg.access.iter().map(|p| (p.port.0, p.interface.clone())).collect(),
            work: tokio::sync::Mutex::new(()),
            maps: Mutex::new(maps),
            fences: Mutex::new(fences),
            table: owners.table,
            slots: Mutex::new(slots),
            groups: owners.groups,
            links,
            routes: Routes::open().await?,
            nft,
            conntrack,
            untranslated: AtomicU64::new(0),
            htb,
            programs: Mutex::new(programs),
            cfg,
        })
    }

    /// Returns the slot of a group that was put.
    pub(crate) fn slot(&self, group: GroupId) -> Result<u8, DataplaneError> {
        lock(&self.slots).get(&group).copied().ok_or(DataplaneError::UnknownGroup(group))
    }

    pub(crate) fn set_fence(&self, group: GroupId, until: Tick) -> Result<(), DataplaneError> {
        let slot = u32::from(self.slot(group)?);
        lock(&self.fences).set(slot, until.as_ns(), 0).map_err(map_error("fences"))
    }

    pub(crate) fn fence(&self, group: GroupId) -> Tick {
        let Ok(slot) = self.slot(group) else { return Tick::ZERO };
        Tick::from_ns(lock(&self.fences).get(&u32::from(slot), 0).unwrap_or(0))
    }

    pub(crate) async fn put_group(&self, group: &GroupConfig) -> Result<(), DataplaneError> {
        let _working = self.work.lock().await;
        for name in self.interfaces() {
            if self.links.mac(name)? == group.vmac.0 {
                return Err(DataplaneError::VirtualMacInUse {
                    name: name.to_owned(),
                    vmac: group.vmac,
                });
            }
        }
        let vias = self.vias(group)?;
        let new = !lock(&self.slots).contains_key(&group.id);
        let slot = slot_of(&mut lock(&self.slots), group.id)?;
        if new {
            self.set_fence(group.id, Tick::ZERO)?;
        }
        self.write_group(slot, Some(group))?;
        let private = guard::networks([group]);
        guard::change(&mut lock(&self.maps), &BTreeSet::new(), &private)?;

        let old = lock(&self.groups).insert(group.id, group.clone());
        if let Some(old) = old {
            let gone: Vec<_> =
                old.gateways.iter().copied().filter(|g| !group.gateways.contains(g)).collect();
            let old_vias = self.vias(&old)?;
            let same = |a: &Via<'_>, b: &Via<'_>| {
                (a.pool.network, a.pool.prefix_len) == (b.pool.network, b.pool.prefix_len)
            };
            let gone_vias: Vec<_> =
                old_vias.into_iter().filter(|o| !vias.iter().any(|v| same(o, v))).collect();
            self.routes.remove(&gone, &gone_vias).await?;
            self.unguard(&old)?;
        }
        self.routes.put(group, &vias).await?;
        self.write_rules().await
    }

    pub(crate) async fn remove_group(&self, id: GroupId) -> Result<(), DataplaneError> {
        let _working = self.work.lock().await;
        let Ok(slot) = self.slot(id) else { return Ok(()) };
        self.set_fence(id, Tick::ZERO)?;
        self.write_group(slot, None)?;
        if !self.cfg.access.iter().any(|p| p.group == id) {
            lock(&self.slots).remove(&id);
        }
        let old = lock(&self.groups).remove(&id);
        if let Some(old) = old {
            self.routes.remove(&old.gateways, &self.vias(&old)?).await?;
            self.unguard(&old)?;
        }
        self.write_rules().await
    }

    /// Lets packets out untranslated again from networks that only a former group had with NAT.
    fn unguard(&self, old: &GroupConfig) -> Result<(), DataplaneError> {
        let private = guard::networks(lock(&self.groups).values());
        let gone = guard::networks([old]).difference(&private).copied().collect();
        guard::change(&mut lock(&self.maps), &gone, &BTreeSet::new())
    }

    async fn write_rules(&self) -> Result<(), DataplaneError> {
        let groups = lock(&self.groups).clone();
        self.nft.open(&self.cfg, &groups).await
    }

    /// Writes the group of a slot and its virtual MAC, or clears both.
    fn write_group(&self, slot: u8, group: Option<&GroupConfig>) -> Result<(), DataplaneError> {
        let mut maps = lock(&self.maps);
        let at = u32::from(slot);
        let key = |mac| VmacKey { mac, pad: [0; 2] };
        let old = maps.groups.get(&at, 0).map_err(map_error("group_info"))?;
        if old.known != 0 && group.is_none_or(|g| g.vmac.0 != old.vmac) {
            // Absent is what is wanted.
            let _ = maps.vmacs.remove(&key(old.vmac));
        }
        if let Some(group) = group {
            maps.vmacs.insert(key(group.vmac.0), at, 0).map_err(map_error("vmacs"))?;
        }
        let value = group.map_or_else(GroupValue::default, |g| GroupValue {
            vmac: g.vmac.0,
            known: 1,
            pad: 0,
            id: g.id.0,
        });
        maps.groups.set(at, value, 0).map_err(map_error("group_info"))
    }

    /// Returns the routes of a group and the interfaces they point at.
    pub(crate) fn vias<'a>(&self, group: &'a GroupConfig) -> Result<Vec<Via<'a>>, DataplaneError> {
        let via = |pool: &'a crate::config::PoolRoute| {
            let PortId(port) = pool.port;
            let name = self.access.get(&port).ok_or(DataplaneError::UnknownPort(port))?;
            Ok(Via { pool, interface: Links::index(name)? })
        };
        group.pools.iter().map(via).collect()
    }

    /// Attaches the tc programs that are not where they should be; returns how many.
    pub(crate) async fn repair_attachments(&self) -> Result<u64, DataplaneError> {
        let mut repaired = 0;
        for (interface, program, direction) in attachments(&self.cfg) {
            if !tc::is_attached(interface, program, direction).await? {
                lock(&self.programs).attach_tc(interface, program, direction)?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }

    fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.cfg.access.iter().map(|p| p.interface.as_str()).chain(self.cfg.core.as_deref())
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports { shaper: self.cfg.shaper, access: &self.access, core: self.cfg.core.as_deref() }
    }

    pub(crate) async fn apply(&self, changes: &[SessionChange]) -> Result<(), DataplaneError> {
        let _working = self.work.lock().await;
        for change in changes {
            if let SessionChange::Put(entry) = change {
                self.slot(entry.group)?;
            }
        }
        let steps = lock(&self.table).apply(changes)?;
        // Whatever a step leaves, it must not leave an untranslated path: a session opens after its
        // block and class are there, and closes before they go.
        self.remove_entries(&steps)?;
        let (old, new) = nft::touched(&steps);
        if let Err(first) = self.nft.change(&old, &new).await {
            tracing::warn!(error = %first, "NAT blocks differ from what was programmed; reading them");
            let held = self.nft.blocks().await?;
            let touched = |a: &std::net::Ipv4Addr| old.contains_key(a) || new.contains_key(a);
            let held = held.into_iter().filter(|(a, _)| touched(a)).collect();
            self.nft.change(&held, &new).await?;
        }
        let shaped = match self.htb {
            Some(htb) => {
                let mut script = String::new();
                for step in &steps {
                    htb.step(step, &self.ports(), &mut script);
                }
                Htb::run(&script).await
            }
            None => Ok(()),
        };
        self.conntrack.note(&steps);
        let (open, waiting) = self.conntrack.part(steps);
        self.put_entries(&open)?;
        if !waiting.is_empty() {
            self.conntrack.settled().await?;
            self.put_entries(&waiting)?;
        }
        shaped
    }

    fn remove_entries(&self, steps: &[Step]) -> Result<(), DataplaneError> {
        let mut maps = lock(&self.maps);
        for Step { before, after } in steps {
            let Some(before) = before else { continue };
            let after = after.as_ref().map(|p| p.entry);
            let key = abi::up_key(&before.entry);
            if after.is_none_or(|e| abi::up_key(&e) != key) {
                absent_is_fine(maps.up.remove(&key)).map_err(map_error("sessions_up"))?;
            }
            if after.is_none_or(|e| e.address != before.entry.address) {
                absent_is_fine(maps.down.remove(&before.entry.address.octets()))
                    .map_err(map_error("sessions_down"))?;
            }
            if after.is_none() {
                absent_is_fine(maps.bases.remove(&before.index))
                    .map_err(map_error("counter_bases"))?;
            }
        }
        Ok(())
    }

    fn put_entries(&self, steps: &[Step]) -> Result<(), DataplaneError> {
        for step in steps {
            let Some(after) = step.after else { continue };
            if step.before.is_none() {
                self.clear_flows(after.index)?;
            }
            let slot = self.slot(after.entry.group)?;
            let r = abi::records(&after, slot, self.cfg.shaper);
            let mut maps = lock(&self.maps);
            maps.down.insert(r.down_key, r.down, 0).map_err(map_error("sessions_down"))?;
            maps.up.insert(r.up_key, r.up, 0).map_err(map_error("sessions_up"))?;
        }
        Ok(())
    }

    /// Zeroes the counters of an index that a new session takes.
    pub(crate) fn clear_flows(&self, index: u32) -> Result<(), DataplaneError> {
        let mut maps = lock(&self.maps);
        absent_is_fine(maps.bases.remove(&index)).map_err(map_error("counter_bases"))?;
        maps.flows.set(index, Flows::default(), 0).map_err(map_error("session_flows"))
    }

    pub(crate) async fn reconcile(
        &self,
        desired: &[SessionEntry],
    ) -> Result<Drift, DataplaneError> {
        let mut drift = {
            let _working = self.work.lock().await;
            reconcile::run(self, desired).await?
        };
        drift.stale += self.conntrack.audit().await;
        Ok(drift)
    }

    pub(crate) fn counters(&self, id: SessionId) -> Option<Counters> {
        let index = lock(&self.table).get(id)?.index;
        let maps = lock(&self.maps);
        Some(own(&maps, index).plus(base(&maps, index)))
    }

    pub(crate) fn all_counters(&self) -> Vec<(SessionId, Counters)> {
        let placed: Vec<_> = lock(&self.table).iter().map(|p| (p.entry.id, p.index)).collect();
        let mut all = Vec::with_capacity(placed.len());
        // Programming goes on between two parts.
        for part in placed.chunks(COUNTERS_AT_ONCE) {
            let maps = lock(&self.maps);
            let total = |index| own(&maps, index).plus(base(&maps, index));
            all.extend(part.iter().map(|(id, index)| (*id, total(*index))));
        }
        all
    }

    pub(crate) fn raise_counter_base(&self, id: SessionId, by: Counters) -> bool {
        let Some(index) = lock(&self.table).get(id).map(|p| p.index) else { return false };
        let mut maps = lock(&self.maps);
        let new = base(&maps, index).plus(by);
        let value = BaseValue {
            bytes_up: new.bytes_up,
            packets_up: new.packets_up,
            bytes_down: new.bytes_down,
            packets_down: new.packets_down,
            dropped_up: new.dropped_up,
            dropped_down: new.dropped_down,
        };
        match maps.bases.insert(index, value, 0) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!(session = id.0, error = %e, "the counter base was not stored");
                false
            }
        }
    }

    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let mut drops = lock(&self.maps).drops();
        let by_rules = self.untranslated.load(Ordering::Relaxed);
        for (_, n) in drops.iter_mut().filter(|(reason, _)| *reason == abi::UNTRANSLATED) {
            *n += by_rules;
        }
        drops
    }

    pub(crate) fn carrier(&self) -> Vec<(String, bool)> {
        self.interfaces().map(|name| (name.to_owned(), self.links.carrier(name))).collect()
    }

    pub(crate) async fn purge(self) -> Result<(), DataplaneError> {
        let groups: Vec<GroupConfig> = lock(&self.groups).values().cloned().collect();
        let mut results = Vec::new();
        for group in &groups {
            let removed = async {
                self.set_fence(group.id, Tick::ZERO)?;
                self.routes.remove(&group.gateways, &self.vias(group)?).await
            };
            results.push(removed.await);
        }
        results.push(self.nft.purge().await);
        let mut script = String::new();
        for name in self.interfaces() {
            if self.htb.is_some() {
                script.push_str(&format!("qdisc del dev {name} root\n"));
            }
            script.push_str(&format!("qdisc del dev {name} clsact\n"));
            results.push(self.links.restore(name));
        }
        results.push(Htb::run(&script).await);
        // Removing the last pin of an XDP link detaches it.
        results.push(
            ebpf::remove_pins(&self.cfg.pin_dir)
                .map_err(|source| DataplaneError::BpfFs { path: self.cfg.pin_dir.clone(), source }),
        );
        results.into_iter().collect()
    }
}

/// Turns "no such entry" into success.
pub(crate) fn absent_is_fine(
    result: Result<(), aya::maps::MapError>,
) -> Result<(), aya::maps::MapError> {
    match result {
        Err(aya::maps::MapError::KeyNotFound) => Ok(()),
        Err(aya::maps::MapError::SyscallError(e))
            if e.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn own(maps: &Maps, index: u32) -> Counters {
    let Flows { up, down } = maps.flows.get(&index, 0).unwrap_or_default();
    let Flow { packets: packets_up, bytes: bytes_up, dropped: dropped_up, .. } = up;
    let Flow { packets: packets_down, bytes: bytes_down, dropped: dropped_down, .. } = down;
    Counters { bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down }
}

fn base(maps: &Maps, index: u32) -> Counters {
    let b = maps.bases.get(&index, 0).unwrap_or_default();
    Counters {
        bytes_up: b.bytes_up,
        packets_up: b.packets_up,
        bytes_down: b.bytes_down,
        packets_down: b.packets_down,
        dropped_up: b.dropped_up,
        dropped_down: b.dropped_down,
    }
}

/// Returns the tc programs of a configuration: interface, program, direction.
fn attachments(cfg: &Config) -> Vec<(&str, &'static str, TcAttachType)> {
    let both = |interface, egress, ingress| {
        [(interface, egress, TcAttachType::Egress), (interface, ingress, TcAttachType::Ingress)]
    };
    let access = cfg.access.iter().map(|p| both(&*p.interface, "access_egress", "access_ingress"));
    let core = cfg.core.iter().map(|c| both(&**c, "core_egress", "core_ingress"));
    access.chain(core).flatten().collect()
}

async fn open_shaper(cfg: &Config) -> Result<Option<Htb>, DataplaneError> {
    let access = cfg.access.iter().map(|p| p.interface.as_str());
    let interfaces: Vec<&str> = access.chain(cfg.core.as_deref()).collect();
    match cfg.shaper {
        Shaper::Htb => Htb::open(&interfaces).await.map(Some),
        Shaper::Policer => Htb::remove(&interfaces).await.map(|()| None),
    }
}

/// Returns the slots of the groups that a former process put.
fn restore_slots(maps: &Maps) -> Result<BTreeMap<GroupId, u8>, DataplaneError> {
    let mut slots = BTreeMap::new();
    for slot in 0..u8::try_from(GROUPS_MAX).unwrap_or(u8::MAX) {
        let group = maps.groups.get(&u32::from(slot), 0).map_err(map_error("group_info"))?;
        if group.known != 0 {
            slots.insert(GroupId(group.id), slot);
        }
    }
    Ok(slots)
}

/// Returns the slot of a group, the lowest free one for a new group.
fn slot_of(slots: &mut BTreeMap<GroupId, u8>, group: GroupId) -> Result<u8, DataplaneError> {
    if let Some(&slot) = slots.get(&group) {
        return Ok(slot);
    }
    let max = u8::try_from(GROUPS_MAX).unwrap_or(u8::MAX);
    let slot = (0..max)
        .find(|slot| !slots.values().any(|used| used == slot))
        .ok_or(DataplaneError::TooManyGroups { group, max: GROUPS_MAX })?;
    slots.insert(group, slot);
    Ok(slot)
}

/// Writes the access ports, and removes those of a former configuration.
fn write_ports(
    cfg: &Config,
    slots: &BTreeMap<GroupId, u8>,
    maps: &mut Maps,
) -> Result<(), DataplaneError> {
    let mut wanted = BTreeMap::new();
    for access in &cfg.access {
        let slot = slots.get(&access.group).copied();
        let slot = slot.ok_or(DataplaneError::UnknownGroup(access.group))?;
        let value = PortValue { port: access.port.0, slot, pad: 0 };
        wanted.insert(Links::index(&access.interface)?, value);
    }
    let old: Vec<u32> = maps.ports.keys().collect::<Result<_, _>>().map_err(map_error("ports"))?;
    for index in old.into_iter().filter(|index| !wanted.contains_key(index)) {
        absent_is_fine(maps.ports.remove(&index)).map_err(map_error("ports"))?;
    }
    for (index, value) in wanted {
        maps.ports.insert(index, value, 0).map_err(map_error("ports"))?;
    }
    Ok(())
}

/// Rebuilds the session table from the maps and NAT blocks of a former process. Sessions of groups
/// that no longer exist are left for the reconciler, which finds them in the maps.
fn restore_table(
    maps: &Maps,
    slots: &BTreeMap<GroupId, u8>,
    blocks: &nft::Blocks,
) -> Result<Table, DataplaneError> {
    let groups: BTreeMap<u8, GroupId> = slots.iter().map(|(&g, &s)| (s, g)).collect();
    let mut found: Vec<Placed> = Vec::new();
    for item in maps.down.iter() {
        let (address, down) = item.map_err(map_error("sessions_down"))?;
        let Some(&group) = groups.get(&down.slot) else { continue };
        let mut placed = abi::placed(address, &down, group);
        if let Ok(up) = maps.up.get(&abi::up_key(&placed.entry), 0) {
            placed.entry.rate.up_bps = up.rate_bps;
        }
        placed.entry.nat = blocks.get(&placed.entry.address).copied();
        found.push(placed);
    }
    Ok(Table::restore(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_the_lowest_free_slot_and_no_more_than_there_are() {
        let mut slots = BTreeMap::from([(GroupId(1), 0), (GroupId(2), 2)]);
        assert_eq!(slot_of(&mut slots, GroupId(3)).unwrap(), 1);
        assert_eq!(slot_of(&mut slots, GroupId(2)).unwrap(), 2);
        for id in 4..=64 {
            slot_of(&mut slots, GroupId(id)).unwrap();
        }
        let refused = slot_of(&mut slots, GroupId(65));
        assert!(matches!(refused, Err(DataplaneError::TooManyGroups { max: 64, .. })));
    }
}
