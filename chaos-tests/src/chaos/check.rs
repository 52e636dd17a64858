//! Checks that run while faults strike.

use crate::lab::cluster::{ADMIN, client_of, eventually, pause};
use crate::scenario::Lab;
use anyhow::{Result, bail, ensure};
use api::ReadLevel;
use api::types::{LoginRequest, SubscriberQuery};
use model::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
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
            tasks.push(tokio::spawn(watch(i, client, lab.cluster.starts(), found.clone())));
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

async fn watch(
    node: usize,
    mut client: api::Client,
    starts: Arc<Vec<AtomicUsize>>,
    found: Arc<Mutex<Vec<String>>>,
) {
    let mut epochs: BTreeMap<String, u64> = BTreeMap::new();
    let mut revision = 0;
    let mut life = 0;
    loop {
        pause(POLL).await;
        // A daemon that started anew replays its log, a replaced one gets it from the others: both count anew.
        let now = starts[node].load(Ordering::Acquire);
        if now != life {
            (life, revision) = (now, 0);
            epochs.clear();
        }
        let Ok(status) = client.cluster().await.map(|a| a.data) else {
            let login = LoginRequest { username: ADMIN.0.into(), password: Secret::new(ADMIN.1) };
            if let Ok(token) = client.login(&login).await {
                client = client.with_token(token.data.access_token);
            }
            continue;
        };
        if starts[node].load(Ordering::Acquire) != life {
            continue;
        }
        let mut violations = Vec::new();
        for group in &status.groups {
            let last = epochs.entry(group.name.clone()).or_default();
            if group.epoch.0 < *last {
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
