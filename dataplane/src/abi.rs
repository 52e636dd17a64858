//! The map layouts of `bpf/common.h`, octet by octet, and their conversion from and to our types.

use crate::config::{SessionEntry, Shaper};
use crate::table::Placed;
use aya::Pod;
use model::{Attachment, MacAddr, PortId, Rate, SessionId, Vlans};
use std::mem::size_of;
use std::net::Ipv4Addr;

/// Groups per node; the size of the fence array and of the slot in a packet mark.
pub(crate) const GROUPS_MAX: usize = 64;
/// A policer lets this much time of traffic through at once, before the rate binds.
const POLICER_BURST_NS: u64 = 100_000_000;
/// At slow rates the burst is at least this many octets, else TCP could not send a window.
const POLICER_BURST_OCTETS_MIN: u64 = 10 * 1514;
/// Largest minor number of an HTB class, below the reserved 0xffff and the probe.
pub(crate) const CLASS_INDEX_MAX: u32 = 0xfffd;

pub(crate) const F_POLICE: u8 = 0x01;
pub(crate) const F_CLASS: u8 = 0x02;
pub(crate) const F_S_TAG: u8 = 0x04;
pub(crate) const F_BLOCK: u8 = 0x08;

// Marks of packets: two bits of sign over slot, class flag and index of a session.
pub(crate) const MARK_SIGN_MASK: u32 = 0xc000_0000;
pub(crate) const MARK_SIGN: u32 = 0x4000_0000;
pub(crate) const MARK_SIGN_FLOW: u32 = 0x8000_0000;
pub(crate) const MARK_INDEX_MASK: u32 = 0x007f_ffff;

/// The reason that the nftables rules share with the programs.
pub(crate) const UNTRANSLATED: &str = "untranslated";

/// Names of `enum drop_reason`, in its order. Dashboards depend on them: add, never rename.
pub(crate) const DROP_REASONS: [&str; 15] = [
    "no_session",
    "spoofed_source",
    "fence_shut",
    "policed",
    "malformed",
    "other_mac",
    "not_ipv4",
    "no_group",
    "foreign_frame",
    "segment_offload",
    "no_room",
    "stale_flow",
    UNTRANSLATED,
    "banned",
    "disallowed",
];

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $size:literal, { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name { $(pub(crate) $field: $ty),* }
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: repr(C), only integers and arrays of them, and by the assertion against the sum of
        // the field sizes below without padding: every octet is initialized.
        unsafe impl Pod for $name {}
        const _: () = assert!(0 $(+ size_of::<$ty>())* == $size);
    };
}

layout!(
    /// `struct port`.
    PortValue, 4, { port: u16, slot: u8, pad: u8 }
);
layout!(
    /// `struct group`.
    GroupValue, 12, { vmac: [u8; 6], known: u8, pad: u8, id: u32 }
);
layout!(
    /// `struct vmac_key`.
    VmacKey, 8, { mac: [u8; 6], pad: [u8; 2] }
);
layout!(
    /// `struct up_key`.
    UpKey, 20, {
        port: u16, outer: u16, inner: u16, sid: u16, mac: [u8; 6], pad: u16, address: [u8; 4],
    }
);
layout!(
    /// `struct up_value`.
    UpValue, 40, {
        session: u64, rate_bps: u64, burst_ns: u64, index: u32, address: [u8; 4],
        slot: u8, flags: u8, pad: [u8; 6],
    }
);
layout!(
    /// `struct down_value`.
    DownValue, 48, {
        session: u64, rate_bps: u64, burst_ns: u64, index: u32, port: u16, outer: u16, inner: u16,
        sid: u16, mac: [u8; 6], slot: u8, flags: u8, pad: [u8; 4],
    }
);
layout!(
    /// `struct flow`: one direction of a session.
    Flow, 64, { packets: u64, bytes: u64, dropped: u64, tat_ns: u64, pad: [u64; 4] }
);
layout!(
    /// `struct flows`.
    Flows, 128, { up: Flow, down: Flow }
);
layout!(
    /// `struct counters`.
    BaseValue, 48, {
        bytes_up: u64, packets_up: u64, bytes_down: u64, packets_down: u64,
        dropped_up: u64, dropped_down: u64,
    }
);

/// The entries of one session in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRecords {
    pub(crate) up_key: UpKey,
    pub(crate) up: UpValue,
    pub(crate) down_key: [u8; 4],
    pub(crate) down: DownValue,
}

/// Returns whether a session of this index and rate gets an HTB class.
pub(crate) fn has_class(shaper: Shaper, index: u32, rate_bps: u64) -> bool {
    shaper == Shaper::Htb && rate_bps != 0 && index <= CLASS_INDEX_MAX
}

fn rate_flags(shaper: Shaper, index: u32, rate_bps: u64) -> u8 {
    if rate_bps == 0 {
        0
    } else if has_class(shaper, index, rate_bps) {
        F_CLASS
    } else {
        F_POLICE
    }
}

/// Returns how long the bucket may run ahead of the clock, in ns.
fn burst_ns(rate_bps: u64) -> u64 {
    match rate_bps {
        0 => 0,
        bps => POLICER_BURST_NS.max(POLICER_BURST_OCTETS_MIN * 8 * 1_000_000_000 / bps),
    }
}

