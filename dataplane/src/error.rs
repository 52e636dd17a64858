use model::{GroupId, MacAddr, SessionId};
use std::io;
use std::path::PathBuf;

/// Why the kernel could not be programmed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// The process may not change the network.
    #[error("the data plane needs root, or CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF: {action}")]
    Privilege {
        /// What was refused.
        action: String,
    },
    /// An interface of the configuration does not exist here.
    #[error(
        "interface {name} does not exist in this network namespace; create it or correct the configuration"
    )]
    InterfaceMissing {
        /// Its name.
        name: String,
    },
    /// A name that the kernel would not take, or that would not be safe in a tc or nft script.
    #[error("{name:?} is not an interface name: 1 to 15 of letters, digits, '.', '_', '-', '@'")]
    InterfaceName {
        /// The text.
        name: String,
    },
    /// The kernel refused a setting of an interface.
    #[error("cannot {action} on interface {name}")]
    Interface {
        /// Its name.
        name: String,
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Two roles share one interface.
    #[error("interface {name} is configured twice; each access port and the core need their own")]
    InterfaceTwice {
        /// Its name.
        name: String,
    },
    /// The virtual MAC is the device's own, so frames of the daemon and the kernel cannot be told apart.
    #[error(
        "interface {name} has the virtual MAC {vmac} as its own address; give the interface another"
    )]
    VirtualMacInUse {
        /// Interface.
        name: String,
        /// The address.
        vmac: MacAddr,
    },
    /// Pins need a BPF file system.
    #[error(
        "cannot use {path} for pinned BPF objects; mount one with `mount -t bpf bpf /sys/fs/bpf`"
    )]
    BpfFs {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The object was not accepted.
    #[error(
        "the kernel did not take the eBPF object; Linux 5.15 or newer with CONFIG_BPF_SYSCALL is needed: {detail}"
    )]
    Load {
        /// Loader or verifier message.
        detail: String,
    },
    /// XDP could not be attached.
    #[error("XDP in {mode} mode is not supported on {interface}: {detail}; use xdp = generic")]
    Xdp {
        /// Interface.
        interface: String,
        /// The mode tried.
        mode: &'static str,
        /// The kernel's answer.
        detail: String,
    },
    /// A tc program could not be attached.
    #[error(
        "cannot attach {program} to {interface}; the kernel needs clsact and cls_bpf: {detail}"
    )]
    Attach {
        /// Interface.
        interface: String,
        /// Program.
        program: &'static str,
        /// The kernel's answer.
        detail: String,
    },
    /// A map refused an operation.
    #[error("eBPF map {map}: {detail}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's answer.
        detail: String,
    },
    /// The group was not put.
    #[error("group {0} is not known to the data plane; put it first")]
    UnknownGroup(GroupId),
    /// A pool or session names a port that this node does not have.
    #[error("access port {0} is not configured on this node")]
    UnknownPort(u16),
    /// More groups than slots.
    #[error("no room for group {group}: at most {max} groups per node")]
    TooManyGroups {
        /// The group refused.
        group: GroupId,
        /// The bound.
        max: usize,
    },
    /// More sessions than slots.
    #[error("no room for session {session}: at most {max} sessions per node")]
    TooManySessions {
        /// The session refused.
        session: SessionId,
        /// The bound.
        max: u32,
    },
    /// A tool is not installed.
    #[error("{program} could not be started; install the Debian package {package}")]
    ToolMissing {
        /// The tool.
        program: &'static str,
        /// The package.
        package: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A tool failed.
    #[error("{program} failed: {detail}")]
    Tool {
        /// The tool.
        program: &'static str,
        /// What it printed.
        detail: String,
    },
    /// A tool did not finish.
    #[error(
        "{program} did not finish within {bound_s} s; the kernel is overloaded, or has too many classes: use shaper = policer"
    )]
    ToolSlow {
        /// The tool.
        program: &'static str,
        /// The bound.
        bound_s: u64,
    },
    /// A route or address was refused.
    #[error("cannot {action}: {detail}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        detail: String,
    },
    /// Flows could not be listed or ended.
    #[error("cannot {action}; the kernel needs CONFIG_NF_CT_NETLINK: {detail}")]
    Conntrack {
        /// What was tried.
        action: &'static str,
        /// The kernel's answer.
        detail: String,
    },
    /// A kernel setting was refused.
    #[error("cannot set {path} to {value}")]
    Sysctl {
        /// File below `/proc/sys`.
        path: String,
        /// Wanted value.
        value: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl DataplaneError {
    /// The stable name, for counters and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Privilege { .. } => "privilege",
            Self::InterfaceMissing { .. } => "interface_missing",
            Self::InterfaceName { .. } => "interface_name",
            Self::Interface { .. } => "interface",
            Self::InterfaceTwice { .. } => "interface_twice",
            Self::VirtualMacInUse { .. } => "virtual_mac_in_use",
            Self::BpfFs { .. } => "bpffs",
            Self::Load { .. } => "load",
            Self::Xdp { .. } => "xdp",
            Self::Attach { .. } => "attach",
            Self::Map { .. } => "map",
            Self::UnknownGroup(_) => "unknown_group",
            Self::UnknownPort(_) => "unknown_port",
            Self::TooManyGroups { .. } => "too_many_groups",
            Self::TooManySessions { .. } => "too_many_sessions",
            Self::ToolMissing { .. } => "tool_missing",
            Self::Tool { .. } => "tool",
            Self::ToolSlow { .. } => "tool_slow",
            Self::Netlink { .. } => "netlink",
            Self::Conntrack { .. } => "conntrack",
            Self::Sysctl { .. } => "sysctl",
        }
    }
}

/// Joins an error and its causes, for errors whose `Display` leaves the cause out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
