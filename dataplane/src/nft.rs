use crate::abi::{MARK_SIGN, MARK_SIGN_FLOW, MARK_SIGN_MASK};
use crate::config::{Config, GroupConfig};
use crate::error::DataplaneError;
use crate::table::Step;
use crate::tool::NFT;
use model::{GroupId, NatBlock, NatPool};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// Octets of IPv4 and TCP headers without options, between MTU and MSS. RFC 9293 §3.7.1.
const TCP_HEADERS_OCTETS: u16 = 40;
/// Pools with this MTU or more need no clamping.
const ETHERNET_MTU_OCTETS: u16 = 1500;

/// Counts what the rules dropped because it was not translated.
const UNTRANSLATED: &str = "untranslated";

/// The port blocks in force, by private address.
pub(crate) type Blocks = BTreeMap<Ipv4Addr, NatBlock>;

/// The nftables table of one daemon: port-block NAT towards the core, what subscribers may send to
/// the node itself, MSS clamping, and no connection tracking for pools without NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nft {
    table: String,
}

impl Nft {
    /// Names the table after the daemon's pin directory, which is unique on the machine.
    pub(crate) fn new(cfg: &Config) -> Self {
        let name = cfg.pin_dir.file_name().map(|n| n.to_string_lossy().into_owned());
        let name: String = name
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        Self { table: format!("tandem_{name}") }
    }

    /// Makes the table and its rules anew, and keeps the blocks that a former process loaded.
    pub(crate) async fn open(
        &self,
        cfg: &Config,
        groups: &BTreeMap<GroupId, GroupConfig>,
    ) -> Result<(), DataplaneError> {
        NFT.run(&["-f", "-"], &self.rules(cfg, groups)).await.map(drop)
    }

    fn rules(&self, cfg: &Config, groups: &BTreeMap<GroupId, GroupConfig>) -> String {
        let t = &self.table;
        let mut s = format!(
            "add table inet {t}\n\
             add map inet {t} blocks {{ type ipv4_addr : interval ipv4_addr . inet_service ; }}\n\
             add chain inet {t} input {{ type filter hook input priority filter ; policy accept ; }}\n\
             add chain inet {t} plain {{ type filter hook prerouting priority raw ; policy accept ; }}\n\
             add chain inet {t} forward {{ type filter hook forward priority mangle ; policy accept ; }}\n\
             add chain inet {t} nat {{ type nat hook postrouting priority srcnat ; policy accept ; }}\n\
             add chain inet {t} guard {{ type filter hook postrouting priority srcnat + 1 ; policy accept ; }}\n\
             add counter inet {t} {UNTRANSLATED}\n"
        );
        for chain in ["input", "plain", "forward", "nat", "guard"] {
            let _ = writeln!(s, "flush chain inet {t} {chain}");
        }
        let access: Vec<String> =
            cfg.access.iter().map(|p| format!("\"{}\"", p.interface)).collect();
        if !access.is_empty() {
            // A subscriber reaches its gateway by ping and nothing else of this node; DHCP is
            // answered from a packet socket, ahead of this.
            let from = format!("iifname {{ {} }}", access.join(", "));
            let _ = writeln!(s, "add rule inet {t} input {from} meta l4proto icmp accept");
            let _ = writeln!(s, "add rule inet {t} input {from} counter drop");
        }
        if let Some(core) = &cfg.core {
            let _ = writeln!(
                s,
                "add rule inet {t} nat oifname \"{core}\" meta l4proto {{ tcp, udp, icmp }} \
                 snat ip to ip saddr map @blocks"
            );
            // A flow belongs to the session that sends into it. What returns is marked with that
            // session, so that the successor on an address does not get its predecessor's packets.
            let (mask, sign, flow) = (MARK_SIGN_MASK, MARK_SIGN, MARK_SIGN_FLOW);
            let _ = writeln!(
                s,
                "add rule inet {t} forward oifname \"{core}\" meta mark and {mask:#x} == {sign:#x} \
                 ct direction original ct mark set meta mark"
            );
            let _ = writeln!(
                s,
                "add rule inet {t} forward iifname \"{core}\" ct mark and {mask:#x} == {sign:#x} \
                 ct direction reply meta mark set ct mark and {:#x} or {flow:#x}",
                !mask
            );
        }
        for pool in groups.values().flat_map(|g| &g.pools) {
            let net = format!("{}/{}", pool.network, pool.prefix_len);
            if let (Some(core), Some(nat)) = (&cfg.core, &pool.nat) {
                guard_private(&mut s, t, core, &net, nat);
            }
            for way in ["saddr", "daddr"] {
                if pool.nat.is_none() {
                    let _ = writeln!(s, "add rule inet {t} plain ip {way} {net} notrack");
                }
                if pool.mtu < ETHERNET_MTU_OCTETS {
                    let mss = pool.mtu.saturating_sub(TCP_HEADERS_OCTETS);
                    let _ = writeln!(
                        s,
                        "add rule inet {t} forward ip {way} {net} tcp flags syn tcp option maxseg size set {mss}"
                    );
                }
            }
        }
        s
    }

