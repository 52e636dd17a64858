//! Sessions: up, on, down.

use super::apply::Effects;
use super::config::check_name;
use super::place::Wish;
use super::{SID_MAX, State};
use crate::change::Change;
use crate::command::{OpReply, Refusal, Reply, SessionBatch, SessionOp};
use model::{
    Attachment, DhcpSession, DownReason, GroupId, PppoeSession, Rate, Revision, Session, SessionId,
    SessionKind, Subscriber, UnixMs,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A session's id is its entry's index times this, plus its place in the batch.
const IDS_PER_ENTRY: u64 = 4096;
const _: () = assert!(SessionBatch::OPS_MAX < 4096);
/// Longest DHCP option value, in octets. RFC 2132 §2.
const OPTION_MAX: usize = 255;
/// Most leases, and most rests of addresses, that one `Expire` ends.
const EXPIRE_MAX: usize = 1024;
/// How long a declined address rests, in seconds: the conflicting host may go away.
const REST_S: u64 = 600;
/// Most addresses of one pool that rest at one time.
const RESTING_MAX: u64 = 1024;
/// At most one address in so many of a pool rests: a client that declines everything must not empty
/// it.
const RESTING_SHARE: u64 = 4;

/// RFC 2131 §3.3: a lease of all ones never ends.
const LEASE_FOR_EVER: u32 = u32::MAX;

/// The id of the first session that an entry makes.
pub(super) fn first_id(revision: Revision) -> SessionId {
    SessionId(revision.0.saturating_mul(IDS_PER_ENTRY))
}

/// A session that is to come up.
pub(super) struct Draft<'a> {
    pub(super) group: GroupId,
    pub(super) attachment: &'a Attachment,
    pub(super) kind: SessionKind,
    pub(super) username: &'a str,
    pub(super) rate: Option<Rate>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) pool: Option<&'a str>,
    /// Sessions of the same client, which go down in the same entry.
    pub(super) giving_way: &'a [Arc<Session>],
    pub(super) heir_of: Option<&'a Session>,
}

impl State {
    pub(super) fn session_batch(
        &mut self,
        batch: &SessionBatch,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        if batch.ops.len() > SessionBatch::OPS_MAX {
            return Err(Refusal::Invalid(format!(
                "a batch has at most {} operations",
                SessionBatch::OPS_MAX
            )));
        }
        let mut replies = Vec::with_capacity(batch.ops.len());
        for (op, id) in batch.ops.iter().zip(first_id(effects.revision).0..) {
            // No operation changes an owner; the check stands here so that each one has its own
            // answer.
            let reply = self
                .check_owner(batch)
                .and_then(|()| self.session_op(batch.group, SessionId(id), op, effects));
            replies.push(reply.unwrap_or_else(OpReply::Refused));
        }
        Ok(Reply::Sessions(replies))
    }

    /// The fence of the log: changes of a former owner are refused, however late they arrive.
    fn check_owner(&self, batch: &SessionBatch) -> Result<(), Refusal> {
        let group = self.groups.get(&batch.group).ok_or(Refusal::UnknownGroup)?;
        if group.owner != Some(batch.node) || group.epoch != batch.epoch {
            return Err(Refusal::StaleEpoch { current: group.epoch });
        }
        Ok(())
    }

    fn session_op(
        &mut self,
        group: GroupId,
        id: SessionId,
        op: &SessionOp,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        match op {
            SessionOp::PppoeUp { .. } => self.pppoe_up(group, id, op, effects),
            SessionOp::LeaseGrant { .. } => self.lease_grant(group, id, op, effects),
            SessionOp::LeaseRenew { session, lease_s } => {
                self.lease_renew(group, *session, *lease_s, effects)
            }
            SessionOp::Down { session, reason } => {
                // No frame ends what an operator made.
                if let SessionKind::Static(_) = self.own(group, *session)?.kind {
                    return Err(Refusal::UnknownSession);
                }
                self.take_down(*session, *reason, effects);
                Ok(OpReply::Done)
            }
            SessionOp::Decline { address, pool } => self.decline(group, *address, pool, effects),
            SessionOp::StaticSeen { address, attachment } => {
                self.static_seen(group, *address, *attachment, effects)
            }
        }
    }

    /// A session of this group.
    fn own(&self, group: GroupId, id: SessionId) -> Result<&Arc<Session>, Refusal> {
        self.session(id).filter(|session| session.group == group).ok_or(Refusal::UnknownSession)
    }

