use super::net::{Peers, Transport};
use crate::clock;
use model::{Epoch, GroupId, NodeId, Tick};
use quorum_lease::{Event, Holder, Membership, Message, Promise, SealState, Sealer, Timing, Voter};
use raft_store::Identity;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

/// What the lease thread is started with.
pub struct Settings {
    /// This node.
    pub me: NodeId,
    /// Lease times, equal on all nodes.
    pub timing: Timing,
    /// Where datagrams arrive.
    pub listen: SocketAddr,
    /// Certificates.
    pub identity: Identity,
    /// Moves the kernel's fence: called for each quorum of acknowledgements; `Tick::ZERO` shuts it.
    pub fence: Arc<dyn Fn(GroupId, Tick) + Send + Sync>,
    /// Index of the newest membership appended to the log, set before the append is acknowledged.
    pub logged_membership: Arc<AtomicU64>,
}

enum Command {
    Peers(Peers),
    Membership { newest_index: u64, committed: Membership },
    Groups(BTreeSet<GroupId>),
    Acquire { group: GroupId, epoch: Epoch },
    Release { group: GroupId },
    Abandon { group: GroupId },
    Seal { group: GroupId, epoch: Epoch, done: oneshot::Sender<Result<(), Epoch>> },
    Ping { done: oneshot::Sender<()> },
}

/// What others may see of the lease; changes only when something changed, not with each renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Promises of this node's own voter that are running: group to holder and epoch.
    pub promises: BTreeMap<GroupId, (NodeId, Epoch)>,
    /// Groups whose fence is open on this node.
    pub open: BTreeMap<GroupId, Epoch>,
    /// The highest epoch that this node's voter has seen of each group.
    pub seen: BTreeMap<GroupId, Epoch>,
    /// The voter started so recently that it answers nothing yet.
    pub quarantined: bool,
    /// The members are known for long enough that a fence may open.
    pub settled: bool,
}

/// Talks to the lease thread; cheap to clone, never blocks.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<LeaseStatus>,
}

impl Handle {
    /// The current status and its changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<LeaseStatus> {
        self.status.clone()
    }

    /// Sets whom to talk to.
    pub fn set_peers(&self, peers: Peers) {
        self.send(Command::Peers(peers));
    }

    /// Sets the voters: the newest committed membership, and the index of the newest in the log.
    pub fn set_membership(&self, newest_index: u64, committed: Membership) {
        self.send(Command::Membership { newest_index, committed });
    }

    /// Sets the groups whose promises are reported in the status.
    pub fn set_groups(&self, groups: BTreeSet<GroupId>) {
        self.send(Command::Groups(groups));
    }

    /// Starts to renew: this node has applied its `Acquire`.
    pub fn acquire(&self, group: GroupId, epoch: Epoch) {
        self.send(Command::Acquire { group, epoch });
    }

    /// Shuts the fence and gives the promise back to the voters.
    pub fn release(&self, group: GroupId) {
        self.send(Command::Release { group });
    }

    /// Shuts the fence; another node owns the group by now.
    pub fn abandon(&self, group: GroupId) {
        self.send(Command::Abandon { group });
    }

    /// Seals `epoch` at a quorum and waits for the longest promise left.
    ///
    /// # Errors
    /// The higher epoch that a voter has seen, or `epoch` itself when the thread is gone.
    pub async fn seal(&self, group: GroupId, epoch: Epoch) -> Result<(), Epoch> {
        let (done, sealed) = oneshot::channel();
        self.send(Command::Seal { group, epoch, done });
        sealed.await.unwrap_or(Err(epoch))
    }

    /// Returns once the thread has come round; never when it hangs or is gone.
    pub async fn ping(&self) {
        let (done, came_round) = oneshot::channel();
        self.send(Command::Ping { done });
        if came_round.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            warn!("the lease thread has ended");
        }
    }
}

