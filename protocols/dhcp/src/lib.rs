//! DHCPv4 server and client engines, sans-IO: RFC 2131, 2132, 3046 (relay agent information),
//! 3396 (long options) and 6842 (client identifier in replies).
//!
//! [`Server`] turns UDP payloads into [`Action`]s. It never answers a REQUEST by itself: the lease
//! leaves as [`Action::Commit`], and the ACK follows once [`Server::on_committed`] reports that the
//! lease is in the log. [`client::Client`] is the other end, for simulated subscribers.
//!
//! The codec is our own: what is on offer re-encodes option 82 from a parsed, sorted form, and
//! RFC 3046 §2.2 wants it back octet by octet.

#[cfg(test)]
extern crate self as dhcp; // `tests/support` names the crate from inside and outside.

pub mod client;
mod config;
mod error;
mod fsm;
mod lease;
mod offers;
mod pending;
mod reply;
mod request;
pub mod wire;

pub use config::PoolConfig;
pub use error::{DropReason, WireError};
pub use fsm::{Action, Commit, Outcome, Server, Token};
pub use lease::{ClientKey, Lease, Leases};
pub use offers::{MAX_OFFERS, OFFER_HOLD};
pub use pending::{COMMIT_WAIT_MAX, MAX_PENDING, RELEASE_RESERVE};
pub use reply::Destination;
pub use wire::is_discover;
