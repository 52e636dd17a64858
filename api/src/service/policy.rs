use super::{Caller, ReadLevel, Reply};
use crate::types::policy::{BanChanged, BanInfo, RemovedStatic, StaticSubscriber, WaitingSource};
use crate::types::purenas::HostInfo;
use crate::types::{RateChanged, RateRequest};
use model::{BanScope, Ipv4Net, MacAddr, Secret};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};

/// Why a key of the PureNAS dialect is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// No key is configured, so that the dialect is shut.
    #[error("no key is configured")]
    Unset,
    /// The key is not the configured one.
    #[error("the key is wrong")]
    Wrong,
}

/// Who may send what: static subscribers, bans, sources that wait.
pub trait PolicyService: Send + Sync + 'static {
    /// Checks the key of the PureNAS dialect in constant time, and names its holder for logs. Must
    /// not wait.
    ///
    /// # Errors
    /// [`KeyRefusal`].
    fn purenas_caller(&self, key: &Secret, from: Option<IpAddr>) -> Result<String, KeyRefusal>;

    /// All static subscribers in order of their addresses.
    fn statics(
        &self,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<Vec<StaticSubscriber>>> + Send;
    /// Lets a static subscriber's packets pass, or drops them. Letting an unknown address of an
    /// IPoE network in makes it one, at the place where it was heard waiting.
    fn allow(
        &self,
        address: Ipv4Addr,
        allowed: bool,
        caller: Caller,
    ) -> impl Future<Output = Reply<StaticSubscriber>> + Send;
    /// Binds the address of a static subscriber to a MAC address; `None` lifts the binding.
    fn bind(
        &self,
        address: Ipv4Addr,
        mac: Option<MacAddr>,
        caller: Caller,
    ) -> impl Future<Output = Reply<StaticSubscriber>> + Send;
    /// Changes the rates of the session that has the address, of whichever kind.
    fn shape(
        &self,
        address: Ipv4Addr,
        request: RateRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<RateChanged>> + Send;
    /// Forgets a static subscriber.
    fn remove_static(
        &self,
        address: Ipv4Addr,
        caller: Caller,
    ) -> impl Future<Output = Reply<RemovedStatic>> + Send;

    /// All bans in order of their networks.
    fn bans(&self, level: ReadLevel) -> impl Future<Output = Reply<Vec<BanInfo>>> + Send;
    /// Bans a network, or lifts the ban.
    fn ban(
        &self,
        network: Ipv4Net,
        scope: BanScope,
        banned: bool,
        caller: Caller,
    ) -> impl Future<Output = Reply<BanChanged>> + Send;

    /// The sources that wait, as the owners of the groups hear them now.
    fn waiting(&self) -> impl Future<Output = Reply<Vec<WaitingSource>>> + Send;

    /// The machine that this node runs on.
    fn host(&self) -> impl Future<Output = HostInfo> + Send;
}
