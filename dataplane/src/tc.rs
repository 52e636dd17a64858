use crate::abi::has_class;
use crate::config::Shaper;
use crate::error::DataplaneError;
use crate::table::{Placed, Step};
use crate::tool::TC;
use aya::programs::TcAttachType;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Packets in the queue of traffic without a class.
const DIRECT_QUEUE_PACKETS: u32 = 1000;
/// Packets in the queue of a class, where the kernel has no fq_codel: 100 ms at 12 Mbit/s.
const CLASS_QUEUE_PACKETS: u32 = 100;
/// A class may burst this part of a second, so that a timer tick does not starve a fast one.
const BURST_PARTS_OF_S: u64 = 100;
/// Smallest burst in octets: two packets.
const BURST_OCTETS_MIN: u64 = 2 * 1600;
/// How `tc` shows our root.
const ROOT: &str = "qdisc htb 1: ";
/// Minor number of the class that [`Htb::probe`] makes and removes.
const PROBE_MINOR: u32 = 0xfffe;

/// The HTB trees of one node: class `1:index` on the access port shapes down, on the core port up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Htb {
    fq_codel: bool,
}

/// Returns whether a program of that name is attached.
pub(crate) async fn is_attached(
    interface: &str,
    program: &str,
    direction: TcAttachType,
) -> Result<bool, DataplaneError> {
    let hook = if direction == TcAttachType::Egress { "egress" } else { "ingress" };
    match TC.run(&["filter", "show", "dev", interface, hook], "").await {
        Ok(text) => Ok(text.split_whitespace().any(|word| word == program)),
        // Without a clsact qdisc, tc complains about the parent.
        Err(DataplaneError::Tool { .. }) => Ok(false),
        Err(other) => Err(other),
    }
}

/// Where a class is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClassKey {
    pub(crate) interface: String,
    pub(crate) index: u32,
}

impl Htb {
    /// Puts an HTB root on each interface that has none of ours, and finds out which leaf is there.
    pub(crate) async fn open(interfaces: &[&str]) -> Result<Self, DataplaneError> {
        for interface in interfaces {
            let shown = TC.run(&["qdisc", "show", "dev", interface, "root"], "").await?;
            if !shown.starts_with(ROOT) {
                let limit = DIRECT_QUEUE_PACKETS;
                let script = format!(
                    "qdisc replace dev {interface} root handle 1: htb direct_qlen {limit}\n"
                );
                TC.run(&["-batch", "-"], &script).await?;
            }
        }
        let fq_codel = match interfaces.first() {
            Some(interface) => Self::probe(interface).await?,
            None => false,
        };
        Ok(Self { fq_codel })
    }

    /// Removes the roots that a former process with this shaper left.
    pub(crate) async fn remove(interfaces: &[&str]) -> Result<(), DataplaneError> {
        let mut script = String::new();
        for interface in interfaces {
            let shown = TC.run(&["qdisc", "show", "dev", interface, "root"], "").await?;
            if shown.starts_with(ROOT) {
                let _ = writeln!(script, "qdisc del dev {interface} root");
            }
        }
        Self::run(&script).await
    }

    async fn probe(interface: &str) -> Result<bool, DataplaneError> {
        let class = format!("dev {interface} classid 1:{PROBE_MINOR:x}");
        let make = format!("class replace {class} parent 1: htb rate 1mbit\n");
        TC.run(&["-batch", "-"], &make).await?;
        let leaf = format!("qdisc add dev {interface} parent 1:{PROBE_MINOR:x} fq_codel\n");
        let found = TC.run(&["-batch", "-"], &leaf).await.is_ok();
        TC.run(&["-batch", "-"], &format!("class del {class}\n")).await?;
        Ok(found)
    }

    /// Writes the commands that bring the classes of one session from `before` to `after`.
    pub(crate) fn step(self, step: &Step, ports: &Ports<'_>, script: &mut String) {
        let before = step.before.as_ref().map(|p| ports.classes(p)).unwrap_or_default();
        let after = step.after.as_ref().map(|p| ports.classes(p)).unwrap_or_default();
        for key in before.keys().filter(|k| !after.contains_key(k)) {
            Self::delete(key, script);
        }
        for (key, &rate_bps) in &after {
            match before.get(key) {
                Some(&old) if old == rate_bps => {}
                Some(_) => Self::rate("change", key, rate_bps, script),
                None => self.add(key, rate_bps, script),
            }
        }
    }

    /// Writes the command that makes a class and its queue.
    pub(crate) fn add(self, key: &ClassKey, rate_bps: u64, script: &mut String) {
        let ClassKey { interface, index } = key;
        Self::rate("replace", key, rate_bps, script);
        let leaf = if self.fq_codel {
            "fq_codel".to_owned()
        } else {
            format!("pfifo limit {CLASS_QUEUE_PACKETS}")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            script,
            "qdisc replace dev {interface} parent 1:{index:x} handle {:x}: {leaf}",
            index + 1
        );
    }

    /// Writes the command that sets the rate of a class.
    pub(crate) fn rate(verb: &str, key: &ClassKey, rate_bps: u64, script: &mut String) {
        let ClassKey { interface, index } = key;
        let burst = (rate_bps / 8 / BURST_PARTS_OF_S).max(BURST_OCTETS_MIN);
        let _ = writeln!(
            script,
            "class {verb} dev {interface} parent 1: classid 1:{index:x} htb rate {rate_bps}bit \
             burst {burst}b cburst {burst}b quantum 1514"
        );
    }

    /// Writes the command that removes a class with its queue.
    pub(crate) fn delete(key: &ClassKey, script: &mut String) {
        let ClassKey { interface, index } = key;
        let _ = writeln!(script, "class del dev {interface} classid 1:{index:x}");
    }

