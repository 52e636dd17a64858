use crate::config::{SessionChange, SessionEntry};
use crate::error::DataplaneError;
use model::SessionId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;

/// Sessions per node; the size of the kernel's session maps.
pub(crate) const SESSIONS_MAX: u32 = 131_072;
/// A freed index rests until this many are free: packets that carry it in their mark are long gone then.
const INDEX_REST: usize = 256;

/// A session and its index in the kernel's arrays; also the minor number of its HTB classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) entry: SessionEntry,
    pub(crate) index: u32,
}

/// What a change did to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) before: Option<Placed>,
    pub(crate) after: Option<Placed>,
}

/// The sessions that this node has programmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    sessions: BTreeMap<SessionId, Placed>,
    by_address: BTreeMap<Ipv4Addr, SessionId>,
    free: VecDeque<u32>,
    last_index: u32,
}

impl Table {
    /// Rebuilds the table from what a former process programmed.
    pub(crate) fn restore(found: impl IntoIterator<Item = Placed>) -> Self {
        let mut table = Self::default();
        let mut used = BTreeSet::new();
        for placed in found {
            if used.insert(placed.index) {
                table.by_address.insert(placed.entry.address, placed.entry.id);
                table.sessions.insert(placed.entry.id, placed);
                table.last_index = table.last_index.max(placed.index);
            }
        }
        table.free = (1..table.last_index).filter(|i| !used.contains(i)).collect();
        table
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Placed> {
        self.sessions.get(&id)
    }

    /// Returns the session that has an address.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Option<&Placed> {
        self.get(*self.by_address.get(&address)?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Placed> {
        self.sessions.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Applies changes in order and returns, for each session touched, what it was and is.
    ///
    /// # Errors
    /// [`DataplaneError::TooManySessions`]; the table is then unchanged. Indices that the same batch
    /// frees do not count as room.
    pub(crate) fn apply(&mut self, changes: &[SessionChange]) -> Result<Vec<Step>, DataplaneError> {
        self.check_room(changes)?;
        let mut before: BTreeMap<SessionId, Option<Placed>> = BTreeMap::new();
        for change in changes {
            let entry = match change {
                SessionChange::Put(entry) | SessionChange::Remove(entry) => entry,
            };
            before.entry(entry.id).or_insert_with(|| self.sessions.get(&entry.id).copied());
            if matches!(change, SessionChange::Remove(_)) {
                self.remove(entry.id);
                continue;
            }
            if let Some(other) = self.holder_of(entry) {
                before.entry(other).or_insert_with(|| self.sessions.get(&other).copied());
                self.remove(other);
            }
            self.put(*entry)?;
        }
        Ok(before
            .into_iter()
            .map(|(id, before)| Step { before, after: self.sessions.get(&id).copied() })
            .filter(|step| step.before.is_some() || step.after.is_some())
            .collect())
    }

    fn check_room(&self, changes: &[SessionChange]) -> Result<(), DataplaneError> {
        let fresh = usize::try_from(SESSIONS_MAX - 1 - self.last_index).unwrap_or(0);
        let room = self.free.len() + fresh;
        let mut new = BTreeSet::new();
        for change in changes {
            if let SessionChange::Put(entry) = change
                && !self.sessions.contains_key(&entry.id)
                && new.insert(entry.id)
                && new.len() > room
            {
                return Err(Self::full(entry.id));
            }
        }
        Ok(())
    }

    fn full(session: SessionId) -> DataplaneError {
        DataplaneError::TooManySessions { session, max: SESSIONS_MAX - 1 }
    }

    /// Another session that has the address of `entry` and must give way.
    fn holder_of(&self, entry: &SessionEntry) -> Option<SessionId> {
        self.by_address.get(&entry.address).copied().filter(|&id| id != entry.id)
    }

    fn put(&mut self, entry: SessionEntry) -> Result<(), DataplaneError> {
        let index = match self.sessions.get(&entry.id) {
            Some(old) => {
                self.by_address.remove(&old.entry.address);
                old.index
            }
            None => self.allocate().ok_or_else(|| Self::full(entry.id))?,
        };
        self.by_address.insert(entry.address, entry.id);
        self.sessions.insert(entry.id, Placed { entry, index });
        Ok(())
    }

    fn remove(&mut self, id: SessionId) {
        if let Some(old) = self.sessions.remove(&id) {
            self.by_address.remove(&old.entry.address);
            self.free.push_back(old.index);
        }
    }

    /// Index 0 means "no session", so the first is 1.
    fn allocate(&mut self) -> Option<u32> {
        if self.free.len() <= INDEX_REST && self.last_index + 1 < SESSIONS_MAX {
            self.last_index += 1;
            return Some(self.last_index);
        }
        self.free.pop_front()
    }
}

#[cfg(test)]
mod tests;
