use super::{Answer, Call, Client, ClientError};
use crate::service::ReadLevel;
use crate::types::policy::{
    AllowedRequest, BanChanged, BanList, BindRequest, RemovedStatic, StaticSubscriber,
    StaticSubscriberList, WaitingList,
};
use crate::types::{RateChanged, RateRequest};
use model::{BanScope, Ipv4Net};
use reqwest::Method;
use std::net::Ipv4Addr;

const SUBSCRIBERS: [&str; 4] = ["api", "v1", "policy", "subscribers"];

/// Static subscribers, bans, and who waits. Every method fails with [`ClientError`] as described
/// there.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// `GET /api/v1/policy/subscribers`.
    pub async fn statics(
        &self,
        level: ReadLevel,
    ) -> Result<Answer<StaticSubscriberList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &SUBSCRIBERS).level(level)).await
    }

    /// `PUT /api/v1/policy/subscribers/{address}/allowed`.
    pub async fn allow(
        &self,
        address: Ipv4Addr,
        allowed: bool,
    ) -> Result<Answer<StaticSubscriber>, ClientError> {
        let address = address.to_string();
        let path = [SUBSCRIBERS.as_slice(), &[&address, "allowed"]].concat();
        self.enveloped(Call::new(Method::PUT, &path).json(&AllowedRequest { allowed })).await
    }

    /// `PUT` or, without a MAC address, `DELETE /api/v1/policy/subscribers/{address}/mac`.
    pub async fn bind(
        &self,
        address: Ipv4Addr,
        mac: Option<model::MacAddr>,
    ) -> Result<Answer<StaticSubscriber>, ClientError> {
        let address = address.to_string();
        let path = [SUBSCRIBERS.as_slice(), &[&address, "mac"]].concat();
        let call = match mac {
            Some(mac) => Call::new(Method::PUT, &path).json(&BindRequest { mac }),
            None => Call::new(Method::DELETE, &path),
        };
        self.enveloped(call).await
    }

    /// `PUT /api/v1/policy/subscribers/{address}/rate`.
    pub async fn shape(
        &self,
        address: Ipv4Addr,
        request: &RateRequest,
    ) -> Result<Answer<RateChanged>, ClientError> {
        let address = address.to_string();
        let path = [SUBSCRIBERS.as_slice(), &[&address, "rate"]].concat();
        self.enveloped(Call::new(Method::PUT, &path).json(request)).await
    }

    /// `DELETE /api/v1/policy/subscribers/{address}`.
    pub async fn remove_static(
        &self,
        address: Ipv4Addr,
    ) -> Result<Answer<RemovedStatic>, ClientError> {
        let address = address.to_string();
        let path = [SUBSCRIBERS.as_slice(), &[&address]].concat();
        self.enveloped(Call::new(Method::DELETE, &path)).await
    }

    /// `GET /api/v1/policy/bans`.
    pub async fn bans(&self, level: ReadLevel) -> Result<Answer<BanList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "policy", "bans"]).level(level)).await
    }

    /// `PUT` or, to lift it, `DELETE /api/v1/policy/bans/{scope}/{network}`.
    pub async fn ban(
        &self,
        network: Ipv4Net,
        scope: BanScope,
        banned: bool,
    ) -> Result<Answer<BanChanged>, ClientError> {
        let scope = match scope {
            BanScope::All => "all",
            BanScope::Icmp => "icmp",
        };
        let method = if banned { Method::PUT } else { Method::DELETE };
        let network = network.to_string();
        let path = ["api", "v1", "policy", "bans", scope, &network];
        self.enveloped(Call::new(method, &path)).await
    }

    /// `GET /api/v1/policy/waiting`.
    pub async fn waiting(&self) -> Result<Answer<WaitingList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "policy", "waiting"])).await
    }
}
