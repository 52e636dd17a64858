//! Domain types to protobuf and back. A conversion back checks every number that is wider on the
//! wire.

use super::{CommandError, proto};
use model::{
    ApiRole, ApiUser, Attachment, DhcpSession, DownReason, Epoch, Group, GroupId, GroupService,
    Ipv4Range, MacAddr, NatBlock, NatPool, Node, NodeId, NodeRole, Pool, PortId, PppoeSession,
    Rate, Revision, Secret, Session, SessionId, SessionKind, Subscriber, Totp, UnixMs, Vlans,
};
use std::net::{Ipv4Addr, SocketAddr};

/// Narrows a number of the wire.
pub(super) fn narrow<T: TryFrom<u32>>(value: u32, field: &'static str) -> Result<T, CommandError> {
    T::try_from(value).map_err(|_| CommandError::OutOfRange { field, value: u64::from(value) })
}

fn socket_address(text: &str, field: &'static str) -> Result<SocketAddr, CommandError> {
    text.parse().map_err(|_| CommandError::SocketAddress { field, text: text.to_owned() })
}

/// Reads an array of a fixed size.
pub(crate) fn key32(bytes: &[u8], field: &'static str) -> Result<[u8; 32], CommandError> {
    let value = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    bytes.try_into().map_err(|_| CommandError::OutOfRange { field, value })
}

pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, CommandError> {
    value.ok_or(CommandError::Missing(field))
}

pub(super) fn role_number(role: NodeRole) -> i32 {
    let role = match role {
        NodeRole::Data => proto::NodeRole::Data,
        NodeRole::Witness => proto::NodeRole::Witness,
    };
    role.into()
}

pub(super) fn role(number: i32, field: &'static str) -> Result<NodeRole, CommandError> {
    match proto::NodeRole::try_from(number) {
        Ok(proto::NodeRole::Data) => Ok(NodeRole::Data),
        Ok(proto::NodeRole::Witness) => Ok(NodeRole::Witness),
        Ok(proto::NodeRole::Unspecified) | Err(_) => {
            Err(CommandError::UnknownNumber { field, number })
        }
    }
}

fn service_number(service: GroupService) -> i32 {
    let service = match service {
        GroupService::Pppoe => proto::GroupService::Pppoe,
        GroupService::Dhcp => proto::GroupService::Dhcp,
    };
    service.into()
}

fn service(number: i32, field: &'static str) -> Result<GroupService, CommandError> {
    match proto::GroupService::try_from(number) {
        Ok(proto::GroupService::Pppoe) => Ok(GroupService::Pppoe),
        Ok(proto::GroupService::Dhcp) => Ok(GroupService::Dhcp),
        Ok(proto::GroupService::Unspecified) | Err(_) => {
            Err(CommandError::UnknownNumber { field, number })
        }
    }
}

pub(super) fn reason_number(reason: DownReason) -> i32 {
    let reason = match reason {
        DownReason::UserRequest => proto::DownReason::UserRequest,
        DownReason::LostCarrier => proto::DownReason::LostCarrier,
        DownReason::Expired => proto::DownReason::Expired,
        DownReason::AdminReset => proto::DownReason::AdminReset,
        DownReason::Declined => proto::DownReason::Declined,
        DownReason::Replaced => proto::DownReason::Replaced,
        DownReason::NegotiationFailed => proto::DownReason::NegotiationFailed,
    };
    reason.into()
}

pub(super) fn reason(number: i32, field: &'static str) -> Result<DownReason, CommandError> {
    match proto::DownReason::try_from(number) {
        Ok(proto::DownReason::UserRequest) => Ok(DownReason::UserRequest),
        Ok(proto::DownReason::LostCarrier) => Ok(DownReason::LostCarrier),
        Ok(proto::DownReason::Expired) => Ok(DownReason::Expired),
        Ok(proto::DownReason::AdminReset) => Ok(DownReason::AdminReset),
        Ok(proto::DownReason::Declined) => Ok(DownReason::Declined),
        Ok(proto::DownReason::Replaced) => Ok(DownReason::Replaced),
        Ok(proto::DownReason::NegotiationFailed) => Ok(DownReason::NegotiationFailed),
        Ok(proto::DownReason::Unspecified) | Err(_) => {
            Err(CommandError::UnknownNumber { field, number })
        }
    }
}

impl From<&Node> for proto::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.0,
            name: node.name.clone(),
            role: role_number(node.role),
            raft_addr: node.raft_addr.to_string(),
            lease_addr: node.lease_addr.to_string(),
            api_addr: node.api_addr.to_string(),
        }
    }
}

