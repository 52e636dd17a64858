use super::*;
use crate::config::ServerConfig;
use crate::wire::ConfigOptions;
use std::time::Duration;

/// One option, 7: ours is `ours`; the peer's must be `want`. Kinds above 100 are rejected.
#[derive(Clone, Copy, Debug)]
struct Toy {
    ours: u8,
    want: u8,
}

impl Negotiation for Toy {
    const PROTOCOL: u16 = 0x8001;

    fn is_extended(code: u8) -> bool {
        code == 9
    }

    fn wanted(&self, out: &mut Vec<u8>) {
        wire::put_option(out, 7, &[self.ours]);
    }

    fn judge(
        &mut self,
        options: &[u8],
        may_nak: bool,
        _p: &Policy<'_>,
    ) -> Result<Reply, WireError> {
        judge_each(options, may_nak, |o| match (o.kind, o.data) {
            (7, &[value]) if value == self.want => Verdict::Ack,
            (7, _) => Verdict::Insist(vec![7, 3, self.want]),
            (8, _) => Verdict::Nak(vec![8, 3, 1]),
            (_, _) => Verdict::Reject,
        })
    }

    fn naked(&mut self, option: ConfigOption<'_>, _p: &Policy<'_>) -> Next {
        self.ours = option.data.first().copied().unwrap_or(0);
        Next::Retry
    }

    fn rejected(&mut self, _kind: u8) -> Next {
        Next::GiveUp
    }
}

struct Bench {
    toy: Automaton<Toy>,
    cfg: ServerConfig,
    now_ms: u64,
}

impl Bench {
    fn started() -> (Self, Vec<Output>) {
        let cfg = ServerConfig::default();
        let mut bench = Self { toy: Automaton::new(Toy { ours: 1, want: 2 }), cfg, now_ms: 0 };
        let mut out = Vec::new();
        bench.toy.open(Tick::ZERO, &bench.cfg.policy(), &mut out);
        bench.toy.lower_up(Tick::ZERO, &bench.cfg.policy(), &mut out);
        (bench, out)
    }

    fn opened() -> Self {
        let (mut bench, _) = Self::started();
        assert_eq!(bench.hears(2, 1, &[7, 3, 1]), Ok(vec![]));
        assert_eq!(bench.hears(1, 9, &[7, 3, 2]), Ok(vec![sends(2, 9, &[7, 3, 2]), Output::Up]));
        bench
    }

    fn hears(&mut self, code: u8, id: u8, data: &[u8]) -> Result<Vec<Output>, &'static str> {
        let frame = wire::frame(Toy::PROTOCOL, code, id, data);
        let packet = Packet::parse(&frame[2..]).unwrap();
        let mut out = Vec::new();
        let now = Tick::from_ms(self.now_ms);
        match self.toy.receive(packet, now, &self.cfg.policy(), &mut out) {
            Ok(()) => Ok(out),
            Err(error) => Err(error.label()),
        }
    }

    fn waits_until(&mut self, at_ms: u64) -> Vec<Output> {
        self.now_ms = at_ms;
        let mut out = Vec::new();
        self.toy.expire(Tick::from_ms(at_ms), &self.cfg.policy(), &mut out);
        out
    }
}

fn sends(code: u8, id: u8, data: &[u8]) -> Output {
    Output::Send(wire::frame(Toy::PROTOCOL, code, id, data))
}

#[test]
fn a_request_is_repeated_unchanged_max_configure_times() {
    let (mut bench, out) = Bench::started();
    assert_eq!(out, [sends(1, 1, &[7, 3, 1])]);
    for n in 1..10 {
        assert_eq!(bench.waits_until(n * 3000 - 1), [], "{n}: woken early");
        assert_eq!(bench.waits_until(n * 3000), [sends(1, 1, &[7, 3, 1])], "repeat {n}");
        assert_eq!(bench.waits_until(n * 3000), [], "{n}: woken twice");
    }
    assert_eq!(bench.waits_until(30_000), [Output::Finished]);
    assert_eq!(bench.toy.deadline(), None);
}

#[test]
fn an_opened_layer_has_no_timer() {
    assert_eq!(Bench::opened().toy.deadline(), None);
}

#[test]
fn replies_to_other_requests_and_copies_of_replies_are_dropped() {
    let (mut bench, _) = Bench::started();
    assert_eq!(bench.hears(2, 2, &[7, 3, 1]), Err("stale"));
    assert_eq!(bench.hears(2, 1, &[7, 3, 9]), Err("foreign_options"));
    assert_eq!(bench.hears(4, 1, &[8, 3, 1]), Err("foreign_options"));
    assert_eq!(bench.hears(3, 1, &[]), Err("foreign_options"));
    assert_eq!(bench.hears(3, 1, &[7, 9]), Err("option_length"));
    let mut bench = Bench::opened();
    assert_eq!(bench.hears(2, 1, &[7, 3, 1]), Err("stale"), "must not take the layer down");
    assert_eq!(bench.toy.state(), State::Opened);
}

