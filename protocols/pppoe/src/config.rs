use std::fmt;
use std::time::Duration;

/// The MRU of a 1500-octet link, in octets. RFC 2516 §7.
pub(crate) const MRU_DEFAULT: u16 = 1492;

/// PPPoE header and PPP protocol field, in octets.
const OVERHEAD_OCTETS: u16 = 8;

/// The smallest MRU that carries IPv6 (RFC 8200 §5), hence useful.
const MRU_MIN: u16 = 1280;

/// Settings of the access concentrator.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// AC-Name in PADO and PADS.
    pub ac_name: String,
    /// Services offered; when empty any is accepted and echoed.
    pub services: Vec<String>,
    /// Makes AC-Cookies. The same on all nodes that may own the group, so that a PADR sent after a
    /// takeover is good.
    pub cookie_key: [u8; 32],
    /// How long a PADO may be answered.
    pub cookie_lifetime: Duration,
    /// MTU of the access port in octets, without Ethernet header and VLAN tags.
    pub mtu: u16,
    /// PADIs that may pass per second, of all hosts on a port together. 0 lets none pass.
    pub padi_per_s: u32,
    /// PADIs that may pass at once.
    pub padi_burst: u32,
    /// PADIs, and as many PADRs, that may pass per second from one host. 0 lets none pass.
    pub padi_per_mac_per_s: u8,
}

impl ServerConfig {
    /// Returns the usual settings: any service, a 1500-octet link.
    ///
    /// A cookie lives for 30 s because hosts repeat a lost PADR with the old cookie: pppd after 5 s
    /// and again 10 s later.
    #[must_use]
    pub fn new(ac_name: impl Into<String>, cookie_key: [u8; 32]) -> Self {
        Self {
            ac_name: ac_name.into(),
            services: vec![],
            cookie_key,
            cookie_lifetime: Duration::from_secs(30),
            mtu: 1500,
            padi_per_s: 2000,
            padi_burst: 4000,
            padi_per_mac_per_s: 3,
        }
    }

    /// Returns the PPP payload agreed on with a host that announced `peer_octets`, `None` when it
    /// stays at the default. RFC 4638.
    pub(crate) fn agreed_max_payload(&self, peer_octets: Option<u16>) -> Option<u16> {
        let ours = self.mtu.saturating_sub(OVERHEAD_OCTETS);
        peer_octets.map(|theirs| theirs.min(ours)).filter(|octets| *octets > MRU_DEFAULT)
    }

    /// Whether `service` is offered; the empty name asks for any.
    pub(crate) fn offers(&self, service: &[u8]) -> bool {
        service.is_empty()
            || self.services.is_empty()
            || self.services.iter().any(|s| s.as_bytes() == service)
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("ac_name", &self.ac_name)
            .field("services", &self.services)
            .field("cookie_key", &"***")
            .field("cookie_lifetime", &self.cookie_lifetime)
            .field("mtu", &self.mtu)
            .field("padi_per_s", &self.padi_per_s)
            .field("padi_burst", &self.padi_burst)
            .field("padi_per_mac_per_s", &self.padi_per_mac_per_s)
            .finish()
    }
}

/// The link cannot carry PPPoE with a useful MRU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("link MTU of {0} octets leaves less than {MRU_MIN} octets for PPP")]
pub struct LinkTooSmall(pub u16);

/// Returns the largest MRU, in octets, that may be offered on a link of `link_mtu_octets`.
///
/// PPPoE and PPP take 8 octets of each Ethernet payload, so a 1500-octet link gives 1492, the most
/// RFC 2516 §7 allows. A larger link stays at 1492 until the peer has sent PPP-Max-Payload
/// (`peer_max_octets`, RFC 4638 §5.1): it may drop what it never agreed to receive.
///
/// # Errors
/// [`LinkTooSmall`] when less than 1280 octets would be left.
pub fn mru_max(link_mtu_octets: u16, peer_max_octets: Option<u16>) -> Result<u16, LinkTooSmall> {
    let link = link_mtu_octets.saturating_sub(OVERHEAD_OCTETS);
    let mru = link.min(peer_max_octets.unwrap_or(MRU_DEFAULT).max(MRU_DEFAULT));
    if mru < MRU_MIN { Err(LinkTooSmall(link_mtu_octets)) } else { Ok(mru) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mru_above_1492_needs_the_link_and_the_peers_word() {
        for (link, peer, want) in [
            (1500, None, Ok(1492)),
            (1500, Some(1500), Ok(1492)),
            (1508, None, Ok(1492)),
            (1508, Some(1500), Ok(1500)),
            (9000, Some(1500), Ok(1500)),
            (1400, Some(1500), Ok(1392)),
            (1000, None, Err(LinkTooSmall(1000))),
            (3, None, Err(LinkTooSmall(3))),
        ] {
            assert_eq!(mru_max(link, peer), want, "link {link}, peer {peer:?}");
        }
    }

    #[test]
    fn debug_output_hides_the_key() {
        let text = format!("{:?}", ServerConfig::new("bng1", [7; 32]));
        assert!(text.contains("***") && !text.contains("7, 7"), "{text}");
    }
}
