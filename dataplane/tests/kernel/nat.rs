use crate::frame::{ACK, SYN, Wrap, ipv4, ping, read_tcp, read_udp, tcp, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, Lab, ROUTER_MAC, SERVER, Setup, VMAC, drain, group, receive, run, session,
};
use dataplane::{SessionChange, SessionEntry, boottime_now};
use model::{NatBlock, NatPool, SessionId};
use std::net::{Ipv4Addr, UdpSocket};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const WRAP: Wrap = Wrap { pppoe_sid: Some(79), ..Wrap::PLAIN };
const GRE: u8 = 47;

fn block(first_port: u16) -> Option<NatBlock> {
    Some(NatBlock { public: PUBLIC, first_port, last_port: first_port + 63 })
}

fn private() -> NatPool {
    NatPool { public: "203.0.113.1-203.0.113.9".parse().unwrap(), ports_per_block: 64 }
}

fn from_router(ip: &[u8]) -> Vec<u8> {
    Wrap::PLAIN.data(VMAC, ROUTER_MAC, ip)
}

fn from_client(ip: &[u8]) -> Vec<u8> {
    WRAP.data(VMAC, CLIENT_MAC, ip)
}

fn is_data(frame: &[u8]) -> bool {
    frame[12..14] == [0x88, 0x64]
}

async fn open(lab: &Lab) {
    lab.dp().put_group(&group(Some(private()))).await.unwrap();
    lab.open_fence();
}

fn subscriber() -> SessionEntry {
    SessionEntry { nat: block(2048), ..session(WRAP) }
}

/// Sends a datagram from inside and returns the public source that the core sees.
async fn public_source(lab: &Lab, source_port: u16, marker: u32) -> (Ipv4Addr, u16) {
    let sent = udp((ADDRESS, source_port), (SERVER, 53), marker, 40);
    lab.client.send(&from_client(&sent)).unwrap();
    let (got, _) = receive(&lab.core, &format!("datagram {marker}"), |f| {
        read_udp(f).is_some_and(|(_, _, m)| m == marker)
    })
    .await;
    read_udp(&got).unwrap().0
}

/// Flows of the node that have this source address inside.
fn flows(lab: &Lab, source: Ipv4Addr) -> usize {
    let listed = lab.node_command("cat", "/proc/net/nf_conntrack");
    let inside = |line: &&str| {
        line.split_whitespace().find(|w| w.starts_with("src=")) == Some(&format!("src={source}"))
    };
    listed.lines().filter(inside).count()
}

/// Packets that the nftables rules dropped because they were not translated.
fn by_rules(lab: &Lab) -> u64 {
    let listed = lab.node_command("nft", "list counters");
    let mut words = listed.split_whitespace();
    words.find(|w| *w == "packets").unwrap();
    words.next().unwrap().parse().unwrap()
}

/// Waits until nothing more can come, then returns what has come to the core from subscribers.
async fn from_subscribers(lab: &Lab) -> Vec<Vec<u8>> {
    // Both ways lead through the same queues in order: what was sent before this is there before it.
    let before = lab.dropped("not_ipv4");
    lab.client.send(&Wrap::PLAIN.frame(VMAC, CLIENT_MAC, 0x86dd, &[0; 60])).unwrap();
    lab.wait_dropped("not_ipv4", before, 1).await;
    drain(&lab.core).into_iter().filter(|f| f[12..14] == [8, 0]).collect()
}

#[test]
fn nat_uses_the_ports_of_the_block_and_translates_back() {
    run("nat", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        for source_port in [1, 2050, 40_000, 65_535] {
            let outside = public_source(lab, source_port, 5).await;
            assert_eq!(outside.0, PUBLIC);
            assert!((2048..=2111).contains(&outside.1), "port {}", outside.1);
            lab.core.send(&from_router(&udp((SERVER, 53), outside, 6, 40))).unwrap();
            let (got, _) = receive(&lab.client, "translated back", is_data).await;
            assert_eq!(got[22 + 16..22 + 20], ADDRESS.octets());
            assert_eq!(got[22 + 22..22 + 24], source_port.to_be_bytes());
        }
    });
}

