//! Policy on the wire: static subscribers, bindings, who is allowed, who waits, bans and rates, each before
//! and after the owner was killed.

mod ends;

use crate::lab::cluster::{Cluster, NodeName, Settings, eventually, pause};
use crate::lab::faults::Fault;
use crate::lab::topology::{self, Topology};
use crate::lab::wire::Watcher;
use crate::scenario::{DATA_NODES, spinner};
use anyhow::{Result, anyhow, ensure};
use api::types::RateRequest;
use api::types::policy::WaitingSource;
use dataplane::boottime_now;
use ends::{Channel, Ends, Host, LARGE_PACKET_OCTETS, Shared, TARGET_2};
use model::{BanScope, Ipv4Net, MacAddr, Rate};
use serde_json::json;
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a change may take until it shows on the wire, and a takeover until all is well again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Packets that another host gets through while one is watched for silence.
const WITNESSED: u64 = 15;
/// The shaped host: small enough to tell, whatever the machine is busy with.
const RATE: Rate = Rate { down_bps: 400_000, up_bps: 400_000 };
/// For how long the rate is measured; the policer's burst is a small part of it.
const RATE_WINDOW: Duration = Duration::from_millis(1500);
/// What the policer lets through at once: ten full packets, or 100 ms.
const BURST_OCTETS: u64 = 15_140;

/// Flags of the policy run.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PolicyArgs {
    /// Print nothing but one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

const ALICE: usize = 0;
const BOB: usize = 1;
const THIEF: usize = 2;
const CAROL: usize = 3;
const DAVE: usize = 4;
const ERIN: usize = 5;
const FRANK: usize = 6;
const GINA: usize = 7;
const HENRY: usize = 8;
const ZOE: usize = 9;

/// What is dropped once everything is set up: not one packet of it may pass, also not in the takeover.
const SILENT: [(usize, Channel); 13] = [
    (THIEF, Channel::Up),
    (CAROL, Channel::Up),
    (CAROL, Channel::Down),
    (CAROL, Channel::Ping),
    (ERIN, Channel::Up),
    (ERIN, Channel::Down),
    (ERIN, Channel::Gateway),
    (FRANK, Channel::Up),
    (FRANK, Channel::Down),
    (GINA, Channel::Ping),
    (ALICE, Channel::Up2),
    (ZOE, Channel::Up),
    (ZOE, Channel::Down),
];

fn hosts() -> Vec<Host> {
    let rows = [
        ("alice", [10, 1], true),
        ("bob", [10, 2], true),
        ("thief", [10, 2], false),
        ("carol", [10, 3], true),
        ("dave", [10, 4], true),
        ("erin", [10, 5], true),
        ("frank", [12, 6], true),
        ("gina", [10, 7], true),
        ("henry", [10, 8], true),
        ("zoe", [10, 9], true),
    ];
    (1_u8..)
        .zip(rows)
        .map(|(n, (name, [net, host], is_called))| Host {
            name,
            address: Ipv4Addr::new(100, 65, net, host),
            mac: MacAddr([0x02, 0x75, 0, 0, 0, n]),
            is_called,
        })
        .collect()
}

/// One line of the table.
struct Row {
    what: &'static str,
    before: Option<String>,
    after: Option<String>,
}

/// The lab of a policy run.
struct Run {
    /// Stops first: it watches what the others do.
    watcher: Watcher,
    ends: Ends,
    cluster: Cluster,
    rows: Vec<Row>,
    quiet: bool,
}

/// Runs every check on a built network.
///
/// # Errors
/// When a check failed, or the lab could not be made.
pub async fn run(args: PolicyArgs) -> Result<()> {
    let started = boottime_now();
    let mut run = Run::raise(args.json).await?;
    run.set_up().await?;
    run.checks(false).await;
    let leaked = run.take_over().await?;
    run.checks(true).await;
    run.row("nothing dropped passed in the takeover", true, leaked);
    let lifted = run.lift().await;
    run.row("lifted at the new owner", true, lifted);
    let owners = run.watcher.owners_max();
    let one = ensure_one(owners);
    run.row("one owner on the wire", true, one);

    let failed = run.rows.iter().filter(|r| !r.is_passed()).count();
    if args.json {
        println!("{}", run.line(owners, boottime_now().since(started)));
    } else {
        println!("\n{}", run.table());
    }
    ensure!(failed == 0, "{failed} of {} checks failed", run.rows.len());
    drop(run);
    topology::clean()?;
    Ok(())
}

