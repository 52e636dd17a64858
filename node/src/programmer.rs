//! Keeps the kernel equal to the replicated state, on the owner and on every standby alike.

use crate::clock;
use crate::fitness::{Fault, Fitness};
use dataplane::{
    Dataplane, DataplaneError, Drift, GroupConfig, PoolRoute, SessionChange, SessionEntry,
};
use futures::FutureExt as _;
use model::{Ban, GroupId, GroupService, PortId, Revision};
use raft_store::{Change, ChangeBatch, State, Store, span_under};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{Span, error, info, warn};

/// Batches applied to the kernel in one go when the log runs ahead.
const BATCHES_MAX: usize = 256;
/// Pause after the kernel refused something, before everything is compared anew.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Pause before everything is compared anew for another reason.
const ANEW_PAUSE: Duration = Duration::from_millis(10);
/// Refusals in a row after which this node should own nothing: one may be a moment's shortage.
const REFUSALS_MAX: u32 = 3;
/// Time between two comparisons of the whole kernel state.
const AUDIT_INTERVAL: Duration = Duration::from_secs(60);
/// Octets of an Ethernet payload, and what PPPoE leaves of it (RFC 2516 §7).
const MTU_IPOE: u16 = 1500;
const MTU_PPPOE: u16 = 1492;

/// What the programmer needs of a data plane.
pub trait Plane: Send + Sync + 'static {
    /// See [`Dataplane::put_group`].
    fn put_group(
        &self,
        group: &GroupConfig,
    ) -> impl Future<Output = Result<(), DataplaneError>> + Send;
    /// See [`Dataplane::apply`].
    fn apply(
        &self,
        changes: &[SessionChange],
    ) -> impl Future<Output = Result<(), DataplaneError>> + Send;
    /// See [`Dataplane::reconcile`].
    fn reconcile(
        &self,
        desired: &[SessionEntry],
    ) -> impl Future<Output = Result<Drift, DataplaneError>> + Send;
    /// See [`Dataplane::set_bans`].
    ///
    /// # Errors
    /// As there.
    fn set_bans(&self, bans: &[Ban]) -> Result<Drift, DataplaneError>;
}

impl Plane for Dataplane {
    async fn put_group(&self, group: &GroupConfig) -> Result<(), DataplaneError> {
        Self::put_group(self, group).await
    }

    async fn apply(&self, changes: &[SessionChange]) -> Result<(), DataplaneError> {
        Self::apply(self, changes).await
    }

    async fn reconcile(&self, desired: &[SessionEntry]) -> Result<Drift, DataplaneError> {
        Self::reconcile(self, desired).await
    }

    fn set_bans(&self, bans: &[Ban]) -> Result<Drift, DataplaneError> {
        Self::set_bans(self, bans)
    }
}

/// The programming side of a data node.
pub struct Programmer<P = Dataplane> {
    /// Replicated state.
    pub store: Store,
    /// The kernel.
    pub dataplane: Arc<P>,
    /// Which port serves which group, by name.
    pub ports: BTreeMap<String, Vec<PortId>>,
    /// Everything up to here is in the kernel.
    pub programmed: watch::Sender<Revision>,
    /// Differences found between kernel and state since the start.
    pub drift: watch::Sender<u64>,
    /// Told when the kernel refuses again and again, and when it has accepted everything.
    pub fitness: Fitness,
}

impl<P: Plane> Programmer<P> {
    /// Runs until the store stops.
    pub async fn run(self) {
        let raft = self.store.status();
        let mut refusals = 0;
        while raft.has_changed().is_ok() {
            let pause = match self.follow(&mut refusals).await {
                Ok(()) => ANEW_PAUSE,
                Err(error) => {
                    refusals += 1;
                    self.refused(&error, refusals);
                    RETRY_PAUSE
                }
            };
            clock::until(Some(clock::now() + pause)).await;
        }
    }

    fn refused(&self, error: &DataplaneError, refusals: u32) {
        error!(%error, label = error.label(), refusals, "the kernel refused the replicated state; comparing anew");
        let words = || format!("its kernel refuses the replicated state: {error}");
        if refusals >= REFUSALS_MAX && self.fitness.set(Fault::Kernel, Some(words())) {
            error!(event = "TANDEM-KERNEL-REFUSES", %error, label = error.label(), refusals, "the kernel refuses the replicated state; this node owns no group while it lasts");
        }
    }

    /// The kernel holds everything up to the state that was compared.
    fn accepted(&self, refusals: &mut u32) {
        *refusals = 0;
        if self.fitness.set(Fault::Kernel, None) {
            info!(event = "TANDEM-KERNEL-ACCEPTS", "the kernel holds the replicated state again");
        }
    }

    /// Compares once, then follows the change feed until something fails or the feed has a gap.
    async fn follow(&self, refusals: &mut u32) -> Result<(), DataplaneError> {
        let state = self.store.state();
        self.put_groups(&state).await?;
        self.audit(&state).await?;
        self.programmed.send_replace(state.applied());
        self.accepted(refusals);
        let Ok(mut feed) = self.store.changes(state.applied()) else { return Ok(()) };
        let mut audit_at = clock::now() + AUDIT_INTERVAL;
        loop {
            let first = tokio::select! {
                batch = feed.next() => batch,
                () = clock::until(Some(audit_at)) => {
                    audit_at = clock::now() + AUDIT_INTERVAL;
                    // The feed may lag behind the state; equal revisions make the comparison exact.
                    let state = self.store.state();
                    if *self.programmed.borrow() != state.applied() {
                        // On a busy node they may never be equal; a new start compares as exactly.
                        return Ok(());
                    }
                    self.audit(&state).await?;
                    continue;
                }
            };
            let Ok(first) = first else {
                warn!("the change feed was compacted; comparing the kernel with the whole state");
                return Ok(());
            };
            let mut batches = vec![first];
            while batches.len() < BATCHES_MAX {
                match feed.next().now_or_never() {
                    Some(Ok(batch)) => batches.push(batch),
                    Some(Err(_)) => return Ok(()),
                    None => break,
                }
            }
            self.apply(&batches).await?;
        }
    }

