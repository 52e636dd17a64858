use crate::script::{Deed, deeds};
use model::{DownReason, Tick};
use ppp::client::{self, Client, ClientConfig};
use ppp::wire::{code, protocol};
use ppp::{
    Action, Addresses, AuthOutcome, AuthProtocol, Event, LinkParameters, Seed, Server,
    ServerConfig, SessionOutcome,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// What the engine sent, to answer it.
#[derive(Default)]
struct Heard(Vec<Vec<u8>>);

impl Heard {
    fn note(&mut self, frame: Vec<u8>) {
        assert_eq!(usize::from(frame[4]) << 8 | usize::from(frame[5]), frame.len() - 2);
        self.0.push(frame);
    }

    fn last(&self, protocol: u16, code: u8) -> Option<&Vec<u8>> {
        let head = protocol.to_be_bytes();
        self.0.iter().rev().find(|f| f[..2] == head && f[2] == code)
    }

    /// The frame that a deed of the peer sends.
    fn frame(&self, deed: Deed<'_>) -> Option<Vec<u8>> {
        match deed {
            Deed::Frame(octets) => Some(octets.to_vec()),
            Deed::Agree(of) => {
                let request = self.last(of, code::CONFIGURE_REQUEST)?;
                Some(packet(of, code::CONFIGURE_ACK, request[3], &request[6..]))
            }
            Deed::Respond => {
                let challenge = self.last(protocol::CHAP, 1)?;
                let data = [&[16][..], &[1; 16], b"user1@isp"].concat();
                Some(packet(protocol::CHAP, 2, challenge[3], &data))
            }
            Deed::Wait(_) | Deed::Verdict(_) | Deed::Grant(_) | Deed::Close => None,
        }
    }
}

fn packet(protocol: u16, code: u8, id: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 4).expect("the engine's own frames are short");
    [&protocol.to_be_bytes()[..], &[code, id], &length.to_be_bytes(), data].concat()
}

fn addresses() -> Addresses {
    Addresses {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: Ipv4Addr::new(100, 64, 0, 2),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
    }
}

/// The first octet chooses a new or a resumed engine, and what it demands.
pub(crate) fn server(data: &[u8]) {
    let Some((mode, script)) = data.split_first() else { return };
    let auth = match mode >> 1 & 3 {
        0 => vec![AuthProtocol::ChapMd5, AuthProtocol::Pap],
        1 => vec![AuthProtocol::Pap],
        2 => vec![AuthProtocol::ChapMd5],
        _ => vec![],
    };
    let cfg = ServerConfig { auth, ..ServerConfig::default() };
    let resumed = mode & 1 == 1;
    let mut now = Tick::ZERO;
    let mut server = if resumed {
        let link = LinkParameters {
            username: "user1@isp".to_owned(),
            local_magic: 5,
            peer_magic: 6,
            mtu: 1492,
            mru: 1492,
        };
        Server::resume(link, addresses(), now, &cfg)
    } else {
        Server::new(Seed { magic: 0x1234_5678, challenge: [7; 16], chap_id: 1 })
    };
    let mut heard = Heard::default();
    let (mut asked, mut accepted, mut requested, mut granted) = (false, resumed, resumed, resumed);
    let mut downs = 0;
    let mut actions = server.step(Event::Start, now, &cfg);
    for deed in deeds(script) {
        for action in actions.drain(..) {
            match action {
                Action::Send(frame) => {
                    assert!(granted || frame[..2] != [0x80, 0x21], "IPCP before the grant");
                    heard.note(frame);
                }
                Action::Authenticate(_) => asked = true,
                Action::RequestSession(_) => {
                    assert!(accepted && !requested, "a session for nobody, or a second one");
                    requested = true;
                }
                Action::Up(_) => assert!(accepted && granted),
                Action::Down(_) => downs += 1,
            }
        }
        assert!(downs <= 1, "a link went down twice");
        let message = String::new();
        actions = match (deed, heard.frame(deed)) {
            (_, Some(frame)) => server.step(Event::Frame(&frame), now, &cfg),
            (Deed::Verdict(good), None) => {
                accepted |= good && asked;
                let outcome = if good {
                    AuthOutcome::Accepted { message }
                } else {
                    AuthOutcome::Rejected { message }
                };
                server.step(Event::Auth(outcome), now, &cfg)
            }
            (Deed::Grant(good), None) => {
                granted |= good && requested;
                let outcome = if good {
                    SessionOutcome::Granted(addresses())
                } else {
                    SessionOutcome::Refused { message }
                };
                server.step(Event::Session(outcome), now, &cfg)
            }
            (Deed::Close, None) => server.step(Event::Close(DownReason::AdminReset), now, &cfg),
            (Deed::Wait(ms), None) => {
                now = now + Duration::from_millis(ms);
                server.step(Event::Deadline, now, &cfg)
            }
            (Deed::Frame(_) | Deed::Agree(_) | Deed::Respond, None) => vec![],
        };
    }
}

/// Verdicts and grants mean nothing to a client.
pub(crate) fn client(data: &[u8]) {
    let cfg = ClientConfig {
        username: "user1@isp".to_owned(),
        password: model::Secret::new("secret1"),
        ..ClientConfig::default()
    };
    let mut now = Tick::ZERO;
    let mut client = Client::new(77);
    let mut heard = Heard::default();
    let mut downs = 0;
    let mut actions = client.step(client::Event::Start, now, &cfg);
    for deed in deeds(data) {
        for action in actions.drain(..) {
            match action {
                client::Action::Send(frame) => heard.note(frame),
                client::Action::Up { .. } => assert_eq!(downs, 0),
                client::Action::Down(_) => downs += 1,
            }
        }
        assert!(downs <= 1, "a link went down twice");
        actions = match (deed, heard.frame(deed)) {
            (_, Some(frame)) => client.step(client::Event::Frame(&frame), now, &cfg),
            (Deed::Close, None) => client.step(client::Event::Close, now, &cfg),
            (Deed::Wait(ms), None) => {
                now = now + Duration::from_millis(ms);
                client.step(client::Event::Deadline, now, &cfg)
            }
            (_, None) => vec![],
        };
    }
}
