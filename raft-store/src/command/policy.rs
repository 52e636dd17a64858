//! Static subscribers and bans: their part of commands, and its protobuf.

use super::convert::{attachment, mac, mac_number, narrow, required};
use super::{CommandError, proto};
use model::{
    Attachment, Ban, BanScope, GroupId, Ipv4Net, Line, MacAddr, PortId, Rate, StaticSession,
    UnixMs, Vlans,
};
use std::net::Ipv4Addr;

/// A static subscriber as an operator wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutStatic {
    /// The group that serves it; the address lies in a network of its IPoE pools.
    pub group: GroupId,
    /// Its address, held by nobody else. Inside a pool's range it is no longer leased to others.
    pub address: Ipv4Addr,
    /// What is fixed of it.
    pub fixed: StaticSession,
    /// Its rate; `None` takes the pool's, or leaves a known subscriber's alone.
    pub rate: Option<Rate>,
    /// Where it was heard while it waited to be let in; ignored where `fixed` does not admit it.
    pub seen: Option<Attachment>,
}

/// One change of a static subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticEdit {
    /// Lets its packets pass, or drops them.
    Allow(bool),
    /// Shapes it.
    Rate(Rate),
    /// Binds the address to a MAC address.
    Bind(MacAddr),
    /// Lifts the binding.
    Unbind,
}

impl From<&StaticSession> for proto::StaticSession {
    fn from(fixed: &StaticSession) -> Self {
        Self {
            mac: fixed.mac.map(mac_number),
            line: fixed.line.map(|line| proto::Line {
                port: line.port.0.into(),
                outer_vlan: line.vlans.outer.into(),
                inner_vlan: line.vlans.inner.into(),
            }),
            allowed: fixed.allowed,
        }
    }
}

impl TryFrom<proto::StaticSession> for StaticSession {
    type Error = CommandError;

    fn try_from(message: proto::StaticSession) -> Result<Self, CommandError> {
        let line = |line: proto::Line| {
            Ok::<_, CommandError>(Line {
                port: PortId(narrow(line.port, "line.port")?),
                vlans: Vlans {
                    outer: narrow(line.outer_vlan, "line.outer_vlan")?,
                    inner: narrow(line.inner_vlan, "line.inner_vlan")?,
                },
            })
        };
        Ok(Self {
            mac: message.mac.map(|n| mac(n, "static_session.mac")).transpose()?,
            line: message.line.map(line).transpose()?,
            allowed: message.allowed,
        })
    }
}

impl From<&PutStatic> for proto::PutStatic {
    fn from(put: &PutStatic) -> Self {
        Self {
            group: put.group.0,
            address: put.address.into(),
            fixed: Some((&put.fixed).into()),
            rate: put.rate.as_ref().map(Into::into),
            seen: put.seen.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::PutStatic> for PutStatic {
    type Error = CommandError;

    fn try_from(put: proto::PutStatic) -> Result<Self, CommandError> {
        Ok(Self {
            group: GroupId(put.group),
            address: put.address.into(),
            fixed: required(put.fixed, "put_static.fixed")?.try_into()?,
            rate: put.rate.map(Into::into),
            seen: put.seen.map(|seen| attachment(Some(seen), "put_static.seen")).transpose()?,
        })
    }
}

/// An edit with the address it is for.
pub(super) fn edit_message(address: Ipv4Addr, edit: StaticEdit) -> proto::EditStatic {
    use proto::edit_static::Edit;
    let edit = match edit {
        StaticEdit::Allow(allowed) => Edit::Allow(allowed),
        StaticEdit::Rate(rate) => Edit::Rate((&rate).into()),
        StaticEdit::Bind(mac) => Edit::Bind(mac_number(mac)),
        StaticEdit::Unbind => Edit::Unbind(proto::Unbind {}),
    };
    proto::EditStatic { address: address.into(), edit: Some(edit) }
}

pub(super) fn edit(message: proto::EditStatic) -> Result<(Ipv4Addr, StaticEdit), CommandError> {
    use proto::edit_static::Edit;
    let edit = match message.edit {
        Some(Edit::Allow(allowed)) => StaticEdit::Allow(allowed),
        Some(Edit::Rate(rate)) => StaticEdit::Rate(rate.into()),
        Some(Edit::Bind(number)) => StaticEdit::Bind(mac(number, "edit_static.bind")?),
        Some(Edit::Unbind(proto::Unbind {})) => StaticEdit::Unbind,
        None => return Err(CommandError::UnknownVariant("edit_static.edit")),
    };
    Ok((message.address.into(), edit))
}

pub(crate) fn ban_message(network: Ipv4Net, scope: BanScope) -> proto::BanRule {
    let scope = match scope {
        BanScope::All => proto::BanScope::All,
        BanScope::Icmp => proto::BanScope::Icmp,
    };
    proto::BanRule {
        address: network.address().into(),
        prefix_len: network.prefix_len().into(),
        scope: scope.into(),
    }
}

pub(super) fn ban_rule(message: proto::BanRule) -> Result<(Ipv4Net, BanScope), CommandError> {
    let proto::BanRule { address, prefix_len, scope: number } = message;
    let length = narrow(prefix_len, "ban_rule.prefix_len")?;
    let network = Ipv4Net::new(address.into(), length)
        .ok_or(CommandError::OutOfRange { field: "ban_rule.address", value: address.into() })?;
    let scope = match proto::BanScope::try_from(number) {
        Ok(proto::BanScope::All) => BanScope::All,
        Ok(proto::BanScope::Icmp) => BanScope::Icmp,
        Ok(proto::BanScope::Unspecified) | Err(_) => {
            return Err(CommandError::UnknownNumber { field: "ban_rule.scope", number });
        }
    };
    Ok((network, scope))
}

impl From<&Ban> for proto::SnapshotBan {
    fn from(ban: &Ban) -> Self {
        Self { rule: Some(ban_message(ban.network, ban.scope)), since_ms: ban.since.0 }
    }
}

impl TryFrom<proto::SnapshotBan> for Ban {
    type Error = CommandError;

    fn try_from(message: proto::SnapshotBan) -> Result<Self, CommandError> {
        let (network, scope) = ban_rule(required(message.rule, "snapshot_ban.rule")?)?;
        Ok(Self { network, scope, since: UnixMs(message.since_ms) })
    }
}
