//! Lab, subscriber simulator, simulation, nemeses, checkers.

pub mod access;
pub mod bench;
pub mod chaos;
pub mod counters;
pub mod demo;
pub mod install;
pub mod lab;
pub mod policy;
pub mod scenario;
pub mod sim;
pub mod vrrp_sim;
