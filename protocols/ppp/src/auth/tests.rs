use super::*;
use crate::config::ServerConfig;
use crate::wire;

const SEED: Seed = Seed { magic: 1, challenge: [0x5a; 16], chap_id: 7 };

fn started(protocol: AuthProtocol) -> (Authenticator, Option<Output>) {
    let mut auth = Authenticator::new(SEED);
    let cfg = ServerConfig::default();
    let out = auth.begin(protocol, "bng1", Tick::ZERO, &cfg.policy());
    (auth, out)
}

fn hears(
    auth: &mut Authenticator,
    protocol: AuthProtocol,
    frame: &[u8],
) -> Result<Output, WireError> {
    auth.receive(protocol, wire::Packet::parse(&frame[2..]).unwrap())
}

fn response(id: u8, challenge: &[u8]) -> Vec<u8> {
    chap_value(chap::RESPONSE, id, &chap_md5(id, "secret1", challenge), "user1@isp")
}

#[test]
fn the_digest_is_that_of_a_recorded_exchange() {
    let challenge = hex::decode("60eac2dd003ac3cfd02c37ee8f2d6ee9").unwrap();
    assert_eq!(hex::encode(chap_md5(1, "secret1", &challenge)), "a82bcaff0be49dddc3a1ce9ea97cd465");
}

#[test]
fn only_the_right_password_verifies() {
    let response = chap_md5(3, "secret1", b"challenge");
    let username = "u".to_owned();
    let challenge = b"challenge".to_vec();
    let chap = Credentials::Chap { username: username.clone(), id: 3, challenge, response };
    let pap = Credentials::Pap { username, password: Secret::new("secret1") };
    for credentials in [chap, pap] {
        for (password, want) in [
            ("secret1", true),
            ("secret2", false),
            ("Secret1", false),
            ("secret", false),
            ("secret11", false),
            ("", false),
        ] {
            assert_eq!(credentials.verify(password), want, "{credentials:?} {password:?}");
        }
        assert!(!format!("{credentials:?}").contains("secret1"), "a password must not be printed");
    }
}

#[test]
fn an_unanswered_challenge_is_repeated_and_then_given_up() {
    let cfg = ServerConfig { max_configure: 3, ..ServerConfig::default() };
    let mut auth = Authenticator::new(SEED);
    let want = Some(Output::Send(chap_value(chap::CHALLENGE, 7, &SEED.challenge, "bng1")));
    let first = auth.begin(AuthProtocol::ChapMd5, "bng1", Tick::ZERO, &cfg.policy());
    assert_eq!(first, want);
    for (at_ms, want) in [
        (2999, &None),
        (3000, &want),
        (6000, &want),
        (9000, &Some(Output::GiveUp)),
        (12_000, &None),
    ] {
        let got = auth.expire("bng1", Tick::from_ms(at_ms), &cfg.policy());
        assert_eq!(got, *want, "at {at_ms} ms");
    }
}

#[test]
fn a_repeated_chap_response_gets_the_same_outcome_again() {
    for accepted in [true, false] {
        let (mut auth, _) = started(AuthProtocol::ChapMd5);
        let frame = response(7, &SEED.challenge);
        let Ok(Output::Ask(asked)) = hears(&mut auth, AuthProtocol::ChapMd5, &frame) else {
            panic!("no question")
        };
        assert!(asked.verify("secret1") && asked.username() == "user1@isp");
        assert_eq!(hears(&mut auth, AuthProtocol::ChapMd5, &frame), Err(WireError::Busy));
        let (username, outcome) = auth.decide(accepted, "hello").unwrap();
        assert_eq!(username, "user1@isp");
        assert_eq!(outcome[2], if accepted { chap::SUCCESS } else { chap::FAILURE });
        let again = hears(&mut auth, AuthProtocol::ChapMd5, &frame);
        assert_eq!(again, Ok(Output::Send(outcome)), "accepted: {accepted}");
        let wrong = chap_value(chap::RESPONSE, 7, &[0; 16], "somebody-else");
        assert_eq!(hears(&mut auth, AuthProtocol::ChapMd5, &wrong), again);
        assert_eq!(auth.decide(!accepted, ""), None, "decided once");
    }
}

