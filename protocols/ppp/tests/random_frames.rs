//! Whatever arrives, an engine neither panics nor lets anybody in unasked.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use model::{DownReason, Tick};
use ppp::client::{self, Client, ClientConfig};
use ppp::{
    Action, Addresses, AuthOutcome, AuthProtocol, Event, Seed, Server, ServerConfig, SessionOutcome,
};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const SEED: Seed = Seed { magic: 0x1234_5678, challenge: [7; 16], chap_id: 1 };

/// One thing that a peer or the clock may do.
#[derive(Clone, Debug)]
enum Deed {
    Raw(Vec<u8>),
    Packet {
        protocol: u16,
        code: u8,
        id: u8,
        data: Vec<u8>,
    },
    /// Acknowledges the newest Configure-Request of that protocol, so that states behind it are met.
    Agree {
        protocol: u16,
    },
    /// A request with nothing to refuse in it.
    Request {
        protocol: u16,
    },
    Response,
    Wait {
        ms: u16,
    },
    Verdict(bool),
    Grant(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let protocol = prop_oneof![
        Just(0xc021_u16),
        Just(0xc021),
        Just(0x8021),
        Just(0xc023),
        Just(0xc223),
        Just(0x8057),
        any::<u16>(),
    ];
    let nego = || prop_oneof![Just(0xc021_u16), Just(0x8021)];
    let option = (prop_oneof![1..14_u8, Just(129_u8), any::<u8>()], 0..8_u8, any::<[u8; 6]>())
        .prop_map(|(kind, length, data)| {
            let mut option = vec![kind, length];
            option.extend_from_slice(&data[..usize::from(length.saturating_sub(2)).min(6)]);
            option
        });
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(option, 0..4).prop_map(|options| options.concat()),
    ];
    let deed = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Deed::Raw),
        4 => (protocol, 0..16_u8, 0..6_u8, data)
            .prop_map(|(protocol, code, id, data)| Deed::Packet { protocol, code, id, data }),
        4 => nego().prop_map(|protocol| Deed::Agree { protocol }),
        4 => nego().prop_map(|protocol| Deed::Request { protocol }),
        2 => Just(Deed::Response),
        1 => (0..5000_u16).prop_map(|ms| Deed::Wait { ms }),
        2 => any::<bool>().prop_map(Deed::Verdict),
        2 => any::<bool>().prop_map(Deed::Grant),
    ];
    prop::collection::vec(deed, 0..60)
}

