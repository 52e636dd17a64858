//! Our client against our server over a virtual link, in virtual time; a seed decides everything.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use model::{DownReason, Secret, Tick};
use ppp::client::{self, Cause, Client, ClientConfig};
use ppp::{
    Action, Addresses, AuthOutcome, AuthProtocol, Event, LinkParameters, Seed, Server,
    ServerConfig, SessionOutcome,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// PCG-like; enough to draw losses from.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    loss_percent: u64,
    copy_percent: u64,
    delay_max_ms: u64,
}

const PERFECT: Faults = Faults { loss_percent: 0, copy_percent: 0, delay_max_ms: 1 };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Delivery {
    ToServer(Vec<u8>),
    ToClient(Vec<u8>),
    Verdict(AuthOutcome),
    Grant(SessionOutcome),
}

struct Link {
    now: Tick,
    random: Random,
    faults: Faults,
    /// The first frame to the client that starts so is lost.
    loses_once: Option<[u8; 3]>,
    in_flight: BTreeMap<(Tick, u64), Delivery>,
    sent: u64,
    server: Server,
    server_cfg: ServerConfig,
    client: Client,
    client_cfg: ClientConfig,
    grants: bool,
    client_dead: bool,
    sessions_requested: Vec<LinkParameters>,
    server_ups: Vec<LinkParameters>,
    server_downs: Vec<DownReason>,
    client_ups: Vec<client::Action>,
    client_downs: Vec<Cause>,
    to_client: Vec<Vec<u8>>,
}

fn addresses() -> Addresses {
    Addresses {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: Ipv4Addr::new(100, 64, 0, 2),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
    }
}

impl Link {
    fn new(seed: u64, faults: Faults, auth: AuthProtocol) -> Self {
        let mut random = Random(seed);
        let mut draw = || u32::try_from(random.below(1 << 31)).unwrap();
        let server_seed = Seed {
            magic: draw(),
            challenge: std::array::from_fn(|_| draw().to_le_bytes()[1]),
            chap_id: draw().to_le_bytes()[2],
        };
        let client = Client::new(draw());
        Self {
            now: Tick::ZERO,
            random,
            faults,
            loses_once: None,
            in_flight: BTreeMap::new(),
            sent: 0,
            server: Server::new(server_seed),
            server_cfg: ServerConfig { auth: vec![auth], ..ServerConfig::default() },
            client,
            client_cfg: ClientConfig {
                username: "user1@isp".to_owned(),
                password: Secret::new("secret1"),
                ..ClientConfig::default()
            },
            grants: true,
            client_dead: false,
            sessions_requested: vec![],
            server_ups: vec![],
            server_downs: vec![],
            client_ups: vec![],
            client_downs: vec![],
            to_client: vec![],
        }
    }

    fn start(&mut self) {
        self.server_step(Event::Start);
        self.client_step(client::Event::Start);
    }

    fn transmit(&mut self, delivery: &Delivery) {
        let copies = 1 + u64::from(self.random.below(100) < self.faults.copy_percent);
        for _ in 0..copies {
            if self.random.below(100) >= self.faults.loss_percent {
                let delay_ms = self.random.below(self.faults.delay_max_ms);
                self.deliver_after(delay_ms, delivery.clone());
            }
        }
    }

    fn deliver_after(&mut self, delay_ms: u64, delivery: Delivery) {
        self.sent += 1;
        let at = self.now + Duration::from_millis(delay_ms);
        self.in_flight.insert((at, self.sent), delivery);
    }

    fn server_step(&mut self, event: Event<'_>) {
        for action in self.server.step(event, self.now, &self.server_cfg) {
            match action {
                Action::Send(frame) => {
                    self.to_client.push(frame.clone());
                    if self.loses_once.take_if(|prefix| frame.starts_with(prefix)).is_some() {
                        continue;
                    }
                    self.transmit(&Delivery::ToClient(frame));
                }
                Action::Authenticate(credentials) => {
                    let message = "hello".to_owned();
                    let is_right =
                        credentials.username() == "user1@isp" && credentials.verify("secret1");
                    let outcome = if is_right {
                        AuthOutcome::Accepted { message }
                    } else {
                        AuthOutcome::Rejected { message }
                    };
                    let delay_ms = self.random.below(20);
                    self.deliver_after(delay_ms, Delivery::Verdict(outcome));
                }
                Action::RequestSession(link) => {
                    self.sessions_requested.push(link);
                    let outcome = if self.grants {
                        SessionOutcome::Granted(addresses())
                    } else {
                        SessionOutcome::Refused { message: "pool is empty".to_owned() }
                    };
                    let delay_ms = self.random.below(20);
                    self.deliver_after(delay_ms, Delivery::Grant(outcome));
                }
                Action::Up(link) => self.server_ups.push(link),
                Action::Down(reason) => self.server_downs.push(reason),
            }
        }
    }

