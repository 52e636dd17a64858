//! Two data nodes and a witness in one process, on loopback and without a kernel: who owns the group, and why.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use api::types::{AdminInit, GroupInit, InitRequest, JoinTokenRequest, LoginRequest, PoolInit};
use model::{GroupId, NodeId, NodeRole, Secret};
use node::clock;
use node::config::{AccessConfig, Config, DataplaneConfig, Profile};
use node::daemon::Daemon;
use node::fitness::Fault;
use node::member::Member;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "g1";
/// A condition that does not hold by then fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `check` gives something; bounded, and for a condition only.
async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let give_up = clock::now() + PATIENCE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(clock::now() < give_up, "not in time: {what}");
        clock::until(Some(clock::now() + Duration::from_millis(10))).await;
    }
}

/// An address that was free a moment ago.
fn free() -> SocketAddr {
    let held = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    held.local_addr().unwrap()
}

fn config(name: &str, role: NodeRole, dir: &std::path::Path) -> Config {
    let api = free();
    let dataplane = DataplaneConfig {
        simulated: true,
        access: vec![AccessConfig { interface: "sim0".into(), group: GROUP.into(), port: 1 }],
        core: None,
        xdp: dataplane::XdpMode::Auto,
        shaper: dataplane::Shaper::Policer,
    };
    Config {
        name: name.into(),
        role,
        data_dir: dir.join(name),
        storage_key: dir.join(name).join("storage.key"),
        raft_addr: free(),
        lease_addr: free(),
        // Patient, since the machine that runs this may have other work.
        profile: Profile::Wan,
        disk_slow: Duration::from_secs(60),
        api_listen: api,
        api_addr: api,
        api_tls: None,
        purenas_key: None,
        dataplane: (role == NodeRole::Data).then_some(dataplane),
    }
}

fn init_request() -> InitRequest {
    InitRequest {
        cluster_name: "test".into(),
        admin: AdminInit { username: "admin".into(), password: Secret::new("test-password") },
        groups: vec![GroupInit {
            name: GROUP.into(),
            vrid: 1,
            core_address: "10.0.0.1/24".into(),
            ac_name: "test".into(),
            services: vec!["pppoe".into()],
            preferred: vec![],
        }],
        pools: vec![PoolInit {
            name: "p".into(),
            group: GROUP.into(),
            service: "pppoe".into(),
            range: "100.64.0.2-100.64.0.254".into(),
            prefix_len: 24,
            gateway: "100.64.0.1".into(),
            dns: vec![],
            lease_s: 600,
            nat: None,
            rate: None,
        }],
        subscribers: vec![],
    }
}

/// The members, by id.
struct Trio {
    daemons: Vec<Arc<Daemon>>,
}

impl Trio {
    async fn start(dir: &std::path::Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plan = [("n1", NodeRole::Data), ("n2", NodeRole::Data), ("n3", NodeRole::Witness)];
        let mut daemons = Vec::new();
        for (name, role) in plan {
            let daemon = Daemon::prepare(config(name, role, dir)).await.unwrap();
            tokio::spawn(daemon.clone().run());
            daemons.push(daemon);
        }
        daemons[0].init(init_request().plan().unwrap()).await.unwrap();
        let client = api::Client::new(api::ClientConfig {
            urls: vec![format!("https://{}", daemons[0].config.api_addr)],
            token: None,
            trust: api::TlsTrust::Insecure,
            timeout: PATIENCE,
        })
        .unwrap();
        let login =
            LoginRequest { username: "admin".into(), password: Secret::new("test-password") };
        let client = client.with_token(client.login(&login).await.unwrap().data.access_token);
        for daemon in &daemons[1..] {
            let role = Some(daemon.config.role);
            let request = JoinTokenRequest { role, ..JoinTokenRequest::default() };
            let token = client.join_token(&request).await.unwrap().data.token;
            daemon.join(api::JoinTicket::decode(token.expose()).unwrap()).await.unwrap();
        }
        let this = Self { daemons };
        eventually("all vote", || {
            let status = this.any().local.store.status().borrow().clone();
            let voters = status.membership.voters;
            (voters.len() == 1 && voters[0].len() == 3).then_some(())
        })
        .await;
        this
    }

    fn any(&self) -> &Arc<Member> {
        self.daemons[0].member.get().unwrap()
    }

    fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.daemons.iter().map(|d| d.member.get().unwrap())
    }

    fn member(&self, id: NodeId) -> &Arc<Member> {
        self.members().find(|m| m.local.me == id).unwrap()
    }

    fn group(&self) -> GroupId {
        self.any().local.store.state().groups().next().unwrap().id
    }

    /// The owner, once its fence is open at the epoch that the log says.
    fn serving(&self) -> Option<NodeId> {
        let state = self.any().local.store.state();
        let group = state.groups().next()?;
        let owner = group.owner?;
        let open = self.member(owner).local.lease.status().borrow().open.get(&group.id).copied();
        (open == Some(group.epoch)).then_some(owner)
    }

    async fn served_by(&self, what: &str, good: impl Fn(NodeId) -> bool) -> NodeId {
        eventually(what, || self.serving().filter(|owner| good(*owner))).await
    }

    fn leader(&self) -> Option<NodeId> {
        let status = |m: &Arc<Member>| m.local.store.status().borrow().clone();
        self.members().map(status).find(|s| s.leads_within(PATIENCE)).map(|s| s.node)
    }

    /// The other data node.
    fn standby_of(&self, owner: NodeId) -> NodeId {
        let data = self.members().filter(|m| m.local.programmed.is_some());
        data.map(|m| m.local.me).find(|n| *n != owner).unwrap()
    }

    fn set(&self, node: NodeId, fault: Fault, words: Option<&str>) {
        self.member(node).local.fitness.set(fault, words.map(str::to_owned));
    }
}

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

    // A planned move to the node that leads: the leadership leaves it first.
    let standby = trio.standby_of(owner);
    trio.member(standby).local.store.transfer_leader(standby).await.unwrap();
    eventually("the standby leads", || trio.leader().filter(|l| *l == standby)).await;
    let manager = &trio.member(standby).manager;
    let moved = manager.switch(trio.group(), Some(standby)).await.unwrap();
    assert_eq!((moved.from, moved.to), (Some(owner), standby));
    assert_ne!(trio.leader(), Some(standby), "it led while it became the owner");
    trio.served_by("the standby serves", |o| o == standby).await;
}
