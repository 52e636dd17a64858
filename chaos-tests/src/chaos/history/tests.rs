use super::*;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64;
use stateright::semantics::register::{Register as Model, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester};

/// Times in ms; 0 as the end is an unknown outcome.
fn op(kind: Kind, value: u64, from_ms: u64, to_ms: u64) -> Op {
    let returned = (to_ms > 0).then_some(Tick::from_ms(to_ms));
    Op { kind, value, invoked: Tick::from_ms(from_ms), returned }
}

fn write(value: u64, from_ms: u64, to_ms: u64) -> Op {
    op(Kind::Write, value, from_ms, to_ms)
}

fn read(value: u64, from_ms: u64, to_ms: u64) -> Op {
    op(Kind::Read, value, from_ms, to_ms)
}

#[test]
fn planted_anomalies_are_found_and_legal_histories_pass() {
    let crossed = |a, b| Err(Anomaly::Crossed { values: (a, b) });
    let rows: &[(&str, &[Op], Result<(), Anomaly>)] = &[
        ("nothing happened", &[], Ok(())),
        (
            "in order",
            &[write(1, 10, 20), read(1, 30, 40), write(2, 50, 60), read(2, 70, 80)],
            Ok(()),
        ),
        ("a stale read", &[write(1, 10, 20), read(0, 30, 40)], crossed(0, 1)),
        ("a lost write", &[write(1, 10, 20), write(2, 30, 40), read(1, 50, 60)], crossed(1, 2)),
        (
            "a read during the write sees either",
            &[write(1, 10, 40), read(0, 15, 20), read(1, 25, 30)],
            Ok(()),
        ),
        (
            "new, then old again",
            &[write(1, 10, 60), read(1, 15, 20), read(0, 25, 30)],
            crossed(0, 1),
        ),
        (
            "a retry that was applied twice",
            &[write(1, 10, 20), write(2, 30, 40), read(2, 50, 60), read(1, 70, 80)],
            crossed(1, 2),
        ),
        (
            "two writes at a time end in either order",
            &[write(1, 10, 40), write(2, 10, 40), read(1, 50, 60)],
            Ok(()),
        ),
        (
            "but in one",
            &[write(1, 10, 40), write(2, 10, 40), read(1, 50, 60), read(2, 70, 80)],
            crossed(1, 2),
        ),
        (
            "an unknown write that happened late",
            &[write(1, 10, 0), read(0, 500, 510), read(1, 900, 910)],
            Ok(()),
        ),
        (
            "an unknown write that never happened",
            &[write(1, 10, 0), write(2, 20, 30), read(2, 900, 910)],
            Ok(()),
        ),
        (
            "an unknown write that came and went",
            &[write(1, 10, 0), read(1, 20, 30), read(0, 40, 50)],
            crossed(0, 1),
        ),
        (
            "an unknown write that overtakes",
            &[write(1, 10, 0), write(2, 20, 30), read(1, 40, 50), read(2, 60, 70)],
            crossed(1, 2),
        ),
        ("a read without an answer tells nothing", &[write(1, 10, 20), read(0, 30, 0)], Ok(())),
        ("a value from nowhere", &[read(7, 10, 20)], Err(Anomaly::NeverWritten { value: 7 })),
        (
            "a value from the future",
            &[read(1, 10, 20), write(1, 30, 40)],
            Err(Anomaly::FromTheFuture { value: 1 }),
        ),
    ];
    for (name, ops, want) in rows {
        assert_eq!(judge(0, ops), *want, "{name}");
        assert_eq!(by_stateright(ops), want.is_ok(), "stateright on: {name}");
    }
}

