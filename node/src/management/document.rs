//! Records of the management plane as documents of the replicated state, in JSON.

use model::{Collection, Revision};
use raft_store::{DocKey, Document, DocumentOp, Expect};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a document holds; nothing when it cannot be read.
pub(crate) fn read<T: DeserializeOwned>(document: &Document) -> Option<T> {
    serde_json::from_slice(&document.value)
        .inspect_err(|error| {
            tracing::error!(
                event = "TANDEM-RECORD-UNREADABLE",
                revision = %document.modified,
                %error,
                "a document of the management plane cannot be read"
            );
        })
        .ok()
}

/// Writes a document under a name.
pub(crate) fn put<T: Serialize>(
    collection: Collection,
    key: &str,
    value: &T,
    expect: Expect,
) -> DocumentOp {
    put_at(collection, DocKey::Named(key.to_owned()), value, expect)
}

/// Writes a document.
pub(crate) fn put_at<T: Serialize>(
    collection: Collection,
    key: DocKey,
    value: &T,
    expect: Expect,
) -> DocumentOp {
    let value = serde_json::to_vec(value).expect("plain records always serialise");
    DocumentOp::Put { collection, key, value, expect }
}

/// Removes a document.
pub(crate) fn delete(collection: Collection, key: &str, expect: Expect) -> DocumentOp {
    DocumentOp::Delete { collection, key: key.to_owned(), expect }
}

/// The revision that made a key of [`DocKey::FromRevision`]: `…0042-0001` is 42.
pub(crate) fn revision_of(key: &str) -> Option<Revision> {
    key.split_once('-')?.0.parse().ok().map(Revision)
}
