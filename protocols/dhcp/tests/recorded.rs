//! Walks `tests/recorded/`: messages of real clients, and what this server answers.
//!
//! The log answers at once. `UPDATE_RECORDED=1` rewrites the answers; review the difference.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

#[path = "support/table.rs"]
mod table;

use dhcp::wire::{Message, code};
use dhcp::{Action, ClientKey, Commit, Leases, Outcome, PoolConfig, Server};
use model::{Attachment, MacAddr, PortId, Tick, Vlans};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use table::LeaseTable;

#[test]
fn real_clients_get_the_recorded_answers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let cases = sorted(&root, |path| path.is_dir());
    assert!(cases.len() >= 10, "cases are missing in {}", root.display());
    let update = std::env::var_os("UPDATE_RECORDED").is_some();
    let mut differences = String::new();
    for case in cases {
        for (out, got) in answers(&case) {
            if update {
                std::fs::write(&out, &got).unwrap();
            } else if std::fs::read_to_string(&out).unwrap_or_default() != got {
                writeln!(differences, "{} should now be:\n{got}", out.display()).unwrap();
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Plays one case: the names of its answer files with their contents.
fn answers(case: &Path) -> Vec<(PathBuf, String)> {
    let (cfg, mut table) = setup(case);
    let mut server = Server::new();
    let inputs = sorted(case, |path| path.extension().is_some_and(|e| e == "hex"));
    assert!(!inputs.is_empty(), "{} has no messages", case.display());
    let mut files = vec![];
    for input in inputs {
        let text = std::fs::read_to_string(&input).unwrap();
        let (header, body) = text.split_once('\n').unwrap();
        let words: Vec<_> = header.split_whitespace().collect();
        let ["#", "at", at, "ms", "from", mac, "to", dst_ip] = words[..] else {
            panic!("{}: header is {header:?}", input.display());
        };
        let now = Tick::from_ms(at.parse().unwrap());
        let payload = hex::decode(body.split_whitespace().collect::<String>()).unwrap();
        table.expire(now);
        let from = attachment(mac);
        let dst_ip = dst_ip.parse().unwrap();
        let mut todo = server.on_message(&table, &payload, from, dst_ip, now, &cfg);
        let mut text = String::new();
        while !todo.is_empty() {
            let action = todo.remove(0);
            describe(&mut text, &action);
            if let Action::Commit { token, request } = action {
                let outcome = table.apply(&request, now);
                writeln!(text, "outcome {outcome:?}").unwrap();
                todo.extend(server.on_committed(token, outcome, now, &cfg));
            }
        }
        let name = input.file_name().unwrap().to_str().unwrap().replace("-in.hex", "-out.txt");
        files.push((case.join(name), text));
    }
    files
}

fn setup(case: &Path) -> (PoolConfig, LeaseTable) {
    let mut cfg = PoolConfig {
        range: "0.0.0.0-0.0.0.0".parse().unwrap(),
        prefix_len: 0,
        gateway: Ipv4Addr::UNSPECIFIED,
        dns: vec![Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)],
        lease_s: 0,
        mtu: 1500,
        domain: "isp.example".to_owned(),
    };
    let mut held = vec![];
    for line in std::fs::read_to_string(case.join("setup.txt")).unwrap().lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["range", range] => cfg.range = range.parse().unwrap(),
            ["prefix_len", len] => cfg.prefix_len = len.parse().unwrap(),
            ["gateway", gateway] => cfg.gateway = gateway.parse().unwrap(),
            ["lease_s", lease_s] => cfg.lease_s = lease_s.parse().unwrap(),
            ["lease", mac, address] => held.push((attachment(mac), address.parse().unwrap())),
            _ => panic!("{}: setup line {line:?}", case.display()),
        }
    }
    let mut table = LeaseTable::new(&cfg);
    for (attachment, address) in held {
        let key = ClientKey { attachment, client_id: vec![] };
        let (hostname, relay_info, lease_s) = (String::new(), vec![], cfg.lease_s);
        let grant = Commit::Grant { key: key.clone(), address, hostname, relay_info, lease_s };
        assert!(matches!(table.apply(&grant, Tick::ZERO), Outcome::Granted { .. }));
        assert!(table.by_client(&key).is_some());
    }
    (cfg, table)
}

fn attachment(mac: &str) -> Attachment {
    let mac: MacAddr = mac.parse().unwrap();
    Attachment { port: PortId(1), vlans: Vlans::NONE, mac }
}

fn describe(text: &mut String, action: &Action) {
    match action {
        Action::Drop(reason) => writeln!(text, "drop {}: {reason}", reason.label()).unwrap(),
        Action::Commit { token, request } => {
            writeln!(text, "commit {} {request:?}", token.0).unwrap();
        }
        Action::Reply { to, payload } => {
            let m = Message::decode(payload).unwrap();
            writeln!(text, "reply to {} {} port {}", to.mac, to.ip, to.port).unwrap();
            writeln!(text, "  {:?} {:?} xid {:08x}", m.op, m.kind, m.xid).unwrap();
            writeln!(text, "  hops {} secs {} flags {:04x}", m.hops, m.secs, m.flags).unwrap();
            writeln!(text, "  ciaddr {} yiaddr {}", m.ciaddr, m.yiaddr).unwrap();
            writeln!(text, "  siaddr {} giaddr {}", m.siaddr, m.giaddr).unwrap();
            writeln!(text, "  chaddr {} octets {}", m.chaddr, payload.len()).unwrap();
            for (code, data) in m.options.iter() {
                writeln!(text, "  option {code} {}", value(code, data)).unwrap();
            }
        }
    }
}

fn value(code: u8, data: &[u8]) -> String {
    match (code, data) {
        (code::SUBNET_MASK | code::ROUTER | code::DNS | code::BROADCAST | code::SERVER_ID, _) => {
            let (addresses, rest) = data.as_chunks::<4>();
            assert!(rest.is_empty());
            let texts: Vec<_> = addresses.iter().map(|&a| Ipv4Addr::from(a).to_string()).collect();
            texts.join(" ")
        }
        (code::LEASE_TIME | code::T1 | code::T2, &[a, b, c, d]) => {
            format!("{} s", u32::from_be_bytes([a, b, c, d]))
        }
        (code::MTU, &[a, b]) => u16::from_be_bytes([a, b]).to_string(),
        (code::DOMAIN_NAME | code::MESSAGE, _) => String::from_utf8(data.to_vec()).unwrap(),
        _ => hex::encode(data),
    }
}

fn sorted(dir: &Path, keep: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| keep(path)).collect();
    paths.sort();
    paths
}
