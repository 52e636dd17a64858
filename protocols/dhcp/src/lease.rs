use model::{Attachment, MacAddr, SessionId, UnixMs};
use std::net::Ipv4Addr;

/// Who asks: the client identifier (option 61) where there is one, else the hardware address.
///
/// RFC 2131 §4.2. Port and VLANs belong to the identity in both cases: a subscriber who copies the
/// identifier of one behind another port is a different client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientKey {
    /// Access port, VLANs, and the hardware address of the client (`chaddr`).
    pub attachment: Attachment,
    /// Option 61 as received, empty when there was none.
    pub client_id: Vec<u8>,
}

impl ClientKey {
    /// The key to compare and to index by: without the hardware address where option 61 identifies.
    #[must_use]
    pub fn identity(&self) -> Self {
        let mut key = self.clone();
        if !key.client_id.is_empty() {
            key.attachment.mac = MacAddr::default();
        }
        key
    }

    /// A number that depends on the identity only, equal on every node and in every build.
    ///
    /// It picks where in the pool the search for an address starts, so that a client tends to get
    /// the address it had, also from another owner. FNV-1a, 64 bits.
    pub(crate) fn hash(&self) -> u64 {
        let key = self.identity();
        let at = key.attachment;
        let numbers = [at.port.0, at.vlans.outer, at.vlans.inner];
        let octets =
            numbers.into_iter().flat_map(u16::to_be_bytes).chain(at.mac.0).chain(key.client_id);
        octets.fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// A committed, unexpired lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The session that carries it.
    pub session: SessionId,
    /// Who holds it.
    pub key: ClientKey,
    /// The address.
    pub address: Ipv4Addr,
    /// When it ends.
    pub expires_at: UnixMs,
}

/// What the server needs to know of the group's leases: the replicated state.
///
/// Offers that this server has made itself need not show here; [`Server`](crate::Server) keeps them.
pub trait Leases {
    /// The lease of a client, found by [`ClientKey::identity`].
    fn by_client(&self, key: &ClientKey) -> Option<Lease>;
    /// The lease on an address, whoever holds it.
    fn by_address(&self, address: Ipv4Addr) -> Option<Lease>;
    /// A free address of the pool, `wanted` if it is free; `None` when the pool is exhausted.
    fn free(&self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{PortId, Vlans};

    fn key(port: u16, mac: u8, client_id: &[u8]) -> ClientKey {
        let mac = MacAddr([2, 0, 0, 0, 0, mac]);
        let attachment = Attachment { port: PortId(port), vlans: Vlans::NONE, mac };
        ClientKey { attachment, client_id: client_id.to_vec() }
    }

    #[test]
    fn option_61_identifies_a_client_where_it_is_and_the_hardware_address_where_not() {
        let rows = [
            (key(1, 1, b""), key(1, 1, b""), true),
            (key(1, 1, b""), key(1, 2, b""), false),
            (key(1, 1, b"id"), key(1, 2, b"id"), true),
            (key(1, 1, b"id"), key(1, 1, b"di"), false),
            (key(1, 1, b"id"), key(1, 1, b""), false),
            (key(1, 1, b"id"), key(2, 1, b"id"), false),
        ];
        for (a, b, same) in rows {
            assert_eq!(a.identity() == b.identity(), same, "{a:?} {b:?}");
            assert_eq!(a.hash() == b.hash(), same, "{a:?} {b:?}");
        }
    }
}
