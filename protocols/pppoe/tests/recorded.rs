//! Real exchanges: read, written again, and replayed to the server.

#![expect(clippy::unwrap_used, reason = "the helpers of this test are tests, too")]

use ether::{Frame, ethertype};
use model::{Attachment, MacAddr, PortId, Tick, UnixMs, Vlans};
use pppoe::{
    Action, Code, DropReason, Packet, Server, ServerConfig, Tag, emit_session, pads, parse_session,
    tag,
};
use std::path::Path;

const FILES: usize = 30;

/// Ethernet frames with their times.
type Frames = Vec<(Tick, Vec<u8>)>;

/// The frames of each file.
fn cases() -> Vec<(String, Frames)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut cases: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(path).unwrap();
            (name, text.lines().filter(|line| !line.starts_with('#')).map(read_line).collect())
        })
        .collect();
    cases.sort();
    assert_eq!(cases.len(), FILES);
    cases
}

fn read_line(line: &str) -> (Tick, Vec<u8>) {
    let fields: Vec<&str> = line.split(' ').collect();
    let at = Tick::from_ns(fields[1].parse::<u64>().unwrap() * 1000);
    let pairs = (0..fields[2].len()).step_by(2).map(|i| &fields[2][i..i + 2]);
    (at, pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect())
}

#[test]
fn every_recorded_packet_is_read_and_written_again_octet_for_octet() {
    let (mut discovery, mut session) = (0, 0);
    for (name, frames) in cases() {
        for (row, (_, octets)) in frames.iter().enumerate() {
            let frame = Frame::parse(octets).unwrap();
            // The captures were made at sending interfaces, before padding.
            assert!(frame.emit().starts_with(octets), "{name} row {row}");
            if frame.ethertype == ethertype::PPPOE_DISCOVERY {
                discovery += 1;
                let packet = Packet::parse(frame.payload).unwrap();
                assert_eq!(packet.emit(), frame.payload, "{name} row {row}");
            } else {
                session += 1;
                let (sid, ppp) = parse_session(frame.payload).unwrap();
                assert_eq!(emit_session(sid, ppp), frame.payload, "{name} row {row}");
                assert_ne!(sid, 0, "{name} row {row}");
            }
        }
    }
    assert_eq!((discovery, session), (151, 660), "packets in the files");
}

#[test]
fn tags_and_padding_are_where_the_capture_says() {
    for (name, want, s_tag) in [
        ("vlan100", Vlans { outer: 100, inner: 0 }, false),
        ("qinq-8100-200-20", Vlans { outer: 200, inner: 20 }, false),
        ("qinq-88a8-201-20", Vlans { outer: 201, inner: 20 }, true),
        ("chap-md5", Vlans::NONE, false),
    ] {
        let (_, frames) = cases().into_iter().find(|(case, _)| case == name).unwrap();
        for (_, octets) in frames {
            let frame = Frame::parse(&octets).unwrap();
            assert_eq!((frame.vlans, frame.s_tag), (want, s_tag), "{name}");
        }
    }
}

/// Replays the host's discovery packets of one file to our server, configured as theirs was, and
/// compares each answer with the recorded one. Returns what our server did.
fn replay(name: &str, frames: &[(Tick, Vec<u8>)]) -> Vec<&'static str> {
    let rp_pppoe = name == "rp-pppoe-server";
    let mut cfg = ServerConfig::new(if rp_pppoe { "rpserver" } else { "bng1" }, [9; 32]);
    cfg.mtu = 1600;
    if name.starts_with("service-name") {
        cfg.services = vec!["internet".into()];
    }
    let mut server = Server::new();
    let mut did = vec![];
    let mut cookie = vec![];
    for (row, (at, octets)) in frames.iter().enumerate() {
        let frame = Frame::parse(octets).unwrap();
        let from_host = frame.src.0[5] != 0xa1;
        if frame.ethertype != ethertype::PPPOE_DISCOVERY || !from_host {
            continue;
        }
        let mut packet = Packet::parse(frame.payload).unwrap();
        let theirs = recorded_answer(&frames[row + 1..], packet.code);
        for tag in packet.tags.iter_mut().filter(|t| t.kind == tag::AC_COOKIE) {
            tag.value = &cookie; // the host returns ours instead of theirs
        }
        let from = Attachment { port: PortId(1), vlans: frame.vlans, mac: frame.src };
        let actions =
            server.on_frame(from, frame.dst, &packet, *at, UnixMs(1_000_000 + at.as_ms()), &cfg);
        let [action] = actions.as_slice() else { panic!("{name}: {actions:?}") };
        match action {
            Action::Reply { payload, .. } => {
                let ours = Packet::parse(payload).unwrap();
                if !rp_pppoe {
                    compare(name, &ours, &theirs.unwrap());
                }
                cookie = ours.tag(tag::AC_COOKIE).unwrap().to_vec();
                did.push("pado");
            }
            Action::Open { request, .. } => {
                let theirs = theirs.unwrap();
                let octets = pads(&cfg, request, theirs.session_id);
                if !rp_pppoe {
                    compare(name, &Packet::parse(&octets).unwrap(), &theirs);
                }
                did.push("open");
            }
            Action::Close { sid, .. } => {
                assert_ne!(*sid, 0);
                did.push("close");
            }
            Action::Drop(reason) => did.push(reason.label()),
        }
    }
    did
}

