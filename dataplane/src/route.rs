use crate::config::{GroupConfig, PoolRoute};
use crate::error::DataplaneError;
use futures::TryStreamExt;
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
};
use rtnetlink::{AddressMessageBuilder, Handle, RouteMessageBuilder};
use std::net::Ipv4Addr;

/// Marks our routes among those of others, as routing daemons do (`/etc/iproute2/rt_protos`).
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(182);
/// Bit of `RTAX_MTU` in `RTAX_LOCK`: path MTU discovery must not change it.
const LOCK_MTU: u32 = 1 << 2;

/// Addresses and routes, in the network namespace that the data plane was opened in.
#[derive(Debug)]
pub(crate) struct Routes {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
    loopback: u32,
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A pool route and the interface that it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Via<'a> {
    pub(crate) pool: &'a PoolRoute,
    pub(crate) interface: u32,
}

impl Routes {
    /// Opens a netlink socket and brings the loopback interface up.
    pub(crate) async fn open() -> Result<Self, DataplaneError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|e| failed("open a netlink socket".to_owned(), &e))?;
        let task = tokio::spawn(connection);
        let loopback = crate::link::Links::index("lo")?;
        let up = rtnetlink::LinkUnspec::new_with_index(loopback).up().build();
        handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(|e| failed("set the loopback interface up".to_owned(), &e))?;
        Ok(Self { handle, task, loopback })
    }

    /// Puts the gateways on the loopback interface and routes each pool to its port.
    pub(crate) async fn put(
        &self,
        group: &GroupConfig,
        vias: &[Via<'_>],
    ) -> Result<(), DataplaneError> {
        for &gateway in &group.gateways {
            self.handle
                .address()
                .add(self.loopback, gateway.into(), 32)
                .replace()
                .execute()
                .await
                .map_err(|e| failed(format!("add gateway address {gateway}"), &e))?;
        }
        for via in vias {
            let mut message = message(via);
            if let Some(&gateway) = group.gateways.iter().find(|g| contains(via.pool, **g)) {
                // The source of what the kernel itself tells subscribers, such as ICMP errors.
                message.attributes.push(RouteAttribute::PrefSource(gateway.into()));
            }
            message.attributes.push(RouteAttribute::Metrics(vec![
                RouteMetric::Lock(LOCK_MTU),
                RouteMetric::Mtu(u32::from(via.pool.mtu)),
            ]));
            self.handle
                .route()
                .add(message)
                .replace()
                .execute()
                .await
                .map_err(|e| failed(format!("route {}", network(via.pool)), &e))?;
        }
        Ok(())
    }

    /// Removes gateways and pool routes; what is not there is fine.
    pub(crate) async fn remove(
        &self,
        gateways: &[Ipv4Addr],
        vias: &[Via<'_>],
    ) -> Result<(), DataplaneError> {
        for via in vias {
            let deleted = self.handle.route().del(message(via)).execute().await;
            absent_is_fine(deleted)
                .map_err(|e| failed(format!("remove route {}", network(via.pool)), &e))?;
        }
        for &gateway in gateways {
            let address = AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.loopback)
                .address(gateway, 32)
                .build();
            let deleted = self.handle.address().del(address).execute().await;
            absent_is_fine(deleted)
                .map_err(|e| failed(format!("remove gateway address {gateway}"), &e))?;
        }
        Ok(())
    }

    /// Counts our routes that the kernel holds for the given pools.
    pub(crate) async fn present(&self, vias: &[Via<'_>]) -> Result<usize, DataplaneError> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(query).execute();
        let mut found = 0;
        while let Some(route) =
            routes.try_next().await.map_err(|e| failed("list routes".to_owned(), &e))?
        {
            found += usize::from(vias.iter().any(|via| is_route_of(&route, via)));
        }
        Ok(found)
    }
}

fn message(via: &Via<'_>) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(via.pool.network, via.pool.prefix_len)
        .output_interface(via.interface)
        .scope(RouteScope::Link)
        .protocol(ROUTE_PROTOCOL)
        .build()
}

fn is_route_of(route: &RouteMessage, via: &Via<'_>) -> bool {
    let has = |wanted: RouteAttribute| route.attributes.contains(&wanted);
    route.header.destination_prefix_length == via.pool.prefix_len
        && has(RouteAttribute::Destination(via.pool.network.into()))
        && has(RouteAttribute::Oif(via.interface))
}

fn contains(pool: &PoolRoute, address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(pool.prefix_len.min(32));
    let net = |a: Ipv4Addr| u64::from(u32::from(a)) >> shift;
    net(address) == net(pool.network)
}

fn network(pool: &PoolRoute) -> String {
    format!("{}/{}", pool.network, pool.prefix_len)
}

fn failed(action: String, error: &(dyn std::error::Error + 'static)) -> DataplaneError {
    DataplaneError::Netlink { action, detail: crate::error::chain(error) }
}

fn absent_is_fine(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV].contains(&-message.raw_code()) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::PortId;

    #[test]
    fn a_gateway_belongs_to_the_pool_that_contains_it() {
        let pool = |prefix_len| PoolRoute {
            network: Ipv4Addr::new(100, 64, 0, 0),
            prefix_len,
            port: PortId(1),
            mtu: 1492,
            nat: None,
        };
        assert!(contains(&pool(16), Ipv4Addr::new(100, 64, 255, 1)));
        assert!(!contains(&pool(24), Ipv4Addr::new(100, 64, 1, 1)));
        assert!(contains(&pool(0), Ipv4Addr::new(8, 8, 8, 8)));
    }
}
