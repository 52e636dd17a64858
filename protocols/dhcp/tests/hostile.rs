//! Octets that no honest peer sends. Nothing may panic, and state stays bounded.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

#[path = "support/table.rs"]
mod table;

use dhcp::client::{Client, Config, Event};
use dhcp::wire::{Message, MessageType, code};
use dhcp::{Action, Outcome, PoolConfig, Server};
use model::{Attachment, MacAddr, PortId, SessionId, Tick, Vlans};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use table::LeaseTable;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const FROM: Attachment = Attachment { port: PortId(1), vlans: Vlans::NONE, mac: MAC };

fn pool() -> PoolConfig {
    PoolConfig {
        range: "10.70.0.100-10.70.0.103".parse().unwrap(),
        prefix_len: 24,
        gateway: Ipv4Addr::new(10, 70, 0, 1),
        dns: vec![],
        lease_s: u32::MAX,
        mtu: 1500,
        domain: "isp.example".to_owned(),
    }
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        Just(Ipv4Addr::UNSPECIFIED),
        Just(Ipv4Addr::BROADCAST),
        (99_u8..105).prop_map(|last| Ipv4Addr::new(10, 70, 0, last)),
        Just(Ipv4Addr::new(10, 70, 0, 1)),
        any::<u32>().prop_map(Ipv4Addr::from),
    ]
}

fn kind() -> impl Strategy<Value = MessageType> {
    prop_oneof![
        Just(MessageType::Discover),
        Just(MessageType::Offer),
        Just(MessageType::Request),
        Just(MessageType::Decline),
        Just(MessageType::Ack),
        Just(MessageType::Nak),
        Just(MessageType::Release),
        Just(MessageType::Inform),
    ]
}

/// Options that the server or the client looks at, with data of any length, sensible or not.
fn options() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let known = prop::sample::select(vec![
        1, 3, 6, 12, 15, 26, 28, 50, 51, 54, 55, 56, 57, 58, 59, 61, 82, 121, 254,
    ]);
    let sensible =
        (prop::sample::select(vec![code::REQUESTED_ADDRESS, code::SERVER_ID]), address())
            .prop_map(|(code, a)| (code, a.octets().to_vec()));
    let any_data = (known, prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(prop_oneof![2 => sensible, 1 => any_data], 0..6)
}

prop_compose! {
    fn message()(
        kind in kind(), xid in any::<u32>(), secs in any::<u16>(), flags in any::<u16>(),
        hops in any::<u8>(), ciaddr in address(), yiaddr in address(), giaddr in address(),
        last in 0_u8..4, options in options(),
    ) -> Message {
        let chaddr = MacAddr([2, 0, 0, 0, 0, last]);
        let mut m = Message::from_client(kind, xid, chaddr);
        (m.secs, m.flags, m.hops) = (secs, flags, hops);
        (m.ciaddr, m.yiaddr, m.giaddr) = (ciaddr, yiaddr, giaddr);
        for (code, data) in options {
            m.options.push(code, &data);
        }
        m
    }
}

/// A message with some octets changed and its end cut off.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (
        message(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(m, changes, end)| {
            let mut octets = m.encode();
            for (at, octet) in changes {
                let at = at.index(octets.len());
                octets[at] = octet;
            }
            let end = end.index(octets.len()) + 1;
            if end.is_multiple_of(3) {
                octets.truncate(end);
            }
            octets
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..700)) {
        let cfg = pool();
        let table = LeaseTable::new(&cfg);
        let _ = Message::decode(&octets);
        let actions =
            Server::new().on_message(&table, &octets, FROM, Ipv4Addr::BROADCAST, Tick::ZERO, &cfg);
        prop_assert_eq!(actions.len(), 1);
        let mut client = Client::new(Config::new(MAC), 1);
        let _ = client.step(Event::Start, Tick::ZERO);
        prop_assert!(client.step(Event::Message(&octets), Tick::ZERO).is_empty());
    }

    #[test]
    fn random_options_after_a_good_header_never_panic(
        options in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let mut octets = Message::from_client(MessageType::Discover, 1, MAC).encode();
        octets.truncate(243);
        octets.extend(options);
        let _ = Message::decode(&octets);
    }

    #[test]
    fn a_message_survives_the_wire(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn any_sequence_of_messages_gets_one_action_each_and_every_reply_can_be_read(
        script in prop::collection::vec((damaged(), address(), any::<bool>(), 0_u64..3_000), 1..60)
    ) {
        let cfg = pool();
        let mut table = LeaseTable::new(&cfg);
        let mut server = Server::new();
        let mut now_ms = 0;
        for (octets, dst_ip, commits, wait_ms) in script {
            now_ms += wait_ms;
            let now = Tick::from_ms(now_ms);
            table.expire(now);
            let mac = octets.get(28..34).map_or(MAC, |m| MacAddr(m.try_into().unwrap()));
            let from = Attachment { mac, ..FROM };
            let mut actions = server.on_message(&table, &octets, from, dst_ip, now, &cfg);
            prop_assert_eq!(actions.len(), 1);
            if let Action::Commit { token, request } = actions[0].clone() {
                let outcome = if commits { table.apply(&request, now) } else { Outcome::Refused };
                actions = server.on_committed(token, outcome, now, &cfg);
                prop_assert!(actions.len() <= 1);
            }
            for action in actions {
                if let Action::Reply { payload, .. } = action {
                    prop_assert!(Message::decode(&payload).is_ok());
                }
            }
            prop_assert!(server.offers_outstanding() <= 4, "more offers than addresses");
            prop_assert_eq!(server.commits_pending(), 0);
        }
        server.clear();
        let granted = Outcome::Granted { session: SessionId(1), address: cfg.range.first };
        let late = server.on_committed(dhcp::Token(1), granted, Tick::from_ms(now_ms), &cfg);
        prop_assert!(late.is_empty());
    }

    #[test]
    fn a_client_survives_any_reply(
        replies in prop::collection::vec((message(), any::<bool>(), 0_u64..100_000), 1..40)
    ) {
        let mut client = Client::new(Config::new(MAC), 1);
        let mut now_ms = 0;
        let mut xid = 0;
        let mut actions = client.step(Event::Start, Tick::ZERO);
        for (mut reply, is_reply, wait_ms) in replies {
            for action in actions {
                if let dhcp::client::Action::Send { payload, .. } = action {
                    xid = Message::decode(&payload).unwrap().xid;
                }
            }
            now_ms += wait_ms;
            let now = Tick::from_ms(now_ms);
            actions = client.step(Event::Deadline, now);
            if is_reply {
                (reply.xid, reply.chaddr, reply.op) = (xid, MAC, dhcp::wire::Op::Reply);
            }
            actions.extend(client.step(Event::Message(&reply.encode()), now));
            prop_assert!(client.deadline().is_some(), "a started client always goes on");
        }
    }
}
