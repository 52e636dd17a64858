use crate::frame::{Wrap, arp_request, read_udp, source_mac, udp};
use crate::lab::{
    ADDRESS, CLIENT_MAC, CORE_ADDRESS, GATEWAY, GROUP, Lab, NODE_ADDRESS, ROUTER_MAC, SERVER,
    Setup, VMAC, drain, drain_udp, receive, run, session, vlans,
};
use dataplane::{PacketSocket, boottime_now};
use model::{MacAddr, Tick};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::Ipv4Addr;
use std::time::Duration;

const PADI: [u8; 10] = [0x11, 0x09, 0, 0, 0, 4, 0x01, 0x01, 0, 0];
const ECHO_REQUEST: [u8; 16] = [0x11, 0, 0, 7, 0, 10, 0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0];
/// As of a packet from session 1 of the first group: sign `01`, slot 0, index 1.
const SUBSCRIBER_MARK: u32 = 0x4000_0001;
const LEASE: Duration = Duration::from_millis(150);

fn up(marker: u32) -> Vec<u8> {
    Wrap::pppoe(7).data(VMAC, CLIENT_MAC, &udp((ADDRESS, 4000), (SERVER, 53), marker, 30))
}

fn down(marker: u32) -> Vec<u8> {
    Wrap::PLAIN.data(VMAC, ROUTER_MAC, &udp((SERVER, 53), (ADDRESS, 4000), marker, 30))
}

/// The control frames of a subscriber.
fn control_frames() -> Vec<Vec<u8>> {
    let tagged = Wrap { vlans: vlans(100, 200), outer_tpid: 0x88a8, ..Wrap::PLAIN };
    let dhcp = udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67), 1, 240);
    vec![
        Wrap::PLAIN.frame(MacAddr::BROADCAST, CLIENT_MAC, 0x8863, &PADI),
        tagged.frame(MacAddr::BROADCAST, CLIENT_MAC, 0x8863, &PADI),
        tagged.frame(VMAC, CLIENT_MAC, 0x8864, &ECHO_REQUEST),
        tagged.frame(MacAddr::BROADCAST, CLIENT_MAC, 0x0800, &dhcp),
        arp_request(CLIENT_MAC, ADDRESS, GATEWAY),
    ]
}

#[test]
fn a_fence_that_runs_out_stops_everything_without_the_daemon() {
    run("lapse", Setup::default(), async |lab: &mut Lab| {
        lab.put(session(Wrap::pppoe(7))).await;
        lab.core.stamp().unwrap();
        lab.client.stamp().unwrap();
        let until = boottime_now() + LEASE;
        lab.dp().set_fence(GROUP, until).unwrap();
        assert_eq!(lab.dp().fence(GROUP), until);

        let (mut seen_up, mut seen_down): (Vec<Tick>, Vec<Tick>) = (vec![], vec![]);
        let mut buf = [0; 2048];
        let mut marker = 0;
        // From here on the handle is not touched.
        while boottime_now() < until + LEASE {
            marker += 1;
            lab.client.send(&up(marker)).unwrap();
            lab.core.send(&down(marker)).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            while let Ok(got) = lab.core.try_recv(&mut buf) {
                if read_udp(&buf[..got.len]).is_some() {
                    seen_up.push(got.at.unwrap());
                }
            }
            while let Ok(got) = lab.client.try_recv(&mut buf) {
                if buf[..got.len].len() > 40 && source_mac(&buf) == VMAC {
                    seen_down.push(got.at.unwrap());
                }
            }
        }
        for (way, seen) in [("up", seen_up), ("down", seen_down)] {
            assert!(seen.len() > 20, "{way}: only {} packets passed", seen.len());
            let last = *seen.last().unwrap();
            // A packet that was checked in time may arrive a moment later.
            let late = last.since(until);
            assert!(late < Duration::from_millis(5), "{way}: {late:?} after the deadline");
            let early = until.since(last);
            assert!(early < Duration::from_millis(50), "{way}: stopped {early:?} too early");
        }
        assert!(lab.dropped("fence_shut") > 40);
    });
}

#[test]
fn a_late_frame_of_the_daemon_does_not_leave() {
    run("late", Setup::default(), async |lab: &mut Lab| {
        let access = PacketSocket::open_access("acc0").unwrap();
        let core = PacketSocket::open_core("core0").unwrap();
        let tagged = Wrap { vlans: vlans(100, 200), outer_tpid: 0x88a8, ..Wrap::PLAIN };
        let offer = udp((GATEWAY, 67), (ADDRESS, 68), 1, 240);
        let frames = [
            (&access, &lab.client, Wrap::PLAIN.frame(CLIENT_MAC, VMAC, 0x8863, &PADI)),
            (&access, &lab.client, tagged.frame(CLIENT_MAC, VMAC, 0x8864, &ECHO_REQUEST)),
            (&access, &lab.client, Wrap::PLAIN.frame(CLIENT_MAC, VMAC, 0x0800, &offer)),
            (&access, &lab.client, arp_request(VMAC, GATEWAY, GATEWAY)),
            (&core, &lab.core, arp_request(VMAC, CORE_ADDRESS, CORE_ADDRESS)),
        ];
        lab.open_fence();
        for (socket, peer, frame) in &frames {
            socket.send(frame).unwrap();
            receive(peer, "frame while open", |f| f == frame).await;
        }
        lab.dp().shut_fence(GROUP).unwrap();
        for (socket, _, frame) in &frames {
            let before = lab.dropped("fence_shut");
            // The kernel tells the sender of a dropped frame nothing, or ENOBUFS: both are Ok here.
            socket.send(frame).unwrap();
            lab.wait_dropped("fence_shut", before, 1).await;
        }
        for socket in [&lab.client, &lab.core] {
            for frame in drain(socket) {
                assert_ne!(source_mac(&frame), VMAC, "{frame:02x?}");
            }
        }
    });
}

