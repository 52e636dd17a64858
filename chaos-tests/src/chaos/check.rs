//! Checks that run while faults strike.

use crate::lab::cluster::{ADMIN, NodeName, client_of, eventually};
use crate::scenario::Lab;
use anyhow::{Context as _, Result, bail, ensure};
use api::ReadLevel;
use api::types::{LoginRequest, RateRequest, SubscriberQuery};
use model::{Secret, SessionId};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_pcg::Pcg64;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often each node is asked.
const POLL: Duration = Duration::from_millis(150);

/// Epochs and revisions never step back, as each node shows them.
pub(super) struct Checker {
    found: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Checker {
    /// Starts to watch every node by itself.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for i in 0..lab.cluster.nodes() {
            let client = client_of(i, Duration::from_secs(2))?;
            tasks.push(tokio::spawn(watch(i, client, found.clone())));
        }
        Ok(Self { found, tasks })
    }

    /// Fails when a node stepped back.
    pub(super) fn verdict(&self) -> Result<()> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.first() {
            Some(violation) => bail!("{violation}"),
            None => Ok(()),
        }
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn watch(node: usize, mut client: api::Client, found: Arc<Mutex<Vec<String>>>) {
    let mut epochs: BTreeMap<String, u64> = BTreeMap::new();
    let mut revision = 0;
    let mut uptime_s = 0;
    loop {
        let _ = tokio::time::timeout(POLL, std::future::pending::<()>()).await;
        let Ok(health) = client.health().await.map(|a| a.data) else { continue };
        // A restarted node replays its log from the start; its revision counts anew.
        if health.uptime_s < uptime_s {
            revision = 0;
        }
        uptime_s = health.uptime_s;
        let Ok(status) = client.cluster().await.map(|a| a.data) else {
            let login = LoginRequest { username: ADMIN.0.into(), password: Secret::new(ADMIN.1) };
            if let Ok(token) = client.login(&login).await {
                client = client.with_token(token.data.access_token);
            }
            continue;
        };
        let mut violations = Vec::new();
        for group in &status.groups {
            let last = epochs.entry(group.name.clone()).or_default();
            if group.epoch.0 < *last && revision != 0 {
                violations.push(format!(
                    "n{}: epoch of {} went from {last} to {}",
                    node + 1,
                    group.name,
                    group.epoch
                ));
            }
            *last = (*last).max(group.epoch.0);
        }
        if status.revision.0 < revision {
            violations.push(format!(
                "n{}: revision went from {revision} to {}",
                node + 1,
                status.revision
            ));
        }
        revision = status.revision.0;
        found.lock().unwrap_or_else(PoisonError::into_inner).extend(violations);
    }
}

/// No address belongs to two sessions, neither in the log nor at the subscribers.
pub(super) async fn addresses_unique(lab: &Lab) -> Result<()> {
    let sessions = eventually("the session list", Duration::from_secs(5), || async {
        let query = SubscriberQuery { limit: Some(1000), ..SubscriberQuery::default() };
        Ok(lab
            .cluster
            .ask(async |c| c.subscribers(&query, ReadLevel::Linearizable).await)
            .await?
            .sessions)
    })
    .await?;
    let mut held = BTreeSet::new();
    for session in &sessions {
        ensure!(held.insert(session.ip_address), "{} is held by two sessions", session.ip_address);
    }
    let mut used = BTreeSet::new();
    for (i, seen) in lab.subscribers.shared().seen.iter().enumerate() {
        if let Some(address) = seen.address() {
            ensure!(used.insert(address), "subscriber {i} uses {address}, and so does another");
        }
    }
    Ok(())
}

/// Rates set through random nodes: an acknowledged one must be there at the end.
#[derive(Default)]
pub(super) struct Writes {
    log: Arc<Mutex<BTreeMap<SessionId, Rates>>>,
    next: u64,
    tasks: tokio::task::JoinSet<()>,
}

#[derive(Default)]
struct Rates {
    /// Number of the newest acknowledged write.
    acknowledged: u64,
    /// Numbers of writes whose outcome is unknown.
    unknown: BTreeSet<u64>,
}

/// Writes under way at once.
const WRITES_MAX: usize = 8;

impl Writes {
    /// Sets the rate of a session that stays, through a random node.
    pub(super) fn spawn(&mut self, lab: &Lab, rng: &mut Pcg64) {
        while self.tasks.try_join_next().is_some() {}
        if self.tasks.len() >= WRITES_MAX {
            return;
        }
        let known: Vec<SessionId> =
            self.log.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        self.next += 1;
        let number = self.next;
        let client = lab.cluster.client(NodeName(rng.random_range(0..lab.cluster.nodes()))).clone();
        let log = self.log.clone();
        let again = known.choose(rng).copied().filter(|_| known.len() >= 5);
        self.tasks.spawn(async move {
            let id = match again {
                Some(id) => id,
                None => match first_session(&client, number).await {
                    Some(id) => id,
                    None => return,
                },
            };
            // One writer per session at a time, else the order of two acknowledged writes is not known.
            let rate = RateRequest { rate_down: rate_of(number), rate_up: rate_of(number) };
            let done = client.set_rate(id, &rate).await;
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let rates = log.entry(id).or_default();
            match done {
                Ok(_) => rates.acknowledged = rates.acknowledged.max(number),
                Err(_) => {
                    rates.unknown.insert(number);
                }
            }
        });
    }

    /// Compares what the log holds now with what was acknowledged.
    pub(super) async fn verify(&mut self, lab: &Lab) -> Result<()> {
        while self.tasks.join_next().await.is_some() {}
        let log = std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, rates) in log {
            if rates.acknowledged == 0 {
                continue;
            }
            let now =
                lab.cluster.ask(async |c| c.subscriber(id, ReadLevel::Linearizable).await).await;
            let now = now.with_context(|| format!("session {id}"))?;
            let number = now.rate_down_bps / RATE_STEP;
            let newest = number >= rates.acknowledged.saturating_sub(u64::try_from(WRITES_MAX)?);
            ensure!(
                newest || rates.unknown.contains(&number),
                "session {id} has the rate of write {number}, but write {} was acknowledged",
                rates.acknowledged
            );
        }
        Ok(())
    }
}

const RATE_STEP: u64 = 1_000_000;

/// Far above what probes need, and different for each write.
fn rate_of(number: u64) -> u64 {
    (1_000 + number) * RATE_STEP
}

/// A PPPoE session of a subscriber that stays.
async fn first_session(client: &api::Client, number: u64) -> Option<SessionId> {
    let user = crate::lab::cluster::user_name(usize::try_from(number % 20).ok()?);
    let query = SubscriberQuery { username: Some(user), ..SubscriberQuery::default() };
    client
        .subscribers(&query, ReadLevel::Linearizable)
        .await
        .ok()?
        .data
        .sessions
        .first()
        .map(|s| s.id)
}
