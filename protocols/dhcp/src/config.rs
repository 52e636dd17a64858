use model::Ipv4Range;
use std::net::Ipv4Addr;

/// What the server tells the clients of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Addresses for clients.
    pub range: Ipv4Range,
    /// Prefix length of the network that `range` lies in: gives the subnet mask.
    pub prefix_len: u8,
    /// Router and server identifier. It moves with the group, so a lease renews at any owner.
    pub gateway: Ipv4Addr,
    /// DNS servers; [`DNS_MAX`](Self::DNS_MAX) of them are told.
    pub dns: Vec<Ipv4Addr>,
    /// Lease time in seconds.
    pub lease_s: u32,
    /// Interface MTU in octets (option 26).
    pub mtu: u16,
    /// Domain name (option 15), empty for none.
    pub domain: String,
}

impl PoolConfig {
    /// How many DNS servers a reply names at most.
    pub const DNS_MAX: usize = 8;

    /// The subnet mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix_len.min(32));
        Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0))
    }

    /// The broadcast address of the network (option 28).
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.range.first) | !u32::from(self.mask()))
    }

    /// Whether `address` belongs to the pool's network.
    #[must_use]
    pub fn in_network(&self, address: Ipv4Addr) -> bool {
        let mask = u32::from(self.mask());
        u32::from(address) & mask == u32::from(self.range.first) & mask
    }

    /// Whether `address` may be given to a client.
    #[must_use]
    pub fn is_grantable(&self, address: Ipv4Addr) -> bool {
        self.range.contains(address) && address != self.gateway
    }

    /// T1, when a client starts to renew: half the lease. RFC 2131 §4.4.5.
    #[must_use]
    pub fn t1_s(&self) -> u32 {
        self.lease_s / 2
    }

    /// T2, when a client starts to rebind: seven eighths of the lease. RFC 2131 §4.4.5.
    #[must_use]
    pub fn t2_s(&self) -> u32 {
        self.lease_s - self.lease_s.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefix_len: u8) -> PoolConfig {
        PoolConfig {
            range: "100.64.1.2-100.64.1.9".parse().unwrap(),
            prefix_len,
            gateway: Ipv4Addr::new(100, 64, 1, 1),
            dns: vec![],
            lease_s: 20,
            mtu: 1500,
            domain: String::new(),
        }
    }

    #[test]
    fn the_network_follows_from_the_range_and_the_prefix_length() {
        type Octets = [u8; 4];
        let rows: &[(u8, Octets, Octets, Octets, bool)] = &[
            // len, mask,                 broadcast,            address,         inside
            (24, [255, 255, 255, 0], [100, 64, 1, 255], [100, 64, 1, 200], true),
            (24, [255, 255, 255, 0], [100, 64, 1, 255], [100, 64, 2, 1], false),
            (10, [255, 192, 0, 0], [100, 127, 255, 255], [100, 127, 0, 1], true),
            (32, [255, 255, 255, 255], [100, 64, 1, 2], [100, 64, 1, 2], true),
            (0, [0, 0, 0, 0], [255, 255, 255, 255], [8, 8, 8, 8], true),
            (77, [255, 255, 255, 255], [100, 64, 1, 2], [100, 64, 1, 3], false),
        ];
        for &(len, mask, broadcast, address, inside) in rows {
            let cfg = pool(len);
            assert_eq!(cfg.mask(), Ipv4Addr::from(mask), "/{len}");
            assert_eq!(cfg.broadcast(), Ipv4Addr::from(broadcast), "/{len}");
            assert_eq!(cfg.in_network(address.into()), inside, "/{len} {address:?}");
        }
    }

    #[test]
    fn renewing_starts_at_half_and_rebinding_at_seven_eighths_of_the_lease() {
        for (lease_s, t1_s, t2_s) in
            [(3600, 1800, 3150), (20, 10, 17), (1, 0, 0), (u32::MAX, u32::MAX / 2, 3_758_096_383)]
        {
            let cfg = PoolConfig { lease_s, ..pool(24) };
            assert_eq!((cfg.t1_s(), cfg.t2_s()), (t1_s, t2_s), "lease of {lease_s} s");
        }
    }
}