    /// Runs a script; commands after a failed one still run.
    pub(crate) async fn run(script: &str) -> Result<(), DataplaneError> {
        if script.is_empty() {
            return Ok(());
        }
        TC.run(&["-force", "-batch", "-"], script).await.map(drop)
    }

    /// Reads the classes of an interface, with their rates in bits per second.
    pub(crate) async fn classes(
        interface: &str,
    ) -> Result<BTreeMap<ClassKey, u64>, DataplaneError> {
        let text = TC.run(&["class", "show", "dev", interface], "").await?;
        Ok(parse_classes(interface, &text))
    }
}

/// The interfaces of this node that have classes.
#[derive(Clone, Debug)]
pub(crate) struct Ports<'a> {
    pub(crate) shaper: Shaper,
    pub(crate) access: &'a BTreeMap<u16, String>,
    pub(crate) core: Option<&'a str>,
}

impl Ports<'_> {
    /// Returns the classes that a session has, with their rates in bits per second.
    pub(crate) fn classes(&self, placed: &Placed) -> BTreeMap<ClassKey, u64> {
        let Placed { entry, index } = *placed;
        let access = self.access.get(&entry.attachment.port.0).map(String::as_str);
        [(access, entry.rate.down_bps), (self.core, entry.rate.up_bps)]
            .into_iter()
            .filter(|&(_, bps)| has_class(self.shaper, index, bps))
            .filter_map(|(interface, bps)| {
                // The kernel keeps octets per second.
                Some((ClassKey { interface: interface?.to_owned(), index }, (bps / 8).max(1) * 8))
            })
            .collect()
    }
}

/// Reads lines such as `class htb 1:1a root leaf 1b: prio 0 rate 10Mbit ceil 10Mbit burst 12500b`.
fn parse_classes(interface: &str, text: &str) -> BTreeMap<ClassKey, u64> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let minor = words.clone().nth(2).and_then(|id| id.strip_prefix("1:"));
        let index = minor.and_then(|m| u32::from_str_radix(m, 16).ok());
        words.find(|w| *w == "rate");
        let rate = words.next().and_then(parse_rate);
        if let (Some(index), Some(rate)) = (index, rate) {
            found.insert(ClassKey { interface: interface.to_owned(), index }, rate);
        }
    }
    found
}

/// Reads a rate as `tc` prints it: `950Kbit`, `10Mbit`, `1500bit`, `1Gbit`.
fn parse_rate(text: &str) -> Option<u64> {
    let number = text.strip_suffix("bit")?;
    let (number, unit) = match number.as_bytes().last()? {
        b'K' => (&number[..number.len() - 1], 1_000),
        b'M' => (&number[..number.len() - 1], 1_000_000),
        b'G' => (&number[..number.len() - 1], 1_000_000_000),
        b'T' => (&number[..number.len() - 1], 1_000_000_000_000),
        _ => (number, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SessionEntry;
    use model::{Attachment, GroupId, MacAddr, PortId, Rate, SessionId, Vlans};

    fn placed(down_bps: u64, up_bps: u64) -> Placed {
        let attachment =
            Attachment { port: PortId(1), vlans: Vlans::NONE, mac: MacAddr([2, 0, 0, 0, 0, 1]) };
        let entry = SessionEntry {
            id: SessionId(1),
            group: GroupId(1),
            attachment,
            address: [10, 0, 0, 1].into(),
            pppoe_sid: None,
            s_tag: false,
            rate: Rate { down_bps, up_bps },
            nat: None,
            allowed: true,
        };
        Placed { entry, index: 0x1a }
    }

    #[test]
    fn steps_make_change_and_remove_classes() {
        let access = BTreeMap::from([(1, "acc0".to_owned())]);
        let ports = Ports { shaper: Shaper::Htb, access: &access, core: Some("core0") };
        let script = |before, after| {
            let mut text = String::new();
            Htb { fq_codel: false }.step(&Step { before, after }, &ports, &mut text);
            text
        };
        let made = script(None, Some(placed(8_000_000, 0)));
        assert_eq!(
            made,
            "class replace dev acc0 parent 1: classid 1:1a htb rate 8000000bit \
             burst 10000b cburst 10000b quantum 1514\n\
             qdisc replace dev acc0 parent 1:1a handle 1b: pfifo limit 100\n"
        );
        let changed = script(Some(placed(8_000_000, 0)), Some(placed(9_000_000, 0)));
        assert!(changed.starts_with("class change dev acc0 "), "{changed}");
        assert_eq!(changed.lines().count(), 1);
        let removed = script(Some(placed(8, 8)), None);
        assert_eq!(removed, "class del dev acc0 classid 1:1a\nclass del dev core0 classid 1:1a\n");
        assert_eq!(script(Some(placed(800, 800)), Some(placed(801, 803))), "");
    }

    #[test]
    fn rates_are_read_as_tc_prints_them() {
        let rows = [
            ("1500bit", Some(1_500)),
            ("950Kbit", Some(950_000)),
            ("10Mbit", Some(10_000_000)),
            ("1Gbit", Some(1_000_000_000)),
            ("10", None),
            ("bit", None),
        ];
        for (text, want) in rows {
            assert_eq!(parse_rate(text), want, "{text}");
        }
        let text = "class htb 1:1a root leaf 1b: prio 0 rate 8Mbit ceil 8Mbit burst 10000b\n";
        let key = ClassKey { interface: "acc0".into(), index: 0x1a };
        assert_eq!(parse_classes("acc0", text), BTreeMap::from([(key, 8_000_000)]));
    }
}
