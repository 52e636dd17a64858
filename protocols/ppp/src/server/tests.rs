use super::*;
use crate::auth::{chap, chap_value, pap_request};
use model::Secret;
use std::net::Ipv4Addr;
use std::time::Duration;

const SEED: Seed = Seed { magic: 0x0a0b_0c0d, challenge: [0x33; 16], chap_id: 5 };
const PEER_MAGIC: [u8; 6] = [5, 6, 0x11, 0x22, 0x33, 0x44];

fn addresses() -> Addresses {
    Addresses {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: Ipv4Addr::new(100, 64, 0, 2),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
    }
}

fn parameters() -> LinkParameters {
    LinkParameters {
        username: "user".to_owned(),
        local_magic: 0x0a0b_0c0d,
        peer_magic: 0x1122_3344,
        mtu: 1492,
        mru: 1492,
    }
}

/// A server with a hand-driven peer.
struct Bench {
    server: Server,
    cfg: ServerConfig,
    now: Tick,
}

impl Bench {
    fn new() -> Self {
        let cfg = ServerConfig { name: "bng1".to_owned(), ..ServerConfig::default() };
        Self { server: Server::new(SEED), cfg, now: Tick::ZERO }
    }

    fn resumed() -> Self {
        let cfg = ServerConfig { name: "bng1".to_owned(), ..ServerConfig::default() };
        let server = Server::resume(parameters(), addresses(), Tick::ZERO, &cfg);
        Self { server, cfg, now: Tick::ZERO }
    }

    fn step(&mut self, event: Event<'_>) -> Vec<Action> {
        self.server.step(event, self.now, &self.cfg)
    }

    fn hears(&mut self, protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<Action> {
        self.step(Event::Frame(&wire::frame(protocol, code, id, data)))
    }

    fn accept(&mut self) -> Vec<Action> {
        self.step(Event::Auth(AuthOutcome::Accepted { message: String::new() }))
    }

    fn grant(&mut self) -> Vec<Action> {
        self.step(Event::Session(SessionOutcome::Granted(addresses())))
    }

    /// Both LCP directions; `id` is that of our request.
    fn lcp_opens(&mut self, id: u8) -> Vec<Action> {
        let _ = self.hears(protocol::LCP, 1, 1, &PEER_MAGIC);
        self.hears(protocol::LCP, 2, id, &OUR_LCP)
    }

    fn response(&mut self, id: u8, name: &str) -> Vec<Action> {
        self.step(Event::Frame(&chap_value(chap::RESPONSE, id, &[1; 16], name)))
    }

    fn authorized() -> Self {
        let mut bench = Self::new();
        let _ = bench.step(Event::Start);
        let _ = bench.lcp_opens(1);
        let _ = bench.response(5, "user");
        let _ = bench.accept();
        bench
    }

    fn up() -> Self {
        let mut bench = Self::authorized();
        let _ = bench.grant();
        let _ = bench.hears(protocol::IPCP, 1, 1, &[3, 6, 100, 64, 0, 2]);
        let up = bench.hears(protocol::IPCP, 2, 1, &[3, 6, 100, 64, 0, 1]);
        assert_eq!(up, [Action::Up(parameters())]);
        bench
    }

    fn dropped(&self) -> Option<&'static str> {
        self.server.dropped().last.map(WireError::label)
    }
}

const OUR_LCP: [u8; 15] = [3, 5, 0xc2, 0x23, 5, 1, 4, 0x05, 0xd4, 5, 6, 0x0a, 0x0b, 0x0c, 0x0d];

fn sends(protocol: u16, code: u8, id: u8, data: &[u8]) -> Action {
    Action::Send(wire::frame(protocol, code, id, data))
}

#[test]
fn nothing_is_answered_before_the_start() {
    let mut bench = Bench::new();
    assert_eq!(bench.hears(protocol::LCP, 1, 1, &PEER_MAGIC), []);
    assert_eq!(bench.dropped(), Some("not_running"));
    assert_eq!(bench.server.deadline(), None);
    assert_eq!(bench.step(Event::Close(DownReason::AdminReset)).len(), 1, "only Down");
    assert_eq!(bench.step(Event::Start), [], "finished");
}

#[test]
fn a_server_that_may_demand_nothing_refuses_everybody() {
    let mut bench = Bench::new();
    bench.cfg.auth.clear();
    assert_eq!(bench.step(Event::Start), [Action::Down(DownReason::NegotiationFailed)]);
}

