//! Opening: verify the disk, start Raft, start the tasks.

use super::{Engine, Inner, OpenError, Store, StoreConfig, level, members, propose, read, status};
use crate::log::{LogEngine, LogError, MARK_FILE, Opened, SealedEngine, SledEngine, Writer};
use crate::metrics::Counters;
use crate::net::{Factory, Peers, serve};
use crate::raft::log_store::LogStore;
use crate::raft::machine::{Machine, Published};
use crate::raft::snapshot::SnapshotDir;
use crate::raft::{self, Raft};
use crate::vault::Vault;
use crate::vault::key_file::{self, KeyFileError};
use arc_swap::ArcSwapOption;
use openraft::async_runtime::watch::WatchReceiver as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long connections of peers may take to end.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
const LOG_DIR: &str = "log";
const SNAPSHOT_DIR: &str = "snapshots";

pub(super) async fn open(cfg: StoreConfig) -> Result<Store, OpenError> {
    let config = Arc::new(check_config(&cfg)?);
    let blocking = cfg.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let vault = open_vault(&blocking)?;
        let log = open_log(&blocking, &vault)?;
        let snapshots = open_snapshots(&blocking, &log, vault)?;
        Ok::<_, OpenError>((log, snapshots))
    });
    let (log, snapshots) = opened.await.map_err(|e| OpenError::Raft(e.to_string()))??;
    let listen = |source| OpenError::Listen { address: cfg.listen, source };
    let listener = bind(cfg.listen).map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let store = start(cfg, config, log, snapshots, address).await?;
    store.inner.tasks.spawn(run_server(Arc::clone(&store.inner), listener));
    store.inner.tasks.close();
    Ok(store)
}

/// Reads the key, or makes it before anything else, so that no store can be older than its key.
fn open_vault(cfg: &StoreConfig) -> Result<Arc<Vault>, OpenError> {
    let dir = &cfg.data_dir;
    let key_file = || cfg.key_file.clone();
    std::fs::create_dir_all(dir).map_err(|source| OpenError::Io { dir: dir.clone(), source })?;
    let store_exists =
        [LOG_DIR, SNAPSHOT_DIR, MARK_FILE].into_iter().any(|name| dir.join(name).exists());
    key_file::load(&cfg.key_file, store_exists).map(Arc::new).map_err(|e| match e {
        KeyFileError::Missing => OpenError::KeyMissing { key_file: key_file(), dir: dir.clone() },
        KeyFileError::Unusable(reason) => OpenError::KeyFile { key_file: key_file(), reason },
        KeyFileError::Io(e) => OpenError::KeyFile { key_file: key_file(), reason: e.to_string() },
    })
}

fn open_log(cfg: &StoreConfig, vault: &Arc<Vault>) -> Result<Opened, OpenError> {
    let dir = &cfg.data_dir;
    let opened = || {
        let engine: Arc<dyn LogEngine> = match cfg.engine {
            Engine::Sled => {
                let engine = SledEngine::open(&dir.join(LOG_DIR))?;
                Arc::new(SealedEngine::open(engine, Arc::clone(vault))?)
            }
        };
        crate::log::open(engine, dir, &cfg.cluster_id, cfg.node)
    };
    opened().map_err(|e| match e {
        LogError::Corrupt(what) => OpenError::Corrupt { dir: dir.clone(), what },
        LogError::Owner { found, expected } => {
            OpenError::Owner { dir: dir.clone(), found, expected }
        }
        LogError::Io(source) => OpenError::Io { dir: dir.clone(), source },
        LogError::WrongKey => {
            OpenError::WrongKey { key_file: cfg.key_file.clone(), dir: dir.clone() }
        }
        LogError::Unencrypted => {
            OpenError::Format { dir: dir.clone(), what: "is not encrypted".to_owned() }
        }
        LogError::Format(version) => {
            let what = format!("has format version {version}, which this build does not know");
            OpenError::Format { dir: dir.clone(), what }
        }
    })
}

