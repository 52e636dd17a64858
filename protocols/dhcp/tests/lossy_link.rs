//! Clients and the server over a link that loses, repeats, delays and reorders, with a log that
//! takes its time, loses outcomes, and changes hands. One seed decides everything.
//!
//! An address has one holder at any time, and no ACK leaves before its lease is in the log.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

#[path = "support/table.rs"]
mod table;

use dhcp::client::{self, Client, Event};
use dhcp::wire::{Message, MessageType};
use dhcp::{Action, ClientKey, Commit, Leases, Outcome, PoolConfig, Server, Token};
use model::{Attachment, MacAddr, PortId, Tick, Vlans};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use table::LeaseTable;

const CLIENTS: usize = 20;
/// Faults and restarts end here.
const QUIET_AT_MS: u64 = 600_000;
const END_AT_MS: u64 = 700_000;
const DELAY_MS_MAX: u64 = 50;
const COMMIT_MS_MAX: u64 = 20;
/// Time between two owners.
const TAKEOVER_MS: u64 = 45_000;

enum What {
    ToServer {
        client: usize,
        payload: Vec<u8>,
        dst_ip: Ipv4Addr,
    },
    ToClient {
        mac: MacAddr,
        payload: Vec<u8>,
    },
    Apply {
        owner: u64,
        token: Token,
        request: Commit,
    },
    Outcome {
        owner: u64,
        token: Token,
        outcome: Outcome,
    },
    Wake {
        client: usize,
    },
    /// The client is switched off, politely or not, and on again.
    Restart {
        client: usize,
    },
    Start {
        client: usize,
    },
    Takeover,
}

struct Sim {
    seed: u64,
    random: u64,
    now_ms: u64,
    sent: u64,
    queue: BTreeMap<(u64, u64), What>,
    cfg: PoolConfig,
    table: LeaseTable,
    server: Server,
    owner: u64,
    clients: Vec<Client>,
    held: BTreeMap<usize, Ipv4Addr>,
    /// When each client is woken next.
    wakes: BTreeMap<usize, u64>,
    seen: BTreeMap<&'static str, u32>,
}

impl Sim {
    fn new(seed: u64, prefix_pool: &str) -> Self {
        let cfg = PoolConfig {
            range: prefix_pool.parse().unwrap(),
            prefix_len: 24,
            gateway: Ipv4Addr::new(10, 70, 0, 1),
            dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
            lease_s: 20,
            mtu: 1500,
            domain: String::new(),
        };
        let mut sim = Self {
            seed,
            random: seed,
            now_ms: 0,
            sent: 0,
            queue: BTreeMap::new(),
            table: LeaseTable::new(&cfg),
            cfg,
            server: Server::new(),
            owner: 0,
            clients: vec![],
            held: BTreeMap::new(),
            wakes: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        for client in 0..CLIENTS {
            let fresh = sim.client(client, None);
            sim.clients.push(fresh);
            let (start, restart) = (sim.below(1_000), 5_000 + sim.below(60_000));
            sim.after(start, What::Start { client });
            sim.after(restart, What::Restart { client });
        }
        sim.after(TAKEOVER_MS, What::Takeover);
        sim
    }

    fn client(&mut self, client: usize, previous: Option<Ipv4Addr>) -> Client {
        let seed = self.below(u64::MAX);
        Client::new(
            client::Config {
                client_id: if client.is_multiple_of(2) { vec![] } else { mac(client).0.to_vec() },
                initial_retry: Duration::from_millis(500),
                renew_retry_min: Duration::from_secs(1),
                broadcast_flag: client.is_multiple_of(3),
                previous,
                ..client::Config::new(mac(client))
            },
            seed,
        )
    }

    /// A number below `bound`. Knuth's MMIX generator, upper bits.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent && self.now_ms < QUIET_AT_MS
    }

    fn after(&mut self, ms: u64, what: What) {
        self.sent += 1;
        self.queue.insert((self.now_ms + ms, self.sent), what);
    }

