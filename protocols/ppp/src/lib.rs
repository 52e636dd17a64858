//! PPP engines for both roles, sans-IO: LCP and IPCP by one RFC 1661 automaton, PAP and CHAP-MD5.
//!
//! [`Server`] is the access concentrator's end of one PPPoE session, [`client::Client`] the
//! subscriber's. Both map (state, event, now) to actions and own no socket, clock or randomness.
//! A frame here starts at the two-octet PPP protocol field: RFC 2516 §6 leaves out the rest.

mod auth;
mod automaton;
pub mod client;
mod config;
mod echo;
mod error;
mod fsm;
mod ipcp;
mod lcp;
mod server;
pub mod wire;

pub use auth::Credentials;
pub use config::{AuthProtocol, Seed, ServerConfig};
pub use error::{Dropped, WireError};
pub use ipcp::Addresses;
pub use server::{Action, AuthOutcome, Event, LinkParameters, Server, SessionOutcome};
