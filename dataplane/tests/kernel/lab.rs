//! A subscriber's wire, a node and a core router's wire: three network namespaces.

use dataplane::{
    AccessPort, Config, Dataplane, GroupConfig, PacketSocket, PoolRoute, SessionChange,
    SessionEntry, Shaper, XdpMode, boottime_now,
};
use model::{Attachment, GroupId, MacAddr, NatPool, PortId, Rate, SessionId, Tick, Vlans};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::frame::{Udp, Wrap, read_udp};

pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const PORT: PortId = PortId(3);
pub(crate) const VMAC: MacAddr = MacAddr::virtual_router(51);
pub(crate) const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);
pub(crate) const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 9);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
pub(crate) const CORE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

/// A condition must come true within this.
const WAIT: Duration = Duration::from_secs(5);
/// Pause between two looks at a counter.
const LOOK: Duration = Duration::from_millis(1);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a test may vary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) xdp: XdpMode,
    pub(crate) shaper: Shaper,
}

impl Default for Setup {
    fn default() -> Self {
        Self { xdp: XdpMode::Generic, shaper: Shaper::Policer }
    }
}

pub(crate) struct Lab {
    names: Names,
    pub(crate) cfg: Config,
    pub(crate) client: PacketSocket,
    pub(crate) core: PacketSocket,
    pub(crate) dp: Option<Dataplane>,
}

/// The names of everything made, removed when dropped.
struct Names {
    client: String,
    node: String,
    core: String,
    pins: PathBuf,
}

impl Drop for Names {
    fn drop(&mut self) {
        // In the first namespace again, so that ours can go.
        for name in [&self.client, &self.node, &self.core] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

fn ip(args: &str) -> Result<(), String> {
    let out = Command::new("ip").args(args.split(' ')).output().map_err(|e| e.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("ip {args}: {}", String::from_utf8_lossy(&out.stderr)))
}

fn enter(name: &str) {
    let ns = File::open(format!("/run/netns/{name}")).unwrap();
    setns(ns, CloneFlags::CLONE_NEWNET).unwrap();
}

impl Names {
    fn make(test: &str) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        let part = |what: &str| format!("tdp-{}-{test}-{what}", std::process::id());
        let names = Self {
            client: part("c"),
            node: part("n"),
            core: part("r"),
            pins: format!("/sys/fs/bpf/{}", part("pins")).into(),
        };
        let Self { client, node, core, .. } = &names;
        for name in [client, node, core] {
            ip(&format!("netns add {name}"))?;
        }
        for (ours, theirs, other) in [("acc0", "sub0", client), ("core0", "net0", core)] {
            ip(&format!(
                "link add {ours} netns {node} type veth peer name {theirs} netns {other}"
            ))?;
            for (ns, link) in [(node, ours), (other, theirs)] {
                ip(&format!("-n {ns} link set {link} mtu 1600 up"))?;
            }
        }
        ip(&format!("-n {node} addr add {NODE_ADDRESS}/24 dev core0"))?;
        ip(&format!("-n {node} route add default via 192.0.2.254"))?;
        ip(&format!(
            "-n {node} neigh add 192.0.2.254 lladdr {ROUTER_MAC} dev core0 nud permanent"
        ))?;
        Ok(names)
    }
}

/// Runs a test in a lab of its own, on a thread of its own, or prints why it was skipped.
pub(crate) fn run<F>(test: &str, setup: Setup, body: F)
where
    F: AsyncFnOnce(&mut Lab) + Send + 'static,
{
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let names = match Names::make(test) {
        Ok(names) => names,
        Err(why) => {
            println!("SKIPPED: {why}");
            return;
        }
    };
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut lab = Lab::open(names, setup).await;
            body(&mut lab).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    async fn open(names: Names, setup: Setup) -> Self {
        enter(&names.client);
        let client = PacketSocket::open_all("sub0").unwrap();
        enter(&names.core);
        let core = PacketSocket::open_all("net0").unwrap();
        enter(&names.node);
        let cfg = Config {
            access: vec![AccessPort { port: PORT, interface: "acc0".into(), group: GROUP }],
            core: Some("core0".into()),
            xdp: setup.xdp,
            shaper: setup.shaper,
            pin_dir: names.pins.clone(),
        };
        let mut lab = Self { names, cfg, client, core, dp: None };
        lab.reopen().await;
        // What the kernels said while the links came up.
        drain(&lab.client);
        drain(&lab.core);
        lab
    }

    /// Ends the handle, as a daemon that exits, and opens another.
    pub(crate) async fn reopen(&mut self) {
        self.dp = None;
        let dp = Dataplane::open(self.cfg.clone()).await.unwrap();
        dp.put_group(&group(None)).await.unwrap();
        self.dp = Some(dp);
    }

    pub(crate) fn dp(&self) -> &Dataplane {
        self.dp.as_ref().unwrap()
    }

    pub(crate) fn open_fence(&self) {
        self.dp().set_fence(GROUP, boottime_now() + Duration::from_secs(60)).unwrap();
    }

    pub(crate) async fn put(&self, entry: SessionEntry) {
        self.dp().apply(&[SessionChange::Put(entry)]).await.unwrap();
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.dp().drops().iter().find(|(name, _)| *name == reason).unwrap().1
    }

    /// Waits until `reason` has been counted `more` times since it stood at `before`.
    pub(crate) async fn wait_dropped(&self, reason: &str, before: u64, more: u64) {
        self.wait(&format!("{more} drops: {reason}"), || self.dropped(reason) >= before + more)
            .await;
    }

    pub(crate) async fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let done = tokio::time::timeout(WAIT, waiting).await;
        assert!(done.is_ok(), "not within {WAIT:?}: {what}; drops {:?}", self.dp().drops());
    }

