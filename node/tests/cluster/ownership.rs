//! Who owns the group, and why.

use crate::trio::{Trio, eventually};
use node::fitness::Fault;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfit_owner_gives_way_and_when_nobody_is_fit_somebody_still_serves() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let first = trio.served_by("the group is served", |_| true).await;
    let second = trio.standby_of(first);

    trio.set(first, Fault::Disk, Some("its disk is slow"));
    trio.served_by("the other one takes over", |owner| owner == second).await;
    let revision = trio.any().local.store.state().applied();
    let answer = trio.member(first).local.candidate(trio.group(), revision).await;
    assert_eq!(answer.refusal.as_deref(), Some("its disk is slow"));

    let epoch = trio.any().local.store.state().group(trio.group()).unwrap().epoch;
    trio.set(second, Fault::Disk, Some("its disk is slow, too"));
    eventually("given up and served again, as a last resort", || {
        let now = trio.any().local.store.state().group(trio.group()).unwrap().epoch;
        trio.serving().filter(|_| now > epoch)
    })
    .await;

    let last_resort = trio.serving().unwrap_or(first);
    let fit = if last_resort == first { second } else { first };
    trio.set(fit, Fault::Disk, None);
    trio.served_by("a fit node is found by asking again", |owner| owner == fit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owner_and_leader_are_not_the_same_node_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let trio = Trio::start(dir.path()).await;
    let owner = trio.served_by("the group is served", |_| true).await;
    eventually("another node leads", || trio.leader().filter(|l| *l != owner)).await;

    // On purpose: the leadership goes to the owner, which hands it on at once.
    let term = || trio.any().local.store.status().borrow().term;
    let before = term();
    trio.member(owner).local.store.transfer_leader(owner).await.unwrap();
    eventually("the owner led and leads no more", || {
        trio.leader().filter(|l| *l != owner && term() >= before + 2)
    })
    .await;
    assert_eq!(trio.serving(), Some(owner), "the group has not moved");

    // A planned move to the node that leads: the leadership leaves it first. The standby joined while
    // the owner served, so it is no candidate before it has known the members for a lease.
    let standby = trio.standby_of(owner);
    let settled = || trio.member(standby).local.lease.status().borrow().settled.then_some(());
    eventually("the standby has known the members for a lease", settled).await;
    trio.member(standby).local.store.transfer_leader(standby).await.unwrap();
    eventually("the standby leads", || trio.leader().filter(|l| *l == standby)).await;
    let manager = &trio.member(standby).manager;
    let moved = manager.switch(trio.group(), Some(standby)).await.unwrap();
    assert_eq!((moved.from, moved.to), (Some(owner), standby));
    assert_ne!(trio.leader(), Some(standby), "it led while it became the owner");
    trio.served_by("the standby serves", |o| o == standby).await;
}
