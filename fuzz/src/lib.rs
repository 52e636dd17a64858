//! Fuzz targets of every decoder, and of the engines right behind them.
//!
//! Each target takes octets as a stranger may send them. It must not panic, and what it could read
//! must survive being written and read again. `cargo fuzz` and `src/bin/replay.rs` run the same
//! functions.

mod discovery;
mod framing;
mod lease;
mod link;
mod log;
mod message;
mod mutate;
mod router;
mod script;

pub use mutate::Mutator;

/// Name, as in `fuzz_targets/` and `corpus/`, and function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("ether_frame", framing::frame),
    ("ether_arp", framing::arp),
    ("ether_ipv4", framing::ipv4),
    ("ether_udp", framing::udp),
    ("pppoe_discovery", discovery::packet),
    ("pppoe_session", discovery::session),
    ("ppp_server", link::server),
    ("ppp_client", link::client),
    ("dhcp_message", message::dhcp_message),
    ("vrrp_frame", router::vrrp_frame),
    ("quorum_lease", lease::message),
    ("raft_entry", log::entry),
    ("raft_command", log::command),
    ("raft_reply", log::reply),
];

/// Runs a target by name.
///
/// # Panics
/// When there is no such target, or it finds a bug.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(n, _)| *n == name).expect("the name is in TARGETS");
    target(data);
}