fn is_damage(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn open_snapshots(
    cfg: &StoreConfig,
    log: &Opened,
    vault: Arc<Vault>,
) -> Result<SnapshotDir, OpenError> {
    let dir = &cfg.data_dir;
    let snapshots = SnapshotDir::open(dir.join(SNAPSHOT_DIR), cfg.cluster_id.clone(), vault)
        .map_err(|source| {
            if is_damage(&source) {
                OpenError::Corrupt { dir: dir.clone(), what: source.to_string() }
            } else {
                OpenError::Io { dir: dir.clone(), source }
            }
        })?;
    let covered = snapshots.current().and_then(|c| c.meta.last_log_id).map_or(0, |id| id.index);
    match log.purged {
        Some(purged) if purged.index > covered => Err(OpenError::Corrupt {
            dir: dir.clone(),
            what: format!(
                "the log begins after entry {}, but the newest readable snapshot ends at {covered}",
                purged.index
            ),
        }),
        Some(_) | None => Ok(snapshots),
    }
}

fn check_config(cfg: &StoreConfig) -> Result<openraft::Config, OpenError> {
    if cfg.identity.node != cfg.node || cfg.identity.cluster_id != cfg.cluster_id {
        return Err(OpenError::Config(format!(
            "the identity is node {} of {}, the store is node {} of {}",
            cfg.identity.node, cfg.identity.cluster_id, cfg.node, cfg.cluster_id
        )));
    }
    if 2 * cfg.timing.heartbeat > cfg.timing.election_min {
        return Err(OpenError::Config(
            "the heartbeat must be at most half of the shortest election timeout".to_owned(),
        ));
    }
    cfg.identity.rustls_server()?;
    cfg.identity.rustls_client()?;
    raft::config(&cfg.cluster_id.0, &cfg.timing).map_err(|e| OpenError::Config(e.to_string()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    // A restarted node must get its address back while old connections linger in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn run_server(inner: Arc<Inner>, listener: TcpListener) {
    let stop = inner.stop.clone();
    let serving = serve(Arc::clone(&inner), listener);
    tokio::pin!(serving);
    tokio::select! {
        result = &mut serving => if let Err(e) = result {
            inner.fail(format!("the raft transport has failed: {e}"));
        },
        // Peers are told to go; a stream that lasts longer than this is cut.
        () = async {
            stop.cancelled().await;
            tokio::time::sleep(GOODBYE_WITHIN).await;
        } => {}
    }
}

async fn start(
    cfg: StoreConfig,
    config: Arc<openraft::Config>,
    log: Opened,
    snapshots: SnapshotDir,
    address: SocketAddr,
) -> Result<Store, OpenError> {
    let dir: &Path = &cfg.data_dir;
    let counters = Arc::new(Counters::default());
    let published = Arc::new(Published::new(cfg.node, Arc::clone(&counters)));
    let snapshots = Arc::new(snapshots);
    let peers = Peers::new(cfg.identity.clone(), &cfg.timing).map_err(OpenError::Config)?;
    let peers = Arc::new(peers);
    let fatal = published.fatal.clone();
    let machine = Machine::new(
        cfg.cluster_id.clone(),
        Arc::clone(&published),
        Arc::clone(&snapshots),
        log.last.map_or(0, |p| p.index),
    );
    let engine = Arc::downgrade(&log.engine);
    log.memberships.iter().for_each(|index| published.membership.add(*index));
    let parts = LogStore::parts(&log);
    let failed = fatal.clone();
    let failed = Box::new(move |reason| failed.report(reason));
    let (writer, handle) = Writer::start(log, Arc::clone(&counters), failed)
        .map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?;
    let factory = Factory { peers: Arc::clone(&peers), counters: Arc::clone(&counters) };
    let log = LogStore::new(parts, handle, published.membership.clone());
    let raft = Raft::new(cfg.node.0, config, factory, log, machine)
        .await
        .map_err(|e| OpenError::Raft(fatal.reason().unwrap_or_else(|| e.to_string())))?;
    published.running.store(true, Ordering::Release);
    let first = status::status(&raft.metrics().borrow_watched().clone());
    let (queues, ends) = propose::queues();
    let (reads, read_ends) = mpsc::channel(read::QUEUE_MAX);
    let inner = Arc::new(Inner {
        node: cfg.node,
        cluster: cfg.cluster_id,
        identity: cfg.identity,
        raft,
        peers,
        snapshots,
        counters,
        stop: CancellationToken::new(),
        published,
        timing: cfg.timing,
        clock: cfg.clock,
        queues,
        reads,
        status: watch::Sender::new(first),
        changing: tokio::sync::Mutex::new(()),
        handler: ArcSwapOption::empty(),
        engine,
        writer: Mutex::new(Some(writer)),
        address,
        tasks: TaskTracker::new(),
    });
    let (local, forward) = ends.split();
    let tasks = &inner.tasks;
    tasks.spawn(status::run(Arc::clone(&inner)));
    tasks.spawn(propose::run_local(Arc::clone(&inner), local));
    tasks.spawn(propose::run_forward(Arc::clone(&inner), forward));
    tasks.spawn(read::run(Arc::clone(&inner), read_ends));
    tasks.spawn(members::run(Arc::clone(&inner)));
    tasks.spawn(level::run(Arc::clone(&inner)));
    Ok(Store { inner })
}
