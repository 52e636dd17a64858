use crate::error::ApiError;
use crate::extract::{Body, Enveloped, NoQuery, Read, check_limit};
use crate::router::Shared;
use crate::routes::Routes;
use crate::service::{Caller, Meta, Service};
use crate::types::network::{
    BgpStatus, CgnatList, CgnatStats, DemuxConfig, DemuxState, DisconnectByInterface,
    DisconnectedMany, InterfaceList, OverheadList, PageQuery, RouteList, ShapedList, SystemHealth,
    VlanList,
};
use crate::types::{Envelope, ErrorBody};
use axum::extract::State;
use axum::routing::{get, post};
use std::sync::Arc;
use utoipa::OpenApi;

/// The longest name of an interface with tags, in octets.
const INTERFACE_OCTETS_MAX: usize = 64;

/// List interfaces
#[utoipa::path(
    get, path = "/api/v1/interfaces", tag = "interfaces",
    responses((status = 200, description = "Interfaces of the node that answers", body = Envelope<InterfaceList>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn list_interfaces<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<InterfaceList>, ApiError> {
    Ok(Enveloped(shared.service.interfaces().await?, Meta::default()))
}

/// List VLAN tags in use
#[utoipa::path(
    get, path = "/api/v1/interfaces/vlans", tag = "interfaces",
    responses((status = 200, description = "VLAN tags in use", body = Envelope<VlanList>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn list_vlans<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<VlanList>, ApiError> {
    let (vlans, meta) = shared.service.vlans(level).await?;
    Ok(Enveloped(VlanList { count: vlans.len(), vlans }, meta))
}

/// Show how subscribers are told apart
#[utoipa::path(
    get, path = "/api/v1/demux/config", tag = "interfaces",
    responses((status = 200, description = "Access ports of the node that answers", body = Envelope<DemuxConfig>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn demux_config<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<DemuxConfig>, ApiError> {
    Ok(Enveloped(shared.service.demux_config().await?, Meta::default()))
}

/// List VLAN tags in use, as AthenaBNG names them
#[utoipa::path(
    get, path = "/api/v1/demux/state", tag = "interfaces",
    responses((status = 200, description = "VLAN tags in use", body = Envelope<DemuxState>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn demux_state<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<DemuxState>, ApiError> {
    let (interfaces, meta) = shared.service.vlans(level).await?;
    Ok(Enveloped(DemuxState { count: interfaces.len(), interfaces }, meta))
}

/// List sessions with a rate
#[utoipa::path(
    get, path = "/api/v1/qos", tag = "qos", params(PageQuery),
    responses((status = 200, description = "A page of sessions with a rate", body = Envelope<ShapedList>)),
    security(("jwt" = ["qos:read"])),
)]
pub(crate) async fn list_shaped<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<PageQuery>,
) -> Result<Enveloped<ShapedList>, ApiError> {
    check_limit(query.limit, PageQuery::LIMIT_MAX)?;
    let (list, meta) = shared.service.shaped(query, level).await?;
    Ok(Enveloped(list, meta))
}

/// List overhead profiles
#[utoipa::path(
    get, path = "/api/v1/qos/profiles", tag = "qos",
    responses((status = 200, description = "All profiles", body = Envelope<OverheadList>)),
    security(("jwt" = ["qos:read"])),
)]
pub(crate) async fn overhead_profiles<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<OverheadList>, ApiError> {
    Ok(Enveloped(shared.service.overhead_profiles().await, Meta::default()))
}

/// Show BGP neighbours
#[utoipa::path(
    get, path = "/api/v1/routing/bgp/summary", tag = "routing",
    responses((status = 200, description = "Neighbours, or why there is no answer from FRR", body = Envelope<BgpStatus>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn bgp_summary<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<BgpStatus>, ApiError> {
    Ok(Enveloped(shared.service.bgp().await?, Meta::default()))
}

/// List kernel routes
#[utoipa::path(
    get, path = "/api/v1/routing/routes", tag = "routing",
    responses((status = 200, description = "Routes of the kernel of the node that answers", body = Envelope<RouteList>)),
    security(("jwt" = ["interfaces:read"])),
)]
pub(crate) async fn list_routes<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<RouteList>, ApiError> {
    Ok(Enveloped(shared.service.routes().await?, Meta::default()))
}

/// List sessions behind NAT
#[utoipa::path(
    get, path = "/api/v1/cgnat/sessions", tag = "cgnat", params(PageQuery),
    responses((status = 200, description = "A page of sessions behind NAT", body = Envelope<CgnatList>)),
    security(("jwt" = ["nat:read"])),
)]
pub(crate) async fn cgnat_sessions<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, query }: Read<PageQuery>,
) -> Result<Enveloped<CgnatList>, ApiError> {
    check_limit(query.limit, PageQuery::LIMIT_MAX)?;
    let (list, meta) = shared.service.cgnat_sessions(query, level).await?;
    Ok(Enveloped(list, meta))
}

