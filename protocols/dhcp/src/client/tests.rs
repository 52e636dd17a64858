use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 100);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 1);
const LEASE_S: u32 = 1000;
const T1_MS: u64 = 500_000;
const T2_MS: u64 = 875_000;

fn config() -> Config {
    Config { client_id: b"id".to_vec(), hostname: "cpe1".to_owned(), ..Config::new(MAC) }
}

fn sent(actions: &[Action]) -> Message {
    match actions {
        [.., Action::Send { payload, .. }] => Message::decode(payload).unwrap(),
        _ => panic!("nothing sent: {actions:?}"),
    }
}

/// A server's answer to the client's current exchange.
fn reply(client: &Client, kind: MessageType, address: Ipv4Addr) -> Message {
    let mut m = Message::from_client(kind, client.xid, MAC);
    m.op = Op::Reply;
    m.yiaddr = address;
    m.options.push(code::SERVER_ID, &SERVER.octets());
    if kind != MessageType::Nak {
        m.options.push(code::LEASE_TIME, &LEASE_S.to_be_bytes());
        m.options.push(code::SUBNET_MASK, &[255, 255, 255, 0]);
        m.options.push(code::ROUTER, &SERVER.octets());
        m.options.push(code::DNS, &[192, 0, 2, 53]);
    }
    m
}

fn hear(client: &mut Client, message: &Message, at_ms: u64) -> Vec<Action> {
    client.step(Event::Message(&message.encode()), Tick::from_ms(at_ms))
}

/// A client that is bound since its REQUEST at time zero.
fn bound() -> Client {
    let mut client = Client::new(config(), 7);
    let _ = client.step(Event::Start, Tick::ZERO);
    let offer = reply(&client, MessageType::Offer, ADDRESS);
    let _ = hear(&mut client, &offer, 0);
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    let _ = hear(&mut client, &ack, 20);
    assert_eq!(client.address(), Some(ADDRESS));
    client
}

fn deadline_ms(client: &Client) -> u64 {
    client.deadline().unwrap().as_ms()
}

#[test]
fn a_client_discovers_requests_and_is_bound() {
    let mut client = Client::new(config(), 7);
    assert_eq!(client.deadline(), None);
    let discover = sent(&client.step(Event::Start, Tick::ZERO));
    assert_eq!(discover.kind, MessageType::Discover);
    assert_eq!(discover.options.get(code::CLIENT_ID), Some(&b"id"[..]));
    assert_eq!(discover.options.get(code::HOST_NAME), Some(&b"cpe1"[..]));
    let offer = reply(&client, MessageType::Offer, ADDRESS);
    let actions = hear(&mut client, &offer, 10);
    let request = sent(&actions);
    assert_eq!((request.kind, request.xid), (MessageType::Request, discover.xid));
    assert_eq!(request.options.ipv4(code::REQUESTED_ADDRESS), Ok(Some(ADDRESS)));
    assert_eq!(request.options.ipv4(code::SERVER_ID), Ok(Some(SERVER)));
    assert!(matches!(
        actions[..],
        [Action::Send {
            broadcast: true,
            src_ip: Ipv4Addr::UNSPECIFIED,
            dst_ip: Ipv4Addr::BROADCAST,
            ..
        }]
    ));
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    let want = Action::Bound {
        address: ADDRESS,
        router: Some(SERVER),
        prefix_len: 24,
        dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
        lease_s: LEASE_S,
        server: SERVER,
    };
    assert_eq!(hear(&mut client, &ack, 30), [want]);
    assert_eq!(deadline_ms(&client), 10 + T1_MS, "counts from the REQUEST");
    assert!(hear(&mut client, &ack, 40).is_empty(), "a second ACK");
}

#[test]
fn discovers_are_repeated_after_4_8_16_32_64_and_64_seconds_give_or_take_one() {
    for seed in 0..50 {
        let mut client = Client::new(config(), seed);
        let mut now = Tick::from_ms(5);
        let _ = client.step(Event::Start, now);
        for want_s in [4, 8, 16, 32, 64, 64, 64] {
            let at = client.deadline().unwrap();
            let wait_ms = u64::try_from(at.since(now).as_millis()).unwrap();
            let range = (want_s - 1) * 1000..=(want_s + 1) * 1000;
            assert!(range.contains(&wait_ms), "seed {seed}: {wait_ms} ms instead of {want_s} s");
            assert!(client.step(Event::Deadline, at - Duration::from_millis(1)).is_empty());
            now = at;
            assert_eq!(sent(&client.step(Event::Deadline, now)).kind, MessageType::Discover);
        }
    }
}

