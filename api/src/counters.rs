//! How often callers were let in and turned away.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of logins and of requests without the right to be made, since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessCounts {
    /// Logins that ended with tokens.
    pub logins_succeeded: u64,
    /// Logins with a wrong name, password or code.
    pub logins_failed: u64,
    /// Logins that were not looked at, because too many before had failed.
    pub logins_locked: u64,
    /// Requests without a valid credential.
    pub unauthorized: u64,
    /// Requests of a valid caller without the permission.
    pub forbidden: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) logins_succeeded: Counter,
    pub(crate) logins_failed: Counter,
    pub(crate) logins_locked: Counter,
    pub(crate) unauthorized: Counter,
    pub(crate) forbidden: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn counts(&self) -> AccessCounts {
        AccessCounts {
            logins_succeeded: self.logins_succeeded.get(),
            logins_failed: self.logins_failed.get(),
            logins_locked: self.logins_locked.get(),
            unauthorized: self.unauthorized.get(),
            forbidden: self.forbidden.get(),
        }
    }
}