impl TryFrom<proto::Node> for Node {
    type Error = CommandError;

    fn try_from(node: proto::Node) -> Result<Self, CommandError> {
        Ok(Self {
            id: NodeId(node.id),
            name: node.name,
            role: role(node.role, "node.role")?,
            raft_addr: socket_address(&node.raft_addr, "node.raft_addr")?,
            lease_addr: socket_address(&node.lease_addr, "node.lease_addr")?,
            api_addr: socket_address(&node.api_addr, "node.api_addr")?,
        })
    }
}

impl From<&Rate> for proto::Rate {
    fn from(rate: &Rate) -> Self {
        Self { down_bps: rate.down_bps, up_bps: rate.up_bps }
    }
}

impl From<proto::Rate> for Rate {
    fn from(rate: proto::Rate) -> Self {
        Self { down_bps: rate.down_bps, up_bps: rate.up_bps }
    }
}

impl From<&Group> for proto::Group {
    fn from(group: &Group) -> Self {
        Self {
            id: group.id.0,
            name: group.name.clone(),
            vrid: group.vrid.into(),
            core_address: group.core_address.into(),
            core_prefix_len: group.core_prefix_len.into(),
            preferred: group.preferred.iter().map(|id| id.0).collect(),
            ac_name: group.ac_name.clone(),
            services: group.services.iter().copied().map(service_number).collect(),
            owner: group.owner.map(|id| id.0),
            epoch: group.epoch.0,
            revision: group.revision.0,
        }
    }
}

impl TryFrom<proto::Group> for Group {
    type Error = CommandError;

    fn try_from(group: proto::Group) -> Result<Self, CommandError> {
        Ok(Self {
            id: GroupId(group.id),
            name: group.name,
            vrid: narrow(group.vrid, "group.vrid")?,
            core_address: group.core_address.into(),
            core_prefix_len: narrow(group.core_prefix_len, "group.core_prefix_len")?,
            preferred: group.preferred.into_iter().map(NodeId).collect(),
            ac_name: group.ac_name,
            services: group
                .services
                .into_iter()
                .map(|n| service(n, "group.services"))
                .collect::<Result<_, _>>()?,
            owner: group.owner.map(NodeId),
            epoch: Epoch(group.epoch),
            revision: Revision(group.revision),
        })
    }
}

fn range_message(range: Ipv4Range) -> proto::Range {
    proto::Range { first: range.first.into(), last: range.last.into() }
}

fn range(range: Option<proto::Range>, field: &'static str) -> Result<Ipv4Range, CommandError> {
    let proto::Range { first, last } = required(range, field)?;
    if first > last {
        return Err(CommandError::OutOfRange { field, value: first.into() });
    }
    Ok(Ipv4Range { first: first.into(), last: last.into() })
}

impl From<&Pool> for proto::Pool {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.clone(),
            group: pool.group.0,
            service: service_number(pool.service),
            range: Some(range_message(pool.range)),
            prefix_len: pool.prefix_len.into(),
            gateway: pool.gateway.into(),
            dns: pool.dns.iter().copied().map(u32::from).collect(),
            lease_s: pool.lease_s,
            nat: pool.nat.as_ref().map(|nat| proto::NatPool {
                public: Some(range_message(nat.public)),
                ports_per_block: nat.ports_per_block.into(),
            }),
            rate: Some((&pool.rate).into()),
        }
    }
}

impl TryFrom<proto::Pool> for Pool {
    type Error = CommandError;

    fn try_from(pool: proto::Pool) -> Result<Self, CommandError> {
        let nat = match pool.nat {
            None => None,
            Some(nat) => Some(NatPool {
                public: range(nat.public, "nat_pool.public")?,
                ports_per_block: narrow(nat.ports_per_block, "nat_pool.ports_per_block")?,
            }),
        };
        Ok(Self {
            name: pool.name,
            group: GroupId(pool.group),
            service: service(pool.service, "pool.service")?,
            range: range(pool.range, "pool.range")?,
            prefix_len: narrow(pool.prefix_len, "pool.prefix_len")?,
            gateway: pool.gateway.into(),
            dns: pool.dns.into_iter().map(Ipv4Addr::from).collect(),
            lease_s: pool.lease_s,
            nat,
            rate: required(pool.rate, "pool.rate")?.into(),
        })
    }
}

