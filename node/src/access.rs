//! The subscriber side of one group: frames in, frames and log proposals out, while this node owns it.

mod dhcp;
mod engine;
mod pppoe;
mod statics;

pub use engine::{Counters, Engine, Output, Pending};

use crate::announce::Announcer;
use crate::clock;
use crate::management::config::RUNNING;
use crate::peer::Local;
use crate::proposer::{OpOutcome, Proposer};
use crate::waiting::WaitingList;
use dataplane::{PacketSocket, UnknownSource};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use model::{Collection, Epoch, Group, GroupId, PortId};
use raft_store::{Change, ChangeBatch};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

/// Control frames waiting for the engine, of all ports of a group.
const FRAMES_MAX: usize = 4096;
/// Largest control frame: PPPoE over two tags on a link of 1500 octets, and some.
const FRAME_OCTETS: usize = 2048;
/// Proposal queue fill, in percent, at which PADI and DISCOVER are dropped.
const SHED_PERCENT: usize = 80;
/// How often the kernel is asked for sources that it knows no session of: what a static subscriber that
/// only sends, and never asks for its gateway, waits until it is known.
const UNKNOWN_POLL: Duration = Duration::from_millis(200);

/// The sockets of one group.
pub struct Ports {
    /// Access ports.
    pub access: BTreeMap<PortId, Arc<PacketSocket>>,
    /// The core port.
    pub core: Option<Arc<PacketSocket>>,
}

/// Serves one group for the life of the daemon.
pub struct Access {
    local: Local,
    group: GroupId,
    ports: Ports,
    proposer: Proposer,
    counters: Arc<Counters>,
    waiting: Arc<WaitingList>,
    frames: mpsc::Receiver<(PortId, Vec<u8>)>,
    core_frames: mpsc::Receiver<(PortId, Vec<u8>)>,
}

type Outcome = (Pending, OpOutcome);

impl Access {
    /// Starts the readers of all ports.
    #[must_use]
    pub fn new(
        local: Local,
        group: GroupId,
        ports: Ports,
        counters: Arc<Counters>,
        waiting: Arc<WaitingList>,
    ) -> Self {
        let (tx, frames) = mpsc::channel(FRAMES_MAX);
        for (port, socket) in &ports.access {
            tokio::spawn(read(*port, socket.clone(), tx.clone()));
        }
        let (core_tx, core_frames) = mpsc::channel(FRAMES_MAX);
        if let Some(core) = &ports.core {
            tokio::spawn(read(PortId(0), core.clone(), core_tx));
        }
        let proposer = Proposer::start(local.store.clone(), local.me, group);
        Self { local, group, ports, proposer, counters, waiting, frames, core_frames }
    }

    /// Waits for the fence to open, serves until it falls, and again.
    pub async fn run(mut self) {
        let mut lease = self.local.lease.status();
        loop {
            let open = lease.wait_for(|s| s.open.contains_key(&self.group)).await;
            let Ok(epoch) = open.map(|s| s.open.get(&self.group).copied()) else { return };
            if let Some(epoch) = epoch {
                self.serve(epoch).await;
            }
        }
    }

