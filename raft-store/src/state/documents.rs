//! Documents: kept, counted and dropped by age, never understood.

use super::State;
use super::apply::Effects;
use super::config::check_name;
use crate::change::Change;
use crate::command::{Command, DocKey, DocumentBatch, DocumentOp, Expect, Refusal, Reply};
use imbl::{OrdMap, OrdSet};
use model::{Collection, Revision, UnixMs, WhenFull};
use std::ops::Bound;
use std::sync::Arc;

/// One document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// What the proposer wrote.
    pub value: Arc<[u8]>,
    /// Revision of the entry that added it.
    pub created: Revision,
    /// Revision of the entry that wrote it last.
    pub modified: Revision,
    /// The cluster's time at that entry.
    pub at: UnixMs,
}

impl std::fmt::Debug for Document {
    /// Leaves the value out: some are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("octets", &self.value.len())
            .field("created", &self.created)
            .field("modified", &self.modified)
            .field("at", &self.at)
            .finish()
    }
}

/// One collection.
#[derive(Clone, Debug, Default)]
struct Shelf {
    documents: OrdMap<Arc<str>, Document>,
    /// By the last write; only where the oldest give way.
    by_age: OrdSet<(Revision, Arc<str>)>,
    /// Of all values.
    octets: u64,
}

fn octets(document: &Document) -> u64 {
    u64::try_from(document.value.len()).unwrap_or(u64::MAX)
}

/// All collections. A clone is cheap and independent.
#[derive(Clone, Debug, Default)]
pub(super) struct Documents {
    shelves: OrdMap<Collection, Shelf>,
}

impl Documents {
    fn get(&self, collection: Collection, key: &str) -> Option<&Document> {
        self.shelves.get(&collection)?.documents.get(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Collection, &str, &Document)> + '_ {
        self.shelves.iter().flat_map(|(collection, shelf)| {
            shelf.documents.iter().map(|(key, document)| (*collection, &**key, document))
        })
    }

    fn insert(&mut self, collection: Collection, key: Arc<str>, document: Document) {
        self.remove(collection, &key);
        let shelf = self.shelves.entry(collection).or_default();
        shelf.octets += octets(&document);
        if collection.limits().when_full == WhenFull::DropOldest {
            shelf.by_age.insert((document.modified, Arc::clone(&key)));
        }
        shelf.documents.insert(key, document);
    }

    fn remove(&mut self, collection: Collection, key: &str) -> Option<Arc<str>> {
        let shelf = self.shelves.get_mut(&collection)?;
        let (key, document) = shelf.documents.remove_with_key(key)?;
        shelf.octets -= octets(&document);
        shelf.by_age.remove(&(document.modified, Arc::clone(&key)));
        Some(key)
    }

    /// Puts back what a snapshot kept; false when it is there already.
    pub(super) fn restore(
        &mut self,
        collection: Collection,
        key: Arc<str>,
        document: Document,
    ) -> bool {
        let new = self.get(collection, &key).is_none();
        self.insert(collection, key, document);
        new
    }

    fn is_over(&self, collection: Collection) -> bool {
        let limits = collection.limits();
        self.shelves.get(&collection).is_some_and(|shelf| {
            shelf.documents.len() > limits.documents_max || shelf.octets > limits.total_octets_max
        })
    }

    /// Brings a collection back within its bounds after a write of the entry at `revision`, none of
    /// whose documents goes; returns the keys that went.
    fn make_room(
        &mut self,
        collection: Collection,
        revision: Revision,
    ) -> Result<Vec<Arc<str>>, Refusal> {
        let mut dropped = Vec::new();
        while self.is_over(collection) {
            let oldest = self.shelves.get(&collection).and_then(|shelf| shelf.by_age.get_min());
            let Some((_, key)) = oldest.filter(|(modified, _)| *modified < revision).cloned()
            else {
                return Err(Refusal::CollectionFull { collection });
            };
            self.remove(collection, &key);
            dropped.push(key);
        }
        Ok(dropped)
    }

    fn check(&self, collection: Collection, key: &str, expect: Expect) -> Result<(), Refusal> {
        let revision = self.get(collection, key).map(|document| document.modified);
        let met = match expect {
            Expect::Any => true,
            Expect::Absent => revision.is_none(),
            Expect::Present if revision.is_none() => {
                return Err(Refusal::DocumentUnknown { collection, key: key.to_owned() });
            }
            Expect::Present => true,
            Expect::Revision(wanted) => revision == Some(wanted),
        };
        if met {
            return Ok(());
        }
        Err(Refusal::DocumentConflict { collection, key: key.to_owned(), revision })
    }

