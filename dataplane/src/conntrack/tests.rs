use super::*;
use crate::config::{SessionChange, SessionEntry};
use crate::table::Placed;
use model::{Attachment, MacAddr, PortId, Rate, SessionId, Vlans};

const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);

fn block(first_port: u16) -> NatBlock {
    NatBlock { public: PUBLIC, first_port, last_port: first_port + 63 }
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 0, n)
}

fn session(id: u64, n: u8, nat: Option<NatBlock>) -> SessionEntry {
    SessionEntry {
        id: SessionId(id),
        group: GroupId(1),
        attachment: Attachment {
            port: PortId(1),
            vlans: Vlans::NONE,
            mac: MacAddr([2, 0, 0, 0, 0, n]),
        },
        address: address(n),
        pppoe_sid: None,
        s_tag: false,
        rate: Rate::default(),
        nat,
        allowed: true,
    }
}

fn placed(id: u64, n: u8, nat: Option<NatBlock>) -> Option<Placed> {
    Some(Placed { entry: session(id, n, nat), index: 1 })
}

#[test]
fn a_flow_is_stale_when_the_session_table_says_otherwise() {
    let mut table = Table::default();
    let puts = [session(1, 9, Some(block(2048))), session(2, 10, None)].map(SessionChange::Put);
    table.apply(&puts).unwrap();
    let index = table.get(SessionId(1)).unwrap().index;
    let ours = |index: u32| MARK_SIGN | index;
    // what, source, answers to, port, mark, stale
    let rows = [
        ("its own", 9, PUBLIC, Some(2049), ours(index), false),
        ("its own, last port", 9, PUBLIC, Some(2111), ours(index), false),
        ("of its predecessor", 9, PUBLIC, Some(2049), ours(index + 7), true),
        ("on ports of another", 9, PUBLIC, Some(2112), ours(index), true),
        ("on another address", 9, Ipv4Addr::new(203, 0, 113, 6), Some(2049), ours(index), true),
        ("a ping of the gateway", 9, address(9), Some(1), 0, false),
        ("sent out as it was", 9, address(9), Some(4000), ours(index), true),
        ("of nobody", 11, PUBLIC, Some(2049), ours(index), true),
        ("of nobody, to the gateway", 11, address(11), Some(1), 0, true),
        ("translated without a block", 10, PUBLIC, Some(2049), ours(index + 1), true),
    ];
    for (what, n, answers_to, answers_port, mark, want) in rows {
        let entry =
            Entry { source: address(n), answers_to, answers_port, mark, name: Name::default() };
        assert_eq!(is_stale(&entry, &table), want, "{what}");
    }
}

#[test]
fn only_who_takes_what_was_freed_has_to_wait_and_only_until_the_sweep() {
    let step = |before, after| Step { before, after };
    let mut freed = Freed::default();
    freed.note(&step(placed(1, 9, Some(block(2048))), None), 1);
    // Another block for a session that goes on: its ports are free, its address is not.
    freed.note(&step(placed(2, 10, Some(block(4096))), placed(2, 10, Some(block(8192)))), 2);
    // what, step, waits now, after sweep 1, after sweep 2
    let rows = [
        ("the address", step(None, placed(3, 9, None)), [true, false, false]),
        ("the ports", step(None, placed(3, 11, Some(block(2048)))), [true, false, false]),
        ("some of the ports", step(None, placed(3, 11, Some(block(2100)))), [true, false, false]),
        ("the other ports", step(None, placed(3, 11, Some(block(4096)))), [true, true, false]),
        ("nothing of it", step(None, placed(3, 11, Some(block(2112)))), [false; 3]),
        ("an address in use", step(None, placed(3, 10, Some(block(9000)))), [false; 3]),
        (
            "a rate",
            step(placed(2, 10, Some(block(8192))), placed(2, 10, Some(block(8192)))),
            [false; 3],
        ),
        ("an end", step(placed(3, 9, None), None), [false; 3]),
    ];
    for (at, done) in [0, 1, 2].into_iter().enumerate() {
        freed.forget(done);
        for (what, step, want) in &rows {
            assert_eq!(freed.meets(step), want[at], "{what} after sweep {done}");
        }
    }
    assert!(freed.addresses.is_empty() && freed.blocks.is_empty(), "{freed:?}");
}

#[test]
fn a_session_that_changes_neither_address_nor_block_frees_nothing() {
    let with = |nat| placed(1, 9, nat);
    let rows = [
        (None, with(Some(block(2048))), false),
        (with(None), None, false),
        (with(Some(block(2048))), with(Some(block(2048))), false),
        (with(Some(block(2048))), with(Some(block(4096))), true),
        (with(Some(block(2048))), with(None), true),
        (with(Some(block(2048))), placed(1, 10, Some(block(2048))), true),
        (with(Some(block(2048))), None, true),
    ];
    for (before, after, want) in rows {
        assert_eq!(frees(&Step { before, after }), want, "{before:?} -> {after:?}");
    }
}
