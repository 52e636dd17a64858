//! Namespaces, bridges and addresses of a lab.

use super::netns::{self, ip_batch, run};
use super::{disk, wall};
use anyhow::{Result, bail};
use model::MacAddr;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Where the nodes of a lab keep their data.
pub const WORK_DIR: &str = "/run/tandem-lab";
/// BPF objects of lab nodes.
pub const PIN_ROOT: &str = "/sys/fs/bpf/tandem";
/// The address on the core that moves with the group.
pub const CORE_VIP: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 1);
/// The probe target behind the core router.
pub const TARGET: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Virtual router id of the lab's group.
pub const VRID: u8 = 51;

const ACCESS_MTU: u32 = 1600;
/// What veth hands over and no wire carries: partial checksums, large segments, and VLAN tags beside
/// the frame, where XDP does not see them. A bridge moves every tag there.
const OFFLOADS: [&str; 6] = ["tx", "tso", "gso", "gro", "txvlan", "tx-vlan-stag-hw-insert"];

/// A built lab network.
pub struct Topology {
    /// How many nodes: the last one is the witness.
    pub nodes: usize,
}

/// Management address of node `i`, from 0.
#[must_use]
pub fn mgmt(i: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 255, 0, u8::try_from(i + 1).unwrap_or(u8::MAX))
}

/// Name of node `i`, from 0.
#[must_use]
pub fn node_name(i: usize) -> String {
    format!("n{}", i + 1)
}

/// Namespace of node `i`, from 0.
#[must_use]
pub fn node_ns(i: usize) -> String {
    format!("tdm-n{}", i + 1)
}

