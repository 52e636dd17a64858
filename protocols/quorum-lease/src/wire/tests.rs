use super::*;
use proptest::prelude::*;

fn examples() -> Vec<(&'static str, Message, &'static str)> {
    let (group, epoch) = (GroupId(7), Epoch(0x0102));
    let seal_ack = |outcome| Message::SealAck { seq: 9, group, epoch, outcome };
    let left = Duration::from_nanos(1_000_001);
    let results = vec![
        (group, epoch, Answer::Promised),
        (group, epoch, Answer::EpochTooLow { seen: Epoch(3) }),
        (group, epoch, Answer::HeldByOther),
        (group, epoch, Answer::Quarantined),
    ];
    let g = "000000070000000000000102";
    vec![
        (
            "renew",
            Message::Renew { seq: 5, grants: vec![(group, epoch)] },
            "0101 0000000000000005 01 G",
        ),
        (
            "renewal answered",
            Message::RenewAck { seq: 5, membership_index: 6, results },
            "0102 0000000000000005 0000000000000006 04 G01 G020000000000000003 G03 G04",
        ),
        ("seal", Message::Seal { seq: 9, group, epoch }, "0103 0000000000000009 G"),
        ("sealed", seal_ack(SealOutcome::Sealed { left }), "0104 0000000000000009 G 01 000003e9"),
        (
            "seal refused",
            seal_ack(SealOutcome::Refused { seen: Epoch(4) }),
            "0104 0000000000000009 G 02 0000000000000004",
        ),
        ("release", Message::Release { seq: 1, group, epoch }, "0105 0000000000000001 G"),
    ]
    .into_iter()
    .map(|(name, m, hex)| {
        (name, m, Box::leak(hex.replace('G', g).replace(' ', "").into_boxed_str()) as &str)
    })
    .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn the_octets_of_each_message_stay_as_they_are() {
    for (name, message, hex) in examples() {
        assert_eq!(message.encode(), unhex(hex), "{name}");
    }
}

#[test]
fn a_message_cut_short_or_followed_by_more_is_refused() {
    for (name, message, _) in examples() {
        let octets = message.encode();
        for len in 0..octets.len() {
            let got = Message::decode(&octets[..len]).map_err(|e| e.label());
            assert_eq!(got, Err("truncated"), "{name} cut to {len} octets");
        }
        let longer = [octets.as_slice(), &[0]].concat();
        assert_eq!(Message::decode(&longer), Err(WireError::Trailing(1)), "{name}");
    }
}

#[test]
fn octets_of_another_version_or_out_of_bounds_are_refused() {
    let sealed = "0104 0000000000000009 00000007 0000000000000102 01 ffffffff";
    let rows = [
        ("another version", "02010000000000000005 00", WireError::Version(2)),
        ("an unknown kind", "0106", WireError::Kind(6)),
        ("49 grants", "0101 0000000000000005 31", WireError::TooManyGrants(49)),
        (
            "a promise of over an hour",
            sealed,
            WireError::LeftTooLong(Duration::from_micros(u64::from(u32::MAX))),
        ),
        (
            "an unknown outcome",
            "0104 0000000000000009 00000007 0000000000000102 03",
            WireError::Answer(3),
        ),
    ];
    for (name, hex, want) in rows {
        assert_eq!(Message::decode(&unhex(&hex.replace(' ', ""))), Err(want), "{name}");
    }
}

#[test]
fn the_largest_message_fits_a_datagram() {
    let seen = Epoch(u64::MAX);
    let results = vec![(GroupId(u32::MAX), seen, Answer::EpochTooLow { seen }); GRANTS_MAX];
    let message = Message::RenewAck { seq: u64::MAX, membership_index: u64::MAX, results };
    assert!(message.encode().len() <= 1_200, "{} octets", message.encode().len());
}

#[test]
fn time_left_is_rounded_up() {
    let left = Duration::from_nanos(1);
    let ack = |left| {
        let outcome = SealOutcome::Sealed { left };
        Message::SealAck { seq: 1, group: GroupId(1), epoch: Epoch(1), outcome }
    };
    assert_eq!(Message::decode(&ack(left).encode()), Ok(ack(Duration::from_micros(1))));
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Promised),
        any::<u64>().prop_map(|e| Answer::EpochTooLow { seen: Epoch(e) }),
        Just(Answer::HeldByOther),
        Just(Answer::Quarantined),
    ]
}

fn any_outcome() -> impl Strategy<Value = SealOutcome> {
    prop_oneof![
        (0..=60_000_000u64).prop_map(|us| SealOutcome::Sealed { left: Duration::from_micros(us) }),
        any::<u64>().prop_map(|e| SealOutcome::Refused { seen: Epoch(e) }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    let group = || (any::<u32>(), any::<u64>()).prop_map(|(g, e)| (GroupId(g), Epoch(e)));
    let result = (group(), any_answer()).prop_map(|((g, e), a)| (g, e, a));
    prop_oneof![
        (any::<u64>(), prop::collection::vec(group(), 0..=GRANTS_MAX))
            .prop_map(|(seq, grants)| Message::Renew { seq, grants }),
        (any::<u64>(), any::<u64>(), prop::collection::vec(result, 0..=GRANTS_MAX)).prop_map(
            |(seq, membership_index, results)| Message::RenewAck { seq, membership_index, results }
        ),
        (any::<u64>(), group()).prop_map(|(seq, (group, epoch))| Message::Seal {
            seq,
            group,
            epoch
        }),
        (any::<u64>(), group(), any_outcome()).prop_map(|(seq, (group, epoch), outcome)| {
            Message::SealAck { seq, group, epoch, outcome }
        }),
        (any::<u64>(), group()).prop_map(|(seq, (group, epoch))| Message::Release {
            seq,
            group,
            epoch
        }),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(message in any_message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn octets_that_decode_are_the_ones_that_would_be_sent(
        mut octets in prop::collection::vec(any::<u8>(), 0..80),
        kind in 0u8..7,
    ) {
        for (octet, value) in octets.iter_mut().zip([WIRE_VERSION, kind]) {
            *octet = value;
        }
        if let Ok(message) = Message::decode(&octets) {
            prop_assert_eq!(message.encode(), octets);
        }
    }
}
