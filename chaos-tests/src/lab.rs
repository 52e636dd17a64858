//! The lab: network namespaces on this machine, real `bngd` processes, simulated subscribers.
//!
//! ```text
//!              tdm-sub                                   tdm-core
//!           subscribers (acc)                   core router, probe target (core)
//!                 |                                          |
//!   tdm-sw:    [bridge acc]                             [bridge core]      [bridge mgmt]
//!               |        |                               |        |         |   |   |   |
//!             acc       acc                            core      core     mgmt mgmt mgmt mgmt
//!            tdm-n1    tdm-n2                         tdm-n1    tdm-n2     n1   n2   n3  tdm-ops
//! ```
//!
//! The process that drives a lab lives in `tdm-ops`, so nothing of it touches the machine's own
//! network. Everything carries the prefix `tdm-` and is removed at the end, and by `lab clean`.

pub mod cluster;
pub mod disk;
pub mod faults;
pub mod keepalived;
pub mod loss;
pub mod machine;
pub mod netns;
pub mod probe;
pub mod silence;
pub mod subscribers;
pub mod topology;
pub mod wall;
pub mod wire;

pub use cluster::{Cluster, NodeName};
pub use topology::Topology;
