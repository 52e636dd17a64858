use super::{Caller, ReadLevel, Reply};
use crate::error::ApiError;
use crate::types::network::{
    BgpStatus, CgnatList, CgnatStats, DemuxConfig, DisconnectByInterface, DisconnectedMany,
    InterfaceList, OverheadList, PageQuery, RouteList, ShapedList, SystemHealth, VlanInterface,
};
use std::future::Future;

/// Interfaces, routes, shaping and translation.
pub trait NetworkService: Send + Sync + 'static {
    /// Interfaces of this node.
    fn interfaces(&self) -> impl Future<Output = Result<InterfaceList, ApiError>> + Send;
    /// VLAN tags in use, by name.
    fn vlans(&self, level: ReadLevel) -> impl Future<Output = Reply<Vec<VlanInterface>>> + Send;
    /// Access ports of this node.
    fn demux_config(&self) -> impl Future<Output = Result<DemuxConfig, ApiError>> + Send;
    /// Sessions with a rate.
    fn shaped(
        &self,
        query: PageQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<ShapedList>> + Send;
    /// What is counted against a rate.
    fn overhead_profiles(&self) -> impl Future<Output = OverheadList> + Send;
    /// Kernel routes of this node.
    fn routes(&self) -> impl Future<Output = Result<RouteList, ApiError>> + Send;
    /// BGP of this node.
    fn bgp(&self) -> impl Future<Output = Result<BgpStatus, ApiError>> + Send;
    /// Sessions behind NAT.
    fn cgnat_sessions(
        &self,
        query: PageQuery,
        level: ReadLevel,
    ) -> impl Future<Output = Reply<CgnatList>> + Send;
    /// How full NAT is.
    fn cgnat_stats(&self, level: ReadLevel) -> impl Future<Output = Reply<CgnatStats>> + Send;
    /// Ends all sessions of a port or of tags on it.
    fn disconnect_by_interface(
        &self,
        request: DisconnectByInterface,
        caller: Caller,
    ) -> impl Future<Output = Reply<DisconnectedMany>> + Send;
    /// How this node is.
    fn system_health(&self) -> impl Future<Output = Result<SystemHealth, ApiError>> + Send;
}
