//! Writes and reads of session rates through random nodes, recorded as a [`History`].

use super::history::{History, Kind, Op, Size};
use crate::lab::cluster::{NodeName, eventually, user_name};
use crate::scenario::Lab;
use anyhow::{Context as _, Result};
use api::ReadLevel;
use api::types::{RateRequest, SubscriberQuery};
use dataplane::boottime_now;
use model::SessionId;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_pcg::Pcg64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Sessions whose rate is a register: few, so that operations meet.
const REGISTERS: usize = 4;
/// Operations under way at once.
const OPS_MAX: usize = 8;
/// How long the reads at start and end may take.
const PATIENCE: Duration = Duration::from_secs(10);
const RATE_STEP: u64 = 1_000_000;

/// Far above what probes need, and different for each write.
fn rate_of(number: u64) -> u64 {
    (1_000 + number) * RATE_STEP
}

/// The registers of a run.
pub(super) struct Registers {
    history: Arc<Mutex<History>>,
    keys: Vec<SessionId>,
    writes: u64,
    tasks: tokio::task::JoinSet<()>,
}

impl Registers {
    /// Makes registers of the first PPPoE sessions, which stay up.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) async fn start(lab: &Lab) -> Result<Self> {
        let mut history = History::default();
        for i in 0..REGISTERS {
            let query =
                SubscriberQuery { username: Some(user_name(i)), ..SubscriberQuery::default() };
            let found = lab
                .cluster
                .ask(async |c| c.subscribers(&query, ReadLevel::Linearizable).await)
                .await?;
            let session =
                found.sessions.first().with_context(|| format!("no session of user {i}"))?;
            history.begin(session.id, session.rate_down);
        }
        let keys = history.keys();
        let history = Arc::new(Mutex::new(history));
        Ok(Self { history, keys, writes: 0, tasks: tokio::task::JoinSet::new() })
    }

    /// Starts a write or a read of a random register through a random node.
    pub(super) fn spawn(&mut self, lab: &Lab, rng: &mut Pcg64) {
        let node = NodeName(rng.random_range(0..lab.cluster.nodes()));
        let (key, write) = (self.keys.choose(rng).copied(), rng.random_bool(0.5));
        while self.tasks.try_join_next().is_some() {}
        let Some(key) = key.filter(|_| self.tasks.len() < OPS_MAX) else { return };
        let client = lab.cluster.client(node).clone();
        if write {
            self.writes += 1;
            self.tasks.spawn(set(client, key, rate_of(self.writes), self.history.clone()));
        } else {
            self.tasks.spawn(get(client, key, self.history.clone()));
        }
    }

    /// Judges what was recorded so far.
    ///
    /// # Errors
    /// The first register that is not linearizable.
    pub(super) fn verdict(&self) -> Result<()> {
        lock(&self.history).verdict()
    }

    /// Waits for what is under way, reads every register once more, and judges.
    ///
    /// # Errors
    /// When a register cannot be read, or is not linearizable: an acknowledged write was lost.
    pub(super) async fn finish(&mut self, lab: &Lab) -> Result<()> {
        while self.tasks.join_next().await.is_some() {}
        for &key in &self.keys {
            let (value, invoked) = eventually("a register is read", PATIENCE, || async {
                let invoked = boottime_now();
                let read =
                    lab.cluster.ask(async |c| c.subscriber(key, ReadLevel::Linearizable).await);
                Ok((read.await?.rate_down_bps, invoked))
            })
            .await?;
            let returned = Some(boottime_now());
            lock(&self.history).add(key, Op { kind: Kind::Read, value, invoked, returned });
        }
        self.verdict()
    }

    /// Counts what was recorded.
    pub(super) fn size(&self) -> Size {
        lock(&self.history).size()
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes. Any error leaves the outcome unknown: the write may have been passed on before it.
async fn set(client: api::Client, key: SessionId, rate: u64, history: Arc<Mutex<History>>) {
    let op = Op { kind: Kind::Write, value: rate, invoked: boottime_now(), returned: None };
    // Recorded before it is sent, since another may read it before the answer comes.
    let place = lock(&history).add(key, op);
    let request = RateRequest { rate_down: rate, rate_up: rate };
    if client.set_rate(key, &request).await.is_ok() {
        lock(&history).answer(key, place, boottime_now());
    }
}

async fn get(client: api::Client, key: SessionId, history: Arc<Mutex<History>>) {
    let invoked = boottime_now();
    if let Ok(session) = client.subscriber(key, ReadLevel::Linearizable).await {
        let value = session.data.rate_down_bps;
        let returned = Some(boottime_now());
        lock(&history).add(key, Op { kind: Kind::Read, value, invoked, returned });
    }
}