#[test]
fn a_private_address_never_leaves_untranslated() {
    run("untrans", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        let gre = ipv4(GRE, ADDRESS, SERVER, &[0; 24]);
        let datagram = udp((ADDRESS, 4000), (SERVER, 53), 1, 40);
        // In the middle of nothing: connection tracking calls it invalid and NAT leaves it alone.
        let reset = tcp((ADDRESS, 4000), (SERVER, 80), 0x04, (1, 0), 0);
        let without = SessionEntry { nat: None, ..subscriber() };
        let rows = [
            ("UDP without a block", without, datagram.clone()),
            ("TCP without a block", without, tcp((ADDRESS, 9), (SERVER, 80), SYN, (1, 0), 0)),
            ("ping without a block", without, ping(ADDRESS, SERVER)),
            ("GRE without a block", without, gre.clone()),
            ("GRE with a block", subscriber(), gre),
            ("TCP reset of no flow, with a block", subscriber(), reset),
        ];
        let mut total = 0;
        for (what, entry, packet) in rows {
            lab.put(entry).await;
            lab.client.send(&from_client(&packet)).unwrap();
            total += 1;
            lab.wait(what, || by_rules(lab) == total).await;
            assert_eq!(from_subscribers(lab).await, Vec::<Vec<u8>>::new(), "{what}");
            assert_eq!(flows(lab, ADDRESS), 0, "{what}: a flow would outlive the lack of a block");
        }
        assert!(lab.dp().reconcile(&[subscriber()]).await.unwrap().is_none());
        assert_eq!(lab.dropped("untranslated"), total);
        // With a block it passes, and with the rules gone it does not; the reconciler brings them back.
        assert_eq!(public_source(lab, 4000, 2).await.0, PUBLIC);
        lab.node_command("nft", "flush ruleset");
        let before = lab.dropped("untranslated");
        lab.client.send(&from_client(&udp((ADDRESS, 4001), (SERVER, 53), 3, 40))).unwrap();
        lab.wait_dropped("untranslated", before, 1).await;
        assert_eq!(from_subscribers(lab).await, Vec::<Vec<u8>>::new(), "without rules");
        assert!(!lab.dp().reconcile(&[subscriber()]).await.unwrap().is_none());
        assert_eq!(public_source(lab, 4001, 4).await.0, PUBLIC);
    });
}

#[test]
fn the_guard_of_private_networks_follows_the_pools_and_is_reconciled() {
    run("guard", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        let without = SessionEntry { nat: None, ..subscriber() };
        lab.put(without).await;
        let map = lab.cfg.pin_dir.join("layout3/nat_networks").display().to_string();
        let key = "10 00 00 00 64 40 00 00";
        lab.node_command("bpftool", &format!("map delete pinned {map} key hex {key}"));
        assert_eq!(lab.dp().reconcile(&[without]).await.unwrap().missing, 1);
        assert!(lab.dp().reconcile(&[without]).await.unwrap().is_none());
        let packet = from_client(&udp((ADDRESS, 4000), (SERVER, 53), 7, 40));
        lab.client.send(&packet).unwrap();
        lab.wait("the drop", || by_rules(lab) == 1).await;

        // The pool gets public addresses: nothing to translate any more.
        lab.dp().put_group(&group(None)).await.unwrap();
        lab.client.send(&packet).unwrap();
        let (got, _) = receive(&lab.core, "as it is", |f| read_udp(f).is_some()).await;
        assert_eq!(read_udp(&got).unwrap().0, (ADDRESS, 4000));
        assert!(lab.dp().reconcile(&[without]).await.unwrap().is_none());
    });
}

#[test]
fn what_no_subscriber_asked_for_neither_loops_nor_reaches_a_private_address() {
    run("unasked", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        for target in [(PUBLIC, 2050), (Ipv4Addr::new(203, 0, 113, 9), 7), (ADDRESS, 4000)] {
            lab.core.send(&from_router(&udp((SERVER, 53), target, 1, 40))).unwrap();
        }
        // The next one belongs to a flow, so the strays have been dealt with when its answer comes.
        let outside = public_source(lab, 4000, 2).await;
        lab.core.send(&from_router(&udp((SERVER, 53), outside, 3, 40))).unwrap();
        let (got, _) = receive(&lab.client, "first packet down", is_data).await;
        assert_eq!(got[22 + 28..22 + 32], 3u32.to_be_bytes(), "no stray reached the subscriber");
        let back = drain(&lab.core).into_iter().filter_map(|f| read_udp(&f));
        assert_eq!(back.filter(|(_, _, marker)| *marker == 1).count(), 0);
    });
}

