//! More traffic than a session may have: what arrives of it shows the rate in force.

use crate::lab::probe::Probe;
use model::Tick;
use std::collections::BTreeMap;
use std::time::Duration;

/// Octets of one packet of a load, IP and UDP headers included.
pub(super) const OCTETS: usize = 1000;
const HEADERS_OCTETS: usize = 28;
/// After a stall no more than this much time is made up for.
const CATCH_UP: Duration = Duration::from_millis(50);

/// Traffic of one session, as bits of IP packets per second; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The subscriber's place.
    pub session: usize,
    /// From the subscriber.
    pub up_bps: u64,
    /// Towards the subscriber.
    pub down_bps: u64,
}

/// Tells how many packets of each load are due.
#[derive(Default)]
pub(super) struct LoadPace {
    next: BTreeMap<usize, Tick>,
}

impl LoadPace {
    /// How many packets `session` has to send now to come to `bps`.
    pub(super) fn due(&mut self, session: usize, bps: u64, now: Tick) -> u32 {
        let Some(step_ns) = (octets() * 8 * 1_000_000_000).checked_div(bps) else { return 0 };
        let step = Duration::from_nanos(step_ns.max(1));
        let next = self.next.entry(session).or_insert(now);
        if now.since(*next) > CATCH_UP {
            *next = now;
        }
        let mut due = 0;
        while *next <= now {
            *next = *next + step;
            due += 1;
        }
        due
    }
}

/// [`OCTETS`] as a number to count with.
pub(super) fn octets() -> u64 {
    OCTETS.try_into().unwrap_or(u64::MAX)
}

/// The UDP payload of a packet of a load.
pub(super) fn payload(session: usize) -> Vec<u8> {
    let probe = Probe { session: u32::try_from(session).unwrap_or(u32::MAX), seq: 0 };
    let mut payload = probe.emit().to_vec();
    payload.resize(OCTETS - HEADERS_OCTETS, 0);
    payload
}

/// Whether a probe is the payload of a load.
pub(super) fn is_load(payload: &[u8]) -> bool {
    payload.len() == OCTETS - HEADERS_OCTETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_keeps_its_rate_and_makes_up_for_little_after_a_stall() {
        let mut pace = LoadPace::default();
        // 8 Mbit/s of 1000 octets is one packet each ms.
        let mut sent = 0;
        for ms in 1_000..2_000 {
            sent += pace.due(3, 8_000_000, Tick::from_ms(ms));
        }
        assert_eq!(sent, 1_000);
        assert_eq!(pace.due(3, 8_000_000, Tick::from_ms(2_039)), 40);
        assert_eq!(pace.due(3, 8_000_000, Tick::from_ms(9_000)), 1);
        assert_eq!(pace.due(4, 0, Tick::from_ms(9_000)), 0);
    }

    #[test]
    fn a_load_is_no_probe() {
        assert!(is_load(&payload(7)));
        assert!(!is_load(&Probe { session: 7, seq: 1 }.emit()));
        assert_eq!(Probe::parse(&payload(7)).map(|p| p.session), Some(7));
    }
}
