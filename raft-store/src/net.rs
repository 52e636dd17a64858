//! Raft between nodes: gRPC over mutual TLS.
//!
//! Who talks is settled by certificates (see [`crate::identity`]); every request also says cluster, sender and protocol
//! version, and the receiver compares them with the certificate. Heartbeats and votes, entries, snapshots, and forwarded
//! requests have connections of their own, so that bulk never delays a heartbeat.

mod network;
mod peers;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use network::Factory;
pub(crate) use peers::{Client, Lane, Peers, was_never_sent, within};
pub(crate) use server::serve;

use std::time::Duration;

/// Version of the messages in `proto/raft.proto`. Raised when an old node would misread a new one.
const PROTOCOL_VERSION: u32 = 1;
/// The oldest version this build talks to.
const PROTOCOL_VERSION_MIN: u32 = 1;
const KEY_FROM: &str = "tandem-from";
const KEY_CLUSTER: &str = "tandem-cluster";
const KEY_VERSION: &str = "tandem-version";
/// Octets of one message; a command larger than this cannot be proposed.
pub(crate) const MESSAGE_OCTETS_MAX: usize = 64 << 20;

/// Limits that follow from Raft's timing.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// TCP and TLS handshake.
    connect: Duration,
    /// Idle time after which a connection is probed.
    probe_every: Duration,
    /// A probe without an answer for this long ends the connection.
    probe_answer: Duration,
    /// An append without an answer for this long ends the stream.
    append_answer: Duration,
}

impl Limits {
    fn new(timing: &crate::RaftTiming) -> Self {
        let election = timing.election_max;
        Self {
            connect: election.clamp(Duration::from_millis(150), Duration::from_secs(1)),
            probe_every: election.clamp(Duration::from_millis(200), Duration::from_secs(2)),
            probe_answer: (2 * election).max(Duration::from_millis(400)),
            append_answer: (2 * election).max(Duration::from_millis(500)),
        }
    }
}