#[test]
fn a_successor_on_an_address_inherits_no_flow() {
    run("heir", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        let first = subscriber();
        let second = SessionEntry { id: SessionId(1002), ..first };
        lab.put(first).await;
        let outside = public_source(lab, 4000, 1).await;
        let answer = from_router(&udp((SERVER, 53), outside, 2, 40));
        lab.core.send(&answer).unwrap();
        receive(&lab.client, "answer", is_data).await;
        assert_eq!(flows(lab, ADDRESS), 1);

        let changes = [SessionChange::Remove(first), SessionChange::Put(second)];
        lab.dp().apply(&changes).await.unwrap();
        assert_eq!(flows(lab, ADDRESS), 0, "gone before the successor opens");
        lab.core.send(&answer).unwrap();
        // Once it sends itself, the flow is its own.
        let outside = public_source(lab, 4000, 3).await;
        lab.core.send(&from_router(&udp((SERVER, 53), outside, 4, 40))).unwrap();
        receive(&lab.client, "answer to the successor", is_data).await;
        assert!(!drain(&lab.client).iter().any(|f| is_data(f)), "one answer and no other");
        assert!(lab.dp().reconcile(&[second]).await.unwrap().is_none());
    });
}

#[test]
fn the_next_holder_of_a_block_inherits_no_flow() {
    run("block", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        let old = public_source(lab, 4000, 1).await;

        let moved = SessionEntry { nat: block(4096), ..subscriber() };
        let other = SessionEntry {
            id: SessionId(1002),
            address: Ipv4Addr::new(100, 64, 0, 10),
            nat: block(2048),
            pppoe_sid: Some(80),
            ..subscriber()
        };
        lab.dp().apply(&[SessionChange::Put(moved), SessionChange::Put(other)]).await.unwrap();
        lab.core.send(&from_router(&udp((SERVER, 53), old, 2, 40))).unwrap();
        let new = public_source(lab, 4000, 3).await;
        assert!(
            (4096..=4159).contains(&new.1),
            "the same flow on a port of the new block: {new:?}"
        );
        lab.core.send(&from_router(&udp((SERVER, 53), new, 4, 40))).unwrap();
        receive(&lab.client, "answer on the new port", is_data).await;
        assert!(!drain(&lab.client).iter().any(|f| is_data(f)), "none on the old port");
        assert!(lab.dp().reconcile(&[moved, other]).await.unwrap().is_none());
    });
}

#[test]
fn the_flows_of_many_sessions_end_with_them_and_programming_does_not_wait() {
    const SESSIONS: u16 = 1000;
    run("many", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        let entry = |n: u16| SessionEntry {
            id: SessionId(u64::from(n) + 1),
            address: Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 4, 0)) + u32::from(n)),
            pppoe_sid: Some(n + 1),
            nat: block(1024 + n * 64),
            ..subscriber()
        };
        // Blocks of 64 ports end at 65,535: the first public address has room for 1,008 of them.
        let all: Vec<SessionEntry> = (0..SESSIONS).map(entry).collect();
        let puts: Vec<_> = all.iter().copied().map(SessionChange::Put).collect();
        lab.dp().apply(&puts).await.unwrap();
        for (n, entry) in all.iter().enumerate() {
            let packet = udp((entry.address, 4000), (SERVER, 53), u32::try_from(n).unwrap(), 40);
            let wrap = Wrap { pppoe_sid: entry.pppoe_sid, ..WRAP };
            lab.client.send(&wrap.data(VMAC, CLIENT_MAC, &packet)).unwrap();
            if n % 100 == 99 {
                lab.wait("their flows", || count(lab) == n + 1).await;
            }
        }
        let kept = SessionEntry { id: SessionId(5000), pppoe_sid: Some(5000), ..subscriber() };
        let removals = all.iter().copied().map(SessionChange::Remove);
        let started = boottime_now();
        lab.dp().apply(&removals.collect::<Vec<_>>()).await.unwrap();
        let removed = boottime_now();
        // Nothing of this session was held by one of those: it opens at once.
        lab.put(SessionEntry { nat: None, ..kept }).await;
        let put = boottime_now();
        lab.wait("the end of all flows", || count(lab) == 0).await;
        println!(
            "{SESSIONS} sessions removed in {:?}, another put in {:?}, flows gone after {:?}",
            removed.since(started),
            put.since(removed),
            boottime_now().since(started)
        );
    });
}

fn count(lab: &Lab) -> usize {
    let listed = lab.node_command("cat", "/proc/net/nf_conntrack");
    listed.lines().filter(|l| l.contains("src=100.64.")).count()
}

#[test]
fn a_flow_of_nobody_is_drift() {
    run("stray", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        public_source(lab, 4000, 1).await;
        assert!(lab.dp().reconcile(&[subscriber()]).await.unwrap().is_none());
        // The node itself sends from an address of the pool.
        let stray = Ipv4Addr::new(100, 64, 0, 77);
        lab.node_command("ip", &format!("addr add {stray}/32 dev lo"));
        UdpSocket::bind((stray, 4000)).unwrap().send_to(&[0; 8], (SERVER, 53)).unwrap();
        assert_eq!(flows(lab, stray), 1);
        let drift = lab.dp().reconcile(&[subscriber()]).await.unwrap();
        assert_eq!((drift.missing, drift.stale, drift.changed), (0, 1, 0));
        assert_eq!((flows(lab, stray), flows(lab, ADDRESS)), (0, 1));
        assert!(lab.dp().reconcile(&[subscriber()]).await.unwrap().is_none());
    });
}

