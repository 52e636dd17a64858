use super::*;
use std::time::Duration;

const G: GroupId = GroupId(1);
const TIMING: Timing = Timing::DEFAULT;

fn at(ms: u64) -> Tick {
    Tick::from_ms(ms)
}

fn three() -> Membership {
    Membership::uniform(5, [1, 2, 3].map(NodeId))
}

/// A holder whose membership has settled, that has acquired epoch 4 at 1,000 ms.
fn acquired() -> Holder {
    let mut holder = Holder::new(NodeId(1), TIMING, three());
    assert_eq!(holder.next_wakeup(), Some(Tick::ZERO), "wants to know the time first");
    assert!(holder.step(at(0)).is_empty());
    assert_eq!(holder.next_wakeup(), None);
    assert!(holder.acquire(G, Epoch(4), at(1_000)));
    holder
}

fn send(holder: &mut Holder, ms: u64) -> u64 {
    match holder.step(at(ms)).as_slice() {
        [Message::Renew { seq, .. }] => *seq,
        other => panic!("one renewal was due at {ms} ms, not {other:?}"),
    }
}

fn ack(seq: u64, membership_index: u64, answer: Answer) -> Message {
    Message::RenewAck { seq, membership_index, results: vec![(G, Epoch(4), answer)] }
}

fn promised(seq: u64) -> Message {
    ack(seq, 5, Answer::Promised)
}

fn until(ms: u64) -> Vec<Event> {
    vec![Event::Deadline { group: G, epoch: Epoch(4), until: at(ms) }]
}

#[test]
fn the_deadline_counts_from_sending_what_a_quorum_acknowledged() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    let b = send(&mut h, 1_010);
    let c = send(&mut h, 1_020);
    // from, renewal, at_ms, events; a renewal keeps the fence open for 190 ms
    let script = [
        (1, b, 1_021, vec![]),
        (1, b, 1_022, vec![]),       // The same voter twice is no quorum.
        (9, a, 1_023, vec![]),       // Nor is a stranger.
        (2, a, 1_030, until(1_190)), // Both agreed to a or something newer.
        (3, c, 1_031, until(1_200)), // Two agreed to b or something newer.
        (2, b, 1_032, vec![]),       // Still two.
        (2, a, 1_033, vec![]),       // A late one takes nothing back.
        (2, c, 1_034, until(1_210)),
        (2, c + 1, 1_035, vec![]), // Never sent.
    ];
    for (from, seq, ms, want) in script {
        assert_eq!(h.on_ack(NodeId(from), &promised(seq), at(ms)), want, "{from} at {ms} ms");
    }
    assert_eq!(h.deadline(G), Some(at(1_210)));
}

#[test]
fn an_acknowledgement_too_late_to_matter_opens_nothing() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    assert_eq!(h.on_ack(NodeId(1), &promised(a), at(1_001)), vec![]);
    assert_eq!(h.on_ack(NodeId(2), &promised(a), at(1_190)), vec![]);
    assert_eq!(h.deadline(G), None);
}

#[test]
fn renewals_are_eager_until_a_quorum_agrees_and_not_for_ever() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    assert_eq!(h.next_wakeup(), Some(at(1_000) + TIMING.eager()));
    assert!(h.step(at(1_001)).is_empty(), "woken early");
    for from in [1, 2] {
        h.on_ack(NodeId(from), &promised(a), at(1_002));
    }
    send(&mut h, 1_004);
    assert_eq!(h.next_wakeup(), Some(at(1_029)));
    let mut lonely = acquired();
    send(&mut lonely, 1_700);
    assert_eq!(lonely.next_wakeup(), Some(at(1_725)));
}

#[test]
fn one_renewal_carries_the_groups_that_are_nearly_due_too() {
    let mut h = acquired();
    send(&mut h, 1_000);
    for group in 2..=50 {
        h.acquire(GroupId(group), Epoch(1), at(1_002));
    }
    let size = |message: Message| match message {
        Message::Renew { grants, .. } => Some(grants.len()),
        Message::RenewAck { .. }
        | Message::Seal { .. }
        | Message::SealAck { .. }
        | Message::Release { .. } => None,
    };
    let sizes: Vec<usize> = h.step(at(1_002)).into_iter().filter_map(size).collect();
    assert_eq!(sizes, [GRANTS_MAX, 2]);
}

#[test]
fn a_voter_with_a_newer_membership_does_not_count() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    let script = [(1, 5, vec![]), (2, 6, vec![]), (3, 4, until(1_190))];
    for (from, index, want) in script {
        let got = h.on_ack(NodeId(from), &ack(a, index, Answer::Promised), at(1_001));
        assert_eq!(got, want, "voter {from} with membership {index}");
    }
}

