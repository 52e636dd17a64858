use super::*;
use crate::wire;
use model::Secret;

fn cfg() -> ClientConfig {
    ClientConfig {
        username: "user1@isp".to_owned(),
        password: Secret::new("secret1"),
        ..ClientConfig::default()
    }
}

/// What the client sends upon these frames.
fn play(frames: &[&str]) -> Vec<String> {
    let mut client = Client::new(0x3aab_5b9c);
    let mut actions = client.step(Event::Start, Tick::ZERO, &cfg());
    for frame in frames {
        let frame = hex::decode(frame).unwrap();
        actions.extend(client.step(Event::Frame(&frame), Tick::ZERO, &cfg()));
    }
    actions
        .into_iter()
        .map(|action| match action {
            Action::Send(frame) => hex::encode(frame),
            Action::Up { .. } | Action::Down(_) => format!("{action:?}"),
        })
        .collect()
}

/// accel-ppp's side of `tests/recorded/chap-md5`, with the identifiers of our requests.
const ACCEL: [&str; 7] = [
    "c02101cb00130305c22305010405d4050604da70fa",
    "c0210201000e010405d405063aab5b9c",
    "c2230101001e1060eac2dd003ac3cfd02c37ee8f2d6ee9616363656c2d707070",
    "c2230301001c41757468656e7469636174696f6e20737563636565646564",
    "802101bd000a030664400001",
    "8021030100160306644000028106c00002358306c0000236",
    "8021020200160306644000028106c00002358306c0000236",
];

#[test]
fn a_recorded_server_brings_the_client_up() {
    let got = play(&ACCEL);
    let want = [
        "c0210101000e010405d405063aab5b9c",
        "c02102cb00130305c22305010405d4050604da70fa",
        "c2230201001e10a82bcaff0be49dddc3a1ce9ea97cd465757365723140697370",
        "802101010016030600000000810600000000830600000000",
        "802102bd000a030664400001",
        "8021010200160306644000028106c00002358306c0000236",
        "Up { local: 100.64.0.2, peer: 100.64.0.1, dns: [192.0.2.53, 192.0.2.54], mtu: 1492 }",
    ];
    assert_eq!(got, want);
}

#[test]
fn a_success_for_another_challenge_is_dropped() {
    let mut frames = ACCEL[..3].to_vec();
    frames.push("c22303020004");
    assert_eq!(play(&frames).len(), 3, "no IPCP yet");
}

#[test]
fn a_later_challenge_is_answered_without_leaving_ipcp() {
    let mut frames = ACCEL.to_vec();
    frames.push("c2230109000701aa7a7a");
    frames.push("c2230309000474");
    let got = play(&frames);
    assert_eq!(got.len(), 8, "{got:?}");
    assert!(got[7].starts_with("c22302090"), "{}", got[7]);
}

#[test]
fn an_unanswered_password_is_repeated_and_then_given_up() {
    let mut client = Client::new(1);
    let cfg = ClientConfig { max_configure: 2, ..cfg() };
    let _ = client.step(Event::Start, Tick::ZERO, &cfg);
    let opens = ["c0210101000e0304c023050604da70fa", "c0210201000e010405d4050600000001"];
    let mut actions = vec![];
    for frame in opens {
        let frame = hex::decode(frame).unwrap();
        actions = client.step(Event::Frame(&frame), Tick::ZERO, &cfg);
    }
    let request = auth::pap_request(2, "user1@isp", &Secret::new("secret1"));
    assert_eq!(actions, [Action::Send(request.clone())]);
    assert_eq!(client.step(Event::Deadline, Tick::from_ms(3000), &cfg), [Action::Send(request)]);
    let bye = wire::frame(protocol::LCP, 5, 3, b"no answer to the password");
    assert_eq!(client.step(Event::Deadline, Tick::from_ms(6000), &cfg), [Action::Send(bye)]);
    let ack = wire::frame(protocol::LCP, 6, 3, &[]);
    let got = client.step(Event::Frame(&ack), Tick::from_ms(6001), &cfg);
    assert_eq!(got, [Action::Down(Cause::NegotiationFailed)]);
}

#[test]
fn a_password_is_not_in_the_debug_output_of_the_engine() {
    let mut client = Client::new(1);
    let mut text = format!("{:?}", cfg());
    for frame in ["c0210101000e0304c023050604da70fa", "c0210201000e010405d4050600000001"] {
        let _ = client.step(Event::Start, Tick::ZERO, &cfg());
        let _ = client.step(Event::Frame(&hex::decode(frame).unwrap()), Tick::ZERO, &cfg());
        text += &format!("{client:?}");
    }
    let octets = format!("{:?}", b"secret1").replace(['[', ']'], "");
    assert!(!text.contains("secret1") && !text.contains(&octets));
}
