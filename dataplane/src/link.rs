use crate::config::Config;
use crate::error::DataplaneError;
use crate::sys;
use nix::net::if_::if_nametoindex;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// MTU that an access link should have, in octets: 1500 for the subscriber, 8 for PPPoE (RFC 2516 §4)
/// with the customer tag in the same room. The outer tag is beyond the MTU.
const ACCESS_LINK_MTU_OCTETS: i32 = 1508;
/// Longest interface name, without the terminating zero of `IFNAMSIZ`.
const INTERFACE_NAME_OCTETS_MAX: usize = 15;

/// Settings of interfaces, through a socket of the network namespace that the data plane was opened in.
#[derive(Debug)]
pub(crate) struct Links {
    control: OwnedFd,
}

impl Links {
    /// Opens the control socket.
    pub(crate) fn open() -> Result<Self, DataplaneError> {
        let control = sys::control_socket().map_err(|source| DataplaneError::Interface {
            name: String::new(),
            action: "open a control socket",
            source,
        })?;
        Ok(Self { control })
    }

    /// Returns the index of an interface.
    pub(crate) fn index(name: &str) -> Result<u32, DataplaneError> {
        if_nametoindex(name).map_err(|_| DataplaneError::InterfaceMissing { name: name.to_owned() })
    }

    /// Checks names, and that each interface exists and has one role.
    pub(crate) fn check(cfg: &Config) -> Result<(), DataplaneError> {
        let mut seen = Vec::new();
        let access = cfg.access.iter().map(|p| p.interface.as_str());
        for name in access.chain(cfg.core.as_deref()) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
            if name.is_empty()
                || name.len() > INTERFACE_NAME_OCTETS_MAX
                || !name.bytes().all(plain)
                || name.starts_with('.')
            {
                return Err(DataplaneError::InterfaceName { name: name.to_owned() });
            }
            if seen.contains(&name) {
                return Err(DataplaneError::InterfaceTwice { name: name.to_owned() });
            }
            seen.push(name);
            Self::index(name)?;
        }
        Ok(())
    }

    /// Prepares an access interface: no ARP and no IPv6 of its own, all frames, room for headers.
    pub(crate) fn prepare_access(&self, name: &str) -> Result<(), DataplaneError> {
        self.prepare(name, libc::IFF_UP | libc::IFF_NOARP | libc::IFF_PROMISC)?;
        sysctl_if_present(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
        let mtu = sys::interface_mtu(&self.control, name)
            .map_err(|source| interface_error(name, "read the MTU", source))?;
        if mtu < ACCESS_LINK_MTU_OCTETS
            && let Err(e) = sys::set_interface_mtu(&self.control, name, ACCESS_LINK_MTU_OCTETS)
        {
            tracing::warn!(
                interface = name, mtu, wanted = ACCESS_LINK_MTU_OCTETS, error = %e,
                "the MTU cannot be raised; full-size packets of double-tagged PPPoE may not fit"
            );
        }
        Ok(())
    }

    /// Prepares the core interface: all frames, and no ARP answers for addresses of other interfaces.
    pub(crate) fn prepare_core(&self, name: &str) -> Result<(), DataplaneError> {
        self.prepare(name, libc::IFF_UP | libc::IFF_PROMISC)?;
        // Gateways are addresses of this host on standbys too, which must not answer for them.
        sysctl(&format!("net/ipv4/conf/{name}/arp_ignore"), "1")?;
        sysctl(&format!("net/ipv4/conf/{name}/arp_announce"), "2")
    }

    fn prepare(&self, name: &str, flags: i32) -> Result<(), DataplaneError> {
        sys::add_interface_flags(&self.control, name, flags)
            .map_err(|source| interface_error(name, "set flags", source))?;
        if let Err(e) = sys::disable_receive_offloads(&self.control, name) {
            tracing::warn!(
                interface = name, error = %e,
                "receive offloads cannot be switched off; run `ethtool -K {name} gro off lro off rxvlan off`"
            );
        }
        for setting in ["rp_filter", "send_redirects", "accept_redirects"] {
            sysctl(&format!("net/ipv4/conf/{name}/{setting}"), "0")?;
        }
        sysctl(&format!("net/ipv4/conf/{name}/forwarding"), "1")
    }

    /// Returns an access or core interface to its ordinary flags.
    pub(crate) fn restore(&self, name: &str) -> Result<(), DataplaneError> {
        sys::clear_interface_flags(&self.control, name, libc::IFF_NOARP | libc::IFF_PROMISC)
            .map_err(|source| interface_error(name, "clear flags", source))
    }

    /// Returns the hardware address.
    pub(crate) fn mac(&self, name: &str) -> Result<[u8; 6], DataplaneError> {
        sys::interface_mac(&self.control, name)
            .map_err(|source| interface_error(name, "read the address", source))
    }

    /// Whether the interface is up with carrier.
    pub(crate) fn carrier(&self, name: &str) -> bool {
        let wanted = libc::IFF_UP | libc::IFF_RUNNING;
        sys::interface_flags(&self.control, name).is_ok_and(|flags| flags & wanted == wanted)
    }
}

/// Sets what concerns all interfaces.
pub(crate) fn prepare_host() -> Result<(), DataplaneError> {
    sysctl("net/ipv4/ip_forward", "1")?;
    // The stricter of `all` and the interface wins.
    sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    sysctl("net/ipv4/conf/all/send_redirects", "0")
}

fn interface_error(name: &str, action: &'static str, source: io::Error) -> DataplaneError {
    match source.raw_os_error() {
        Some(libc::EPERM) => {
            DataplaneError::Privilege { action: format!("{action} on interface {name}") }
        }
        Some(libc::ENODEV) => DataplaneError::InterfaceMissing { name: name.to_owned() },
        _ => DataplaneError::Interface { name: name.to_owned(), action, source },
    }
}

/// Writes a setting below `/proc/sys`, unless it has the value already.
fn sysctl(path: &str, value: &'static str) -> Result<(), DataplaneError> {
    let file = format!("/proc/sys/{path}");
    if fs::read_to_string(&file).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&file, value).map_err(|source| DataplaneError::Sysctl {
        path: path.to_owned(),
        value,
        source,
    })
}

fn sysctl_if_present(path: &str, value: &'static str) -> Result<(), DataplaneError> {
    match sysctl(path, value) {
        Err(DataplaneError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Shaper, XdpMode};

    #[test]
    fn a_name_that_would_break_a_script_is_refused() {
        for name in ["", "a b", "x;drop", "\"", "sixteen-octets-x", "../x"] {
            let cfg = Config {
                access: vec![],
                core: Some(name.to_owned()),
                xdp: XdpMode::Auto,
                shaper: Shaper::Policer,
                pin_dir: "/sys/fs/bpf/x".into(),
            };
            let got = Links::check(&cfg);
            assert!(matches!(got, Err(DataplaneError::InterfaceName { .. })), "{name:?}: {got:?}");
        }
    }
}