    fn pppoe_up(
        &mut self,
        group: GroupId,
        id: SessionId,
        op: &SessionOp,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let SessionOp::PppoeUp {
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
        } = op
        else {
            return Err(Refusal::Invalid("not a PPPoE session".to_owned()));
        };
        check_name(username, "the user name")?;
        if !(1..=SID_MAX).contains(sid) {
            return Err(Refusal::Invalid(format!("{sid} is no PPPoE session id")));
        }
        let is_pppoe = |session: &&Arc<Session>| matches!(session.kind, SessionKind::Pppoe(_));
        let here = self.sessions_by_attachment(group, attachment).filter(is_pppoe);
        let giving_way: Vec<_> = here.map(Arc::clone).collect();
        if let Some(holder) = self.session_by_pppoe(group, *sid)
            && !giving_way.iter().any(|session| session.id == holder.id)
        {
            return Err(Refusal::SessionIdTaken);
        }
        let heir_of = giving_way.iter().find(|session| session.username == *username);
        let draft = Draft {
            group,
            attachment,
            kind: SessionKind::Pppoe(PppoeSession {
                sid: *sid,
                local_magic: *local_magic,
                peer_magic: *peer_magic,
                mtu: *mtu,
                mru: *mru,
            }),
            username,
            rate: *rate,
            address: *address,
            pool: pool.as_deref(),
            giving_way: &giving_way,
            heir_of: heir_of.map(|session| &**session),
        };
        self.bring_up(id, draft, effects)
    }

    fn lease_grant(
        &mut self,
        group: GroupId,
        id: SessionId,
        op: &SessionOp,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let SessionOp::LeaseGrant {
            attachment,
            client_id,
            hostname,
            relay_info,
            address,
            lease_s,
            pool,
        } = op
        else {
            return Err(Refusal::Invalid("not a lease".to_owned()));
        };
        if client_id.len().max(hostname.len()).max(relay_info.len()) > OPTION_MAX {
            return Err(Refusal::Invalid(format!("an option has at most {OPTION_MAX} octets")));
        }
        let lease = DhcpSession {
            client_id: client_id.clone(),
            hostname: hostname.clone(),
            relay_info: relay_info.clone(),
            expires_at: self.lease_end(*lease_s)?,
        };
        let username = attachment.mac.to_string();
        let known = self.lease_by_client(group, client_id, attachment).map(Arc::clone);
        if let Some(session) = &known
            && session.attachment == *attachment
            && self.wants_what_it_has(session, *address, pool.as_deref())
        {
            return Ok(self.change(session, effects, |new| new.kind = SessionKind::Dhcp(lease)));
        }
        // One host has one lease: the data plane knows it by its MAC. So a network boot's lease,
        // whose client identifier differs from the system's, gives way.
        let other = |session: &&Arc<Session>| {
            matches!(session.kind, SessionKind::Dhcp(_))
                && known.as_ref().is_none_or(|known| known.id != session.id)
        };
        let others = self.sessions_by_attachment(group, attachment).filter(other).map(Arc::clone);
        let giving_way: Vec<_> = known.iter().map(Arc::clone).chain(others).collect();
        let draft = Draft {
            group,
            attachment,
            kind: SessionKind::Dhcp(lease),
            username: &username,
            rate: None,
            address: *address,
            pool: pool.as_deref(),
            giving_way: &giving_way,
            heir_of: giving_way.first().map(|session| &**session),
        };
        self.bring_up(id, draft, effects)
    }

    /// Whether a client that asks again gets the same address from the same pool.
    fn wants_what_it_has(
        &self,
        session: &Session,
        address: Option<Ipv4Addr>,
        pool: Option<&str>,
    ) -> bool {
        let user = self.subscriber(&session.username);
        let address = address.or_else(|| user.and_then(|user| user.address));
        let pool = pool.or_else(|| user.and_then(|user| user.pool.as_deref()));
        address.is_none_or(|address| address == session.address)
            && pool.is_none_or(|pool| pool == session.pool)
    }

    fn lease_end(&self, lease_s: u32) -> Result<UnixMs, Refusal> {
        match lease_s {
            0 => Err(Refusal::Invalid("a lease lasts at least a second".to_owned())),
            LEASE_FOR_EVER => Ok(UnixMs(u64::MAX)),
            _ => Ok(self.time.plus_secs(lease_s.into())),
        }
    }

    /// Makes a session, or refuses before anything is changed.
    pub(super) fn bring_up(
        &mut self,
        id: SessionId,
        draft: Draft<'_>,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let user: Option<&Subscriber> = self.subscriber(draft.username);
        let wish = Wish {
            group: draft.group,
            service: draft.kind.service(),
            username: draft.username,
            address: draft.address.or_else(|| user.and_then(|user| user.address)),
            pool: draft.pool.or_else(|| user.and_then(|user| user.pool.as_deref())),
            giving_way: draft.giving_way,
            heir_of: draft.heir_of,
        };
        let (pool, address) = self.place(&wish)?;
        self.check_blocks(&pool, draft.giving_way)?;
        let rate = draft.rate.or_else(|| user.and_then(|user| user.rate)).unwrap_or(pool.rate);
        for old in draft.giving_way {
            self.take_down(old.id, DownReason::Replaced, effects);
        }
        let nat = self.nat_space_mut(&pool.name).and_then(super::NatSpace::allocate);
        let session = Arc::new(Session {
            id,
            group: draft.group,
            attachment: *draft.attachment,
            kind: draft.kind,
            username: draft.username.to_owned(),
            address,
            pool: pool.name.clone(),
            rate,
            nat,
            started_at: self.time,
            created: effects.revision,
            modified: effects.revision,
        });
        self.attach(Arc::clone(&session));
        effects.touch(session.group);
        effects.push(Change::SessionUp(Arc::clone(&session)));
        Ok(OpReply::Session(session))
    }