    async fn serve(&mut self, mut epoch: Epoch) {
        let state = self.local.store.state();
        let Some(group) = state.group(self.group).cloned() else { return };
        let Ok(mut feed) = self.local.store.changes(state.applied()) else { return };
        let mut announcer = Announcer::new(&group, &state);
        self.send_announcement(&announcer.start(clock::now()));
        self.send_announcement(&announcer.add_vlans(&group, &state));
        let (counters, waiting) = (self.counters.clone(), self.waiting.clone());
        let mut engine = Engine::new(&group, &state, counters, waiting, clock::now());
        // What was noted while this node owned the group before is old news.
        let _ = self.take_unknown();
        let mut look_at = clock::now() + UNKNOWN_POLL;
        info!(group = group.name, %epoch, sessions = engine.resuming(), "serving subscribers");
        let mut lease = self.local.lease.status();
        let mut outcomes: FuturesUnordered<BoxFuture<'static, Outcome>> = FuturesUnordered::new();
        loop {
            let wake = [engine.deadline(), announcer.deadline(), Some(look_at)];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                r = lease.changed() => {
                    let open = r.ok().and_then(|()| lease.borrow_and_update().open.get(&self.group).copied());
                    match open {
                        Some(e) => epoch = e,
                        None => break,
                    }
                }
                Some(outcome) = outcomes.next(), if !outcomes.is_empty() => {
                    let (pending, outcome) = outcome;
                    engine.on_outcome(pending, &outcome, &self.local.store.state(), clock::now());
                }
                Some((port, frame)) = self.frames.recv() => {
                    engine.shed = self.proposer.load_percent() >= SHED_PERCENT;
                    engine.on_frame(port, &frame, &self.local.store.state(), clock::now(), self.local.store.now());
                }
                Some((_, frame)) = self.core_frames.recv() => self.on_core_frame(&group, &frame),
                batch = feed.next() => match batch {
                    Ok(batch) if has_new_settings(&batch, self.group) => break,
                    Ok(batch) => engine.on_changes(&batch, &self.local.store.state(), clock::now()),
                    Err(_) => break,
                },
                () = clock::until(wake) => {}
            }
            let now = clock::now();
            if now >= look_at {
                look_at = now + UNKNOWN_POLL;
                let sources = self.take_unknown();
                engine.on_unknown(&sources, &self.local.store.state(), now, clock::wall());
            }
            engine.on_time(&self.local.store.state(), now);
            self.send_announcement(&announcer.step(now));
            for output in engine.take_output() {
                self.carry_out(output, epoch, &mut outcomes);
            }
        }
        self.waiting.clear(self.group);
        info!(group = group.name, %epoch, "no longer serving");
    }

    fn take_unknown(&self) -> Vec<UnknownSource> {
        let Some(dataplane) = &self.local.dataplane else { return Vec::new() };
        dataplane.take_unknown(self.group).unwrap_or_else(|error| {
            warn!(%error, "the kernel did not tell unknown sources");
            Vec::new()
        })
    }

    fn carry_out(
        &self,
        output: Output,
        epoch: Epoch,
        outcomes: &mut FuturesUnordered<BoxFuture<'static, Outcome>>,
    ) {
        match output {
            Output::Send { port, frame } => {
                if let Some(socket) = self.ports.access.get(&port)
                    && let Err(error) = socket.send(&frame)
                {
                    debug!(%error, "control frame not sent");
                }
            }
            Output::Propose { pending, op } => match self.proposer.propose(epoch, op) {
                Some(outcome) => outcomes.push(Box::pin(async move {
                    (pending, outcome.await.unwrap_or(OpOutcome::Unknown))
                })),
                None => outcomes.push(Box::pin(async move { (pending, OpOutcome::Unknown) })),
            },
        }
    }

    /// Answers ARP for the address that the core routes the pools to.
    fn on_core_frame(&self, group: &Group, octets: &[u8]) {
        let Some(core) = &self.ports.core else { return };
        if let Some(reply) = engine::arp_reply(group, &[group.core_address], octets)
            && let Err(error) = core.send(&reply)
        {
            debug!(%error, "ARP reply not sent to the core");
        }
    }

    fn send_announcement(&self, frames: &crate::announce::Frames) {
        for frame in &frames.access {
            for socket in self.ports.access.values() {
                if let Err(error) = socket.send(frame) {
                    warn!(%error, "announcement not sent to the access side");
                }
            }
        }
        for frame in &frames.core {
            if let Some(core) = &self.ports.core
                && let Err(error) = core.send(frame)
            {
                warn!(%error, "announcement not sent to the core");
            }
        }
    }
}

/// Whether the engine must be made anew: it reads its settings once. Nothing is lost with it but
/// dial-ins that are half done, whose clients try again.
fn has_new_settings(batch: &ChangeBatch, group: GroupId) -> bool {
    batch.changes.iter().any(|change| match change {
        Change::GroupChanged(id) => *id == group,
        Change::PoolChanged(_) => true,
        Change::DocumentPut { collection, key } | Change::DocumentDeleted { collection, key } => {
            *collection == Collection::Config && **key == *RUNNING
        }
        Change::SessionUp(_)
        | Change::SessionChanged(_)
        | Change::SessionDown { .. }
        | Change::OwnerChanged { .. }
        | Change::NodeChanged(_)
        | Change::SubscriberChanged(_)
        | Change::ApiUserChanged(_)
        | Change::ClusterChanged
        | Change::BanChanged(_) => false,
    })
}

async fn read(port: PortId, socket: Arc<PacketSocket>, to: mpsc::Sender<(PortId, Vec<u8>)>) {
    let mut buf = vec![0; FRAME_OCTETS];
    loop {
        match socket.recv(&mut buf).await {
            Ok(received) => {
                let frame = buf[..received.len.min(buf.len())].to_vec();
                if let Err(mpsc::error::TrySendError::Closed(_)) = to.try_send((port, frame)) {
                    return;
                }
            }
            Err(error) => {
                // ENETDOWN while the link is down; the carrier watch deals with it.
                debug!(%error, port = port.0, "reading the port failed");
                clock::until(Some(clock::now() + std::time::Duration::from_millis(50))).await;
            }
        }
    }
}