#[test]
fn a_nak_changes_the_next_request_and_its_identifier() {
    let (mut bench, _) = Bench::started();
    assert_eq!(bench.hears(3, 1, &[7, 3, 5]), Ok(vec![sends(1, 2, &[7, 3, 5])]));
    assert_eq!(bench.hears(3, 1, &[7, 3, 6]), Err("stale"));
    assert_eq!(bench.hears(2, 2, &[7, 3, 5]), Ok(vec![]));
}

#[test]
fn endless_naks_of_our_options_end_after_max_failure() {
    let (mut bench, _) = Bench::started();
    for id in 1..=5 {
        assert_eq!(bench.hears(3, id, &[7, 3, id]), Ok(vec![sends(1, id + 1, &[7, 3, id])]));
    }
    assert_eq!(bench.hears(3, 6, &[7, 3, 7]), Ok(vec![Output::GiveUp]));
}

#[test]
fn our_naks_become_rejects_or_the_end_after_max_failure() {
    let (mut bench, _) = Bench::started();
    for id in 0..5 {
        assert_eq!(bench.hears(1, id, &[8, 2]), Ok(vec![sends(3, id, &[8, 3, 1])]), "{id}");
    }
    assert_eq!(bench.hears(1, 5, &[8, 2]), Ok(vec![sends(4, 5, &[8, 2])]));
    assert_eq!(bench.hears(1, 6, &[7, 3, 1]), Ok(vec![Output::GiveUp]));
}

#[test]
fn rejects_leave_before_naks() {
    let (mut bench, _) = Bench::started();
    let got = bench.hears(1, 4, &[7, 3, 1, 200, 4, 1, 2, 8, 2, 201, 2]);
    assert_eq!(got, Ok(vec![sends(4, 4, &[200, 4, 1, 2, 201, 2])]));
}

#[test]
fn an_unknown_code_is_rejected_with_a_bounded_copy() {
    let mut bench = Bench::opened();
    let got = bench.hears(14, 3, &[0xaa; 1000]).unwrap();
    let [Output::Send(frame)] = got.as_slice() else { panic!("{got:?}") };
    assert_eq!(frame[..6], [0x80, 0x01, 7, 2, 0, 126]);
    assert_eq!(frame[6..12], [14, 3, 3, 0xec, 0xaa, 0xaa]);
    assert_eq!(frame.len() - 2, usize::from(wire::MRU_MIN_OCTETS) - 2);
    assert_eq!(bench.toy.state(), State::Opened);
}

#[test]
fn a_code_reject_of_a_needed_code_ends_the_layer() {
    let mut bench = Bench::opened();
    assert_eq!(bench.hears(7, 1, &[9, 1, 0, 4]), Ok(vec![]), "an extended code may be refused");
    assert_eq!(bench.hears(7, 1, &[]), Err("truncated"));
    assert_eq!(bench.hears(7, 1, &[1, 1, 0, 4]), Ok(vec![Output::Down, sends(5, 2, &[])]));
}

#[test]
fn a_peer_that_ends_the_layer_is_acknowledged_and_waited_for_once() {
    let mut bench = Bench::opened();
    assert_eq!(bench.hears(5, 77, b"bye"), Ok(vec![Output::Down, sends(6, 77, &[])]));
    assert_eq!(bench.hears(5, 78, b"bye"), Ok(vec![sends(6, 78, &[])]));
    assert_eq!(bench.waits_until(3000), [Output::Finished]);
}

#[test]
fn our_farewell_is_sent_max_terminate_times() {
    let mut bench = Bench::opened();
    let mut out = Vec::new();
    bench.toy.close("bye", Tick::ZERO, &bench.cfg.policy(), &mut out);
    assert_eq!(out, [Output::Down, sends(5, 2, b"bye")]);
    assert_eq!(bench.hears(1, 10, &[7, 3, 2]), Ok(vec![]), "no new negotiation now");
    assert_eq!(bench.waits_until(3000), [sends(5, 3, b"bye")]);
    assert_eq!(bench.waits_until(6000), [Output::Finished]);
}

#[test]
fn a_request_while_opened_negotiates_anew() {
    let mut bench = Bench::opened();
    let got = bench.hears(1, 10, &[7, 3, 2]).unwrap();
    assert_eq!(got, [Output::Down, sends(1, 2, &[7, 3, 1]), sends(2, 10, &[7, 3, 2])]);
    assert_eq!(bench.toy.deadline(), Some(Tick::ZERO + Duration::from_secs(3)));
    assert_eq!(bench.hears(2, 2, &[7, 3, 1]), Ok(vec![Output::Up]));
}

#[test]
fn nothing_is_heard_before_the_lower_layer_is_up() {
    let mut bench = Bench {
        toy: Automaton::new(Toy { ours: 1, want: 2 }),
        cfg: ServerConfig::default(),
        now_ms: 0,
    };
    assert_eq!(bench.hears(1, 1, &[7, 3, 2]), Err("out_of_phase"));
}

#[test]
fn a_request_with_broken_options_is_dropped_whole() {
    let (mut bench, _) = Bench::started();
    assert_eq!(bench.hears(1, 1, &[200, 2, 7, 0]), Err("option_length"));
    assert_eq!(ConfigOptions::new(&[200, 2, 7, 0]).count(), 2);
}
