//! The quorum lease of this node: transport, voter, holder and seals in one task on a thread of its own.
//!
//! Nothing here waits for Raft, disk or API, so a busy daemon does not miss a renewal.

mod actor;
mod net;

pub use actor::{Handle, LeaseStatus, Settings, spawn};
pub use net::Peers;
