use super::{Caller, ReadLevel, Reply};
use crate::types::config::{
    ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigView, DeleteRequest,
    DiscardResponse, EditResponse, HistoryQuery, RollbackRequest, SetRequest,
};
use serde_json::Value;
use std::future::Future;

/// The configuration of the cluster. One candidate is shared by all operators.
pub trait ConfigService: Send + Sync + 'static {
    /// What runs, secrets masked.
    fn config(&self, level: ReadLevel) -> impl Future<Output = Reply<ConfigView>> + Send;
    /// The candidate, secrets masked; the running configuration when there is none.
    fn config_candidate(&self, level: ReadLevel) -> impl Future<Output = Reply<ConfigView>> + Send;
    /// The differences between running and candidate.
    fn config_compare(
        &self,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<CompareResponse>> + Send;
    /// Sets one value of the candidate.
    fn config_set(
        &self,
        request: SetRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<EditResponse>> + Send;
    /// Removes one key of the candidate.
    fn config_delete(
        &self,
        request: DeleteRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<EditResponse>> + Send;
    /// Replaces the whole candidate.
    fn config_load(
        &self,
        tree: Value,
        caller: Caller,
    ) -> impl Future<Output = Reply<EditResponse>> + Send;
    /// Makes the candidate the running configuration, or confirms a commit that waits.
    fn config_commit(
        &self,
        request: CommitRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<CommitResponse>> + Send;
    /// Loads an archived version as the candidate.
    fn config_rollback(
        &self,
        request: RollbackRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<EditResponse>> + Send;
    /// Drops the candidate.
    fn config_discard(&self, caller: Caller)
    -> impl Future<Output = Reply<DiscardResponse>> + Send;
    /// Archived versions, newest first.
    fn config_history(
        &self,
        query: HistoryQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<ArchiveList>> + Send;
    /// One archived version, secrets masked.
    fn config_version(
        &self,
        version: u64,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<ConfigView>> + Send;
}
