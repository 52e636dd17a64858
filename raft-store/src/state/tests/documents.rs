//! Documents: conditions, retention, limits, snapshots.

use super::fixture::*;
use crate::change::Change;
use crate::command::{Command, DocKey, DocumentBatch, DocumentOp, Expect, Refusal, Reply};
use crate::{Section, State};
use model::{ApiRole, Collection, Revision};
use std::sync::Arc;

/// `kind hex`, one record a line, as in `frozen.txt`.
const FROZEN: &str = include_str!("frozen_documents.txt");

fn cluster() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.done(Command::RaiseLevel { level: 2 });
    cluster
}

pub(super) fn put(collection: Collection, key: &str, value: &[u8], expect: Expect) -> DocumentOp {
    let key = DocKey::Named(key.to_owned());
    DocumentOp::Put { collection, key, value: value.to_vec(), expect }
}

pub(super) fn log(collection: Collection, value: &[u8]) -> DocumentOp {
    let key = DocKey::FromRevision;
    DocumentOp::Put { collection, key, value: value.to_vec(), expect: Expect::Any }
}

pub(super) fn delete(collection: Collection, key: &str, expect: Expect) -> DocumentOp {
    DocumentOp::Delete { collection, key: key.to_owned(), expect }
}

fn check_op(collection: Collection, key: &str, expect: Expect) -> DocumentOp {
    DocumentOp::Check { collection, key: key.to_owned(), expect }
}

fn batch(ops: Vec<DocumentOp>) -> Command {
    Command::Documents(ops.into())
}

/// Runs a batch that must go through.
#[track_caller]
fn run(cluster: &mut Cluster, ops: Vec<DocumentOp>) -> Vec<String> {
    let reply = cluster.run(batch(ops));
    let Reply::Documents { keys } = reply else { panic!("{reply:?}") };
    keys
}

fn changed(collection: Collection, key: &str) -> Change {
    Change::DocumentPut { collection, key: Arc::from(key) }
}

fn gone(collection: Collection, key: &str) -> Change {
    Change::DocumentDeleted { collection, key: Arc::from(key) }
}

fn keys(state: &State, collection: Collection) -> Vec<&str> {
    state.documents(collection).map(|(key, _)| key).collect()
}

#[test]
fn documents_are_refused_below_their_level() {
    let mut cluster = Cluster::new();
    let op = || vec![put(Collection::Setting, "dns", b"{}", Expect::Any)];
    assert_eq!(cluster.refused(batch(op())), Refusal::LevelTooLow);
    cluster.done(Command::RaiseLevel { level: 2 });
    run(&mut cluster, op());
}

#[test]
fn a_document_remembers_when_it_came_and_when_it_changed() {
    let mut cluster = cluster();
    let keys = run(&mut cluster, vec![put(Collection::Setting, "dns", b"one", Expect::Any)]);
    assert_eq!(keys, ["dns"]);
    assert_eq!(cluster.changes, [changed(Collection::Setting, "dns")]);
    let created = Revision(cluster.index);
    cluster.now_s += 10;
    run(&mut cluster, vec![put(Collection::Setting, "dns", b"two!", Expect::Any)]);
    let document = cluster.state.document(Collection::Setting, "dns").unwrap();
    assert_eq!(&*document.value, b"two!");
    assert_eq!((document.created, document.modified), (created, Revision(cluster.index)));
    assert_eq!(document.at.as_secs(), cluster.now_s);
    assert_eq!(cluster.state.document(Collection::Role, "dns"), None);
    assert_eq!(cluster.state.document_octets(Collection::Setting), 4);
    run(&mut cluster, vec![delete(Collection::Setting, "dns", Expect::Any)]);
    assert_eq!(cluster.changes, [gone(Collection::Setting, "dns")]);
    assert_eq!(cluster.state.document_count(Collection::Setting), 0);
    assert_eq!(cluster.state.document_octets(Collection::Setting), 0);
}

