//! Reading and editing the trees.

use super::commit::dry_run;
use super::{compile, secrets, tree};
use crate::management::audit::{Act, Journal, Who, Write};
use crate::management::document::{self, revision_of};
use crate::peer::Local;
use api::types::Configuration;
use api::types::config::{
    self, ArchiveEntry, ArchiveList, CompareResponse, ConfigChange, ConfigView, ConfirmPending,
    DeleteRequest, DiscardResponse, EditResponse, RollbackRequest, SetRequest,
};
use api::{ApiError, Meta};
use model::{Collection, Revision};
use raft_store::{DocKey, DocumentOp, Expect, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Key of the running configuration in [`Collection::Config`].
pub const RUNNING: &str = "running";
pub(super) const CANDIDATE: &str = "candidate";
pub(super) const CONFIRM: &str = "confirm";
/// Key of the tree that the cluster was made with, before its first commit.
pub(super) const FIRST: &str = "00000000000000000000-0000";
/// How often an edit is tried again when another edit came between.
const TRIES: u64 = 8;
/// Largest tree, in octets.
pub(super) const TREE_OCTETS_MAX: usize = 2 << 20;

/// The running configuration without what lives in the state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) config: Configuration,
}

/// A tree that is being edited.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) tree: Value,
    pub(super) author: String,
}

/// A commit that goes back at its deadline, unless confirmed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Confirm {
    pub(super) deadline_ms: u64,
    pub(super) previous: Value,
    pub(super) previous_version: u64,
    pub(super) author: String,
}

/// A configuration that ran.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Archived {
    pub(super) tree: Value,
    pub(super) author: String,
    pub(super) comment: String,
    pub(super) changed: usize,
}

pub(super) fn internal(cause: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("configuration: {cause}"))
}

/// Reads one document of the configuration.
pub(super) fn load<T: for<'a> Deserialize<'a>>(
    state: &State,
    collection: Collection,
    key: &str,
) -> Result<Option<(T, Revision)>, ApiError> {
    let Some(document) = state.document(collection, key) else { return Ok(None) };
    let value = serde_json::from_slice(&document.value).map_err(internal)?;
    Ok(Some((value, document.modified)))
}

/// What is set besides groups and pools, which the state itself has: defaults before the first commit.
#[must_use]
pub fn settings(state: &State) -> Configuration {
    let stored = load::<Running>(state, Collection::Config, RUNNING);
    stored.ok().flatten().map(|(running, _)| running.config).unwrap_or_default()
}

/// All that runs now.
pub(super) fn running(state: &State) -> Configuration {
    let mut config = settings(state);
    compile::show(state, &mut config);
    config
}

/// Revision of the running document, to expect it unchanged.
pub(super) fn running_expect(state: &State) -> Expect {
    state
        .document(Collection::Config, RUNNING)
        .map_or(Expect::Absent, |document| Expect::Revision(document.modified))
}

pub(super) fn version(state: &State) -> u64 {
    state.document(Collection::Config, RUNNING).map_or(0, |document| document.modified.0)
}

/// The running tree with its secrets.
pub(super) fn running_tree(state: &State) -> Result<Value, ApiError> {
    serde_json::to_value(running(state)).map_err(internal)
}

pub(super) fn put<T: Serialize>(
    collection: Collection,
    key: DocKey,
    value: &T,
    expect: Expect,
) -> Result<DocumentOp, ApiError> {
    let value = serde_json::to_vec(value).map_err(internal)?;
    if value.len() > TREE_OCTETS_MAX {
        return Err(ApiError::TooLarge);
    }
    Ok(DocumentOp::Put { collection, key, value, expect })
}

/// Secrets out of differences: what was and what comes are both hidden.
pub(super) fn masked_changes(before: &Value, after: &Value) -> Vec<ConfigChange> {
    let mut changes = tree::differences(before, after);
    let (before, after) = (secrets::mask(before), secrets::mask(after));
    let at = |tree: &Value, path: &str| {
        let keys = config::keys(path).ok()?;
        keys.iter().try_fold(tree, |at, key| at.get(key)).cloned()
    };
    for change in &mut changes {
        if change.before.is_some() {
            change.before = at(&before, &change.path);
        }
        if change.after.is_some() {
            change.after = at(&after, &change.path);
        }
    }
    changes
}

/// The configuration as this node can read and propose it.
#[derive(Clone)]
pub struct ConfigStore {
    pub(super) local: Local,
}

impl ConfigStore {
    /// Over the store of this node.
    #[must_use]
    pub fn new(local: Local) -> Self {
        Self { local }
    }

    /// What runs, secrets masked.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when a stored tree cannot be read.
    pub fn view(&self, state: &State) -> Result<(ConfigView, Meta), ApiError> {
        let tree = running_tree(state)?;
        let candidate = self.candidate(state)?;
        self.view_of(state, &tree, candidate.is_some_and(|(c, _)| c.tree != tree))
    }

