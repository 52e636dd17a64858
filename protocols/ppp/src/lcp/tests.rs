use super::*;
use crate::config::ServerConfig;

const OURS: u32 = 0x1111_1111;

fn server() -> LcpOptions {
    LcpOptions::new(Auth::Demanded(AuthProtocol::ChapMd5), 1492, OURS, 7)
}

fn wanted(options: &LcpOptions) -> String {
    let mut out = Vec::new();
    options.wanted(&mut out);
    hex::encode(out)
}

#[test]
fn a_request_is_judged_option_by_option() {
    let cfg = ServerConfig::default();
    let table: &[(&str, &str, Reply)] = &[
        ("magic alone", "05063aab5b9c", Reply::Ack),
        ("nothing", "", Reply::Ack),
        ("small MRU", "01040578", Reply::Ack),
        ("MRU above ours only caps what we send", "010405dc", Reply::Ack),
        ("useless MRU", "01040040", Reply::Nak(vec![1, 4, 0, 128])),
        ("broken MRU", "010305", Reply::Reject(vec![1, 3, 5])),
        ("zero magic", "050600000000", Reply::Nak(nak_magic())),
        ("our magic", "050611111111", Reply::Nak(nak_magic())),
        ("PFC and ACFC", "0506044e1d1607020802", Reply::Reject(vec![7, 2, 8, 2])),
        ("ACCM", "020600000000", Reply::Reject(vec![2, 6, 0, 0, 0, 0])),
        ("callback", "0d0306", Reply::Reject(vec![13, 3, 6])),
        ("quality", "0408c025000003e8", Reply::Reject(hex::decode("0408c025000003e8").unwrap())),
        ("a client that demands auth", "0304c023", Reply::Reject(vec![3, 4, 0xc0, 0x23])),
        ("rejects before naks", "010400400702", Reply::Reject(vec![7, 2])),
    ];
    for (name, request, want) in table {
        let request = hex::decode(request).unwrap();
        let got = server().judge(&request, true, &cfg.policy()).unwrap();
        assert_eq!(got, *want, "{name}");
    }
}

fn nak_magic() -> Vec<u8> {
    option(MAGIC_NUMBER, &server().next_magic().to_be_bytes())
}

#[test]
fn only_acknowledged_options_are_remembered_and_absent_ones_fall_back() {
    let cfg = ServerConfig::default();
    let mut lcp = server();
    let mut judge = |request: &str| {
        let _ = lcp.judge(&hex::decode(request).unwrap(), true, &cfg.policy()).unwrap();
        (lcp.peer_mru, lcp.peer_magic)
    };
    assert_eq!(judge("010405780702"), (1500, 0), "was rejected");
    assert_eq!(judge("0104057805063aab5b9c"), (1400, 0x3aab_5b9c));
    assert_eq!(judge("0506000000aa"), (1500, 0xaa), "no MRU means 1500");
}

#[test]
fn a_looped_line_never_opens() {
    let cfg = ServerConfig::default();
    let mut lcp = LcpOptions::new(Auth::Agreed(None), 1492, OURS, 7);
    let looped = hex::decode("050611111111").unwrap();
    assert_eq!(lcp.judge(&looped, false, &cfg.policy()), Ok(Reply::GiveUp));
}

#[test]
fn each_nak_of_our_magic_number_brings_a_new_one() {
    let cfg = ServerConfig::default();
    let mut lcp = server();
    let mut seen = vec![lcp.magic];
    for _ in 0..5 {
        let whole = [5, 6, 0, 0, 0, 0];
        let nak = ConfigOption { kind: 5, data: &whole[2..], whole: &whole };
        assert_eq!(lcp.naked(nak, &cfg.policy()), Next::Retry);
        assert!(lcp.magic != 0 && !seen.contains(&lcp.magic));
        seen.push(lcp.magic);
    }
    let client = LcpOptions::new(Auth::Agreed(None), 1492, OURS, 8);
    let server = LcpOptions::new(Auth::Agreed(None), 1492, OURS, 11);
    assert_ne!(client.next_magic(), server.next_magic(), "equal starts must part");
}

