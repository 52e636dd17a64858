use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, OptionalBody, PathArg, Read};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{BootstrapAuth, Caller, Meta, Service};
use crate::types::{
    AdmitRequest, AdmitResponse, ClusterStatus, Envelope, ErrorBody, InitRequest, InitResponse,
    JoinRequest, JoinResponse, JoinToken, JoinTokenRequest, MemberList, RemovedMember,
};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{delete, get, post};
use model::NodeId;
use std::sync::Arc;
use utoipa::OpenApi;

/// The largest body of `POST /cluster/init`, which may bring 100,000 subscribers, in octets.
const INIT_BODY_OCTETS_MAX: usize = 32 * 1024 * 1024;

/// Show the cluster
///
/// As the answering node sees it, also without a quorum.
#[utoipa::path(
    get, path = "/api/v1/cluster", tag = "cluster",
    responses((status = 200, description = "Members and groups", body = Envelope<ClusterStatus>)),
    security(("jwt" = ["cluster:read"])),
)]
pub(crate) async fn cluster_status<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<ClusterStatus>, ApiError> {
    let status = shared.service.cluster().await?;
    let meta = Meta::at(status.revision);
    Ok(Enveloped(status, meta))
}

/// Make a new cluster
///
/// Only on a node that belongs to none. The credential is the one-time token in the node's data
/// directory. The answer to a wrong body lists everything that is wrong.
#[utoipa::path(
    post, path = "/api/v1/cluster/init", tag = "cluster",
    request_body = InitRequest,
    responses(
        (status = 200, description = "The new cluster", body = Envelope<InitResponse>),
        (status = 409, description = "The node belongs to a cluster", body = ErrorBody),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("bootstrap" = [])),
)]
pub(crate) async fn init_cluster<S: Service>(
    auth: BootstrapAuth,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<InitRequest>,
) -> Result<Enveloped<InitResponse>, ApiError> {
    request.plan().map_err(|errors| ApiError::Invalid { errors })?;
    let done = shared.service.cluster_init(request, auth).await?;
    Ok(Enveloped(done, Meta::default()))
}

/// Make a join token
///
/// For one node, once.
#[utoipa::path(
    post, path = "/api/v1/cluster/join-tokens", tag = "cluster",
    request_body(content = Option<JoinTokenRequest>, description = "May be left off"),
    responses(
        (status = 200, description = "The token", body = Envelope<JoinToken>),
        (status = 422, description = "The body was refused", body = ErrorBody),
    ),
    security(("jwt" = ["ha:manage"])),
)]
pub(crate) async fn create_join_token<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    OptionalBody(request): OptionalBody<JoinTokenRequest>,
) -> Result<Enveloped<JoinToken>, ApiError> {
    let (low, high) = (JoinTokenRequest::TTL_MIN_S, JoinTokenRequest::TTL_MAX_S);
    if !(low..=high).contains(&request.ttl_s()) {
        return Err(ApiError::invalid("ttl_s", format!("must be {low} to {high}")));
    }
    let (token, meta) = shared.service.join_token(request, caller).await?;
    Ok(Enveloped(token, meta))
}

/// Join a cluster
///
/// Runs on the new node, which then asks a member to admit it. The credential is the one-time
/// token in the new node's data directory; the join token stands in the body.
#[utoipa::path(
    post, path = "/api/v1/cluster/join", tag = "cluster",
    request_body = JoinRequest,
    responses(
        (status = 200, description = "Joined", body = Envelope<JoinResponse>),
        (status = 409, description = "The node belongs to a cluster", body = ErrorBody),
    ),
    security(("bootstrap" = [])),
)]
pub(crate) async fn join_cluster<S: Service>(
    auth: BootstrapAuth,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<JoinRequest>,
) -> Result<Enveloped<JoinResponse>, ApiError> {
    let done = shared.service.cluster_join(request, auth).await?;
    Ok(Enveloped(done, Meta::default()))
}

/// Admit a new node
///
/// Runs on a member, called by the new node. The secret in the body is the only credential.
#[utoipa::path(
    post, path = "/api/v1/cluster/admit", tag = "cluster",
    request_body = AdmitRequest,
    responses(
        (status = 200, description = "Admitted", body = Envelope<AdmitResponse>),
        (status = 401, description = "The token is wrong, used or expired", body = ErrorBody),
        (status = 409, description = "The name is taken", body = ErrorBody),
    ),
)]
pub(crate) async fn admit_node<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<AdmitRequest>,
) -> Result<Enveloped<AdmitResponse>, ApiError> {
    let done = shared.service.admit(request).await?;
    Ok(Enveloped(done, Meta::default()))
}

/// List members
#[utoipa::path(
    get, path = "/api/v1/cluster/members", tag = "cluster",
    responses((status = 200, description = "All members", body = Envelope<MemberList>)),
    security(("jwt" = ["cluster:read"])),
)]
pub(crate) async fn list_members<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<MemberList>, ApiError> {
    let members = shared.service.members().await?;
    Ok(Enveloped(MemberList { count: members.len(), members }, Meta::default()))
}

/// Remove a member
#[utoipa::path(
    delete, path = "/api/v1/cluster/members/{id}", tag = "cluster",
    params(("id" = u64, Path, description = "Raft id of the node")),
    responses(
        (status = 200, description = "Removed", body = Envelope<RemovedMember>),
        (status = 404, description = "No such member", body = ErrorBody),
        (status = 409, description = "The cluster needs it", body = ErrorBody),
    ),
    security(("jwt" = ["ha:manage"])),
)]
pub(crate) async fn remove_member<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    PathArg(id): PathArg<NodeId>,
) -> Result<Enveloped<RemovedMember>, ApiError> {
    let (done, meta) = shared.service.remove_member(id, caller).await?;
    Ok(Enveloped(done, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/cluster", get(cluster_status::<S>))
        .route("/api/v1/cluster/join-tokens", post(create_join_token::<S>))
        .route("/api/v1/cluster/members", get(list_members::<S>))
        .route("/api/v1/cluster/members/{id}", delete(remove_member::<S>))
}

/// What writes a store and waits for a quorum.
pub(crate) fn membership_routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route(
            "/api/v1/cluster/init",
            post(init_cluster::<S>).layer(DefaultBodyLimit::max(INIT_BODY_OCTETS_MAX)),
        )
        .route("/api/v1/cluster/join", post(join_cluster::<S>))
        .route("/api/v1/cluster/admit", post(admit_node::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    cluster_status,
    init_cluster,
    create_join_token,
    join_cluster,
    admit_node,
    list_members,
    remove_member
))]
pub(crate) struct Documented;