/// What `stateright` says: each operation is a thread of its own, so nothing but time orders them.
fn by_stateright(ops: &[Op]) -> bool {
    let mut events: Vec<(Tick, bool, usize)> = Vec::new();
    for (i, op) in ops.iter().enumerate() {
        if op.kind == Kind::Read && op.returned.is_none() {
            continue;
        }
        // At one time, invocations come first: touching operations are concurrent.
        events.push((op.invoked, false, i));
        events.extend(op.returned.map(|at| (at, true, i)));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Model(0_u64));
    for (_, returns, i) in events {
        let op = ops[i];
        let fed = match (op.kind, returns) {
            (Kind::Write, false) => tester.on_invoke(i, RegisterOp::Write(op.value)).map(|_| ()),
            (Kind::Write, true) => tester.on_return(i, RegisterRet::WriteOk).map(|_| ()),
            (Kind::Read, false) => tester.on_invoke(i, RegisterOp::Read).map(|_| ()),
            (Kind::Read, true) => tester.on_return(i, RegisterRet::ReadOk(op.value)).map(|_| ()),
        };
        fed.unwrap();
    }
    tester.is_consistent()
}

/// A random history of a real register: each operation takes effect at a random time within its own. Some
/// writes never answer, some of those never happen. `lies` answers are then replaced.
fn random_history(rng: &mut Pcg64, len: usize, lies: usize) -> Vec<Op> {
    let mut effects = Vec::new();
    let mut ops = Vec::new();
    for i in 0..len {
        let from = rng.random_range(1..60_u64);
        let to = from + rng.random_range(0..40_u64);
        let kind = if rng.random_bool(0.5) { Kind::Write } else { Kind::Read };
        let unknown = kind == Kind::Write && rng.random_bool(0.2);
        let effect = rng.random_range(from..=to + if unknown { 40 } else { 0 });
        if !unknown || rng.random_bool(0.6) {
            effects.push((effect, rng.random::<u32>(), i));
        }
        ops.push(op(
            kind,
            u64::try_from(i + 1).unwrap(),
            from,
            if unknown { 0 } else { to.max(1) },
        ));
    }
    effects.sort_unstable();
    let mut now = 0;
    for (_, _, i) in effects {
        match ops[i].kind {
            Kind::Write => now = ops[i].value,
            Kind::Read => ops[i].value = now,
        }
    }
    let reads: Vec<usize> = (0..len).filter(|i| ops[*i].kind == Kind::Read).collect();
    let written: Vec<u64> =
        ops.iter().filter(|o| o.kind == Kind::Write).map(|o| o.value).chain([0]).collect();
    for _ in 0..lies {
        if let (Some(i), Some(value)) = (reads.choose(rng), written.choose(rng)) {
            ops[*i].value = *value;
        }
    }
    ops
}

#[test]
fn the_verdict_is_the_one_of_stateright_on_random_histories() {
    let mut rng = Pcg64::seed_from_u64(7);
    let (mut good, mut bad) = (0, 0);
    for round in 0..4_000 {
        let len = rng.random_range(1..8);
        let lies = usize::from(round % 2 == 1);
        let ops = random_history(&mut rng, len, lies);
        let ours = judge(0, &ops);
        assert_eq!(ours.is_ok(), by_stateright(&ops), "round {round}: {ours:?} for {ops:#?}");
        assert!(lies > 0 || ours.is_ok(), "round {round}: a real register gave {ours:?}: {ops:#?}");
        if ours.is_ok() { good += 1 } else { bad += 1 }
    }
    assert!(good > 1_000 && bad > 300, "{good} good and {bad} bad ones: the test tells little");
}

#[test]
fn a_report_names_the_register_and_the_operations() {
    let mut history = History::default();
    history.begin(SessionId(5), 0);
    for op in [write(1, 10, 20), write(3, 12, 0), read(0, 30, 40)] {
        history.add(SessionId(5), op);
    }
    let size = Size { registers: 1, writes: 1, reads: 1, unknown: 1 };
    assert_eq!(history.size(), size);
    let text = history.verdict().unwrap_err().to_string();
    for part in ["session 5", "Write 1 from 0.0100 to 0.0200", "Read 0 from 0.0300"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains("Write 3"), "{text}");
}
