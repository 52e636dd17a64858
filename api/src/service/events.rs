use super::{Caller, ReadLevel, Reply};
use crate::error::ApiError;
use crate::types::event::{EventFilter, EventId, StreamItem};
use crate::types::webhook::{
    DeadLetterList, DeadLetterQuery, WebhookCreated, WebhookDeleted, WebhookList, WebhookRequest,
};
use futures::stream::BoxStream;
use std::future::Future;

/// Events without end; ends when the node stops.
pub type EventStream = BoxStream<'static, StreamItem>;

/// What happens to subscribers: streams and webhooks.
pub trait EventService: Send + Sync + 'static {
    /// Everything after `after`, or from now on. Starts with the position it begins at.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] when the cluster has not come to `after` yet.
    fn events(
        &self,
        after: Option<EventId>,
        filter: EventFilter,
    ) -> impl Future<Output = Result<EventStream, ApiError>> + Send;
    /// All webhooks.
    fn webhooks(&self, level: ReadLevel) -> impl Future<Output = Reply<WebhookList>> + Send;
    /// Makes a webhook. The router has checked the request.
    fn webhook_add(
        &self,
        request: WebhookRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<WebhookCreated>> + Send;
    /// Ends a webhook; its dead letters stay.
    fn webhook_delete(
        &self,
        id: String,
        caller: Caller,
    ) -> impl Future<Output = Reply<WebhookDeleted>> + Send;
    /// Deliveries that were given up, of all webhooks.
    fn dead_letters(
        &self,
        query: DeadLetterQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<DeadLetterList>> + Send;
    /// Takes one off the list.
    fn dead_letter_delete(
        &self,
        id: String,
        caller: Caller,
    ) -> impl Future<Output = Reply<WebhookDeleted>> + Send;
}
