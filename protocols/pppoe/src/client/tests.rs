use super::*;
use crate::{PadsError, Server, ServerConfig, pads, pads_refused};
use model::{Attachment, PortId, UnixMs, Vlans};

const SERVER: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 51]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn ms(at_ms: u64) -> Tick {
    Tick::from_ms(at_ms)
}

fn client() -> Client {
    Client::new(Config::new(b"", b"me"))
}

fn codes(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| match action {
            Action::Send { dst, payload } => {
                format!("{:?} to {dst}", Packet::parse(payload).unwrap().code)
            }
            Action::Opened { sid, server } => format!("open {sid} at {server}"),
            Action::Closed => "closed".to_owned(),
            Action::Failed => "failed".to_owned(),
        })
        .collect()
}

fn receive(client: &mut Client, from_mac: MacAddr, octets: &[u8], now: Tick) -> Vec<Action> {
    let packet = Packet::parse(octets).unwrap();
    client.step(Event::Frame { from_mac, packet: &packet }, now)
}

fn pado(tags: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = vec![Tag::new(tag::AC_NAME, b"bng1"), Tag::new(tag::SERVICE_NAME, b"")];
    all.extend(tags.iter().map(|(kind, value)| Tag::new(*kind, value)));
    Packet { code: Code::Pado, session_id: 0, tags: all }.emit()
}

#[test]
fn client_and_server_open_and_close_a_session() {
    let mut cfg = ServerConfig::new("bng1", [3; 32]);
    (cfg.services, cfg.mtu) = (vec!["internet".into()], 1508);
    let mut server = Server::new();
    let mut client = Client::new(Config {
        max_payload: Some(1500),
        line: LineInfo { circuit_id: Some("olt 1".into()), ..LineInfo::default() },
        ..Config::new(b"internet", b"me")
    });
    let from = Attachment { port: PortId(1), vlans: Vlans::NONE, mac: HOST };
    let mut sent = client.step(Event::Start, ms(0));
    for round in 1..=2 {
        let [Action::Send { dst, payload }] = sent.as_slice() else { panic!("{sent:?}") };
        let packet = Packet::parse(payload).unwrap();
        let done = server.on_frame(from, *dst, &packet, ms(round), UnixMs(round), &cfg);
        let answer = match done.as_slice() {
            [crate::Action::Reply { payload, .. }] => payload.clone(),
            [crate::Action::Open { request, .. }] => {
                assert_eq!(request.circuit_id.as_deref(), Some("olt 1"));
                pads(&cfg, request, 0x1234)
            }
            other => panic!("{other:?}"),
        };
        sent = receive(&mut client, SERVER, &answer, ms(round));
    }
    assert_eq!(sent, [Action::Opened { sid: 0x1234, server: SERVER }]);
    assert_eq!(client.max_payload(), Some(1500));
    assert_eq!(client.session(), Some((0x1234, SERVER)));
    let end = client.step(Event::Close, ms(9));
    assert_eq!(codes(&end), [format!("Padt to {SERVER}"), "closed".to_owned()]);
}

#[test]
fn padi_is_repeated_with_doubled_waits_and_then_given_up() {
    let mut client = client();
    let padi = [format!("Padi to {}", MacAddr::BROADCAST)];
    assert_eq!(codes(&client.step(Event::Start, ms(1000))), padi);
    let failed = ["failed".to_owned()];
    let script: &[(u64, &[String])] = &[
        (5999, &[]),
        (6000, &padi),
        (15_999, &[]),
        (16_000, &padi),
        (35_999, &[]),
        (36_000, &failed),
        (99_000, &[]),
    ];
    for &(at_ms, want) in script {
        assert_eq!(codes(&client.step(Event::Deadline, ms(at_ms))), want, "at {at_ms} ms");
    }
    assert_eq!(client.failure(), Some(&Failure::NoOffer));
    assert_eq!(codes(&client.step(Event::Start, ms(99_001))), padi, "may start again");
}

