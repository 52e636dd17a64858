use std::net::Ipv4Addr;

/// Settings of a stock VRRP router. RFC 9568 §6.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Virtual router id.
    pub vrid: u8,
    /// 255 for the owner of the addresses, else 1 to 254.
    pub priority: u8,
    /// Own Advertisement_Interval in centiseconds, 1 to 4095.
    pub interval_cs: u16,
    /// Whether it takes over from an active router of lower priority. An owner always does.
    pub preempt: bool,
    /// Virtual addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Its own primary address: source of its adverts, and the tie-break at equal priority.
    pub src_ip: Ipv4Addr,
}

impl RouterConfig {
    /// Returns the RFC's defaults: priority 100, one second, preemption.
    #[must_use]
    pub fn new(vrid: u8, src_ip: Ipv4Addr, addresses: Vec<Ipv4Addr>) -> Self {
        Self { vrid, priority: 100, interval_cs: 100, preempt: true, addresses, src_ip }
    }
}
