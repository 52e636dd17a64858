use super::*;
use std::time::Duration;

const TIMING: Timing = Timing::DEFAULT;

fn at(ms: u64) -> Tick {
    Tick::from_ms(ms)
}

fn new(membership: Membership) -> Sealer {
    let mut sealer = Sealer::new(GroupId(1), Epoch(4), membership, 70, at(1_000), TIMING);
    let want = vec![Message::Seal { seq: 70, group: GroupId(1), epoch: Epoch(4) }];
    assert_eq!(sealer.step(at(1_000)), want);
    sealer
}

fn three() -> Membership {
    Membership::uniform(5, [1, 2, 3].map(NodeId))
}

fn ack(epoch: u64, outcome: SealOutcome) -> Message {
    Message::SealAck { seq: 70, group: GroupId(1), epoch: Epoch(epoch), outcome }
}

fn left(ms: u64) -> Message {
    ack(4, SealOutcome::Sealed { left: Duration::from_millis(ms) })
}

fn refused(seen: u64) -> Message {
    ack(4, SealOutcome::Refused { seen: Epoch(seen) })
}

#[test]
fn a_takeover_waits_for_the_promises_of_a_quorum() {
    use SealState::{Ready, Superseded, WaitUntil, Waiting};
    // Time left counts for 2 % more, as the voter's clock may be slow.
    let rows = [
        ("free", vec![(1, left(0)), (2, left(0))], vec![Waiting, Ready]),
        ("held", vec![(1, left(50)), (2, left(100))], vec![Waiting, WaitUntil(at(1_104))]),
        (
            "the third is free earlier",
            vec![(1, left(50)), (2, left(100)), (3, left(0))],
            vec![Waiting, WaitUntil(at(1_104)), WaitUntil(at(1_053))],
        ),
        (
            "twice the same voter, and a stranger",
            vec![(1, left(0)), (1, left(0)), (9, left(0))],
            vec![Waiting, Waiting, Waiting],
        ),
        (
            "an answer to another seal",
            vec![(1, ack(3, SealOutcome::Sealed { left: Duration::ZERO }))],
            vec![Waiting],
        ),
        (
            "refused before a quorum",
            vec![(1, left(0)), (2, refused(9)), (3, left(0))],
            vec![Waiting, Superseded { seen: Epoch(9) }, Ready],
        ),
    ];
    for (name, acks, want) in rows {
        let mut s = new(three());
        let got: Vec<SealState> = acks
            .into_iter()
            .map(|(from, ack)| match s.on_ack(NodeId(from), &ack, at(1_002)) {
                WaitUntil(t) => WaitUntil(at(t.as_ms())),
                state @ (Waiting | Ready | Superseded { .. }) => state,
            })
            .collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn the_time_left_passes() {
    let mut s = new(three());
    s.on_ack(NodeId(1), &left(50), at(1_002));
    s.on_ack(NodeId(2), &left(50), at(1_002));
    assert_eq!(s.state(at(1_052)), SealState::WaitUntil(at(1_053)));
    assert_eq!(s.state(at(1_053)), SealState::Ready);
}

#[test]
fn a_joint_membership_is_sealed_in_both_majorities() {
    let voters = vec![[1, 2, 3].map(NodeId).to_vec(), [3, 4, 5].map(NodeId).to_vec()];
    let mut s = new(Membership { log_index: 6, voters });
    for (from, want) in [(1, false), (2, false), (4, false), (5, true)] {
        let ready = s.on_ack(NodeId(from), &left(0), at(1_001)) == SealState::Ready;
        assert_eq!(ready, want, "after voter {from}");
    }
}

#[test]
fn requests_are_repeated_to_those_that_did_not_answer() {
    let mut s = new(three());
    s.on_ack(NodeId(1), &left(0), at(1_001));
    assert_eq!(s.unanswered(), [2, 3].map(NodeId));
    assert_eq!(s.next_wakeup(), Some(at(1_000) + TIMING.eager()));
    assert!(s.step(at(1_001)).is_empty(), "woken early");
    let want = vec![Message::Seal { seq: 71, group: GroupId(1), epoch: Epoch(4) }];
    assert_eq!(s.step(at(1_300)), want);
    assert_eq!(s.next_wakeup(), Some(at(1_325)), "no longer eagerly");
    for from in [2, 3] {
        s.on_ack(NodeId(from), &left(0), at(1_301));
    }
    assert!(s.step(at(2_000)).is_empty(), "all have answered");
}
