use super::{Answer, Api, group_name, interface, internal};
use crate::clock;
use crate::config::DataplaneConfig;
use crate::management::audit::{Act, WriteError};
use api::types::network::{
    BgpNeighborInfo, BgpStatus, CgnatList, CgnatPool, CgnatSession, CgnatStats, DemuxConfig,
    DemuxProfile, DisconnectByInterface, DisconnectedMany, Interface, InterfaceList, OverheadList,
    OverheadProfile, PageQuery, RouteInfo, RouteList, ShapedList, ShapedSession, SystemHealth,
    VlanInterface,
};
use api::{ApiError, Caller, Meta, NetworkService, ReadLevel, Service as _};
use dataplane::host::{self, HostLink, HostRoute};
use dataplane::{DataplaneError, Shaper};
use futures::StreamExt as _;
use model::{DownReason, Session, SessionId};
use raft_store::{Command, Refusal, State};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Disconnects that are under way at once.
const IN_FLIGHT_MAX: usize = 16;
/// Rates count octets of IP packets.
const OVERHEAD: &str = "ip";

impl Api {
    fn ports(&self) -> Option<&DataplaneConfig> {
        self.daemon.config.dataplane.as_ref()
    }

    fn shown(&self, link: HostLink) -> Interface {
        let access = self.ports().and_then(|p| p.access.iter().find(|a| a.interface == link.name));
        let core = self.ports().and_then(|p| p.core.as_ref()) == Some(&link.name);
        let first = |colon: bool| link.addresses.iter().find(|a| a.contains(':') == colon).cloned();
        Interface {
            role: match (access, core) {
                (Some(_), _) => "access",
                (None, true) => "core",
                (None, false) => "other",
            }
            .to_owned(),
            port: access.map(|a| a.port),
            group: access.map(|a| a.group.clone()),
            status: match (link.enabled, link.carrier) {
                (true, true) => "up",
                (true, false) => "down",
                (false, _) => "disabled",
            }
            .to_owned(),
            ipv4: first(false),
            ipv6: first(true),
            index: link.index,
            name: link.name,
            mac: link.mac,
            mtu: link.mtu,
            addresses: link.addresses,
            bytes_in: link.traffic.bytes_in,
            bytes_out: link.traffic.bytes_out,
            packets_in: link.traffic.packets_in,
            packets_out: link.traffic.packets_out,
            errors_in: link.traffic.errors_in,
            errors_out: link.traffic.errors_out,
        }
    }

    fn shaper(&self) -> &'static str {
        match self.ports().map(|p| p.shaper) {
            Some(Shaper::Policer) => "policer",
            Some(Shaper::Htb) => "htb",
            None => "none",
        }
    }
}

/// A page of the sessions that `pick` makes something of.
fn page<T>(
    state: &State,
    query: &PageQuery,
    pick: impl Fn(&Arc<Session>) -> Option<T>,
) -> (Vec<T>, Option<SessionId>) {
    let after = |s: &&Arc<Session>| query.after.is_none_or(|a| s.id > a);
    let (mut picked, mut last, mut more) = (Vec::new(), None, false);
    for session in state.sessions().filter(after) {
        if let Some(one) = pick(session) {
            if picked.len() == query.limit() {
                more = true;
                break;
            }
            picked.push(one);
            last = Some(session.id);
        }
    }
    (picked, last.filter(|_| more))
}

fn route(r: HostRoute) -> RouteInfo {
    let HostRoute { destination, kind, gateway, interface, protocol, metric, table } = r;
    RouteInfo { destination, kind, gateway, interface, protocol, metric, table }
}

