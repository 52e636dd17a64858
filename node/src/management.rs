//! The management plane behind the API: what operators set, kept as replicated documents.

pub mod config;
pub mod host;
pub mod policy;
