//! Lost packets: nftables at the switch's end of a cable, below bridges and behind the wire watcher.

use super::cluster::NodeName;
use super::netns::run;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::fmt;

/// Which way packets get lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the node sends.
    From,
    /// What the node should get.
    To,
    /// Both.
    Both,
}

/// Loss on one cable of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The node.
    pub node: NodeName,
    /// `mgmt`, `acc` or `core`.
    pub cable: &'static str,
    /// Which packets.
    pub way: Way,
    /// How many of a hundred.
    pub percent: u8,
}

impl Loss {
    fn table(&self) -> String {
        format!("chaos_{}_{}", self.cable, self.node)
    }

    /// The rules: a share drawn for each packet, and a counter that shows what was lost.
    fn rules(&self) -> String {
        let share = match self.percent {
            100.. => String::new(),
            percent => format!("numgen random mod 100 < {percent} "),
        };
        let chain = |hook: &str| {
            format!(
                "chain {hook} {{ type filter hook {hook} device \"{}-{}\" priority 0; {share}counter drop; }}; ",
                self.cable, self.node
            )
        };
        let chains = match self.way {
            Way::From => chain("ingress"),
            Way::To => chain("egress"),
            Way::Both => chain("ingress") + &chain("egress"),
        };
        format!("table netdev {} {{ {chains}}}", self.table())
    }

    /// Begins to lose packets.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn begin(&self) -> Result<()> {
        nft(&[&self.rules()]).map(|_| ())
    }

    /// Ends it; returns how many packets were lost.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn end(&self) -> Result<u64> {
        let listed = nft(&["-j", "list", "table", "netdev", &self.table()])?;
        nft(&["delete", "table", "netdev", &self.table()])?;
        dropped(&listed)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::From => "from",
            Way::To => "towards",
            Way::Both => "from and towards",
        };
        write!(f, "{} % loss {way} {} on {}", self.percent, self.node, self.cable)
    }
}

fn nft(args: &[&str]) -> Result<String> {
    run("nsenter", &[&["--net=/run/netns/tdm-sw", "nft"], args].concat())
}

/// The sum of all counters in the JSON of a table.
fn dropped(listed: &str) -> Result<u64> {
    let listed: Value = serde_json::from_str(listed)?;
    let objects = listed["nftables"].as_array().context("nft listed no objects")?;
    let rules = objects.iter().filter_map(|o| o["rule"]["expr"].as_array()).flatten();
    Ok(rules.filter_map(|e| e["counter"]["packets"].as_u64()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_cable_way_and_share() {
        let loss = |way, percent| Loss { node: NodeName(0), cable: "acc", way, percent }.rules();
        assert_eq!(
            loss(Way::From, 30),
            "table netdev chaos_acc_n1 { chain ingress { type filter hook ingress device \"acc-n1\" priority 0; \
             numgen random mod 100 < 30 counter drop; }; }"
        );
        assert!(
            loss(Way::To, 100).contains("hook egress device \"acc-n1\" priority 0; counter drop;")
        );
        assert_eq!(loss(Way::Both, 5).matches("chain").count(), 2);
    }

    #[test]
    fn the_counters_of_both_directions_add_up() {
        let listed = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "netdev", "name": "x"}},
            {"rule": {"chain": "ingress", "expr": [{"counter": {"packets": 3, "bytes": 300}}, {"drop": null}]}},
            {"rule": {"chain": "egress", "expr": [{"match": {"op": "<"}}, {"counter": {"packets": 4, "bytes": 1}}, {"drop": null}]}}]}"#;
        assert_eq!(dropped(listed).unwrap(), 7);
        assert!(dropped("{}").is_err());
    }
}
