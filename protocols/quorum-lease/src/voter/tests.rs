use super::*;

const G: GroupId = GroupId(1);
/// Clocks do not drift here, so that the numbers are round.
const TIMING: Timing = Timing { drift_ppm: 0, ..Timing::DEFAULT };

fn at(ms: u64) -> Tick {
    Tick::from_ms(ms)
}

fn renew(seq: u64, epoch: u64) -> Message {
    Message::Renew { seq, grants: vec![(G, Epoch(epoch))] }
}

fn seal(epoch: u64) -> Message {
    Message::Seal { seq: 1, group: G, epoch: Epoch(epoch) }
}

fn release(seq: u64, epoch: u64) -> Message {
    Message::Release { seq, group: G, epoch: Epoch(epoch) }
}

fn answered(reply: Option<Message>) -> String {
    match reply {
        Some(Message::RenewAck { results, .. }) => match results[0].2 {
            Answer::Promised => "promised".to_owned(),
            Answer::EpochTooLow { seen } => format!("too low, {seen} seen"),
            Answer::HeldByOther => "held".to_owned(),
            Answer::Quarantined => "quarantined".to_owned(),
        },
        Some(Message::SealAck { outcome: SealOutcome::Sealed { left }, .. }) => {
            format!("sealed, {} ms left", left.as_millis())
        }
        Some(Message::SealAck { outcome: SealOutcome::Refused { seen }, .. }) => {
            format!("refused, {seen} seen")
        }
        Some(other) => panic!("a voter does not say {other:?}"),
        None => String::new(),
    }
}

fn play(name: &str, script: &[(u64, u64, Message, &str)]) -> Voter {
    let mut voter = Voter::new(at(1_000), TIMING);
    for (ms, from, message, want) in script {
        let reply = voter.on_message(NodeId(*from), message, at(*ms));
        assert_eq!(answered(reply), *want, "{name}: {message:?} of {from} at {ms} ms");
    }
    voter
}

#[test]
fn a_voter_promises_to_one_node_at_a_time() {
    play(
        "takeover",
        &[
            // at_ms, from, message, reply
            (1_199, 1, renew(1, 1), "quarantined"),
            (1_200, 1, renew(2, 1), "promised"),
            (1_250, 2, renew(1, 1), "held"),
            (1_300, 1, renew(3, 1), "promised"),
            (1_499, 2, renew(2, 1), "held"),
            (1_500, 2, renew(3, 1), "promised"), // The promise ended at this instant.
            (1_510, 1, renew(4, 1), "held"),
        ],
    );
    play(
        "a higher epoch does not help another node, but ends the old epoch",
        &[
            (1_200, 1, renew(1, 1), "promised"),
            (1_210, 2, renew(1, 2), "held"),
            (1_220, 1, renew(2, 1), "too low, 2 seen"),
            (1_399, 2, renew(2, 2), "held"),
            (1_400, 2, renew(3, 2), "promised"),
        ],
    );
    play(
        "the same node goes on at a newer epoch",
        &[
            (1_200, 1, renew(1, 1), "promised"),
            (1_210, 1, renew(2, 3), "promised"),
            (1_220, 1, renew(3, 2), "too low, 3 seen"),
        ],
    );
    play(
        "a late renewal shortens nothing",
        &[
            (1_200, 1, renew(2, 1), "promised"),
            (1_300, 1, renew(3, 1), "promised"),
            (1_310, 1, renew(1, 1), "promised"),
            (1_505, 2, renew(1, 1), "held"),
        ],
    );
}

#[test]
fn a_seal_ends_an_epoch_and_tells_the_time_left() {
    play(
        "seal",
        &[
            (1_150, 9, seal(2), ""), // Quarantine has nothing to tell, but notes the epoch.
            (1_200, 1, renew(1, 1), "too low, 2 seen"),
            (1_210, 1, renew(2, 2), "promised"),
            (1_260, 9, seal(3), "sealed, 150 ms left"),
            (1_270, 1, renew(3, 2), "too low, 3 seen"),
            (1_290, 9, seal(3), "sealed, 120 ms left"), // A repeated request.
            (1_300, 8, seal(2), "refused, 3 seen"),
            (1_409, 2, renew(1, 3), "held"),
            (1_410, 2, renew(2, 3), "promised"),
            (1_420, 9, seal(3), "refused, 3 seen"), // Its owner renews already.
        ],
    );
    play("nothing to wait for", &[(1_300, 9, seal(1), "sealed, 0 ms left")]);
}