/// The next packet of the server that answers one of the host's.
fn recorded_answer(frames: &[(Tick, Vec<u8>)], asked: Code) -> Option<Packet<'_>> {
    let want = if asked == Code::Padi { Code::Pado } else { Code::Pads };
    frames
        .iter()
        .filter_map(|(_, octets)| {
            let frame = Frame::parse(octets).unwrap();
            let discovery = frame.ethertype == ethertype::PPPOE_DISCOVERY;
            discovery.then(|| Packet::parse(frame.payload).unwrap())
        })
        .find(|packet| packet.code == want)
}

/// Equal but for the value of the cookie.
fn compare(name: &str, ours: &Packet<'_>, theirs: &Packet<'_>) {
    fn blank<'a>(packet: &Packet<'a>) -> Vec<Tag<'a>> {
        let value = |t: &Tag<'a>| if t.kind == tag::AC_COOKIE { &[] } else { t.value };
        packet.tags.iter().map(|t| Tag::new(t.kind, value(t))).collect()
    }
    assert_eq!(
        (ours.code, ours.session_id, blank(ours)),
        (theirs.code, theirs.session_id, blank(theirs)),
        "{name}"
    );
}

#[test]
fn our_server_answers_as_accel_ppp_did() {
    for (name, frames) in cases() {
        let did = replay(&name, &frames);
        let want: &[&str] = match name.as_str() {
            "service-name-unknown" => &[DropReason::UnknownService.label(); 3],
            "client-restart-no-padt" => &["pado", "open", "pado", "open"],
            "lossy" => &["pado", "open", "open"], // the PADR is repeated 5 s later
            "bngblaster-tr101-line-attributes" | "rp-pppoe-userspace-client" => {
                &["pado", "open", "close"]
            }
            _ => &["pado", "open"],
        };
        assert_eq!(did, want, "{name}");
    }
}

#[test]
fn the_line_of_a_tr_101_tag_is_understood() {
    let name = "bngblaster-tr101-line-attributes";
    let (_, frames) = cases().into_iter().find(|(case, _)| case == name).unwrap();
    let frame = Frame::parse(&frames[0].1).unwrap();
    let line = Packet::parse(frame.payload).unwrap().line_info();
    assert_eq!(line.circuit_id.as_deref(), Some("0.0.0.0/0.0.0.0 eth 1:7"));
    assert_eq!(line.remote_id.as_deref(), Some("DEU.RTBRICK.1"));
    assert_eq!((line.up_kbps, line.down_kbps), (Some(1024), Some(16384)));
    assert_eq!(frame.src, MacAddr([2, 0, 0, 0, 0, 1]));
}

#[test]
fn the_error_text_of_a_padt_is_readable() {
    let name = "rp-pppoe-server";
    let (_, frames) = cases().into_iter().find(|(case, _)| case == name).unwrap();
    let last = Frame::parse(&frames.last().unwrap().1).unwrap();
    let (kind, text) = Packet::parse(last.payload).unwrap().error().unwrap();
    assert_eq!(kind, tag::GENERIC_ERROR);
    assert_eq!(text, "RP-PPPoE: Child pppd process terminated");
}