#[test]
fn ipcp_waits_for_the_grant_and_then_answers_the_newest_early_request() {
    let mut bench = Bench::authorized();
    assert_eq!(bench.hears(protocol::IPCP, 1, 1, &[3, 6, 0, 0, 0, 0]), []);
    assert_eq!(bench.hears(protocol::IPCP, 1, 2, &[3, 6, 9, 9, 9, 9]), []);
    assert_eq!(bench.hears(protocol::IPCP, 2, 1, &[]), []);
    let want = [
        sends(protocol::IPCP, 1, 1, &[3, 6, 100, 64, 0, 1]),
        sends(protocol::IPCP, 3, 2, &[3, 6, 100, 64, 0, 2]),
    ];
    assert_eq!(bench.grant(), want);
    let other = Addresses { peer: Ipv4Addr::new(9, 9, 9, 9), ..addresses() };
    assert_eq!(bench.step(Event::Session(SessionOutcome::Granted(other))), [], "granted once");
    let got = bench.hears(protocol::IPCP, 1, 3, &[3, 6, 9, 9, 9, 9]);
    assert_eq!(got, [sends(protocol::IPCP, 3, 3, &[3, 6, 100, 64, 0, 2])]);
    assert!(!bench.server.is_up());
}

#[test]
fn ipcp_before_authentication_is_dropped() {
    let mut bench = Bench::new();
    let _ = bench.step(Event::Start);
    let _ = bench.lcp_opens(1);
    assert_eq!(bench.hears(protocol::IPCP, 1, 1, &[3, 6, 0, 0, 0, 0]), []);
    assert_eq!(bench.dropped(), Some("out_of_phase"));
    assert_eq!(bench.hears(0x8057, 1, 1, &[]), [], "RFC 1661 §3.5: discarded silently");
}

#[test]
fn unknown_protocols_are_rejected_once_the_peer_is_authenticated() {
    let mut bench = Bench::up();
    for (n, protocol) in [0x8057_u16, 0x80fd, 0x8281, 0x0057].into_iter().enumerate() {
        let id = u8::try_from(n).unwrap() + 2;
        let data = [&protocol.to_be_bytes()[..], &[1, 1, 0, 4]].concat();
        assert_eq!(
            bench.hears(protocol, 1, 1, &[]),
            [sends(protocol::LCP, 8, id, &data)],
            "{protocol:#06x}"
        );
    }
    assert_eq!(bench.hears(protocol::IPV4, 0x45, 0, &[]), []);
    assert_eq!(bench.dropped(), Some("out_of_phase"));
}

#[test]
fn a_repeated_response_after_the_success_gets_it_again() {
    let mut bench = Bench::up();
    assert_eq!(bench.response(5, "user"), [sends(protocol::CHAP, chap::SUCCESS, 5, &[])]);
    assert!(bench.server.is_up());
}

#[test]
fn ipcp_negotiated_anew_gives_the_same_answers_and_no_second_up() {
    let mut bench = Bench::up();
    let got = bench.hears(protocol::IPCP, 1, 9, &[3, 6, 0, 0, 0, 0]);
    let want = [
        sends(protocol::IPCP, 1, 2, &[3, 6, 100, 64, 0, 1]),
        sends(protocol::IPCP, 3, 9, &[3, 6, 100, 64, 0, 2]),
    ];
    assert_eq!(got, want);
    assert!(bench.server.is_up(), "the subscriber's packets still flow");
    let got = bench.hears(protocol::IPCP, 1, 10, &[3, 6, 100, 64, 0, 2]);
    assert_eq!(got, [sends(protocol::IPCP, 2, 10, &[3, 6, 100, 64, 0, 2])]);
    assert_eq!(bench.hears(protocol::IPCP, 2, 2, &[3, 6, 100, 64, 0, 1]), []);
}

#[test]
fn lcp_negotiated_anew_authenticates_again_and_keeps_the_session() {
    for (name, keeps) in [("user", true), ("other", false)] {
        let mut bench = Bench::up();
        let got = bench.hears(protocol::LCP, 1, 7, &PEER_MAGIC);
        let want = [sends(protocol::LCP, 1, 2, &OUR_LCP), sends(protocol::LCP, 2, 7, &PEER_MAGIC)];
        assert_eq!(got, want);
        let challenge = bench.hears(protocol::LCP, 2, 2, &OUR_LCP);
        let [Action::Send(challenge)] = challenge.as_slice() else { panic!("{challenge:?}") };
        assert_eq!(challenge[..4], [0xc2, 0x23, chap::CHALLENGE, 6]);
        assert_ne!(challenge[7..23], SEED.challenge);
        assert!(matches!(bench.response(6, name)[..], [Action::Authenticate(_)]));
        let got = bench.accept();
        if keeps {
            let request = sends(protocol::IPCP, 1, 2, &[3, 6, 100, 64, 0, 1]);
            assert_eq!(got[1..], [request], "no second RequestSession");
            let _ = bench.hears(protocol::IPCP, 1, 3, &[3, 6, 100, 64, 0, 2]);
            assert_eq!(bench.hears(protocol::IPCP, 2, 2, &[3, 6, 100, 64, 0, 1]), []);
            assert!(bench.server.is_up());
        } else {
            assert!(!bench.server.is_up(), "one session has one user");
        }
    }
}