fn ensure_one(owners: usize) -> Result<()> {
    ensure!(owners == 1, "{owners} nodes sent from the virtual MAC at the same time");
    Ok(())
}

impl Row {
    fn is_passed(&self) -> bool {
        [&self.before, &self.after].into_iter().flatten().all(|cell| cell == "ok")
    }
}

impl Run {
    async fn raise(quiet: bool) -> Result<Self> {
        let settings = Settings::plain(0, 3600, "policer")?;
        let step = spinner(quiet, "cluster: starting 2 data nodes and a witness");
        let cluster = Cluster::start(Topology { nodes: DATA_NODES + 1 }, settings).await?;
        step.finish_with_message("cluster: 2 data nodes and a witness");
        let watcher = Watcher::start(DATA_NODES)?;
        let ends = Ends::start(hosts())?;
        Ok(Self { watcher, ends, cluster, rows: Vec::new(), quiet })
    }

    fn shared(&self) -> &Shared {
        &self.ends.shared
    }

    fn host(&self, i: usize) -> Host {
        self.shared().hosts[i]
    }

    async fn allow(&self, i: usize, allowed: bool) -> Result<()> {
        let address = self.host(i).address;
        self.cluster.ask(async |c| c.allow(address, allowed).await).await?;
        Ok(())
    }

    async fn ban(&self, (network, scope): (Ipv4Net, BanScope), banned: bool) -> Result<()> {
        self.cluster.ask(async |c| c.ban(network, scope, banned).await).await?;
        Ok(())
    }

    /// The sources that wait, as a node says that does not have to be the owner.
    async fn waiting(&self, node: NodeName) -> Result<Vec<WaitingSource>> {
        Ok(self.cluster.client(node).waiting().await?.data.sources)
    }

    /// Everybody but the strangers is let in and heard; then the policy is laid on, so that what is
    /// dropped later is a flow that lived.
    async fn set_up(&mut self) -> Result<()> {
        for i in [ALICE, BOB, CAROL, ERIN, FRANK, GINA, HENRY] {
            self.allow(i, true).await?;
        }
        let (bob, henry) = (self.host(BOB), self.host(HENRY).address);
        self.cluster.ask(async |c| c.bind(bob.address, Some(bob.mac)).await).await?;
        let rate = RateRequest { rate_down: RATE.down_bps, rate_up: RATE.up_bps };
        self.cluster.ask(async |c| c.shape(henry, &rate).await).await?;
        for i in [ALICE, BOB, CAROL, ERIN, FRANK, GINA, HENRY] {
            for channel in [Channel::Up, Channel::Down, Channel::Ping, Channel::Gateway] {
                self.flows(i, channel).await?;
            }
        }
        self.flows(ALICE, Channel::Up2).await?;
        self.let_in().await?;
        self.allow(CAROL, false).await?;
        for ban in self.bans() {
            self.ban(ban, true).await?;
        }
        for (i, channel) in SILENT {
            self.silent(i, channel).await?;
        }
        Ok(())
    }

    fn bans(&self) -> [(Ipv4Net, BanScope); 4] {
        let frank = Ipv4Net::new(Ipv4Addr::new(100, 65, 12, 0), 24);
        [
            (Ipv4Net::host(self.host(ERIN).address), BanScope::All),
            (frank.expect("host bits are zero"), BanScope::All),
            (Ipv4Net::host(self.host(GINA).address), BanScope::Icmp),
            (Ipv4Net::host(TARGET_2), BanScope::All),
        ]
    }

    /// Dave waits, and is let in from the list.
    async fn let_in(&self) -> Result<()> {
        let owner = self.cluster.owner().await?;
        let dave = self.host(DAVE);
        let seen = eventually("dave waits", PATIENCE, || async {
            let waiting = self.waiting(owner).await?;
            waiting.into_iter().find(|w| w.ip_address == dave.address).ok_or_else(|| anyhow!("no"))
        })
        .await?;
        ensure!(seen.mac_address == dave.mac, "dave is at {}", seen.mac_address);
        self.silent(DAVE, Channel::Up).await?;
        self.allow(DAVE, true).await?;
        self.flows(DAVE, Channel::Up).await
    }

