//! The configuration of the fake node: one value, no candidate.

use super::Fake;
use api::types::FieldError;
use api::types::config::*;
use api::{ApiError, Caller, ConfigService, ReadLevel, Reply};
use serde_json::{Value, json};

fn edited() -> EditResponse {
    let change =
        ConfigChange { path: "system.name".into(), before: None, after: Some(json!("south")) };
    let errors = vec![FieldError::new("pools.home", "is incomplete")];
    EditResponse { changes: vec![change], count: 1, errors }
}

fn view(version: u64) -> ConfigView {
    ConfigView {
        config: json!({"system": {"name": "south"}}),
        version,
        pending: true,
        confirm: None,
    }
}

impl ConfigService for Fake {
    async fn config(&self, level: ReadLevel) -> Reply<ConfigView> {
        Ok((view(7), self.read("config", level).await?))
    }

    async fn config_candidate(&self, level: ReadLevel) -> Reply<ConfigView> {
        Ok((view(7), self.read("config candidate", level).await?))
    }

    async fn config_compare(&self, level: ReadLevel) -> Reply<CompareResponse> {
        let meta = self.read("config compare", level).await?;
        let EditResponse { changes, count, errors } = edited();
        let text = "+ system.name \"south\"\n".into();
        Ok((CompareResponse { changes, count, text, errors }, meta))
    }

    async fn config_set(&self, request: SetRequest, caller: Caller) -> Reply<EditResponse> {
        let meta = self.write(&format!("config set {}", request.path), &caller)?;
        Ok((edited(), meta))
    }

    async fn config_delete(&self, request: DeleteRequest, caller: Caller) -> Reply<EditResponse> {
        if request.path == "nothing" {
            return Err(ApiError::not_found("key nothing"));
        }
        let meta = self.write(&format!("config delete {}", request.path), &caller)?;
        Ok((edited(), meta))
    }

    async fn config_load(&self, tree: Value, caller: Caller) -> Reply<EditResponse> {
        let meta = self.write(&format!("config load {tree}"), &caller)?;
        Ok((edited(), meta))
    }

    async fn config_commit(&self, request: CommitRequest, caller: Caller) -> Reply<CommitResponse> {
        let meta = self.write(&format!("config commit {:?}", request.confirm_s), &caller)?;
        let response = CommitResponse {
            version: 43,
            changes: edited().changes,
            count: 1,
            confirm_deadline: request.confirm_s.map(u64::from),
            confirmed: false,
            unchecked: vec![],
        };
        Ok((response, meta))
    }

    async fn config_rollback(
        &self,
        request: RollbackRequest,
        caller: Caller,
    ) -> Reply<EditResponse> {
        let meta = self.write(&format!("config rollback {request:?}"), &caller)?;
        Ok((edited(), meta))
    }

    async fn config_discard(&self, caller: Caller) -> Reply<DiscardResponse> {
        Ok((DiscardResponse { count: 1 }, self.write("config discard", &caller)?))
    }

    async fn config_history(&self, _: HistoryQuery, level: ReadLevel) -> Reply<ArchiveList> {
        let meta = self.read("config history", level).await?;
        let entry = ArchiveEntry {
            version: 7,
            at: 1_700_000_000,
            author: "ann".into(),
            comment: String::new(),
            changed: 1,
        };
        Ok((ArchiveList { versions: vec![entry], count: 1 }, meta))
    }

    async fn config_version(&self, version: u64, level: ReadLevel) -> Reply<ConfigView> {
        Ok((view(version), self.read("config version", level).await?))
    }
}
