//! Commands, entries and replies to protobuf and back.

use super::convert::{
    attachment, key32, narrow, reason, reason_number, required, role, role_number,
};
use super::document::{collection, expect, expect_message};
use super::policy::{ban_message, ban_rule, edit, edit_message};
use super::proto::{self, command::Kind, op_reply, reply, session_op::Kind as OpKind};
use super::{
    Bootstrap, Command, CommandError, Entry, OpReply, Refusal, Reply, SessionBatch, SessionOp,
};
use model::{ClusterId, Epoch, GroupId, NodeId, Revision, Secret, SessionId, UnixMs};
use std::sync::Arc;

/// The level of a bootstrap that names none.
const FIRST_LEVEL: u32 = 1;

fn many<'a, T: 'a, P: From<&'a T>>(items: &'a [T]) -> Vec<P> {
    items.iter().map(P::from).collect()
}

fn many_back<P, T: TryFrom<P>>(items: Vec<P>) -> Result<Vec<T>, T::Error> {
    items.into_iter().map(T::try_from).collect()
}

impl From<&Entry> for proto::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            at_ms: entry.at.0,
            client: entry.client.map(|(id, sequence)| proto::Client { id, sequence }),
            trace: entry.trace.clone(),
            command: Some((&entry.command).into()),
        }
    }
}

impl TryFrom<proto::Entry> for Entry {
    type Error = CommandError;

    fn try_from(entry: proto::Entry) -> Result<Self, CommandError> {
        Ok(Self {
            at: UnixMs(entry.at_ms),
            client: entry.client.map(|client| (client.id, client.sequence)),
            trace: entry.trace,
            command: required(entry.command, "entry.command")?.try_into()?,
        })
    }
}

impl From<&Bootstrap> for proto::Bootstrap {
    fn from(bootstrap: &Bootstrap) -> Self {
        Self {
            cluster_id: bootstrap.cluster_id.0.clone(),
            nodes: many(&bootstrap.nodes),
            groups: many(&bootstrap.groups),
            pools: many(&bootstrap.pools),
            subscribers: many(&bootstrap.subscribers),
            api_users: many(&bootstrap.api_users),
            jwt_secret: bootstrap.jwt_secret.expose().to_owned(),
            cookie_key: bootstrap.cookie_key.to_vec(),
        }
    }
}

impl TryFrom<proto::Bootstrap> for Bootstrap {
    type Error = CommandError;

    fn try_from(bootstrap: proto::Bootstrap) -> Result<Self, CommandError> {
        Ok(Self {
            level: FIRST_LEVEL,
            cluster_id: ClusterId(bootstrap.cluster_id),
            nodes: many_back(bootstrap.nodes)?,
            groups: many_back(bootstrap.groups)?,
            pools: many_back(bootstrap.pools)?,
            subscribers: bootstrap.subscribers.into_iter().map(Into::into).collect(),
            api_users: many_back(bootstrap.api_users)?,
            jwt_secret: Secret::new(bootstrap.jwt_secret),
            cookie_key: key32(&bootstrap.cookie_key, "bootstrap.cookie_key")?,
        })
    }
}

