//! Webhooks: events are posted by the node that leads, and the next leader goes on where the log says the last one was.
//!
//! The cursor is written after a delivery, at most once a second, so a death repeats deliveries but loses none.

mod deliver;
mod post;
mod store;

pub use deliver::run;
pub(crate) use store::Webhooks;
