//! What AthenaBNG's readers ask for, on every node.

use crate::events::{ann, dial};
use crate::trio::{Trio, eventually};
use api::types::RateRequest;
use api::types::network::{DisconnectByInterface, PageQuery};
use api::{NetworkService, ReadLevel, Service};

const LEVEL: ReadLevel = ReadLevel::Linearizable;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shaping_tags_and_translation_are_the_same_on_every_node() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let ids = dial(&trio, 1..5).await;
    let rate = RateRequest { rate_down: 10_000_000, rate_up: 1_000_000 };
    for id in &ids[..3] {
        trio.api(2).set_rate(*id, rate, ann()).await.unwrap();
    }
    for node in 0..3 {
        let api = trio.api(node);
        let first = PageQuery { limit: Some(2), after: None };
        let page = api.shaped(first, LEVEL).await.unwrap().0;
        assert_eq!((page.count, page.next, page.sessions[0].rate_up), (2, Some(ids[1]), 1_000_000));
        let rest = PageQuery { limit: Some(2), after: page.next };
        let page = api.shaped(rest, LEVEL).await.unwrap().0;
        assert_eq!((page.count, page.next, page.sessions[0].id), (1, None, ids[2]));

        let vlans = api.vlans(LEVEL).await.unwrap().0;
        assert_eq!((vlans.len(), vlans[0].name.as_str(), vlans[0].sessions), (1, "port1.100", 4));
        let stats = api.cgnat_stats(LEVEL).await.unwrap().0;
        assert_eq!((stats.cgnat, stats.public, stats.count), (0, 4, 0));
        assert_eq!(api.cgnat_sessions(PageQuery::default(), LEVEL).await.unwrap().0.count, 0);

        let health = api.system_health().await.unwrap();
        assert_eq!((health.sessions, health.leader.is_some()), (4, true));
        assert_eq!(health.programmed.is_none(), node == 2, "the witness programs nothing");
        let interfaces = api.interfaces().await.unwrap();
        assert!(interfaces.interfaces.iter().any(|i| i.name == "lo" && i.role == "other"));
        assert_eq!(api.demux_config().await.unwrap().count, usize::from(node != 2));
        assert_eq!(api.routes().await.unwrap().node, health.node);
        let bgp = api.bgp().await.unwrap();
        assert_eq!(bgp.running, bgp.reason.is_none(), "{bgp:?}");
    }
    let owner = eventually("the owner", || trio.serving()).await;
    let serving = trio.members().position(|m| m.local.me == owner).unwrap();
    assert_eq!(trio.api(serving).system_health().await.unwrap().serving, ["g1"]);

    let nowhere = DisconnectByInterface { interface: "port1.1".into() };
    let none = trio.api(1).disconnect_by_interface(nowhere, ann()).await.unwrap().0;
    assert_eq!(none.count, 0);
    let there = DisconnectByInterface { interface: "port1".into() };
    let all = trio.api(1).disconnect_by_interface(there, ann()).await.unwrap().0;
    assert_eq!(all.ids, ids);
    assert_eq!(trio.api(0).summary(LEVEL).await.unwrap().0.total, 0);
}
