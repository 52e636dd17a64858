//! Port blocks of public addresses.

use super::ranges::RangeSet;
use model::{NatBlock, NatPool};
use std::net::Ipv4Addr;

/// The first port that a block may hold: those below are for well-known services.
const FIRST_PORT: u32 = 1024;
const PORTS: u32 = 65_536;

/// How full the public addresses of a pool are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatUsage {
    /// Port blocks that the public addresses hold.
    pub blocks: u64,
    /// Blocks in use, by all pools that share these public addresses.
    pub used: u64,
}

/// The port blocks of a range of public addresses, shared by the pools that name the same range and
/// block size.
///
/// Block `n` is the `n % per_address`-th of address `n / per_address`.
#[derive(Clone, Debug)]
pub(super) struct NatSpace {
    pub(super) nat: NatPool,
    /// Pools that use it.
    pub(super) pools: u64,
    free: RangeSet,
}

/// The port where the first block of an address starts: a multiple of the block size.
fn first_port(ports_per_block: u16) -> u32 {
    let size = u32::from(ports_per_block).max(1);
    FIRST_PORT.div_ceil(size) * size
}

/// How many blocks one public address has; 0 when the block size leaves no room.
pub(super) fn blocks_per_address(ports_per_block: u16) -> u64 {
    if ports_per_block == 0 {
        return 0;
    }
    let ports = PORTS.saturating_sub(first_port(ports_per_block));
    u64::from(ports / u32::from(ports_per_block))
}

impl NatSpace {
    pub(super) fn new(nat: NatPool) -> Self {
        let blocks = nat.public.count() * blocks_per_address(nat.ports_per_block);
        let free = blocks.checked_sub(1).map_or_else(RangeSet::default, |n| RangeSet::span(0, n));
        Self { nat, pools: 0, free }
    }

    pub(super) fn usage(&self) -> NatUsage {
        let blocks = self.nat.public.count() * blocks_per_address(self.nat.ports_per_block);
        NatUsage { blocks, used: blocks - self.free.count() }
    }

    pub(super) fn has_free(&self) -> bool {
        self.free.count() > 0
    }

    fn block(&self, n: u64) -> Option<NatBlock> {
        let per_address = blocks_per_address(self.nat.ports_per_block);
        let public = self.nat.public.nth(n.checked_div(per_address)?)?;
        let place = u32::try_from(n % per_address).ok()?;
        let size = u32::from(self.nat.ports_per_block);
        let first = first_port(self.nat.ports_per_block) + place * size;
        Some(NatBlock {
            public,
            first_port: u16::try_from(first).ok()?,
            last_port: u16::try_from(first + size - 1).ok()?,
        })
    }

    fn number(&self, block: NatBlock) -> Option<u64> {
        let NatBlock { public, first_port: first, .. } = block;
        let per_address = blocks_per_address(self.nat.ports_per_block);
        let offset = u64::from(u32::from(public)).checked_sub(number(self.nat.public.first))?;
        let above = u32::from(first).checked_sub(first_port(self.nat.ports_per_block))?;
        let place = u64::from(above.checked_div(self.nat.ports_per_block.into())?);
        let n = offset.checked_mul(per_address)?.checked_add(place)?;
        // A block of another size or alignment has no number here.
        (place < per_address && self.block(n) == Some(block)).then_some(n)
    }

    /// Whether this is a block of this space, and in use.
    pub(super) fn has_taken(&self, block: NatBlock) -> bool {
        self.number(block).is_some_and(|n| !self.free.contains(n))
    }

    /// Allocates the lowest free block.
    pub(super) fn allocate(&mut self) -> Option<NatBlock> {
        let n = self.free.first()?;
        let block = self.block(n)?;
        self.free.remove(n);
        Some(block)
    }

    /// Takes this block; false when it is in use or none of this space.
    pub(super) fn take(&mut self, block: NatBlock) -> bool {
        self.number(block).is_some_and(|n| self.free.remove(n))
    }

    pub(super) fn release(&mut self, block: NatBlock) {
        if let Some(n) = self.number(block) {
            self.free.insert(n);
        }
    }
}

fn number(address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(public: &str, ports_per_block: u16) -> NatSpace {
        NatSpace::new(NatPool { public: public.parse().unwrap(), ports_per_block })
    }

    #[test]
    fn blocks_start_at_a_multiple_of_their_size_above_the_well_known_ports() {
        for (size, first, blocks) in [
            (1, 1024, 64_512),
            (1000, 2000, 63),
            (1024, 1024, 63),
            (2048, 2048, 31),
            (40_000, 40_000, 0),
            (32_768, 32_768, 1),
            (65_535, 65_535, 0),
        ] {
            let mut space = space("198.51.100.1-198.51.100.1", size);
            assert_eq!(space.usage(), NatUsage { blocks, used: 0 }, "blocks of {size} ports");
            let block = space.allocate();
            assert_eq!(
                block.map(|b| u32::from(b.first_port)),
                (blocks > 0).then_some(first),
                "{size}"
            );
            if let Some(block) = block {
                assert_eq!(block.last_port - block.first_port, size - 1);
                assert!(!space.take(block));
                space.release(block);
                assert!(space.take(block));
            }
        }
    }

    #[test]
    fn every_block_of_every_address_is_given_once() {
        let mut space = space("198.51.100.1-198.51.100.3", 20_000);
        let mut seen = Vec::new();
        while let Some(block) = space.allocate() {
            seen.push((block.public.octets()[3], block.first_port, block.last_port));
        }
        let want: Vec<_> =
            (1..=3).flat_map(|a| [(a, 20_000, 39_999), (a, 40_000, 59_999)]).collect();
        assert_eq!(seen, want);
    }

    #[test]
    fn a_block_of_another_shape_is_not_taken() {
        let mut space = space("198.51.100.1-198.51.100.1", 1000);
        for (public, first_port, last_port) in [
            ([198, 51, 100, 2], 2000, 2999),
            ([198, 51, 100, 0], 2000, 2999),
            ([198, 51, 100, 1], 2001, 3000),
            ([198, 51, 100, 1], 2000, 3999),
            ([198, 51, 100, 1], 1000, 1999),
            ([198, 51, 100, 1], 65_000, 65_535),
        ] {
            let block = NatBlock { public: public.into(), first_port, last_port };
            assert!(!space.take(block), "{block:?}");
        }
    }
}
