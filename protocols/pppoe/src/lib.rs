//! PPPoE discovery and session framing (RFC 2516, RFC 4638, TR-101), sans-IO.
//!
//! [`Server`] is the access concentrator and [`client::Client`] the host. The server keeps no state
//! for a subscriber before its PADR has proven, by the AC-Cookie, that it receives what is sent to
//! its address; all it remembers until then are rate limits of fixed size.

pub mod client;
mod config;
mod cookie;
mod error;
mod limit;
mod server;
mod session;
mod wire;

pub use config::{LinkTooSmall, ServerConfig, mru_max};
pub use error::{DropReason, WireError};
pub use server::{Action, Padr, PadsError, Server, pads, pads_refused, padt};
pub use session::{SessionHeader, emit_session, parse_session};
pub use wire::{
    Code, DISCOVERY_OCTETS_MAX, HEADER_OCTETS, LineInfo, Packet, TAGS_MAX, Tag, VENDOR_ADSL_FORUM,
    tag,
};
