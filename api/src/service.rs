mod auth;
mod config;
mod events;
mod network;
mod policy;

pub use auth::{
    Auth, FirstStep, Identity, IfMatch, LoginOutcome, Origin, Presented, Refresh, Session,
};
pub use config::ConfigService;
pub use events::{EventService, EventStream};
pub use network::NetworkService;
pub use policy::{KeyRefusal, PolicyService};

use crate::counters::AccessCounts;
use crate::error::ApiError;
use crate::permission::PermissionSet;
use crate::types::{
    AdmitRequest, AdmitResponse, ClusterStatus, CredentialKind, Disconnected, FailoverRequest,
    FailoverResponse, Health, InitRequest, InitResponse, JoinRequest, JoinResponse, JoinToken,
    JoinTokenRequest, Member, RateChanged, RateRequest, RemovedMember, SubscriberDetail,
    SubscriberQuery, SubscriberSummary, SubscriberTotals, Version,
};
use model::{ApiRole, ClusterId, NodeId, Revision, Secret, SessionId, Tick, UnixMs};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::net::IpAddr;
use utoipa::ToSchema;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadLevel {
    /// Whatever this node has applied.
    Local,
    /// Everything that was committed before the request.
    #[default]
    Linearizable,
}

/// What stands beside an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// For a read, the revision it shows; for a write, the revision it made.
    pub revision: Option<Revision>,
}

impl Meta {
    /// An answer of this revision.
    #[must_use]
    pub fn at(revision: Revision) -> Self {
        Self { revision: Some(revision) }
    }
}

/// An answer with its revision.
pub type Reply<T> = Result<(T, Meta), ApiError>;

/// Who asks, as its credential says. Travels with a write that is forwarded to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Login name; of a key, its owner's.
    pub username: String,
    /// The user's role.
    pub role: ApiRole,
    /// What this credential may do.
    pub permissions: PermissionSet,
    /// What it was.
    pub credential: CredentialKind,
    /// Address of the client.
    pub address: Option<IpAddr>,
    /// Of this request, for logs and audit.
    pub request_id: String,
    /// From the header `Idempotency-Key`: the same key from the same user is done once.
    pub idempotency_key: Option<String>,
}

/// Proof that the caller can read this node's data directory; [`Service::check_bootstrap`] said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapAuth {
    /// Of this request, for logs and audit.
    pub request_id: String,
    /// From the header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// What a node does for the API. Implemented by `node`, and by a fake in the tests.
///
/// The router has checked credentials, permissions and the shape of bodies before it calls; what needs
/// the replicated state is checked here. Implementations write plain `async fn`s.
pub trait Service: Auth + ConfigService + EventService + NetworkService + PolicyService {
    // Called for every request; must not wait.

    /// Wall time, for the lifetime of tokens.
    fn now(&self) -> UnixMs;
    /// The monotonic clock, for the lockout of logins.
    fn tick(&self) -> Tick;
    /// The key that signs tokens, the same on all nodes; `None` before init or join.
    fn jwt_secret(&self) -> Option<Secret>;
    /// The issuer of tokens; `None` before init or join.
    fn cluster_id(&self) -> Option<ClusterId>;
    /// Checks the one-time token from the data directory, in constant time.
    ///
    /// # Errors
    /// [`ApiError::AlreadyInitialised`] when the node belongs to a cluster,
    /// [`ApiError::Unauthorized`] when the token is wrong.
    fn check_bootstrap(&self, token: &str) -> Result<(), ApiError>;

    // Open to everybody.

    /// Whether this node can do its work.
    fn health(&self) -> impl Future<Output = Health> + Send;
    /// Prometheus text format; `access` is what the router counted.
    fn metrics_text(&self, access: AccessCounts) -> impl Future<Output = String> + Send;

    // Subscribers.

    /// At most [`SubscriberQuery::limit`] sessions in order of their ids.
    fn subscribers(
        &self,
        query: SubscriberQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<Vec<SubscriberSummary>>> + Send;
    /// Counts of all sessions.
    fn summary(&self, level: ReadLevel) -> impl Future<Output = Reply<SubscriberTotals>> + Send;
    /// One session.
    fn subscriber(
        &self,
        id: SessionId,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<SubscriberDetail>> + Send;
    /// Ends a session.
    fn disconnect(
        &self,
        id: SessionId,
        caller: Caller,
    ) -> impl Future<Output = Reply<Disconnected>> + Send;
    /// Changes the rates of a session.
    fn set_rate(
        &self,
        id: SessionId,
        request: RateRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<RateChanged>> + Send;

    // Cluster. The status is this node's own view, so that it can be had without a quorum.

    /// Members and groups as this node sees them.
    fn cluster(&self) -> impl Future<Output = Result<ClusterStatus, ApiError>> + Send;
    /// All members, from this node's state.
    fn members(&self) -> impl Future<Output = Result<Vec<Member>, ApiError>> + Send;
    /// Makes a new cluster with this node as its only member. The router has found
    /// [`InitRequest::plan`] to succeed.
    fn cluster_init(
        &self,
        request: InitRequest,
        auth: BootstrapAuth,
    ) -> impl Future<Output = Result<InitResponse, ApiError>> + Send;
    /// Makes a token for one join.
    fn join_token(
        &self,
        request: JoinTokenRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<JoinToken>> + Send;
    /// Runs on the new node: joins the cluster that the token names.
    fn cluster_join(
        &self,
        request: JoinRequest,
        auth: BootstrapAuth,
    ) -> impl Future<Output = Result<JoinResponse, ApiError>> + Send;
    /// Runs on a member: lets a node in. The secret in the body is the only credential;
    /// [`ApiError::Unauthorized`] when it is wrong, used or expired.
    fn admit(
        &self,
        request: AdmitRequest,
    ) -> impl Future<Output = Result<AdmitResponse, ApiError>> + Send;
    /// Takes a member out.
    fn remove_member(
        &self,
        id: NodeId,
        caller: Caller,
    ) -> impl Future<Output = Reply<RemovedMember>> + Send;
    /// Gives a group to another node, in order.
    fn failover(
        &self,
        group: String,
        request: FailoverRequest,
        caller: Caller,
    ) -> impl Future<Output = Reply<FailoverResponse>> + Send;

    /// What runs here.
    fn version(&self) -> impl Future<Output = Version> + Send;
}
