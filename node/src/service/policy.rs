use super::{Answer, Api};
use crate::management::audit::Act;
use crate::management::config::settings;
use crate::management::{host, policy};
use api::types::config::PurenasConfig;
use api::types::policy::{BanChanged, BanInfo, RemovedStatic, StaticSubscriber, WaitingSource};
use api::types::purenas::HostInfo;
use api::types::{RateChanged, RateRequest};
use api::{ApiError, Caller, KeyRefusal, Meta, PolicyService, ReadLevel};
use model::{BanScope, Ipv4Net, MacAddr, Rate, Secret, SessionKind};
use raft_store::{Command, State, StaticEdit};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};

/// Who a request with the configured key is, in logs.
const PURENAS_CALLER: &str = "purenas";

impl Api {
    /// Carries out a change of one static subscriber with its record, and shows it as it is then.
    async fn change_static(
        &self,
        address: Ipv4Addr,
        command: Command,
        caller: &Caller,
    ) -> Answer<StaticSubscriber> {
        let what = command.label();
        let member = self.member()?;
        let before = member.local.store.state();
        let act = Act::new("policy.subscriber", format!("subscriber/{address}"))
            .before(static_json(&before, address))
            .after(json!({ "change": format!("{command:?}") }));
        let committed = self.commit(&caller.into(), command, act).await?;
        let mut applied = member.local.store.applied();
        // The leader has it; this node gets it with the next entries.
        let there = applied.wait_for(|at| *at >= committed.revision).await.is_ok();
        let state = member.local.store.state();
        let session = state.static_by_address(address).filter(|_| there).ok_or_else(|| {
            ApiError::conflict(format!("subscriber {address} was removed meanwhile"))
        })?;
        tracing::info!(
            event = "TANDEM-POLICY-CHANGED", what, subscriber = %address,
            by = caller.username, request = caller.request_id, "policy changed by an operator"
        );
        let traffic = member.traffic.read(session, ReadLevel::Local).await;
        let view = policy::view(&state, session, traffic)
            .ok_or_else(|| super::internal("the subscriber is not a static one"))?;
        Ok((view, Meta::at(committed.revision)))
    }
}

fn static_json(state: &State, address: Ipv4Addr) -> Value {
    let Some(session) = state.static_by_address(address) else { return Value::Null };
    let SessionKind::Static(fixed) = &session.kind else { return Value::Null };
    json!({
        "mac": fixed.mac.map(|mac| mac.to_string()), "allowed": fixed.allowed,
        "rate_down": session.rate.down_bps, "rate_up": session.rate.up_bps,
    })
}

impl PolicyService for Api {
    /// Digests of equal length: comparing them tells nothing of the key.
    fn purenas_caller(&self, key: &Secret, from: Option<IpAddr>) -> Result<String, KeyRefusal> {
        let member = self.daemon.member.get().ok_or(KeyRefusal::Unset)?;
        let PurenasConfig { key: configured, allowed } =
            settings(&member.local.store.state()).api.purenas;
        policy::check_key(configured.as_ref(), key)?;
        policy::check_source(&allowed, from)?;
        Ok(PURENAS_CALLER.to_owned())
    }

    async fn statics(&self, level: ReadLevel) -> Answer<Vec<StaticSubscriber>> {
        let state = self.read(level).await?;
        let traffic = &self.member()?.traffic;
        let mut subscribers = Vec::new();
        for session in state.statics() {
            let carried = traffic.read(session, ReadLevel::Local).await;
            subscribers.extend(policy::view(&state, session, carried));
        }
        Ok((subscribers, Meta::at(state.applied())))
    }