    /// Brings the blocks from `old` to `new` in one transaction.
    pub(crate) async fn change(&self, old: &Blocks, new: &Blocks) -> Result<(), DataplaneError> {
        let script = self.script(old, new);
        if script.is_empty() {
            return Ok(());
        }
        NFT.run(&["-f", "-"], &script).await.map(drop)
    }

    fn script(&self, old: &Blocks, new: &Blocks) -> String {
        let t = &self.table;
        let mut script = String::new();
        let gone: Vec<String> = old
            .iter()
            .filter(|(address, block)| new.get(*address) != Some(*block))
            .map(|(address, _)| address.to_string())
            .collect();
        if !gone.is_empty() {
            let _ = writeln!(script, "delete element inet {t} blocks {{ {} }}", gone.join(", "));
        }
        let added: Vec<String> = new
            .iter()
            .filter(|(address, block)| old.get(*address) != Some(*block))
            .map(|(a, b)| format!("{a} : {} . {}-{}", b.public, b.first_port, b.last_port))
            .collect();
        if !added.is_empty() {
            let _ = writeln!(script, "add element inet {t} blocks {{ {} }}", added.join(", "));
        }
        script
    }

    /// Reads the blocks that the kernel holds.
    pub(crate) async fn blocks(&self) -> Result<Blocks, DataplaneError> {
        let text = NFT.run(&["-j", "list", "map", "inet", &self.table, "blocks"], "").await?;
        parse_blocks(&text).ok_or_else(|| DataplaneError::Tool {
            program: NFT.program,
            detail: format!("map blocks of table {} has elements of another form", self.table),
        })
    }

    /// Reads how many packets the rules dropped because they were not translated.
    pub(crate) async fn untranslated(&self) -> Result<u64, DataplaneError> {
        let text =
            NFT.run(&["-j", "list", "counter", "inet", &self.table, UNTRANSLATED], "").await?;
        parse_counter(&text).ok_or_else(|| DataplaneError::Tool {
            program: NFT.program,
            detail: format!("counter {UNTRANSLATED} of table {} has another form", self.table),
        })
    }

    /// Removes the table.
    pub(crate) async fn purge(&self) -> Result<(), DataplaneError> {
        let t = &self.table;
        NFT.run(&["-f", "-"], &format!("add table inet {t}\ndelete table inet {t}\n"))
            .await
            .map(drop)
    }
}

/// Returns the part of the blocks that a batch changes, before and after.
pub(crate) fn touched(steps: &[Step]) -> (Blocks, Blocks) {
    let block = |p: Option<crate::table::Placed>| {
        p.and_then(|p| p.entry.nat.map(|nat| (p.entry.address, nat)))
    };
    let old = steps.iter().filter_map(|s| block(s.before)).collect();
    let new = steps.iter().filter_map(|s| block(s.after)).collect();
    (old, new)
}

/// Reads `[["100.64.0.2", {"concat": ["203.0.113.1", {"range": [1024, 2047]}]}], ...]`.
fn parse_blocks(text: &str) -> Option<Blocks> {
    let root: Value = serde_json::from_str(text).ok()?;
    let map = root.get("nftables")?.as_array()?.iter().find_map(|o| o.get("map"))?;
    let Some(elements) = map.get("elem") else { return Some(Blocks::new()) };
    elements.as_array()?.iter().map(parse_element).collect()
}

/// Reads `{"nftables": [..., {"counter": {"packets": 3, ...}}]}`.
fn parse_counter(text: &str) -> Option<u64> {
    let root: Value = serde_json::from_str(text).ok()?;
    let counter = root.get("nftables")?.as_array()?.iter().find_map(|o| o.get("counter"))?;
    counter.get("packets")?.as_u64()
}

fn parse_element(element: &Value) -> Option<(Ipv4Addr, NatBlock)> {
    let address = element.get(0)?.as_str()?.parse().ok()?;
    let target = element.get(1)?.get("concat")?;
    let public = target.get(0)?.as_str()?.parse().ok()?;
    let ports = target.get(1)?;
    let port = |v: &Value| u16::try_from(v.as_u64()?).ok();
    let (first_port, last_port) = match ports.get("range") {
        Some(range) => (port(range.get(0)?)?, port(range.get(1)?)?),
        None => (port(ports)?, port(ports)?),
    };
    Some((address, NatBlock { public, first_port, last_port }))
}