#[test]
fn padr_is_repeated_with_the_same_cookie_and_then_given_up() {
    let mut client = client();
    let _ = client.step(Event::Start, ms(0));
    let offer =
        pado(&[(tag::HOST_UNIQ, b"me"), (tag::AC_COOKIE, b"c"), (tag::RELAY_SESSION_ID, b"r")]);
    let first = receive(&mut client, SERVER, &offer, ms(10));
    let [Action::Send { dst, payload }] = first.as_slice() else { panic!("{first:?}") };
    let padr = Packet::parse(payload).unwrap();
    assert_eq!((*dst, padr.code), (SERVER, Code::Padr));
    assert_eq!(padr.tag(tag::AC_COOKIE), Some(b"c".as_slice()));
    assert_eq!(padr.tag(tag::RELAY_SESSION_ID), Some(b"r".as_slice()));
    assert_eq!(client.step(Event::Deadline, ms(5010)), first);
    assert_eq!(client.step(Event::Deadline, ms(15_010)), first);
    assert_eq!(client.step(Event::Deadline, ms(35_010)), [Action::Failed]);
    assert_eq!(client.failure(), Some(&Failure::NoConfirmation));
}

#[test]
fn offers_that_do_not_suit_are_passed_over() {
    let cfg = Config { ac_name: Some("bng1".into()), ..Config::new(b"internet", b"me") };
    let service = (tag::SERVICE_NAME, b"internet".as_slice());
    let mine = (tag::HOST_UNIQ, b"me".as_slice());
    for (tags, suits) in [
        (vec![service, mine], true),
        (vec![service], false), // not to me
        (vec![service, (tag::HOST_UNIQ, b"you".as_slice())], false),
        (vec![mine], false), // not the service
        (vec![service, mine, (tag::GENERIC_ERROR, b"no".as_slice())], false),
    ] {
        let mut client = Client::new(cfg.clone());
        let _ = client.step(Event::Start, ms(0));
        let got = receive(&mut client, SERVER, &pado(&tags), ms(1));
        assert_eq!(!got.is_empty(), suits, "{tags:?}");
    }
    let mut client = Client::new(Config { ac_name: Some("bng2".into()), ..cfg });
    let _ = client.step(Event::Start, ms(0));
    assert!(receive(&mut client, SERVER, &pado(&[service, mine]), ms(1)).is_empty());
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let server = ServerConfig::new("bng1", [3; 32]);
    let request = crate::Padr { host_uniq: Some(b"me".to_vec()), ..crate::Padr::default() };
    for (error, kind) in [
        (PadsError::ServiceNameError, tag::SERVICE_NAME_ERROR),
        (PadsError::AcSystemError, tag::AC_SYSTEM_ERROR),
        (PadsError::GenericError, tag::GENERIC_ERROR),
    ] {
        let mut client = client();
        let _ = client.step(Event::Start, ms(0));
        let _ = receive(&mut client, SERVER, &pado(&[(tag::HOST_UNIQ, b"me")]), ms(1));
        let refusal = pads_refused(&server, &request, error, "no room");
        assert_eq!(receive(&mut client, OTHER, &refusal, ms(2)), [], "not from my server");
        assert_eq!(receive(&mut client, SERVER, &refusal, ms(2)), [Action::Failed]);
        let want = Failure::Refused { kind, text: "no room".into() };
        assert_eq!(client.failure(), Some(&want));
    }
}

#[test]
fn only_the_servers_padt_for_this_session_closes_it() {
    let mut client = client();
    let _ = client.step(Event::Start, ms(0));
    let _ = receive(&mut client, SERVER, &pado(&[(tag::HOST_UNIQ, b"me")]), ms(1));
    let request = crate::Padr { host_uniq: Some(b"me".to_vec()), ..crate::Padr::default() };
    let opened = pads(&ServerConfig::new("bng1", [3; 32]), &request, 5);
    assert_eq!(
        codes(&receive(&mut client, SERVER, &opened, ms(2))),
        [format!("open 5 at {SERVER}")]
    );
    assert_eq!(receive(&mut client, SERVER, &opened, ms(3)), [], "a repeated PADS is stale");
    assert_eq!(receive(&mut client, OTHER, &padt(5, None), ms(4)), []);
    assert_eq!(receive(&mut client, SERVER, &padt(6, None), ms(4)), []);
    assert_eq!(receive(&mut client, SERVER, &padt(5, None), ms(4)), [Action::Closed]);
    assert_eq!(client.session(), None);
}

#[test]
fn closing_while_looking_stops_the_search() {
    let mut client = client();
    let _ = client.step(Event::Start, ms(0));
    assert_eq!(client.step(Event::Close, ms(1)), [Action::Closed]);
    assert_eq!(client.deadline(), None);
    assert!(receive(&mut client, SERVER, &pado(&[(tag::HOST_UNIQ, b"me")]), ms(2)).is_empty());
}
