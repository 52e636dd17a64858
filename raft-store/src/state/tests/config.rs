use super::fixture::*;
use crate::change::Change;
use crate::command::{Command, Refusal};
use crate::{NatUsage, PoolUsage};
use model::{Epoch, Group, GroupId, GroupService, NatPool, NodeId, Pool};

#[test]
fn a_group_must_make_sense_and_keeps_its_ownership() {
    let mut cluster = Cluster::new();
    type Spoil = fn(&mut Group);
    let spoils: &[(&str, Spoil)] = &[
        ("no name", |g| g.name.clear()),
        ("a name with a newline", |g| g.name = "a\nb".to_owned()),
        ("another's name", |g| g.name = "group-1".to_owned()),
        ("no VRID", |g| g.vrid = 0),
        ("another's VRID", |g| g.vrid = 1),
        ("no prefix", |g| g.core_prefix_len = 0),
        ("a long prefix", |g| g.core_prefix_len = 33),
        ("a core address of subscribers", |g| g.core_address = ip("10.0.0.12")),
        ("a long list", |g| g.preferred = vec![NodeId(1); 65]),
    ];
    for (what, spoil) in spoils {
        let mut bad = group(2);
        spoil(&mut bad);
        let refusal = cluster.refused(Command::PutGroup(bad));
        assert!(matches!(refusal, Refusal::Invalid(_)), "{what}: {refusal:?}");
    }
    let renamed = Group { name: "east".to_owned(), ..group(1) };
    cluster.done(Command::PutGroup(renamed));
    assert_eq!(cluster.changes, [Change::GroupChanged(EAST)]);
    let group = cluster.state.group_by_name("east").unwrap();
    assert_eq!((group.owner, group.epoch), (Some(A), Epoch(1)));
    assert_eq!(group.revision, cluster.state.applied());
}

#[test]
fn a_group_goes_without_pools_and_comes_back_with_its_epoch() {
    let mut cluster = Cluster::new();
    assert!(matches!(cluster.refused(Command::RemoveGroup(EAST)), Refusal::InUse(_)));
    for name in ["ppp", "dhcp"] {
        cluster.done(Command::RemovePool(name.to_owned()));
    }
    cluster.done(Command::RemoveGroup(EAST));
    assert_eq!(cluster.state.next_sid(EAST, 0, &|_| false), None);
    assert_eq!(cluster.refused(Command::RemoveGroup(EAST)), Refusal::UnknownGroup);
    cluster.done(Command::PutGroup(group(1)));
    let group = cluster.state.group(EAST).unwrap();
    assert_eq!((group.owner, group.epoch), (None, Epoch(1)));
}

