//! The HTTP contract: types, routes, OpenAPI document, typed client.
//!
//! `node` implements [`Service`] and serves [`router`]; `bngctl` and joining nodes use [`Client`].

mod access;
mod client;
mod counters;
mod error;
mod extract;
mod jwt;
mod lockout;
mod openapi;
mod permission;
mod router;
mod routes;
mod service;
mod ticket;
pub mod types;

pub use client::{Answer, Client, ClientConfig, ClientError, EventFollower, TlsTrust};
pub use counters::AccessCounts;
pub use error::ApiError;
pub use jwt::Claims;
pub use openapi::openapi;
pub use permission::{
    BuiltinRole, Permission, PermissionSet, UnknownPermission, builtin_role, builtin_roles,
};
pub use router::router;
pub use service::{
    Auth, BootstrapAuth, Caller, ConfigService, EventService, EventStream, FirstStep, Identity,
    IfMatch, KeyRefusal, LoginOutcome, Meta, NetworkService, Origin, PolicyService, Presented,
    ReadLevel, Refresh, Reply, Service, Session,
};
pub use ticket::{JoinTicket, TicketError};

/// The types of the domain that stand in requests and answers.
pub use model;

/// Carries the revision of an answer.
pub const REVISION_HEADER: &str = "X-Tandem-Revision";
/// Carries the caller's key for doing a write once.
pub const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";
/// What the text of every API key begins with.
pub const API_KEY_MARK: &str = "tdm_";
/// Carries the id of a request, the caller's or a new one.
pub const REQUEST_ID_HEADER: &str = "X-Request-Id";