#[test]
fn the_first_wait_is_configurable_and_the_jitter_shrinks_with_it() {
    let cfg = Config { initial_retry: Duration::from_millis(200), ..config() };
    for seed in 0..50 {
        let mut client = Client::new(cfg.clone(), seed);
        let _ = client.step(Event::Start, Tick::ZERO);
        assert!((150..=250).contains(&deadline_ms(&client)), "seed {seed}");
    }
}

#[test]
fn clients_of_different_seeds_choose_different_transaction_ids() {
    let xid = |seed| sent(&Client::new(config(), seed).step(Event::Start, Tick::ZERO)).xid;
    let mut xids: Vec<_> = (0..100).map(xid).collect();
    xids.sort_unstable();
    xids.dedup();
    assert_eq!(xids.len(), 100);
    assert_eq!(xid(1), xid(1));
}

#[test]
fn an_unanswered_request_is_repeated_and_then_given_up_for_a_new_discover() {
    let mut client = Client::new(config(), 7);
    let _ = client.step(Event::Start, Tick::ZERO);
    let offer = reply(&client, MessageType::Offer, ADDRESS);
    let _ = hear(&mut client, &offer, 0);
    let mut kinds = vec![];
    for _ in 0..REQUESTS_MAX {
        let at = client.deadline().unwrap();
        kinds.push(sent(&client.step(Event::Deadline, at)).kind);
    }
    use MessageType::{Discover, Request};
    assert_eq!(kinds, [Request, Request, Request, Discover]);
}

#[test]
fn a_lease_is_renewed_by_unicast_from_t1_rebound_by_broadcast_from_t2_and_lost_at_its_end() {
    let mut client = bound();
    assert!(client.step(Event::Deadline, Tick::from_ms(T1_MS - 1)).is_empty(), "woken early");
    let mut seen = vec![];
    while client.address().is_some() {
        let at = client.deadline().unwrap();
        for action in client.step(Event::Deadline, at) {
            let what = match action {
                Action::Send { payload, broadcast, src_ip, dst_ip } => {
                    let m = Message::decode(&payload).unwrap();
                    assert_eq!(m.options.get(code::SERVER_ID), None);
                    assert_eq!(m.options.get(code::REQUESTED_ADDRESS), None);
                    assert_eq!(m.ciaddr, src_ip);
                    format!("{:?} {broadcast} {src_ip} {dst_ip}", m.kind)
                }
                Action::Bound { .. } => panic!("bound by itself"),
                Action::Lost => "lost".to_owned(),
            };
            seen.push((at.as_ms() / 1000, what));
        }
    }
    let unicast = "Request false 10.70.0.100 10.70.0.1";
    let broadcast = "Request true 10.70.0.100 255.255.255.255";
    let want = [
        (500, unicast), // T1, then half of what is left to T2, never less than 60 s.
        (687, unicast),
        (781, unicast),
        (841, unicast),
        (875, broadcast), // T2
        (937, broadcast),
        (997, broadcast),
        (1000, "lost"),
        (1000, "Discover true 0.0.0.0 255.255.255.255"),
    ];
    let seen: Vec<_> = seen.iter().map(|(s, what)| (*s, what.as_str())).collect();
    assert_eq!(seen, want);
}

#[test]
fn an_ack_to_a_renewal_starts_the_lease_anew_and_is_told_again() {
    let mut client = bound();
    let _ = client.step(Event::Deadline, Tick::from_ms(T1_MS));
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    assert!(matches!(hear(&mut client, &ack, T1_MS + 5)[..], [Action::Bound { .. }]));
    assert_eq!(deadline_ms(&client), 2 * T1_MS);
}

#[test]
fn a_lease_counts_from_the_first_of_several_requests_that_an_ack_may_answer() {
    let mut client = bound();
    let first = client.deadline().unwrap();
    let _ = client.step(Event::Deadline, first);
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    let second = client.deadline().unwrap();
    assert!(second > first);
    let _ = client.step(Event::Deadline, second);
    let _ = hear(&mut client, &ack, second.as_ms() + 5);
    assert_eq!(deadline_ms(&client), first.as_ms() + T1_MS);
}

#[test]
fn a_nak_costs_the_address_and_begins_anew() {
    for at_ms in [T1_MS, T2_MS] {
        let mut client = bound();
        let _ = client.step(Event::Deadline, Tick::from_ms(at_ms));
        let nak = reply(&client, MessageType::Nak, Ipv4Addr::UNSPECIFIED);
        let actions = hear(&mut client, &nak, at_ms + 5);
        assert_eq!(actions[0], Action::Lost);
        assert_eq!(sent(&actions).kind, MessageType::Discover);
        assert_eq!(client.address(), None);
    }
}

