//! The programs against real packets, in network namespaces. Needs root; prints `SKIPPED:` without.

#![expect(clippy::unwrap_used, reason = "a test; the lint only exempts functions marked as tests")]

mod forwarding;
mod frame;
mod lab;
mod nat;
mod policy;
mod programming;
mod shaping;
mod silence;
