//! Policy of the fake node: one static subscriber, no bans, one source that waits.

use super::{Fake, START};
pub(crate) use api::types::policy::*;
use api::types::purenas::*;
use api::types::{RateChanged, RateRequest};
use api::{ApiError, Caller, KeyRefusal, PolicyService, ReadLevel, Reply};
use model::{BanScope, Ipv4Net, MacAddr, Secret, SessionId};
use std::net::{IpAddr, Ipv4Addr};

const WAITING: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 50);

pub(crate) fn subscriber(address: Ipv4Addr) -> StaticSubscriber {
    StaticSubscriber {
        ip_address: address,
        id: SessionId(7),
        group: "south".into(),
        allowed: true,
        bound_mac: None,
        mac_address: Some(MacAddr([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff])),
        interface: Some("port1".into()),
        rate_down: 100_000_000,
        rate_up: 50_000_000,
        packets_in: 1234,
        state: "active".into(),
    }
}

impl Fake {
    fn edit(
        &self,
        address: Ipv4Addr,
        edit: impl FnOnce(&mut StaticSubscriber),
    ) -> Result<StaticSubscriber, ApiError> {
        let mut state = self.state();
        let found = state.statics.get_mut(&address);
        let subscriber = found.ok_or_else(|| ApiError::not_found("static subscriber"))?;
        edit(subscriber);
        subscriber.state = if subscriber.allowed { "active" } else { "disallowed" }.into();
        Ok(subscriber.clone())
    }
}

impl PolicyService for Fake {
    fn purenas_caller(&self, key: &Secret, _from: Option<IpAddr>) -> Result<String, KeyRefusal> {
        match self.state().purenas_key {
            None => Err(KeyRefusal::Unset),
            Some(right) if right == key.expose() => Ok("purenas".into()),
            Some(_) => Err(KeyRefusal::Wrong),
        }
    }

    async fn statics(&self, level: ReadLevel) -> Reply<Vec<StaticSubscriber>> {
        let meta = self.read("statics", level).await?;
        Ok((self.state().statics.values().cloned().collect(), meta))
    }

    async fn allow(
        &self,
        address: Ipv4Addr,
        allowed: bool,
        caller: Caller,
    ) -> Reply<StaticSubscriber> {
        if address.octets()[0] == 10 {
            return Err(ApiError::conflict(format!("{address} lies in no IPoE network")));
        }
        let meta = self.write(&format!("allow {address} {allowed}"), &caller)?;
        if allowed {
            self.state().statics.entry(address).or_insert_with(|| subscriber(address));
        }
        Ok((self.edit(address, |s| s.allowed = allowed)?, meta))
    }

    async fn bind(
        &self,
        address: Ipv4Addr,
        mac: Option<MacAddr>,
        caller: Caller,
    ) -> Reply<StaticSubscriber> {
        let done = self.edit(address, |s| s.bound_mac = mac)?;
        Ok((done, self.write(&format!("bind {address} {mac:?}"), &caller)?))
    }

    async fn shape(
        &self,
        address: Ipv4Addr,
        request: RateRequest,
        caller: Caller,
    ) -> Reply<RateChanged> {
        let RateRequest { rate_down, rate_up } = request;
        let done = self.edit(address, |s| (s.rate_down, s.rate_up) = (rate_down, rate_up))?;
        let meta = self.write(&format!("shape {address} {rate_down}/{rate_up}"), &caller)?;
        Ok((RateChanged { id: done.id, rate_down, rate_up }, meta))
    }

    async fn remove_static(&self, address: Ipv4Addr, caller: Caller) -> Reply<RemovedStatic> {
        self.edit(address, |_| ())?;
        let meta = self.write(&format!("remove {address}"), &caller)?;
        self.state().statics.remove(&address);
        Ok((RemovedStatic { ip_address: address }, meta))
    }

    async fn bans(&self, level: ReadLevel) -> Reply<Vec<BanInfo>> {
        let meta = self.read("bans", level).await?;
        let state = self.state();
        let since = START.as_secs();
        let bans = state.bans.iter().map(|&(network, scope)| BanInfo { network, scope, since });
        Ok((bans.collect(), meta))
    }

    async fn ban(
        &self,
        network: Ipv4Net,
        scope: BanScope,
        banned: bool,
        caller: Caller,
    ) -> Reply<BanChanged> {
        if network.contains(Ipv4Addr::new(192, 0, 2, 1)) {
            return Err(ApiError::invalid("", "it cuts off member bng1"));
        }
        let meta = self.write(&format!("ban {network} {scope:?} {banned}"), &caller)?;
        let key = (network, scope);
        if banned {
            self.state().bans.insert(key);
        } else if !self.state().bans.remove(&key) {
            return Err(ApiError::not_found("ban"));
        }
        Ok((BanChanged { network, scope, banned }, meta))
    }

    async fn waiting(&self) -> Reply<Vec<WaitingSource>> {
        let meta = self.read("waiting", ReadLevel::Local).await?;
        let source = WaitingSource {
            ip_address: WAITING,
            mac_address: MacAddr([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]),
            interface: "port1.200".into(),
            group: "south".into(),
            first_seen: START.as_secs(),
            last_seen: START.as_secs() + 60,
        };
        Ok((vec![source], meta))
    }

    async fn host(&self) -> HostInfo {
        HostInfo {
            os: "Linux".into(),
            os_release: "6.18.0".into(),
            os_full_release: "Debian GNU/Linux 13 (trixie)".into(),
            hostname: "bng1".into(),
            machine_arch: "x86_64".into(),
            php_version: String::new(),
            cpu: CpuInfo { name: "Some CPU".into(), cores: 2 },
            memory: MemoryInfo {
                total: 4096,
                free: 1024,
                used: 3072,
                used_percent: 75.0,
                free_percent: 25.0,
            },
            uptime: UptimeInfo { seconds: 90_061, days: 1, hours: 1, minutes: 1 },
            load: LoadInfo {
                la1: 0.5,
                la5: 0.5,
                la15: 0.5,
                load_percent: 25.0,
                load_percent1: 25.0,
                load_percent5: 25.0,
                load_percent15: 25.0,
                load_avg_percent: 25.0,
            },
        }
    }
}
