use crate::frame::{self, Wrap, read_udp, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, GROUP, Lab, NODE_ADDRESS, PORT, ROUTER_MAC, SERVER, Setup, VMAC,
    drain_udp, receive, run, session, vlans,
};
use dataplane::{Drift, SessionEntry, UnknownSource};
use model::{Attachment, Ban, BanScope, MacAddr, UnixMs};
use std::net::Ipv4Addr;

const WRAP: Wrap = Wrap::PLAIN;
/// More random sources than the kernel may note.
const FLOOD: u32 = 3000;
/// What the kernel notes at most between two looks, `UNKNOWN_MAX` of `bpf/policy.h`.
const UNKNOWN_MAX: usize = 1024;

fn ban(network: &str, scope: BanScope) -> Ban {
    Ban { network: network.parse().unwrap(), scope, since: UnixMs(0) }
}

fn up(marker: u32) -> Vec<u8> {
    WRAP.data(VMAC, CLIENT_MAC, &udp((ADDRESS, 4000), (SERVER, 53), marker, 20))
}

fn down(ip: &[u8]) -> Vec<u8> {
    WRAP.data(VMAC, ROUTER_MAC, ip)
}

/// Whether one packet passes each way; a dropped one is waited for in the counter.
async fn passes(lab: &Lab, marker: u32) {
    lab.client.send(&up(marker)).unwrap();
    receive(&lab.core, "packet at the core", |f| read_udp(f).is_some_and(|u| u.2 == marker)).await;
    lab.core.send(&down(&udp((SERVER, 53), (ADDRESS, 4000), marker, 20))).unwrap();
    receive(&lab.client, "packet at the subscriber", |f| {
        read_udp(f).is_some_and(|u| u.2 == marker)
    })
    .await;
}

async fn drops_both_ways(lab: &Lab, reason: &str, what: &str) {
    let before = lab.dropped(reason);
    lab.client.send(&up(900)).unwrap();
    lab.wait(&format!("{what}: {reason} upwards"), || lab.dropped(reason) == before + 1).await;
    lab.core.send(&down(&udp((SERVER, 53), (ADDRESS, 4000), 901, 20))).unwrap();
    lab.wait(&format!("{what}: {reason} downwards"), || lab.dropped(reason) == before + 2).await;
    assert_eq!(drain_udp(&lab.core), [], "{what}");
    assert_eq!(drain_udp(&lab.client), [], "{what}");
}

#[test]
fn what_is_banned_is_dropped_as_source_and_as_destination() {
    run("ban", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(WRAP)).await;
        passes(lab, 1).await;
        for (marker, network) in
            (2..).zip(["100.64.0.9", "100.64.0.0/16", "198.51.100.7", "198.51.100.0/24"])
        {
            lab.dp().set_bans(&[ban(network, BanScope::All)]).unwrap();
            drops_both_ways(lab, "banned", network).await;
            lab.dp().set_bans(&[]).unwrap();
            passes(lab, marker).await;
        }
        // Neighbours of what is banned are not.
        let around = ["100.64.0.8", "198.51.100.8/29", "198.51.101.0/24"];
        let bans: Vec<_> = around.iter().map(|n| ban(n, BanScope::All)).collect();
        lab.dp().set_bans(&bans).unwrap();
        passes(lab, 10).await;
    });
}

#[test]
fn an_inner_ban_does_not_lift_the_outer_one() {
    run("ban-nested", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(Wrap::PLAIN)).await;
        let outer = ban("198.51.100.0/24", BanScope::All);
        let inner = ban("198.51.100.7", BanScope::Icmp);
        lab.dp().set_bans(&[outer, inner]).unwrap();
        drops_both_ways(lab, "banned", "both").await;
        lab.dp().set_bans(&[inner]).unwrap();
        passes(lab, 1).await;
    });
}

#[test]
fn an_icmp_ban_drops_pings_and_nothing_else() {
    run("ban-icmp", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(WRAP)).await;
        let ping = WRAP.data(VMAC, CLIENT_MAC, &frame::ping(ADDRESS, SERVER));
        let is_ping = |f: &[u8]| f.len() > 34 && f[23] == frame::ICMP && f[34] == 8;
        lab.client.send(&ping).unwrap();
        receive(&lab.core, "ping at the core", is_ping).await;
        lab.dp().set_bans(&[ban("100.64.0.9", BanScope::Icmp)]).unwrap();
        let before = lab.dropped("banned");
        lab.client.send(&ping).unwrap();
        lab.core.send(&down(&frame::ping(SERVER, ADDRESS))).unwrap();
        lab.wait_dropped("banned", before, 2).await;
        passes(lab, 1).await;
    });
}

#[test]
fn a_ban_keeps_packets_from_the_node_itself() {
    run("ban-node", Setup::default(), async |lab: &mut Lab| {
        let node_mac: MacAddr = {
            let shown = lab.node_command("ip", "-o link show core0");
            shown.split("link/ether ").nth(1).unwrap()[..17].parse().unwrap()
        };
        let ping = WRAP.data(node_mac, ROUTER_MAC, &frame::ping(SERVER, NODE_ADDRESS));
        let is_answer = |f: &[u8]| f.len() > 34 && f[23] == frame::ICMP && f[34] == 0;
        lab.core.send(&ping).unwrap();
        receive(&lab.core, "answer of the node", is_answer).await;
        lab.dp().set_bans(&[ban("198.51.100.0/24", BanScope::All)]).unwrap();
        lab.core.send(&ping).unwrap();
        lab.wait_dropped("banned", 0, 1).await;
        // From elsewhere it still answers: had it answered the banned one, that would come first.
        let other = Ipv4Addr::new(198, 51, 101, 1);
        let ping = WRAP.data(node_mac, ROUTER_MAC, &frame::ping(other, NODE_ADDRESS));
        lab.core.send(&ping).unwrap();
        let (got, _) = receive(&lab.core, "answer to another", is_answer).await;
        assert_eq!(got[30..34], other.octets());
    });
}