    /// Puts a message on the link.
    fn send(&mut self, what: impl Fn() -> What) {
        let copies = if self.happens(20) { 0 } else { 1 + u64::from(self.happens(10)) };
        for _ in 0..copies {
            let ms = 1 + self.below(DELAY_MS_MAX);
            self.after(ms, what());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn now(&self) -> Tick {
        Tick::from_ms(self.now_ms)
    }

    fn run(&mut self) {
        while let Some(((at_ms, _), what)) = self.queue.pop_first() {
            if at_ms > END_AT_MS {
                break;
            }
            self.now_ms = at_ms;
            self.table.expire(self.now());
            self.step(what);
        }
        for client in 0..CLIENTS {
            let key = self.key(client);
            let lease = self.table.by_client(&key).map(|lease| lease.address);
            let held = self.held.get(&client).copied();
            assert!(held.is_some(), "client {client} has no address, seed {}", self.seed);
            assert_eq!(lease, held, "client {client}, seed {}", self.seed);
        }
    }

    fn step(&mut self, what: What) {
        let now = self.now();
        match what {
            What::ToServer { client, payload, dst_ip } => {
                let from = self.key(client).attachment;
                let actions =
                    self.server.on_message(&self.table, &payload, from, dst_ip, now, &self.cfg);
                self.obey_server(actions);
            }
            What::ToClient { mac: to, payload } => {
                for client in 0..CLIENTS {
                    if to == mac(client) || to.is_multicast() {
                        self.tell(client, Event::Message(&payload));
                    }
                }
            }
            What::Apply { owner, token, request } => {
                let outcome = self.table.apply(&request, now);
                let ms = 1 + self.below(COMMIT_MS_MAX);
                self.after(ms, What::Outcome { owner, token, outcome });
            }
            What::Outcome { owner, token, outcome } if owner == self.owner => {
                let actions = self.server.on_committed(token, outcome, now, &self.cfg);
                self.obey_server(actions);
            }
            What::Outcome { .. } => self.count("outcome for a former owner"),
            What::Wake { client } if self.wakes.get(&client) == Some(&self.now_ms) => {
                self.wakes.remove(&client);
                self.tell(client, Event::Deadline);
            }
            What::Wake { .. } => {} // The deadline has moved since.
            What::Restart { client } => self.restart(client),
            What::Start { client } => self.tell(client, Event::Start),
            What::Takeover => self.take_over(),
        }
    }

    fn restart(&mut self, client: usize) {
        if self.now_ms >= QUIET_AT_MS {
            return;
        }
        let held = self.held.remove(&client);
        let mut previous = None;
        if self.happens(50) {
            self.tell(client, Event::Release);
            self.count("release");
        } else {
            previous = held.filter(|_| self.below(2) == 0);
            self.count(if previous.is_some() { "reboot" } else { "power loss" });
        }
        self.clients[client] = self.client(client, previous);
        // Longer than any copy of the RELEASE is under way: a late one would end the next lease.
        // Often longer than the lease.
        let off = 2_000 + self.below(30_000);
        self.after(off, What::Start { client });
        let again = off + 3_000 + self.below(60_000);
        self.after(again, What::Restart { client });
    }

    /// Another node owns the group: same log, nothing else.
    fn take_over(&mut self) {
        self.owner += 1;
        if self.owner.is_multiple_of(2) {
            self.server.clear();
        } else {
            self.server = Server::new();
        }
        self.after(TAKEOVER_MS, What::Takeover);
    }

    fn tell(&mut self, client: usize, event: Event<'_>) {
        let now = self.now();
        let actions = self.clients[client].step(event, now);
        for action in actions {
            match action {
                client::Action::Send { payload, dst_ip, .. } => {
                    self.send(|| What::ToServer { client, payload: payload.clone(), dst_ip });
                }
                client::Action::Bound { address, .. } => {
                    self.count("bound");
                    self.held.insert(client, address);
                    let holders: Vec<_> =
                        self.held.iter().filter(|(_, a)| **a == address).map(|(c, _)| *c).collect();
                    let (at, seed) = (self.now_ms, self.seed);
                    assert_eq!(holders, [client], "{address} at {at} ms, seed {seed}");
                }
                client::Action::Lost => {
                    self.count("lost");
                    self.held.remove(&client);
                }
            }
        }
        assert_eq!(self.clients[client].address(), self.held.get(&client).copied());
        if let Some(at) = self.clients[client].deadline() {
            let at_ms = at.as_ns().div_ceil(1_000_000).max(self.now_ms);
            if self.wakes.insert(client, at_ms) != Some(at_ms) {
                self.after(at_ms - self.now_ms, What::Wake { client });
            }
        }
    }

    fn obey_server(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply { to, payload } => {
                    self.check_reply(&payload);
                    self.send(|| What::ToClient { mac: to.mac, payload: payload.clone() });
                }
                Action::Commit { token, request } => self.commit(token, request),
                Action::Drop(reason) => self.count(reason.label()),
            }
        }
    }

    fn commit(&mut self, token: Token, request: Commit) {
        let owner = self.owner;
        let ms = 1 + self.below(COMMIT_MS_MAX);
        if self.happens(5) {
            self.count("unknown outcome");
            self.after(ms, What::Outcome { owner, token, outcome: Outcome::Unknown });
            if self.happens(50) {
                return; // And it is not applied either.
            }
            // The outcome of the late application finds its token gone.
        }
        self.after(ms, What::Apply { owner, token, request });
    }

    fn check_reply(&mut self, payload: &[u8]) {
        let message = Message::decode(payload).unwrap();
        match message.kind {
            MessageType::Ack => {
                let lease = self.table.by_address(message.yiaddr);
                let holder = lease.map(|lease| lease.key.attachment.mac);
                assert_eq!(holder, Some(message.chaddr), "ACK without a lease, seed {}", self.seed);
            }
            MessageType::Nak => self.count("nak"),
            MessageType::Offer => self.count("offer"),
            MessageType::Discover
            | MessageType::Request
            | MessageType::Decline
            | MessageType::Release
            | MessageType::Inform => panic!("a server sent {:?}", message.kind),
        }
    }

    fn key(&self, client: usize) -> ClientKey {
        let attachment = Attachment { port: PortId(1), vlans: Vlans::NONE, mac: mac(client) };
        let client_id = if client.is_multiple_of(2) { vec![] } else { attachment.mac.0.to_vec() };
        ClientKey { attachment, client_id }
    }
}

fn mac(client: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, u8::try_from(client).unwrap()])
}

#[test]
fn no_two_clients_hold_one_address_and_all_are_bound_when_the_link_calms_down() {
    let mut seen = BTreeMap::new();
    for seed in 1..=8 {
        let mut sim = Sim::new(seed, "10.70.0.100-10.70.0.122");
        sim.run();
        for (what, count) in sim.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    // A quiet simulation proves nothing.
    for what in [
        "bound",
        "lost",
        "nak",
        "offer",
        "release",
        "reboot",
        "power loss",
        "unknown outcome",
        "outcome for a former owner",
        "commit_pending",
        "unknown_client",
    ] {
        assert!(seen.get(what).is_some_and(|&n| n > 0), "{what} never happened: {seen:?}");
    }
}

#[test]
fn a_pool_that_just_suffices_is_fully_used_in_the_end() {
    for seed in 1..=3 {
        Sim::new(seed, "10.70.0.100-10.70.0.119").run();
    }
}
