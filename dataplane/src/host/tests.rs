use super::*;

#[tokio::test]
async fn the_loopback_of_this_machine_is_read() {
    let links = links().await.unwrap();
    let lo = links.iter().find(|l| l.name == "lo").unwrap();
    assert_eq!((lo.index, lo.mac.as_deref()), (1, None));
    assert!(routes().await.unwrap().len() <= ROUTES_MAX);
}

#[test]
fn an_interface_is_read_with_its_addresses_and_traffic() {
    let json = r#"[{"ifindex":2,"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,
        "operstate":"UP","link_type":"ether","address":"02:00:00:00:00:01","addr_info":[
        {"family":"inet","local":"192.0.2.2","prefixlen":24,"scope":"global"}],
        "stats64":{"rx":{"bytes":1,"packets":2,"errors":3,"dropped":0},"tx":{"bytes":4,"packets":5,"errors":6}}}]"#;
    let want = HostLink {
        index: 2,
        name: "eth0".into(),
        mac: Some("02:00:00:00:00:01".into()),
        mtu: 1500,
        enabled: true,
        carrier: true,
        addresses: vec!["192.0.2.2/24".into()],
        traffic: LinkTraffic {
            bytes_in: 1,
            packets_in: 2,
            errors_in: 3,
            bytes_out: 4,
            packets_out: 5,
            errors_out: 6,
        },
    };
    assert_eq!(parse_links(json).unwrap(), [want]);
    assert!(parse_links("{}").is_err());
}

#[test]
fn routes_are_read_without_those_of_the_kernel_for_broadcast() {
    let json = r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0","flags":[]},
        {"type":"blackhole","dst":"100.64.0.0/16","protocol":"static","metric":10,"flags":[]},
        {"dst":"198.51.100.0/24","via":{"family":"inet6","host":"fe80::1"},"dev":"eth1","table":"100"},
        {"type":"broadcast","dst":"127.255.255.255","dev":"lo","table":"local"}]"#;
    let routes = parse_routes(json).unwrap();
    let seen: Vec<_> = routes
        .iter()
        .map(|r| (r.destination.as_str(), r.kind.as_str(), r.gateway.as_deref(), r.table.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("default", "unicast", Some("192.0.2.1"), "main"),
            ("100.64.0.0/16", "blackhole", None, "main"),
            ("198.51.100.0/24", "unicast", Some("fe80::1"), "100"),
        ]
    );
    assert_eq!(parse_routes("\n").unwrap(), []);
}

#[test]
fn a_summary_of_frr_is_read_and_so_is_one_without_bgp() {
    let json = r#"{"routerId":"10.0.0.1","as":65001,"vrfId":0,"peerCount":1,"peers":{"10.0.0.2":{
        "remoteAs":65002,"localAs":65001,"version":4,"msgRcvd":9,"msgSent":11,"peerUptime":"00:01:30",
        "peerUptimeMsec":90000,"pfxRcd":3,"pfxSnt":7,"state":"Established","peerState":"OK"}}}"#;
    let summary = parse_bgp(json).unwrap();
    assert_eq!((summary.router_id.as_deref(), summary.local_as), (Some("10.0.0.1"), Some(65001)));
    let peer = &summary.neighbors[0];
    assert_eq!(
        (peer.remote_as, peer.state.as_str(), peer.since_ms),
        (65002, "Established", 90_000)
    );
    assert_eq!((peer.prefixes_received, peer.prefixes_sent), (3, 7));
    assert_eq!(parse_bgp("{}").unwrap(), BgpSummary::default());
}