#[test]
fn every_condition_holds_or_says_what_is_there() {
    let collection = Collection::Config;
    let mut cluster = cluster();
    run(&mut cluster, vec![put(collection, "here", b"1", Expect::Absent)]);
    let at = Revision(cluster.index);
    let conflict = |key: &str, revision| {
        Some(Refusal::DocumentConflict { collection, key: key.to_owned(), revision })
    };
    let unknown = |key: &str| Some(Refusal::DocumentUnknown { collection, key: key.to_owned() });
    let old = Revision(at.0 - 1);
    let rows = [
        ("here", Expect::Any, None),
        ("here", Expect::Absent, conflict("here", Some(at))),
        ("here", Expect::Present, None),
        ("here", Expect::Revision(at), None),
        ("here", Expect::Revision(old), conflict("here", Some(at))),
        ("gone", Expect::Any, None),
        ("gone", Expect::Absent, None),
        ("gone", Expect::Present, unknown("gone")),
        ("gone", Expect::Revision(at), conflict("gone", None)),
    ];
    for (key, expect, want) in rows {
        for op in [
            put(collection, key, b"2", expect),
            delete(collection, key, expect),
            check_op(collection, key, expect),
        ] {
            let mut trial = cluster.clone();
            let text = format!("{op:?}");
            match &want {
                Some(refusal) => assert_eq!(trial.refused(batch(vec![op])), *refusal, "{text}"),
                None => assert_eq!(run(&mut trial, vec![op]), [key], "{text}"),
            }
        }
    }
}

#[test]
fn a_batch_is_applied_whole_and_in_order_or_not_at_all() {
    let mut cluster = cluster();
    let collection = Collection::Webhook;
    run(&mut cluster, vec![put(collection, "old", b"1", Expect::Any)]);
    let mut ops = vec![
        put(collection, "a", b"1", Expect::Absent),
        put(Collection::WebhookCursor, "a", b"0", Expect::Absent),
        delete(collection, "old", Expect::Present),
        put(collection, "a", b"2", Expect::Present),
    ];
    let mut broken = ops.clone();
    broken.push(check_op(collection, "old", Expect::Present));
    let refusal = cluster.refused(batch(broken));
    assert_eq!(refusal, Refusal::DocumentUnknown { collection, key: "old".to_owned() });
    assert_eq!(keys(&cluster.state, collection), ["old"]);
    ops.push(check_op(collection, "old", Expect::Absent));
    assert_eq!(run(&mut cluster, ops), ["a", "a", "old", "a", "old"]);
    let cursor = Collection::WebhookCursor;
    let want = [
        changed(collection, "a"),
        changed(cursor, "a"),
        gone(collection, "old"),
        changed(collection, "a"),
    ];
    assert_eq!(cluster.changes, want);
    assert_eq!(&*cluster.state.document(collection, "a").unwrap().value, b"2");
}

#[test]
fn a_repeated_batch_is_answered_and_not_applied_twice() {
    let mut cluster = cluster();
    let audit = || batch(vec![log(Collection::Audit, b"login")]);
    let first = cluster.run_as(Some((9, 1)), audit());
    assert_eq!(cluster.run_as(Some((9, 1)), audit()), first);
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.state.document_count(Collection::Audit), 1);
}

#[test]
fn keys_from_the_revision_sort_as_they_were_written() {
    let mut cluster = cluster();
    let mut written = vec![];
    for _ in 0..12 {
        let ops = (0..12).map(|_| log(Collection::Audit, b"x")).collect();
        written.extend(run(&mut cluster, ops));
    }
    assert_eq!(written[11], format!("{:020}-0011", cluster.index - 11));
    let all: Vec<_> = cluster.state.documents(Collection::Audit).map(|(key, _)| key).collect();
    assert_eq!(all, written);
    let taken = DocKey::at(Revision(cluster.index + 2), 0);
    run(&mut cluster, vec![put(Collection::Audit, &taken, b"forged", Expect::Any)]);
    let refusal = cluster.refused(batch(vec![log(Collection::Audit, b"real")]));
    assert!(matches!(refusal, Refusal::DocumentConflict { .. }), "{refusal:?}");
}