    /// Every check, in the state that [`Run::set_up`] made; nothing is changed.
    async fn checks(&mut self, after: bool) {
        let step = spinner(self.quiet, "checking");
        let all = |i, channels: &'static [Channel]| channels.iter().map(move |c| (i, *c));
        let up_down = &[Channel::Up, Channel::Down];
        let outcome = self.all_flow(all(ALICE, up_down)).await;
        self.row("static subscriber, both ways", after, outcome);
        let outcome = self.mixed(all(BOB, up_down), all(THIEF, &[Channel::Up])).await;
        self.row("address bound to a MAC", after, outcome);
        let dropped = all(CAROL, &[Channel::Up, Channel::Down, Channel::Ping]);
        let outcome = self.all_silent(dropped).await;
        self.row("subscriber not allowed", after, outcome);
        let outcome = self.waiting_list().await;
        self.row("unknown source waits", after, outcome);
        let outcome = self.all_flow(all(DAVE, up_down)).await;
        self.row("let in from the list", after, outcome);
        let dropped = all(ERIN, &[Channel::Up, Channel::Down, Channel::Gateway]);
        let outcome = self.all_silent(dropped).await;
        self.row("ban of an address, node included", after, outcome);
        let outcome = self.all_silent(all(FRANK, up_down)).await;
        self.row("ban of a network", after, outcome);
        let outcome = self.mixed(all(GINA, up_down), all(GINA, &[Channel::Ping])).await;
        self.row("ban of ICMP only", after, outcome);
        let outcome = self.mixed(all(ALICE, up_down), all(ALICE, &[Channel::Up2])).await;
        self.row("ban of a far address", after, outcome);
        let outcome = self.rate().await;
        self.row("rate, both ways", after, outcome);
        step.finish_and_clear();
    }

    fn row(&mut self, what: &'static str, after: bool, outcome: Result<()>) {
        let cell = Some(outcome.map_or_else(|error| format!("{error:#}"), |()| "ok".to_owned()));
        match self.rows.iter_mut().find(|row| row.what == what) {
            Some(row) if after => row.after = cell,
            Some(row) => row.before = cell,
            None if after => self.rows.push(Row { what, before: None, after: cell }),
            None => self.rows.push(Row { what, before: cell, after: None }),
        }
    }

    async fn all_flow(&self, which: impl Iterator<Item = (usize, Channel)>) -> Result<()> {
        for (i, channel) in which {
            self.flows(i, channel).await?;
        }
        Ok(())
    }

    async fn all_silent(&self, which: impl Iterator<Item = (usize, Channel)>) -> Result<()> {
        for (i, channel) in which {
            self.silent(i, channel).await?;
        }
        Ok(())
    }

    async fn mixed(
        &self,
        flowing: impl Iterator<Item = (usize, Channel)>,
        silent: impl Iterator<Item = (usize, Channel)>,
    ) -> Result<()> {
        self.all_flow(flowing).await?;
        self.all_silent(silent).await
    }

    /// Waits until packets of a host pass.
    async fn flows(&self, i: usize, channel: Channel) -> Result<()> {
        let before = self.shared().count(i, channel);
        let what = format!("{} passes: {channel:?}", self.host(i).name);
        eventually(&what, PATIENCE, || async {
            self.ends.check()?;
            let more = self.shared().count(i, channel) - before;
            ensure!(more >= 2, "{more} packets");
            Ok(())
        })
        .await
    }

    /// Waits until nothing of a host passes while enough of Alice's does: the same way, so a lab that
    /// stands still proves nothing.
    async fn silent(&self, i: usize, channel: Channel) -> Result<()> {
        // Her own packets to the far address that is banned are measured by those to the other.
        let by = if channel == Channel::Up2 { Channel::Up } else { channel };
        let what = format!("{} is dropped: {channel:?}", self.host(i).name);
        eventually(&what, PATIENCE, || async {
            let (passed, alice) = (self.shared().count(i, channel), self.shared().count(ALICE, by));
            eventually("alice is heard", PATIENCE, || async {
                self.ends.check()?;
                ensure!(self.shared().count(ALICE, by) >= alice + WITNESSED, "not enough");
                Ok(())
            })
            .await?;
            let more = self.shared().count(i, channel) - passed;
            ensure!(more == 0, "{more} packets passed");
            Ok(())
        })
        .await
    }

