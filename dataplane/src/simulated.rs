use crate::config::{Counters, Drift, GroupConfig, SessionChange, SessionEntry};
use crate::error::DataplaneError;
use crate::policy::{self, BanTable};
use crate::table::Table;
use model::{Ban, GroupId, SessionId, Tick};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A data plane without a kernel: it remembers what it is told and forwards nothing.
#[derive(Debug, Default)]
pub(crate) struct Simulated {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: BTreeMap<GroupId, GroupConfig>,
    fences: BTreeMap<GroupId, Tick>,
    table: Table,
    bases: BTreeMap<SessionId, Counters>,
    bans: BanTable,
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put_group(&self, group: &GroupConfig) {
        let mut state = self.lock();
        state.fences.entry(group.id).or_default();
        state.groups.insert(group.id, group.clone());
    }

    pub(crate) fn remove_group(&self, id: GroupId) {
        let mut state = self.lock();
        state.groups.remove(&id);
        state.fences.remove(&id);
    }

    pub(crate) fn set_fence(&self, group: GroupId, until: Tick) -> Result<(), DataplaneError> {
        match self.lock().fences.get_mut(&group) {
            Some(fence) => {
                *fence = until;
                Ok(())
            }
            None => Err(DataplaneError::UnknownGroup(group)),
        }
    }

    pub(crate) fn fence(&self, group: GroupId) -> Tick {
        self.lock().fences.get(&group).copied().unwrap_or_default()
    }

    pub(crate) fn apply(&self, changes: &[SessionChange]) -> Result<(), DataplaneError> {
        let mut state = self.lock();
        for step in state.table.apply(changes)? {
            if let (Some(before), None) = (step.before, step.after) {
                state.bases.remove(&before.entry.id);
            }
        }
        Ok(())
    }

    pub(crate) fn reconcile(&self, desired: &[SessionEntry]) -> Result<Drift, DataplaneError> {
        let mut state = self.lock();
        let plan = Changes::towards(&state.table, desired);
        for step in state.table.apply(&plan.changes)? {
            if let (Some(before), None) = (step.before, step.after) {
                state.bases.remove(&before.entry.id);
            }
        }
        Ok(plan.drift)
    }

    pub(crate) fn set_bans(&self, bans: &[Ban]) -> Drift {
        let wanted = policy::table(bans);
        let mut state = self.lock();
        let drift = policy::drift(&state.bans, &wanted);
        state.bans = wanted;
        drift
    }

    pub(crate) fn counters(&self, id: SessionId) -> Option<Counters> {
        let state = self.lock();
        state.table.get(id)?;
        Some(state.bases.get(&id).copied().unwrap_or_default())
    }

    pub(crate) fn all_counters(&self) -> Vec<(SessionId, Counters)> {
        let state = self.lock();
        let base = |id| state.bases.get(&id).copied().unwrap_or_default();
        state.table.iter().map(|p| (p.entry.id, base(p.entry.id))).collect()
    }

    pub(crate) fn raise_counter_base(&self, id: SessionId, by: Counters) -> bool {
        let mut state = self.lock();
        let known = state.table.get(id).is_some();
        if known {
            let base = state.bases.entry(id).or_default();
            *base = base.plus(by);
        }
        known
    }
}

/// The changes that turn a table into what is desired.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) changes: Vec<SessionChange>,
    pub(crate) drift: Drift,
}

impl Changes {
    pub(crate) fn towards(table: &Table, desired: &[SessionEntry]) -> Self {
        let wanted: BTreeMap<SessionId, &SessionEntry> =
            desired.iter().map(|e| (e.id, e)).collect();
        let mut drift = Drift::default();
        let mut changes = Vec::new();
        for placed in table.iter() {
            if !wanted.contains_key(&placed.entry.id) {
                drift.stale += 1;
                changes.push(SessionChange::Remove(placed.entry));
            }
        }
        for (&id, &entry) in &wanted {
            match table.get(id) {
                Some(placed) if placed.entry == *entry => continue,
                Some(_) => drift.changed += 1,
                None => drift.missing += 1,
            }
            changes.push(SessionChange::Put(*entry));
        }
        Self { changes, drift }
    }
}
