//! Ethernet II, VLAN tags, ARP, IPv4 and UDP framing, sans-IO.
//!
//! Everything here turns octets into borrowed structs and back. Nothing keeps state, allocates on
//! the way in, or panics on what the network sends.

mod arp;
mod checksum;
mod error;
mod frame;
mod ipv4;

pub use arp::{Arp, ArpOperation};
pub use checksum::checksum;
pub use error::WireError;
pub use frame::{FRAME_OCTETS_MIN, Frame, TAGS_MAX, ethertype};
pub use ipv4::{Ipv4, Udp4, ip_protocol};