/// Returns the key under which frames of `entry` are found.
pub(crate) fn up_key(entry: &SessionEntry) -> UpKey {
    let Attachment { port, vlans, mac } = entry.attachment;
    UpKey {
        port: port.0,
        outer: vlans.outer,
        inner: vlans.inner,
        sid: entry.pppoe_sid.unwrap_or(0),
        mac: mac.0,
        pad: 0,
        address: if entry.pppoe_sid.is_some() { [0; 4] } else { entry.address.octets() },
    }
}

/// Returns the map entries of a session of the group in `slot`.
pub(crate) fn records(placed: &Placed, slot: u8, shaper: Shaper) -> SessionRecords {
    let Placed { entry, index } = *placed;
    let Attachment { port, vlans, mac } = entry.attachment;
    let s_tag = if entry.s_tag { F_S_TAG } else { 0 };
    let block = if entry.allowed { 0 } else { F_BLOCK };
    SessionRecords {
        up_key: up_key(&entry),
        up: UpValue {
            session: entry.id.0,
            rate_bps: entry.rate.up_bps,
            burst_ns: burst_ns(entry.rate.up_bps),
            index,
            address: entry.address.octets(),
            slot,
            flags: rate_flags(shaper, index, entry.rate.up_bps) | block,
            pad: [0; 6],
        },
        down_key: entry.address.octets(),
        down: DownValue {
            session: entry.id.0,
            rate_bps: entry.rate.down_bps,
            burst_ns: burst_ns(entry.rate.down_bps),
            index,
            port: port.0,
            outer: vlans.outer,
            inner: vlans.inner,
            sid: entry.pppoe_sid.unwrap_or(0),
            mac: mac.0,
            slot,
            flags: rate_flags(shaper, index, entry.rate.down_bps) | s_tag | block,
            pad: [0; 4],
        },
    }
}

/// Returns the session that a former process programmed, from its downward entry; the upward rate
/// and the NAT block are in other places and left empty.
pub(crate) fn placed(address: [u8; 4], down: &DownValue, group: model::GroupId) -> Placed {
    let entry = SessionEntry {
        id: SessionId(down.session),
        group,
        attachment: Attachment {
            port: PortId(down.port),
            vlans: Vlans { outer: down.outer, inner: down.inner },
            mac: MacAddr(down.mac),
        },
        address: Ipv4Addr::from(address),
        pppoe_sid: (down.sid != 0).then_some(down.sid),
        s_tag: down.flags & F_S_TAG != 0,
        rate: Rate { down_bps: down.rate_bps, up_bps: 0 },
        nat: None,
        allowed: down.flags & F_BLOCK == 0,
    };
    Placed { entry, index: down.index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::GroupId;

    fn entry() -> SessionEntry {
        SessionEntry {
            id: SessionId(77),
            group: GroupId(3),
            attachment: Attachment {
                port: PortId(2),
                vlans: Vlans { outer: 100, inner: 200 },
                mac: MacAddr([2, 0, 0, 0, 0, 9]),
            },
            address: Ipv4Addr::new(100, 64, 0, 9),
            pppoe_sid: Some(513),
            s_tag: true,
            rate: Rate { down_bps: 8_000_000, up_bps: 0 },
            nat: None,
            allowed: true,
        }
    }

    #[test]
    fn a_session_returns_from_its_downward_entry() {
        for allowed in [true, false] {
            let wanted = Placed { entry: SessionEntry { allowed, ..entry() }, index: 12 };
            for shaper in [Shaper::Policer, Shaper::Htb] {
                let r = records(&wanted, 5, shaper);
                assert_eq!(placed(r.down_key, &r.down, GroupId(3)), wanted, "{shaper:?}");
                for flags in [r.up.flags, r.down.flags] {
                    assert_eq!(flags & F_BLOCK == 0, allowed, "{shaper:?}");
                }
            }
        }
    }

    #[test]
    fn the_key_names_the_address_for_ipoe_and_the_session_id_for_pppoe() {
        assert_eq!(up_key(&entry()).address, [0; 4]);
        assert_eq!(up_key(&entry()).sid, 513);
        let ipoe = SessionEntry { pppoe_sid: None, ..entry() };
        assert_eq!(up_key(&ipoe).address, [100, 64, 0, 9]);
        assert_eq!(up_key(&ipoe).sid, 0);
    }

    #[test]
    fn a_rate_is_enforced_once() {
        // shaper, index, rate_bps, flags
        let rows = [
            (Shaper::Policer, 1, 0, 0),
            (Shaper::Policer, 1, 1000, F_POLICE),
            (Shaper::Htb, 1, 0, 0),
            (Shaper::Htb, 1, 1000, F_CLASS),
            (Shaper::Htb, CLASS_INDEX_MAX + 1, 1000, F_POLICE), // no minor number is left
        ];
        for (shaper, index, bps, want) in rows {
            assert_eq!(rate_flags(shaper, index, bps), want, "{shaper:?} {index} {bps}");
        }
    }

    #[test]
    fn a_slow_rate_still_passes_ten_packets_at_once() {
        assert_eq!(burst_ns(64_000) * 64_000 / 8 / 1_000_000_000, 15_140);
        assert_eq!(burst_ns(1_000_000_000), POLICER_BURST_NS);
    }
}
