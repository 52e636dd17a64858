use super::{Answer, Call, Client, ClientError};
use crate::types::config::{
    ArchiveList, CommitRequest, CommitResponse, CompareResponse, ConfigView, DeleteRequest,
    DiscardResponse, EditResponse, RollbackRequest, SetRequest,
};
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The configuration. Every method fails with [`ClientError`] as described there.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    async fn read_config<T: DeserializeOwned>(
        &self,
        rest: &[&str],
    ) -> Result<Answer<T>, ClientError> {
        let path = [&["api", "v1", "system", "config"], rest].concat();
        self.enveloped(Call::new(Method::GET, &path)).await
    }

    async fn write_config<T: DeserializeOwned>(
        &self,
        action: &str,
        body: &impl Serialize,
    ) -> Result<Answer<T>, ClientError> {
        let path = ["api", "v1", "system", "config", action];
        self.enveloped(Call::new(Method::POST, &path).json(body)).await
    }

    /// `GET /api/v1/system/config`.
    pub async fn config(&self) -> Result<Answer<ConfigView>, ClientError> {
        self.read_config(&[]).await
    }

    /// `GET /api/v1/system/config/candidate`.
    pub async fn config_candidate(&self) -> Result<Answer<ConfigView>, ClientError> {
        self.read_config(&["candidate"]).await
    }

    /// `GET /api/v1/system/config/compare`.
    pub async fn config_compare(&self) -> Result<Answer<CompareResponse>, ClientError> {
        self.read_config(&["compare"]).await
    }

    /// `GET /api/v1/system/config/archive`.
    pub async fn config_history(&self) -> Result<Answer<ArchiveList>, ClientError> {
        self.read_config(&["archive"]).await
    }

    /// `GET /api/v1/system/config/archive/{version}`.
    pub async fn config_version(&self, version: u64) -> Result<Answer<ConfigView>, ClientError> {
        self.read_config(&["archive", &version.to_string()]).await
    }

    /// `POST /api/v1/system/config/set`.
    pub async fn config_set(
        &self,
        request: &SetRequest,
    ) -> Result<Answer<EditResponse>, ClientError> {
        self.write_config("set", request).await
    }

    /// `POST /api/v1/system/config/delete`.
    pub async fn config_delete(
        &self,
        request: &DeleteRequest,
    ) -> Result<Answer<EditResponse>, ClientError> {
        self.write_config("delete", request).await
    }

    /// `POST /api/v1/system/config/load`.
    pub async fn config_load(&self, tree: &Value) -> Result<Answer<EditResponse>, ClientError> {
        self.write_config("load", tree).await
    }

    /// `POST /api/v1/system/config/commit`.
    pub async fn config_commit(
        &self,
        request: &CommitRequest,
    ) -> Result<Answer<CommitResponse>, ClientError> {
        self.write_config("commit", request).await
    }

    /// `POST /api/v1/system/config/rollback`.
    pub async fn config_rollback(
        &self,
        request: &RollbackRequest,
    ) -> Result<Answer<EditResponse>, ClientError> {
        self.write_config("rollback", request).await
    }

    /// `POST /api/v1/system/config/discard`.
    pub async fn config_discard(&self) -> Result<Answer<DiscardResponse>, ClientError> {
        self.write_config("discard", &()).await
    }
}
