use crate::frame::{Wrap, read_udp, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, GROUP, Lab, SERVER, Setup, VMAC, group, receive, run, session,
};
use dataplane::{
    Counters, Dataplane, DataplaneError, Drift, GroupConfig, SessionChange, SessionEntry, Shaper,
};
use model::{GroupId, NatBlock, NatPool, Rate, SessionId};
use std::net::Ipv4Addr;

fn up(marker: u32) -> Vec<u8> {
    Wrap::pppoe(7).data(VMAC, CLIENT_MAC, &udp((ADDRESS, 4000), (SERVER, 53), marker, 30))
}

async fn passes(lab: &Lab, marker: u32) {
    lab.client.send(&up(marker)).unwrap();
    receive(&lab.core, &format!("packet {marker}"), |f| {
        read_udp(f).is_some_and(|(_, _, m)| m == marker)
    })
    .await;
}

/// A session with everything that is kept in another place: rates, classes, NAT block.
fn rich() -> SessionEntry {
    SessionEntry {
        rate: Rate { down_bps: 8_000_000, up_bps: 4_000_000 },
        nat: Some(NatBlock {
            public: Ipv4Addr::new(203, 0, 113, 5),
            first_port: 2048,
            last_port: 2111,
        }),
        ..session(Wrap::pppoe(7))
    }
}

fn second() -> SessionEntry {
    SessionEntry {
        id: SessionId(1002),
        address: Ipv4Addr::new(100, 64, 0, 10),
        ..session(Wrap::pppoe(8))
    }
}

#[test]
fn a_restart_takes_over_what_is_pinned_and_traffic_does_not_notice() {
    for shaper in [Shaper::Policer, Shaper::Htb] {
        run("restart", Setup { shaper, ..Setup::default() }, async move |lab: &mut Lab| {
            lab.open_fence();
            lab.dp()
                .apply(&[SessionChange::Put(rich()), SessionChange::Put(second())])
                .await
                .unwrap();
            passes(lab, 1).await;
            let told = Counters { bytes_down: 5000, ..Counters::default() };
            assert!(lab.dp().raise_counter_base(rich().id, told));
            let fence = lab.dp().fence(GROUP);

            lab.dp.take().unwrap().close().await;
            passes(lab, 2).await;
            lab.reopen().await;
            assert_eq!(lab.dp().fence(GROUP), fence, "the fence stands as it was");
            passes(lab, 3).await;
            let counters = lab.dp().counters(rich().id).unwrap();
            assert_eq!((counters.packets_up, counters.bytes_down), (3, 5000));
            let drift = lab.dp().reconcile(&[rich(), second()]).await.unwrap();
            assert_eq!(drift, Drift::default(), "{shaper:?}");
            passes(lab, 4).await;
        });
    }
}

#[test]
fn reconciliation_repairs_what_was_deleted_and_removes_what_is_stale() {
    let setup = Setup { shaper: Shaper::Htb, ..Setup::default() };
    run("drift", setup, async |lab: &mut Lab| {
        lab.open_fence();
        lab.dp().apply(&[SessionChange::Put(rich()), SessionChange::Put(second())]).await.unwrap();
        passes(lab, 1).await;
        assert!(lab.dp().reconcile(&[rich(), second()]).await.unwrap().is_none());

        // Someone deletes the upward entry, the NAT block, a class, the route and the core programs, and forges an entry.
        let pins = lab.cfg.pin_dir.join("layout3");
        let pin = |map: &str| pins.join(map).display().to_string();
        let key = "03 00 00 00 00 00 07 00 02 00 00 00 00 11 00 00 00 00 00 00";
        lab.node_command(
            "bpftool",
            &format!("map delete pinned {} key hex {key}", pin("sessions_up")),
        );
        let stale = format!(
            "map update pinned {} key 1 2 3 4 value {}",
            pin("sessions_down"),
            ["0"; 48].join(" ")
        );
        lab.node_command("bpftool", &stale);
        let table =
            lab.node_command("nft", "list tables").split_whitespace().last().unwrap().to_owned();
        lab.node_command("nft", &format!("flush map inet {table} blocks"));
        lab.node_command("tc", "class del dev core0 classid 1:1");
        lab.node_command("ip", "route del 100.64.0.0/16");
        lab.node_command("tc", "qdisc del dev core0 clsact");

        let before = lab.dropped("spoofed_source");
        lab.client.send(&up(2)).unwrap();
        lab.wait_dropped("spoofed_source", before, 1).await;
        let drift = lab.dp().reconcile(&[rich(), second()]).await.unwrap();
        assert_eq!(drift, Drift { missing: 6, stale: 1, changed: 0 });
        passes(lab, 3).await;

        // A session that is not desired any more goes, its counters with it.
        let drift = lab.dp().reconcile(&[second()]).await.unwrap();
        assert!(!drift.is_none());
        assert_eq!(lab.dp().counters(rich().id), None);
        assert!(lab.dp().reconcile(&[second()]).await.unwrap().is_none());
        let before = lab.dropped("no_session");
        lab.client.send(&up(4)).unwrap();
        lab.wait_dropped("no_session", before, 1).await;
    });
}