    async fn allow(
        &self,
        address: Ipv4Addr,
        allowed: bool,
        caller: Caller,
    ) -> Answer<StaticSubscriber> {
        let command = if allowed {
            let member = self.member()?;
            // This node may lag behind: what it does not know it must not put anew.
            let state = self.read(ReadLevel::Linearizable).await?;
            let heard = policy::heard(member, &state, address).await;
            policy::allow(&state, address, heard.as_ref())
                .ok_or_else(|| ApiError::conflict(format!("{address} lies in no IPoE network")))?
        } else {
            Command::EditStatic { address, edit: StaticEdit::Allow(false) }
        };
        self.change_static(address, command, &caller).await
    }

    async fn bind(
        &self,
        address: Ipv4Addr,
        mac: Option<MacAddr>,
        caller: Caller,
    ) -> Answer<StaticSubscriber> {
        let edit = mac.map_or(StaticEdit::Unbind, StaticEdit::Bind);
        self.change_static(address, Command::EditStatic { address, edit }, &caller).await
    }

    async fn shape(
        &self,
        address: Ipv4Addr,
        request: RateRequest,
        caller: Caller,
    ) -> Answer<RateChanged> {
        let rate = Rate { down_bps: request.rate_down, up_bps: request.rate_up };
        let state = self.read(ReadLevel::Linearizable).await?;
        let session = state
            .session_by_address(address)
            .ok_or_else(|| ApiError::not_found(format!("subscriber {address}")))?;
        match session.kind {
            SessionKind::Static(_) => {
                let command = Command::EditStatic { address, edit: StaticEdit::Rate(rate) };
                let (done, meta) = self.change_static(address, command, &caller).await?;
                let StaticSubscriber { id, rate_down, rate_up, .. } = done;
                Ok((RateChanged { id, rate_down, rate_up }, meta))
            }
            SessionKind::Pppoe(_) | SessionKind::Dhcp(_) => {
                api::Service::set_rate(self, session.id, request, caller).await
            }
        }
    }

    async fn remove_static(&self, address: Ipv4Addr, caller: Caller) -> Answer<RemovedStatic> {
        let command = Command::RemoveStatic(address);
        let what = command.label();
        let before = static_json(&self.member()?.local.store.state(), address);
        let act =
            Act::new("policy.subscriber_remove", format!("subscriber/{address}")).before(before);
        let committed = self.commit(&(&caller).into(), command, act).await?;
        tracing::info!(
            event = "TANDEM-POLICY-CHANGED", what, subscriber = %address,
            by = caller.username, request = caller.request_id, "policy changed by an operator"
        );
        Ok((RemovedStatic { ip_address: address }, Meta::at(committed.revision)))
    }

    async fn bans(&self, level: ReadLevel) -> Answer<Vec<BanInfo>> {
        let state = self.read(level).await?;
        let bans = state.bans().map(|ban| BanInfo {
            network: ban.network,
            scope: ban.scope,
            since: ban.since.as_secs(),
        });
        Ok((bans.collect(), Meta::at(state.applied())))
    }

    async fn ban(
        &self,
        network: Ipv4Net,
        scope: BanScope,
        banned: bool,
        caller: Caller,
    ) -> Answer<BanChanged> {
        let command = if banned {
            Command::PutBan { network, scope }
        } else {
            Command::RemoveBan { network, scope }
        };
        let what = command.label();
        let act = Act::new("policy.ban", format!("ban/{network}"))
            .after(json!({ "scope": scope, "banned": banned }));
        let committed = self.commit(&(&caller).into(), command, act).await?;
        tracing::info!(
            event = "TANDEM-POLICY-CHANGED", what, %network, ?scope,
            by = caller.username, request = caller.request_id, "policy changed by an operator"
        );
        Ok((BanChanged { network, scope, banned }, Meta::at(committed.revision)))
    }

    async fn waiting(&self) -> Answer<Vec<WaitingSource>> {
        let member = self.member()?;
        let state = member.local.store.state();
        let sources = policy::waiting(member, &state).await?;
        Ok((sources, Meta::at(state.applied())))
    }

    async fn host(&self) -> HostInfo {
        host::info()
    }
}
