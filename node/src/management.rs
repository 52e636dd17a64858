//! The management plane behind the API: what operators set, kept as replicated documents.

pub(crate) mod audit;
pub mod config;
pub(crate) mod document;
pub mod events;
pub mod host;
pub mod policy;
pub mod webhook;
