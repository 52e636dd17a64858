//! What nodes tell each other of packet counters.

use dataplane::Counters;
use model::{Epoch, GroupId, Revision, SessionId};
use serde::{Deserialize, Serialize};

/// Records of one frame: some 50 octets each in JSON.
pub const RECORDS_MAX: usize = 1000;

/// What one session has carried since it began: session id, octets up, packets up, octets down, packets down,
/// dropped up, dropped down. An array, since frames hold a thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record([u64; 7]);

impl Record {
    /// The record of a session.
    #[must_use]
    pub fn new(id: SessionId, total: Counters) -> Self {
        let Counters { bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down } =
            total;
        Self([id.0, bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down])
    }

    /// The session and its counters.
    #[must_use]
    pub fn read(self) -> (SessionId, Counters) {
        let [id, bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down] = self.0;
        let total =
            Counters { bytes_up, packets_up, bytes_down, packets_down, dropped_up, dropped_down };
        (SessionId(id), total)
    }
}

/// Counters of sessions of one group, from the node that owns it or did so until now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The group.
    pub group: GroupId,
    /// The ownership during which they were counted.
    pub epoch: Epoch,
    /// Whoever has not followed the log up to here does not know the ownership or all of these sessions yet.
    /// Always the revision of a change, which every node comes by.
    pub revision: Revision,
    /// The sender has shut its fence: these are the last counts of its ownership.
    pub last: bool,
    /// At most [`RECORDS_MAX`].
    pub records: Vec<Record>,
}

/// Answer to a [`Frame`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Ack {
    /// This node knows at least these counts now.
    Kept {
        /// Another number after each start of the process, which forgets what it was told.
        incarnation: u64,
        /// What this node knew of these sessions when the sender became the owner, where that may be news.
        before: Vec<Record>,
        /// What it knows above the sender's counts, when it cannot tell from when that is: it may include what the
        /// sender has told a former process of this node.
        above: Vec<Record>,
    },
    /// The group has another owner.
    Stale {
        /// Its epoch.
        epoch: Epoch,
    },
}