impl Topology {
    /// Builds the network for `data` data nodes and one witness. An old lab is removed first.
    ///
    /// # Errors
    /// When not root, or the kernel refuses something.
    pub fn build(data: usize) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("the lab makes network namespaces and loads BPF programs: run it as root");
        }
        clean()?;
        mount_bpf()?;
        let lab = Self { nodes: data + 1 };
        let mut namespaces = String::new();
        for ns in lab.namespaces() {
            writeln!(namespaces, "netns add {ns}")?;
        }
        ip_batch(None, &namespaces)?;
        lab.switch()?;
        for i in 0..lab.nodes {
            lab.node(i, i < data)?;
        }
        lab.ends()?;
        std::fs::create_dir_all(WORK_DIR)?;
        Ok(lab)
    }

    fn namespaces(&self) -> Vec<String> {
        let fixed = ["tdm-sw", "tdm-sub", "tdm-core", "tdm-ops"];
        fixed.iter().map(|s| (*s).to_owned()).chain((0..self.nodes).map(node_ns)).collect()
    }

    /// The three bridges: they learn like a switch, and do nothing else.
    fn switch(&self) -> Result<()> {
        let mut lines = String::from("link set lo up\n");
        for bridge in ["acc", "core", "mgmt"] {
            writeln!(
                lines,
                "link add br-{bridge} type bridge stp_state 0 mcast_snooping 0 ageing_time 30000\nlink set br-{bridge} mtu {ACCESS_MTU} up"
            )?;
        }
        ip_batch(Some("tdm-sw"), &lines)
    }

    fn node(&self, i: usize, data: bool) -> Result<()> {
        let ns = node_ns(i);
        let n = i + 1;
        ip_batch(Some(&ns), "link set lo up\n")?;
        self.plug(&ns, "mgmt", "mgmt", &format!("mgmt-n{n}"))?;
        ip_batch(Some(&ns), &format!("addr add {}/24 dev mgmt\n", mgmt(i)))?;
        if data {
            self.plug(&ns, "acc", "acc", &format!("acc-n{n}"))?;
            self.plug(&ns, "core", "core", &format!("core-n{n}"))?;
            let own = Ipv4Addr::new(10, 254, 0, u8::try_from(10 + n)?);
            ip_batch(
                Some(&ns),
                &format!("addr add {own}/24 dev core\nroute add default via 10.254.0.254\n"),
            )?;
        }
        Ok(())
    }

    /// Subscribers, core router and operations.
    fn ends(&self) -> Result<()> {
        for ns in ["tdm-sub", "tdm-core", "tdm-ops"] {
            ip_batch(Some(ns), "link set lo up\n")?;
        }
        self.plug("tdm-sub", "acc", "acc", "acc-sub")?;
        self.plug("tdm-core", "core", "core", "core-r")?;
        self.plug("tdm-ops", "mgmt", "mgmt", "mgmt-ops")?;
        ip_batch(
            Some("tdm-core"),
            &format!(
                "addr add 10.254.0.254/24 dev core\naddr add {TARGET}/32 dev lo\n\
                 route add 100.64.0.0/10 via {CORE_VIP}\nroute add 203.0.113.0/24 via {CORE_VIP}\n"
            ),
        )?;
        ip_batch(Some("tdm-ops"), "addr add 10.255.0.254/24 dev mgmt\n")
    }

    /// One cable between a namespace and a bridge.
    fn plug(&self, ns: &str, inside: &str, bridge: &str, outside: &str) -> Result<()> {
        ip_batch(
            None,
            &format!("link add {outside} netns tdm-sw type veth peer name {inside} netns {ns}\n"),
        )?;
        ip_batch(
            Some("tdm-sw"),
            &format!("link set {outside} mtu {ACCESS_MTU} master br-{bridge} up\n"),
        )?;
        ip_batch(Some(ns), &format!("link set {inside} mtu {ACCESS_MTU} up\n"))?;
        for (place, dev) in [("tdm-sw", outside), (ns, inside)] {
            let net = format!("--net=/run/netns/{place}");
            let args = ["nsenter", &net, "ethtool", "-K", dev];
            let off = OFFLOADS.iter().flat_map(|offload| [*offload, "off"]);
            let args: Vec<&str> = args.into_iter().chain(off).collect();
            run(args[0], &args[1..])?;
        }
        Ok(())
    }

    /// One more namespace on the access switch, for a DHCP client that is not ours; returns its name.
    ///
    /// # Errors
    /// When the kernel refuses something.
    pub fn add_client(&self, name: &str, mac: MacAddr) -> Result<String> {
        let ns = format!("{}c-{name}", netns::PREFIX);
        ip_batch(None, &format!("netns add {ns}\n"))?;
        ip_batch(Some(&ns), "link set lo up\n")?;
        self.plug(&ns, "acc", "acc", &format!("acc-{name}"))?;
        ip_batch(Some(&ns), &format!("link set acc down address {mac}\nlink set acc up\n"))?;
        Ok(ns)
    }

    /// Data directory of node `i`.
    #[must_use]
    pub fn data_dir(&self, i: usize) -> PathBuf {
        PathBuf::from(WORK_DIR).join(format!("n{}", i + 1))
    }
}

fn mount_bpf() -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    if !mounts.lines().any(|l| l.split(' ').nth(1) == Some("/sys/fs/bpf")) {
        run("mount", &["-t", "bpf", "bpf", "/sys/fs/bpf"])?;
    }
    Ok(())
}

/// Removes every trace of a lab: processes in its namespaces, the namespaces, pinned objects, files.
///
/// # Errors
/// When something cannot be removed.
pub fn clean() -> Result<usize> {
    let namespaces = netns::existing()?;
    let me = std::process::id();
    for ns in &namespaces {
        for pid in run("ip", &["netns", "pids", ns])?.split_whitespace() {
            let pid: u32 = pid.parse()?;
            // Only processes inside our own namespaces, never this one.
            if pid != me {
                let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL);
            }
        }
    }
    for ns in &namespaces {
        run("ip", &["netns", "del", ns])?;
    }
    super::machine::clean();
    disk::unmount_below(Path::new(WORK_DIR))?;
    wall::clean_up()?;
    for dir in [PathBuf::from(WORK_DIR), PathBuf::from(PIN_ROOT)] {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
    }
    Ok(namespaces.len())
}