#[test]
fn a_changed_mru_is_announced_again() {
    let mut bench = Bench::up();
    let request = [&PEER_MAGIC[..], &[1, 4, 0x05, 0x78]].concat();
    let _ = bench.hears(protocol::LCP, 1, 7, &request);
    let _ = bench.hears(protocol::LCP, 2, 2, &OUR_LCP);
    let _ = bench.response(6, "user");
    let _ = bench.accept();
    let _ = bench.hears(protocol::IPCP, 1, 3, &[3, 6, 100, 64, 0, 2]);
    let got = bench.hears(protocol::IPCP, 2, 2, &[3, 6, 100, 64, 0, 1]);
    assert_eq!(got, [Action::Up(LinkParameters { mtu: 1400, ..parameters() })]);
}

#[test]
fn a_grant_that_meets_a_new_negotiation_is_kept_for_later() {
    let mut bench = Bench::authorized();
    let _ = bench.hears(protocol::LCP, 1, 7, &PEER_MAGIC);
    assert_eq!(bench.grant(), []);
    let _ = bench.hears(protocol::LCP, 2, 2, &OUR_LCP);
    let _ = bench.response(6, "user");
    let got = bench.accept();
    assert_eq!(got[1..], [sends(protocol::IPCP, 1, 1, &[3, 6, 100, 64, 0, 1])]);
}

#[test]
fn a_session_that_takes_too_long_is_closed() {
    let mut bench = Bench::authorized();
    bench.now = Tick::from_ms(29_999);
    assert_eq!(bench.step(Event::Deadline), []);
    assert_eq!(bench.server.deadline(), Some(Tick::from_ms(30_000)));
    bench.now = Tick::from_ms(30_000);
    let got = bench.step(Event::Deadline);
    assert_eq!(got, [sends(protocol::LCP, 5, 2, b"the link took too long")]);
    assert_eq!(bench.server.deadline(), Some(Tick::from_ms(33_000)), "for the Terminate-Ack only");
    assert_eq!(bench.step(Event::Close(DownReason::AdminReset)), [], "the first reason stays");
    let got = bench.hears(protocol::LCP, 6, 2, &[]);
    assert_eq!(got, [Action::Down(DownReason::NegotiationFailed)]);
    assert_eq!(bench.grant(), [], "too late");
}

#[test]
fn a_peer_that_hangs_up_is_acknowledged_in_every_phase() {
    let mut starting = Bench::new();
    let _ = starting.step(Event::Start);
    for (name, mut bench) in [
        ("establish", starting),
        ("authorize", Bench::authorized()),
        ("up", Bench::up()),
        ("resumed", Bench::resumed()),
    ] {
        let want = [sends(protocol::LCP, 6, 9, &[]), Action::Down(DownReason::UserRequest)];
        assert_eq!(bench.hears(protocol::LCP, 5, 9, b"bye"), want, "{name}");
        assert_eq!(bench.server.deadline(), None, "{name}");
        assert_eq!(bench.hears(protocol::LCP, 5, 9, b"bye"), [], "{name}");
    }
}

#[test]
fn a_peer_that_closes_ipcp_or_rejects_it_ends_the_link() {
    let mut bench = Bench::up();
    let want = [sends(protocol::IPCP, 6, 3, &[]), sends(protocol::LCP, 5, 2, &[])];
    assert_eq!(bench.hears(protocol::IPCP, 5, 3, &[]), want);
    let got = bench.hears(protocol::LCP, 6, 2, &[]);
    assert_eq!(got, [Action::Down(DownReason::UserRequest)]);

    let mut bench = Bench::up();
    let rejected = [0x80, 0x21, 1, 1, 0, 4];
    let _ = bench.hears(protocol::LCP, 8, 3, &rejected);
    assert!(!bench.server.is_up());
    let got = bench.hears(protocol::LCP, 6, 2, &[]);
    assert_eq!(got, [Action::Down(DownReason::NegotiationFailed)]);
    let mut bench = Bench::up();
    assert_eq!(bench.hears(protocol::LCP, 8, 3, &[0x80, 0x57]), [], "we never spoke that");
    assert!(bench.server.is_up());
}