#[test]
fn a_release_frees_the_voter_at_once() {
    play(
        "planned switch",
        &[
            (1_200, 1, renew(10, 1), "promised"),
            (1_210, 2, renew(1, 2), "held"),
            (1_211, 1, release(11, 1), ""),
            (1_212, 2, renew(2, 2), "promised"),
        ],
    );
    play(
        "a renewal that the release overtook is refused",
        &[
            (1_200, 1, renew(10, 1), "promised"),
            (1_210, 1, release(12, 1), ""),
            (1_220, 1, renew(11, 1), "too low, 2 seen"),
            (1_230, 2, renew(1, 2), "promised"),
        ],
    );
    play(
        "also by a voter that the released node never reached",
        &[
            (1_210, 1, release(12, 1), ""),
            (1_220, 1, renew(11, 1), "too low, 2 seen"),
            (1_230, 2, renew(1, 2), "promised"),
        ],
    );
    play(
        "another node's release frees nothing",
        &[
            (1_200, 1, renew(10, 2), "promised"),
            (1_210, 2, release(99, 2), ""),
            (1_220, 3, renew(1, 3), "held"),
        ],
    );
    play(
        "nor does a late release of an older epoch",
        &[
            (1_200, 1, renew(20, 3), "promised"),
            (1_210, 1, release(11, 1), ""),
            (1_220, 2, renew(1, 4), "held"),
        ],
    );
    play(
        "nor one of the holder's earlier process",
        &[
            (1_200, 1, renew(20, 1), "promised"),
            (1_210, 1, release(11, 1), ""),
            (1_220, 2, renew(1, 2), "held"),
        ],
    );
    play("the highest epoch does not overflow", &[(1_210, 1, release(11, u64::MAX), "")]);
}

#[test]
fn suspicion_is_the_lapse_of_the_own_promise() {
    let voter = play("renewed once", &[(1_300, 1, renew(1, 4), "promised")]);
    let promise = Promise { holder: NodeId(1), epoch: Epoch(4), expires_at: at(1_500) };
    assert_eq!(voter.promise(G), Some(promise));
    assert_eq!(voter.highest_epoch(G), Epoch(4));
    let rows = [(1_499, false), (1_500, true)];
    for (ms, want) in rows {
        assert_eq!(voter.suspects(G, at(ms)), want, "at {ms} ms");
    }
    let mut voter = voter;
    voter.on_message(NodeId(1), &release(2, 4), at(1_310));
    assert!(voter.suspects(G, at(1_310)), "a release leaves no doubt");
}

#[test]
fn a_voter_that_heard_nobody_listens_for_a_lease_after_quarantine() {
    let voter = Voter::new(at(1_000), TIMING);
    assert_eq!(voter.promise(G), None);
    assert!(!voter.suspects(G, at(1_399)));
    assert!(voter.suspects(G, at(1_400)));
}

#[test]
fn an_acknowledgement_names_the_newest_membership() {
    let mut voter = Voter::new(at(0), TIMING);
    for index in [7, 9, 8] {
        voter.set_membership_index(index);
        let ack = voter.on_message(NodeId(1), &renew(1, 1), at(1_000));
        let results = vec![(G, Epoch(1), Answer::Promised)];
        assert_eq!(ack, Some(Message::RenewAck { seq: 1, membership_index: index, results }));
    }
}

#[test]
fn groups_beyond_the_bound_push_out_lapsed_ones_only() {
    let mut voter = Voter::new(at(0), TIMING);
    let mut ask = |group: u32, ms: u64| {
        let message = Message::Renew { seq: 1, grants: vec![(GroupId(group), Epoch(1))] };
        match voter.on_message(NodeId(1), &message, at(ms)) {
            Some(Message::RenewAck { results, .. }) => results.len(),
            other => panic!("{other:?}"),
        }
    };
    let full = u32::try_from(GROUPS_MAX).unwrap();
    for group in 0..full {
        assert_eq!(ask(group, 1_000), 1);
    }
    assert_eq!(ask(full, 1_100), 0, "all promises are live: no answer");
    assert_eq!(ask(full, 1_200), 1, "one has lapsed");
}
