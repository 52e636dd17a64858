use crate::request::Request;
use crate::{ClientKey, Token};
use model::Tick;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How many requests may wait for the log. Clients beyond are left without an answer and repeat.
pub const MAX_PENDING: usize = 4096;
/// Room beyond [`MAX_PENDING`] that only RELEASE and DECLINE may use: they free what others wait for.
pub const RELEASE_RESERVE: usize = 1024;
/// How long an outcome is waited for; then the request counts as lost and the client will repeat it.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// What the log was asked to do for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A lease on the address, answered with an ACK.
    Lease { address: Ipv4Addr, is_new: bool, request: Box<Request> },
    /// The end of a lease, which has no answer.
    End,
}

#[derive(Debug)]
struct Entry {
    client: ClientKey,
    wait: Wait,
    expires_at: Tick,
}

/// Requests on their way through the log: one per client.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Ordered by token, hence by age, hence by expiry.
    entries: BTreeMap<Token, Entry>,
    by_client: BTreeMap<ClientKey, Token>,
    /// Addresses of leases that are new.
    new_addresses: BTreeMap<Ipv4Addr, ClientKey>,
    /// Never reset: an outcome that comes late must not meet another request.
    last_token: u64,
}

impl Pending {
    /// Notes a request and names it; replaces what the client was waiting for. `None` when full.
    pub(crate) fn insert(&mut self, client: &ClientKey, wait: Wait, now: Tick) -> Option<Token> {
        let limit = match wait {
            Wait::Lease { .. } => MAX_PENDING,
            Wait::End => MAX_PENDING + RELEASE_RESERVE,
        };
        if self.entries.len() >= limit {
            return None;
        }
        if let Some(&token) = self.by_client.get(client) {
            self.remove(token);
        }
        self.last_token += 1;
        let token = Token(self.last_token);
        if let Wait::Lease { address, is_new: true, .. } = wait {
            self.new_addresses.insert(address, client.clone());
        }
        self.by_client.insert(client.clone(), token);
        let client = client.clone();
        self.entries.insert(token, Entry { client, wait, expires_at: now + COMMIT_WAIT_MAX });
        Some(token)
    }

    /// What a client waits for.
    pub(crate) fn of_client(&mut self, client: &ClientKey) -> Option<&mut Wait> {
        let token = self.by_client.get(client)?;
        self.entries.get_mut(token).map(|entry| &mut entry.wait)
    }

    /// The address that a client is being granted.
    pub(crate) fn new_address_of(&self, client: &ClientKey) -> Option<Ipv4Addr> {
        match self.entries.get(self.by_client.get(client)?)?.wait {
            Wait::Lease { address, is_new: true, .. } => Some(address),
            Wait::Lease { is_new: false, .. } | Wait::End => None,
        }
    }

    /// The client that is being granted an address.
    pub(crate) fn client_of(&self, address: Ipv4Addr) -> Option<&ClientKey> {
        self.new_addresses.get(&address)
    }

    /// Takes out the request that an outcome belongs to.
    pub(crate) fn remove(&mut self, token: Token) -> Option<Wait> {
        let entry = self.entries.remove(&token)?;
        self.by_client.remove(&entry.client);
        if let Wait::Lease { address, is_new: true, .. } = entry.wait {
            self.new_addresses.remove(&address);
        }
        Some(entry.wait)
    }

    /// Forgets requests whose outcome never came.
    pub(crate) fn expire(&mut self, now: Tick) {
        while let Some((&token, entry)) = self.entries.first_key_value()
            && entry.expires_at <= now
        {
            self.remove(token);
        }
    }

    /// When the oldest request counts as lost.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.entries.first_key_value().map(|(_, entry)| entry.expires_at)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { last_token: self.last_token, ..Self::default() };
    }
}
