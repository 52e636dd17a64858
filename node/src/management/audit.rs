//! Writes with their audit record: one entry of the log for both, so that neither is there without
//! the other.

use super::document;
use crate::peer::Local;
use crate::service::{propose_error, refused};
use api::types::{AuditEntry, AuditQuery, CredentialKind};
use api::{ApiError, Caller, Origin};
use model::{Collection, NodeId};
use raft_store::{
    Command, Committed, DocKey, Document, DocumentBatch, DocumentOp, Expect, LEVEL_DOCUMENTS,
    Refusal, Reply, State, Store,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::time::Duration;

/// How long a write may take, forwarding included.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Octets of what was there before, and as many of what is there now, in one record.
const SNAPSHOT_OCTETS_MAX: usize = 4 * 1024;
/// Characters of any other text in a record.
const TEXT_CHARS_MAX: usize = 200;
/// Fields whose content no record holds, wherever they stand.
const SECRET_FIELDS: &[&str] =
    &["password", "secret", "hash", "token", "digest", "key", "code", "challenge", "cookie"];

/// Who writes, and how to tell a repetition.
#[derive(Clone, Debug)]
pub struct Who {
    username: String,
    role: String,
    credential: &'static str,
    address: Option<IpAddr>,
    request_id: String,
    idempotency_key: Option<String>,
}

impl Who {
    /// The cluster itself.
    pub(super) fn system() -> Self {
        Self {
            username: "system".to_owned(),
            role: String::new(),
            credential: "none",
            address: None,
            request_id: String::new(),
            idempotency_key: None,
        }
    }

    /// Login name.
    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// Somebody whose password was checked just now, or who gave a name only.
    pub(crate) fn arriving(username: &str, role: &str, origin: &Origin) -> Self {
        Self {
            username: username.to_owned(),
            role: role.to_owned(),
            credential: "password",
            address: origin.address,
            request_id: origin.request_id.clone(),
            idempotency_key: None,
        }
    }

    /// The client of a write that is tried for the `attempt`-th time. Also a refusal is remembered:
    /// another attempt must be another sequence.
    fn client(&self, act: &Act, attempt: u64) -> Option<(u64, u64)> {
        let what = format!("{} {}", act.action, act.object);
        let client = client(&self.username, self.idempotency_key.as_deref(), &what)?;
        Some((client, attempt + 1))
    }
}

/// A repeated `Idempotency-Key` of the same user for the same thing is the same client.
pub(crate) fn client(username: &str, key: Option<&str>, what: &str) -> Option<u64> {
    let digest = Sha256::digest(format!("{username}\0{what}\0{}", key?));
    Some(u64::from_be_bytes(*digest.first_chunk()?))
}

impl From<&Caller> for Who {
    fn from(caller: &Caller) -> Self {
        Self {
            username: caller.username.clone(),
            role: caller.role.to_string(),
            credential: match caller.credential {
                CredentialKind::Token => "token",
                CredentialKind::ApiKey => "api_key",
                CredentialKind::Ticket => "ticket",
                CredentialKind::DialectKey => "dialect_key",
            },
            address: caller.address,
            request_id: caller.request_id.clone(),
            idempotency_key: caller.idempotency_key.clone(),
        }
    }
}

/// What a write does, for the audit trail.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    action: &'static str,
    object: String,
    before: Value,
    after: Value,
}

impl Act {
    /// An act such as `user.update` on an object such as `user/ann`.
    pub(crate) fn new(action: &'static str, object: impl Into<String>) -> Self {
        Self { action, object: object.into(), before: Value::Null, after: Value::Null }
    }

    /// What was there.
    pub(crate) fn before(mut self, before: Value) -> Self {
        self.before = before;
        self
    }

    /// What is there now.
    pub(crate) fn after(mut self, after: Value) -> Self {
        self.after = after;
        self
    }
}

/// Changes that go into one entry.
#[derive(Debug, Default)]
pub(crate) struct Write {
    /// Changes of documents.
    pub(crate) ops: Vec<DocumentOp>,
    /// Commands beside them.
    pub(crate) also: Vec<Command>,
    /// How often it was tried before, on another version of what it changes.
    pub(crate) attempt: u64,
}

impl Write {
    /// Tried again.
    pub(crate) fn attempt(self, attempt: u64) -> Self {
        Self { attempt, ..self }
    }
}

impl From<Command> for Write {
    fn from(command: Command) -> Self {
        Self { ops: vec![], also: vec![command], attempt: 0 }
    }
}

impl From<Vec<DocumentOp>> for Write {
    fn from(ops: Vec<DocumentOp>) -> Self {
        Self { ops, also: vec![], attempt: 0 }
    }
}

