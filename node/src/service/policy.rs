use super::{Answer, Api};
use crate::management::{host, policy};
use api::types::policy::{BanChanged, BanInfo, RemovedStatic, StaticSubscriber, WaitingSource};
use api::types::purenas::HostInfo;
use api::types::{RateChanged, RateRequest};
use api::{ApiError, Caller, KeyRefusal, Meta, PolicyService, ReadLevel};
use model::{BanScope, Ipv4Net, MacAddr, Rate, Secret, SessionKind};
use raft_store::{Command, OpReply, Reply, StaticEdit};
use std::net::Ipv4Addr;

/// Who a request with the configured key is, in logs.
const PURENAS_CALLER: &str = "purenas";

impl Api {
    /// Carries out a command that answers with the subscriber, and shows it as the command left it.
    async fn change_static(&self, command: Command, caller: &Caller) -> Answer<StaticSubscriber> {
        let what = command.label();
        let committed = self.write(command, Some(caller)).await?;
        let Reply::Sessions(mut replies) = committed.reply else {
            return Err(super::internal("a change of a static subscriber without an answer"));
        };
        let session = match replies.pop() {
            Some(OpReply::Session(session)) => session,
            Some(OpReply::Refused(refusal)) => return Err(super::refused(&refusal)),
            Some(OpReply::Done) | None => {
                return Err(super::internal("a change of a static subscriber without an answer"));
            }
        };
        tracing::info!(
            event = "TANDEM-POLICY-CHANGED", what, subscriber = %session.address,
            by = caller.username, request = caller.request_id, "policy changed by an operator"
        );
        let state = self.member()?.local.store.state();
        let traffic = self.member()?.traffic.read(&session, ReadLevel::Local).await;
        let view = policy::view(&state, &session, traffic)
            .ok_or_else(|| super::internal("the subscriber is not a static one"))?;
        Ok((view, Meta::at(committed.revision)))
    }
}

impl PolicyService for Api {
    /// Digests of equal length: comparing them tells nothing of the key.
    fn purenas_caller(&self, key: &Secret) -> Result<String, KeyRefusal> {
        policy::check_key(self.daemon.config.purenas_key.as_ref(), key)?;
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
        self.change_static(command, &caller).await
    }

    async fn bind(
        &self,
        address: Ipv4Addr,
        mac: Option<MacAddr>,
        caller: Caller,
    ) -> Answer<StaticSubscriber> {
        let edit = mac.map_or(StaticEdit::Unbind, StaticEdit::Bind);
        self.change_static(Command::EditStatic { address, edit }, &caller).await
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
                let (done, meta) = self.change_static(command, &caller).await?;
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
        let committed = self.write(command, Some(&caller)).await?;
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
        let committed = self.write(command, Some(&caller)).await?;
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
