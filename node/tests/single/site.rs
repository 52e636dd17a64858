//! What every test of a single node needs.

use api::types::CredentialKind;
use api::{Caller, PermissionSet};
use model::ApiRole;
use std::net::{SocketAddr, UdpSocket};

/// A port with two free ones after it; the dev node takes three in a row.
pub(crate) fn free_ports() -> SocketAddr {
    (0..50)
        .find_map(|_| {
            let first = UdpSocket::bind("127.0.0.1:0").ok()?;
            let at = first.local_addr().ok()?;
            let free = |port: u16| {
                std::net::TcpListener::bind((at.ip(), port)).is_ok()
                    && UdpSocket::bind((at.ip(), port)).is_ok()
            };
            let next = at.port().checked_add(2)?;
            (std::net::TcpListener::bind(at).is_ok() && free(next - 1) && free(next)).then_some(at)
        })
        .expect("three free ports in a row")
}

/// An administrator.
pub(crate) fn ann() -> Caller {
    Caller {
        username: "ann".into(),
        role: ApiRole::admin(),
        permissions: PermissionSet::all(),
        credential: CredentialKind::Token,
        address: None,
        request_id: "r".into(),
        idempotency_key: None,
    }
}
