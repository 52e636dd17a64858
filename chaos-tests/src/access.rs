//! What real access networks have, in one lab: VLANs and double tags, translated subscribers, rates on
//! both shaping backends, and DHCP clients that are not ours; before a takeover, after it, and after
//! the way back.

mod checks;
mod clients;
mod dhcp;
mod nat;
mod shaping;
mod tap;
mod vlans;

use crate::lab::cluster::{
    ADMIN, DATA_NODES, GROUP, NodeName, Settings, mgmt_urls, sibling, user_name,
};
use crate::lab::faults::Fault;
use crate::lab::subscribers::{Plan, Tagging};
use crate::lab::topology::{self, WORK_DIR};
use crate::scenario::{Lab, Measured};
use anyhow::{Context as _, Result, anyhow, ensure};
use api::ReadLevel;
use api::types::{InitRequest, NatInit, PoolInit, RateInit, SubscriberDetail, SubscriberQuery};
use checks::Checks;
use dataplane::boottime_now;
use model::NatBlock;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tap::Tap;

/// Simulated subscribers; the last PPPoE ones have private addresses.
const PPPOE: usize = 18;
const DHCP: usize = 12;
const PRIVATE: usize = 6;
/// Time between two probes: what takes seconds here are the shapers, not the takeover.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// Short enough to be renewed after the takeover, long enough to outlast it.
const LEASE_S: u32 = 24;
/// One backend on each data node, so that a session meets both.
const SHAPERS: [&str; DATA_NODES] = ["policer", "htb"];

/// First octets of the private pool, and of the public addresses that stand for it.
const PRIVATE_NET: &[u8] = &[100, 66];
const PUBLIC_NET: &[u8] = &[203, 0, 113];
const PRIVATE_POOL: &str = "private";
const PUBLIC_RANGE: &str = "203.0.113.8-203.0.113.9";
const PORTS_PER_BLOCK: u32 = 1024;

/// Flags of the scenario.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct AccessArgs {
    /// Print nothing but one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

/// A running lab with all that the sections need.
struct Site {
    lab: Lab,
    tap: Tap,
    bngctl: Bngctl,
    clients: Vec<dhcp::Guest>,
    /// Port block of each private subscriber, as first seen.
    blocks: BTreeMap<usize, NatBlock>,
}

/// Runs the scenario on a built network.
///
/// # Errors
/// What failed, or how many checks did.
pub async fn run(args: AccessArgs) -> Result<()> {
    let mut checks = Checks::new(args.json);
    let started = boottime_now();
    let outcome = scenario(&mut checks, args.json).await;
    checks.note("run", "the scenario ran to its end", outcome.map(|()| String::new()));
    let took = boottime_now().since(started);
    if args.json {
        println!("{}", checks.json(took));
    } else {
        println!("\n{checks}, {} s", took.as_secs());
    }
    ensure!(checks.failed() == 0, "{} checks failed", checks.failed());
    topology::clean()?;
    Ok(())
}

async fn scenario(checks: &mut Checks, quiet: bool) -> Result<()> {
    let plan = Plan {
        tagging: Tagging::Mixed,
        private: PRIVATE,
        probe_interval: PROBE_INTERVAL,
        ..Plan::new(PPPOE, DHCP)
    };
    let settings =
        Settings { shapers: SHAPERS, adjust, ..Settings::plain(PPPOE, LEASE_S, "policer")? };
    let lab = Lab::raise_with(plan, settings, quiet).await?;
    let bngctl = Bngctl::login(&lab)?;
    let mut site =
        Site { lab, tap: Tap::start()?, bngctl, clients: Vec::new(), blocks: BTreeMap::new() };

    site.start_clients(checks)?;
    site.check_flows(checks, "dialled in").await;
    site.check_blocks(checks, "dialled in").await;
    site.check_strays(checks).await;
    site.limit_by_hand(checks, &shaping::BEFORE).await;
    site.check_rates(checks, &shaping::BEFORE).await;
    site.check_clients_bound(checks).await;

    let killed = site.struck(checks, Fault::Kill).await?;
    site.check_announced(checks, &killed).await;
    site.check_blocks(checks, "after the takeover").await;
    site.check_clients_ping(checks, "after the takeover").await;
    site.check_rates(checks, &shaping::BEFORE).await;
    site.limit_by_hand(checks, &shaping::AFTER).await;
    site.check_rates(checks, &shaping::AFTER).await;
    site.check_clients_renew(checks).await;

    let moved = site.struck(checks, Fault::Planned).await?;
    site.check_announced(checks, &moved).await;
    site.check_blocks(checks, "after the way back").await;
    site.check_clients_ping(checks, "after the way back").await;
    site.check_rates(checks, &shaping::AFTER).await;
    site.check_clients_release(checks).await;
    site.check_wire(checks);
    Ok(())
}

