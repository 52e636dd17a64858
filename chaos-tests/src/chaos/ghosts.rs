//! Ghosts: DHCP clients that get a lease and fall silent for ever. The lease has to end when its time
//! has passed, by true time: not earlier, and not never, whatever the leader's wall clock says.

use crate::scenario::Lab;
use anyhow::{Context as _, Result, bail, ensure};
use api::ReadLevel;
use api::types::SubscriberQuery;
use dataplane::boottime_now;
use model::{SessionId, Tick};
use nix::time::{ClockId, clock_gettime};
use std::net::Ipv4Addr;
use std::time::Duration;

/// A lease may be gone this long before its time: stamps are whole seconds, and the replicated time
/// may differ from true time by two in a thousand.
const EARLY_MAX: Duration = Duration::from_secs(3);
/// A lease may live on this long after its time, in a cluster that is whole.
const LATE_MAX: Duration = Duration::from_secs(10);

/// One ghost.
#[derive(Clone, Copy, Debug)]
struct Ghost {
    index: usize,
    grave: Option<Grave>,
}

/// A lease whose client is gone.
#[derive(Clone, Copy, Debug)]
struct Grave {
    session: SessionId,
    address: Ipv4Addr,
    due: Tick,
}

/// All ghosts.
pub(super) struct Ghosts {
    ghosts: Vec<Ghost>,
    lease: Duration,
    lapsed: usize,
}

impl Ghosts {
    /// Makes ghosts of these subscribers, which nobody else may dial.
    pub(super) fn new(indices: impl Iterator<Item = usize>, lease: Duration) -> Self {
        let ghosts = indices.map(|index| Ghost { index, grave: None }).collect();
        Self { ghosts, lease, lapsed: 0 }
    }

    /// Leases that ended in time so far.
    pub(super) fn lapsed(&self) -> usize {
        self.lapsed
    }

    /// Looks at every ghost; to be called while the cluster is whole.
    ///
    /// # Errors
    /// A lease that ended early or lives on, or a cluster that does not answer.
    pub(super) async fn look(&mut self, lab: &Lab) -> Result<()> {
        for ghost in &mut self.ghosts {
            ghost.grave = match ghost.grave {
                None => bury(lab, ghost.index, self.lease).await?,
                Some(grave) => {
                    let there = session_at(lab, grave.address).await?;
                    if there == Some(grave.session) {
                        ensure!(
                            boottime_now() < grave.due + LATE_MAX,
                            "the lease of {} lives on {} s after its end",
                            grave.address,
                            boottime_now().since(grave.due).as_secs()
                        );
                        Some(grave)
                    } else if boottime_now() + EARLY_MAX < grave.due {
                        bail!(
                            "the lease of {} has ended {} s before its time",
                            grave.address,
                            grave.due.since(boottime_now()).as_secs()
                        );
                    } else {
                        self.lapsed += 1;
                        lab.subscribers.dial(ghost.index);
                        None
                    }
                }
            };
        }
        Ok(())
    }
}

/// Lets a client that has an address fall silent.
async fn bury(lab: &Lab, index: usize, lease: Duration) -> Result<Option<Grave>> {
    let Some(address) = lab.subscribers.shared().seen[index].address() else { return Ok(None) };
    lab.subscribers.vanish(index).await?;
    let session = session_at(lab, address).await?;
    let session =
        session.with_context(|| format!("no session has {address}, which was acknowledged"))?;
    let detail =
        lab.cluster.ask(async |c| c.subscriber(session, ReadLevel::Linearizable).await).await?;
    let ends_s = detail.lease_expires_at.context("a DHCP session without the end of its lease")?;
    let left = Duration::from_secs(ends_s.saturating_sub(true_time_s()?));
    ensure!(
        left > EARLY_MAX && left <= lease + EARLY_MAX,
        "a lease of {} s that was just used ends in {} s by true time",
        lease.as_secs(),
        left.as_secs()
    );
    Ok(Some(Grave { session, address, due: boottime_now() + left }))
}

async fn session_at(lab: &Lab, address: Ipv4Addr) -> Result<Option<SessionId>> {
    let query = SubscriberQuery { ip: Some(address), ..SubscriberQuery::default() };
    let found =
        lab.cluster.ask(async |c| c.subscribers(&query, ReadLevel::Linearizable).await).await?;
    Ok(found.sessions.first().map(|s| s.id))
}

/// The machine's wall clock, which no fault touches: faults step what single daemons see.
fn true_time_s() -> Result<u64> {
    Ok(u64::try_from(clock_gettime(ClockId::CLOCK_REALTIME)?.tv_sec())?)
}
