//! The programs against real packets, in network namespaces. Needs root; prints `SKIPPED:` without.

mod forwarding;
mod frame;
mod lab;
mod programming;
mod shaping;
mod silence;
