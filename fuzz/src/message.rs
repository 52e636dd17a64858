use dhcp::client::{self, Client};
use dhcp::wire::Message;
use dhcp::{Action, ClientKey, Lease, Leases, Outcome, PoolConfig, Server};
use model::{Attachment, MacAddr, PortId, SessionId, Tick, UnixMs, Vlans};
use std::net::Ipv4Addr;

const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 2, 0xc1]);

/// One lease on the first address, everything else free.
struct Table(PoolConfig, Option<Lease>);

impl Leases for Table {
    fn by_client(&self, key: &ClientKey) -> Option<Lease> {
        self.1.clone().filter(|l| l.key.identity() == key.identity())
    }

    fn by_address(&self, address: Ipv4Addr) -> Option<Lease> {
        self.1.clone().filter(|l| l.address == address)
    }

    fn free(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let is_free = |a: &Ipv4Addr| self.0.is_grantable(*a) && self.by_address(*a).is_none();
        wanted.filter(is_free).or_else(|| self.0.range.nth(1))
    }
}

fn pool() -> PoolConfig {
    PoolConfig {
        range: "10.70.0.100-10.70.0.200".parse().expect("a range"),
        prefix_len: 24,
        gateway: Ipv4Addr::new(10, 70, 0, 1),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
        lease_s: 20,
        mtu: 1500,
        domain: "isp.example".to_owned(),
    }
}

pub(crate) fn dhcp_message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
    to_server(data);
    to_client(data);
}

fn to_server(data: &[u8]) {
    let cfg = pool();
    let from = Attachment { port: PortId(1), vlans: Vlans::NONE, mac: CLIENT };
    let key = ClientKey { attachment: from, client_id: vec![] };
    let address = Ipv4Addr::new(10, 70, 0, 100);
    let lease = Lease { session: SessionId(1), key, address, expires_at: UnixMs(u64::MAX) };
    for (held, dst_ip) in [(None, Ipv4Addr::BROADCAST), (Some(lease), cfg.gateway)] {
        let table = Table(cfg.clone(), held);
        let mut server = Server::new();
        // The second time the first one's offer or request is open.
        for ms in [0, 1500] {
            let now = Tick::from_ms(ms);
            for action in server.on_message(&table, data, from, dst_ip, now, &cfg) {
                let Action::Commit { token, .. } = action else { continue };
                let granted = Outcome::Granted { session: SessionId(2), address };
                for reply in server.on_committed(token, granted, now, &cfg) {
                    let Action::Reply { payload, .. } = reply else { continue };
                    assert!(Message::decode(&payload).is_ok());
                }
            }
        }
    }
}

/// Delivers the message as an answer to whatever the client has asked last.
fn to_client(data: &[u8]) {
    let mut client = Client::new(client::Config::new(CLIENT), 7);
    let mut actions = client.step(client::Event::Start, Tick::ZERO);
    for ms in [10, 20, 5000] {
        let now = Tick::from_ms(ms);
        let asked = actions.iter().find_map(|action| match action {
            client::Action::Send { payload, .. } => payload.get(4..8),
            client::Action::Bound { .. } | client::Action::Lost => None,
        });
        let mut answer = data.to_vec();
        if let (Some(xid), Some(field)) = (asked, answer.get_mut(4..8)) {
            field.copy_from_slice(xid);
        }
        if let Some(field) = answer.get_mut(28..34) {
            field.copy_from_slice(&CLIENT.0);
        }
        actions = client.step(client::Event::Message(&answer), now);
        actions.extend(client.step(client::Event::Deadline, now));
    }
}