    fn client_step(&mut self, event: client::Event<'_>) {
        if self.client_dead {
            return;
        }
        for action in self.client.step(event, self.now, &self.client_cfg) {
            match action {
                client::Action::Send(frame) => self.transmit(&Delivery::ToServer(frame)),
                up @ client::Action::Up { .. } => self.client_ups.push(up),
                client::Action::Down(cause) => self.client_downs.push(cause),
            }
        }
    }

    /// Runs until `end`, or until nothing is left to happen.
    fn run_until(&mut self, end: Tick) {
        loop {
            let client_at = self.client.deadline().filter(|_| !self.client_dead);
            let next = [
                self.in_flight.keys().next().map(|(at, _)| *at),
                self.server.deadline(),
                client_at,
            ];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            match self.in_flight.first_entry() {
                Some(first) if first.key().0 <= self.now => match first.remove() {
                    Delivery::ToServer(frame) => self.server_step(Event::Frame(&frame)),
                    Delivery::ToClient(frame) => self.client_step(client::Event::Frame(&frame)),
                    Delivery::Verdict(outcome) => self.server_step(Event::Auth(outcome)),
                    Delivery::Grant(outcome) => self.server_step(Event::Session(outcome)),
                },
                Some(_) | None => {
                    self.server_step(Event::Deadline);
                    self.client_step(client::Event::Deadline);
                }
            }
        }
    }

    fn run_for(&mut self, s: u64) {
        self.run_until(self.now + Duration::from_secs(s));
    }
}

const UP: client::Action = client::Action::Up {
    local: Ipv4Addr::new(100, 64, 0, 2),
    peer: Ipv4Addr::new(100, 64, 0, 1),
    dns: Vec::new(),
    mtu: 1492,
};

fn up() -> client::Action {
    match UP {
        client::Action::Up { local, peer, mtu, .. } => {
            client::Action::Up { local, peer, dns: addresses().dns, mtu }
        }
        client::Action::Send(_) | client::Action::Down(_) => unreachable!(),
    }
}

#[test]
fn a_perfect_link_comes_up_at_once_and_stays_up() {
    for auth in [AuthProtocol::Pap, AuthProtocol::ChapMd5] {
        let mut link = Link::new(1, PERFECT, auth);
        link.start();
        link.run_for(1);
        assert_eq!(link.client_ups, [up()], "{auth:?}");
        assert_eq!(link.server_ups, link.sessions_requested, "{auth:?}");
        assert_eq!(link.server_ups[0].username, "user1@isp");
        link.run_for(600);
        assert!(link.server.is_up() && link.client.is_up(), "{auth:?}");
        assert_eq!((&*link.server_downs, &*link.client_downs), (&[][..], &[][..]));
        assert_eq!(link.server.dropped().count, 0, "{:?}", link.server.dropped());
    }
}

#[test]
fn a_link_that_loses_copies_and_reorders_comes_up_every_time() {
    let faults = Faults { loss_percent: 20, copy_percent: 20, delay_max_ms: 60 };
    for seed in 0..300 {
        for auth in [AuthProtocol::Pap, AuthProtocol::ChapMd5] {
            let mut link = Link::new(seed, faults, auth);
            link.server_cfg.auth_timeout = Duration::from_secs(120);
            link.client_cfg.establish_timeout = Duration::from_secs(120);
            // Loss of echoes would end a session that came up early.
            link.server_cfg.echo_unanswered_max = 20;
            link.client_cfg.echo_unanswered_max = 20;
            link.start();
            link.run_for(200);
            let what = format!("seed {seed} {auth:?}");
            assert!(link.server.is_up() && link.client.is_up(), "{what}");
            assert_eq!(link.sessions_requested.len(), 1, "{what}");
            assert_eq!(link.client_ups, [up()], "{what}");
            assert!(link.server_downs.is_empty() && link.client_downs.is_empty(), "{what}");
        }
    }
}

#[test]
fn a_lost_success_does_not_strand_a_client_that_keeps_silent() {
    let mut link = Link::new(3, PERFECT, AuthProtocol::ChapMd5);
    // Such a client never repeats its response.
    link.client_cfg.restart = Duration::from_secs(3600);
    link.loses_once = Some([0xc2, 0x23, 3]);
    link.start();
    link.run_for(2);
    assert!(link.client_ups.is_empty());
    link.run_for(5);
    assert!(link.server.is_up() && link.client.is_up());
}

#[test]
fn a_wrong_password_ends_the_link_with_the_servers_text() {
    for auth in [AuthProtocol::Pap, AuthProtocol::ChapMd5] {
        let mut link = Link::new(4, PERFECT, auth);
        link.client_cfg.password = Secret::new("wrongpw");
        link.start();
        link.run_for(20);
        assert_eq!(link.server_downs, [DownReason::NegotiationFailed], "{auth:?}");
        let message = "hello".to_owned();
        assert_eq!(link.client_downs, [Cause::AuthFailed { message }], "{auth:?}");
        assert!(link.sessions_requested.is_empty() && link.server_ups.is_empty(), "{auth:?}");
    }
}

