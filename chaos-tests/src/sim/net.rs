//! A network that loses, repeats, delays and so reorders, and that falls apart link by link.

use super::clock::TrueNs;
use model::NodeId;
use rand::Rng;
use rand_pcg::Pcg64Mcg;
use std::collections::BTreeMap;

/// The longest delay of a slow message.
pub const SLOW_MAX_US: u64 = 600_000;

/// What the network does to messages, in thousandths of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Lost.
    pub lost: u32,
    /// Delivered twice.
    pub doubled: u32,
    /// Delayed by up to [`SLOW_MAX_US`].
    pub slow: u32,
}

/// Links between nodes, each direction on its own.
#[derive(Clone, Debug)]
pub struct Net {
    /// Present behaviour.
    pub faults: Faults,
    /// Ordinary delays, in microseconds.
    pub delay_us: (u64, u64),
    cut: BTreeMap<(NodeId, NodeId), TrueNs>,
}

impl Net {
    /// A network that is whole.
    #[must_use]
    pub fn new(faults: Faults, delay_us: (u64, u64)) -> Self {
        Self { faults, delay_us, cut: BTreeMap::new() }
    }

    /// Drops all that `from` sends to `to` before `until`.
    pub fn cut(&mut self, from: NodeId, to: NodeId, until: TrueNs) {
        self.cut.insert((from, to), until);
    }

    /// Makes the network perfect, except for its delays.
    pub fn heal(&mut self) {
        self.faults = Faults::default();
        self.cut.clear();
    }

    /// When a message sent now arrives: never, once or twice. To oneself it arrives at once.
    pub fn arrivals(
        &self,
        rng: &mut Pcg64Mcg,
        from: NodeId,
        to: NodeId,
        now: TrueNs,
    ) -> impl Iterator<Item = TrueNs> + use<> {
        let mut copies = [None, None];
        if from == to {
            copies[0] = Some(now);
        } else if self.cut.get(&(from, to)).is_none_or(|&until| until <= now) {
            let mut happens = |permille: u32| rng.random_ratio(permille, 1_000);
            let lost = happens(self.faults.lost);
            let count = if lost { 0 } else { 1 + usize::from(happens(self.faults.doubled)) };
            for copy in &mut copies[..count] {
                let (low, high) = self.delay_us;
                let slow = rng.random_ratio(self.faults.slow, 1_000);
                let us = rng.random_range(low..=if slow { SLOW_MAX_US } else { high });
                *copy = Some(now.plus_us(us));
            }
        }
        copies.into_iter().flatten()
    }
}
