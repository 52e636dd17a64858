//! Raft and the quorum lease, reduced to what they promise: who owns the group, and until when.
//!
//! The lease protocol itself is simulated elsewhere; here it is a single voter that never fails.

use model::Tick;
use std::time::Duration;

/// How long a promise holds, as in profile `default`.
pub const LEASE: Duration = Duration::from_millis(200);
/// What the owner stays away from the end of the promise.
pub const MARGIN: Duration = Duration::from_millis(10);
/// Time between renewals.
pub(super) const RENEW: Duration = Duration::from_millis(25);
/// Renewals missing before a director with [`super::Bug::EarlyTakeover`] loses patience.
const IMPATIENCE: Duration = Duration::from_millis(60);

/// The voters' memory.
#[derive(Clone, Debug)]
pub(super) struct Director {
    owner: Option<usize>,
    promised_until: Tick,
    heard_at: Tick,
    /// An `Acquire` is on its way.
    choosing: bool,
    impatient: bool,
}

impl Director {
    pub(super) fn new(impatient: bool) -> Self {
        Self {
            owner: None,
            promised_until: Tick::ZERO,
            heard_at: Tick::ZERO,
            choosing: false,
            impatient,
        }
    }

    pub(super) fn owner(&self) -> Option<usize> {
        self.owner
    }

    /// A renewal of `node` has arrived: whether it is acknowledged.
    pub(super) fn renew(&mut self, node: usize, now: Tick) -> bool {
        let granted = self.owner == Some(node) && !self.choosing;
        if granted {
            self.promised_until = now + LEASE;
            self.heard_at = now;
        }
        granted
    }

    /// Whether it is time to choose another owner. From then on the old one is refused.
    pub(super) fn should_choose(&mut self, now: Tick) -> bool {
        let lapsed = now >= self.promised_until
            || (self.impatient && now.since(self.heard_at) >= IMPATIENCE);
        let choose = lapsed && !self.choosing;
        if choose {
            self.owner = None;
        }
        choose
    }

    pub(super) fn chose(&mut self) {
        self.choosing = true;
    }

    /// The owner has released, its fence is shut: the promise is void.
    pub(super) fn released(&mut self) {
        self.owner = None;
        self.promised_until = Tick::ZERO;
        self.choosing = true;
    }

    /// `Acquire` is committed and the first renewal of `node` acknowledged.
    pub(super) fn acquired(&mut self, node: usize, now: Tick) {
        self.owner = Some(node);
        self.promised_until = now + LEASE;
        self.heard_at = now;
        self.choosing = false;
    }

    /// The chosen node could not take it after all.
    pub(super) fn declined(&mut self) {
        self.choosing = false;
    }
}
