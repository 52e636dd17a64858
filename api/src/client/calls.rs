use super::{Answer, Call, Client, ClientError, Credential, query_of};
use crate::service::ReadLevel;
use crate::types::{
    AdmitRequest, AdmitResponse, ChallengeAnswer, ClusterStatus, Disconnected, FailoverRequest,
    FailoverResponse, GroupList, GroupStatus, Health, InitRequest, InitResponse, JoinRequest,
    JoinResponse, JoinToken, JoinTokenRequest, LoginAnswer, LoginRequest, MemberList, RateChanged,
    RateRequest, RemovedMember, SubscriberDetail, SubscriberList, SubscriberQuery,
    SubscriberTotals, TokenAnswer, TotpLoginRequest, Version,
};
use model::{NodeId, Secret, SessionId};
use reqwest::Method;
use serde::de::DeserializeOwned;

/// `?…` of a list of sessions.
fn list_query(query: &SubscriberQuery, level: ReadLevel) -> Option<String> {
    let SubscriberQuery { service, limit, after, username, ip, mac } = query;
    let level = match level {
        ReadLevel::Linearizable => None,
        ReadLevel::Local => Some("local".to_owned()),
    };
    query_of(&[
        ("type", service.map(|service| service.label().to_owned())),
        ("limit", limit.map(|n| n.to_string())),
        ("after", after.map(|id| id.to_string())),
        ("username", username.clone()),
        ("ip", ip.map(|ip| ip.to_string())),
        ("mac", mac.map(|mac| mac.to_string())),
        ("consistency", level),
    ])
}

