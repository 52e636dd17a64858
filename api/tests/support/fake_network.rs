//! Interfaces, routes, shaping and translation of the fake node.

use super::Fake;
use api::types::network::*;
use api::types::{HealthStatus, SessionType};
use api::{ApiError, Caller, NetworkService, ReadLevel, Reply};
use model::SessionId;
use std::net::Ipv4Addr;

impl NetworkService for Fake {
    async fn interfaces(&self) -> Result<InterfaceList, ApiError> {
        let interface = Interface {
            name: "eth1".into(),
            index: 3,
            role: "access".into(),
            port: Some(1),
            group: Some("south".into()),
            status: "up".into(),
            mac: Some("02:00:00:00:00:01".into()),
            mtu: 1508,
            ipv4: None,
            ipv6: None,
            addresses: vec![],
            bytes_in: 1,
            bytes_out: 2,
            packets_in: 3,
            packets_out: 4,
            errors_in: 0,
            errors_out: 0,
        };
        Ok(InterfaceList { node: "bng1".into(), interfaces: vec![interface], count: 1 })
    }

    async fn vlans(&self, level: ReadLevel) -> Reply<Vec<VlanInterface>> {
        let vlan = VlanInterface {
            name: "port1.100.1".into(),
            trunk_interface: "eth1".into(),
            outer: 100,
            inner: 1,
            group: "south".into(),
            sessions: 1,
        };
        Ok((vec![vlan], self.read("vlans", level).await?))
    }

    async fn demux_config(&self) -> Result<DemuxConfig, ApiError> {
        let profile = DemuxProfile {
            name: "port1".into(),
            trunk_interface: "eth1".into(),
            group: "south".into(),
            stag_range: "0-4094".into(),
            ctag_range: "0-4094".into(),
            stag_protocols: vec!["802.1ad".into()],
            services: vec!["pppoe".into()],
        };
        Ok(DemuxConfig { enabled: true, profiles: vec![profile], count: 1 })
    }

    async fn shaped(&self, query: PageQuery, level: ReadLevel) -> Reply<ShapedList> {
        let session = ShapedSession {
            id: SessionId(1),
            session_type: SessionType::Pppoe,
            username: "user1".into(),
            interface: "port1.100.1".into(),
            rate_down: 100_000_000,
            rate_up: 20_000_000,
            shaper: "policer".into(),
            overhead_profile: "ip".into(),
        };
        let next = (query.limit() == 1).then_some(SessionId(1));
        let list = ShapedList { sessions: vec![session], count: 1, next };
        Ok((list, self.read("qos", level).await?))
    }

    async fn overhead_profiles(&self) -> OverheadList {
        let profile = OverheadProfile { name: "ip".into(), overhead: 0, mpu: 0 };
        OverheadList { profiles: vec![profile], count: 1 }
    }

    async fn routes(&self) -> Result<RouteList, ApiError> {
        let route = RouteInfo {
            destination: "default".into(),
            kind: "unicast".into(),
            gateway: Some("192.0.2.1".into()),
            interface: Some("eth0".into()),
            protocol: None,
            metric: None,
            table: "main".into(),
        };
        Ok(RouteList { node: "bng1".into(), routes: vec![route], count: 1 })
    }

    async fn bgp(&self) -> Result<BgpStatus, ApiError> {
        let reason = Some("FRR is not installed on this node (Debian package frr)".into());
        Ok(BgpStatus { node: "bng1".into(), reason, ..BgpStatus::default() })
    }

    async fn cgnat_sessions(&self, _query: PageQuery, level: ReadLevel) -> Reply<CgnatList> {
        let session = CgnatSession {
            id: SessionId(1),
            username: "user1".into(),
            pool: "res".into(),
            private_ip: Ipv4Addr::new(100, 64, 0, 1),
            public_ip: Ipv4Addr::new(203, 0, 113, 1),
            first_port: 1024,
            last_port: 2047,
        };
        let list = CgnatList { sessions: vec![session], count: 1, next: None };
        Ok((list, self.read("cgnat", level).await?))
    }

    async fn cgnat_stats(&self, level: ReadLevel) -> Reply<CgnatStats> {
        let pool = CgnatPool {
            name: "res".into(),
            public: "203.0.113.0-203.0.113.63".into(),
            ports_per_block: 1024,
            blocks: 4032,
            used: 3,
        };
        let stats = CgnatStats { cgnat: 3, public: 0, pools: vec![pool], count: 1 };
        Ok((stats, self.read("cgnat stats", level).await?))
    }

    async fn disconnect_by_interface(
        &self,
        request: DisconnectByInterface,
        caller: Caller,
    ) -> Reply<DisconnectedMany> {
        let meta = self.write(&format!("disconnect {}", request.interface), &caller)?;
        let done =
            DisconnectedMany { interface: request.interface, ids: vec![SessionId(1)], count: 1 };
        Ok((done, meta))
    }

    async fn system_health(&self) -> Result<SystemHealth, ApiError> {
        Ok(SystemHealth {
            status: HealthStatus::Ok,
            node: "bng1".into(),
            leader: Some("wit".into()),
            uptime_s: 60,
            sessions: 3,
            revision: 42,
            programmed: Some(42),
            unfit: None,
            serving: vec!["south".into()],
        })
    }
}
