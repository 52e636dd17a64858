//! What the kernel and the routing daemon of this machine know: interfaces, routes, BGP neighbours. Read only.

use crate::error::DataplaneError;
use crate::tool::{IP, VTYSH};
use serde::Deserialize;
use std::net::IpAddr;

/// Routes that are returned at most; a full table of the Internet is a matter for the routing daemon.
const ROUTES_MAX: usize = 10_000;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLink {
    /// Number in the kernel.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address, if it has one.
    pub mac: Option<String>,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// Switched on.
    pub enabled: bool,
    /// Has carrier.
    pub carrier: bool,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// What it has carried.
    pub traffic: LinkTraffic,
}

/// Traffic of an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTraffic {
    /// Octets received.
    pub bytes_in: u64,
    /// Octets sent.
    pub bytes_out: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// Faulty packets received.
    pub errors_in: u64,
    /// Packets that could not be sent.
    pub errors_out: u64,
}

/// A route of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// `default`, an address, or a network.
    pub destination: String,
    /// `unicast`, `local`, `blackhole`, …
    pub kind: String,
    /// Next hop.
    pub gateway: Option<String>,
    /// Interface.
    pub interface: Option<String>,
    /// Who made it: `kernel`, `bgp`, `tandem`, …
    pub protocol: Option<String>,
    /// Metric.
    pub metric: Option<u32>,
    /// Routing table.
    pub table: String,
}

/// BGP of FRR on this machine, for IPv4 unicast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpSummary {
    /// Router id.
    pub router_id: Option<String>,
    /// Own AS.
    pub local_as: Option<u32>,
    /// Neighbours, by address.
    pub neighbors: Vec<BgpNeighbor>,
}

/// A BGP neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpNeighbor {
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub remote_as: u32,
    /// `Established`, `Active`, …
    pub state: String,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// Prefixes received.
    pub prefixes_received: u64,
    /// Prefixes sent.
    pub prefixes_sent: u64,
}

fn bad(program: &'static str, cause: &serde_json::Error) -> DataplaneError {
    DataplaneError::Tool {
        program,
        detail: format!("printed something else than expected: {cause}"),
    }
}

/// All interfaces of this network namespace.
///
/// # Errors
/// [`DataplaneError::ToolMissing`] and what `ip` says.
pub async fn links() -> Result<Vec<HostLink>, DataplaneError> {
    parse_links(&IP.run(&["-j", "-s", "addr", "show"], "").await?)
}

#[derive(Deserialize)]
struct IpLink {
    ifindex: u32,
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mtu: u32,
    link_type: Option<String>,
    address: Option<String>,
    #[serde(default)]
    addr_info: Vec<IpAddress>,
    #[serde(default)]
    stats64: IpStats,
}

#[derive(Deserialize)]
struct IpAddress {
    local: Option<String>,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Default, Deserialize)]
struct IpStats {
    #[serde(default)]
    rx: IpCount,
    #[serde(default)]
    tx: IpCount,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpCount {
    bytes: u64,
    packets: u64,
    errors: u64,
}

fn parse_links(json: &str) -> Result<Vec<HostLink>, DataplaneError> {
    let links: Vec<IpLink> = serde_json::from_str(json).map_err(|e| bad(IP.program, &e))?;
    let link = |l: IpLink| {
        let has = |flag: &str| l.flags.iter().any(|f| f == flag);
        let address = |a: IpAddress| Some(format!("{}/{}", a.local?, a.prefixlen));
        HostLink {
            index: l.ifindex,
            enabled: has("UP"),
            carrier: has("LOWER_UP"),
            mac: l.address.filter(|_| l.link_type.as_deref() == Some("ether")),
            mtu: l.mtu,
            addresses: l.addr_info.into_iter().filter_map(address).collect(),
            traffic: LinkTraffic {
                bytes_in: l.stats64.rx.bytes,
                bytes_out: l.stats64.tx.bytes,
                packets_in: l.stats64.rx.packets,
                packets_out: l.stats64.tx.packets,
                errors_in: l.stats64.rx.errors,
                errors_out: l.stats64.tx.errors,
            },
            name: l.ifname,
        }
    };
    Ok(links.into_iter().map(link).collect())
}

/// Routes of all tables, IPv4 then IPv6, at most 10,000, without those that the kernel keeps for broadcast and multicast.
///
/// # Errors
/// [`DataplaneError::ToolMissing`] and what `ip` says.
pub async fn routes() -> Result<Vec<HostRoute>, DataplaneError> {
    let mut routes = Vec::new();
    for family in ["-4", "-6"] {
        let text = IP.run(&["-j", family, "route", "show", "table", "all"], "").await?;
        routes.extend(parse_routes(&text)?);
    }
    routes.truncate(ROUTES_MAX);
    Ok(routes)
}

#[derive(Deserialize)]
struct IpRoute {
    #[serde(rename = "type")]
    kind: Option<String>,
    dst: String,
    gateway: Option<String>,
    via: Option<IpVia>,
    dev: Option<String>,
    protocol: Option<String>,
    metric: Option<u32>,
    table: Option<String>,
}

/// The next hop of another address family.
#[derive(Deserialize)]
struct IpVia {
    host: String,
}

fn parse_routes(json: &str) -> Result<Vec<HostRoute>, DataplaneError> {
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    let routes: Vec<IpRoute> = serde_json::from_str(json).map_err(|e| bad(IP.program, &e))?;
    let wanted =
        |r: &IpRoute| !matches!(r.kind.as_deref(), Some("broadcast" | "multicast" | "anycast"));
    let route = |r: IpRoute| HostRoute {
        destination: r.dst,
        kind: r.kind.unwrap_or_else(|| "unicast".to_owned()),
        gateway: r.gateway.or(r.via.map(|via| via.host)),
        interface: r.dev,
        protocol: r.protocol,
        metric: r.metric,
        table: r.table.unwrap_or_else(|| "main".to_owned()),
    };
    Ok(routes.into_iter().filter(wanted).map(route).collect())
}

/// What FRR says of BGP.
///
/// # Errors
/// [`DataplaneError::ToolMissing`] without FRR, and what `vtysh` says when its daemons do not run.
pub async fn bgp_summary() -> Result<BgpSummary, DataplaneError> {
    let text = VTYSH.run(&["-c", "show bgp ipv4 unicast summary json"], "").await?;
    parse_bgp(&text)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FrrSummary {
    router_id: Option<String>,
    #[serde(rename = "as")]
    local_as: Option<u32>,
    peers: std::collections::BTreeMap<IpAddr, FrrPeer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FrrPeer {
    remote_as: u32,
    state: String,
    #[serde(default)]
    peer_uptime_msec: u64,
    #[serde(default)]
    pfx_rcd: u64,
    #[serde(default)]
    pfx_snt: u64,
}

fn parse_bgp(json: &str) -> Result<BgpSummary, DataplaneError> {
    let summary: FrrSummary = serde_json::from_str(json).map_err(|e| bad(VTYSH.program, &e))?;
    let neighbor = |(address, peer): (IpAddr, FrrPeer)| BgpNeighbor {
        address,
        remote_as: peer.remote_as,
        state: peer.state,
        since_ms: peer.peer_uptime_msec,
        prefixes_received: peer.pfx_rcd,
        prefixes_sent: peer.pfx_snt,
    };
    Ok(BgpSummary {
        router_id: summary.router_id,
        local_as: summary.local_as,
        neighbors: summary.peers.into_iter().map(neighbor).collect(),
    })
}

#[cfg(test)]
#[path = "host/tests.rs"]
mod tests;