/// Starts the lease thread with its own single-threaded runtime.
///
/// # Errors
/// When the socket cannot be bound or the thread cannot start.
pub fn spawn(settings: Settings) -> std::io::Result<Handle> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (publish, status) =
        watch::channel(LeaseStatus { quarantined: true, ..LeaseStatus::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ready, bound) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("lease".into()).spawn(move || {
        dataplane::raise_thread_priority();
        runtime.block_on(async move {
            match Transport::bind(settings.listen, &settings.identity) {
                Ok(transport) => {
                    let _ = ready.send(Ok(()));
                    Actor::new(&settings, transport, publish).run(inbox).await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    })?;
    bound
        .recv()
        .unwrap_or_else(|_| Err(std::io::Error::other("the lease thread died at start")))?;
    Ok(Handle { commands, status })
}

struct Seal {
    sealer: Sealer,
    done: oneshot::Sender<Result<(), Epoch>>,
}

struct Actor {
    me: NodeId,
    timing: Timing,
    membership: Membership,
    logged_membership: Arc<AtomicU64>,
    newest_index: u64,
    voter: Voter,
    holder: Holder,
    seals: BTreeMap<GroupId, Seal>,
    seal_seq: u64,
    open: BTreeMap<GroupId, (Epoch, Tick)>,
    transport: Transport,
    fence: Arc<dyn Fn(GroupId, Tick) + Send + Sync>,
    publish: watch::Sender<LeaseStatus>,
    groups: BTreeSet<GroupId>,
}

impl Actor {
    fn new(settings: &Settings, transport: Transport, publish: watch::Sender<LeaseStatus>) -> Self {
        let nobody = Membership::default();
        Self {
            me: settings.me,
            timing: settings.timing,
            voter: Voter::new(clock::now(), settings.timing),
            holder: Holder::new(settings.me, settings.timing, nobody.clone()),
            membership: nobody,
            logged_membership: settings.logged_membership.clone(),
            newest_index: 0,
            seals: BTreeMap::new(),
            seal_seq: clock::now().as_ns(),
            open: BTreeMap::new(),
            transport,
            fence: settings.fence.clone(),
            publish,
            groups: BTreeSet::new(),
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake = self.next_wakeup();
            tokio::select! {
                biased;
                datagram = self.transport.recv() => match datagram {
                    Some((from, octets)) => self.on_datagram(from, &octets),
                    None => return,
                },
                command = inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = clock::until(wake) => {}
            }
            self.on_time();
            self.publish();
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Peers(peers) => self.transport.set_peers(&peers),
            Command::Membership { newest_index, committed } => {
                self.newest_index = newest_index;
                self.holder.set_membership(committed.clone());
                self.membership = committed;
            }
            Command::Groups(groups) => self.groups = groups,
            Command::Acquire { group, epoch } => {
                if !self.holder.acquire(group, epoch, now) {
                    debug!(%group, %epoch, "this epoch was given up before");
                }
            }
            Command::Release { group } => {
                self.shut(group);
                if let Some(release) = self.holder.release(group, now) {
                    self.broadcast(&release);
                }
            }
            Command::Abandon { group } => {
                self.shut(group);
                self.holder.abandon(group);
            }
            Command::Seal { group, epoch, done } => {
                self.seal_seq += 1;
                let sealer = Sealer::new(
                    group,
                    epoch,
                    self.membership.clone(),
                    self.seal_seq,
                    now,
                    self.timing,
                );
                self.seals.insert(group, Seal { sealer, done });
            }
            // Who asked may have given up.
            Command::Ping { done } => drop(done.send(())),
        }
    }

    fn on_datagram(&mut self, from: NodeId, octets: &[u8]) {
        match Message::decode(octets) {
            Ok(message) => self.on_message(from, &message),
            Err(error) => warn!(%from, label = error.label(), %error, "lease datagram refused"),
        }
    }

    fn on_message(&mut self, from: NodeId, message: &Message) {
        let now = clock::now();
        match message {
            Message::Renew { .. } | Message::Seal { .. } | Message::Release { .. } => {
                let logged = self.logged_membership.load(Ordering::Acquire);
                self.voter.set_membership_index(logged.max(self.newest_index));
                if let Some(reply) = self.voter.on_message(from, message, now) {
                    self.deliver(from, &reply);
                }
            }
            Message::RenewAck { .. } => {
                for event in self.holder.on_ack(from, message, now) {
                    self.on_event(event);
                }
            }
            Message::SealAck { group, .. } => {
                if let Some(seal) = self.seals.get_mut(group) {
                    seal.sealer.on_ack(from, message, now);
                }
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Deadline { group, epoch, until } => {
                (self.fence)(group, until);
                if self.open.insert(group, (epoch, until)).is_none_or(|(e, _)| e != epoch) {
                    info!(%group, %epoch, "fence open");
                }
            }
            Event::Lost { group, reason } => {
                info!(%group, ?reason, "quorum lease lost");
                self.shut(group);
            }
        }
    }

    /// Sends what is due and ends what is over.
    fn on_time(&mut self) {
        let now = clock::now();
        for message in self.holder.step(now) {
            self.broadcast(&message);
        }
        let mut messages = Vec::new();
        for seal in self.seals.values_mut() {
            messages.extend(seal.sealer.step(now));
        }
        for message in messages {
            self.broadcast(&message);
        }
        self.finish_seals(now);
        self.open.retain(|group, (epoch, until)| {
            if *until <= now {
                info!(%group, %epoch, "fence fell: no quorum acknowledged a renewal in time");
            }
            *until > now
        });
    }

    fn finish_seals(&mut self, now: Tick) {
        let over: Vec<(GroupId, Result<(), Epoch>)> = self
            .seals
            .iter()
            .filter_map(|(group, seal)| match seal.sealer.state(now) {
                SealState::Waiting | SealState::WaitUntil(_) => {
                    seal.done.is_closed().then_some((*group, Err(Epoch(0))))
                }
                SealState::Ready => Some((*group, Ok(()))),
                SealState::Superseded { seen } => Some((*group, Err(seen))),
            })
            .collect();
        for (group, result) in over {
            if let Some(seal) = self.seals.remove(&group)
                && seal.done.send(result).is_err()
            {
                debug!(%group, "the seal was given up");
            }
        }
    }

    fn shut(&mut self, group: GroupId) {
        (self.fence)(group, Tick::ZERO);
        self.open.remove(&group);
    }

    fn broadcast(&mut self, message: &Message) {
        let voters: Vec<NodeId> = self.membership.nodes().into_iter().collect();
        for to in voters {
            self.deliver(to, message);
        }
    }

    fn deliver(&mut self, to: NodeId, message: &Message) {
        if to == self.me {
            self.on_message(to, message);
        } else {
            self.transport.send(to, message.encode());
        }
    }

    /// Promises of this node's voter that are running.
    fn promises(&self, now: Tick) -> impl Iterator<Item = (GroupId, Promise)> + '_ {
        let live = move |g: &GroupId| self.voter.promise(*g).filter(|p| now < p.expires_at);
        self.groups.iter().filter_map(move |g| live(g).map(|p| (*g, p)))
    }

    fn next_wakeup(&self) -> Option<Tick> {
        let now = clock::now();
        let promises = self.promises(now).map(|(_, p)| p.expires_at).min();
        let quarantine = Some(self.voter.quarantined_until()).filter(|at| *at > now);
        let settled = self.holder.settled_at().filter(|at| *at > now);
        let seals = self.seals.values().filter_map(|s| s.sealer.next_wakeup()).min();
        let fences = self.open.values().map(|(_, until)| *until).min();
        let all = [self.holder.next_wakeup(), promises, quarantine, settled, seals, fences];
        all.into_iter().flatten().min()
    }

    fn publish(&mut self) {
        let now = clock::now();
        let status = LeaseStatus {
            promises: self.promises(now).map(|(g, p)| (g, (p.holder, p.epoch))).collect(),
            open: self.open.iter().map(|(g, (e, _))| (*g, *e)).collect(),
            seen: self.groups.iter().map(|g| (*g, self.voter.highest_epoch(*g))).collect(),
            quarantined: self.voter.quarantined_until() > now,
            settled: self.holder.settled_at().is_some_and(|at| at <= now),
        };
        self.publish.send_if_modified(|old| {
            let changed = *old != status;
            if changed {
                *old = status;
            }
            changed
        });
    }
}
