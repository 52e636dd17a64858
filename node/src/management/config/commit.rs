//! Making a tree the running configuration: checked, tried on every data node, then one entry.

use super::compile;
use super::store::{
    self, Archived, CANDIDATE, CONFIRM, Candidate, ConfigStore, Confirm, FIRST, RUNNING, Running,
};
use crate::management::audit::{Act, Who, Write};
use crate::management::document;
use crate::peer::Request;
use api::types::config::{CommitRequest, CommitResponse};
use api::types::{Configuration, FieldError};
use api::{ApiError, Meta};
use futures::future::join_all;
use model::{Collection, Node, NodeId, NodeRole, Pool, Revision};
use raft_store::{Command, DocKey, DocumentOp, Entry, Expect, Reply, State};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a data node may take to try a configuration.
const DRY_RUN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest comment, in octets.
const COMMENT_OCTETS_MAX: usize = 255;
/// Seconds for which a commit may wait for its confirmation.
const CONFIRM_S: std::ops::RangeInclusive<u32> = 10..=86_400;

/// What would become of a tree on this node.
///
/// # Errors
/// Everything that this node would refuse.
pub fn dry_run(tree: &Value, state: &State) -> Result<(), Vec<FieldError>> {
    compiled(tree, state).map(|_| ())
}

/// What a tree says, and the commands that bring the state there.
fn compiled(tree: &Value, state: &State) -> Result<(Configuration, Vec<Command>), Vec<FieldError>> {
    let config = Configuration::check(tree)?;
    let commands = compile::commands(&config, state)?;
    trial(state, &commands)?;
    Ok((config, commands))
}

