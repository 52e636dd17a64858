use super::{Answer, Api};
use crate::management::events;
use crate::management::webhook::Webhooks;
use api::types::event::{EventFilter, EventId};
use api::types::webhook::{
    DeadLetterList, DeadLetterQuery, WebhookCreated, WebhookDeleted, WebhookList, WebhookRequest,
};
use api::{ApiError, Caller, EventService, EventStream, ReadLevel};
use model::Secret;

impl Api {
    fn hooks(&self) -> Result<Webhooks, ApiError> {
        Ok(Webhooks::new(self.member()?.local.clone()))
    }
}

impl EventService for Api {
    async fn events(
        &self,
        after: Option<EventId>,
        filter: EventFilter,
    ) -> Result<EventStream, ApiError> {
        events::stream(&self.member()?.local.store, after, filter).await
    }

    async fn webhooks(&self, level: ReadLevel) -> Answer<WebhookList> {
        let state = self.read(level).await?;
        Ok(self.hooks()?.list(&state))
    }

    async fn webhook_add(&self, request: WebhookRequest, caller: Caller) -> Answer<WebhookCreated> {
        let ids = self.secret_for(&caller, "webhook-id")?;
        let secret = Secret::new(hex::encode(self.secret_for(&caller, "webhook")?));
        self.hooks()?.add(request, ids, secret, &(&caller).into()).await
    }

    async fn webhook_delete(&self, id: String, caller: Caller) -> Answer<WebhookDeleted> {
        self.hooks()?.delete(&id, &(&caller).into()).await
    }

    async fn dead_letters(
        &self,
        query: DeadLetterQuery,
        level: ReadLevel,
    ) -> Answer<DeadLetterList> {
        let state = self.read(level).await?;
        self.hooks()?.dead_letters(&state, &query)
    }

    async fn dead_letter_delete(&self, id: String, caller: Caller) -> Answer<WebhookDeleted> {
        self.hooks()?.delete_letter(&id, &(&caller).into()).await
    }
}