/// Whether `name` is `wanted` or lies below it.
fn within(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl NetworkService for Api {
    async fn interfaces(&self) -> Result<InterfaceList, ApiError> {
        let links = host::links().await.map_err(internal)?;
        let interfaces: Vec<_> = links.into_iter().map(|link| self.shown(link)).collect();
        let node = self.daemon.config.name.clone();
        Ok(InterfaceList { node, count: interfaces.len(), interfaces })
    }

    async fn vlans(&self, level: ReadLevel) -> Answer<Vec<VlanInterface>> {
        let state = self.read(level).await?;
        let trunk = |port: u16| {
            let access = self.ports().and_then(|p| p.access.iter().find(|a| a.port == port));
            access.map_or_else(|| format!("port{port}"), |a| a.interface.clone())
        };
        let mut vlans: BTreeMap<_, VlanInterface> = BTreeMap::new();
        for session in state.sessions() {
            let at = session.attachment;
            let entry = vlans.entry((at.port.0, at.vlans.outer, at.vlans.inner, session.group));
            let vlan = entry.or_insert_with(|| VlanInterface {
                name: interface(at.line()),
                trunk_interface: trunk(at.port.0),
                outer: at.vlans.outer,
                inner: at.vlans.inner,
                group: group_name(&state, session),
                sessions: 0,
            });
            vlan.sessions += 1;
        }
        Ok((vlans.into_values().collect(), Meta::at(state.applied())))
    }

    async fn demux_config(&self) -> Result<DemuxConfig, ApiError> {
        let state = self.member()?.local.store.state();
        let services = |group: &str| {
            let group = state.groups().find(|g| g.name == group);
            let label = |s: &model::GroupService| s.label().to_owned();
            group.map(|g| g.services.iter().map(label).collect()).unwrap_or_default()
        };
        let access = self.ports().map(|p| p.access.as_slice()).unwrap_or_default();
        let profile = |a: &crate::config::AccessConfig| DemuxProfile {
            name: format!("port{}", a.port),
            trunk_interface: a.interface.clone(),
            group: a.group.clone(),
            stag_range: "0-4094".to_owned(),
            ctag_range: "0-4094".to_owned(),
            stag_protocols: vec!["802.1Q".to_owned(), "802.1ad".to_owned()],
            services: services(&a.group),
        };
        let profiles: Vec<_> = access.iter().map(profile).collect();
        Ok(DemuxConfig { enabled: true, count: profiles.len(), profiles })
    }

    async fn shaped(&self, query: PageQuery, level: ReadLevel) -> Answer<ShapedList> {
        let state = self.read(level).await?;
        let (sessions, next) = page(&state, &query, |s| {
            let limited = s.rate.down_bps > 0 || s.rate.up_bps > 0;
            limited.then(|| ShapedSession {
                id: s.id,
                session_type: s.kind.service().into(),
                username: s.username.clone(),
                interface: interface(s.attachment.line()),
                rate_down: s.rate.down_bps,
                rate_up: s.rate.up_bps,
                shaper: self.shaper().to_owned(),
                overhead_profile: OVERHEAD.to_owned(),
            })
        });
        Ok((ShapedList { count: sessions.len(), sessions, next }, Meta::at(state.applied())))
    }

    async fn overhead_profiles(&self) -> OverheadList {
        let profile = OverheadProfile { name: OVERHEAD.to_owned(), overhead: 0, mpu: 0 };
        OverheadList { profiles: vec![profile], count: 1 }
    }

    async fn routes(&self) -> Result<RouteList, ApiError> {
        let routes = host::routes().await.map_err(internal)?;
        let routes: Vec<_> = routes.into_iter().map(route).collect();
        let node = self.daemon.config.name.clone();
        Ok(RouteList { node, count: routes.len(), routes })
    }

    async fn bgp(&self) -> Result<BgpStatus, ApiError> {
        let node = self.daemon.config.name.clone();
        let summary = match host::bgp_summary().await {
            Ok(summary) => summary,
            Err(error) => {
                let reason = Some(no_frr(&error));
                return Ok(BgpStatus { node, reason, ..BgpStatus::default() });
            }
        };
        let neighbor = |n: host::BgpNeighbor| BgpNeighborInfo {
            address: n.address.to_string(),
            remote_as: n.remote_as,
            state: n.state,
            uptime_s: n.since_ms / 1000,
            prefixes_received: n.prefixes_received,
            prefixes_sent: n.prefixes_sent,
        };
        let neighbors: Vec<_> = summary.neighbors.into_iter().map(neighbor).collect();
        Ok(BgpStatus {
            node,
            running: true,
            reason: None,
            router_id: summary.router_id,
            local_as: summary.local_as,
            count: neighbors.len(),
            neighbors,
        })
    }

    async fn cgnat_sessions(&self, query: PageQuery, level: ReadLevel) -> Answer<CgnatList> {
        let state = self.read(level).await?;
        let (sessions, next) = page(&state, &query, |s| {
            s.nat.map(|block| CgnatSession {
                id: s.id,
                username: s.username.clone(),
                pool: s.pool.clone(),
                private_ip: s.address,
                public_ip: block.public,
                first_port: block.first_port,
                last_port: block.last_port,
            })
        });
        Ok((CgnatList { count: sessions.len(), sessions, next }, Meta::at(state.applied())))
    }

    async fn cgnat_stats(&self, level: ReadLevel) -> Answer<CgnatStats> {
        let state = self.read(level).await?;
        let behind = state.sessions().filter(|s| s.nat.is_some()).count();
        let cgnat = u64::try_from(behind).unwrap_or(u64::MAX);
        let all = u64::try_from(state.sessions().len()).unwrap_or(u64::MAX);
        let pool = |p: &model::Pool| {
            let (nat, usage) = (p.nat.as_ref()?, state.nat_usage(&p.name)?);
            Some(CgnatPool {
                name: p.name.clone(),
                public: nat.public.to_string(),
                ports_per_block: nat.ports_per_block,
                blocks: usage.blocks,
                used: usage.used,
            })
        };
        let pools: Vec<_> = state.pools().filter_map(pool).collect();
        let stats = CgnatStats { cgnat, public: all - cgnat, count: pools.len(), pools };
        Ok((stats, Meta::at(state.applied())))
    }

    async fn disconnect_by_interface(
        &self,
        request: DisconnectByInterface,
        caller: Caller,
    ) -> Answer<DisconnectedMany> {
        let state = self.read(ReadLevel::Linearizable).await?;
        let there = state
            .sessions()
            .filter(|s| within(&interface(s.attachment.line()), &request.interface));
        let wanted: Vec<SessionId> = there.map(|s| s.id).collect();
        // One record for all of them: the list may be long.
        let object = format!("interface/{}", request.interface);
        let act =
            Act::new("session.disconnect", object).before(json!({ "sessions": wanted.len() }));
        let journal = self.journal()?;
        let note = journal.begin(&(&caller).into(), act).await;
        let one = async |id: SessionId| {
            let command = Command::Disconnect { session: id, reason: DownReason::AdminReset };
            match self.propose(command, None).await {
                Ok(committed) => Ok(Some((id, committed.revision))),
                // It ended by itself meanwhile.
                Err(WriteError::Refused(Refusal::UnknownSession)) => Ok(None),
                Err(other) => Err(ApiError::from(other)),
            }
        };
        let mut ended = futures::stream::iter(wanted).map(one).buffered(IN_FLIGHT_MAX);
        let (mut ids, mut revision) = (Vec::new(), state.applied());
        while let Some(done) = ended.next().await {
            match done {
                Ok(Some((id, at))) => {
                    ids.push(id);
                    revision = revision.max(at);
                }
                Ok(None) => {}
                Err(error) => {
                    let after = json!({ "sessions": ids.len() });
                    journal.end(note, &format!("failed: {error}"), after).await;
                    return Err(error);
                }
            }
        }
        journal.end(note, "done", json!({ "sessions": ids.len() })).await;
        tracing::info!(
            event = "TANDEM-INTERFACE-RESET",
            interface = request.interface,
            sessions = ids.len(),
            by = caller.username,
            "all sessions of an interface ended by an operator"
        );
        let done = DisconnectedMany { interface: request.interface, count: ids.len(), ids };
        Ok((done, Meta::at(revision)))
    }

    async fn system_health(&self) -> Result<SystemHealth, ApiError> {
        let member = self.member()?;
        let health = self.health().await;
        let status = member.local.status();
        let state = member.local.store.state();
        let leader = member.local.store.status().borrow().leader;
        let name = |id| state.node(id).map(|n| n.name.clone());
        let group = |id: &model::GroupId| state.group(*id).map(|g| g.name.clone());
        Ok(SystemHealth {
            status: health.status,
            node: health.node,
            leader: leader.and_then(name),
            uptime_s: clock::now().since(self.daemon.started).as_secs(),
            sessions: health.sessions,
            revision: status.applied.0,
            programmed: status.programmed.map(|r| r.0),
            unfit: status.unfit,
            serving: status.open.keys().filter_map(group).collect(),
        })
    }
}

/// Why FRR did not answer, and what to do.
fn no_frr(error: &DataplaneError) -> String {
    if matches!(error, DataplaneError::ToolMissing { .. }) {
        return "FRR is not installed on this node (Debian package frr)".to_owned();
    }
    format!(
        "FRR does not answer on this node: {error}; does it run (systemctl status frr), and is the daemon's user in the group frrvty?"
    )
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn an_interface_holds_the_tags_below_it_and_no_other_port() {
        let rows = [
            ("port1", "port1", true),
            ("port1.200.20", "port1", true),
            ("port1.200.20", "port1.200", true),
            ("port10.200", "port1", false),
            ("port1.2000", "port1.200", false),
            ("port1", "port1.200", false),
        ];
        for (name, wanted, want) in rows {
            assert_eq!(within(name, wanted), want, "{name} in {wanted}");
        }
    }
}
