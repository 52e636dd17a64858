//! Deterministic simulation: whole protocols in one process, in virtual time, from one seed.

pub mod clock;
pub mod fence;
pub mod lease;
pub mod lease_chaos;
pub mod lease_node;
pub mod net;
