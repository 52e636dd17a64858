//! openraft, bound to our log, state machine, snapshots and network. Its types stay inside this crate.

pub(crate) mod clock;
pub(crate) mod feed;
pub(crate) mod log_store;
pub(crate) mod logged;
pub(crate) mod machine;
pub(crate) mod snapshot;
#[cfg(test)]
mod suite_tests;
pub(crate) mod wire;

use crate::command::Reply;
use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

openraft::declare_raft_types!(
    /// One leader per term, so that a term names its leader.
    pub TypeConfig:
        D = Payload,
        R = Applied,
        NodeId = u64,
        Node = openraft::BasicNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, machine::Machine>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type CommittedLeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type LogEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LogPayload = openraft::alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, snapshot::SnapshotHandle>;

/// The octets of one [`crate::Entry`]. Raft does not look into them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(d).map(|v| Self(v.into()))
    }
}

/// What applying an entry answered; nothing for Raft's own entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied(pub(crate) Option<Reply>);

impl Serialize for Applied {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().map(Reply::encode).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Applied {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let reply = Option::<Vec<u8>>::deserialize(d)?;
        reply.map(|b| Reply::decode(&b)).transpose().map(Self).map_err(D::Error::custom)
    }
}

/// Entries between snapshots.
const SNAPSHOT_EVERY: u64 = 20_000;
/// Entries kept behind a snapshot, so that a node that was away for a moment needs none.
const KEEP_BEHIND_SNAPSHOT: u64 = 5_000;
/// A follower further behind than this gets a snapshot; must be above [`SNAPSHOT_EVERY`].
const SNAPSHOT_LAG: u64 = 40_000;
/// Entries per append request; [`log_store`] bounds the octets as well.
const ENTRIES_PER_APPEND_MAX: u64 = 256;
/// Entries removed from the log at a time.
const PURGE_BATCH: u64 = 1_000;
/// How long one whole snapshot may take before openraft lets go of it.
const SNAPSHOT_TRANSFER_MAX: Duration = Duration::from_secs(600);

/// openraft's settings for these timings.
pub(crate) fn config(
    cluster: &str,
    timing: &crate::RaftTiming,
) -> Result<openraft::Config, openraft::ConfigError> {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let election_max = ms(timing.election_max);
    openraft::Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: ms(timing.heartbeat),
        election_timeout_min: ms(timing.election_min),
        election_timeout_max: election_max,
        install_snapshot_timeout: ms(SNAPSHOT_TRANSFER_MAX),
        max_payload_entries: ENTRIES_PER_APPEND_MAX,
        replication_lag_threshold: SNAPSHOT_LAG,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEEP_BEHIND_SNAPSHOT,
        purge_batch_size: PURGE_BATCH,
        // A leader that reaches one voter only must not keep a connected majority from electing (openraft #2080).
        quorum_loss_probe_interval: Some((3 * election_max).max(500)),
        enable_pre_vote: Some(true),
        // A restarted leader asks for votes like anybody else; its state may be older than what it answered before.
        enable_leader_restore: Some(false),
        // Short and flat, so that a healed link is used at once; connecting has its own time limit.
        backoff: "20ms 40ms 80ms ...100ms".to_owned(),
        ..openraft::Config::default()
    }
    .validate()
}
