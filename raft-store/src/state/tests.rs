//! The state machine as a whole, driven through its log.

mod addresses;
mod config;
mod documents;
mod fixture;
mod lockstep;
mod members;
mod policy;
mod replays;
mod sessions;
mod snapshots;