fn packet(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = protocol.to_be_bytes().to_vec();
    frame.extend_from_slice(&[code, id]);
    frame.extend_from_slice(&u16::try_from(data.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(data);
    frame
}

/// The frame for a deed; `heard` is what the engine sent so far.
fn frame(deed: &Deed, heard: &[Vec<u8>]) -> Option<Vec<u8>> {
    let last = |protocol: u16, code: u8| {
        let head = protocol.to_be_bytes();
        heard.iter().rev().find(|f| f[..2] == head && f[2] == code)
    };
    match deed {
        Deed::Raw(frame) => Some(frame.clone()),
        Deed::Packet { protocol, code, id, data } => Some(packet(*protocol, *code, *id, data)),
        Deed::Agree { protocol } => last(*protocol, 1).map(|f| packet(*protocol, 2, f[3], &f[6..])),
        Deed::Request { protocol: 0xc021 } => Some(packet(0xc021, 1, 1, &[5, 6, 9, 9, 9, 9])),
        Deed::Request { protocol } => Some(packet(*protocol, 1, 1, &[3, 6, 100, 64, 0, 2])),
        Deed::Response => last(0xc223, 1).map(|challenge| {
            let data = [&[16][..], &[1; 16], b"user"].concat();
            packet(0xc223, 2, challenge[3], &data)
        }),
        Deed::Wait { .. } | Deed::Verdict(_) | Deed::Grant(_) => None,
    }
}

fn addresses() -> Addresses {
    Addresses {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: Ipv4Addr::new(100, 64, 0, 2),
        dns: vec![],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_up_without_authentication_and_grant(deeds in deeds(), pap in any::<bool>()) {
        let auth = if pap { AuthProtocol::Pap } else { AuthProtocol::ChapMd5 };
        let cfg = ServerConfig { auth: vec![auth], ..ServerConfig::default() };
        let mut server = Server::new(SEED);
        let mut now = Tick::ZERO;
        let mut heard: Vec<Vec<u8>> = vec![];
        let (mut questions, mut accepted, mut granted) = (0_u32, false, false);
        let (mut requests, mut downs) = (0, 0);
        let mut queue = server.step(Event::Start, now, &cfg);
        for deed in &deeds {
            if let Deed::Wait { ms } = deed {
                now = now + std::time::Duration::from_millis(u64::from(*ms));
            }
            let bytes = frame(deed, &heard);
            queue.extend(match (deed, &bytes) {
                (_, Some(bytes)) => server.step(Event::Frame(bytes), now, &cfg),
                (Deed::Verdict(true), _) => {
                    accepted |= questions > 0;
                    questions = 0;
                    let message = String::new();
                    server.step(Event::Auth(AuthOutcome::Accepted { message }), now, &cfg)
                }
                (Deed::Verdict(false), _) => {
                    questions = 0;
                    let message = String::new();
                    server.step(Event::Auth(AuthOutcome::Rejected { message }), now, &cfg)
                }
                (Deed::Grant(true), _) => {
                    granted |= requests > 0;
                    let grant = SessionOutcome::Granted(addresses());
                    server.step(Event::Session(grant), now, &cfg)
                }
                (Deed::Grant(false), _) => {
                    let message = String::new();
                    server.step(Event::Session(SessionOutcome::Refused { message }), now, &cfg)
                }
                (_, None) => server.step(Event::Deadline, now, &cfg),
            });
            for action in queue.drain(..) {
                match action {
                    Action::Send(frame) => {
                        let is_ipcp = frame[..2] == [0x80, 0x21];
                        prop_assert!(!is_ipcp || granted, "IPCP before the grant: {frame:02x?}");
                        prop_assert_eq!(usize::from(frame[4]) << 8 | usize::from(frame[5]), frame.len() - 2);
                        heard.push(frame);
                    }
                    Action::Authenticate(_) => {
                        questions += 1;
                        prop_assert_eq!(questions, 1, "a second question is open");
                    }
                    Action::RequestSession(_) => {
                        requests += 1;
                        prop_assert!(accepted, "a session for nobody");
                    }
                    Action::Up(_) => prop_assert!(accepted && granted && downs == 0),
                    Action::Down(_) => downs += 1,
                }
            }
            prop_assert!(requests <= 1 && downs <= 1);
            prop_assert!(downs == 0 || server.deadline().is_none());
        }
        let mut last = server.step(Event::Close(DownReason::AdminReset), now, &cfg);
        for _ in 0..4 {
            if let Some(at) = server.deadline() {
                last.extend(server.step(Event::Deadline, at, &cfg));
            }
        }
        downs += last.iter().filter(|action| matches!(action, Action::Down(_))).count();
        prop_assert_eq!(downs, 1);
        prop_assert!(server.deadline().is_none(), "a closed engine must come to an end");
    }

    #[test]
    fn a_client_survives_any_server(deeds in deeds()) {
        let cfg = ClientConfig { username: "user".to_owned(), ..ClientConfig::default() };
        let mut client = Client::new(77);
        let mut now = Tick::ZERO;
        let mut heard: Vec<Vec<u8>> = vec![];
        let mut downs = 0;
        let mut queue = client.step(client::Event::Start, now, &cfg);
        for deed in &deeds {
            if let Deed::Wait { ms } = deed {
                now = now + std::time::Duration::from_millis(u64::from(*ms));
            }
            queue.extend(match frame(deed, &heard) {
                Some(bytes) => client.step(client::Event::Frame(&bytes), now, &cfg),
                None => client.step(client::Event::Deadline, now, &cfg),
            });
            for action in queue.drain(..) {
                match action {
                    client::Action::Send(frame) => heard.push(frame),
                    client::Action::Up { .. } => prop_assert_eq!(downs, 0),
                    client::Action::Down(_) => downs += 1,
                }
            }
            prop_assert!(downs <= 1);
        }
    }

    #[test]
    fn a_resumed_server_survives_any_client(deeds in deeds()) {
        let cfg = ServerConfig::default();
        let link = ppp::LinkParameters {
            username: "user".to_owned(), local_magic: 5, peer_magic: 6, mtu: 1492, mru: 1492,
        };
        let mut server = Server::resume(link, addresses(), Tick::ZERO, &cfg);
        let mut now = Tick::ZERO;
        for deed in &deeds {
            if let Deed::Wait { ms } = deed {
                now = now + std::time::Duration::from_millis(u64::from(*ms));
            }
            let actions = match frame(deed, &[]) {
                Some(bytes) => server.step(Event::Frame(&bytes), now, &cfg),
                None => server.step(Event::Deadline, now, &cfg),
            };
            let asks = |a: &Action| matches!(a, Action::Authenticate(_) | Action::RequestSession(_));
            prop_assert!(!actions.iter().any(asks));
        }
    }
}