#[test]
fn a_resumed_server_uses_the_same_magic_and_finds_a_dead_peer_in_time() {
    let mut bench = Bench::resumed();
    let magic = [0x0a, 0x0b, 0x0c, 0x0d];
    let reply = sends(protocol::LCP, 10, 4, &magic);
    assert_eq!(bench.hears(protocol::LCP, 9, 4, &[0x11, 0x22, 0x33, 0x44]), [reply]);
    let mut probes = 0;
    let died_at = loop {
        bench.now = bench.server.deadline().expect("an echo is always due");
        match bench.step(Event::Deadline).as_slice() {
            [Action::Send(frame)] => {
                assert_eq!(frame[6..10], magic);
                probes += 1;
            }
            other => {
                assert_eq!(other, [Action::Down(DownReason::LostCarrier)]);
                break bench.now;
            }
        }
    };
    assert_eq!(probes, 3);
    assert!(died_at <= Tick::ZERO + bench.cfg.echo_interval * 4, "{died_at:?}");
}

#[test]
fn a_resumed_server_answers_a_peer_that_missed_the_outcome_or_ipcp() {
    let mut bench = Bench::resumed();
    let pap = pap_request(8, "user", &Secret::new("x"));
    assert_eq!(bench.step(Event::Frame(&pap)), [sends(protocol::PAP, 2, 8, &[0])]);
    assert_eq!(bench.response(3, "user"), [sends(protocol::CHAP, chap::SUCCESS, 3, &[])]);
    let got = bench.hears(protocol::IPCP, 1, 1, &[3, 6, 100, 64, 0, 2]);
    assert_eq!(got[1], sends(protocol::IPCP, 2, 1, &[3, 6, 100, 64, 0, 2]));
    assert!(bench.server.is_up());
}

#[test]
fn a_resumed_server_closes_a_link_that_is_negotiated_anew() {
    let mut bench = Bench::resumed();
    let got = bench.hears(protocol::LCP, 1, 1, &PEER_MAGIC);
    assert_eq!(got, [sends(protocol::LCP, 5, 0x0e, DIAL_AGAIN.as_bytes())]);
    let got = bench.hears(protocol::LCP, 6, 0x0e, &[]);
    assert_eq!(got, [Action::Down(DownReason::NegotiationFailed)]);
}

#[test]
fn an_echo_interval_of_zero_sends_none() {
    let mut bench = Bench::resumed();
    bench.cfg.echo_interval = Duration::ZERO;
    let server = Server::resume(parameters(), addresses(), Tick::ZERO, &bench.cfg);
    assert_eq!(server.deadline(), None);
    bench.now = bench.server.deadline().unwrap();
    assert_eq!(bench.step(Event::Deadline), [], "switched off while running");
    assert_eq!(bench.server.deadline(), None);
}

#[test]
fn echoes_rest_while_the_link_is_not_open() {
    for close in [false, true] {
        let mut bench = Bench::up();
        let _ = if close {
            bench.step(Event::Close(DownReason::AdminReset))
        } else {
            bench.hears(protocol::LCP, 1, 7, &PEER_MAGIC)
        };
        bench.now = Tick::ZERO + bench.cfg.echo_interval;
        let is_echo = |a: &Action| matches!(a, Action::Send(f) if f[..3] == [0xc0, 0x21, 9]);
        assert!(!bench.step(Event::Deadline).iter().any(is_echo), "close: {close}");
    }
}

#[test]
fn a_looped_back_echo_is_dropped() {
    let mut bench = Bench::up();
    assert_eq!(bench.hears(protocol::LCP, 9, 4, &[0x0a, 0x0b, 0x0c, 0x0d]), []);
    assert_eq!(bench.dropped(), Some("looped_back"));
}

#[test]
fn identification_and_discard_want_no_answer() {
    let mut bench = Bench::up();
    for code in [11, 12, 13] {
        assert_eq!(bench.hears(protocol::LCP, code, 4, &[0x11, 0x22, 0x33, 0x44]), []);
    }
    assert_eq!(bench.server.dropped().count, 0);
}

#[test]
fn a_code_reject_of_what_lcp_needs_ends_the_link() {
    let mut bench = Bench::up();
    let got = bench.hears(protocol::LCP, 7, 4, &[1, 1, 0, 4]);
    assert_eq!(got, [sends(protocol::LCP, 5, 2, &[])]);
    assert!(!bench.server.is_up());
    let got = bench.hears(protocol::LCP, 6, 2, &[]);
    assert_eq!(got, [Action::Down(DownReason::NegotiationFailed)]);
}

#[test]
fn a_session_fits_four_hundred_octets() {
    let size = size_of::<Server>();
    assert!(size <= 400, "{size} octets");
}
