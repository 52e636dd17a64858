//! Webhooks, cursors and dead letters as replicated documents.

use crate::management::audit::{Act, Journal, Who, Write};
use crate::management::document;
use crate::peer::Local;
use api::types::event::{EventId, EventKind, SubscriberEvent};
use api::types::webhook::{
    DeadLetter, DeadLetterList, DeadLetterQuery, Webhook, WebhookCreated, WebhookDeleted,
    WebhookFailing, WebhookList, WebhookRequest,
};
use api::{ApiError, Meta};
use model::{Collection, Revision, Secret};
use raft_store::{Command, DocKey, DocumentBatch, DocumentOp, Expect, State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// The longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 200;
/// How often an id is drawn when the first is taken.
const TRIES: u64 = 4;

/// A webhook as it is stored. Never changed after it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hook {
    pub(super) url: String,
    pub(super) events: Vec<EventKind>,
    pub(super) secret: Secret,
    created_by: String,
    created_ms: u64,
}

/// How far a webhook was served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) at: EventId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failing: Option<WebhookFailing>,
}

/// A delivery that was given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) webhook: String,
    pub(super) attempts: u32,
    pub(super) error: String,
    pub(super) event: Option<SubscriberEvent>,
}

fn internal(cause: impl std::fmt::Display) -> ApiError {
    ApiError::internal(format!("webhooks: {cause}"))
}

fn decoded<T: for<'a> Deserialize<'a>>(value: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(value).map_err(internal)
}

/// Cuts what a peer may have written at length.
pub(super) fn short(error: &str) -> String {
    error.chars().take(ERROR_CHARS_MAX).collect()
}

/// All webhooks with the place from which each is to be served.
pub(super) fn hooks(state: &State) -> BTreeMap<String, (Hook, Cursor)> {
    let read = |(id, document): (&str, &raft_store::Document)| {
        let hook: Hook = decoded(&document.value).ok()?;
        let cursor = state
            .document(Collection::WebhookCursor, id)
            .and_then(|cursor| decoded(&cursor.value).ok())
            .unwrap_or(Cursor { at: EventId::all_of(document.modified), failing: None });
        Some((id.to_owned(), (hook, cursor)))
    };
    state.documents(Collection::Webhook).filter_map(read).collect()
}

/// Webhooks as this node can read and propose them.
#[derive(Clone)]
pub(crate) struct Webhooks {
    pub(super) local: Local,
}

impl Webhooks {
    pub(crate) fn new(local: Local) -> Self {
        Self { local }
    }

    async fn commit(
        &self,
        who: &Who,
        ops: Vec<DocumentOp>,
        act: Act,
        attempt: u64,
    ) -> Result<Revision, ApiError> {
        let write = Write::from(ops).attempt(attempt);
        Ok(Journal::new(&self.local).commit(who, write, act).await?.revision)
    }

    pub(crate) fn list(&self, state: &State) -> (WebhookList, Meta) {
        let mut dead: BTreeMap<String, usize> = BTreeMap::new();
        for (_, document) in state.documents(Collection::WebhookDeadLetter) {
            if let Ok(letter) = decoded::<Letter>(&document.value) {
                *dead.entry(letter.webhook).or_default() += 1;
            }
        }
        let shown = |(id, (hook, cursor)): (String, (Hook, Cursor))| Webhook {
            dead_letters: dead.get(&id).copied().unwrap_or_default(),
            id,
            url: hook.url,
            events: hook.events,
            created_by: hook.created_by,
            created_at: hook.created_ms / 1000,
            cursor: cursor.at,
            failing: cursor.failing,
        };
        let webhooks: Vec<_> = hooks(state).into_iter().map(shown).collect();
        (WebhookList { count: webhooks.len(), webhooks }, Meta::at(state.applied()))
    }