#[test]
fn a_refused_session_ends_the_link_and_no_ipcp_was_spoken() {
    let mut link = Link::new(5, PERFECT, AuthProtocol::ChapMd5);
    link.grants = false;
    link.start();
    link.run_for(20);
    assert_eq!(link.server_downs, [DownReason::NegotiationFailed]);
    assert_eq!(link.client_downs, [Cause::PeerTerminated { message: "pool is empty".to_owned() }]);
    assert!(link.to_client.iter().all(|frame| frame[..2] != [0x80, 0x21]));
}

#[test]
fn either_end_can_hang_up() {
    let mut link = Link::new(6, PERFECT, AuthProtocol::ChapMd5);
    link.start();
    link.run_for(1);
    link.client_step(client::Event::Close);
    link.run_for(1);
    assert_eq!(link.server_downs, [DownReason::UserRequest]);
    assert_eq!(link.client_downs, [Cause::Closed]);

    let mut link = Link::new(7, PERFECT, AuthProtocol::ChapMd5);
    link.start();
    link.run_for(1);
    link.server_step(Event::Close(DownReason::AdminReset));
    assert!(!link.server.is_up());
    link.run_for(1);
    assert_eq!(link.server_downs, [DownReason::AdminReset]);
    assert_eq!(link.client_downs, [Cause::PeerTerminated { message: String::new() }]);
    assert_eq!((link.server.deadline(), link.client.deadline()), (None, None));
}

#[test]
fn a_silent_client_is_found_dead() {
    let mut link = Link::new(8, PERFECT, AuthProtocol::ChapMd5);
    link.start();
    link.run_for(1);
    link.client_dead = true;
    // The first echo leaves 30 s after IPCP opened, the third is the last.
    link.run_for(118);
    assert_eq!(link.server_downs, []);
    link.run_for(2);
    assert_eq!(link.server_downs, [DownReason::LostCarrier]);
}

#[test]
fn a_client_without_a_common_protocol_is_refused() {
    let mut link = Link::new(9, PERFECT, AuthProtocol::ChapMd5);
    link.client_cfg.auth = vec![AuthProtocol::Pap];
    link.start();
    link.run_for(30);
    assert_eq!(link.server_downs, [DownReason::NegotiationFailed]);
    assert!(link.sessions_requested.is_empty());
}

#[test]
fn a_client_picks_the_servers_second_choice() {
    let mut link = Link::new(10, PERFECT, AuthProtocol::ChapMd5);
    link.server_cfg.auth = vec![AuthProtocol::ChapMd5, AuthProtocol::Pap];
    link.client_cfg.auth = vec![AuthProtocol::Pap];
    link.start();
    link.run_for(1);
    assert!(link.server.is_up() && link.client.is_up());
}

#[test]
fn a_resumed_server_goes_on_where_the_other_stopped() {
    let mut link = Link::new(11, PERFECT, AuthProtocol::ChapMd5);
    link.start();
    link.run_for(1);
    let parameters = link.server_ups[0].clone();
    link.server = Server::resume(parameters.clone(), addresses(), link.now, &link.server_cfg);
    assert!(link.server.is_up());
    link.to_client.clear();
    link.run_for(600);
    assert!(link.server.is_up() && link.client.is_up());
    let magic = parameters.local_magic.to_be_bytes();
    let echoes = |code: u8| link.to_client.iter().filter(move |f| f[2] == code).collect::<Vec<_>>();
    assert!(echoes(9).len() >= 19 && echoes(10).len() >= 19, "requests and replies");
    assert!(link.to_client.iter().all(|f| f[..2] == [0xc0, 0x21] && f[6..10] == magic));

    link.client_step(client::Event::Close);
    link.run_for(1);
    assert_eq!(link.server_downs, [DownReason::UserRequest]);
}

#[test]
fn a_takeover_in_the_middle_of_ipcp_is_not_noticed_by_the_client() {
    for seed in 0..50 {
        let faults = Faults { loss_percent: 0, copy_percent: 10, delay_max_ms: 40 };
        let mut link = Link::new(seed, faults, AuthProtocol::ChapMd5);
        link.start();
        // Granted, so committed; IPCP has not opened yet.
        while link.server_ups.is_empty() {
            let is_ipcp = |frame: &[u8]| frame[..2] == [0x80, 0x21];
            if link.to_client.iter().any(|frame| is_ipcp(frame)) {
                break;
            }
            link.run_until(link.now + Duration::from_millis(1));
        }
        let parameters = link.sessions_requested[0].clone();
        link.server = Server::resume(parameters, addresses(), link.now, &link.server_cfg);
        link.run_for(60);
        assert_eq!(link.client_ups, [up()], "seed {seed}");
        assert!(link.server.is_up(), "seed {seed}");
    }
}
