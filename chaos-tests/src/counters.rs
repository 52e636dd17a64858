//! Packet counters across takeovers: no reader sees one run backwards, a planned move loses nothing, and
//! a death at most what was counted since the last report.

use crate::lab::cluster::{ADMIN, NodeName, client_of, eventually, pause};
use crate::scenario::Lab;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use api::ReadLevel;
use api::types::{LoginRequest, SubscriberDetail, SubscriberQuery};
use dataplane::boottime_now;
use model::{Secret, SessionId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Subscribers of each kind that are looked at.
const EACH: usize = 2;
/// How often one node is asked.
const POLL: Duration = Duration::from_millis(30);
/// Time between two reports of an owner, and what a busy machine may add to it.
const REPORTS: Duration = Duration::from_secs(3 + 2);
/// How long a value may take to come to a standby, or to stand still.
const WITHIN: Duration = Duration::from_secs(15);

/// Packets and octets, from and to the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading([u64; 4]);

impl Reading {
    fn of(s: &SubscriberDetail) -> Self {
        Self([s.packets_in, s.packets_out, s.bytes_in, s.bytes_out])
    }

    fn reaches(self, before: Self) -> bool {
        self.0.iter().zip(before.0).all(|(now, before)| *now >= before)
    }
}

/// What stood still at one moment: counters, and probes that arrived, of each subscriber.
pub struct Still(BTreeMap<usize, (Reading, [u64; 2])>);

/// Reads counters from one node after the other for as long as it lives.
pub struct Watch {
    sessions: BTreeMap<usize, SessionId>,
    found: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Finds some sessions and begins to read them.
    ///
    /// # Errors
    /// When no node lists them.
    pub async fn start(lab: &Lab) -> Result<Self> {
        let mut sessions = BTreeMap::new();
        let plan = *lab.subscribers.plan();
        let chosen = (0..plan.pppoe.min(EACH)).chain((plan.pppoe..plan.total()).take(EACH));
        for i in chosen {
            let ip = lab.subscribers.shared().seen[i].address();
            let query = SubscriberQuery { ip, ..SubscriberQuery::default() };
            let list =
                lab.cluster.ask(async |c| c.subscribers(&query, ReadLevel::Linearizable).await);
            let id = list.await?.sessions.first().map(|s| s.id);
            sessions.insert(i, id.with_context(|| format!("subscriber {i} has no session"))?);
        }
        let found = Arc::new(Mutex::new(Vec::new()));
        let clients = (0..lab.cluster.nodes()).map(|i| client_of(i, Duration::from_secs(2)));
        let clients: Vec<api::Client> = clients.collect::<Result<_>>()?;
        let ids = sessions.values().copied().collect();
        let task = tokio::spawn(watch(clients, ids, found.clone()));
        Ok(Self { sessions, found, task })
    }

    /// Fails when a reader saw a counter run backwards.
    ///
    /// # Errors
    /// What it saw.
    pub fn verdict(&self) -> Result<()> {
        match self.found.lock().unwrap_or_else(PoisonError::into_inner).first() {
            Some(violation) => bail!("{violation}"),
            None => Ok(()),
        }
    }

    /// Waits until each node but the owner, the witness included, has been told of these sessions.
    ///
    /// # Errors
    /// When one has not in time.
    pub async fn told(&self, lab: &Lab) -> Result<()> {
        let owner = lab.cluster.owner().await?;
        for node in (0..lab.cluster.nodes()).map(NodeName).filter(|n| *n != owner) {
            for id in self.sessions.values() {
                let now = self.at_owner(lab, *id).await?;
                eventually(&format!("{node} knows {now:?} of session {id}"), WITHIN, || async {
                    let told = lab.cluster.client(node).subscriber(*id, ReadLevel::Local).await?;
                    let told = Reading::of(&told.data);
                    ensure!(told.reaches(now), "it knows {told:?}");
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn at_owner(&self, lab: &Lab, id: SessionId) -> Result<Reading> {
        let answer = lab.cluster.ask(async |c| c.subscriber(id, ReadLevel::Linearizable).await);
        Ok(Reading::of(&answer.await?))
    }

    /// Stops the probes, waits until all counters and arrivals stand still, and starts the probes again.
    ///
    /// # Errors
    /// When they do not.
    pub async fn still(&self, lab: &Lab) -> Result<Still> {
        lab.subscribers.probe(false);
        let last = Mutex::new(None);
        let still = eventually("the counters stand still", WITHIN, || async {
            let mut now = BTreeMap::new();
            for (&i, &id) in &self.sessions {
                let reading = self.at_owner(lab, id).await?;
                let seen = &lab.subscribers.shared().seen[i];
                now.insert(i, (reading, [seen.up.received(), seen.down.received()]));
            }
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref() == Some(&now) {
                return Ok(Still(now));
            }
            *last = Some(now);
            Err(anyhow!("they still change"))
        })
        .await;
        lab.subscribers.probe(true);
        let still = still?;
        lab.flowing(boottime_now()).await?;
        Ok(still)
    }

    /// The most packets of one session and direction that arrived between two moments and are missing in its
    /// counters.
    #[must_use]
    pub fn missing(before: &Still, after: &Still) -> u64 {
        let mut most = 0;
        for (i, (now, arrived)) in &after.0 {
            let Some((was, had_arrived)) = before.0.get(i) else { continue };
            for way in 0..2 {
                let counted = now.0[way].saturating_sub(was.0[way]);
                most = most.max((arrived[way] - had_arrived[way]).saturating_sub(counted));
            }
        }
        most
    }

    /// Packets of one session and direction that an owner counts between two reports.
    #[must_use]
    pub fn between_reports(lab: &Lab) -> u64 {
        let probes = REPORTS.as_millis() / lab.subscribers.plan().probe_interval.as_millis().max(1);
        u64::try_from(probes).unwrap_or(u64::MAX)
    }
}

async fn watch(mut clients: Vec<api::Client>, ids: Vec<SessionId>, found: Arc<Mutex<Vec<String>>>) {
    let mut greatest: BTreeMap<SessionId, Reading> = BTreeMap::new();
    loop {
        for (node, client) in clients.iter_mut().enumerate() {
            for id in &ids {
                pause(POLL).await;
                let Ok(answer) = client.subscriber(*id, ReadLevel::Linearizable).await else {
                    let login =
                        LoginRequest { username: ADMIN.0.into(), password: Secret::new(ADMIN.1) };
                    if let Ok(token) = client.login(&login).await {
                        *client = client.with_token(token.data.access_token);
                    }
                    break;
                };
                let now = Reading::of(&answer.data);
                let before = greatest.entry(*id).or_insert(now);
                if !now.reaches(*before) {
                    let text = format!(
                        "{}: counters of session {id} went from {before:?} to {now:?}",
                        NodeName(node)
                    );
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                }
                *before = now;
            }
        }
    }
}