    /// The candidate, secrets masked; what runs when there is none.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when a stored tree cannot be read.
    pub fn view_candidate(&self, state: &State) -> Result<(ConfigView, Meta), ApiError> {
        let running = running_tree(state)?;
        let tree = self.candidate(state)?.map_or_else(|| running.clone(), |(c, _)| c.tree);
        self.view_of(state, &tree, tree != running)
    }

    fn view_of(
        &self,
        state: &State,
        tree: &Value,
        pending: bool,
    ) -> Result<(ConfigView, Meta), ApiError> {
        let confirm = load::<Confirm>(state, Collection::Config, CONFIRM)?;
        let view = ConfigView {
            config: secrets::mask(tree),
            version: version(state),
            pending,
            confirm: confirm.map(|(c, _)| ConfirmPending {
                deadline: c.deadline_ms / 1000,
                previous_version: c.previous_version,
                author: c.author,
            }),
        };
        Ok((view, Meta::at(state.applied())))
    }

    pub(super) fn candidate(
        &self,
        state: &State,
    ) -> Result<Option<(Candidate, Revision)>, ApiError> {
        load(state, Collection::Config, CANDIDATE)
    }

    /// The differences between running and candidate, and what a commit would refuse.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when a stored tree cannot be read.
    pub fn compare(&self, state: &State) -> Result<(CompareResponse, Meta), ApiError> {
        let running = running_tree(state)?;
        let candidate = self.candidate(state)?.map_or_else(|| running.clone(), |(c, _)| c.tree);
        let changes = masked_changes(&running, &candidate);
        let response = CompareResponse {
            count: changes.len(),
            text: config::text(&changes),
            errors: dry_run(&candidate, state).err().unwrap_or_default(),
            changes,
        };
        Ok((response, Meta::at(state.applied())))
    }

    /// Sets one value of the candidate.
    ///
    /// # Errors
    /// The path, a value that cannot be there, or the log's refusal.
    pub async fn set(
        &self,
        request: &SetRequest,
        who: &Who,
    ) -> Result<(EditResponse, Meta), ApiError> {
        let keys =
            config::keys(&request.path).map_err(|e| ApiError::invalid("path", e.to_string()))?;
        self.edit(who, "config.set", |tree, old| {
            tree::set(tree, &keys, request.value.clone())
                .map_err(|e| ApiError::invalid("path", e.to_string()))?;
            secrets::keep(tree, old).map_err(|errors| ApiError::Invalid { errors })
        })
        .await
    }

    /// Replaces the whole candidate, as an import does.
    ///
    /// # Errors
    /// As [`ConfigStore::set`].
    pub async fn replace(&self, new: &Value, who: &Who) -> Result<(EditResponse, Meta), ApiError> {
        self.edit(who, "config.load", |tree, old| {
            *tree = new.clone();
            secrets::keep(tree, old).map_err(|errors| ApiError::Invalid { errors })
        })
        .await
    }

    /// Removes one key of the candidate.
    ///
    /// # Errors
    /// As [`ConfigStore::set`], or that there is no such key.
    pub async fn delete(
        &self,
        request: &DeleteRequest,
        who: &Who,
    ) -> Result<(EditResponse, Meta), ApiError> {
        let keys =
            config::keys(&request.path).map_err(|e| ApiError::invalid("path", e.to_string()))?;
        self.edit(who, "config.delete", |tree, _| {
            tree::delete(tree, &keys).map_err(|e| match e {
                tree::TreeError::Absent(path) => ApiError::not_found(format!("key {path}")),
                other @ (tree::TreeError::Path(_) | tree::TreeError::NotASection(_)) => {
                    ApiError::invalid("path", other.to_string())
                }
            })
        })
        .await
    }

