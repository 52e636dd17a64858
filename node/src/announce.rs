//! What tells switches and routers that the group lives here now: adverts, gratuitous ARP, and a
//! frame from the virtual MAC in each VLAN, at once and then repeated.

use ether::{Arp, Frame, ethertype};
use model::{Group, GroupService, MacAddr, Tick, Vlans};
use raft_store::State;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Frames to send on all access ports and on the core port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// To each access port.
    pub access: Vec<Vec<u8>>,
    /// To the core port.
    pub core: Vec<Vec<u8>>,
}

/// When the first announcement is repeated: a frame may be lost while links settle.
const REPEAT: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
];
/// VRRP advertisement interval, in centiseconds (RFC 9568 §5.2.7).
const ADVERT_CS: u16 = 100;
const ADVERT: Duration = Duration::from_secs(1);

/// The announcing of one group on its owner.
pub struct Announcer {
    arp_access: Vec<Vec<u8>>,
    arp_core: Vec<Vec<u8>>,
    advert_access: Vec<Vec<u8>>,
    advert_core: Vec<Vec<u8>>,
    repeats: Vec<Tick>,
    next_advert: Tick,
    vmac: MacAddr,
    arp_addresses: BTreeSet<Ipv4Addr>,
}

impl Announcer {
    /// Builds the frames of `group`.
    #[must_use]
    pub fn new(group: &Group, state: &State) -> Self {
        let vmac = group.virtual_mac();
        let gateways: BTreeSet<Ipv4Addr> =
            state.pools().filter(|p| p.group == group.id).map(|p| p.gateway).collect();
        let dhcp: BTreeSet<Ipv4Addr> =
            state.pools_of(group.id, GroupService::Dhcp).map(|p| p.gateway).collect();
        let arp_addresses = if dhcp.is_empty() { gateways.clone() } else { dhcp };
        let arp_access =
            arp_addresses.iter().map(|ip| gratuitous(vmac, *ip, Vlans::NONE)).collect();
        let advert = |addresses: Vec<IpAddr>, from: Ipv4Addr| {
            let advert = vrrp::Advert {
                vrid: group.vrid,
                priority: 255,
                max_advert_interval_cs: ADVERT_CS,
                addresses,
            };
            vrrp::frame(&advert, from)
        };
        let advert_access = gateways
            .first()
            .map(|first| advert(gateways.iter().map(|ip| IpAddr::V4(*ip)).collect(), *first))
            .into_iter()
            .collect();
        Self {
            arp_access,
            arp_core: vec![gratuitous(vmac, group.core_address, Vlans::NONE)],
            advert_access,
            advert_core: vec![advert(vec![IpAddr::V4(group.core_address)], group.core_address)],
            repeats: Vec::new(),
            next_advert: Tick::ZERO,
            vmac,
            arp_addresses,
        }
    }

    /// Adds a frame for each VLAN with sessions: a switch learns the port of the virtual MAC per
    /// VLAN, for PPPoE too, which has no ARP. Takes time that grows with the number of sessions, so
    /// it comes after [`Announcer::start`].
    pub fn add_vlans(&mut self, group: &Group, state: &State) -> Frames {
        let vlans: BTreeSet<Vlans> =
            state.sessions_of(group.id).map(|s| s.attachment.vlans).collect();
        let tagged = vlans.into_iter().filter(|v| *v != Vlans::NONE);
        let mut access = Vec::new();
        for vlans in tagged {
            access.extend(self.arp_addresses.iter().map(|ip| gratuitous(self.vmac, *ip, vlans)));
        }
        self.arp_access.extend(access.iter().cloned());
        Frames { access, core: Vec::new() }
    }

    /// The first announcement, to be sent the moment the fence is open.
    pub fn start(&mut self, now: Tick) -> Frames {
        self.repeats = REPEAT.iter().map(|d| now + *d).collect();
        self.next_advert = now + ADVERT;
        self.everything()
    }

    /// What is due.
    pub fn step(&mut self, now: Tick) -> Frames {
        let before = self.repeats.len();
        self.repeats.retain(|at| *at > now);
        if self.repeats.len() < before {
            return self.everything();
        }
        if now >= self.next_advert {
            self.next_advert = now + ADVERT;
            return Frames { access: self.advert_access.clone(), core: self.advert_core.clone() };
        }
        Frames::default()
    }

    /// When [`Announcer::step`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.repeats.iter().copied().chain(std::iter::once(self.next_advert)).min()
    }

    fn everything(&self) -> Frames {
        Frames {
            access: [self.arp_access.clone(), self.advert_access.clone()].concat(),
            core: [self.arp_core.clone(), self.advert_core.clone()].concat(),
        }
    }
}

fn gratuitous(vmac: MacAddr, ip: Ipv4Addr, vlans: Vlans) -> Vec<u8> {
    let payload = Arp::gratuitous(vmac, ip).emit();
    Frame {
        dst: MacAddr::BROADCAST,
        src: vmac,
        vlans,
        s_tag: vlans.has_service_tag(),
        ethertype: ethertype::ARP,
        payload: &payload,
    }
    .emit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_has_the_tags_of_the_subscribers_behind_it() {
        let rows = [(0, 0, false), (100, 0, false), (200, 20, true)];
        for (outer, inner, s_tag) in rows {
            let vlans = Vlans { outer, inner };
            let octets =
                gratuitous(MacAddr::virtual_router(51), Ipv4Addr::new(100, 65, 0, 1), vlans);
            let frame = Frame::parse(&octets).expect("our own frame");
            assert_eq!((frame.vlans, frame.s_tag), (vlans, s_tag), "{vlans}");
        }
    }
}