/// Nothing private leaves untranslated, and nothing reaches a private address that it did not ask for.
fn guard_private(s: &mut String, t: &str, core: &str, net: &str, nat: &NatPool) {
    // What belongs to a flow has its private address by now. All else would go back to the
    // router, and come again until its TTL is used up.
    let (first, last) = (nat.public.first, nat.public.last);
    let _ = writeln!(
        s,
        "add rule inet {t} forward iifname \"{core}\" ip daddr {first}-{last} counter drop"
    );
    // Nobody outside reaches a private address but through a flow that it began.
    let _ = writeln!(
        s,
        "add rule inet {t} forward iifname \"{core}\" ip daddr {net} \
         ct direction original counter drop"
    );
    // Here, before connection tracking remembers the flow: it would stay untranslated when its
    // session gets a block. `core_egress` drops what comes past these rules.
    let (mask, sign) = (MARK_SIGN_MASK, MARK_SIGN);
    let _ = writeln!(
        s,
        "add rule inet {t} guard oifname \"{core}\" meta mark and {mask:#x} == {sign:#x} \
         ip saddr {net} counter name {UNTRANSLATED} drop"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PoolRoute, Shaper, XdpMode};
    use model::{MacAddr, PortId};

    fn nft() -> Nft {
        Nft::new(&config())
    }

    fn config() -> Config {
        Config {
            access: vec![],
            core: Some("core0".into()),
            xdp: XdpMode::Auto,
            shaper: Shaper::Policer,
            pin_dir: "/sys/fs/bpf/tandem/Node-1".into(),
        }
    }

    fn block(first_port: u16) -> NatBlock {
        NatBlock { public: Ipv4Addr::new(203, 0, 113, 1), first_port, last_port: first_port + 9 }
    }

    #[test]
    fn a_changed_block_is_deleted_before_it_is_added() {
        let a = |n| Ipv4Addr::new(100, 64, 0, n);
        let old = Blocks::from([(a(1), block(1024)), (a(2), block(2048)), (a(3), block(3072))]);
        let new = Blocks::from([(a(2), block(2048)), (a(3), block(4096))]);
        assert_eq!(
            nft().script(&old, &new),
            "delete element inet tandem_node_1 blocks { 100.64.0.1, 100.64.0.3 }\n\
             add element inet tandem_node_1 blocks { 100.64.0.3 : 203.0.113.1 . 4096-4105 }\n"
        );
        assert_eq!(nft().script(&new, &new), "");
    }

    #[test]
    fn blocks_are_read_as_nft_prints_them() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"map": {"name": "blocks", "elem": [
            ["100.64.0.2", {"concat": ["203.0.113.1", {"range": [1024, 1033]}]}],
            ["100.64.0.3", {"concat": ["203.0.113.1", 2048]}]]}}]}"#;
        let blocks = parse_blocks(text).unwrap();
        assert_eq!(blocks[&Ipv4Addr::new(100, 64, 0, 2)], block(1024));
        assert_eq!(blocks[&Ipv4Addr::new(100, 64, 0, 3)].last_port, 2048);
        assert_eq!(parse_blocks(r#"{"nftables": [{"map": {}}]}"#), Some(Blocks::new()));
        assert_eq!(parse_blocks(r#"{"nftables": [{"map": {"elem": ["x"]}}]}"#), None);
    }

    #[test]
    fn a_counter_is_read_as_nft_prints_it() {
        let text = r#"{"nftables": [{"metainfo": {}}, {"counter": {"name": "untranslated",
            "packets": 3, "bytes": 212}}]}"#;
        assert_eq!(parse_counter(text), Some(3));
        assert_eq!(parse_counter(r#"{"nftables": []}"#), None);
    }

    #[test]
    fn only_private_pools_are_tracked_and_only_small_ones_clamped() {
        let pool = |n: u8, mtu, nat: Option<model::NatPool>| PoolRoute {
            network: Ipv4Addr::new(10, n, 0, 0),
            prefix_len: 16,
            port: PortId(1),
            mtu,
            nat,
        };
        let nat = model::NatPool {
            public: "203.0.113.1-203.0.113.9".parse().unwrap(),
            ports_per_block: 64,
        };
        let group = GroupConfig {
            id: GroupId(1),
            vmac: MacAddr::virtual_router(1),
            core_address: Ipv4Addr::new(192, 0, 2, 1),
            core_prefix_len: 24,
            gateways: vec![],
            pools: vec![pool(1, 1492, Some(nat)), pool(2, 1500, None)],
        };
        let rules = nft().rules(&config(), &BTreeMap::from([(group.id, group)]));
        assert!(rules.contains(
            "forward ip saddr 10.1.0.0/16 tcp flags syn tcp option maxseg size set 1452"
        ));
        assert!(!rules.contains("forward ip saddr 10.2.0.0/16"));
        assert!(rules.contains("ip saddr 10.1.0.0/16 counter name untranslated drop"));
        assert!(!rules.contains("ip saddr 10.2.0.0/16 counter"));
        assert!(rules.contains("iifname \"core0\" ip daddr 203.0.113.1-203.0.113.9 counter drop"));
        assert!(rules.contains("plain ip daddr 10.2.0.0/16 notrack"));
        assert!(!rules.contains("plain ip daddr 10.1.0.0/16"));
        assert!(rules.contains("iifname \"core0\" ip daddr 10.1.0.0/16 ct direction original"));
        assert!(!rules.contains("ip daddr 10.2.0.0/16 ct direction"));
    }
}