    /// Every node that runs lists the stranger, at its place, and nobody who is known.
    async fn waiting_list(&mut self) -> Result<()> {
        let zoe = self.host(ZOE);
        for node in (0..self.cluster.nodes()).map(NodeName) {
            if !self.cluster.is_running(node) {
                continue;
            }
            eventually(&format!("{node} says that zoe waits"), PATIENCE, || async {
                let waiting = self.waiting(node).await?;
                let listed: Vec<_> =
                    waiting.iter().map(|w| (w.ip_address, w.mac_address)).collect();
                ensure!(listed == [(zoe.address, zoe.mac)], "{listed:?} wait");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// What passes of much more than the rate is the rate, within the burst.
    async fn rate(&self) -> Result<()> {
        self.shared().enlarge(Some(HENRY));
        let measured = self.measure_rate().await;
        self.shared().enlarge(None);
        measured
    }

    async fn measure_rate(&self) -> Result<()> {
        // The burst is spent before anything is measured.
        pause(RATE_WINDOW / 3).await;
        let counts = || [Channel::Up, Channel::Down].map(|c| self.shared().count(HENRY, c));
        let (before, since) = (counts(), boottime_now());
        pause(RATE_WINDOW).await;
        let (after, window) = (counts(), boottime_now().since(since));
        for (name, (before, after), bps) in [
            ("up", (before[0], after[0]), RATE.up_bps),
            ("down", (before[1], after[1]), RATE.down_bps),
        ] {
            // Up counts one of the two targets; the policer sees both, and one is banned before it.
            let octets = (after - before) * LARGE_PACKET_OCTETS;
            let window_us = u64::try_from(window.as_micros())?;
            let allowed = bps * window_us / 8_000_000;
            let most = allowed + allowed / 10 + BURST_OCTETS;
            ensure!(
                (allowed / 2..=most).contains(&octets),
                "{name}: {octets} octets in {window:?}, {allowed} are the rate"
            );
        }
        Ok(())
    }

    /// Kills the owner; returns what leaked of all that is dropped, before, during and after.
    async fn take_over(&mut self) -> Result<Result<()>> {
        let owner = self.cluster.owner().await?;
        let counts = |run: &Self| SILENT.map(|(i, channel)| run.shared().count(i, channel));
        let before = counts(self);
        let step = spinner(self.quiet, "killing the owner");
        Fault::Kill.strike(&mut self.cluster, owner).await?;
        eventually("another node owns the group", PATIENCE, || async {
            let status = self.cluster.status().await?;
            let group = status.groups.first().ok_or_else(|| anyhow!("no group"))?;
            ensure!(group.fence == Some(model::Fence::Open), "the fence is shut");
            ensure!(group.owner.as_deref() != Some(&owner.to_string()), "{owner} owns it");
            Ok(())
        })
        .await?;
        step.finish_with_message(format!("killed {owner}, the owner"));
        self.all_flow([ALICE, BOB, DAVE, HENRY].into_iter().map(|i| (i, Channel::Up))).await?;
        self.silent(CAROL, Channel::Up).await?;
        let after = counts(self);
        let leaked: Vec<String> = SILENT
            .iter()
            .zip(before.iter().zip(after))
            .filter(|(_, (before, after))| *before != after)
            .map(|((i, channel), (before, after))| {
                format!("{} {channel:?}: {}", self.host(*i).name, after - before)
            })
            .collect();
        Ok(if leaked.is_empty() { Ok(()) } else { Err(anyhow!("{}", leaked.join(", "))) })
    }

    /// Takes the policy off again, at the new owner.
    async fn lift(&self) -> Result<()> {
        self.allow(CAROL, true).await?;
        for ban in self.bans() {
            self.ban(ban, false).await?;
        }
        for i in [CAROL, ERIN, FRANK] {
            self.all_flow([Channel::Up, Channel::Down].map(|c| (i, c)).into_iter()).await?;
        }
        self.flows(GINA, Channel::Ping).await?;
        self.flows(ALICE, Channel::Up2).await?;
        let frank = self.host(FRANK).address;
        self.cluster.ask(async |c| c.remove_static(frank).await).await?;
        self.silent(FRANK, Channel::Up).await
    }

    fn table(&self) -> String {
        let mut out = format!("{:<42} {:<8} AFTER THE TAKEOVER\n", "CHECK", "BEFORE");
        for row in &self.rows {
            let cell = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "-".to_owned());
            out += &format!("{:<42} {:<8} {}\n", row.what, cell(&row.before), cell(&row.after));
        }
        out
    }

    fn line(&self, owners: usize, took: Duration) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|r| json!({"check": r.what, "before": r.before, "after": r.after}))
            .collect();
        let failed = self.rows.iter().filter(|r| !r.is_passed()).count();
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        json!({"checks": rows, "failed": failed, "owners_on_wire_max": owners, "took_ms": took_ms})
            .to_string()
    }
}
