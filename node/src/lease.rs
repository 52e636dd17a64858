//! The quorum lease of this node: transport, voter, holder and seals in one task on a thread of its own.
//!
//! Nothing here waits for Raft, disk or API, so a busy daemon does not miss a renewal.

mod actor;
mod net;

pub use actor::{Handle, LeaseStatus, Settings, spawn};
pub use net::Peers;

/// Raft's membership as the quorum lease counts it.
pub(crate) fn membership(raft: &raft_store::Membership) -> quorum_lease::Membership {
    let voters = raft.voters.iter().map(|set| set.iter().copied().collect()).collect();
    quorum_lease::Membership { log_index: raft.log_index, voters }
}