#[test]
fn a_nak_of_the_authentication_protocol_switches_to_one_we_have() {
    let all = ServerConfig::default();
    let chap_only = ServerConfig { auth: vec![AuthProtocol::ChapMd5], ..all.clone() };
    for (name, cfg, wish, want) in [
        ("PAP please", &all, "c023", AuthProtocol::Pap),
        ("CHAP-MD5 again", &all, "c22305", AuthProtocol::ChapMd5),
        ("MS-CHAPv2: next of ours", &all, "c22381", AuthProtocol::Pap),
        ("EAP: next of ours", &all, "c227", AuthProtocol::Pap),
        ("PAP is not allowed here", &chap_only, "c023", AuthProtocol::ChapMd5),
    ] {
        let mut lcp = server();
        let data = hex::decode(wish).unwrap();
        let whole = option(AUTH_PROTOCOL, &data);
        let nak = ConfigOption { kind: AUTH_PROTOCOL, data: &data, whole: &whole };
        assert_eq!(lcp.naked(nak, &cfg.policy()), Next::Retry);
        assert_eq!(lcp.auth, Auth::Demanded(want), "{name}");
    }
}

#[test]
fn a_nak_of_our_mru_never_raises_it_above_the_configured_one() {
    let cfg = ServerConfig::default();
    for (wish, want) in [(1400, 1400), (1492, 1492), (9000, 1492), (1, MRU_MIN_OCTETS)] {
        let mut lcp = server();
        let data = u16::to_be_bytes(wish);
        let whole = option(MRU, &data);
        let _ = lcp.naked(ConfigOption { kind: MRU, data: &data, whole: &whole }, &cfg.policy());
        assert_eq!(lcp.mru(), want, "wish {wish}");
    }
}

#[test]
fn rejected_options_leave_the_request_except_authentication() {
    let mut lcp = server();
    assert_eq!(wanted(&lcp), "0305c22305010405d4050611111111");
    assert_eq!(lcp.rejected(MRU), Next::Retry);
    assert_eq!((wanted(&lcp).as_str(), lcp.mru()), ("0305c22305050611111111", 1500));
    assert_eq!(lcp.rejected(MAGIC_NUMBER), Next::Retry);
    assert_eq!((wanted(&lcp).as_str(), lcp.magic), ("0305c22305", 0));
    assert_eq!(lcp.rejected(AUTH_PROTOCOL), Next::GiveUp);
}

#[test]
fn the_default_mru_needs_no_option() {
    let lcp = LcpOptions::new(Auth::Agreed(None), 1500, OURS, 0);
    assert_eq!(wanted(&lcp), "050611111111");
}

#[test]
fn a_client_agrees_to_what_it_has_and_asks_for_its_best_otherwise() {
    let cfg = ServerConfig::default();
    let pap_only = ServerConfig { auth: vec![AuthProtocol::Pap], ..cfg.clone() };
    let none = ServerConfig { auth: vec![], ..cfg.clone() };
    for (name, cfg, request, want) in [
        ("CHAP-MD5", &cfg, "0305c22305", Reply::Ack),
        ("MS-CHAPv2", &cfg, "0305c22381", Reply::Nak(vec![3, 5, 0xc2, 0x23, 5])),
        ("CHAP, PAP only", &pap_only, "0305c22305", Reply::Nak(vec![3, 4, 0xc0, 0x23])),
        ("nothing", &none, "0304c023", Reply::Reject(vec![3, 4, 0xc0, 0x23])),
    ] {
        let mut lcp = LcpOptions::new(Auth::Agreed(None), 1492, OURS, 0);
        let got = lcp.judge(&hex::decode(request).unwrap(), true, &cfg.policy());
        assert_eq!(got, Ok(want), "{name}");
    }
}

#[test]
fn echoes_are_answered_with_our_magic_and_loops_are_not() {
    let echo = |code: u8, data: &str| {
        let frame = wire::frame(protocol::LCP, code, 9, &hex::decode(data).unwrap());
        server().echoed(Packet::parse(&frame[2..]).unwrap())
    };
    let reply = hex::decode("c0210a09000a11111111beef").unwrap();
    assert_eq!(echo(code::ECHO_REQUEST, "d1ec9997beef"), Ok(Some(reply)));
    assert_eq!(echo(code::ECHO_REPLY, "d1ec9997"), Ok(None));
    assert_eq!(echo(code::ECHO_REPLY, "11111111"), Err(WireError::LoopedBack { magic: OURS }));
    assert_eq!(echo(code::ECHO_REQUEST, "d1ec99").unwrap_err().label(), "truncated");
}
