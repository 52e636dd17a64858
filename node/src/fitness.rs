//! Whether this node should own groups, and giving them up when it should not.
//!
//! A node is the first to know that nobody can be served through it. It gives its groups up by
//! itself, so that the leader need not wait for a lease to run out, and says no when it is asked to
//! take one.

use crate::clock;
use crate::ownership::Manager;
use crate::peer::Local;
use model::{Epoch, GroupId, Tick};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, info, warn};

/// What keeps a node from owning groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An access or core interface has no carrier.
    Carrier,
    /// The disk under the log is slower than its bound.
    Disk,
    /// The kernel refuses the replicated state, or cannot be compared with it.
    Kernel,
}

impl Fault {
    /// All of them, in the order of the metrics.
    pub const ALL: [Self; 3] = [Self::Carrier, Self::Disk, Self::Kernel];

    /// The stable name, as in metrics and logs.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Disk => "disk",
            Self::Kernel => "kernel",
        }
    }

    /// Whether a node with this fault serves nobody, so that a group is no better off with it than
    /// without an owner.
    ///
    /// With a slow disk or a kernel that refuses a change, the sessions that are there go on. Such a
    /// fault may strike all data nodes at once (shared storage, an entry that every kernel refuses),
    /// and then one of them must serve.
    #[must_use]
    pub fn serves_nobody(self) -> bool {
        match self {
            Self::Carrier => true,
            Self::Disk | Self::Kernel => false,
        }
    }
}

/// The faults that last, each with words for people.
pub type Faults = BTreeMap<Fault, String>;

/// Shared by those who find faults and those who ask for them.
#[derive(Clone, Debug, Default)]
pub struct Fitness {
    faults: watch::Sender<Faults>,
}

impl Fitness {
    /// Begins or ends a fault; returns whether that is news.
    pub fn set(&self, fault: Fault, words: Option<String>) -> bool {
        self.faults.send_if_modified(|faults| {
            let had = faults.contains_key(&fault);
            match words {
                Some(words) => {
                    faults.entry(fault).or_insert(words);
                }
                None => {
                    faults.remove(&fault);
                }
            }
            faults.contains_key(&fault) != had
        })
    }

    /// Whether the fault lasts.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.borrow().contains_key(&fault)
    }

    /// Why this node would not take a group; `None` when it would.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        let faults = self.faults.borrow();
        (!faults.is_empty()).then(|| words(&faults))
    }

    /// Whether this node would serve a group when no other node is better.
    #[must_use]
    pub fn last_resort(&self) -> bool {
        !self.faults.borrow().keys().any(|f| f.serves_nobody())
    }

    /// The faults and their changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }
}

fn words(faults: &Faults) -> String {
    faults.values().map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// Decides what to give up.
#[derive(Debug, Default)]
struct GiveUp {
    known: BTreeSet<Fault>,
}

impl GiveUp {
    /// The groups to give up now.
    ///
    /// A fault gives up what is open when it begins. What opens later came as a last resort and
    /// stays, unless it serves nobody here.
    fn step(&mut self, faults: &Faults, open: &BTreeMap<GroupId, Epoch>) -> Vec<GroupId> {
        let now: BTreeSet<Fault> = faults.keys().copied().collect();
        let begun = now.difference(&self.known).next().is_some();
        let useless = now.iter().any(|f| f.serves_nobody());
        self.known = now;
        if begun || useless { open.keys().copied().collect() } else { Vec::new() }
    }
}

/// Gives groups up when a fault begins; while one lasts, asks for a better owner from time to time.
pub async fn watch(local: Local, manager: Manager) {
    /// Between two requests to move what this node holds as a last resort.
    const ASK_AGAIN: Duration = Duration::from_secs(5);
    let mut faults = local.fitness.subscribe();
    let mut lease = local.lease.status();
    let mut give_up = GiveUp::default();
    let mut ask_at: Option<Tick> = None;
    loop {
        let now_faults = faults.borrow_and_update().clone();
        let open = lease.borrow_and_update().open.clone();
        for group in give_up.step(&now_faults, &open) {
            let why = words(&now_faults);
            warn!(event = "TANDEM-GROUP-GIVEN-UP", %group, why, "giving the group up");
            local.lease.release(group);
        }
        if now_faults.is_empty() || open.is_empty() {
            ask_at = None;
        } else {
            ask_at = ask_at.or_else(|| Some(clock::now() + ASK_AGAIN));
        }
        tokio::select! {
            r = faults.changed() => if r.is_err() { return },
            r = lease.changed() => if r.is_err() { return },
            () = clock::until(ask_at) => {
                ask_at = None;
                for group in open.into_keys() {
                    match manager.move_away(group).await {
                        Ok(moved) => info!(%group, to = %moved.to, "a better owner was found"),
                        Err(error) => debug!(%group, error, "no better owner"),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(of: &[Fault]) -> Faults {
        of.iter().map(|f| (*f, f.label().to_owned())).collect()
    }

    #[test]
    fn a_fault_gives_up_what_is_open_once_and_what_serves_nobody_always() {
        use Fault::{Carrier, Disk, Kernel};
        let nothing: BTreeMap<GroupId, Epoch> = BTreeMap::new();
        let one: BTreeMap<GroupId, Epoch> = [(GroupId(1), Epoch(3))].into();
        // faults, what is open, whether it is given up
        type Row<'a> = (&'a [Fault], &'a BTreeMap<GroupId, Epoch>, bool, &'a str);
        let rows: &[Row<'_>] = &[
            (&[], &one, false, "fit"),
            (&[Disk], &one, true, "the disk became slow"),
            (&[Disk], &nothing, false, "given up"),
            (&[Disk], &one, false, "came back as a last resort"),
            (&[Disk, Kernel], &one, true, "another fault"),
            (&[Disk, Kernel], &one, false, "and back once more"),
            (&[], &one, false, "fit again"),
            (&[Kernel], &one, true, "a new episode"),
            (&[Carrier], &one, true, "the cable is out"),
            (&[Carrier], &one, true, "an Acquire that was on its way"),
        ];
        let mut give_up = GiveUp::default();
        for (of, open, want, what) in rows {
            let got = give_up.step(&faults(of), open);
            assert_eq!(!got.is_empty(), *want, "{what}");
        }
    }

    #[test]
    fn a_node_says_all_that_is_wrong_with_it_and_whether_it_could_serve_at_all() {
        let fitness = Fitness::default();
        assert_eq!(fitness.refusal(), None);
        assert!(fitness.set(Fault::Disk, Some("the disk is slow".into())));
        assert!(!fitness.set(Fault::Disk, Some("still".into())), "no news");
        assert!(fitness.last_resort());
        assert!(fitness.set(Fault::Carrier, Some("no carrier".into())));
        assert!(!fitness.last_resort());
        assert_eq!(fitness.refusal().as_deref(), Some("no carrier; the disk is slow"));
        assert!(fitness.set(Fault::Carrier, None));
        assert!(fitness.set(Fault::Disk, None));
        assert_eq!(fitness.refusal(), None);
    }
}
