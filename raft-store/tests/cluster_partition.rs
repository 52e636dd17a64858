//! A node that others cannot reach: its connections hang instead of failing, as behind a dead link.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod cluster_common;

use cluster_common::{Cluster, TIMING, put};
use model::NodeId;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Passes connections on to `target`, unless frozen: then octets stay where they are and nothing is closed.
struct Link {
    address: SocketAddr,
    frozen: watch::Sender<bool>,
}

impl Link {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let frozen = watch::Sender::new(false);
        let gate = frozen.subscribe();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let gate = gate.clone();
                tokio::spawn(async move {
                    let mut open = gate.clone();
                    open.wait_for(|frozen| !frozen).await.unwrap();
                    let Ok(far) = TcpStream::connect(target).await else { return };
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    let (near_in, near_out) = near.into_split();
                    let (far_in, far_out) = far.into_split();
                    tokio::join!(
                        pass(near_in, far_out, gate.clone()),
                        pass(far_in, near_out, gate)
                    );
                });
            }
        });
        Self { address, frozen }
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut octets = vec![0; 16 << 10];
    loop {
        let n = from.read(&mut octets).await.unwrap_or(0);
        if gate.wait_for(|frozen| !frozen).await.is_err() || n == 0 {
            return;
        }
        if to.write_all(&octets[..n]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_unreachable_follower_delays_nobody_and_is_back_soon_after_the_link_heals() {
    let mut cluster = Cluster::planned(3);
    let mut links = vec![];
    let mut members = std::collections::BTreeMap::new();
    for (node, address) in cluster.addresses.clone() {
        cluster.start(node).await;
        let link = Link::to(address).await;
        members.insert(node, link.address);
        links.push((node, link));
    }
    cluster.store(1).initialize(members).await.unwrap();
    let leader = cluster.leader().await;
    cluster.store(1).propose(cluster.bootstrap()).await.unwrap();
    let term = cluster.stores[&leader].status().borrow().term;
    let cut = cluster.followers().await[0];
    let link = &links.iter().find(|(node, _)| *node == cut).unwrap().1;

    link.frozen.send_replace(true);
    let mut last = None;
    let start = Instant::now();
    let mut n = 0;
    // Long enough for every time limit on that connection to pass several times.
    while start.elapsed() < 5 * TIMING.election_max {
        let asked = Instant::now();
        last = Some(cluster.stores[&leader].propose(put(&format!("user{n}"))).await.unwrap());
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "proposal {n} took {:?}",
            asked.elapsed()
        );
        n += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let last = last.unwrap().revision;
    assert!(*cluster.stores[&cut].applied().borrow() < last, "the link was not cut");
    assert_eq!(
        cluster.stores[&leader].status().borrow().term,
        term,
        "the cut node disturbed the term"
    );

    link.frozen.send_replace(false);
    let healed = Instant::now();
    let mut applied = cluster.stores[&cut].applied();
    let back = applied.wait_for(|at| *at >= last);
    timeout(3 * TIMING.election_max, back).await.expect("back soon").unwrap();
    eprintln!("back {:?} after healing", healed.elapsed());
    assert_eq!(cluster.leader().await, leader);
    assert_eq!(cluster.stores[&NodeId(1)].status().borrow().term, term);
}
