//! Sources in an IPoE network that are no session: they wait for an operator to let them in.
//!
//! The list lives on the owner, where the frames are, and is made anew by the next one. It is bounded for
//! each line and in all, so that whoever forges sources only pushes out others of the same line.

use model::{Attachment, GroupId, Line, Tick, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sources of one group.
const WAITING_MAX: usize = 4096;
/// Sources of one line.
const WAITING_PER_LINE_MAX: usize = 256;
/// A source that was silent for this long waits no more.
const FORGET_AFTER: Duration = Duration::from_secs(1800);

/// A source that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its address.
    pub address: Ipv4Addr,
    /// Where it was heard last.
    pub attachment: Attachment,
    /// When it was heard first.
    pub first_seen: UnixMs,
    /// When it was heard last.
    pub last_seen: UnixMs,
}

/// The waiting sources of all groups that this node serves.
#[derive(Debug, Default)]
pub struct WaitingList(Mutex<BTreeMap<GroupId, Sources>>);

#[derive(Debug, Default)]
struct Sources {
    by_address: BTreeMap<Ipv4Addr, Entry>,
    /// Of each line, in the order in which they were heard last.
    by_line: BTreeMap<Line, BTreeSet<(u64, Ipv4Addr)>>,
    by_age: BTreeSet<(u64, Ipv4Addr)>,
    heard: u64,
}

#[derive(Debug)]
struct Entry {
    source: Waiting,
    /// Orders the entries: two may be heard in one millisecond.
    heard: u64,
    at: Tick,
}

impl WaitingList {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Sources>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a source was heard.
    pub fn note(
        &self,
        group: GroupId,
        address: Ipv4Addr,
        from: Attachment,
        now: Tick,
        wall: UnixMs,
    ) {
        let mut groups = self.lock();
        let sources = groups.entry(group).or_default();
        sources.forget_old(now);
        sources.note(address, from, now, wall);
    }

    /// Takes a source off the list: it has a session now.
    pub fn forget(&self, group: GroupId, address: Ipv4Addr) {
        if let Some(sources) = self.lock().get_mut(&group) {
            sources.remove(address);
        }
    }

    /// Empties the list of a group: another node hears its sources now.
    pub fn clear(&self, group: GroupId) {
        self.lock().remove(&group);
    }

    /// The sources of a group, by address.
    #[must_use]
    pub fn list(&self, group: GroupId, now: Tick) -> Vec<Waiting> {
        let mut groups = self.lock();
        let Some(sources) = groups.get_mut(&group) else { return Vec::new() };
        sources.forget_old(now);
        sources.by_address.values().map(|entry| entry.source).collect()
    }

    /// How many sources of a group wait.
    #[must_use]
    pub fn len(&self, group: GroupId) -> usize {
        self.lock().get(&group).map_or(0, |sources| sources.by_address.len())
    }
}

impl Sources {
    fn note(&mut self, address: Ipv4Addr, from: Attachment, now: Tick, wall: UnixMs) {
        let first_seen = self.remove(address).map_or(wall, |entry| entry.source.first_seen);
        let line = from.line();
        if self.by_line.get(&line).is_some_and(|line| line.len() >= WAITING_PER_LINE_MAX) {
            self.drop_oldest_of(line);
        } else if self.by_address.len() >= WAITING_MAX {
            // The fullest line pays: a flood stays where it comes from.
            let fullest = self.by_line.iter().max_by_key(|(_, sources)| sources.len());
            if let Some(fullest) = fullest.map(|(line, _)| *line) {
                self.drop_oldest_of(fullest);
            }
        }
        self.heard += 1;
        let heard = self.heard;
        let source = Waiting { address, attachment: from, first_seen, last_seen: wall };
        self.by_address.insert(address, Entry { source, heard, at: now });
        self.by_line.entry(line).or_default().insert((heard, address));
        self.by_age.insert((heard, address));
    }