#[test]
fn a_removed_session_leaves_nothing_and_its_index_starts_from_zero() {
    run("remove", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        lab.put(rich()).await;
        passes(lab, 1).await;
        let own = lab.dp().counters(rich().id).unwrap().bytes_up;
        let more = Counters { bytes_up: 900, ..Counters::default() };
        assert!(lab.dp().raise_counter_base(rich().id, more));
        assert_eq!(lab.dp().counters(rich().id).unwrap().bytes_up, own + 900);
        assert!(!lab.dp().raise_counter_base(second().id, more), "not programmed");
        lab.dp().apply(&[SessionChange::Remove(rich())]).await.unwrap();
        assert!(lab.dp().reconcile(&[]).await.unwrap().is_none());
        assert_eq!(lab.dp().all_counters(), []);
        lab.put(SessionEntry { id: SessionId(5), ..rich() }).await;
        assert_eq!(lab.dp().counters(SessionId(5)), Some(Counters::default()));
    });
}

#[test]
fn a_failed_nat_transaction_is_repaired_from_what_the_kernel_holds() {
    run("nat-repair", Setup::default(), async |lab: &mut Lab| {
        lab.put(rich()).await;
        let table =
            lab.node_command("nft", "list tables").split_whitespace().last().unwrap().to_owned();
        lab.node_command("nft", &format!("flush map inet {table} blocks"));
        // Deleting the old block fails, since it is not there.
        let block = rich().nat.map(|b| NatBlock { first_port: 4096, last_port: 4159, ..b });
        let moved = SessionEntry { nat: block, ..rich() };
        lab.put(moved).await;
        assert!(lab.dp().reconcile(&[moved]).await.unwrap().is_none());
    });
}

#[test]
fn groups_are_refused_before_they_could_do_harm() {
    run("refuse", Setup::default(), async |lab: &mut Lab| {
        let own = GroupConfig { vmac: lab.access_mac(), ..group(None) };
        let refused = lab.dp().put_group(&own).await;
        assert!(matches!(refused, Err(DataplaneError::VirtualMacInUse { .. })), "{refused:?}");
        let foreign = SessionEntry { group: GroupId(99), ..rich() };
        let refused = lab.dp().apply(&[SessionChange::Put(foreign)]).await;
        assert!(matches!(refused, Err(DataplaneError::UnknownGroup(GroupId(99)))), "{refused:?}");
        assert_eq!(lab.dp().all_counters(), []);
    });
}

#[test]
fn purge_takes_everything_out_of_the_kernel() {
    let setup = Setup { shaper: Shaper::Htb, ..Setup::default() };
    run("purge", setup, async |lab: &mut Lab| {
        let nat =
            NatPool { public: "203.0.113.1-203.0.113.9".parse().unwrap(), ports_per_block: 64 };
        lab.dp().put_group(&group(Some(nat))).await.unwrap();
        lab.put(rich()).await;
        assert_eq!(lab.dp().carrier(), [("acc0".to_owned(), true), ("core0".to_owned(), true)]);
        lab.dp.take().unwrap().purge().await.unwrap();
        assert_eq!(lab.node_command("nft", "list tables"), "");
        for dev in ["acc0", "core0"] {
            let qdiscs = lab.node_command("tc", &format!("qdisc show dev {dev}"));
            assert!(!qdiscs.contains("htb") && !qdiscs.contains("clsact"), "{qdiscs}");
            let link = lab.node_command("ip", &format!("link show {dev}"));
            assert!(!link.contains("xdp") && !link.contains("NOARP"), "{link}");
        }
        assert!(!lab.node_command("ip", "route").contains("100.64"));
        assert!(!lab.node_command("ip", "addr show dev lo").contains("100.64"));
        assert!(!lab.cfg.pin_dir.exists());
    });
}

#[tokio::test]
async fn a_missing_interface_is_named() {
    let cfg = dataplane::Config {
        access: vec![],
        core: Some("nonesuch0".into()),
        xdp: dataplane::XdpMode::Auto,
        shaper: Shaper::Policer,
        pin_dir: "/sys/fs/bpf/nonesuch".into(),
    };
    let refused = Dataplane::open(cfg).await;
    assert!(matches!(refused, Err(DataplaneError::InterfaceMissing { .. })), "{refused:?}");
}