    /// Loads an archived tree as the candidate.
    ///
    /// # Errors
    /// [`ApiError::NotFound`] when there is no such version, and as [`ConfigStore::set`].
    pub async fn rollback(
        &self,
        request: &RollbackRequest,
        who: &Who,
    ) -> Result<(EditResponse, Meta), ApiError> {
        let state = self.local.store.state();
        let archived = match (request.version, request.back) {
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid("back", "give version or back, not both"));
            }
            (Some(version), None) => self.archived(&state, version)?.1,
            (None, back) => {
                let back = usize::try_from(back.unwrap_or(1)).unwrap_or(usize::MAX);
                let key = state
                    .documents_rev(Collection::ConfigArchive, None, usize::MAX)
                    .nth(back)
                    .map(|(key, _)| key.to_owned());
                let key = key.ok_or_else(|| ApiError::not_found(format!("version {back} back")))?;
                self.archived_at(&state, &key)?
            }
        };
        self.edit(who, "config.rollback", |tree, _| {
            *tree = archived.tree.clone();
            Ok(())
        })
        .await
    }

    fn archived_at(&self, state: &State, key: &str) -> Result<Archived, ApiError> {
        let found = load::<Archived>(state, Collection::ConfigArchive, key)?;
        found.map(|(a, _)| a).ok_or_else(|| ApiError::not_found(format!("version {key}")))
    }

    /// One archived version with its key.
    pub(super) fn archived(
        &self,
        state: &State,
        version: u64,
    ) -> Result<(String, Archived), ApiError> {
        let unknown = || ApiError::not_found(format!("configuration version {version}"));
        let key = state
            .documents(Collection::ConfigArchive)
            .map(|(key, _)| key)
            .find(|key| revision_of(key) == Some(Revision(version)))
            .ok_or_else(unknown)?
            .to_owned();
        let archived = self.archived_at(state, &key)?;
        Ok((key, archived))
    }

    /// One archived tree, secrets masked.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub fn version(&self, state: &State, version: u64) -> Result<(ConfigView, Meta), ApiError> {
        let (_, archived) = self.archived(state, version)?;
        let config = secrets::mask(&archived.tree);
        let view = ConfigView { config, version, pending: false, confirm: None };
        Ok((view, Meta::at(state.applied())))
    }

    /// Archived versions, newest first.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when one cannot be read.
    pub fn history(&self, state: &State, limit: usize) -> Result<(ArchiveList, Meta), ApiError> {
        let mut versions = Vec::new();
        for (key, document) in state.documents_rev(Collection::ConfigArchive, None, limit) {
            let archived: Archived = serde_json::from_slice(&document.value).map_err(internal)?;
            let version = revision_of(key).unwrap_or(Revision(0));
            versions.push(ArchiveEntry::new(
                version,
                document.at,
                &archived.author,
                &archived.comment,
                archived.changed,
            ));
        }
        let list = ArchiveList { count: versions.len(), versions };
        Ok((list, Meta::at(state.applied())))
    }

    /// Drops the candidate.
    ///
    /// # Errors
    /// The log's refusal.
    pub async fn discard(&self, who: &Who) -> Result<(DiscardResponse, Meta), ApiError> {
        let state = self.fresh().await?;
        let Some((candidate, _)) = self.candidate(&state)? else {
            return Ok((DiscardResponse { count: 0 }, Meta::at(state.applied())));
        };
        let count = tree::differences(&running_tree(&state)?, &candidate.tree).len();
        let delete = document::delete(Collection::Config, CANDIDATE, Expect::Any);
        let act = Act::new("config.discard", "config/candidate");
        let revision = self.commit_as(who, vec![delete], act).await?;
        Ok((DiscardResponse { count }, Meta::at(revision)))
    }

    /// Changes the candidate; tries again when another editor was faster.
    async fn edit(
        &self,
        who: &Who,
        action: &'static str,
        change: impl Fn(&mut Value, &Value) -> Result<(), ApiError>,
    ) -> Result<(EditResponse, Meta), ApiError> {
        for attempt in 0..TRIES {
            let state = self.fresh().await?;
            let running = running_tree(&state)?;
            let (old, expect) = match self.candidate(&state)? {
                Some((candidate, revision)) => (candidate.tree, Expect::Revision(revision)),
                None => (running.clone(), Expect::Absent),
            };
            let mut tree = old.clone();
            change(&mut tree, &old)?;
            let changes = masked_changes(&running, &tree);
            let errors = dry_run(&tree, &state).err().unwrap_or_default();
            let act =
                Act::new(action, "config/candidate").after(told(&masked_changes(&old, &tree))?);
            let candidate = Candidate { tree, author: who.username().to_owned() };
            let key = DocKey::Named(CANDIDATE.to_owned());
            let op = put(Collection::Config, key, &candidate, expect)?;
            let write = Write::from(vec![op]).attempt(attempt);
            match self.commit_as(who, write, act).await {
                Ok(revision) => {
                    let response = EditResponse { count: changes.len(), changes, errors };
                    return Ok((response, Meta::at(revision)));
                }
                Err(ApiError::Conflict { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Err(ApiError::conflict("others keep changing the candidate; try again"))
    }

    /// A state that holds everything that was committed before now.
    pub(super) async fn fresh(&self) -> Result<std::sync::Arc<State>, ApiError> {
        let store = &self.local.store;
        store.read_index().await.map_err(|e| crate::service::propose_error(&e))?;
        Ok(store.state())
    }

    /// Writes with an audit record in the same entry; the revision it made.
    pub(super) async fn commit_as(
        &self,
        who: &Who,
        write: impl Into<Write> + Send,
        act: Act,
    ) -> Result<Revision, ApiError> {
        let committed = Journal::new(&self.local).commit(who, write, act).await?;
        Ok(committed.revision)
    }
}

/// Differences as an audit record holds them.
pub(super) fn told(changes: &[ConfigChange]) -> Result<Value, ApiError> {
    serde_json::to_value(changes).map_err(internal)
}