#[test]
fn a_pool_must_make_sense() {
    let mut cluster = Cluster::new();
    let nat = |public: &str, ports_per_block| {
        Some(NatPool { public: public.parse().unwrap(), ports_per_block })
    };
    type Spoil<'a> = Box<dyn Fn(&mut Pool) + 'a>;
    let spoils: Vec<(&str, Spoil<'_>)> = vec![
        ("no name", Box::new(|p| p.name.clear())),
        ("multicast", Box::new(|p| p.range = "223.0.0.0-224.0.0.0".parse().unwrap())),
        ("this network", Box::new(|p| p.range = "0.0.0.1-0.0.0.9".parse().unwrap())),
        ("no prefix", Box::new(|p| p.prefix_len = 0)),
        ("no lease", Box::new(|p| p.lease_s = 0)),
        ("a gateway elsewhere", Box::new(|p| p.gateway = ip("10.9.9.1"))),
        ("another's addresses", Box::new(|p| p.range = "10.0.1.9-10.0.1.20".parse().unwrap())),
        (
            "a core address",
            Box::new(|p| {
                p.range = "192.0.2.1-192.0.2.9".parse().unwrap();
                p.gateway = ip("192.0.2.99");
            }),
        ),
        ("no ports", Box::new(|p| p.nat = nat("198.51.100.9-198.51.100.9", 0))),
        ("no room for a block", Box::new(|p| p.nat = nat("198.51.100.9-198.51.100.9", 40_000))),
        ("public addresses of subscribers", Box::new(|p| p.nat = nat("10.0.0.9-10.0.0.20", 1024))),
        (
            "half of another's public addresses",
            Box::new(|p| {
                p.nat = nat("198.51.100.2-198.51.100.3", 16_384);
            }),
        ),
        (
            "public addresses cut otherwise",
            Box::new(|p| {
                p.nat = nat("198.51.100.1-198.51.100.2", 8192);
            }),
        ),
    ];
    for (what, spoil) in spoils {
        let mut bad = pool("new", GroupService::Dhcp, "10.0.2.2-10.0.2.9", "10.0.2.1");
        spoil(&mut bad);
        let refusal = cluster.refused(Command::PutPool(bad));
        assert!(matches!(refusal, Refusal::Invalid(_)), "{what}: {refusal:?}");
    }
    let nowhere = Pool { group: GroupId(9), ..dhcp_pool() };
    assert_eq!(cluster.refused(Command::PutPool(nowhere)), Refusal::UnknownGroup);
    cluster.done(Command::PutPool(pool(
        "new",
        GroupService::Dhcp,
        "10.0.2.2-10.0.2.9",
        "10.0.2.1",
    )));
    assert_eq!(cluster.changes, [Change::PoolChanged("new".to_owned())]);
    assert_eq!(cluster.state.group(EAST).unwrap().revision, cluster.state.applied());
    let names = |service| -> Vec<_> {
        cluster.state.pools_of(EAST, service).map(|pool| pool.name.clone()).collect()
    };
    assert_eq!(names(GroupService::Dhcp), ["dhcp", "new"]);
    assert_eq!(names(GroupService::Pppoe), ["ppp"]);
}

#[test]
fn a_change_of_a_pool_leaves_no_session_behind() {
    let mut cluster = Cluster::new();
    cluster.done(Command::PutGroup(group(2)));
    let session = cluster.up(pppoe(1, 1, "u"));
    assert_eq!(session.address, ip("10.0.0.10"));
    type Edit = fn(&mut Pool);
    let edits: &[(&str, bool, Edit)] = &[
        ("another group", false, |p| p.group = GroupId(2)),
        ("another protocol", false, |p| p.service = GroupService::Dhcp),
        ("another network", false, |p| {
            p.range = "10.7.0.10-10.7.0.20".parse().unwrap();
            p.gateway = ip("10.7.0.1");
        }),
        ("no NAT", false, |p| p.nat = None),
        ("other ports", false, |p| p.nat.as_mut().unwrap().ports_per_block = 1024),
        ("other public addresses", false, |p| {
            p.nat.as_mut().unwrap().public = "198.51.100.2-198.51.100.3".parse().unwrap();
        }),
        ("a gateway on the session", false, |p| p.gateway = ip("10.0.0.10")),
        ("more public addresses", true, |p| {
            p.nat.as_mut().unwrap().public = "198.51.100.1-198.51.100.9".parse().unwrap();
        }),
        ("more addresses", true, |p| p.range = "10.0.0.10-10.0.0.200".parse().unwrap()),
        // The address becomes one outside the range, but in the network, as a fixed one is.
        ("fewer addresses", true, |p| p.range = "10.0.0.11-10.0.0.13".parse().unwrap()),
        ("another rate", true, |p| p.rate.down_bps = 5),
        ("another gateway", true, |p| p.gateway = ip("10.0.0.13")),
    ];
    for (what, fits, edit) in edits {
        let mut changed = ppp_pool();
        edit(&mut changed);
        let mut cluster = cluster.clone();
        if *fits {
            cluster.done(Command::PutPool(changed));
            assert_eq!(cluster.state.pool_usage("ppp").unwrap().sessions, 1, "{what}");
            assert_eq!(cluster.state.nat_usage("ppp").unwrap().used, 1, "{what}");
        } else {
            let refusal = cluster.refused(Command::PutPool(changed));
            assert!(matches!(refusal, Refusal::InUse(_)), "{what}: {refusal:?}");
        }
        cluster.down(session.id);
    }
    let gone = cluster.refused(Command::RemovePool("ppp".to_owned()));
    assert!(matches!(gone, Refusal::InUse(_)));
}

