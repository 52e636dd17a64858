//! One node of its own, without a kernel.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

mod config;
mod policy;
mod site;