impl From<&Command> for proto::Command {
    fn from(command: &Command) -> Self {
        let kind = match command {
            Command::Bootstrap(bootstrap) if bootstrap.level == FIRST_LEVEL => {
                Kind::Bootstrap((&**bootstrap).into())
            }
            Command::Bootstrap(bootstrap) => Kind::LeveledBootstrap(proto::LeveledBootstrap {
                bootstrap: Some((&**bootstrap).into()),
                level: bootstrap.level,
            }),
            Command::PutNode(node) => Kind::PutNode(node.into()),
            Command::RemoveNode(id) => Kind::RemoveNode(id.0),
            Command::PutGroup(group) => Kind::PutGroup(group.into()),
            Command::RemoveGroup(id) => Kind::RemoveGroup(id.0),
            Command::PutPool(pool) => Kind::PutPool(pool.into()),
            Command::RemovePool(name) => Kind::RemovePool(name.clone()),
            Command::PutSubscriber(subscriber) => Kind::PutSubscriber(subscriber.into()),
            Command::RemoveSubscriber(username) => Kind::RemoveSubscriber(username.clone()),
            Command::PutApiUser(user) => Kind::PutApiUser(user.into()),
            Command::RemoveApiUser(username) => Kind::RemoveApiUser(username.clone()),
            Command::Acquire { group, node, epoch } => {
                Kind::Acquire(proto::Acquire { group: group.0, node: node.0, epoch: epoch.0 })
            }
            Command::Sessions(batch) => Kind::Sessions(batch.into()),
            Command::SetRate { session, rate } => {
                Kind::SetRate(proto::SetRate { session: session.0, rate: Some(rate.into()) })
            }
            Command::Disconnect { session, reason } => Kind::Disconnect(proto::Disconnect {
                session: session.0,
                reason: reason_number(*reason),
            }),
            Command::Expire => Kind::Expire(proto::Expire {}),
            Command::PutJoinToken { hash, role, expires_at } => {
                Kind::PutJoinToken(proto::JoinToken {
                    hash: hash.clone(),
                    role: role_number(*role),
                    expires_at_ms: expires_at.0,
                })
            }
            Command::UseJoinToken { hash, node } => Kind::UseJoinToken(proto::UseJoinToken {
                hash: hash.clone(),
                node: Some(node.into()),
            }),
            Command::RaiseLevel { level } => Kind::RaiseLevel(*level),
            Command::Documents(batch) => Kind::Documents(batch.into()),
            Command::ChangeApiUser { username, user, expect } => {
                Kind::ChangeApiUser(proto::ChangeApiUser {
                    username: username.clone(),
                    user: user.as_deref().map(Into::into),
                    expect: Some(expect_message(*expect)),
                })
            }
            Command::PutStatic(put) => Kind::PutStatic(put.into()),
            Command::RemoveStatic(address) => Kind::RemoveStatic((*address).into()),
            Command::EditStatic { address, edit } => {
                Kind::EditStatic(edit_message(*address, *edit))
            }
            Command::PutBan { network, scope } => Kind::PutBan(ban_message(*network, *scope)),
            Command::RemoveBan { network, scope } => Kind::RemoveBan(ban_message(*network, *scope)),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Command> for Command {
    type Error = CommandError;

    fn try_from(command: proto::Command) -> Result<Self, CommandError> {
        let kind = command.kind.ok_or(CommandError::UnknownVariant("command"))?;
        Ok(match kind {
            Kind::Bootstrap(bootstrap) => Self::Bootstrap(Box::new(bootstrap.try_into()?)),
            Kind::PutNode(node) => Self::PutNode(node.try_into()?),
            Kind::RemoveNode(id) => Self::RemoveNode(NodeId(id)),
            Kind::PutGroup(group) => Self::PutGroup(group.try_into()?),
            Kind::RemoveGroup(id) => Self::RemoveGroup(GroupId(id)),
            Kind::PutPool(pool) => Self::PutPool(pool.try_into()?),
            Kind::RemovePool(name) => Self::RemovePool(name),
            Kind::PutSubscriber(subscriber) => Self::PutSubscriber(subscriber.into()),
            Kind::RemoveSubscriber(username) => Self::RemoveSubscriber(username),
            Kind::PutApiUser(user) => Self::PutApiUser(user.try_into()?),
            Kind::RemoveApiUser(username) => Self::RemoveApiUser(username),
            Kind::Acquire(proto::Acquire { group, node, epoch }) => {
                Self::Acquire { group: GroupId(group), node: NodeId(node), epoch: Epoch(epoch) }
            }
            Kind::Sessions(batch) => Self::Sessions(batch.try_into()?),
            Kind::SetRate(proto::SetRate { session, rate }) => Self::SetRate {
                session: SessionId(session),
                rate: required(rate, "set_rate.rate")?.into(),
            },
            Kind::Disconnect(message) => Self::Disconnect {
                session: SessionId(message.session),
                reason: reason(message.reason, "disconnect.reason")?,
            },
            Kind::Expire(proto::Expire {}) => Self::Expire,
            Kind::PutJoinToken(token) => Self::PutJoinToken {
                hash: token.hash,
                role: role(token.role, "join_token.role")?,
                expires_at: UnixMs(token.expires_at_ms),
            },
            Kind::UseJoinToken(proto::UseJoinToken { hash, node }) => Self::UseJoinToken {
                hash,
                node: required(node, "use_join_token.node")?.try_into()?,
            },
            Kind::RaiseLevel(level) => Self::RaiseLevel { level },
            Kind::Documents(batch) => Self::Documents(batch.try_into()?),
            Kind::ChangeApiUser(proto::ChangeApiUser { username, user, expect: condition }) => {
                let user = user.map(|user| user.try_into().map(Box::new)).transpose()?;
                let expect = expect(condition, "change_api_user.expect")?;
                Self::ChangeApiUser { username, user, expect }
            }
            Kind::LeveledBootstrap(proto::LeveledBootstrap { bootstrap, level }) => {
                let bootstrap = required(bootstrap, "leveled_bootstrap.bootstrap")?;
                Self::Bootstrap(Box::new(Bootstrap { level, ..bootstrap.try_into()? }))
            }
            Kind::PutStatic(put) => Self::PutStatic(put.try_into()?),
            Kind::RemoveStatic(address) => Self::RemoveStatic(address.into()),
            Kind::EditStatic(message) => {
                let (address, edit) = edit(message)?;
                Self::EditStatic { address, edit }
            }
            Kind::PutBan(rule) => {
                let (network, scope) = ban_rule(rule)?;
                Self::PutBan { network, scope }
            }
            Kind::RemoveBan(rule) => {
                let (network, scope) = ban_rule(rule)?;
                Self::RemoveBan { network, scope }
            }
        })
    }
}

impl From<&SessionBatch> for proto::SessionBatch {
    fn from(batch: &SessionBatch) -> Self {
        Self {
            group: batch.group.0,
            node: batch.node.0,
            epoch: batch.epoch.0,
            ops: many(&batch.ops),
        }
    }
}

impl TryFrom<proto::SessionBatch> for SessionBatch {
    type Error = CommandError;

    fn try_from(batch: proto::SessionBatch) -> Result<Self, CommandError> {
        Ok(Self {
            group: GroupId(batch.group),
            node: NodeId(batch.node),
            epoch: Epoch(batch.epoch),
            ops: many_back(batch.ops)?,
        })
    }
}

impl From<&SessionOp> for proto::SessionOp {
    fn from(op: &SessionOp) -> Self {
        let kind = match op {
            SessionOp::PppoeUp {
                attachment,
                sid,
                username,
                local_magic,
                peer_magic,
                mtu,
                mru,
                rate,
                address,
                pool,
            } => OpKind::PppoeUp(proto::PppoeUp {
                attachment: Some(attachment.into()),
                sid: (*sid).into(),
                username: username.clone(),
                local_magic: *local_magic,
                peer_magic: *peer_magic,
                mtu: (*mtu).into(),
                mru: (*mru).into(),
                rate: rate.as_ref().map(Into::into),
                address: address.map(Into::into),
                pool: pool.clone(),
            }),
            SessionOp::LeaseGrant {
                attachment,
                client_id,
                hostname,
                relay_info,
                address,
                lease_s,
                pool,
            } => OpKind::LeaseGrant(proto::LeaseGrant {
                attachment: Some(attachment.into()),
                client_id: client_id.clone(),
                hostname: hostname.clone(),
                relay_info: relay_info.clone(),
                address: address.map(Into::into),
                lease_s: *lease_s,
                pool: pool.clone(),
            }),
            SessionOp::LeaseRenew { session, lease_s } => {
                OpKind::LeaseRenew(proto::LeaseRenew { session: session.0, lease_s: *lease_s })
            }
            SessionOp::Down { session, reason } => {
                OpKind::Down(proto::Down { session: session.0, reason: reason_number(*reason) })
            }
            SessionOp::Decline { address, pool } => {
                OpKind::Decline(proto::Decline { address: (*address).into(), pool: pool.clone() })
            }
            SessionOp::StaticSeen { address, attachment } => {
                OpKind::StaticSeen(proto::StaticSeen {
                    address: (*address).into(),
                    attachment: Some(attachment.into()),
                })
            }
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::SessionOp> for SessionOp {
    type Error = CommandError;

    fn try_from(op: proto::SessionOp) -> Result<Self, CommandError> {
        let kind = op.kind.ok_or(CommandError::UnknownVariant("session_op"))?;
        Ok(match kind {
            OpKind::PppoeUp(up) => Self::PppoeUp {
                attachment: attachment(up.attachment, "pppoe_up.attachment")?,
                sid: narrow(up.sid, "pppoe_up.sid")?,
                username: up.username,
                local_magic: up.local_magic,
                peer_magic: up.peer_magic,
                mtu: narrow(up.mtu, "pppoe_up.mtu")?,
                mru: narrow(up.mru, "pppoe_up.mru")?,
                rate: up.rate.map(Into::into),
                address: up.address.map(Into::into),
                pool: up.pool,
            },
            OpKind::LeaseGrant(grant) => Self::LeaseGrant {
                attachment: attachment(grant.attachment, "lease_grant.attachment")?,
                client_id: grant.client_id,
                hostname: grant.hostname,
                relay_info: grant.relay_info,
                address: grant.address.map(Into::into),
                lease_s: grant.lease_s,
                pool: grant.pool,
            },
            OpKind::LeaseRenew(proto::LeaseRenew { session, lease_s }) => {
                Self::LeaseRenew { session: SessionId(session), lease_s }
            }
            OpKind::Down(down) => Self::Down {
                session: SessionId(down.session),
                reason: reason(down.reason, "down.reason")?,
            },
            OpKind::Decline(proto::Decline { address, pool }) => {
                Self::Decline { address: address.into(), pool }
            }
            OpKind::StaticSeen(seen) => Self::StaticSeen {
                address: seen.address.into(),
                attachment: attachment(seen.attachment, "static_seen.attachment")?,
            },
        })
    }
}

impl From<&Reply> for proto::Reply {
    fn from(reply: &Reply) -> Self {
        let kind = match reply {
            Reply::Done => reply::Kind::Done(proto::Done {}),
            Reply::Acquired { group, owner, epoch, previous } => {
                reply::Kind::Acquired(proto::Acquired {
                    group: group.0,
                    owner: owner.0,
                    epoch: epoch.0,
                    previous: previous.map(|id| id.0),
                })
            }
            Reply::Sessions(replies) => {
                reply::Kind::Sessions(proto::SessionReplies { replies: many(replies) })
            }
            Reply::NodeId(id) => reply::Kind::NodeId(id.0),
            Reply::Documents { keys } => {
                reply::Kind::Documents(proto::DocumentReplies { keys: keys.clone() })
            }
            Reply::Refused(refusal) => reply::Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::Reply> for Reply {
    type Error = CommandError;

    fn try_from(reply: proto::Reply) -> Result<Self, CommandError> {
        let kind = reply.kind.ok_or(CommandError::UnknownVariant("reply"))?;
        Ok(match kind {
            reply::Kind::Done(proto::Done {}) => Self::Done,
            reply::Kind::Acquired(acquired) => Self::Acquired {
                group: GroupId(acquired.group),
                owner: NodeId(acquired.owner),
                epoch: Epoch(acquired.epoch),
                previous: acquired.previous.map(NodeId),
            },
            reply::Kind::Sessions(proto::SessionReplies { replies }) => {
                Self::Sessions(many_back(replies)?)
            }
            reply::Kind::NodeId(id) => Self::NodeId(NodeId(id)),
            reply::Kind::Documents(proto::DocumentReplies { keys }) => Self::Documents { keys },
            reply::Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

impl From<&OpReply> for proto::OpReply {
    fn from(reply: &OpReply) -> Self {
        let kind = match reply {
            OpReply::Session(session) => op_reply::Kind::Session((&**session).into()),
            OpReply::Done => op_reply::Kind::Done(proto::Done {}),
            OpReply::Refused(refusal) => op_reply::Kind::Refused(refusal.into()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<proto::OpReply> for OpReply {
    type Error = CommandError;

    fn try_from(reply: proto::OpReply) -> Result<Self, CommandError> {
        let kind = reply.kind.ok_or(CommandError::UnknownVariant("op_reply"))?;
        Ok(match kind {
            op_reply::Kind::Session(session) => Self::Session(Arc::new(session.try_into()?)),
            op_reply::Kind::Done(proto::Done {}) => Self::Done,
            op_reply::Kind::Refused(refusal) => Self::Refused(refusal.try_into()?),
        })
    }
}

impl From<&Refusal> for proto::Refusal {
    fn from(refusal: &Refusal) -> Self {
        use proto::RefusalKind as K;
        let mut modified = None;
        let (kind, number, text) = match refusal {
            Refusal::StaleEpoch { current } => (K::StaleEpoch, current.0, ""),
            Refusal::PoolExhausted { pool } => (K::PoolExhausted, 0, pool.as_str()),
            Refusal::NatExhausted { pool } => (K::NatExhausted, 0, pool.as_str()),
            Refusal::AddressTaken => (K::AddressTaken, 0, ""),
            Refusal::AddressOutsidePool => (K::AddressOutsidePool, 0, ""),
            Refusal::SessionIdTaken => (K::SessionIdTaken, 0, ""),
            Refusal::UnknownSession => (K::UnknownSession, 0, ""),
            Refusal::UnknownGroup => (K::UnknownGroup, 0, ""),
            Refusal::UnknownPool => (K::UnknownPool, 0, ""),
            Refusal::UnknownNode => (K::UnknownNode, 0, ""),
            Refusal::UnknownSubscriber => (K::UnknownSubscriber, 0, ""),
            Refusal::UnknownApiUser => (K::UnknownApiUser, 0, ""),
            Refusal::AlreadyBootstrapped => (K::AlreadyBootstrapped, 0, ""),
            Refusal::NotBootstrapped => (K::NotBootstrapped, 0, ""),
            Refusal::InvalidToken => (K::InvalidToken, 0, ""),
            Refusal::NotADataNode => (K::NotADataNode, 0, ""),
            Refusal::LevelTooLow => (K::LevelTooLow, 0, ""),
            Refusal::InUse(by) => (K::InUse, 0, by.as_str()),
            Refusal::SequenceTooOld => (K::SequenceTooOld, 0, ""),
            Refusal::Invalid(why) => (K::Invalid, 0, why.as_str()),
            Refusal::DocumentConflict { collection, key, revision } => {
                modified = revision.map(|revision| revision.0);
                (K::DocumentConflict, collection.number().into(), key.as_str())
            }
            Refusal::DocumentUnknown { collection, key } => {
                (K::DocumentUnknown, collection.number().into(), key.as_str())
            }
            Refusal::CollectionFull { collection } => {
                (K::CollectionFull, collection.number().into(), "")
            }
            Refusal::ApiUserConflict { revision } => {
                modified = revision.map(|revision| revision.0);
                (K::ApiUserConflict, 0, "")
            }
            Refusal::UnknownStatic => (K::UnknownStatic, 0, ""),
            Refusal::UnknownBan => (K::UnknownBan, 0, ""),
            Refusal::BoundElsewhere => (K::BoundElsewhere, 0, ""),
        };
        Self { kind: kind.into(), number, text: text.to_owned(), revision: modified }
    }
}

impl TryFrom<proto::Refusal> for Refusal {
    type Error = CommandError;

    fn try_from(refusal: proto::Refusal) -> Result<Self, CommandError> {
        use proto::RefusalKind as K;
        let proto::Refusal { kind: number, number: value, text, revision } = refusal;
        let of = |number: u64| {
            let out_of_range = CommandError::OutOfRange { field: "refusal.number", value: number };
            let number = u32::try_from(number).map_err(|_| out_of_range)?;
            collection(number, "refusal.number")
        };
        let unknown = CommandError::UnknownNumber { field: "refusal.kind", number };
        let kind = K::try_from(number).map_err(|_| unknown.clone())?;
        Ok(match kind {
            K::Unspecified => return Err(unknown),
            K::StaleEpoch => Self::StaleEpoch { current: Epoch(value) },
            K::PoolExhausted => Self::PoolExhausted { pool: text },
            K::NatExhausted => Self::NatExhausted { pool: text },
            K::AddressTaken => Self::AddressTaken,
            K::AddressOutsidePool => Self::AddressOutsidePool,
            K::SessionIdTaken => Self::SessionIdTaken,
            K::UnknownSession => Self::UnknownSession,
            K::UnknownGroup => Self::UnknownGroup,
            K::UnknownPool => Self::UnknownPool,
            K::UnknownNode => Self::UnknownNode,
            K::UnknownSubscriber => Self::UnknownSubscriber,
            K::UnknownApiUser => Self::UnknownApiUser,
            K::AlreadyBootstrapped => Self::AlreadyBootstrapped,
            K::NotBootstrapped => Self::NotBootstrapped,
            K::InvalidToken => Self::InvalidToken,
            K::NotADataNode => Self::NotADataNode,
            K::LevelTooLow => Self::LevelTooLow,
            K::InUse => Self::InUse(text),
            K::SequenceTooOld => Self::SequenceTooOld,
            K::Invalid => Self::Invalid(text),
            K::DocumentConflict => Self::DocumentConflict {
                collection: of(value)?,
                key: text,
                revision: revision.map(Revision),
            },
            K::DocumentUnknown => Self::DocumentUnknown { collection: of(value)?, key: text },
            K::CollectionFull => Self::CollectionFull { collection: of(value)? },
            K::ApiUserConflict => Self::ApiUserConflict { revision: revision.map(Revision) },
            K::UnknownStatic => Self::UnknownStatic,
            K::UnknownBan => Self::UnknownBan,
            K::BoundElsewhere => Self::BoundElsewhere,
        })
    }
}
