//! VRRP version 3 (RFC 9568): wire format, announcer, listener and the stock state machine, sans-IO.
//!
//! In Tandem, VRRP only speaks: Raft decides who owns a group, and the owner's [`Announcer`] tells
//! switches and hosts. No node ever takes or gives up a group because of an advert. [`Router`] is
//! the protocol as the RFC has it, to be a peer in tests and simulations; [`Listener`] is a passive
//! observer.

mod announcer;
mod config;
mod error;
mod fsm;
mod listener;
mod wire;

pub use announcer::{Announcer, AnnouncerConfig, Event as AnnouncerEvent, GARP_ROUNDS};
pub use config::RouterConfig;
pub use error::WireError;
pub use fsm::{Action, Event, Router, StateName, active_down_interval, skew_time};
pub use listener::{Listener, Sighting};
pub use wire::{
    ADVERT_INTERVAL_CS_MAX, Advert, ChecksumForm, MULTICAST_IPV4, MULTICAST_MAC, PRIORITY_OWNER,
    PRIORITY_RELEASE, Received, frame, frame_with, gratuitous_arp_frame, parse_frame,
};
