//! The configuration of the cluster: a running and a candidate tree, an archive, and commits that
//! go back unless confirmed.
//!
//! Groups and pools live in the replicated state, where `apply` checks and uses them; the tree shows
//! them from there, and a commit turns its differences into commands of the same log entry. All else
//! is in the document `running`.

mod commit;
mod compile;
mod confirm;
mod secrets;
mod store;
#[cfg(test)]
mod tests;
mod tree;

pub use commit::dry_run;
pub use confirm::watch;
pub use store::{ConfigStore, RUNNING, settings};