#[test]
fn bans_survive_a_restart_and_are_repaired() {
    run("ban-drift", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(WRAP)).await;
        let bans = [ban("198.51.100.7", BanScope::All), ban("203.0.113.0/24", BanScope::Icmp)];
        let missing = Drift { missing: 2, ..Drift::default() };
        assert_eq!(lab.dp().set_bans(&bans).unwrap(), missing);
        lab.dp.take().unwrap().close().await;
        lab.client.send(&up(1)).unwrap();
        lab.reopen().await;
        lab.wait_dropped("banned", 0, 1).await;
        assert_eq!(drain_udp(&lab.core), []);
        assert!(lab.dp().set_bans(&bans).unwrap().is_none(), "the kernel kept them");

        let pin = lab.cfg.pin_dir.join("layout3/bans").display().to_string();
        lab.node_command("bpftool", &format!("map delete pinned {pin} key 32 0 0 0 198 51 100 7"));
        let forged = "key 16 0 0 0 100 64 0 0 value 1 0 0 0";
        lab.node_command("bpftool", &format!("map update pinned {pin} {forged}"));
        let drift = lab.dp().set_bans(&bans).unwrap();
        assert_eq!(drift, Drift { missing: 1, stale: 1, changed: 0 });
        drops_both_ways(lab, "banned", "repaired").await;
        lab.dp().set_bans(&[]).unwrap();
        passes(lab, 2).await;
    });
}

#[test]
fn nothing_of_a_subscriber_that_is_not_allowed_passes() {
    run("disallow", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let allowed = session(WRAP);
        let blocked = SessionEntry { allowed: false, ..allowed };
        lab.put(allowed).await;
        passes(lab, 1).await;
        lab.put(blocked).await;
        drops_both_ways(lab, "disallowed", "after it was allowed").await;
        assert!(lab.dp().reconcile(&[blocked]).await.unwrap().is_none());
        lab.reopen().await;
        assert!(lab.dp().reconcile(&[blocked]).await.unwrap().is_none(), "a restart keeps it");
        drops_both_ways(lab, "disallowed", "after a restart").await;
        lab.put(allowed).await;
        passes(lab, 2).await;
    });
}

fn source(address: Ipv4Addr, mac: MacAddr, wrap: Wrap) -> UnknownSource {
    UnknownSource { address, attachment: Attachment { port: PORT, vlans: wrap.vlans, mac } }
}

#[test]
fn a_source_that_is_nobodys_is_noted_once_with_its_place() {
    run("unknown", Setup::default(), async |lab: &mut Lab| {
        let stranger = Ipv4Addr::new(100, 64, 0, 77);
        let other_mac = MacAddr([2, 0, 0, 0, 0, 0x66]);
        let tagged = Wrap { vlans: vlans(100, 200), outer_tpid: 0x88a8, pppoe_sid: None };
        let from = |wrap: Wrap, mac, address| {
            wrap.data(VMAC, mac, &udp((address, 1), (SERVER, 53), 1, 20))
        };
        // The standby is not asked.
        lab.client.send(&from(WRAP, other_mac, stranger)).unwrap();
        lab.wait_dropped("no_session", 0, 1).await;
        assert_eq!(lab.dp().take_unknown(GROUP).unwrap(), []);

        lab.open_fence();
        lab.put(session(WRAP)).await;
        for _ in 0..3 {
            lab.client.send(&from(WRAP, other_mac, stranger)).unwrap();
            lab.client.send(&from(tagged, other_mac, stranger)).unwrap();
        }
        // Somebody else's address, and PPPoE, which authenticates.
        lab.client.send(&from(WRAP, other_mac, ADDRESS)).unwrap();
        lab.client.send(&from(Wrap::pppoe(9), other_mac, stranger)).unwrap();
        lab.client.send(&up(1)).unwrap();
        receive(&lab.core, "the known subscriber's", |f| read_udp(f).is_some()).await;
        let mut got = lab.dp().take_unknown(GROUP).unwrap();
        got.sort_unstable_by_key(|s| (s.address, s.attachment));
        let want = [
            source(ADDRESS, other_mac, WRAP),
            source(stranger, other_mac, WRAP),
            source(stranger, other_mac, tagged),
        ];
        assert_eq!(got, want);
        assert_eq!(lab.dp().take_unknown(GROUP).unwrap(), [], "taken is taken");
        lab.client.send(&from(WRAP, other_mac, stranger)).unwrap();
        lab.wait("noted again", || lab.dp().take_unknown(GROUP).unwrap().len() == 1).await;
    });
}

#[test]
fn a_flood_of_random_sources_fills_nothing() {
    run("unknown-flood", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(session(WRAP)).await;
        let before = lab.dropped("no_session");
        for n in 0..FLOOD {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 65, 0, 0)) + n);
            let [_, _, high, low] = n.to_be_bytes();
            let mac = MacAddr([2, 1, 0, 0, high, low]);
            let packet = udp((address, 1), (SERVER, 53), 1, 20);
            lab.client.send_async(&WRAP.data(VMAC, mac, &packet)).await.unwrap();
        }
        lab.wait_dropped("no_session", before, u64::from(FLOOD)).await;
        let noted = lab.dp().take_unknown(GROUP).unwrap().len();
        assert!((1..=UNKNOWN_MAX).contains(&noted), "{noted} noted");
        passes(lab, 1).await;
    });
}
