//! Sessions that are offered more than their rate, in both directions.

use super::checks::{Checks, until};
use super::{PPPOE, Site};
use crate::lab::cluster::pause;
use crate::lab::subscribers::Load;
use anyhow::{Result, ensure};
use dataplane::boottime_now;
use model::{Rate, SessionId, Tick};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A PPPoE subscriber behind two tags, whose user has a rate.
pub(super) const BY_USER: usize = 2;
/// A DHCP subscriber behind one tag, whose rate is set by hand.
const BY_HAND: usize = PPPOE + 1;
const SHAPED: [usize; 2] = [BY_USER, BY_HAND];

/// How many times its rate a session is offered.
const OVERLOAD: u64 = 2;
/// The shaper's own bucket is empty after this: a policer lets 100 ms through at once.
const SETTLE: Duration = Duration::from_millis(700);
/// How long arrivals are counted.
const WINDOW: Duration = Duration::from_millis(2500);
/// How long the first packet of a load may take.
const FIRST: Duration = Duration::from_secs(5);
/// Largest deviation from the rate, in percent. HTB counts frames and not packets, some 3 % more.
const TOLERANCE_PERCENT: u64 = 15;

/// The rates of both shaped sessions at one time.
pub(super) struct Rates {
    name: &'static str,
    /// Of [`BY_USER`] and [`BY_HAND`].
    pub(super) rates: [Rate; 2],
}

const fn mbit(down: u64, up: u64) -> Rate {
    Rate { down_bps: down * 1_000_000, up_bps: up * 1_000_000 }
}

/// The rates that the sessions have when the owner dies.
pub(super) const BEFORE: Rates = Rates { name: "first", rates: [mbit(4, 2), mbit(4, 2)] };
/// The rates that they get after the takeover.
pub(super) const AFTER: Rates = Rates { name: "new", rates: [mbit(6, 3), mbit(3, 1)] };

/// Octets that arrived, up and down, at one time.
#[derive(Clone, Copy)]
struct Sample {
    at: Tick,
    octets: [(u64, u64); 2],
}

/// The rate of `octets` in `time`, in bits per second.
fn bps(octets: u64, time: Duration) -> u64 {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    octets.saturating_mul(8_000_000) / us
}

/// Fails when a measured rate is too far from the one that was agreed.
fn near(way: &str, measured_bps: u64, agreed_bps: u64) -> Result<String> {
    let off_percent = measured_bps.abs_diff(agreed_bps) * 100 / agreed_bps.max(1);
    let [measured, agreed] = [measured_bps, agreed_bps].map(|b| {
        let kbps = u32::try_from(b / 1000).unwrap_or(u32::MAX);
        format!("{:.2}", f64::from(kbps) / 1e3)
    });
    ensure!(off_percent <= TOLERANCE_PERCENT, "{way} {measured} Mbit/s instead of {agreed}");
    Ok(format!("{way} {measured} of {agreed} Mbit/s"))
}

impl Site {
    /// Sets rates by `bngctl session rate`: at first of the session that has none, later of both.
    pub(super) async fn limit_by_hand(&self, checks: &mut Checks, rates: &Rates) {
        for (i, rate) in SHAPED.into_iter().zip(rates.rates) {
            if i == BY_USER && rate == BEFORE.rates[0] {
                continue;
            }
            let found = self.limit(i, rate).await;
            let name =
                format!("bngctl session rate sets the {} rate of subscriber {i}", rates.name);
            checks.note("shaping", &name, found);
        }
    }

    async fn limit(&self, i: usize, rate: Rate) -> Result<String> {
        let SessionId(id) = self.detail_of(i).await?.id;
        let (down, up) = (rate.down_bps.to_string(), rate.up_bps.to_string());
        let id = id.to_string();
        let said = self.bngctl.run(&["session", "rate", &id, "--down", &down, "--up", &up])?;
        Ok(said.trim().to_owned())
    }

    /// Checks that both sessions get their rates and not more, on the backend of the owner.
    pub(super) async fn check_rates(&self, checks: &mut Checks, rates: &Rates) {
        let measured = self.measure_rates(rates).await;
        self.lab.subscribers.load(Vec::new());
        let (shaper, measured) = match measured {
            Ok(found) => found,
            Err(error) => {
                return checks.note("shaping", "sessions under load", Err(error));
            }
        };
        for ((i, rate), (up, down)) in SHAPED.into_iter().zip(rates.rates).zip(measured) {
            let found = near("down", down, rate.down_bps)
                .and_then(|d| Ok(format!("{d}, {}", near("up", up, rate.up_bps)?)));
            let service = if i < PPPOE { "PPPoE" } else { "DHCP" };
            let name = format!("{shaper}: {service} subscriber {i} gets its {} rate", rates.name);
            checks.note("shaping", &name, found);
        }
    }

    /// Loads both sessions and returns what arrives, in bits per second up and down.
    async fn measure_rates(&self, rates: &Rates) -> Result<(&'static str, Vec<(u64, u64)>)> {
        let shaper = self.shaper().await?;
        let before = self.sample();
        let loads = SHAPED.into_iter().zip(rates.rates).map(|(session, rate)| Load {
            session,
            up_bps: rate.up_bps * OVERLOAD,
            down_bps: rate.down_bps * OVERLOAD,
        });
        self.lab.subscribers.load(loads.collect());
        until("both loads arrive in both directions", FIRST, || {
            let more = self.sample().octets.into_iter().zip(before.octets);
            let all = more.into_iter().all(|((up, down), (u, d))| up > u && down > d);
            ensure!(all, "not all do");
            Ok(())
        })
        .await?;
        pause(SETTLE).await;
        let start = self.sample();
        pause(WINDOW).await;
        let end = self.sample();
        let time = end.at.since(start.at);
        let measured = end.octets.into_iter().zip(start.octets);
        let measured =
            measured.map(|((up, down), (u, d))| (bps(up - u, time), bps(down - d, time)));
        Ok((shaper, measured.collect()))
    }

    fn sample(&self) -> Sample {
        let seen = &self.lab.subscribers.shared().seen;
        let octets = SHAPED.map(|i| {
            let load = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
            (load(&seen[i].up_octets), load(&seen[i].down_octets))
        });
        Sample { at: boottime_now(), octets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_near_within_fifteen_percent_to_both_sides() {
        assert_eq!(bps(500_000, Duration::from_secs(1)), 4_000_000);
        let rows = [
            (4_000_000, true),
            (4_600_000, true),
            (3_400_000, true),
            (4_650_000, false),
            (3_350_000, false),
            (8_000_000, false),
            (0, false),
        ];
        for (measured, good) in rows {
            assert_eq!(near("up", measured, 4_000_000).is_ok(), good, "{measured}");
        }
    }
}