    /// `ids` and `secret` are random, and for a repeated `Idempotency-Key` those of the first time.
    pub(crate) async fn add(
        &self,
        request: WebhookRequest,
        ids: [u8; 32],
        secret: Secret,
        who: &Who,
    ) -> Result<(WebhookCreated, Meta), ApiError> {
        let secret = request.secret.unwrap_or(secret);
        let hook = Hook {
            url: request.url,
            events: request.events,
            secret,
            created_by: who.username().to_owned(),
            created_ms: self.local.store.now().0,
        };
        for (attempt, id) in (0..TRIES).zip(ids.as_chunks::<4>().0) {
            let id = hex::encode(id);
            // An id that was used before may have dead letters; they would look like the new one's.
            let unused = document::delete(Collection::WebhookCursor, &id, Expect::Any);
            let ops = vec![document::put(Collection::Webhook, &id, &hook, Expect::Absent), unused];
            let after = json!({ "id": id, "url": hook.url, "events": hook.events });
            let act = Act::new("webhook.create", "webhook").after(after);
            match self.commit(who, ops, act, attempt).await {
                Ok(revision) => {
                    let Hook { url, events, secret, .. } = hook;
                    let created = WebhookCreated { id, url, events, secret };
                    return Ok((created, Meta::at(revision)));
                }
                Err(ApiError::Conflict { .. })
                    if self.local.store.state().document(Collection::Webhook, &id).is_some() => {}
                Err(other) => return Err(other),
            }
        }
        Err(ApiError::conflict("no free id was found; try again"))
    }

    pub(crate) async fn delete(
        &self,
        id: &str,
        who: &Who,
    ) -> Result<(WebhookDeleted, Meta), ApiError> {
        let ops = vec![
            document::delete(Collection::Webhook, id, Expect::Present),
            document::delete(Collection::WebhookCursor, id, Expect::Any),
        ];
        let act = Act::new("webhook.delete", format!("webhook/{id}"));
        let revision = self.commit(who, ops, act, 0).await;
        let revision = revision.map_err(|e| absent(e, "webhook", id))?;
        Ok((WebhookDeleted { id: id.to_owned() }, Meta::at(revision)))
    }

    pub(crate) fn dead_letters(
        &self,
        state: &State,
        query: &DeadLetterQuery,
    ) -> Result<(DeadLetterList, Meta), ApiError> {
        let limit = query.limit.unwrap_or(DeadLetterQuery::LIMIT_DEFAULT);
        let limit = usize::try_from(limit.min(DeadLetterQuery::LIMIT_MAX)).unwrap_or_default();
        let page =
            state.documents_rev(Collection::WebhookDeadLetter, query.before.as_deref(), limit);
        let shown = |(id, document): (&str, &raft_store::Document)| {
            let Letter { webhook, attempts, error, event } = decoded(&document.value)?;
            let at = document.at.as_secs();
            Ok(DeadLetter { id: id.to_owned(), webhook, at, attempts, error, event })
        };
        let dead_letters = page.map(shown).collect::<Result<Vec<_>, ApiError>>()?;
        let next = dead_letters.last().filter(|_| dead_letters.len() == limit);
        let next = next.map(|letter| letter.id.clone());
        let list = DeadLetterList { count: dead_letters.len(), dead_letters, next };
        Ok((list, Meta::at(state.applied())))
    }

    pub(crate) async fn delete_letter(
        &self,
        id: &str,
        who: &Who,
    ) -> Result<(WebhookDeleted, Meta), ApiError> {
        let op = document::delete(Collection::WebhookDeadLetter, id, Expect::Present);
        let act = Act::new("dead_letter.delete", format!("dead_letter/{id}"));
        let revision = self.commit(who, vec![op], act, 0).await;
        let revision = revision.map_err(|e| absent(e, "dead letter", id))?;
        Ok((WebhookDeleted { id: id.to_owned() }, Meta::at(revision)))
    }

    /// Writes how far a webhook was served, and what was given up on the way, in one entry. A webhook that
    /// was deleted meanwhile is [`ApiError::NotFound`].
    pub(super) async fn save(
        &self,
        id: &str,
        cursor: &Cursor,
        letter: Option<&Letter>,
    ) -> Result<(), ApiError> {
        let check = DocumentOp::Check {
            collection: Collection::Webhook,
            key: id.to_owned(),
            expect: Expect::Present,
        };
        let mut ops =
            vec![check, document::put(Collection::WebhookCursor, id, cursor, Expect::Any)];
        if let Some(letter) = letter {
            let collection = Collection::WebhookDeadLetter;
            ops.push(document::put_at(collection, DocKey::FromRevision, letter, Expect::Absent));
        }
        // No record: nobody asked for it.
        let command = Command::Documents(DocumentBatch::from(ops));
        let saved = Journal::new(&self.local).propose(command, None).await;
        saved.map(drop).map_err(|e| absent(e.into(), "webhook", id))
    }
}

/// A document that must be there and is not, by its own name.
fn absent(error: ApiError, what: &str, id: &str) -> ApiError {
    if matches!(error, ApiError::NotFound { .. }) {
        return ApiError::not_found(format!("{what} {id}"));
    }
    error
}
