//! VRRP on an access network in virtual time: Raft-decided announcing against the stock protocol.
//!
//! Speakers, hosts and listeners hang on two learning switches that a trunk joins. In a `Tandem`
//! scenario a [`director`] stands for Raft and the quorum lease: it says who owns the group, and the
//! owners only announce. In a `Stock` scenario the speakers are routers of RFC 9568 that decide by
//! listening to each other. The same checker watches both: two masters at a time, what a listener on
//! each side makes of the adverts, and which numbered probes reach a master.
//!
//! One seed decides everything.

mod checker;
mod director;
mod scenario;
mod speaker;
mod switch;
mod world;

#[cfg(test)]
mod tests;

pub use checker::Report;
pub use director::{LEASE, MARGIN};
pub use scenario::{Bug, Fault, Kind, Scenario, Side};

/// Plays `scenario` with the delays and losses of `seed`.
///
/// Equal arguments give equal reports.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Report {
    world::World::new(scenario, seed).run()
}
