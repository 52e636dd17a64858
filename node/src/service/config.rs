use super::{Answer, Api};
use crate::management::config::ConfigStore;
use api::types::config::{
    ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigView, DeleteRequest,
    DiscardResponse, EditResponse, HistoryQuery, RollbackRequest, SetRequest,
};
use api::{ApiError, Caller, ConfigService, ReadLevel};
use serde_json::Value;

/// Versions that a history shows when the caller does not say.
const HISTORY_DEFAULT: u32 = 50;

impl Api {
    fn configuration(&self) -> Result<ConfigStore, ApiError> {
        Ok(ConfigStore::new(self.member()?.local.clone()))
    }
}

impl ConfigService for Api {
    async fn config(&self, level: ReadLevel) -> Answer<ConfigView> {
        let state = self.read(level).await?;
        self.configuration()?.view(&state)
    }

    async fn config_candidate(&self, level: ReadLevel) -> Answer<ConfigView> {
        let state = self.read(level).await?;
        self.configuration()?.view_candidate(&state)
    }

    async fn config_compare(&self, level: ReadLevel) -> Answer<CompareResponse> {
        let state = self.read(level).await?;
        self.configuration()?.compare(&state)
    }

    async fn config_set(&self, request: SetRequest, caller: Caller) -> Answer<EditResponse> {
        self.configuration()?.set(&request, &(&caller).into()).await
    }

    async fn config_delete(&self, request: DeleteRequest, caller: Caller) -> Answer<EditResponse> {
        self.configuration()?.delete(&request, &(&caller).into()).await
    }

    async fn config_load(&self, tree: Value, caller: Caller) -> Answer<EditResponse> {
        self.configuration()?.replace(&tree, &(&caller).into()).await
    }

    async fn config_commit(
        &self,
        request: CommitRequest,
        caller: Caller,
    ) -> Answer<CommitResponse> {
        self.configuration()?.commit(&request, &(&caller).into()).await
    }

    async fn config_rollback(
        &self,
        request: RollbackRequest,
        caller: Caller,
    ) -> Answer<EditResponse> {
        self.configuration()?.rollback(&request, &(&caller).into()).await
    }

    async fn config_discard(&self, caller: Caller) -> Answer<DiscardResponse> {
        self.configuration()?.discard(&(&caller).into()).await
    }

    async fn config_history(&self, query: HistoryQuery, level: ReadLevel) -> Answer<ArchiveList> {
        let state = self.read(level).await?;
        let limit = usize::try_from(query.limit.unwrap_or(HISTORY_DEFAULT)).unwrap_or(usize::MAX);
        self.configuration()?.history(&state, limit)
    }

    async fn config_version(&self, version: u64, level: ReadLevel) -> Answer<ConfigView> {
        let state = self.read(level).await?;
        self.configuration()?.version(&state, version)
    }
}
