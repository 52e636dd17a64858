use super::*;
use model::Secret;

fn request() -> InitRequest {
    serde_json::from_str(include_str!("../../../../tests/support/init.json")).unwrap()
}

#[test]
fn a_right_request_becomes_domain_types() {
    let plan = request().plan().unwrap();
    assert_eq!(plan.groups[0].id, GroupId(1));
    assert_eq!(plan.groups[0].services, [GroupService::Pppoe, GroupService::Dhcp]);
    assert_eq!(plan.groups[0].core_address, Ipv4Addr::new(10, 0, 0, 1));
    assert_eq!(plan.groups[0].core_prefix_len, 24);
    assert_eq!(plan.pools[0].nat.as_ref().unwrap().ports_per_block, 1024);
    assert_eq!(plan.pools[0].lease_s, 3600);
    assert_eq!(plan.pools[1].group, GroupId(1));
    assert_eq!(plan.pools[1].rate, Rate::default());
    assert_eq!(plan.subscribers[1].address, Some(Ipv4Addr::new(100, 64, 0, 77)));
    assert_eq!(plan.subscribers[1].password, Secret::new("p2"));
}

/// Spoils the right request in one place.
type Spoil = fn(&mut InitRequest);

#[test]
fn each_mistake_is_reported_at_its_place() {
    let rows: &[(&str, Spoil)] = &[
        ("cluster_name", |r| r.cluster_name = "a b".into()),
        ("admin.username", |r| r.admin.username = String::new()),
        ("admin.password", |r| r.admin.password = Secret::new("short")),
        ("groups[0].name", |r| {
            r.groups[0].name = "söuth".into();
            r.pools.iter_mut().for_each(|p| p.group = "söuth".into());
        }),
        ("groups[0].vrid", |r| r.groups[0].vrid = 0),
        ("groups[0].vrid", |r| r.groups[0].vrid = 256),
        ("groups[0].core_address", |r| r.groups[0].core_address = "10.0.0.1".into()),
        ("groups[0].core_address", |r| r.groups[0].core_address = "10.0.0.1/33".into()),
        ("groups[0].core_address", |r| r.groups[0].core_address = "10.0.0.0/24".into()),
        ("groups[0].core_address", |r| r.groups[0].core_address = "224.0.0.1/24".into()),
        ("groups[0].ac_name", |r| r.groups[0].ac_name = "a\nb".into()),
        ("groups[0].services[2]", |r| r.groups[0].services.push("l2tp".into())),
        ("groups[0].services[2]", |r| r.groups[0].services.push("dhcp".into())),
        ("groups[0].preferred[2]", |r| r.groups[0].preferred.push("bng1".into())),
        ("groups[1].vrid", |r| {
            let mut twin = r.groups[0].clone();
            (twin.name, twin.core_address) = ("north".into(), "10.0.0.2/24".into());
            r.groups.push(twin);
        }),
        ("pools[0].group", |r| r.pools[0].group = "east".into()),
        ("pools[1].service", |r| r.groups[0].services = vec!["pppoe".into()]),
        ("pools[1].name", |r| r.pools[1].name = "res".into()),
        ("pools[1].range", |r| r.pools[1].range = "10.64.0.9-10.64.0.2".into()),
        ("pools[1].range", |r| r.pools[1].range = "10.65.0.2-10.65.0.9".into()),
        ("pools[1].range", |r| r.pools[1].range = "10.64.0.2-10.64.255.255".into()),
        ("pools[1].range", |r| {
            (r.pools[1].range, r.pools[1].gateway) =
                ("100.64.9.2-100.64.9.9".into(), "100.64.0.1".into());
        }),
        ("pools[1].prefix_len", |r| r.pools[1].prefix_len = 31),
        ("pools[1].prefix_len", |r| r.pools[1].prefix_len = 99),
        ("pools[1].gateway", |r| r.pools[1].gateway = "10.64.0.2".into()),
        ("pools[1].gateway", |r| r.pools[1].gateway = "0.0.0.0".into()),
        ("pools[0].gateway", |r| r.pools[0].gateway = "10.64.0.5".into()),
        ("pools[0].dns[0]", |r| r.pools[0].dns[0] = "dns".into()),
        ("pools[0].dns", |r| r.pools[0].dns = vec!["192.0.2.53".into(); 5]),
        ("pools[0].lease_s", |r| r.pools[0].lease_s = 1),
        ("pools[0].nat.public", |r| r.pools[0].nat.as_mut().unwrap().public = "x".into()),
        ("pools[0].nat.ports_per_block", |r| {
            r.pools[0].nat.as_mut().unwrap().ports_per_block = 65_536;
        }),
        ("pools[0].nat.public", |r| {
            r.pools[0].nat.as_mut().unwrap().public = "10.0.0.0-10.0.0.9".into();
        }),
        ("pools[0].rate.up_bps", |r| r.pools[0].rate.as_mut().unwrap().up_bps = u64::MAX),
        ("subscribers[0].username", |r| r.subscribers[0].username = "x".repeat(254)),
        ("subscribers[0].password", |r| r.subscribers[0].password = Secret::new("")),
        ("subscribers[1].username", |r| r.subscribers[1].username = "u1".into()),
        ("subscribers[1].pool", |r| r.subscribers[1].pool = Some("none".into())),
        ("subscribers[1].address", |r| r.subscribers[1].address = Some("10.64.0.9".into())),
        ("subscribers[0].address", |r| r.subscribers[0].address = Some("192.0.2.9".into())),
        ("subscribers[1].address", |r| r.subscribers[0].address = r.subscribers[1].address.clone()),
    ];
    for (n, (path, spoil)) in rows.iter().enumerate() {
        let mut wrong = request();
        spoil(&mut wrong);
        let errors = wrong.plan().expect_err(path);
        let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, [*path], "row {n}: {errors:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_up_to_a_bound() {
    let mut wrong = request();
    wrong.groups[0].vrid = 0;
    wrong.pools[1].gateway = "here".into();
    wrong.subscribers[0].password = Secret::new("");
    assert_eq!(wrong.plan().unwrap_err().len(), 3);

    wrong.subscribers = vec![wrong.subscribers[0].clone(); 500];
    let errors = wrong.plan().unwrap_err();
    assert_eq!(errors.len(), ERRORS_MAX);
    assert!(errors[ERRORS_MAX - 1].message.starts_with("and "), "{errors:?}");
}

#[test]
fn no_group_is_a_mistake_and_no_pool_is_not() {
    let mut r = request();
    (r.pools, r.subscribers) = (vec![], vec![]);
    assert!(r.plan().is_ok());
    r.groups.clear();
    assert_eq!(r.plan().unwrap_err()[0].path, "groups");
}
