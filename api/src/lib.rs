//! The HTTP contract: types, routes, OpenAPI document, typed client.
//!
//! `node` implements [`Service`] and serves [`router`]; `bngctl` and joining nodes use [`Client`].

mod client;
mod error;
mod extract;
mod jwt;
mod lockout;
mod openapi;
mod router;
mod routes;
mod service;
mod ticket;
pub mod types;

pub use client::{Answer, Client, ClientConfig, ClientError, TlsTrust};
pub use error::ApiError;
pub use openapi::openapi;
pub use router::router;
pub use service::{
    BootstrapAuth, Caller, ConfigService, KeyRefusal, Meta, PolicyService, ReadLevel, Reply,
    Service,
};
pub use ticket::{JoinTicket, TicketError};

/// The types of the domain that stand in requests and answers.
pub use model;

/// Carries the revision of an answer.
pub const REVISION_HEADER: &str = "X-Tandem-Revision";
/// Carries the caller's key for doing a write once.
pub const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";
/// Carries the id of a request, the caller's or a new one.
pub const REQUEST_ID_HEADER: &str = "X-Request-Id";
