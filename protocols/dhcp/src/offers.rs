use crate::ClientKey;
use model::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How many offers are remembered. A flood of DISCOVERs pushes out the oldest: an offer is only a
/// hint, the log decides who gets the address, so losing one costs at worst a NAK.
pub const MAX_OFFERS: usize = 1024;
/// How long an address stays set aside for the client that it was offered to.
pub const OFFER_HOLD: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Offer {
    address: Ipv4Addr,
    expires_at: Tick,
}

/// Addresses offered and not yet requested: one per client, one client per address.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    by_client: BTreeMap<ClientKey, Offer>,
    by_address: BTreeMap<Ipv4Addr, ClientKey>,
    by_expiry: BTreeSet<(Tick, Ipv4Addr)>,
}

impl Offers {
    /// Remembers an offer in place of the client's last one, and of another client's for the address.
    pub(crate) fn put(&mut self, client: ClientKey, address: Ipv4Addr, now: Tick) {
        self.remove(&client);
        if let Some(other) = self.by_address.get(&address).cloned() {
            self.remove(&other);
        }
        if self.by_client.len() >= MAX_OFFERS {
            self.remove_oldest();
        }
        let expires_at = now + OFFER_HOLD;
        self.by_expiry.insert((expires_at, address));
        self.by_address.insert(address, client.clone());
        self.by_client.insert(client, Offer { address, expires_at });
    }

    /// The address set aside for a client.
    pub(crate) fn address_of(&self, client: &ClientKey) -> Option<Ipv4Addr> {
        self.by_client.get(client).map(|offer| offer.address)
    }

    /// The client that an address is set aside for.
    pub(crate) fn client_of(&self, address: Ipv4Addr) -> Option<&ClientKey> {
        self.by_address.get(&address)
    }

    /// Forgets a client's offer.
    pub(crate) fn remove(&mut self, client: &ClientKey) {
        if let Some(offer) = self.by_client.remove(client) {
            self.by_address.remove(&offer.address);
            self.by_expiry.remove(&(offer.expires_at, offer.address));
        }
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: Tick) {
        while self.deadline().is_some_and(|at| at <= now) {
            self.remove_oldest();
        }
    }

    /// When the oldest offer expires.
    pub(crate) fn deadline(&self) -> Option<Tick> {
        self.by_expiry.first().map(|&(at, _)| at)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove_oldest(&mut self) {
        if let Some((_, address)) = self.by_expiry.pop_first()
            && let Some(client) = self.by_address.remove(&address)
        {
            self.by_client.remove(&client);
        }
    }
}