#[test]
fn a_nak_to_an_offer_just_taken_makes_a_pause() {
    let mut client = Client::new(config(), 7);
    let _ = client.step(Event::Start, Tick::ZERO);
    let offer = reply(&client, MessageType::Offer, ADDRESS);
    let _ = hear(&mut client, &offer, 0);
    let nak = reply(&client, MessageType::Nak, Ipv4Addr::UNSPECIFIED);
    assert!(hear(&mut client, &nak, 10).is_empty());
    let at = client.deadline().unwrap();
    assert!(at >= Tick::from_ms(3_000));
    assert_eq!(sent(&client.step(Event::Deadline, at)).kind, MessageType::Discover);
}

#[test]
fn a_remembered_address_is_asked_for_by_init_reboot_and_forgotten_when_nobody_answers() {
    let cfg = Config { previous: Some(ADDRESS), ..config() };
    let mut client = Client::new(cfg.clone(), 7);
    let request = sent(&client.step(Event::Start, Tick::ZERO));
    assert_eq!(request.kind, MessageType::Request);
    assert_eq!(request.options.ipv4(code::REQUESTED_ADDRESS), Ok(Some(ADDRESS)));
    assert_eq!(
        (request.options.get(code::SERVER_ID), request.ciaddr),
        (None, Ipv4Addr::UNSPECIFIED)
    );
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    let mut happy = client.clone();
    assert!(matches!(hear(&mut happy, &ack, 10)[..], [Action::Bound { .. }]));

    let mut refused = client.clone();
    let nak = reply(&refused, MessageType::Nak, Ipv4Addr::UNSPECIFIED);
    assert_eq!(sent(&hear(&mut refused, &nak, 10)).kind, MessageType::Discover);

    let mut kinds = vec![];
    for _ in 0..REBOOT_REQUESTS_MAX {
        let at = client.deadline().unwrap();
        kinds.push(sent(&client.step(Event::Deadline, at)).kind);
    }
    assert_eq!(kinds, [MessageType::Request, MessageType::Request, MessageType::Discover]);
}

#[test]
fn a_released_client_tells_the_server_once_and_stays_quiet() {
    let mut client = bound();
    let actions = client.step(Event::Release, Tick::from_ms(1_000));
    let release = sent(&actions);
    assert_eq!((release.kind, release.ciaddr), (MessageType::Release, ADDRESS));
    assert_eq!(release.options.ipv4(code::SERVER_ID), Ok(Some(SERVER)));
    assert!(matches!(actions[..], [Action::Send { broadcast: false, dst_ip: SERVER, .. }]));
    assert_eq!((client.address(), client.deadline()), (None, None));
    assert!(client.step(Event::Release, Tick::from_ms(2_000)).is_empty());
    assert_eq!(sent(&client.step(Event::Start, Tick::from_ms(3_000))).kind, MessageType::Discover);
}

#[test]
fn a_conflict_declines_the_address_and_pauses_ten_seconds() {
    let mut client = bound();
    let actions = client.step(Event::Conflict, Tick::from_ms(1_000));
    assert_eq!(sent(&actions[..1]).kind, MessageType::Decline);
    assert_eq!(sent(&actions[..1]).options.ipv4(code::REQUESTED_ADDRESS), Ok(Some(ADDRESS)));
    assert_eq!(actions[1], Action::Lost);
    assert_eq!(client.deadline(), Some(Tick::from_ms(11_000)));
    assert!(client.step(Event::Conflict, Tick::from_ms(2_000)).is_empty());
}

#[test]
fn answers_that_are_not_for_this_exchange_change_nothing() {
    let mut client = Client::new(config(), 7);
    let _ = client.step(Event::Start, Tick::ZERO);
    let offer = reply(&client, MessageType::Offer, ADDRESS);
    let ack = reply(&client, MessageType::Ack, ADDRESS);
    let rows = [
        ("another xid", Message { xid: offer.xid ^ 1, ..offer.clone() }),
        ("another client", Message { chaddr: MacAddr([2, 0, 0, 0, 0, 2]), ..offer.clone() }),
        ("a request", Message { op: Op::Request, ..offer.clone() }),
        ("no address", Message { yiaddr: Ipv4Addr::UNSPECIFIED, ..offer.clone() }),
        ("no server", Message { options: crate::wire::Options::default(), ..offer.clone() }),
        ("an ACK before the REQUEST", ack.clone()),
    ];
    for (name, message) in rows {
        assert!(hear(&mut client, &message, 10).is_empty(), "{name}");
    }
    assert!(client.step(Event::Message(&[1, 2, 3]), Tick::from_ms(10)).is_empty());
    let _ = hear(&mut client, &offer, 20);
    assert!(hear(&mut client, &offer, 20).is_empty(), "a second offer");
    let elsewhere = Message { yiaddr: Ipv4Addr::new(10, 70, 0, 101), ..ack.clone() };
    assert!(hear(&mut client, &elsewhere, 30).is_empty(), "an ACK of another address");
    assert!(matches!(hear(&mut client, &ack, 30)[..], [Action::Bound { .. }]));
}