#[test]
fn pools_of_a_group_may_share_public_addresses() {
    let mut cluster = Cluster::new();
    cluster.done(Command::PutGroup(group(2)));
    let nat = ppp_pool().nat;
    let shared = Pool { nat: nat.clone(), ..dhcp_pool() };
    cluster.done(Command::PutPool(shared));
    for n in 1..=3 {
        cluster.up(pppoe(n, n.into(), "u"));
        cluster.up(lease(n, b"", None));
    }
    let usage = Some(NatUsage { blocks: 6, used: 6 });
    assert_eq!((cluster.state.nat_usage("ppp"), cluster.state.nat_usage("dhcp")), (usage, usage));
    let exhausted = |pool: &str| Refusal::NatExhausted { pool: pool.to_owned() };
    assert_eq!(cluster.op_refused(pppoe(9, 9, "u")), exhausted("ppp"));
    assert_eq!(cluster.op_refused(lease(9, b"", None)), exhausted("dhcp"));
    let elsewhere = Pool {
        group: GroupId(2),
        nat,
        ..pool("west", GroupService::Dhcp, "10.0.2.2-10.0.2.9", "10.0.2.1")
    };
    let refusal = cluster.refused(Command::PutPool(elsewhere));
    assert!(matches!(refusal, Refusal::Invalid(_)), "a public address has one owner");
    assert!(matches!(cluster.refused(Command::PutPool(dhcp_pool())), Refusal::InUse(_)));
}

#[test]
fn a_subscriber_keeps_a_fixed_address_from_others() {
    let mut cluster = Cluster::new();
    let free = |cluster: &Cluster| cluster.state.pool_usage("ppp").unwrap().free;
    cluster.done(Command::PutSubscriber(subscriber("u", Some("10.0.0.10"))));
    assert_eq!(cluster.changes, [Change::SubscriberChanged("u".to_owned())]);
    assert_eq!(cluster.state.reserved_for(ip("10.0.0.10")), Some("u"));
    assert_eq!(free(&cluster), 3);
    let same = Command::PutSubscriber(subscriber("v", Some("10.0.0.10")));
    assert_eq!(cluster.refused(same), Refusal::AddressTaken);
    cluster.done(Command::PutSubscriber(subscriber("u", Some("10.0.0.11"))));
    assert_eq!(free(&cluster), 3);
    cluster.done(Command::RemoveSubscriber("u".to_owned()));
    assert_eq!(free(&cluster), 4);
    let unknown = Command::RemoveSubscriber("u".to_owned());
    assert_eq!(cluster.refused(unknown), Refusal::UnknownSubscriber);
    let mut lost = subscriber("w", None);
    lost.pool = Some("none".to_owned());
    assert_eq!(cluster.refused(Command::PutSubscriber(lost)), Refusal::UnknownPool);
    let mut user = subscriber("w", None);
    user.pool = Some("ppp".to_owned());
    cluster.done(Command::PutSubscriber(user));
    assert!(matches!(cluster.refused(Command::RemovePool("ppp".to_owned())), Refusal::InUse(_)));
    assert_eq!(cluster.state.subscribers().len(), 1);
}

#[test]
fn a_changed_range_keeps_the_order_of_freed_addresses() {
    let mut cluster = Cluster::new();
    let ids: Vec<_> = (1..=4).map(|n| cluster.up(pppoe(n, n.into(), "u")).id).collect();
    for n in [2, 0, 3, 1] {
        cluster.down(ids[n]);
    }
    let wider = Pool { range: "10.0.0.10-10.0.0.14".parse().unwrap(), ..ppp_pool() };
    cluster.done(Command::PutPool(wider));
    let usage = PoolUsage { total: 5, free: 5, sessions: 0 };
    assert_eq!(cluster.state.pool_usage("ppp"), Some(usage));
    let order: Vec<_> =
        (1..=5).map(|n| cluster.up(pppoe(n, n.into(), "u")).address.octets()[3]).collect();
    assert_eq!(order, [14, 12, 10, 13, 11]);
}
