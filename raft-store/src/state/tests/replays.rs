use super::fixture::*;
use crate::command::{Command, Refusal, Reply, SessionBatch};
use model::Epoch;

fn batch(n: u8) -> Command {
    let ops = vec![lease(n, b"", None)];
    Command::Sessions(SessionBatch { group: EAST, node: A, epoch: Epoch(1), ops })
}

#[test]
fn a_repetition_gets_the_same_reply_and_changes_nothing() {
    let mut cluster = Cluster::new();
    let first = cluster.run_as(Some((7, 1)), batch(1));
    assert_eq!(cluster.changes.len(), 1);
    let second = cluster.run_as(Some((7, 2)), batch(2));
    let revision = cluster.state.group(EAST).unwrap().revision;
    for (sequence, want) in [(1, &first), (2, &second), (1, &first)] {
        // A repetition is known by its number; that it carries something else is the client's
        // fault.
        let reply = cluster.run_as(Some((7, sequence)), batch(3));
        assert_eq!(reply, *want, "sequence {sequence}");
        assert_eq!(cluster.changes, []);
    }
    assert_eq!(cluster.state.sessions().len(), 2);
    assert_eq!(cluster.state.group(EAST).unwrap().revision, revision);
    cluster.run_as(Some((8, 1)), batch(3));
    assert_eq!(cluster.state.sessions().len(), 3, "another client's first");
}

#[test]
fn a_refusal_is_repeated_too() {
    let mut cluster = Cluster::new();
    let unknown = || Command::RemovePool("new".to_owned());
    let refused = Reply::Refused(Refusal::UnknownPool);
    assert_eq!(cluster.run_as(Some((7, 1)), unknown()), refused);
    let new = pool("new", model::GroupService::Dhcp, "10.0.2.2-10.0.2.9", "10.0.2.1");
    cluster.done(Command::PutPool(new));
    assert_eq!(cluster.run_as(Some((7, 1)), unknown()), refused);
    assert_eq!(cluster.run_as(Some((7, 2)), unknown()), Reply::Done);
}

#[test]
fn a_sequence_whose_reply_is_forgotten_is_not_applied_again() {
    let mut cluster = Cluster::new();
    for sequence in 1..=40 {
        cluster.run_as(Some((7, sequence)), Command::Expire);
    }
    let reply = cluster.run_as(Some((7, 1)), batch(1));
    assert_eq!(reply, Reply::Refused(Refusal::SequenceTooOld));
    assert_eq!(cluster.state.sessions().len(), 0);
}