    /// The own address of the access interface.
    pub(crate) fn access_mac(&self) -> MacAddr {
        let shown = self.node_command("ip", "-o link show acc0");
        shown.split("link/ether ").nth(1).unwrap()[..17].parse().unwrap()
    }

    /// Runs a program in the node's namespace and returns what it printed.
    pub(crate) fn node_command(&self, program: &str, args: &str) -> String {
        // This thread is in the node's namespace, and children inherit it.
        let out = Command::new(program).args(args.split(' ')).output().unwrap();
        assert!(
            out.status.success(),
            "{program} {args} in {}: {}",
            self.names.node,
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8_lossy(&out.stdout).into_owned()
    }
}

/// Receives until a frame satisfies `wanted`; other frames are ignored.
pub(crate) async fn receive(
    socket: &PacketSocket,
    what: &str,
    wanted: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Tick) {
    let mut buf = vec![0; 2048];
    let receiving = async {
        loop {
            let got = socket.recv(&mut buf).await.unwrap();
            if wanted(&buf[..got.len]) {
                return (buf[..got.len].to_vec(), got.at.unwrap_or_default());
            }
        }
    };
    match tokio::time::timeout(WAIT, receiving).await {
        Ok(frame) => frame,
        Err(_) => panic!("not received within {WAIT:?}: {what}"),
    }
}

/// Takes every frame that is queued and returns the UDP ones.
pub(crate) fn drain_udp(socket: &PacketSocket) -> Vec<Udp> {
    drain(socket).iter().filter_map(|f| read_udp(f)).collect()
}

/// Takes every frame that is queued.
pub(crate) fn drain(socket: &PacketSocket) -> Vec<Vec<u8>> {
    let mut buf = vec![0; 2048];
    let mut frames = Vec::new();
    while let Ok(got) = socket.try_recv(&mut buf) {
        frames.push(buf[..got.len].to_vec());
    }
    frames
}

pub(crate) fn group(nat: Option<NatPool>) -> GroupConfig {
    GroupConfig {
        id: GROUP,
        vmac: VMAC,
        core_address: CORE_ADDRESS,
        core_prefix_len: 24,
        gateways: vec![GATEWAY],
        pools: vec![PoolRoute {
            network: Ipv4Addr::new(100, 64, 0, 0),
            prefix_len: 16,
            port: PORT,
            mtu: 1492,
            nat,
        }],
    }
}

/// The session of the one subscriber.
pub(crate) fn session(wrap: Wrap) -> SessionEntry {
    SessionEntry {
        id: SessionId(1001),
        group: GROUP,
        attachment: Attachment { port: PORT, vlans: wrap.vlans, mac: CLIENT_MAC },
        address: ADDRESS,
        pppoe_sid: wrap.pppoe_sid,
        s_tag: wrap.outer_tpid == 0x88a8,
        rate: Rate::default(),
        nat: None,
        allowed: true,
    }
}

pub(crate) fn vlans(outer: u16, inner: u16) -> Vlans {
    Vlans { outer, inner }
}