/// Every method fails with [`ClientError`] as described there.
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Client {
    /// `POST /api/v1/auth/login`. Does not change this client; see [`Client::with_token`].
    /// [`ClientError::CodeNeeded`] when the user has a second factor.
    pub async fn login(&self, request: &LoginRequest) -> Result<Answer<TokenAnswer>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "auth", "login"]).json(request);
        let answer: Answer<LoginAnswer> = self.flat(call.credential(Credential::None)).await?;
        match answer.data {
            LoginAnswer::Tokens(data) => {
                Ok(Answer { data: *data, revision: answer.revision, body: answer.body })
            }
            LoginAnswer::Challenge(ChallengeAnswer { challenge, .. }) => {
                Err(ClientError::CodeNeeded { challenge })
            }
        }
    }

    /// `POST /api/v1/auth/totp/login`. Does not change this client.
    pub async fn totp_login(
        &self,
        request: &TotpLoginRequest,
    ) -> Result<Answer<TokenAnswer>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "auth", "totp", "login"]).json(request);
        self.flat(call.credential(Credential::None)).await
    }

    async fn flat<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Answer<T>, ClientError> {
        let raw = self.send(call).await?;
        match serde_json::from_str(&raw.body) {
            Ok(data) => Ok(Answer { data, revision: raw.revision, body: raw.body }),
            Err(e) => Err(raw.foreign(&e)),
        }
    }

    /// `GET /api/v1/health`.
    pub async fn health(&self) -> Result<Answer<Health>, ClientError> {
        let call = Call::new(Method::GET, &["api", "v1", "health"]);
        self.enveloped(call.credential(Credential::None)).await
    }

    /// `GET /metrics`, as text.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let call = Call::new(Method::GET, &["metrics"]);
        Ok(self.send(call.credential(Credential::None)).await?.body)
    }

    /// `GET /api/v1/system/version`.
    pub async fn version(&self) -> Result<Answer<Version>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "system", "version"])).await
    }

    /// `GET /api/v1/subscribers`, one page.
    pub async fn subscribers(
        &self,
        query: &SubscriberQuery,
        level: ReadLevel,
    ) -> Result<Answer<SubscriberList>, ClientError> {
        let mut call = Call::new(Method::GET, &["api", "v1", "subscribers"]);
        call.query = list_query(query, level);
        self.enveloped(call).await
    }

    /// `GET /api/v1/subscribers/summary`.
    pub async fn subscriber_totals(
        &self,
        level: ReadLevel,
    ) -> Result<Answer<SubscriberTotals>, ClientError> {
        let call = Call::new(Method::GET, &["api", "v1", "subscribers", "summary"]);
        self.enveloped(call.level(level)).await
    }

    /// `GET /api/v1/subscribers/{id}`.
    pub async fn subscriber(
        &self,
        id: SessionId,
        level: ReadLevel,
    ) -> Result<Answer<SubscriberDetail>, ClientError> {
        let id = id.to_string();
        let path = ["api", "v1", "subscribers", &id];
        self.enveloped(Call::new(Method::GET, &path).level(level)).await
    }

    /// `DELETE /api/v1/subscribers/{id}`.
    pub async fn disconnect(&self, id: SessionId) -> Result<Answer<Disconnected>, ClientError> {
        let id = id.to_string();
        self.enveloped(Call::new(Method::DELETE, &["api", "v1", "subscribers", &id])).await
    }

    /// `PUT /api/v1/subscribers/{id}/rate`.
    pub async fn set_rate(
        &self,
        id: SessionId,
        request: &RateRequest,
    ) -> Result<Answer<RateChanged>, ClientError> {
        let id = id.to_string();
        let path = ["api", "v1", "subscribers", &id, "rate"];
        self.enveloped(Call::new(Method::PUT, &path).json(request)).await
    }

    /// `GET /api/v1/cluster`.
    pub async fn cluster(&self) -> Result<Answer<ClusterStatus>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "cluster"])).await
    }

    /// `POST /api/v1/cluster/init` on the first node.
    pub async fn cluster_init(
        &self,
        request: &InitRequest,
        bootstrap: &Secret,
    ) -> Result<Answer<InitResponse>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "cluster", "init"]).json(request);
        self.enveloped(call.credential(Credential::Bootstrap(bootstrap)).first_only()).await
    }

    /// `POST /api/v1/cluster/join-tokens`.
    pub async fn join_token(
        &self,
        request: &JoinTokenRequest,
    ) -> Result<Answer<JoinToken>, ClientError> {
        let path = ["api", "v1", "cluster", "join-tokens"];
        self.enveloped(Call::new(Method::POST, &path).json(request)).await
    }

    /// `POST /api/v1/cluster/join` on the first node.
    pub async fn cluster_join(
        &self,
        request: &JoinRequest,
        bootstrap: &Secret,
    ) -> Result<Answer<JoinResponse>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "cluster", "join"]).json(request);
        self.enveloped(call.credential(Credential::Bootstrap(bootstrap)).first_only()).await
    }

    /// `POST /api/v1/cluster/admit`.
    pub async fn admit(
        &self,
        request: &AdmitRequest,
    ) -> Result<Answer<AdmitResponse>, ClientError> {
        let call = Call::new(Method::POST, &["api", "v1", "cluster", "admit"]).json(request);
        self.enveloped(call.credential(Credential::None)).await
    }

    /// `GET /api/v1/cluster/members`.
    pub async fn members(&self) -> Result<Answer<MemberList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "cluster", "members"])).await
    }

    /// `DELETE /api/v1/cluster/members/{id}`.
    pub async fn remove_member(&self, id: NodeId) -> Result<Answer<RemovedMember>, ClientError> {
        let id = id.to_string();
        let path = ["api", "v1", "cluster", "members", &id];
        self.enveloped(Call::new(Method::DELETE, &path)).await
    }

    /// `GET /api/v1/groups`.
    pub async fn groups(&self) -> Result<Answer<GroupList>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "groups"])).await
    }

    /// `GET /api/v1/groups/{name}`.
    pub async fn group(&self, name: &str) -> Result<Answer<GroupStatus>, ClientError> {
        self.enveloped(Call::new(Method::GET, &["api", "v1", "groups", name])).await
    }

    /// `POST /api/v1/groups/{name}/failover`.
    pub async fn failover(
        &self,
        name: &str,
        request: &FailoverRequest,
    ) -> Result<Answer<FailoverResponse>, ClientError> {
        let path = ["api", "v1", "groups", name, "failover"];
        self.enveloped(Call::new(Method::POST, &path).json(request)).await
    }
}
