use super::*;
use crate::config::ServerConfig;

fn server(dns: &[[u8; 4]]) -> ServerOptions {
    let mut options = ServerOptions::new(None);
    options.grant(Addresses {
        local: Ipv4Addr::new(100, 64, 0, 1),
        peer: Ipv4Addr::new(100, 64, 0, 2),
        dns: dns.iter().map(|dns| Ipv4Addr::from(*dns)).collect(),
    });
    options
}

const DNS: [[u8; 4]; 2] = [[192, 0, 2, 53], [192, 0, 2, 54]];

#[test]
fn a_request_is_judged_option_by_option() {
    let two = server(&DNS);
    let one = server(&DNS[..1]);
    let nak = |s: &str| Reply::Nak(hex::decode(s).unwrap());
    let reject = |s: &str| Reply::Reject(hex::decode(s).unwrap());
    for (name, options, request, want) in [
        (
            "all zero",
            &two,
            "030600000000810600000000830600000000",
            nak("0306644000028106c00002358306c0000236"),
        ),
        ("all right", &two, "0306644000028106c00002358306c0000236", Reply::Ack),
        ("address alone", &two, "030664400002", Reply::Ack),
        ("another address", &two, "03060a090909", nak("030664400002")),
        ("another DNS server", &two, "030664400002810608080808", nak("8106c0000235")),
        ("no address", &two, "", nak("030664400002")),
        ("no address, DNS unknown", &two, "810600000000", nak("8106c0000235030664400002")),
        ("second DNS that we lack", &one, "030664400002830600000000", reject("830600000000")),
        (
            "NetBIOS name servers",
            &two,
            "030664400002820600000000840600000000",
            reject("820600000000840600000000"),
        ),
        ("VJ compression", &two, "0206002d0f01030600000000", reject("0206002d0f01")),
        ("old addresses", &two, "010a0000000000000000", reject("010a0000000000000000")),
        ("broken address", &two, "03050a0909", reject("03050a0909")),
    ] {
        let request = hex::decode(request).unwrap();
        let got = options.clone().judge(&request, true, &ServerConfig::default().policy());
        assert_eq!(got, Ok(want), "{name}");
    }
}

#[test]
fn a_peer_that_insists_on_another_address_is_given_up() {
    let cfg = ServerConfig::default();
    for request in ["03060a090909", ""] {
        let request = hex::decode(request).unwrap();
        let got = server(&DNS).judge(&request, false, &cfg.policy());
        assert_eq!(got, Ok(Reply::GiveUp), "{request:?}");
    }
}

#[test]
fn dns_servers_beyond_the_second_are_not_kept() {
    let options = server(&[[1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]);
    assert_eq!(options.addresses().unwrap().dns.len(), 2);
}

#[test]
fn the_server_keeps_its_address_whatever_the_peer_says() {
    let mut options = server(&DNS);
    let whole = hex::decode("03060a000001").unwrap();
    let nak = ConfigOption { kind: 3, data: &whole[2..], whole: &whole };
    assert_eq!(options.naked(nak, &ServerConfig::default().policy()), Next::Retry);
    let mut out = Vec::new();
    options.wanted(&mut out);
    assert_eq!(out, [3, 6, 100, 64, 0, 1]);
    assert_eq!(options.rejected(3), Next::Retry);
    out.clear();
    options.wanted(&mut out);
    assert_eq!(out, []);
}

#[test]
fn the_client_adopts_what_it_is_offered_and_drops_what_is_rejected() {
    let cfg = ServerConfig::default();
    let mut options = ClientOptions::new();
    let offer = hex::decode("0306644000028106c0000235").unwrap();
    for option in ConfigOptions::new(&offer) {
        assert_eq!(options.naked(option.unwrap(), &cfg.policy()), Next::Retry);
    }
    assert_eq!(options.rejected(SECONDARY_DNS), Next::Retry);
    let mut out = Vec::new();
    options.wanted(&mut out);
    assert_eq!(out, offer);
    assert_eq!(options.dns(), [Ipv4Addr::new(192, 0, 2, 53)]);
    assert_eq!(options.rejected(IP_ADDRESS), Next::GiveUp);
}