    /// Makes the next version of a session. `edit` leaves alone what the indexes hold, but for the
    /// lease's end and a static subscriber's place.
    pub(super) fn change(
        &mut self,
        session: &Arc<Session>,
        effects: &mut Effects,
        edit: impl FnOnce(&mut Session),
    ) -> OpReply {
        let mut new = Session::clone(session);
        edit(&mut new);
        new.modified = effects.revision;
        let new = Arc::new(new);
        self.replace(Arc::clone(&new));
        effects.touch(new.group);
        effects.push(Change::SessionChanged(Arc::clone(&new)));
        OpReply::Session(new)
    }

    pub(super) fn take_down(&mut self, id: SessionId, reason: DownReason, effects: &mut Effects) {
        if let Some(session) = self.detach(id) {
            effects.touch(session.group);
            effects.push(Change::SessionDown { session, reason });
        }
    }

    fn lease_renew(
        &mut self,
        group: GroupId,
        id: SessionId,
        lease_s: u32,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let session = Arc::clone(self.own(group, id)?);
        let expires_at = self.lease_end(lease_s)?;
        match &session.kind {
            SessionKind::Pppoe(_) | SessionKind::Static(_) => Err(Refusal::UnknownSession),
            SessionKind::Dhcp(lease) => {
                let lease = DhcpSession { expires_at, ..lease.clone() };
                Ok(self.change(&session, effects, |new| new.kind = SessionKind::Dhcp(lease)))
            }
        }
    }

    /// Ends the lease of an address that somebody else uses, and lets the address rest. RFC 2131
    /// §4.3.3.
    fn decline(
        &mut self,
        group: GroupId,
        address: Ipv4Addr,
        pool: &str,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let pool = self.pools.get(pool).map(|state| &state.pool);
        let pool = pool.filter(|pool| pool.group == group).ok_or(Refusal::UnknownPool)?;
        let range = pool.range;
        match self.session_by_address(address).map(Arc::clone) {
            Some(holder) => {
                let is_lease = matches!(holder.kind, SessionKind::Dhcp(_));
                if !is_lease || holder.group != group || holder.pool != pool.name {
                    return Err(Refusal::UnknownSession);
                }
                self.take_down(holder.id, DownReason::Declined, effects);
            }
            None if range.contains(address) && !self.gateways.contains_key(&address) => {}
            None => return Err(Refusal::AddressOutsidePool),
        }
        let resting = self.declined.range(range.first..=range.last).count();
        let resting = u64::try_from(resting).unwrap_or(u64::MAX);
        let room = resting < RESTING_MAX.min(range.count() / RESTING_SHARE);
        if room && range.contains(address) && !self.declined.contains_key(&address) {
            self.rest_until(address, self.time.plus_secs(REST_S));
        }
        Ok(OpReply::Done)
    }

    /// Keeps an address from being handed out for a time.
    pub(super) fn rest_until(&mut self, address: Ipv4Addr, until: UnixMs) {
        self.declined.insert(address, until);
        self.declined_by_end.insert((until, address));
        self.refresh_address(address);
    }

    pub(super) fn set_rate(
        &mut self,
        id: SessionId,
        rate: Rate,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let session = self.session(id).map(Arc::clone).ok_or(Refusal::UnknownSession)?;
        self.change(&session, effects, |new| new.rate = rate);
        Ok(())
    }

    pub(super) fn disconnect(
        &mut self,
        id: SessionId,
        reason: DownReason,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let session = self.session(id).map(Arc::clone).ok_or(Refusal::UnknownSession)?;
        match session.kind {
            SessionKind::Pppoe(_) | SessionKind::Dhcp(_) => self.take_down(id, reason, effects),
            SessionKind::Static(_) => self.forget_place(&session, effects),
        }
        Ok(())
    }

    /// Ends what has an end that has passed. What goes over the bound waits for the next entry.
    pub(super) fn expire(&mut self, effects: &mut Effects) {
        let now = self.time;
        for _ in 0..EXPIRE_MAX {
            let Some(&(_, id)) = self.by_end.get_min().filter(|(at, _)| *at <= now) else { break };
            self.take_down(id, DownReason::Expired, effects);
        }
        for _ in 0..EXPIRE_MAX {
            let next = self.declined_by_end.get_min().filter(|(at, _)| *at <= now);
            let Some(&(at, address)) = next else { break };
            self.declined_by_end.remove(&(at, address));
            self.declined.remove(&address);
            self.refresh_address(address);
        }
        if self.forget_dead_tokens() {
            effects.push(Change::ClusterChanged);
        }
    }
}