#[test]
fn pages_go_forwards_and_backwards_without_a_gap() {
    let mut cluster = cluster();
    let collection = Collection::RadiusUser;
    for key in ["b", "d", "a", "c", "e"] {
        run(&mut cluster, vec![put(collection, key, b"", Expect::Any)]);
    }
    let state = &cluster.state;
    let forwards = |after, limit| -> Vec<&str> {
        state.documents_from(collection, after, limit).map(|(key, _)| key).collect()
    };
    let backwards = |before, limit| -> Vec<&str> {
        state.documents_rev(collection, before, limit).map(|(key, _)| key).collect()
    };
    assert_eq!(forwards(None, 2), ["a", "b"]);
    assert_eq!(forwards(Some("b"), 2), ["c", "d"]);
    assert_eq!(forwards(Some("bb"), 9), ["c", "d", "e"], "the last one may be deleted by then");
    assert_eq!(forwards(Some("e"), 9), [""; 0]);
    assert_eq!(backwards(None, 2), ["e", "d"]);
    assert_eq!(backwards(Some("d"), 9), ["c", "b", "a"]);
    assert_eq!(backwards(Some("a"), 9), [""; 0]);
    assert_eq!(state.documents_from(Collection::Role, None, 9).count(), 0);
    assert_eq!(state.document_count(collection), 5);
}

#[test]
fn a_full_collection_drops_what_was_not_written_for_longest() {
    let mut cluster = cluster();
    let collection = Collection::ConfigArchive;
    let max = collection.limits().documents_max;
    for n in 0..max {
        run(&mut cluster, vec![put(collection, &format!("{n:03}"), b"c", Expect::Any)]);
    }
    run(&mut cluster, vec![put(collection, "000", b"written again", Expect::Any)]);
    assert_eq!(cluster.changes, [changed(collection, "000")]);
    run(&mut cluster, vec![put(collection, "new", b"c", Expect::Any)]);
    assert_eq!(cluster.changes, [changed(collection, "new"), gone(collection, "001")]);
    assert_eq!(cluster.state.document_count(collection), max);
    assert!(cluster.state.document(collection, "000").is_some());
    let restored = State::from_sections(cluster.state.sections()).unwrap();
    let mut restored = Cluster { state: restored, ..cluster.clone() };
    for cluster in [&mut cluster, &mut restored] {
        run(cluster, vec![log(collection, b"c"), log(collection, b"c")]);
        assert!(cluster.changes.contains(&gone(collection, "003")), "{:?}", cluster.changes);
    }
    assert_eq!(cluster.state.digest(), restored.state.digest());
    let too_many = (0..=max).map(|_| log(collection, b"c")).collect();
    assert_eq!(cluster.refused(batch(too_many)), Refusal::CollectionFull { collection });
}

#[test]
fn a_collection_that_must_not_lose_anything_refuses_what_does_not_fit() {
    let mut cluster = cluster();
    let collection = Collection::Role;
    let limits = collection.limits();
    let full = Refusal::CollectionFull { collection };
    let names: Vec<_> = (0..limits.documents_max).map(|n| format!("role-{n}")).collect();
    for names in names.chunks(DocumentBatch::OPS_MAX) {
        let ops = names.iter().map(|name| put(collection, name, b"{}", Expect::Any));
        run(&mut cluster, ops.collect());
    }
    let one_more = || put(collection, "one-more", b"{}", Expect::Any);
    assert_eq!(cluster.refused(batch(vec![one_more()])), full);
    run(&mut cluster, vec![put(collection, "role-7", b"[]", Expect::Any)]);
    run(&mut cluster, vec![delete(collection, "role-7", Expect::Any), one_more()]);
    // The octets count as well.
    let large = vec![b'x'; limits.value_octets_max];
    let fit = usize::try_from(limits.total_octets_max).unwrap() / limits.value_octets_max;
    for name in &names[8..8 + fit - 1] {
        run(&mut cluster, vec![put(collection, name, &large, Expect::Any)]);
    }
    assert_eq!(cluster.refused(batch(vec![put(collection, "role-0", &large, Expect::Any)])), full);
}

#[test]
fn values_keys_and_batches_have_their_bounds() {
    let mut cluster = cluster();
    let collection = Collection::WebhookCursor;
    let max = collection.limits().value_octets_max;
    run(&mut cluster, vec![put(collection, &"k".repeat(255), &vec![1; max], Expect::Any)]);
    let large = vec![0; DocumentBatch::OCTETS_MAX / 2];
    let check = || check_op(collection, "none", Expect::Any);
    let rows = [
        ("a long value", vec![put(collection, "k", &vec![1; max + 1], Expect::Any)]),
        ("a long key", vec![put(collection, &"k".repeat(256), b"", Expect::Any)]),
        ("no key", vec![put(collection, "", b"", Expect::Any)]),
        ("a control character", vec![put(collection, "a\nb", b"", Expect::Any)]),
        ("many operations", (0..=DocumentBatch::OPS_MAX).map(|_| check()).collect()),
        (
            "many octets",
            (0..3).map(|_| put(Collection::Config, "c", &large, Expect::Any)).collect(),
        ),
    ];
    for (what, ops) in rows {
        let refusal = cluster.refused(batch(ops));
        assert!(matches!(refusal, Refusal::Invalid(_)), "{what}: {refusal:?}");
    }
}

