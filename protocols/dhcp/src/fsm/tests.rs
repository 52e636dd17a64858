use super::*;
use crate::wire::{CLIENT_PORT, Message, Op, Options, SERVER_PORT, code};
use crate::{COMMIT_WAIT_MAX, MAX_PENDING, OFFER_HOLD, RELEASE_RESERVE};
use model::{MacAddr, PortId, Vlans};
use std::time::Duration;
use table::LeaseTable;

mod answers;
mod limits;
mod requests;
#[path = "../../tests/support/table.rs"]
mod table;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 70, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;
const RELAY: Attachment = Attachment {
    port: PortId(1),
    vlans: Vlans { outer: 100, inner: 0 },
    mac: MacAddr([2, 0, 0, 0, 9, 9]),
};

/// An address of the pool, .100 to .109.
fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 70, 0, last)
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn at(n: u8) -> Attachment {
    Attachment { mac: mac(n), ..RELAY }
}

fn message(kind: MessageType, n: u8) -> Message {
    Message::from_client(kind, 0x0100 + u32::from(n), mac(n))
}

fn discover(n: u8) -> Message {
    message(MessageType::Discover, n)
}

/// REQUEST in SELECTING.
fn select(n: u8, address: Ipv4Addr) -> Message {
    let mut m = reboot(n, address);
    m.options.push(code::SERVER_ID, &GATEWAY.octets());
    m
}

/// REQUEST in INIT-REBOOT.
fn reboot(n: u8, address: Ipv4Addr) -> Message {
    let mut m = message(MessageType::Request, n);
    m.options.push(code::REQUESTED_ADDRESS, &address.octets());
    m
}

/// REQUEST in RENEWING or REBINDING.
fn renew(n: u8, address: Ipv4Addr) -> Message {
    let mut m = message(MessageType::Request, n);
    m.ciaddr = address;
    m
}

fn release(n: u8, address: Ipv4Addr) -> Message {
    let mut m = message(MessageType::Release, n);
    m.ciaddr = address;
    m.options.push(code::SERVER_ID, &GATEWAY.octets());
    m
}

fn decline(n: u8, address: Ipv4Addr) -> Message {
    let mut m = message(MessageType::Decline, n);
    m.options.push(code::REQUESTED_ADDRESS, &address.octets());
    m.options.push(code::SERVER_ID, &GATEWAY.octets());
    m
}

fn with(mut m: Message, code: u8, data: &[u8]) -> Message {
    m.options.push(code, data);
    m
}

struct Bench {
    server: Server,
    table: LeaseTable,
    cfg: PoolConfig,
    now: Tick,
}

impl Bench {
    fn new() -> Self {
        let cfg = PoolConfig {
            range: "10.70.0.100-10.70.0.109".parse().unwrap(),
            prefix_len: 24,
            gateway: GATEWAY,
            dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
            lease_s: 3600,
            mtu: 1492,
            domain: "isp.example".to_owned(),
        };
        let (server, table) = (Server::new(), LeaseTable::new(&cfg));
        Self { server, table, cfg, now: Tick::from_ms(1_000) }
    }

    /// Delivers a message that came straight from the client.
    fn hear(&mut self, m: &Message, dst_ip: Ipv4Addr) -> Action {
        self.hear_from(m, Attachment { mac: m.chaddr, ..RELAY }, dst_ip)
    }

    fn hear_from(&mut self, m: &Message, from: Attachment, dst_ip: Ipv4Addr) -> Action {
        self.hear_octets(&m.encode(), from, dst_ip)
    }

    fn hear_octets(&mut self, octets: &[u8], from: Attachment, dst_ip: Ipv4Addr) -> Action {
        self.table.expire(self.now);
        let mut actions =
            self.server.on_message(&self.table, octets, from, dst_ip, self.now, &self.cfg);
        assert_eq!(actions.len(), 1, "{actions:?}");
        actions.remove(0)
    }

    /// Delivers a message, and the outcome of what it made the log do.
    fn settle(&mut self, m: &Message, dst_ip: Ipv4Addr) -> Vec<Action> {
        let action = self.hear(m, dst_ip);
        let Action::Commit { token, ref request } = action else { return vec![action] };
        let outcome = self.table.apply(request, self.now);
        self.server.on_committed(token, outcome, self.now, &self.cfg)
    }

    /// Gives a client a lease.
    fn lease(&mut self, n: u8, address: Ipv4Addr) -> SessionId {
        let got = self.settle(&select(n, address), ALL);
        assert_eq!(texts(&got), [format!("Ack {address} to {address}")]);
        self.table.by_address(address).unwrap().session
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }
}

/// What an action amounts to, on one line.
fn text(action: &Action) -> String {
    match action {
        Action::Drop(reason) => format!("drop {}", reason.label()),
        Action::Reply { to, payload } => {
            let m = Message::decode(payload).unwrap();
            format!("{:?} {} to {}", m.kind, m.yiaddr, to.ip)
        }
        Action::Commit { request, .. } => match request {
            Commit::Grant { key, address, .. } => {
                format!("grant {address} to {}", key.attachment.mac)
            }
            Commit::Renew { session, .. } => format!("renew {session}"),
            Commit::Release { session } => format!("release {session}"),
            Commit::Decline { session, address } => {
                format!("decline {address} of {}", session.map_or(0, |s| s.0))
            }
        },
    }
}

fn texts(actions: &[Action]) -> Vec<String> {
    actions.iter().map(text).collect()
}

fn reply(action: &Action) -> (Destination, Message) {
    match action {
        Action::Reply { to, payload } => (*to, Message::decode(payload).unwrap()),
        Action::Commit { .. } | Action::Drop(_) => panic!("no reply: {action:?}"),
    }
}

fn token(action: &Action) -> Token {
    match action {
        Action::Commit { token, .. } => *token,
        Action::Reply { .. } | Action::Drop(_) => panic!("no commit: {action:?}"),
    }
}

fn codes(options: &Options) -> Vec<u8> {
    options.iter().map(|(code, _)| code).collect()
}
