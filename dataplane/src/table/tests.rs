use super::*;
use model::{Attachment, GroupId, Rate};

fn session(id: u64, address: [u8; 4]) -> SessionEntry {
    SessionEntry {
        id: SessionId(id),
        group: GroupId(1),
        attachment: Attachment::default_for_tests(),
        address: address.into(),
        pppoe_sid: None,
        s_tag: false,
        rate: Rate::default(),
        nat: None,
        allowed: true,
    }
}

trait DefaultForTests {
    fn default_for_tests() -> Self;
}

impl DefaultForTests for Attachment {
    fn default_for_tests() -> Self {
        Self {
            port: model::PortId(0),
            vlans: model::Vlans::NONE,
            mac: model::MacAddr([2, 0, 0, 0, 0, 1]),
        }
    }
}

#[test]
fn a_session_keeps_its_index_when_it_changes() {
    let mut table = Table::default();
    table.apply(&[SessionChange::Put(session(7, [10, 0, 0, 1]))]).unwrap();
    let steps = table.apply(&[SessionChange::Put(session(7, [10, 0, 0, 2]))]).unwrap();
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].before.unwrap().index, steps[0].after.unwrap().index);
    assert_eq!(steps[0].after.unwrap().entry.address, Ipv4Addr::new(10, 0, 0, 2));
}

#[test]
fn an_address_that_moves_evicts_its_former_session() {
    let mut table = Table::default();
    table.apply(&[SessionChange::Put(session(1, [10, 0, 0, 1]))]).unwrap();
    let steps = table.apply(&[SessionChange::Put(session(2, [10, 0, 0, 1]))]).unwrap();
    assert_eq!(steps.len(), 2);
    assert!(steps[0].after.is_none(), "session 1 lost its address");
    assert!(steps[1].after.is_some());
    assert_eq!(table.len(), 1);
}

#[test]
fn a_put_and_a_remove_in_one_batch_leave_nothing() {
    let mut table = Table::default();
    let s = session(1, [10, 0, 0, 1]);
    let steps = table.apply(&[SessionChange::Put(s), SessionChange::Remove(s)]).unwrap();
    assert_eq!(steps, []);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_freed_index_rests_before_it_is_used_again() {
    let mut table = Table::default();
    let s = session(1, [10, 0, 0, 1]);
    table.apply(&[SessionChange::Put(s), SessionChange::Remove(s)]).unwrap();
    table.apply(&[SessionChange::Put(session(2, [10, 0, 0, 2]))]).unwrap();
    assert_eq!(table.get(SessionId(2)).unwrap().index, 2);
}

#[test]
fn a_full_table_refuses_and_stays_as_it_was() {
    let mut table = Table { last_index: SESSIONS_MAX - 2, ..Table::default() };
    table.apply(&[SessionChange::Put(session(1, [10, 0, 0, 1]))]).unwrap();
    let more = [SessionChange::Put(session(2, [10, 0, 0, 2]))];
    assert!(matches!(table.apply(&more), Err(DataplaneError::TooManySessions { .. })));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_restored_table_continues_after_the_highest_index() {
    let placed = Placed { entry: session(5, [10, 0, 0, 5]), index: 9 };
    let mut table = Table::restore([placed]);
    table.apply(&[SessionChange::Put(session(6, [10, 0, 0, 6]))]).unwrap();
    assert_eq!(table.get(SessionId(5)).unwrap().index, 9);
    assert_eq!(table.get(SessionId(6)).unwrap().index, 10);
}