impl From<&Subscriber> for proto::Subscriber {
    fn from(subscriber: &Subscriber) -> Self {
        Self {
            username: subscriber.username.clone(),
            password: subscriber.password.expose().to_owned(),
            rate: subscriber.rate.as_ref().map(Into::into),
            address: subscriber.address.map(Into::into),
            pool: subscriber.pool.clone(),
        }
    }
}

impl From<proto::Subscriber> for Subscriber {
    fn from(subscriber: proto::Subscriber) -> Self {
        Self {
            username: subscriber.username,
            password: Secret::new(subscriber.password),
            rate: subscriber.rate.map(Into::into),
            address: subscriber.address.map(Into::into),
            pool: subscriber.pool,
        }
    }
}

/// Whether builds that know no other fields read all of this user.
pub(super) fn is_first_level(user: &ApiUser) -> bool {
    let named = [ApiRole::ADMIN, ApiRole::OPERATOR].contains(&user.role.as_str());
    let first = ApiUser::new(&*user.username, user.password_hash.clone(), user.role.clone());
    named && *user == first
}

impl From<&ApiUser> for proto::ApiUser {
    fn from(user: &ApiUser) -> Self {
        // The two roles of level 1 keep the bytes that they had there.
        let (role, role_name) = match user.role.as_str() {
            ApiRole::OPERATOR => (proto::ApiRole::Operator, String::new()),
            ApiRole::ADMIN => (proto::ApiRole::Admin, String::new()),
            name => (proto::ApiRole::Unspecified, name.to_owned()),
        };
        Self {
            username: user.username.clone(),
            password_hash: user.password_hash.expose().to_owned(),
            role: role.into(),
            role_name,
            disabled: !user.enabled,
            generation: user.generation,
            totp: user.totp.as_ref().map(Into::into),
            created_at_ms: user.created_at.0,
            modified: user.modified.0,
        }
    }
}

impl TryFrom<proto::ApiUser> for ApiUser {
    type Error = CommandError;

    fn try_from(user: proto::ApiUser) -> Result<Self, CommandError> {
        let unknown = CommandError::UnknownNumber { field: "api_user.role", number: user.role };
        let role = match proto::ApiRole::try_from(user.role) {
            Ok(proto::ApiRole::Operator) => ApiRole::operator(),
            Ok(proto::ApiRole::Admin) => ApiRole::admin(),
            Ok(proto::ApiRole::Unspecified) if !user.role_name.is_empty() => {
                ApiRole::new(user.role_name)
            }
            Ok(proto::ApiRole::Unspecified) | Err(_) => return Err(unknown),
        };
        Ok(Self {
            username: user.username,
            password_hash: Secret::new(user.password_hash),
            role,
            enabled: !user.disabled,
            generation: user.generation,
            totp: user.totp.map(Into::into),
            created_at: UnixMs(user.created_at_ms),
            modified: Revision(user.modified),
        })
    }
}

impl From<&Totp> for proto::Totp {
    fn from(totp: &Totp) -> Self {
        Self {
            secret: totp.secret.expose().to_owned(),
            active: totp.active,
            last_step: totp.last_step,
            recovery: totp.recovery.iter().map(|code| code.expose().to_owned()).collect(),
        }
    }
}

impl From<proto::Totp> for Totp {
    fn from(totp: proto::Totp) -> Self {
        Self {
            secret: Secret::new(totp.secret),
            active: totp.active,
            last_step: totp.last_step,
            recovery: totp.recovery.into_iter().map(Secret::new).collect(),
        }
    }
}

