//! Checks that run while faults strike.

use crate::lab::cluster::{ADMIN, client_of, eventually};
use crate::scenario::Lab;
use anyhow::{Result, bail, ensure};
use api::ReadLevel;
use api::types::{LoginRequest, SubscriberQuery};
use model::Secret;
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
