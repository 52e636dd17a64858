//! One file per noun, with its paths at the end. A handler checks what needs no state, asks the
//! service, wraps the answer.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod network;
pub(crate) mod policy;
pub(crate) mod purenas;
pub(crate) mod subscribers;
pub(crate) mod system;

use crate::router::Shared;
use crate::service::Service;
use axum::Router;
use std::sync::Arc;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

/// The paths of one file.
pub(crate) type Routes<S> = Router<Arc<Shared<S>>>;

/// Every path but the open ones and those that change the membership, which take longer.
pub(crate) fn ordinary<S: Service>() -> Routes<S> {
    auth::routes()
        .merge(subscribers::routes())
        .merge(events::routes())
        .merge(network::routes())
        .merge(system::routes())
        .merge(config::routes())
        .merge(cluster::routes())
        .merge(groups::routes())
        .merge(policy::routes())
}

/// The paths of dialects that have credentials and errors of their own.
pub(crate) fn dialects<S: Service>() -> Routes<S> {
    purenas::routes()
}

/// The documents of all files, in the order in which readers should meet them.
pub(crate) fn documented() -> Vec<OpenApi> {
    let mut all = auth::documented();
    all.extend([
        subscribers::Documented::openapi(),
        events::Documented::openapi(),
        network::Documented::openapi(),
        policy::Documented::openapi(),
        cluster::Documented::openapi(),
        groups::Documented::openapi(),
        system::Documented::openapi(),
        config::Documented::openapi(),
        purenas::Documented::openapi(),
    ]);
    all
}