/// The six octets as one number, first octet most significant.
pub(super) fn mac_number(mac: MacAddr) -> u64 {
    let [a, b, c, d, e, f] = mac.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

pub(super) fn mac(number: u64, field: &'static str) -> Result<MacAddr, CommandError> {
    match number.to_be_bytes() {
        [0, 0, mac @ ..] => Ok(MacAddr(mac)),
        _ => Err(CommandError::OutOfRange { field, value: number }),
    }
}

impl From<&Attachment> for proto::Attachment {
    fn from(attachment: &Attachment) -> Self {
        Self {
            port: attachment.port.0.into(),
            outer_vlan: attachment.vlans.outer.into(),
            inner_vlan: attachment.vlans.inner.into(),
            mac: mac_number(attachment.mac),
        }
    }
}

pub(super) fn attachment(
    attachment: Option<proto::Attachment>,
    field: &'static str,
) -> Result<Attachment, CommandError> {
    let message = required(attachment, field)?;
    Ok(Attachment {
        port: PortId(narrow(message.port, "attachment.port")?),
        vlans: Vlans {
            outer: narrow(message.outer_vlan, "attachment.outer_vlan")?,
            inner: narrow(message.inner_vlan, "attachment.inner_vlan")?,
        },
        mac: mac(message.mac, "attachment.mac")?,
    })
}

impl From<&Session> for proto::Session {
    fn from(session: &Session) -> Self {
        let kind = match &session.kind {
            SessionKind::Pppoe(pppoe) => proto::session::Kind::Pppoe(proto::PppoeSession {
                sid: pppoe.sid.into(),
                local_magic: pppoe.local_magic,
                peer_magic: pppoe.peer_magic,
                mtu: pppoe.mtu.into(),
                mru: pppoe.mru.into(),
            }),
            SessionKind::Dhcp(dhcp) => proto::session::Kind::Dhcp(proto::DhcpSession {
                client_id: dhcp.client_id.clone(),
                hostname: dhcp.hostname.clone(),
                relay_info: dhcp.relay_info.clone(),
                expires_at_ms: dhcp.expires_at.0,
            }),
            SessionKind::Static(fixed) => proto::session::Kind::StaticSession(fixed.into()),
        };
        Self {
            id: session.id.0,
            group: session.group.0,
            attachment: Some((&session.attachment).into()),
            kind: Some(kind),
            username: session.username.clone(),
            address: session.address.into(),
            pool: session.pool.clone(),
            rate: Some((&session.rate).into()),
            nat: session.nat.map(|block| proto::NatBlock {
                public: block.public.into(),
                first_port: block.first_port.into(),
                last_port: block.last_port.into(),
            }),
            started_at_ms: session.started_at.0,
            created: session.created.0,
            modified: session.modified.0,
        }
    }
}

fn session_kind(kind: Option<proto::session::Kind>) -> Result<SessionKind, CommandError> {
    match kind {
        Some(proto::session::Kind::Pppoe(pppoe)) => Ok(SessionKind::Pppoe(PppoeSession {
            sid: narrow(pppoe.sid, "pppoe_session.sid")?,
            local_magic: pppoe.local_magic,
            peer_magic: pppoe.peer_magic,
            mtu: narrow(pppoe.mtu, "pppoe_session.mtu")?,
            mru: narrow(pppoe.mru, "pppoe_session.mru")?,
        })),
        Some(proto::session::Kind::Dhcp(dhcp)) => Ok(SessionKind::Dhcp(DhcpSession {
            client_id: dhcp.client_id,
            hostname: dhcp.hostname,
            relay_info: dhcp.relay_info,
            expires_at: UnixMs(dhcp.expires_at_ms),
        })),
        Some(proto::session::Kind::StaticSession(fixed)) => {
            Ok(SessionKind::Static(fixed.try_into()?))
        }
        None => Err(CommandError::UnknownVariant("session.kind")),
    }
}

impl TryFrom<proto::Session> for Session {
    type Error = CommandError;

    fn try_from(session: proto::Session) -> Result<Self, CommandError> {
        let nat = match session.nat {
            None => None,
            Some(block) => Some(NatBlock {
                public: block.public.into(),
                first_port: narrow(block.first_port, "nat_block.first_port")?,
                last_port: narrow(block.last_port, "nat_block.last_port")?,
            }),
        };
        Ok(Self {
            id: SessionId(session.id),
            group: GroupId(session.group),
            attachment: attachment(session.attachment, "session.attachment")?,
            kind: session_kind(session.kind)?,
            username: session.username,
            address: session.address.into(),
            pool: session.pool,
            rate: required(session.rate, "session.rate")?.into(),
            nat,
            started_at: UnixMs(session.started_at_ms),
            created: Revision(session.created),
            modified: Revision(session.modified),
        })
    }
}

/// A join token: digest, role, end.
type Token<'a> = (&'a [u8], NodeRole, UnixMs);

impl From<Token<'_>> for proto::JoinToken {
    fn from((hash, role, expires_at): Token<'_>) -> Self {
        Self { hash: hash.to_vec(), role: role_number(role), expires_at_ms: expires_at.0 }
    }
}

impl TryFrom<proto::JoinToken> for (Vec<u8>, NodeRole, UnixMs) {
    type Error = CommandError;

    fn try_from(token: proto::JoinToken) -> Result<Self, CommandError> {
        Ok((token.hash, role(token.role, "join_token.role")?, UnixMs(token.expires_at_ms)))
    }
}
