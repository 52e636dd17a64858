//! Replicated commands, deterministic apply, snapshots, log storage, Raft network.
