//! Rate limits of fixed memory.

use model::{Attachment, PortId, Tick};
use std::collections::BTreeMap;
use std::time::Duration;

/// Ports with a limit of their own; ports above share one.
const PORTS_MAX: usize = 64;

/// Hosts remembered by [`HostLimit`]: `SETS` times `WAYS`, about 100 kB.
const SETS: usize = 1024;
const WAYS: usize = 4;

/// A token bucket kept as one point in time (generic cell rate algorithm): when the bucket will be
/// full again.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Tick,
}

impl Bucket {
    /// Takes one token if there is one.
    fn take(&mut self, now: Tick, per_s: u32, burst: u32) -> bool {
        if per_s == 0 || burst == 0 {
            return false;
        }
        let interval = Duration::from_secs(1) / per_s;
        let full_at = self.full_at.max(now) + interval;
        let fits = full_at.since(now) <= interval.saturating_mul(burst);
        if fits {
            self.full_at = full_at;
        }
        fits
    }
}

/// Limits all hosts of a port together.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortLimit {
    ports: BTreeMap<PortId, Bucket>,
    others: Bucket,
}

impl PortLimit {
    pub(crate) fn take(&mut self, port: PortId, now: Tick, per_s: u32, burst: u32) -> bool {
        let room = self.ports.len() < PORTS_MAX;
        let bucket = match self.ports.get_mut(&port) {
            Some(bucket) => bucket,
            None if room => self.ports.entry(port).or_default(),
            None => &mut self.others,
        };
        bucket.take(now, per_s, burst)
    }
}

/// Limits each host, as long as it is remembered.
///
/// The table is set-associative: a host displaces the one of its set whose bucket is the fullest.
/// Someone who sends from many addresses can thus make the table forget; the limit of the port
/// still holds then. The hash has no key, for a collision gains nothing more than that.
#[derive(Clone, Debug)]
pub(crate) struct HostLimit {
    slots: Vec<[Option<(Attachment, Bucket)>; WAYS]>,
}

impl HostLimit {
    pub(crate) fn new() -> Self {
        Self { slots: vec![[None; WAYS]; SETS] }
    }

    pub(crate) fn take(&mut self, host: Attachment, now: Tick, per_s: u8) -> bool {
        let set = &mut self.slots[set_of(host)];
        let way = set.iter().position(|slot| slot.is_some_and(|(known, _)| known == host));
        // An empty slot sorts before any bucket.
        let way =
            way.or_else(|| (0..WAYS).min_by_key(|way| set[*way].map(|(_, bucket)| bucket.full_at)));
        let Some(slot) = way.and_then(|way| set.get_mut(way)) else { return true };
        let mut bucket = match slot {
            Some((known, bucket)) if *known == host => *bucket,
            Some(_) | None => Bucket::default(),
        };
        let passes = bucket.take(now, per_s.into(), per_s.into());
        *slot = Some((host, bucket));
        passes
    }
}

/// FNV-1a over the attachment, folded into the table.
fn set_of(host: Attachment) -> usize {
    let (port, outer, inner) = (host.port.0, host.vlans.outer, host.vlans.inner);
    let tail = [port, outer, inner].into_iter().flat_map(u16::to_be_bytes);
    let hash =
        host.mac.0.into_iter().chain(tail).fold(0x811c_9dc5_u32, |hash, octet| {
            (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193)
        });
    let folded = hash ^ (hash >> 16);
    usize::try_from(folded).unwrap_or(0) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{MacAddr, Vlans};

    fn host(n: u32) -> Attachment {
        let [a, b, c, d] = n.to_be_bytes();
        Attachment { port: PortId(1), vlans: Vlans::NONE, mac: MacAddr([2, 0, a, b, c, d]) }
    }

    #[test]
    fn a_bucket_passes_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::default();
        let script: &[(u64, bool)] = &[
            (1000, true),
            (1000, true),
            (1000, true),
            (1000, false), // burst of 3 is used up
            (1099, false),
            (1100, true), // 10 per second
            (1100, false),
            (1200, true),
            (9000, true), // rest does not pile up beyond the burst
            (9000, true),
            (9000, true),
            (9000, false),
        ];
        for (row, &(at_ms, want)) in script.iter().enumerate() {
            assert_eq!(bucket.take(Tick::from_ms(at_ms), 10, 3), want, "row {row} at {at_ms} ms");
        }
    }

    #[test]
    fn a_rate_of_zero_passes_nothing() {
        assert!(!Bucket::default().take(Tick::from_ms(5), 0, 9));
        assert!(!HostLimit::new().take(host(1), Tick::from_ms(5), 0));
    }

    #[test]
    fn a_noisy_host_does_not_use_up_its_neighbours_limit() {
        let mut limit = HostLimit::new();
        let now = Tick::from_ms(1);
        let passed = (0..100).filter(|_| limit.take(host(1), now, 2)).count();
        assert_eq!(passed, 2);
        assert!(limit.take(host(2), now, 2));
    }

    #[test]
    fn the_host_table_does_not_grow() {
        let mut limit = HostLimit::new();
        for n in 0..100_000 {
            limit.take(host(n), Tick::from_ms(1), 2);
        }
        assert_eq!(limit.slots.len(), SETS);
    }

    #[test]
    fn ports_beyond_the_bound_share_a_bucket() {
        let mut limit = PortLimit::default();
        for port in 0..2000 {
            limit.take(PortId(port), Tick::from_ms(1), 1, 1);
        }
        assert_eq!(limit.ports.len(), PORTS_MAX);
        assert!(!limit.take(PortId(3000), Tick::from_ms(1), 1, 1));
    }
}