#[test]
fn a_command_beside_the_documents_shares_their_fate() {
    let mut cluster = cluster();
    let user = |name| Command::PutApiUser(api_user(name, ApiRole::operator()));
    let audit = || log(Collection::Audit, b"user added");
    let with = |also, op| Command::Documents(DocumentBatch { ops: vec![op], also: vec![also] });
    let reply = cluster.run(with(user("op"), audit()));
    assert!(matches!(reply, Reply::Documents { .. }), "{reply:?}");
    assert!(cluster.state.api_user("op").is_some());
    let key = DocKey::at(Revision(cluster.index), 0);
    let want = [Change::ApiUserChanged("op".to_owned()), changed(Collection::Audit, &key)];
    assert_eq!(cluster.changes, want);

    let conflict = check_op(Collection::Audit, "none", Expect::Present);
    cluster.refused(with(user("other"), conflict));
    assert_eq!(cluster.state.api_user("other"), None, "the document failed");
    let last_admin = Command::RemoveApiUser("admin".to_owned());
    cluster.refused(with(last_admin.clone(), audit()));
    cluster.refused(Command::Documents(DocumentBatch {
        ops: vec![audit()],
        also: vec![user("third"), last_admin],
    }));
    assert_eq!(cluster.state.api_user("third"), None, "the command after it failed");
    assert_eq!(cluster.state.document_count(Collection::Audit), 1, "the command failed");
    let pool = Command::PutPool(model::Pool { lease_s: 7, ..dhcp_pool() });
    cluster.run(with(pool, audit()));
    let touched = cluster.state.group(EAST).unwrap().revision;
    assert_eq!(touched, Revision(cluster.index), "the data plane of the group must look");

    for also in [
        batch(vec![audit()]),
        Command::Acquire { group: EAST, node: B, epoch: model::Epoch(9) },
        Command::Bootstrap(Box::new(bootstrap())),
    ] {
        cluster.refused(with(also, audit()));
    }
}

/// Documents of a plain, an append-only and a large kind.
fn filled() -> Cluster {
    let mut cluster = cluster();
    run(&mut cluster, vec![put(Collection::Config, "running", b"{\"v\":1}", Expect::Any)]);
    cluster.now_s += 5;
    run(&mut cluster, vec![put(Collection::Config, "running", b"{\"v\":2}", Expect::Any)]);
    run(&mut cluster, vec![log(Collection::Audit, b"a"), log(Collection::Audit, b"")]);
    cluster
}

#[test]
fn documents_come_back_from_a_snapshot_in_frozen_bytes() {
    let cluster = filled();
    let sections = cluster.state.write_sections();
    let of_documents = sections.iter().filter(|section| section.kind == 13);
    let lines: String = of_documents
        .flat_map(|section| &section.records)
        .map(|record| format!("13 {}\n", hex::encode(record)))
        .collect();
    assert_eq!(lines, FROZEN, "a change here makes snapshots of other builds unreadable");
    let back = State::from_sections(sections.clone()).unwrap();
    assert_eq!(back.digest(), cluster.state.digest());
    check(&back);
    assert_eq!(back.document_octets(Collection::Config), 7);
    let mut twice = sections;
    let section = twice.iter_mut().find(|section| section.kind == 13).unwrap();
    section.records.push(section.records[0].clone());
    assert!(State::from_sections(twice).is_err());
}

#[test]
fn damaged_document_records_are_errors_or_states_but_never_a_panic() {
    let sections = filled().state.write_sections();
    let place = sections.iter().position(|section| section.kind == 13).unwrap();
    for (r, record) in sections[place].records.iter().enumerate() {
        for at in 0..record.len() {
            let mut damaged = sections.clone();
            damaged[place].records[r][at] ^= 0x15;
            let _ = State::from_sections(damaged);
        }
    }
    let unknown = Section { kind: 13, records: vec![hex::decode("0811120161").unwrap()] };
    let meta = sections[0].clone();
    assert!(State::from_sections([meta, unknown]).is_err(), "collection 17 is of a newer build");
}