    async fn apply(&self, batches: &[Arc<ChangeBatch>]) -> Result<(), DataplaneError> {
        let Some(last) = batches.last() else { return Ok(()) };
        // They end when the kernel has everything.
        let _spans: Vec<Span> = batches.iter().map(|b| self.span(b)).collect();
        let mut sessions = Vec::new();
        let (mut settings, mut bans) = (false, false);
        for change in batches.iter().flat_map(|b| &b.changes) {
            match change {
                Change::SessionUp(s) | Change::SessionChanged(s) => {
                    sessions.push(SessionChange::of(s));
                }
                Change::SessionDown { session, .. } => {
                    sessions.push(SessionChange::Remove(SessionEntry::from(session.as_ref())));
                }
                Change::GroupChanged(_) | Change::PoolChanged(_) | Change::ClusterChanged => {
                    settings = true
                }
                Change::BanChanged(_) => bans = true,
                Change::OwnerChanged { .. }
                | Change::NodeChanged(_)
                | Change::SubscriberChanged(_)
                | Change::ApiUserChanged(_)
                | Change::DocumentPut { .. }
                | Change::DocumentDeleted { .. } => {}
            }
        }
        if settings {
            self.put_groups(&self.store.state()).await?;
        }
        if !sessions.is_empty() {
            self.dataplane.apply(&sessions).await?;
        }
        if bans {
            self.set_bans(&self.store.state())?;
        }
        self.programmed.send_replace(last.revision);
        Ok(())
    }

    /// The span of what the kernel is told for a batch; none without a trace.
    fn span(&self, batch: &ChangeBatch) -> Span {
        let Some(trace) = batch.trace.as_deref() else { return Span::none() };
        let told = |change: &Change| {
            let settings = matches!(
                change,
                Change::GroupChanged(_)
                    | Change::PoolChanged(_)
                    | Change::ClusterChanged
                    | Change::BanChanged(_)
            );
            settings || change.session().is_some()
        };
        let trace = Some(trace).filter(|_| batch.changes.iter().any(told));
        let node = self.store.status().borrow().node.0;
        span_under!(trace, "kernel.program", node, revision = batch.revision.0)
    }

    async fn put_groups(&self, state: &State) -> Result<(), DataplaneError> {
        for config in group_configs(state, &self.ports) {
            self.dataplane.put_group(&config).await?;
        }
        Ok(())
    }

    /// All of them each time: which of two bans around an address counts depends on both.
    fn set_bans(&self, state: &State) -> Result<Drift, DataplaneError> {
        let bans: Vec<Ban> = state.bans().collect();
        self.dataplane.set_bans(&bans)
    }

    async fn audit(&self, state: &State) -> Result<(), DataplaneError> {
        let ours: BTreeSet<GroupId> =
            state.groups().filter(|g| self.ports.contains_key(&g.name)).map(|g| g.id).collect();
        let desired: Vec<SessionEntry> = state
            .sessions()
            .filter(|s| ours.contains(&s.group) && s.attachment.is_known())
            .map(|s| SessionEntry::from(s.as_ref()))
            .collect();
        let drift = self.dataplane.reconcile(&desired).await?.plus(self.set_bans(state)?);
        let total = drift.missing + drift.stale + drift.changed;
        if total > 0 {
            info!(
                missing = drift.missing,
                stale = drift.stale,
                changed = drift.changed,
                "kernel repaired"
            );
            self.drift.send_modify(|n| *n += total);
        }
        Ok(())
    }
}

/// What the kernel must know of each group that has a port on this node.
fn group_configs(state: &State, ports: &BTreeMap<String, Vec<PortId>>) -> Vec<GroupConfig> {
    let mut configs = Vec::new();
    for group in state.groups() {
        let Some(port) = ports.get(&group.name).and_then(|p| p.first()) else { continue };
        let pools: Vec<_> = state.pools().filter(|p| p.group == group.id).collect();
        configs.push(GroupConfig {
            id: group.id,
            vmac: group.virtual_mac(),
            core_address: group.core_address,
            core_prefix_len: group.core_prefix_len,
            gateways: pools.iter().map(|p| p.gateway).collect(),
            pools: pools
                .iter()
                .map(|p| PoolRoute {
                    network: network_of(p.range.first, p.prefix_len),
                    prefix_len: p.prefix_len,
                    port: *port,
                    mtu: match p.service {
                        GroupService::Pppoe => MTU_PPPOE,
                        GroupService::Dhcp => MTU_IPOE,
                    },
                    nat: p.nat.clone(),
                })
                .collect(),
        });
    }
    configs
}

fn network_of(addr: std::net::Ipv4Addr, prefix_len: u8) -> std::net::Ipv4Addr {
    let bits = u32::from(addr);
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
    std::net::Ipv4Addr::from(bits & mask)
}

#[cfg(test)]
mod tests;