    /// Does one operation and returns its key.
    fn run(
        &mut self,
        number: usize,
        op: &DocumentOp,
        at: UnixMs,
        effects: &mut Effects,
    ) -> Result<String, Refusal> {
        let revision = effects.revision;
        match op {
            DocumentOp::Put { collection, key, value, expect } => {
                let (collection, expect) = (*collection, *expect);
                let key = match key {
                    DocKey::Named(name) => name.clone(),
                    DocKey::FromRevision => {
                        let key = DocKey::at(revision, number);
                        // Somebody may have given that name before.
                        self.check(collection, &key, Expect::Absent)?;
                        key
                    }
                };
                check_name(&key, "a document's key")?;
                self.check(collection, &key, expect)?;
                let max = collection.limits().value_octets_max;
                if value.len() > max {
                    let why = format!("a document of {collection} has at most {max} octets");
                    return Err(Refusal::Invalid(why));
                }
                let old = self.get(collection, &key);
                let created = old.map_or(revision, |old| old.created);
                let value = Arc::from(value.as_slice());
                let shared: Arc<str> = Arc::from(key.as_str());
                let document = Document { value, created, modified: revision, at };
                self.insert(collection, Arc::clone(&shared), document);
                effects.push(Change::DocumentPut { collection, key: shared });
                for key in self.make_room(collection, revision)? {
                    effects.push(Change::DocumentDeleted { collection, key });
                }
                Ok(key)
            }
            DocumentOp::Delete { collection, key, expect } => {
                self.check(*collection, key, *expect)?;
                if let Some(key) = self.remove(*collection, key) {
                    effects.push(Change::DocumentDeleted { collection: *collection, key });
                }
                Ok(key.clone())
            }
            DocumentOp::Check { collection, key, expect } => {
                self.check(*collection, key, *expect)?;
                Ok(key.clone())
            }
        }
    }
}

/// What can be said of a batch without looking at anything else.
fn check_batch(batch: &DocumentBatch) -> Result<(), Refusal> {
    if batch.ops.len() > DocumentBatch::OPS_MAX {
        let why = format!("a batch has at most {} operations", DocumentBatch::OPS_MAX);
        return Err(Refusal::Invalid(why));
    }
    if batch.also.len() > DocumentBatch::ALSO_MAX {
        let why = format!("a batch has at most {} commands", DocumentBatch::ALSO_MAX);
        return Err(Refusal::Invalid(why));
    }
    // The id of a new session is made of the revision.
    if batch.also.iter().filter(|also| matches!(also, Command::PutStatic(_))).count() > 1 {
        return Err(Refusal::Invalid("a batch has at most one new static subscriber".to_owned()));
    }
    let octets: usize = batch
        .ops
        .iter()
        .map(|op| match op {
            DocumentOp::Put { value, .. } => value.len(),
            DocumentOp::Delete { .. } | DocumentOp::Check { .. } => 0,
        })
        .sum();
    if octets > DocumentBatch::OCTETS_MAX {
        let why =
            format!("the values of a batch have at most {} octets", DocumentBatch::OCTETS_MAX);
        return Err(Refusal::Invalid(why));
    }
    Ok(())
}

impl State {
    /// Changes documents, and carries out the commands that go with them, all or nothing.
    pub(super) fn document_batch(
        &mut self,
        batch: &DocumentBatch,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        check_batch(batch)?;
        let mut done = Effects::new(effects.revision);
        let mut trial = self.clone();
        for also in &batch.also {
            // Any other reply would be lost, but a static subscriber can be read from the state. A batch
            // in a batch is one of those that cannot go, which also bounds the depth.
            let readable = matches!(also, Command::PutStatic(_) | Command::EditStatic { .. });
            if trial.run(also, &mut done)? != Reply::Done && !readable {
                let why = format!("{} cannot go with documents", also.label());
                return Err(Refusal::Invalid(why));
            }
        }
        let at = trial.time;
        let ops = batch.ops.iter().enumerate();
        let keys: Result<Vec<_>, _> =
            ops.map(|(number, op)| trial.documents.run(number, op, at, &mut done)).collect();
        let keys = keys?;
        *self = trial;
        effects.join(done);
        Ok(Reply::Documents { keys })
    }

    /// A document.
    #[must_use]
    pub fn document(&self, collection: Collection, key: &str) -> Option<&Document> {
        self.documents.get(collection, key)
    }

    /// The documents of a collection, by key.
    pub fn documents(
        &self,
        collection: Collection,
    ) -> impl DoubleEndedIterator<Item = (&str, &Document)> + '_ {
        let shelf = self.documents.shelves.get(&collection);
        shelf.into_iter().flat_map(|s| s.documents.iter().map(|(key, doc)| (&**key, doc)))
    }

    /// At most `limit` documents whose keys come after `after`, by key: one page.
    pub fn documents_from<'a>(
        &'a self,
        collection: Collection,
        after: Option<&str>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a str, &'a Document)> + use<'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.page(collection, (from, Bound::Unbounded)).take(limit)
    }

    /// At most `limit` documents whose keys come before `before`, from the last key backwards:
    /// one page. Of documents with [`DocKey::FromRevision`] these are the newest first.
    pub fn documents_rev<'a>(
        &'a self,
        collection: Collection,
        before: Option<&str>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a str, &'a Document)> + use<'a> {
        let to = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.page(collection, (Bound::Unbounded, to)).rev().take(limit)
    }

    fn page<'a>(
        &'a self,
        collection: Collection,
        range: (Bound<&str>, Bound<&str>),
    ) -> impl DoubleEndedIterator<Item = (&'a str, &'a Document)> + use<'a> {
        let shelf = self.documents.shelves.get(&collection);
        shelf
            .map(|shelf| shelf.documents.range::<_, str>(range))
            .into_iter()
            .flatten()
            .map(|(key, document)| (&**key, document))
    }

    /// How many documents a collection has.
    #[must_use]
    pub fn document_count(&self, collection: Collection) -> usize {
        self.documents.shelves.get(&collection).map_or(0, |shelf| shelf.documents.len())
    }

    /// How many octets the values of a collection have together.
    #[must_use]
    pub fn document_octets(&self, collection: Collection) -> u64 {
        self.documents.shelves.get(&collection).map_or(0, |shelf| shelf.octets)
    }
}
