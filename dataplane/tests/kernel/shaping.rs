use crate::frame::{Wrap, read_udp, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, Lab, ROUTER_MAC, SERVER, Setup, VMAC, receive, run, session,
};
use dataplane::{SessionEntry, Shaper};
use model::Rate;

const RATE_BPS: u64 = 8_000_000;
/// IPv4 octets of each packet; 1 ms at the rate.
const PACKET_OCTETS: usize = 1000;

fn limited(wrap: Wrap) -> SessionEntry {
    SessionEntry { rate: Rate { down_bps: RATE_BPS, up_bps: RATE_BPS }, ..session(wrap) }
}

fn up(marker: u32) -> Vec<u8> {
    let ip = udp((ADDRESS, 4000), (SERVER, 53), marker, PACKET_OCTETS - 28);
    Wrap::pppoe(7).data(VMAC, CLIENT_MAC, &ip)
}

fn down(marker: u32) -> Vec<u8> {
    let ip = udp((SERVER, 53), (ADDRESS, 4000), marker, PACKET_OCTETS - 28);
    Wrap::PLAIN.data(VMAC, ROUTER_MAC, &ip)
}

#[test]
fn the_policer_passes_a_burst_and_then_the_rate() {
    run("police", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let entry = limited(Wrap::pppoe(7));
        lab.put(entry).await;
        // 1 s worth of traffic at once: about the burst of 100 ms passes, and what time adds.
        let start = dataplane::boottime_now();
        for marker in 0..1000 {
            lab.client.send(&up(marker)).unwrap();
            lab.core.send(&down(marker)).unwrap();
        }
        let done = || {
            let c = lab.dp().counters(entry.id).unwrap();
            c.packets_up + c.dropped_up == 1000 && c.packets_down + c.dropped_down == 1000
        };
        lab.wait("all packets judged", done).await;
        let elapsed_ms = dataplane::boottime_now().since(start).as_millis();
        let c = lab.dp().counters(entry.id).unwrap();
        for (way, passed) in [("up", c.packets_up), ("down", c.packets_down)] {
            assert!(passed >= 100, "{way}: {passed} passed, less than the burst");
            let most = u64::try_from(elapsed_ms).unwrap() + 105;
            assert!(passed <= most, "{way}: {passed} passed within {elapsed_ms} ms");
        }
        assert_eq!(lab.dropped("policed"), c.dropped_up + c.dropped_down);
    });
}

#[test]
fn an_unlimited_session_is_not_policed() {
    run("free", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let entry = session(Wrap::pppoe(7));
        lab.put(entry).await;
        for marker in 0..1000 {
            lab.client.send(&up(marker)).unwrap();
        }
        let passed = || lab.dp().counters(entry.id).unwrap().packets_up == 1000;
        lab.wait("all packets passed", passed).await;
    });
}

#[test]
fn an_htb_class_spreads_a_burst_over_time() {
    run("htb", Setup { shaper: Shaper::Htb, ..Setup::default() }, async |lab: &mut Lab| {
        lab.open_fence();
        lab.client.stamp().unwrap();
        lab.core.stamp().unwrap();
        let entry = limited(Wrap::pppoe(7));
        lab.put(entry).await;
        // 90 packets fit the queue; 10 are the burst of the class, 80 take 80 ms.
        for marker in 0..90 {
            lab.core.send(&down(marker)).unwrap();
            lab.client.send(&up(marker)).unwrap();
        }
        for (way, socket) in [("down", &lab.client), ("up", &lab.core)] {
            let mut times = Vec::new();
            for n in 0..90 {
                let is_data = |f: &[u8]| match way {
                    "up" => read_udp(f).is_some(),
                    _ => f[12..14] == [0x88, 0x64],
                };
                let what = format!("{way}, packet {n} of 90");
                times.push(receive(socket, &what, is_data).await.1);
            }
            let took = times[89].since(times[0]).as_millis();
            assert!((60..200).contains(&took), "{way}: {took} ms for 90 packets of 1 ms each");
        }
        let counters = lab.dp().counters(entry.id).unwrap();
        assert_eq!((counters.packets_up, counters.packets_down), (90, 90));
    });
}

#[test]
fn a_changed_rate_changes_the_classes_and_a_removed_session_takes_them_away() {
    run("class", Setup { shaper: Shaper::Htb, ..Setup::default() }, async |lab: &mut Lab| {
        let mut entry = limited(Wrap::pppoe(7));
        lab.put(entry).await;
        let show = |dev| lab.node_command("tc", &format!("class show dev {dev}"));
        assert!(show("acc0").contains("rate 8Mbit"), "{}", show("acc0"));
        assert!(show("core0").contains("rate 8Mbit"), "{}", show("core0"));
        entry.rate = Rate { down_bps: 20_000_000, up_bps: 0 };
        lab.put(entry).await;
        assert!(show("acc0").contains("rate 20Mbit"), "{}", show("acc0"));
        assert_eq!(show("core0"), "");
        lab.dp().apply(&[dataplane::SessionChange::Remove(entry)]).await.unwrap();
        assert_eq!(show("acc0"), "");
    });
}
