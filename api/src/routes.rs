//! One file per noun. A handler checks what needs no state, asks the service, wraps the answer.

pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod groups;
pub(crate) mod subscribers;
pub(crate) mod system;