#[test]
fn sessions_that_ended_while_the_daemon_was_down_leave_no_flow() {
    run("down", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        public_source(lab, 4000, 1).await;
        lab.dp.take().unwrap().close().await;
        lab.reopen().await;
        lab.dp().put_group(&group(Some(private()))).await.unwrap();
        assert!(!lab.dp().reconcile(&[]).await.unwrap().is_none());
        assert_eq!(flows(lab, ADDRESS), 0);
        assert!(lab.dp().reconcile(&[]).await.unwrap().is_none());
    });
}

/// What a subscriber sees when another node takes over, which has its block and none of its flows.
#[test]
fn after_a_takeover_flows_keep_their_port_only_if_it_lies_in_the_block() {
    run("takeover", Setup::default(), async |lab: &mut Lab| {
        open(lab).await;
        lab.put(subscriber()).await;
        // As on a node that has never seen these flows: the session is new there, its block is not.
        let elsewhere = async |lab: &Lab| {
            let changes = [SessionChange::Remove(subscriber()), SessionChange::Put(subscriber())];
            lab.dp().apply(&changes[..1]).await.unwrap();
            lab.wait("the end of its flows", || flows(lab, ADDRESS) == 0).await;
            lab.dp().apply(&changes[1..]).await.unwrap();
        };
        // From a port of its block, as after a port was learned by STUN or PCP, the flow goes on as it was.
        assert_eq!(public_source(lab, 2050, 1).await, (PUBLIC, 2050));
        let before = public_source(lab, 40_000, 2).await;
        elsewhere(lab).await;
        // From outside first: nobody knows it yet.
        lab.core.send(&from_router(&udp((SERVER, 53), (PUBLIC, 2050), 3, 40))).unwrap();
        assert_eq!(public_source(lab, 2050, 4).await, (PUBLIC, 2050));
        lab.core.send(&from_router(&udp((SERVER, 53), (PUBLIC, 2050), 5, 40))).unwrap();
        receive(&lab.client, "answer", is_data).await;
        assert!(!drain(&lab.client).iter().any(|f| is_data(f)), "one answer, none from before");
        // From any other port it goes on with the same address and, but for chance, on another port.
        let after = public_source(lab, 40_000, 6).await;
        assert_eq!((before.0, after.0), (PUBLIC, PUBLIC));
        assert!((2048..=2111).contains(&after.1));
        println!("UDP from port 40000: public port {} before, {} after", before.1, after.1);

        for source_port in [2060, 40_001] {
            let (inside, outside) = tcp_established(lab, source_port).await;
            elsewhere(lab).await;
            let data = tcp(inside, (SERVER, 80), ACK, (101, 501), 9);
            lab.client.send(&from_client(&data)).unwrap();
            let (got, _) = receive(&lab.core, "data", |f| read_tcp(f).is_some()).await;
            let now = read_tcp(&got).unwrap().0;
            println!("TCP from port {source_port}: public {outside:?} before, {now:?} after");
            assert_eq!(now.0, PUBLIC);
            if source_port == 2060 {
                assert_eq!(now, outside, "picked up in its middle");
                let data = tcp((SERVER, 80), now, ACK, (501, 105), 10);
                lab.core.send(&from_router(&data)).unwrap();
                receive(&lab.client, "data from the server", is_data).await;
            }
        }
    });
}

/// Opens a TCP connection and returns its source inside and outside.
async fn tcp_established(lab: &Lab, source_port: u16) -> ((Ipv4Addr, u16), (Ipv4Addr, u16)) {
    let inside = (ADDRESS, source_port);
    lab.client.send(&from_client(&tcp(inside, (SERVER, 80), SYN, (100, 0), 0))).unwrap();
    let (got, _) = receive(&lab.core, "SYN", |f| read_tcp(f).is_some()).await;
    let outside = read_tcp(&got).unwrap().0;
    lab.core.send(&from_router(&tcp((SERVER, 80), outside, SYN | ACK, (500, 101), 0))).unwrap();
    receive(&lab.client, "SYN and ACK", is_data).await;
    lab.client.send(&from_client(&tcp(inside, (SERVER, 80), ACK, (101, 501), 8))).unwrap();
    receive(&lab.core, "ACK", |f| read_tcp(f).is_some()).await;
    (inside, outside)
}
