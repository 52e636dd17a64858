//! Answers of the PureNAS dialect. Their shapes are those of its clients, not ours.

use super::policy::{StaticSubscriber, WaitingSource};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One subscriber of `getall`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PureNasSubscriber {
    /// Its address.
    pub ip: String,
    /// `ACTIVE` when its packets pass, else `INACTIVE`.
    #[schema(example = "ACTIVE")]
    pub state: String,
    /// Its MAC address, when it is known.
    pub mac: Option<String>,
    /// Rate towards it: `100 Mbit`, `512 Kbit` or `unlimited`.
    #[schema(example = "100 Mbit")]
    pub ratedown: String,
    /// Rate from it, in the same form.
    #[schema(example = "50 Mbit")]
    pub rateup: String,
    /// Packets from it; `null` when it is not shaped.
    pub hits: Option<u64>,
    /// `R` when it was heard, `S` behind it when a MAC address is bound.
    pub flag: String,
}

/// All subscribers by address. A table without any is `[]`, as clients of the dialect expect.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
pub struct PureNasSubscribers(pub BTreeMap<String, PureNasSubscriber>);

impl Serialize for PureNasSubscribers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            return serializer.serialize_seq(Some(0))?.end();
        }
        self.0.serialize(serializer)
    }
}

/// What became of an action: `== … ==`, or `Error: …` with `success` false.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PureNasOutput {
    /// Whether it was done.
    pub success: bool,
    /// In words.
    #[schema(example = "== Added 172.16.0.4 to allowed_clients set ==")]
    pub output: String,
}

/// A request that was not looked at: no key, or an argument that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PureNasError {
    /// In words.
    #[schema(example = "Invalid API key")]
    pub error: String,
}

/// One source that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PureNasWaiting {
    /// Its address.
    pub ip: String,
    /// Its MAC address; empty when it is not known.
    pub mac: String,
}

/// The sources that wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PureNasWaitingList {
    /// Always true.
    pub success: bool,
    /// All of them.
    pub waitauth: Vec<PureNasWaiting>,
}

/// The processor of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CpuInfo {
    /// Its model.
    pub name: String,
    /// Logical processors.
    pub cores: u32,
}

/// The memory of a node, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryInfo {
    /// All of it.
    pub total: u64,
    /// What programs may still get.
    pub free: u64,
    /// The rest.
    pub used: u64,
    /// Share that is used, in percent.
    pub used_percent: f64,
    /// Share that is free, in percent.
    pub free_percent: f64,
}

/// Time since the node was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UptimeInfo {
    /// All of it in seconds.
    pub seconds: u64,
    /// Whole days.
    pub days: u64,
    /// Whole hours beside the days.
    pub hours: u64,
    /// Whole minutes beside the hours.
    pub minutes: u64,
}

/// Load averages; 100 percent is one runnable task for each processor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadInfo {
    /// Over one minute.
    pub la1: f64,
    /// Over 5 minutes.
    pub la5: f64,
    /// Over 15 minutes.
    pub la15: f64,
    /// As `load_percent1`.
    pub load_percent: f64,
    /// Over one minute, in percent.
    pub load_percent1: f64,
    /// Over 5 minutes, in percent.
    pub load_percent5: f64,
    /// Over 15 minutes, in percent.
    pub load_percent15: f64,
    /// Mean of the three.
    pub load_avg_percent: f64,
}

/// The machine of the node that answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HostInfo {
    /// Operating system.
    #[schema(example = "Linux")]
    pub os: String,
    /// Kernel release.
    pub os_release: String,
    /// Name and version of the distribution.
    pub os_full_release: String,
    /// Name of the host.
    pub hostname: String,
    /// Architecture.
    #[schema(example = "x86_64")]
    pub machine_arch: String,
    /// Always empty: there is no PHP. Clients expect the key.
    pub php_version: String,
    /// Processor.
    pub cpu: CpuInfo,
    /// Memory.
    pub memory: MemoryInfo,
    /// Time since the start.
    pub uptime: UptimeInfo,
    /// Load.
    pub load: LoadInfo,
}

/// Megabits, truncated, from 1 Mbit/s on; else kilobits.
fn rate(bps: u64) -> String {
    match bps {
        0 => "unlimited".to_owned(),
        1..1_000_000 => format!("{} Kbit", bps / 1000),
        _ => format!("{} Mbit", bps / 1_000_000),
    }
}

impl From<&StaticSubscriber> for PureNasSubscriber {
    fn from(subscriber: &StaticSubscriber) -> Self {
        let heard = if subscriber.interface.is_some() { "R" } else { "" };
        let bound = if subscriber.bound_mac.is_some() { "S" } else { "" };
        let is_shaped = subscriber.rate_down != 0 || subscriber.rate_up != 0;
        Self {
            ip: subscriber.ip_address.to_string(),
            state: if subscriber.allowed { "ACTIVE" } else { "INACTIVE" }.to_owned(),
            mac: subscriber.mac_address.map(|mac| mac.to_string()),
            ratedown: rate(subscriber.rate_down),
            rateup: rate(subscriber.rate_up),
            hits: is_shaped.then_some(subscriber.packets_in),
            flag: format!("{heard}{bound}"),
        }
    }
}

impl From<&WaitingSource> for PureNasWaiting {
    fn from(source: &WaitingSource) -> Self {
        Self { ip: source.ip_address.to_string(), mac: source.mac_address.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_the_dialect_does() {
        for (bps, want) in [
            (0, "unlimited"),
            (64_000, "64 Kbit"),
            (999_999, "999 Kbit"),
            (1_000_000, "1 Mbit"),
            (1_900_000, "1 Mbit"),
            (100_000_000, "100 Mbit"),
        ] {
            assert_eq!(rate(bps), want);
        }
    }

    #[test]
    fn an_empty_table_is_an_empty_list() {
        let empty = serde_json::to_string(&PureNasSubscribers::default()).unwrap();
        assert_eq!(empty, "[]");
    }
}
