//! Replays recorded clients against our server: `tests/recorded/<case>/`.
//!
//! `case.txt` holds settings and the random values, `NN-in.hex` a frame of the client with its time,
//! `NN-out.txt` what our server does until and upon it (`00`: upon the start, the last one: also
//! afterwards). `UPDATE_RECORDED=1` rewrites the outputs; review the difference.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use model::{DownReason, Tick};
use ppp::wire::{Packet, protocol, split};
use ppp::{
    Action, Addresses, AuthOutcome, AuthProtocol, Event, Seed, Server, ServerConfig, SessionOutcome,
};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the server is watched after the last frame.
const AFTERMATH: Duration = Duration::from_secs(10);

struct Replay {
    server: Server,
    cfg: ServerConfig,
    password: String,
    now: Tick,
    log: String,
    downs: Vec<DownReason>,
}

impl Replay {
    fn new(case: &str) -> Self {
        let values: BTreeMap<&str, &str> =
            case.lines().map(|line| line.split_once(' ').unwrap()).collect();
        let auth = values["auth"].split(',').map(|name| match name {
            "pap" => AuthProtocol::Pap,
            "chap-md5" => AuthProtocol::ChapMd5,
            other => panic!("no authentication protocol {other}"),
        });
        let challenge = values.get("challenge").copied().unwrap_or("");
        let seed = Seed {
            magic: u32::from_str_radix(values["magic"], 16).unwrap(),
            challenge: hex::decode(challenge).unwrap().try_into().unwrap_or([0; 16]),
            chap_id: values.get("chap_id").map_or(1, |id| id.parse().unwrap()),
        };
        let cfg = ServerConfig {
            auth: auth.collect(),
            name: "bng1".to_owned(),
            echo_interval: Duration::from_secs(values["echo_s"].parse().unwrap()),
            ..ServerConfig::default()
        };
        let password = values["password"].to_owned();
        let (now, log, downs) = (Tick::ZERO, String::new(), Vec::new());
        Self { server: Server::new(seed), cfg, password, now, log, downs }
    }

    fn step(&mut self, event: Event<'_>) {
        let before = self.server.dropped();
        let actions = self.server.step(event, self.now, &self.cfg);
        let after = self.server.dropped();
        if after != before {
            writeln!(self.log, "drop {}", after.last.unwrap().label()).unwrap();
        }
        for action in actions {
            match action {
                Action::Send(frame) => writeln!(self.log, "send {}", text(&frame)).unwrap(),
                Action::Authenticate(credentials) => {
                    let is_right = credentials.verify(&self.password);
                    let verdict = if is_right { "accepted" } else { "rejected" };
                    let user = credentials.username();
                    writeln!(self.log, "authenticate {user}: {verdict}").unwrap();
                    let message = String::new();
                    self.step(Event::Auth(if is_right {
                        AuthOutcome::Accepted { message }
                    } else {
                        AuthOutcome::Rejected { message }
                    }));
                }
                Action::RequestSession(link) => {
                    writeln!(self.log, "request session {link:?}").unwrap();
                    self.step(Event::Session(SessionOutcome::Granted(Addresses {
                        local: Ipv4Addr::new(100, 64, 0, 1),
                        peer: Ipv4Addr::new(100, 64, 0, 2),
                        dns: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
                    })));
                }
                Action::Up(link) => {
                    writeln!(self.log, "up mtu {} mru {}", link.mtu, link.mru).unwrap();
                }
                Action::Down(reason) => {
                    writeln!(self.log, "down {}", reason.label()).unwrap();
                    self.downs.push(reason);
                }
            }
        }
    }

    fn wait_until(&mut self, end: Tick) {
        while let Some(at) = self.server.deadline().filter(|at| *at <= end) {
            self.now = at;
            writeln!(self.log, "at {} ms", at.as_ms()).unwrap();
            self.step(Event::Deadline);
        }
        self.now = end;
    }
}

/// A frame as protocol, code, identifier and data.
fn text(frame: &[u8]) -> String {
    let (number, information) = split(frame).unwrap();
    let packet = Packet::parse(information).unwrap();
    assert_eq!(packet.whole.len(), information.len(), "a frame of ours has no padding");
    let (name, codes): (_, &[&str]) = match number {
        protocol::LCP | protocol::IPCP => (
            if number == protocol::LCP { "LCP" } else { "IPCP" },
            &[
                "Configure-Request",
                "Configure-Ack",
                "Configure-Nak",
                "Configure-Reject",
                "Terminate-Request",
                "Terminate-Ack",
                "Code-Reject",
                "Protocol-Reject",
                "Echo-Request",
                "Echo-Reply",
            ],
        ),
        protocol::PAP => ("PAP", &["Request", "Ack", "Nak"]),
        protocol::CHAP => ("CHAP", &["Challenge", "Response", "Success", "Failure"]),
        other => panic!("the server spoke protocol {other:#06x}"),
    };
    let code = codes[usize::from(packet.code) - 1];
    format!("{name} {code} id {} {}", packet.id, hex::encode(packet.data)).trim_end().to_owned()
}

fn check(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_RECORDED").is_some() {
        fs::write(path, got).unwrap();
        return;
    }
    let want = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(got, want, "{} (UPDATE_RECORDED=1 rewrites it)", path.display());
}

fn replay(case: &Path) -> Vec<DownReason> {
    let mut inputs: Vec<PathBuf> = fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with("-in.hex"))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} has no frames", case.display());
    let mut replay = Replay::new(&fs::read_to_string(case.join("case.txt")).unwrap());
    replay.step(Event::Start);
    check(&case.join("00-out.txt"), &std::mem::take(&mut replay.log));
    for (n, input) in inputs.iter().enumerate() {
        let file = fs::read_to_string(input).unwrap();
        let (head, frame) = file.trim().split_once('\n').unwrap();
        let at_ms = head.trim_start_matches("# ").split(' ').next().unwrap().parse().unwrap();
        replay.wait_until(Tick::from_ms(at_ms));
        replay.step(Event::Frame(&hex::decode(frame).unwrap()));
        if n + 1 == inputs.len() {
            replay.wait_until(replay.now + AFTERMATH);
        }
        let out = input.to_string_lossy().replace("-in.hex", "-out.txt");
        check(Path::new(&out), &std::mem::take(&mut replay.log));
    }
    replay.downs
}

#[test]
fn the_server_answers_recorded_clients_as_reviewed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 13, "cases are missing");
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        // Whatever the files say: a refused client ends so, and one that hangs up so.
        let want = if name.starts_with("auth-fail") || name == "auth-refused" {
            DownReason::NegotiationFailed
        } else {
            DownReason::UserRequest
        };
        assert_eq!(replay(&case), [want], "{name}");
    }
}