#[test]
fn a_joint_membership_needs_both_majorities_and_an_open_fence_goes_on() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    for from in [1, 2] {
        h.on_ack(NodeId(from), &promised(a), at(1_001));
    }
    let voters = vec![[1, 2, 3].map(NodeId).to_vec(), [3, 4, 5].map(NodeId).to_vec()];
    h.set_membership(Membership { log_index: 6, voters });
    assert_eq!(h.deadline(G), Some(at(1_190)), "what was promised stays");
    let b = send(&mut h, 1_030);
    let script = [(1, vec![]), (2, vec![]), (4, vec![]), (5, until(1_220))];
    for (from, want) in script {
        let got = h.on_ack(NodeId(from), &ack(b, 6, Answer::Promised), at(1_031));
        assert_eq!(got, want, "voter {from}");
    }
}

#[test]
fn a_shut_fence_opens_only_a_quarantine_after_a_membership_was_learnt() {
    let mut h = Holder::new(NodeId(1), TIMING, three());
    h.step(at(0));
    h.set_membership(Membership::uniform(6, [1, 4, 5].map(NodeId)));
    h.acquire(G, Epoch(4), at(1_000));
    for (ms, want) in [(1_000, vec![]), (1_150, vec![]), (1_200, vec![]), (1_204, until(1_394))] {
        let seq = send(&mut h, ms);
        h.on_ack(NodeId(1), &promised(seq), at(ms));
        assert_eq!(h.on_ack(NodeId(4), &promised(seq), at(ms)), want, "at {ms} ms");
    }
}

#[test]
fn a_release_is_final() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    for from in [1, 2] {
        h.on_ack(NodeId(from), &promised(a), at(1_001));
    }
    let release = h.release(G, at(1_002));
    let Some(Message::Release { seq, group: G, epoch: Epoch(4) }) = release else {
        panic!("{release:?}");
    };
    assert!(seq > a, "so that voters know it as the newer");
    assert_eq!(h.deadline(G), None);
    assert_eq!(h.on_ack(NodeId(3), &promised(a), at(1_003)), vec![]);
    assert_eq!(h.release(G, at(1_004)), None);
    assert!(!h.acquire(G, Epoch(4), at(1_005)), "this epoch is over");
    assert!(h.step(at(1_010)).is_empty());
    assert!(h.acquire(G, Epoch(5), at(1_020)));
    assert_eq!(h.on_ack(NodeId(3), &promised(a), at(1_021)), vec![], "of an older epoch");
}

#[test]
fn an_abandoned_epoch_does_not_come_back() {
    let mut h = acquired();
    h.abandon(G);
    assert!(!h.acquire(G, Epoch(4), at(1_100)));
    assert_eq!(h.next_wakeup(), None);
}

#[test]
fn a_newer_epoch_of_the_same_node_keeps_the_fence_open() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    for from in [1, 2] {
        h.on_ack(NodeId(from), &promised(a), at(1_001));
    }
    assert!(h.acquire(G, Epoch(5), at(1_010)));
    assert_eq!((h.deadline(G), h.epoch(G)), (Some(at(1_190)), Some(Epoch(5))));
    assert!(h.acquire(G, Epoch(5), at(1_011)), "applied twice");
    assert!(!h.acquire(G, Epoch(4), at(1_012)), "an older one");
    assert_eq!(h.epoch(G), Some(Epoch(5)));
}

#[test]
fn a_group_is_lost_when_the_remaining_voters_are_no_quorum() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    for from in [1, 2] {
        h.on_ack(NodeId(from), &promised(a), at(1_001));
    }
    let b = send(&mut h, 1_030);
    let low = |seen| ack(b, 5, Answer::EpochTooLow { seen: Epoch(seen) });
    let lost = Event::Lost { group: G, reason: LostReason::Superseded { seen: Epoch(7) } };
    let script = [(3, 6, vec![]), (3, 7, vec![]), (2, 6, vec![lost]), (1, 6, vec![])];
    for (from, seen, want) in script {
        assert_eq!(h.on_ack(NodeId(from), &low(seen), at(1_031)), want, "voter {from}");
    }
    assert_eq!(h.deadline(G), Some(at(1_190)), "what was promised stays");
    assert!(h.step(at(1_100)).is_empty(), "but nothing is renewed");
}

#[test]
fn refusals_that_pass_leave_the_group_alone() {
    let mut h = acquired();
    let a = send(&mut h, 1_000);
    for from in 1..=3 {
        for answer in [Answer::HeldByOther, Answer::Quarantined] {
            assert_eq!(h.on_ack(NodeId(from), &ack(a, 5, answer), at(1_001)), vec![]);
        }
    }
    assert_eq!(h.next_wakeup(), Some(at(1_000) + TIMING.eager()));
}

#[test]
fn remembered_send_times_are_bounded() {
    let mut h = acquired();
    for us in 0..10_000u64 {
        h.acquire(GroupId(2), Epoch(us), at(1_000) + Duration::from_micros(us));
        h.step(at(1_000) + Duration::from_micros(us));
    }
    assert_eq!(h.sent.len(), SENT_MAX);
    h.step(at(2_000));
    assert_eq!(h.sent.len(), 1);
}
