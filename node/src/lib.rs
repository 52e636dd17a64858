//! The driver: sockets, clock, tasks, ownership and takeover around the sans-IO engines.
//!
//! Read in this order: `daemon` (the process), `member` (what runs once it belongs to a cluster),
//! `ownership` and `lease` (who acts, and until when), `programmer` (log to kernel), `access`
//! (frames to log), `service` (the API).

pub mod access;
pub mod announce;
pub mod clock;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod dev;
pub mod disk;
pub mod fitness;
pub mod lease;
pub mod management;
pub mod member;
pub mod members;
pub mod metrics;
pub mod ownership;
pub mod peer;
pub mod programmer;
pub mod proposer;
pub mod service;
pub mod supervisor;
pub mod telemetry;
pub mod tls;
pub mod waiting;