#[test]
fn a_repeated_pap_request_gets_the_same_outcome_under_its_own_identifier() {
    let (mut auth, out) = started(AuthProtocol::Pap);
    assert_eq!(out, None, "the peer speaks first");
    let request = |id| pap_request(id, "user1@isp", &Secret::new("secret1"));
    let asked = hears(&mut auth, AuthProtocol::Pap, &request(1));
    assert!(matches!(asked, Ok(Output::Ask(Credentials::Pap { .. }))), "{asked:?}");
    assert_eq!(hears(&mut auth, AuthProtocol::Pap, &request(2)), Err(WireError::Busy));
    let (_, outcome) = auth.decide(true, "hi").unwrap();
    assert_eq!(outcome, [0xc0, 0x23, 2, 1, 0, 7, 2, b'h', b'i']);
    let Ok(Output::Send(again)) = hears(&mut auth, AuthProtocol::Pap, &request(2)) else {
        panic!("no answer")
    };
    assert_eq!(again, [0xc0, 0x23, 2, 2, 0, 7, 2, b'h', b'i']);
}

#[test]
fn an_answer_from_before_a_new_negotiation_does_not_count() {
    let cfg = ServerConfig::default();
    let (mut auth, _) = started(AuthProtocol::ChapMd5);
    let first = response(7, &SEED.challenge);
    assert!(matches!(hears(&mut auth, AuthProtocol::ChapMd5, &first), Ok(Output::Ask(_))));
    auth.reset();
    let Some(Output::Send(challenge)) =
        auth.begin(AuthProtocol::ChapMd5, "bng1", Tick::ZERO, &cfg.policy())
    else {
        panic!("no challenge")
    };
    assert_eq!(challenge[3], 8, "another identifier");
    let value: [u8; 16] = challenge[7..23].try_into().unwrap();
    assert_ne!(value, SEED.challenge, "another challenge");
    let second = response(8, &value);
    assert_eq!(hears(&mut auth, AuthProtocol::ChapMd5, &second), Err(WireError::Busy));
    assert_eq!(auth.decide(true, ""), None, "the old answer is used up");
    assert_eq!(hears(&mut auth, AuthProtocol::ChapMd5, &first).unwrap_err().label(), "stale");
    assert!(matches!(hears(&mut auth, AuthProtocol::ChapMd5, &second), Ok(Output::Ask(_))));
    assert!(auth.decide(true, "").is_some());
}

#[test]
fn malformed_and_foreign_packets_are_dropped() {
    let chap_frame = |data: &[u8]| frame(protocol::CHAP, chap::RESPONSE, 7, data);
    let mut long_name = vec![16; 17];
    long_name.resize(17 + USERNAME_MAX_OCTETS + 1, b'a');
    for (data, label) in [
        (vec![], "truncated"),
        (vec![16, 1, 2], "truncated"),
        (vec![2, 1, 2, b'u'], "chap_value"),
        (long_name, "name_too_long"),
    ] {
        let (mut auth, _) = started(AuthProtocol::ChapMd5);
        let got = hears(&mut auth, AuthProtocol::ChapMd5, &chap_frame(&data));
        assert_eq!(got.unwrap_err().label(), label, "{data:?}");
    }
    let (mut auth, _) = started(AuthProtocol::ChapMd5);
    let pap = pap_request(1, "u", &Secret::new("p"));
    let got = hears(&mut auth, AuthProtocol::Pap, &pap);
    assert_eq!(got.unwrap_err().label(), "out_of_phase", "not what was negotiated");
    let success = frame(protocol::CHAP, chap::SUCCESS, 7, b"");
    let got = hears(&mut auth, AuthProtocol::ChapMd5, &success);
    assert_eq!(got.unwrap_err().label(), "unexpected");
    let (mut auth, _) = started(AuthProtocol::Pap);
    let short = frame(protocol::PAP, pap::REQUEST, 1, &[1, b'u', 9, b'p']);
    assert_eq!(hears(&mut auth, AuthProtocol::Pap, &short).unwrap_err().label(), "truncated");
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let (mut auth, _) = started(AuthProtocol::Pap);
    let _ = hears(&mut auth, AuthProtocol::Pap, &pap_request(1, "u", &Secret::new("p")));
    let (_, outcome) = auth.decide(false, &"ä".repeat(500)).unwrap();
    assert_eq!(usize::from(outcome[6]), MESSAGE_MAX_OCTETS);
    assert!(std::str::from_utf8(&outcome[7..]).is_ok());
}