/// Applies the commands to a copy of the state, as every node will.
fn trial(state: &State, commands: &[Command]) -> Result<(), Vec<FieldError>> {
    let mut copy = state.clone();
    let mut errors = Vec::new();
    for command in commands {
        let entry = Entry { at: state.time(), client: None, trace: None, command: command.clone() };
        let (reply, _) = copy.apply(Revision(state.applied().0 + 1), &entry);
        if let Reply::Refused(refusal) = reply {
            errors.push(FieldError::new(path_of(command), refusal.to_string()));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The part of the tree that a command comes from.
fn path_of(command: &Command) -> String {
    if let Command::PutGroup(group) = command {
        format!("groups.{}", group.name)
    } else if let Command::PutPool(Pool { name, .. }) | Command::RemovePool(name) = command {
        format!("pools.{name}")
    } else {
        // A group that goes is no longer in the tree.
        "groups".to_owned()
    }
}

/// What is to be committed, and what becomes of a commit that waits.
pub(super) struct Plan<'a> {
    pub(super) tree: Value,
    pub(super) who: &'a Who,
    pub(super) comment: &'a str,
    /// Documents that go with it: the candidate, a confirmation.
    pub(super) ops: Vec<DocumentOp>,
}

impl ConfigStore {
    /// Commits the candidate; without one, confirms a commit that waits.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] with everything that any node refuses; [`ApiError::Conflict`] when
    /// there is nothing to commit, or another commit came first.
    pub async fn commit(
        &self,
        request: &CommitRequest,
        who: &Who,
    ) -> Result<(CommitResponse, Meta), ApiError> {
        check_request(request)?;
        let state = self.fresh().await?;
        let waiting = store::load::<Confirm>(&state, Collection::Config, CONFIRM)?;
        let candidate = self.candidate(&state)?;
        let running = store::running_tree(&state)?;
        let Some((Candidate { tree, .. }, revision)) = candidate.filter(|(c, _)| c.tree != running)
        else {
            return match (waiting, request.confirm_s) {
                (Some((_, revision)), None) => self.confirm(&state, revision, who).await,
                (Some(_), Some(_)) | (None, _) => {
                    Err(ApiError::conflict("the candidate does not differ: nothing to commit"))
                }
            };
        };
        let mut ops =
            vec![document::delete(Collection::Config, CANDIDATE, Expect::Revision(revision))];
        let deadline_ms = match request.confirm_s {
            Some(s) => {
                let at = self.local.store.now().plus_secs(u64::from(s)).0;
                // What comes back is what was confirmed last, however many commits have waited.
                let (previous, previous_version) = match waiting {
                    Some((w, _)) => (w.previous, w.previous_version),
                    None => (running, store::version(&state)),
                };
                let author = who.username().to_owned();
                let confirm = Confirm { deadline_ms: at, previous, previous_version, author };
                let key = DocKey::Named(CONFIRM.to_owned());
                ops.push(store::put(Collection::Config, key, &confirm, Expect::Any)?);
                Some(at)
            }
            None => {
                if waiting.is_some() {
                    ops.push(delete_confirm(Expect::Any));
                }
                None
            }
        };
        let plan = Plan { tree, who, comment: &request.comment, ops };
        let (mut response, meta) = self.carry_out(&state, plan).await?;
        response.confirm_deadline = deadline_ms.map(|ms| ms / 1000);
        Ok((response, meta))
    }

    async fn confirm(
        &self,
        state: &State,
        revision: Revision,
        who: &Who,
    ) -> Result<(CommitResponse, Meta), ApiError> {
        let op = delete_confirm(Expect::Revision(revision));
        let act = Act::new("config.confirm", format!("config/{}", store::version(state)));
        let at = self.commit_as(who, vec![op], act).await?;
        let response = CommitResponse {
            version: store::version(state),
            changes: Vec::new(),
            count: 0,
            confirm_deadline: None,
            confirmed: true,
            unchecked: Vec::new(),
        };
        Ok((response, Meta::at(at)))
    }

    /// Checks a tree here and on the data nodes, and writes it with all that follows from it in one
    /// entry.
    pub(super) async fn carry_out(
        &self,
        state: &State,
        plan: Plan<'_>,
    ) -> Result<(CommitResponse, Meta), ApiError> {
        let (mut config, commands) =
            compiled(&plan.tree, state).map_err(|errors| ApiError::Invalid { errors })?;
        let unchecked = self.try_on_data_nodes(state, &plan.tree).await?;
        let before = store::running_tree(state)?;
        let changes = store::masked_changes(&before, &plan.tree);
        config.groups.clear();
        config.pools.clear();
        let mut ops = plan.ops;
        let key = DocKey::Named(RUNNING.to_owned());
        let running = Running { config };
        ops.push(store::put(Collection::Config, key, &running, store::running_expect(state))?);
        if state.document_count(Collection::ConfigArchive) == 0 {
            let first = Archived {
                tree: before.clone(),
                author: "bootstrap".to_owned(),
                comment: "as the cluster was made".to_owned(),
                changed: 0,
            };
            let key = DocKey::Named(FIRST.to_owned());
            ops.push(store::put(Collection::ConfigArchive, key, &first, Expect::Absent)?);
        }
        let archived = Archived {
            changed: changes.len(),
            tree: plan.tree,
            author: plan.who.username().to_owned(),
            comment: plan.comment.to_owned(),
        };
        let key = DocKey::FromRevision;
        ops.push(store::put(Collection::ConfigArchive, key, &archived, Expect::Absent)?);
        let after = json!({ "comment": plan.comment, "changes": store::told(&changes)? });
        let act = Act::new("config.commit", "config/running").after(after);
        let write = Write { ops, also: commands, attempt: 0 };
        let revision = self.commit_as(plan.who, write, act).await?;
        let response = CommitResponse {
            version: revision.0,
            count: changes.len(),
            changes,
            confirm_deadline: None,
            confirmed: false,
            unchecked,
        };
        Ok((response, Meta::at(revision)))
    }

    /// Asks every other data node; returns the names of those that did not answer.
    async fn try_on_data_nodes(
        &self,
        state: &State,
        tree: &Value,
    ) -> Result<Vec<String>, ApiError> {
        let nodes: Vec<&Node> =
            state.nodes().filter(|n| n.role == NodeRole::Data && n.id != self.local.me).collect();
        let answers = join_all(nodes.iter().map(|node| self.try_on(node.id, tree))).await;
        let mut silent = Vec::new();
        let mut errors = Vec::new();
        for (node, answer) in nodes.iter().zip(answers) {
            match answer {
                Ok(found) => errors.extend(found.into_iter().map(|e| {
                    FieldError::new(e.path, format!("node {}: {}", node.name, e.message))
                })),
                Err(_) => silent.push(node.name.clone()),
            }
        }
        if errors.is_empty() { Ok(silent) } else { Err(ApiError::Invalid { errors }) }
    }

    async fn try_on(&self, node: NodeId, tree: &Value) -> Result<Vec<FieldError>, String> {
        let revision = self.local.store.state().applied();
        let request = Request::DryRun { tree: tree.clone(), revision };
        self.local.ask(node, &request, DRY_RUN_TIMEOUT).await
    }
}

pub(super) fn delete_confirm(expect: Expect) -> DocumentOp {
    document::delete(Collection::Config, CONFIRM, expect)
}

fn check_request(request: &CommitRequest) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    if request.comment.len() > COMMENT_OCTETS_MAX {
        let message = format!("has at most {COMMENT_OCTETS_MAX} octets");
        errors.push(FieldError::new("comment", message));
    }
    if request.confirm_s.is_some_and(|s| !CONFIRM_S.contains(&s)) {
        let (low, high) = CONFIRM_S.into_inner();
        errors.push(FieldError::new("confirm_s", format!("must be {low} to {high}")));
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::Invalid { errors }) }
}