/// Why a write was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// The log refused it: nothing was changed.
    #[error(transparent)]
    Refused(Refusal),
    /// It did not get that far, or nobody knows.
    #[error(transparent)]
    Failed(ApiError),
}

impl WriteError {
    /// Whether somebody else changed, in between, what the write is about.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Refused(
                Refusal::DocumentConflict { .. }
                    | Refusal::DocumentUnknown { .. }
                    | Refusal::ApiUserConflict { .. }
            )
        )
    }

    /// Whether what the write is about does not exist.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused(Refusal::DocumentUnknown { .. } | Refusal::UnknownApiUser))
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refused(&refusal),
            WriteError::Failed(error) => error,
        }
    }
}

/// A record as it is kept; its key is made of the revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct AuditDoc {
    actor: String,
    role: String,
    credential: String,
    address: Option<IpAddr>,
    request_id: String,
    node: String,
    action: String,
    object: String,
    before: Value,
    after: Value,
    outcome: String,
}

/// Blanks secrets in a value.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                let is_secret =
                    SECRET_FIELDS.iter().any(|s| name == *s || name.ends_with(&format!("_{s}")))
                        || name.contains("password");
                if is_secret && (value.is_string() || value.is_array()) {
                    *value = Value::String("***".to_owned());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn snapshot(mut value: Value) -> Value {
    redact(&mut value);
    let octets = value.to_string().len();
    if octets > SNAPSHOT_OCTETS_MAX { json!({ "too_long_octets": octets }) } else { value }
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

impl AuditDoc {
    fn new(who: &Who, node: &str, act: Act, outcome: &str) -> Self {
        Self {
            actor: short(&who.username),
            role: short(&who.role),
            credential: who.credential.to_owned(),
            address: who.address,
            request_id: who.request_id.clone(),
            node: node.to_owned(),
            action: act.action.to_owned(),
            object: short(&act.object),
            before: snapshot(act.before),
            after: snapshot(act.after),
            outcome: short(outcome),
        }
    }

    fn op(&self, key: DocKey, expect: Expect) -> DocumentOp {
        document::put_at(Collection::Audit, key, self, expect)
    }

    fn entry(self, id: &str, document: &Document) -> AuditEntry {
        let details = format!("{} {}: {}", self.action, self.object, self.outcome);
        AuditEntry {
            id: id.to_owned(),
            revision: document.created,
            created_at: document.at.as_secs(),
            actor_id: self.actor.clone(),
            user_id: self.actor,
            role: self.role,
            credential: self.credential,
            action: self.action,
            object: self.object,
            outcome: self.outcome,
            details,
            before: self.before,
            after: self.after,
            ip_addr: self.address.map(|address| address.to_string()),
            request_id: self.request_id,
            node: self.node,
        }
    }
}

/// The log of this node as the API writes to it.
#[derive(Clone)]
pub(crate) struct Journal {
    store: Store,
    me: NodeId,
}

impl Journal {
    /// Over the store of this node.
    pub(crate) fn new(local: &Local) -> Self {
        Self { store: local.store.clone(), me: local.me }
    }

    /// This node's name.
    fn node(&self) -> String {
        let state = self.store.state();
        state.node(self.me).map_or_else(|| self.me.to_string(), |node| node.name.clone())
    }

    /// Proposes a command; without a client of its own each is one, and only retries inside the store
    /// repeat it.
    pub(crate) async fn propose(
        &self,
        command: Command,
        client: Option<(u64, u64)>,
    ) -> Result<Committed, WriteError> {
        let client = client.unwrap_or_else(|| (rand::random(), 1));
        let committed = self
            .store
            .propose_as(command, client, None, WRITE_TIMEOUT)
            .await
            .map_err(|e| WriteError::Failed(propose_error(&e)))?;
        committed.accepted().map_err(WriteError::Refused)
    }

    /// Carries out a write together with its audit record, or neither. A write that the log
    /// refuses is recorded as refused, unless it only came too late.
    pub(crate) async fn commit(
        &self,
        who: &Who,
        write: impl Into<Write> + Send,
        act: Act,
    ) -> Result<Committed, WriteError> {
        let Write { mut ops, mut also, attempt } = write.into();
        let client = who.client(&act, attempt);
        if self.store.state().level() < LEVEL_DOCUMENTS && ops.is_empty() && also.len() == 1 {
            // While some member does not know documents yet, what it does know goes on.
            if let Some(command) = also.pop() {
                tracing::warn!(
                    event = "TANDEM-AUDIT-MISSING",
                    user = who.username,
                    action = act.action,
                    object = act.object,
                    "not recorded: not all members know the audit trail yet"
                );
                return self.propose(command, client).await;
            }
        }
        let record = AuditDoc::new(who, &self.node(), act.clone(), "done");
        ops.push(record.op(DocKey::FromRevision, Expect::Any));
        let result = self.propose(Command::Documents(DocumentBatch { ops, also }), client).await;
        if let Err(error @ WriteError::Refused(refusal)) = &result
            && !error.is_conflict()
            && !matches!(refusal, Refusal::LevelTooLow)
        {
            let outcome = format!("refused: {refusal}");
            let act = Act { after: Value::Null, ..act };
            let record = AuditDoc::new(who, &self.node(), act, &outcome);
            self.record(record.op(DocKey::FromRevision, Expect::Any)).await;
        }
        result.map(original)
    }

    /// Notes that something is about to be done that is no entry of the log.
    pub(crate) async fn begin(&self, who: &Who, act: Act) -> Note {
        let record = AuditDoc::new(who, &self.node(), act.clone(), "requested");
        let committed = self.record(record.op(DocKey::FromRevision, Expect::Any)).await;
        let key = committed.and_then(|c| written(&c.reply).last().cloned());
        Note { who: who.clone(), act, key }
    }

    /// Completes the note of [`Journal::begin`].
    pub(crate) async fn end(&self, note: Note, outcome: &str, after: Value) {
        let Note { who, act, key: Some(key) } = note else { return };
        let record = AuditDoc::new(&who, &self.node(), Act { after, ..act }, outcome);
        self.record(record.op(DocKey::Named(key), Expect::Present)).await;
    }

    async fn record(&self, op: DocumentOp) -> Option<Committed> {
        let recorded = self.propose(Command::Documents(vec![op].into()), None).await;
        recorded
            .inspect_err(|error| {
                tracing::warn!(
                    event = "TANDEM-AUDIT-FAILED",
                    %error,
                    "an audit record could not be written"
                );
            })
            .ok()
    }
}

/// Keys of the documents that an entry has put.
fn written(reply: &Reply) -> &[String] {
    if let Reply::Documents { keys } = reply { keys } else { &[] }
}

/// A repetition is told what was done at first, so also when: its record's key says it.
fn original(committed: Committed) -> Committed {
    let first = written(&committed.reply).last().and_then(|key| document::revision_of(key));
    Committed { revision: first.unwrap_or(committed.revision), ..committed }
}

/// A record of something that is under way.
pub(crate) struct Note {
    who: Who,
    act: Act,
    key: Option<String>,
}

/// The newest records.
pub(crate) fn page(state: &State, query: &AuditQuery) -> Vec<AuditEntry> {
    let limit = usize::try_from(query.limit()).unwrap_or(usize::MAX);
    state
        .documents_rev(Collection::Audit, query.before.as_deref(), limit)
        .filter_map(|(id, document)| {
            Some(document::read::<AuditDoc>(document)?.entry(id, document))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_no_secret_and_is_bounded() {
        let value = json!({
            "username": "ann", "password": "hunter2", "password_hash": "$argon2id$x",
            "keys": [{ "key": "tdm_1", "id": "1" }], "totp": { "secret": "ABC", "recovery_code": ["x"] },
            "monkey": "stays", "refresh_token": "r", "token_count": 3,
        });
        let text = snapshot(value).to_string();
        for secret in ["hunter2", "argon2id", "tdm_1", "ABC", "\"x\"", "\"r\""] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(text.contains("stays") && text.contains("ann") && text.contains('3'), "{text}");
        let long = snapshot(json!({ "x": "y".repeat(10_000) })).to_string();
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn an_idempotency_key_belongs_to_its_user_and_to_what_it_does() {
        assert_eq!(client("a", None, "x"), None);
        assert_eq!(client("a", Some("k"), "x"), client("a", Some("k"), "x"));
        assert_ne!(client("a", Some("k"), "x"), client("b", Some("k"), "x"));
        assert_ne!(client("a", Some("k"), "x"), client("a", Some("k"), "y"));
    }

    #[test]
    fn the_largest_record_fits_its_collection() {
        let text = "\u{1}".repeat(2000); // the longest in JSON
        let half = json!({ "x": "y".repeat(SNAPSHOT_OCTETS_MAX - 20) });
        let who = Who {
            username: text.clone(),
            role: text.clone(),
            credential: "password",
            address: None,
            request_id: "r".repeat(64),
            idempotency_key: None,
        };
        let act =
            Act { action: "user.update", object: text.clone(), before: half.clone(), after: half };
        let record = AuditDoc::new(&who, &"n".repeat(32), act, &text);
        let octets = serde_json::to_vec(&record).unwrap().len();
        // A record that is refused would take its write with it.
        assert!(octets <= Collection::Audit.limits().value_octets_max, "{octets}");
    }
}