#[test]
fn control_frames_reach_the_daemon_only_while_the_fence_is_open() {
    run("control", Setup::default(), async |lab: &mut Lab| {
        lab.put(session(Wrap::pppoe(7))).await;
        let access = PacketSocket::open_access("acc0").unwrap();
        for (i, frame) in (1..).zip(control_frames()) {
            lab.client.send(&frame).unwrap();
            lab.wait(&format!("shut, frame {i}"), || lab.dropped("fence_shut") == i).await;
        }
        assert_eq!(drain(&access), Vec::<Vec<u8>>::new());
        lab.open_fence();
        for frame in control_frames() {
            // Data that must not reach the daemon goes ahead of it.
            lab.client.send(&up(1)).unwrap();
            lab.client.send(&frame).unwrap();
            let (got, _) = receive(&access, "control frame", |_| true).await;
            assert_eq!(got, frame, "whole, with its tags");
        }
    });
}

#[test]
fn the_kernel_itself_answers_nothing_for_the_group() {
    run("kernel", Setup::default(), async |lab: &mut Lab| {
        for open in [false, true] {
            if open {
                lab.open_fence();
            }
            for frame in control_frames() {
                lab.client.send(&frame).unwrap();
            }
            // As DHCP this passes to the packet socket unchecked; the kernel must not route it.
            let detour = udp((ADDRESS, 68), (SERVER, 67), 1, 30);
            lab.client.send(&Wrap::PLAIN.data(lab.access_mac(), CLIENT_MAC, &detour)).unwrap();
            let router = Ipv4Addr::new(192, 0, 2, 254);
            lab.core.send(&arp_request(ROUTER_MAC, router, CORE_ADDRESS)).unwrap();
            lab.core.send(&arp_request(ROUTER_MAC, router, GATEWAY)).unwrap();
            // The node's own address is answered, after whatever the others would have caused.
            lab.core.send(&arp_request(ROUTER_MAC, router, NODE_ADDRESS)).unwrap();
            let (got, _) = receive(&lab.core, "an ARP reply", |f| {
                assert_eq!(read_udp(f), None, "routed past the session check");
                f[12..14] == [8, 6] && f[20..22] == [0, 2]
            })
            .await;
            assert_eq!(got[28..32], NODE_ADDRESS.octets(), "fence open: {open}");
        }
        assert_eq!(drain(&lab.client), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn nothing_but_the_virtual_mac_and_sessions_leaves_an_access_port() {
    run("foreign", Setup::default(), async |lab: &mut Lab| {
        lab.open_fence();
        let any = PacketSocket::open_access("acc0").unwrap();
        let other = MacAddr([2, 0, 0, 0, 0, 0x77]);
        let before = lab.dropped("foreign_frame");
        any.send(&Wrap::PLAIN.frame(MacAddr::BROADCAST, other, 0x8863, &PADI)).unwrap();
        lab.wait_dropped("foreign_frame", before, 1).await;
        let before = lab.dropped("no_session");
        lab.core.send(&down(1)).unwrap();
        lab.wait_dropped("no_session", before, 1).await;
        assert_eq!(drain(&lab.client), Vec::<Vec<u8>>::new());
    });
}

#[test]
fn each_of_the_four_gates_is_shut_by_itself() {
    run("gates", Setup::default(), async |lab: &mut Lab| {
        let entry = session(Wrap::pppoe(7));
        lab.put(entry).await;
        let shut = async |what: &str, send: &dyn Fn()| {
            let before = lab.dropped("fence_shut");
            send();
            lab.wait(&format!("{what}: fence_shut"), || lab.dropped("fence_shut") == before + 1)
                .await;
        };
        shut("access, in", &|| lab.client.send(&up(1)).unwrap()).await;
        // The gate at the core would drop it too, but after it was counted.
        assert_eq!(lab.dp().counters(entry.id).unwrap().packets_up, 0);

        // To nobody: past the gate, it would be dropped for want of a session.
        let nobody = udp((SERVER, 53), (Ipv4Addr::new(100, 64, 9, 9), 4000), 1, 30);
        let frame = Wrap::PLAIN.data(VMAC, ROUTER_MAC, &nobody);
        shut("core, in", &|| lab.core.send(&frame).unwrap()).await;

        // From this host, so past the gates for what comes in.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let send = |to| drop(socket.send_to(&[0; 30], (to, 9)));
        shut("access, out", &|| send(ADDRESS)).await;
        assert_eq!(lab.dp().counters(entry.id).unwrap().packets_down, 0);
        setsockopt(&socket, sockopt::Mark, &SUBSCRIBER_MARK).unwrap();
        shut("core, out", &|| send(SERVER)).await;
        assert_eq!(drain_udp(&lab.core), []);
    });
}