    fn remove(&mut self, address: Ipv4Addr) -> Option<Entry> {
        let entry = self.by_address.remove(&address)?;
        let line = entry.source.attachment.line();
        if let Some(sources) = self.by_line.get_mut(&line) {
            sources.remove(&(entry.heard, address));
            if sources.is_empty() {
                self.by_line.remove(&line);
            }
        }
        self.by_age.remove(&(entry.heard, address));
        Some(entry)
    }

    fn drop_oldest_of(&mut self, line: Line) {
        let oldest = self.by_line.get(&line).and_then(BTreeSet::first).map(|&(_, address)| address);
        if let Some(address) = oldest {
            self.remove(address);
        }
    }

    fn forget_old(&mut self, now: Tick) {
        while let Some(&(_, address)) = self.by_age.first() {
            let old = self.by_address.get(&address).is_none_or(|e| now.since(e.at) >= FORGET_AFTER);
            if !old {
                return;
            }
            self.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MacAddr, PortId, Vlans};

    const GROUP: GroupId = GroupId(1);

    fn from(vlan: u16) -> Attachment {
        let vlans = Vlans { outer: vlan, inner: 0 };
        Attachment { port: PortId(1), vlans, mac: MacAddr([2, 0, 0, 0, 0, 9]) }
    }

    fn address(n: usize) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap())
    }

    fn note(list: &WaitingList, n: usize, vlan: u16, ms: u64) {
        list.note(GROUP, address(n), from(vlan), Tick::from_ms(ms), UnixMs(1_000_000 + ms));
    }

    #[test]
    fn a_source_waits_once_with_its_first_and_last_time_and_its_last_place() {
        let list = WaitingList::default();
        note(&list, 1, 7, 10);
        note(&list, 1, 8, 20);
        let want = Waiting {
            address: address(1),
            attachment: from(8),
            first_seen: UnixMs(1_000_010),
            last_seen: UnixMs(1_000_020),
        };
        assert_eq!(list.list(GROUP, Tick::from_ms(30)), [want]);
        list.forget(GROUP, address(1));
        assert_eq!(list.list(GROUP, Tick::from_ms(30)), []);
        note(&list, 1, 8, 40);
        assert_eq!(list.list(GROUP, Tick::from_ms(40))[0].first_seen, UnixMs(1_000_040));
        list.clear(GROUP);
        assert_eq!(list.len(GROUP), 0);
    }

    #[test]
    fn who_is_silent_for_half_an_hour_waits_no_more() {
        let list = WaitingList::default();
        note(&list, 1, 7, 0);
        note(&list, 2, 7, 0);
        note(&list, 1, 7, 1_000);
        let at = |ms| list.list(GROUP, Tick::from_ms(ms)).len();
        assert_eq!(at(1_799_999), 2);
        assert_eq!(at(1_800_000), 1);
        assert_eq!(at(1_801_000), 0);
    }

    #[test]
    fn a_flood_on_one_line_pushes_out_only_its_own() {
        let list = WaitingList::default();
        note(&list, 0, 7, 0);
        for n in 1..10_000 {
            note(&list, n, 8, 1);
        }
        let waiting = list.list(GROUP, Tick::from_ms(1));
        assert_eq!(waiting.len(), 1 + WAITING_PER_LINE_MAX);
        assert_eq!(waiting[0].address, address(0));
        assert_eq!(waiting.last().map(|w| w.address), Some(address(9_999)), "the newest stay");
    }

    #[test]
    fn many_lines_together_stay_under_the_bound_of_the_group() {
        let list = WaitingList::default();
        let mut n = 0;
        for vlan in 1..40 {
            for _ in 0..WAITING_PER_LINE_MAX {
                n += 1;
                note(&list, n, vlan, 1);
            }
        }
        assert_eq!(list.len(GROUP), WAITING_MAX);
        note(&list, 1_000_000, 99, 2);
        assert_eq!(list.len(GROUP), WAITING_MAX);
        let waiting = list.list(GROUP, Tick::from_ms(2));
        assert!(waiting.iter().any(|w| w.attachment == from(99)), "a quiet line has its place");
    }
}