/// A pool of private addresses for the last users, and a rate for the first of the shaped ones.
fn adjust(request: &mut InitRequest) {
    let net = PRIVATE_NET.iter().map(u8::to_string).collect::<Vec<_>>().join(".");
    request.pools.push(PoolInit {
        name: PRIVATE_POOL.into(),
        group: GROUP.into(),
        service: "pppoe".into(),
        range: format!("{net}.0.2-{net}.255.254"),
        prefix_len: 16,
        gateway: format!("{net}.0.1"),
        dns: vec![],
        lease_s: LEASE_S,
        nat: Some(NatInit { public: PUBLIC_RANGE.into(), ports_per_block: PORTS_PER_BLOCK }),
        rate: None,
    });
    for user in request.subscribers.iter_mut().rev().take(PRIVATE) {
        user.pool = Some(PRIVATE_POOL.into());
    }
    let shaped = user_name(shaping::BY_USER);
    if let Some(user) = request.subscribers.iter_mut().find(|u| u.username == shaped) {
        let model::Rate { down_bps, up_bps } = shaping::BEFORE.rates[0];
        user.rate = Some(RateInit { down_bps, up_bps });
    }
}

/// A takeover as the checks need it.
struct Takeover {
    what: &'static str,
    /// Nothing of it happened before.
    since: model::Tick,
    to: NodeName,
}

impl Site {
    /// Lets a fault strike the owner, and checks that every session goes on.
    async fn struck(&mut self, checks: &mut Checks, fault: Fault) -> Result<Takeover> {
        let since = boottime_now();
        let from = self.lab.cluster.owner().await?;
        let measured = self.lab.measure(fault).await.map_err(|e| e.context("taking over"))?;
        let to = self.lab.cluster.owner().await?;
        let what = match fault {
            Fault::Planned => "the way back",
            Fault::Kill | Fault::Pause | Fault::Power | Fault::Partition => "the takeover",
        };
        checks.note("vlans", &format!("every session outlives {what}"), kept(&measured, from, to));
        self.check_flows(checks, what).await;
        Ok(Takeover { what, since, to })
    }

    /// The shaper of the owner.
    async fn shaper(&self) -> Result<&'static str> {
        let owner = self.lab.cluster.owner().await?;
        SHAPERS.get(owner.0).copied().with_context(|| format!("{owner} has no shaper"))
    }

    /// Everything that the API tells about a simulated subscriber.
    async fn detail_of(&self, i: usize) -> Result<SubscriberDetail> {
        let seen = &self.lab.subscribers.shared().seen[i];
        let ip = seen.address().with_context(|| format!("subscriber {i} has no address"))?;
        let query = SubscriberQuery { ip: Some(ip), ..SubscriberQuery::default() };
        self.find(&query).await?.with_context(|| format!("the API knows no session of {ip}"))
    }

    async fn find(&self, query: &SubscriberQuery) -> Result<Option<SubscriberDetail>> {
        let level = ReadLevel::Linearizable;
        let list = self.lab.cluster.ask(async |c| c.subscribers(query, level).await).await?;
        ensure!(list.count <= 1, "{} sessions for {query:?}", list.count);
        let Some(session) = list.sessions.first() else { return Ok(None) };
        self.lab.cluster.ask(async |c| c.subscriber(session.id, level).await).await.map(Some)
    }
}

fn kept(measured: &Measured, from: NodeName, to: NodeName) -> Result<String> {
    let kept = measured.kept;
    ensure!(kept.kept == PPPOE + DHCP, "{} of {} kept: {kept:?}", kept.kept, PPPOE + DHCP);
    ensure!(from != to, "{from} still owns the group");
    let gap = measured.gap();
    Ok(format!("{}/{}, from {from} to {to}, longest gap {} ms", kept.kept, kept.sessions, gap.max))
}

/// The command line tool, logged in.
struct Bngctl {
    program: PathBuf,
}

impl Bngctl {
    fn login(lab: &Lab) -> Result<Self> {
        let this = Self { program: sibling("bngctl")? };
        let urls = mgmt_urls(lab.cluster.nodes()).join(",");
        this.run(&["--insecure", "--url", &urls, "login", "--username", ADMIN.0])?;
        Ok(this)
    }

    /// Runs it and returns what it printed.
    fn run(&self, args: &[&str]) -> Result<String> {
        let out = Command::new(&self.program)
            .args(args)
            .env("XDG_CONFIG_HOME", WORK_DIR)
            .env("BNGCTL_PASSWORD", ADMIN.1)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        Err(anyhow!("bngctl {}: {}", args.join(" "), said.trim()))
    }
}
