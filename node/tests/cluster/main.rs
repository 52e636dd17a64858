//! Three nodes in one process.
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod events;
mod network;
mod ownership;
mod trio;