/// Show how full NAT is
#[utoipa::path(
    get, path = "/api/v1/cgnat/stats", tag = "cgnat",
    responses((status = 200, description = "Counts, and port blocks of each pool", body = Envelope<CgnatStats>)),
    security(("jwt" = ["nat:read"])),
)]
pub(crate) async fn cgnat_stats<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    Read { level, .. }: Read<NoQuery>,
) -> Result<Enveloped<CgnatStats>, ApiError> {
    let (stats, meta) = shared.service.cgnat_stats(level).await?;
    Ok(Enveloped(stats, meta))
}

/// Show how the node is
#[utoipa::path(
    get, path = "/api/v1/system/health", tag = "system",
    responses((status = 200, description = "The node that answers", body = Envelope<SystemHealth>)),
    security(("jwt" = ["dashboard:view"])),
)]
pub(crate) async fn system_health<S: Service>(
    State(shared): State<Arc<Shared<S>>>,
    _: Read<NoQuery>,
) -> Result<Enveloped<SystemHealth>, ApiError> {
    Ok(Enveloped(shared.service.system_health().await?, Meta::default()))
}

/// Disconnect all sessions of an interface
///
/// Of a port, or of tags on it with all further tags below them.
#[utoipa::path(
    post, path = "/api/v1/subscribers/disconnect-by-interface", tag = "subscribers",
    request_body = DisconnectByInterface,
    responses(
        (status = 200, description = "The sessions that were ended; none is no error", body = Envelope<DisconnectedMany>),
        (status = 422, description = "Not the name of an interface", body = ErrorBody),
    ),
    security(("jwt" = ["subscribers:write"])),
)]
pub(crate) async fn disconnect_by_interface<S: Service>(
    caller: Caller,
    State(shared): State<Arc<Shared<S>>>,
    Body(request): Body<DisconnectByInterface>,
) -> Result<Enveloped<DisconnectedMany>, ApiError> {
    if request.interface.is_empty() || request.interface.len() > INTERFACE_OCTETS_MAX {
        let text = "names a port, or a port with tags, such as port1.200";
        return Err(ApiError::invalid("interface", text));
    }
    let (done, meta) = shared.service.disconnect_by_interface(request, caller).await?;
    Ok(Enveloped(done, meta))
}

pub(crate) fn routes<S: Service>() -> Routes<S> {
    Routes::new()
        .route("/api/v1/interfaces", get(list_interfaces::<S>))
        .route("/api/v1/interfaces/vlans", get(list_vlans::<S>))
        .route("/api/v1/demux/config", get(demux_config::<S>))
        .route("/api/v1/demux/state", get(demux_state::<S>))
        .route("/api/v1/qos", get(list_shaped::<S>))
        .route("/api/v1/qos/profiles", get(overhead_profiles::<S>))
        .route("/api/v1/routing/bgp/summary", get(bgp_summary::<S>))
        .route("/api/v1/routing/routes", get(list_routes::<S>))
        .route("/api/v1/cgnat/sessions", get(cgnat_sessions::<S>))
        .route("/api/v1/cgnat/stats", get(cgnat_stats::<S>))
        .route("/api/v1/system/health", get(system_health::<S>))
        .route("/api/v1/subscribers/disconnect-by-interface", post(disconnect_by_interface::<S>))
}

#[derive(OpenApi)]
#[openapi(paths(
    list_interfaces,
    list_vlans,
    demux_config,
    demux_state,
    list_shaped,
    overhead_profiles,
    bgp_summary,
    list_routes,
    cgnat_sessions,
    cgnat_stats,
    system_health,
    disconnect_by_interface
))]
pub(crate) struct Documented;
