//! `bngd dev`: one node, no root, no packets. API and CLI work in full on simulated sessions.

use crate::clock;
use crate::config::{Config, DataplaneConfig, Profile};
use crate::daemon::Daemon;
use crate::proposer::{OpOutcome, Proposer};
use anyhow::{Context as _, Result, bail};
use api::types::{AdminInit, GroupInit, InitRequest, PoolInit};
use model::{Attachment, MacAddr, NodeRole, PortId, Secret, Vlans};
use raft_store::{OpReply, SessionOp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the node may take until it owns its group.
const START: Duration = Duration::from_secs(10);
const GROUP: &str = "dev";

/// Flags of `bngd dev`.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// Where the API listens.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where state is kept; a temporary folder, removed at the end, when absent.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Simulated sessions to begin with, half PPPoE and half DHCP.
    #[arg(long, default_value_t = 10)]
    pub sessions: u32,
    /// Password of the user `admin`.
    #[arg(long, env = "BNGD_DEV_PASSWORD", default_value = "tandem-dev")]
    pub password: String,
    /// Opens the PureNAS dialect.
    #[arg(long, env = "BNGD_DEV_PURENAS_KEY", hide_env_values = true)]
    pub purenas_key: Option<String>,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// When the node cannot start.
pub async fn run(args: DevArgs) -> Result<()> {
    let temporary = args.data_dir.is_none();
    let data_dir = match args.data_dir.clone() {
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("bngd-dev-{}", std::process::id())),
    };
    start(&args, data_dir.clone()).await?;
    let url = format!("https://{}", args.listen);
    println!(
        "a single Tandem node without packets: {url} (documentation: {url}/api/docs)\n\n  \
         bngctl --insecure --url {url} login --username admin --password {}\n  bngctl session list\n\nCtrl-C ends it",
        args.password
    );
    tokio::signal::ctrl_c().await?;
    if temporary {
        std::fs::remove_dir_all(&data_dir).with_context(|| data_dir.display().to_string())?;
    }
    Ok(())
}

/// Starts the node in the background and waits until it owns its group and has its sessions.
///
/// # Errors
/// When the node cannot start.
pub async fn start(args: &DevArgs, data_dir: PathBuf) -> Result<Arc<Daemon>> {
    let daemon = Daemon::prepare(config(args, data_dir)).await?;
    let served = tokio::spawn(daemon.clone().run());
    tokio::select! {
        ready = begin(&daemon, args) => ready?,
        ended = served => bail!("the node ended: {:?}", ended?),
    }
    Ok(daemon)
}

fn config(args: &DevArgs, data_dir: PathBuf) -> Config {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let port = args.listen.port();
    Config {
        name: "dev".into(),
        role: NodeRole::Data,
        storage_key: data_dir.join("storage.key"),
        data_dir,
        raft_addr: SocketAddr::new(local, port.wrapping_add(1)),
        lease_addr: SocketAddr::new(local, port.wrapping_add(2)),
        profile: Profile::Default,
        disk_slow: Profile::Default.disk_slow(),
        api_listen: args.listen,
        api_addr: args.listen,
        api_tls: None,
        purenas_key: args.purenas_key.clone().map(Secret::new),
        dataplane: Some(DataplaneConfig {
            simulated: true,
            access: vec![crate::config::AccessConfig {
                interface: "sim0".into(),
                group: GROUP.into(),
                port: 1,
            }],
            core: None,
            xdp: dataplane::XdpMode::Auto,
            shaper: dataplane::Shaper::Policer,
        }),
    }
}

fn init_request(args: &DevArgs) -> InitRequest {
    let pool = |name: &str, net: u8| PoolInit {
        name: name.into(),
        group: GROUP.into(),
        service: name.into(),
        range: format!("100.{net}.0.2-100.{net}.255.254"),
        prefix_len: 16,
        gateway: format!("100.{net}.0.1"),
        dns: vec!["192.0.2.53".into()],
        lease_s: 86_400,
        nat: None,
        rate: None,
    };
    InitRequest {
        cluster_name: "dev".into(),
        admin: AdminInit { username: "admin".into(), password: Secret::new(args.password.clone()) },
        groups: vec![GroupInit {
            name: GROUP.into(),
            vrid: 1,
            core_address: "10.0.0.1/24".into(),
            ac_name: "tandem-dev".into(),
            services: vec!["pppoe".into(), "dhcp".into()],
            preferred: vec![],
        }],
        pools: vec![pool("pppoe", 64), pool("dhcp", 65)],
        subscribers: vec![],
    }
}

async fn begin(daemon: &Arc<Daemon>, args: &DevArgs) -> Result<()> {
    let give_up = clock::now() + START;
    if !daemon.config.data_dir.join("identity").exists() {
        let plan = init_request(args).plan().map_err(|e| anyhow::anyhow!("{e:?}"))?;
        daemon.init(plan).await?;
    }
    let open = loop {
        if let Some(member) = daemon.member.get() {
            let open = member.local.lease.status().borrow().open.clone();
            if let Some((&group, &epoch)) = open.iter().next() {
                break (member.clone(), group, epoch);
            }
        }
        if clock::now() >= give_up {
            bail!("the node did not become owner of its group within {} s", START.as_secs());
        }
        clock::until(Some(clock::now() + Duration::from_millis(20))).await;
    };
    let (member, group, epoch) = open;
    if member.local.store.state().sessions().len() > 0 {
        return Ok(());
    }
    let proposer = Proposer::start(member.local.store.clone(), member.local.me, group);
    let waiting: Vec<_> =
        (0..args.sessions).filter_map(|i| proposer.propose(epoch, simulated(i))).collect();
    for outcome in waiting {
        match outcome.await? {
            OpOutcome::Committed(OpReply::Session(_)) => {}
            OpOutcome::Committed(reply) => bail!("a simulated session did not come up: {reply:?}"),
            OpOutcome::Unknown => bail!("a simulated session got no answer"),
        }
    }
    Ok(())
}

fn simulated(i: u32) -> SessionOp {
    let [_, a, b, c] = i.to_be_bytes();
    let attachment = Attachment {
        port: PortId(1),
        vlans: Vlans { outer: 100, inner: 0 },
        mac: MacAddr([0x02, 0, 0, a, b, c]),
    };
    if i.is_multiple_of(2) {
        let sid = u16::try_from(i / 2 + 1).unwrap_or(u16::MAX);
        SessionOp::PppoeUp {
            attachment,
            sid,
            username: format!("user{i}@dev"),
            local_magic: 1,
            peer_magic: 2,
            mtu: 1492,
            mru: 1492,
            rate: None,
            address: None,
            pool: None,
        }
    } else {
        SessionOp::LeaseGrant {
            attachment,
            client_id: vec![],
            hostname: format!("cpe{i}"),
            relay_info: vec![],
            address: None,
            lease_s: 86_400,
            pool: None,
        }
    }
}
