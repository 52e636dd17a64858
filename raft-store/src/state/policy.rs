//! Static subscribers and bans.
//!
//! A static subscriber is a session that an operator made instead of a protocol. It lives in a network of
//! the group's IPoE pools, inside the range (then nobody gets the address by lease) or outside. Where it is
//! attached, the owner learns from its frames.

use super::State;
use super::apply::Effects;
use super::config::{invalid, limit};
use super::session::{Draft, first_id};
use crate::change::Change;
use crate::command::{OpReply, PutStatic, Refusal, Reply, StaticEdit};
use model::{
    Attachment, BanScope, GroupId, GroupService, Ipv4Net, MacAddr, Node, Pool, Session,
    SessionKind, StaticSession, Vlans,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Most bans; the size of the kernel's table.
const BANS_MAX: usize = 16_384;
/// Highest VLAN identifier; 4095 is reserved. IEEE 802.1Q §9.6.
const VID_MAX: u16 = 4094;

fn check_mac(mac: MacAddr) -> Result<(), Refusal> {
    if mac.is_multicast() || mac == Attachment::UNKNOWN.mac {
        return invalid(format!("{mac} is not the address of a station"));
    }
    Ok(())
}

fn check_vlans(vlans: Vlans) -> Result<(), Refusal> {
    if vlans.outer.max(vlans.inner) > VID_MAX || (vlans.outer == 0 && vlans.inner != 0) {
        return invalid(format!("{vlans} are not VLAN identifiers of a frame"));
    }
    Ok(())
}

fn check_fixed(fixed: &StaticSession) -> Result<(), Refusal> {
    fixed.mac.map_or(Ok(()), check_mac)?;
    fixed.line.map_or(Ok(()), |line| check_vlans(line.vlans))
}

/// Where a subscriber is from now on: where it was just heard, else where it was, else where it must be.
fn place(fixed: &StaticSession, seen: Option<Attachment>, was: Attachment) -> Attachment {
    let fits = |place: &Attachment| place.is_known() && fixed.admits(place);
    seen.filter(fits).or(Some(was).filter(fits)).unwrap_or_else(|| fixed.home())
}

impl State {
    fn known_static(&self, address: Ipv4Addr) -> Result<(Arc<Session>, StaticSession), Refusal> {
        let session = self.static_by_address(address).ok_or(Refusal::UnknownStatic)?;
        match session.kind {
            SessionKind::Static(fixed) => Ok((Arc::clone(session), fixed)),
            SessionKind::Pppoe(_) | SessionKind::Dhcp(_) => Err(Refusal::UnknownStatic),
        }
    }

    pub(super) fn put_static(
        &mut self,
        put: &PutStatic,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        check_fixed(&put.fixed)?;
        if let Some(seen) = put.seen {
            check_mac(seen.mac)?;
            check_vlans(seen.vlans)?;
        }
        if !self.groups.contains_key(&put.group) {
            return Err(Refusal::UnknownGroup);
        }
        if let Ok((old, _)) = self.known_static(put.address) {
            if old.group != put.group {
                return invalid(format!("{} belongs to group {}", put.address, old.group));
            }
            let mut new = Session::clone(&old);
            new.kind = SessionKind::Static(put.fixed);
            new.rate = put.rate.unwrap_or(old.rate);
            new.attachment = place(&put.fixed, put.seen, old.attachment);
            return Ok(Reply::Sessions(vec![self.change_static(&old, new, effects)]));
        }
        let draft = Draft {
            group: put.group,
            attachment: &place(&put.fixed, put.seen, Attachment::UNKNOWN),
            kind: SessionKind::Static(put.fixed),
            username: &put.address.to_string(),
            rate: put.rate,
            address: Some(put.address),
            pool: None,
            giving_way: &[],
            heir_of: None,
        };
        let id = first_id(effects.revision);
        Ok(Reply::Sessions(vec![self.bring_up(id, draft, effects)?]))
    }

    pub(super) fn edit_static(
        &mut self,
        address: Ipv4Addr,
        edit: StaticEdit,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let (old, mut fixed) = self.known_static(address)?;
        let mut new = Session::clone(&old);
        match edit {
            StaticEdit::Allow(allowed) => fixed.allowed = allowed,
            StaticEdit::Rate(rate) => new.rate = rate,
            StaticEdit::Bind(mac) => {
                check_mac(mac)?;
                fixed.mac = Some(mac);
            }
            StaticEdit::Unbind => fixed.mac = None,
        }
        new.kind = SessionKind::Static(fixed);
        new.attachment = place(&fixed, None, old.attachment);
        Ok(Reply::Sessions(vec![self.change_static(&old, new, effects)]))
    }

    /// Puts the new version in place; one that says the same changes nothing, so a repetition costs the
    /// standby nothing.
    fn change_static(
        &mut self,
        old: &Arc<Session>,
        new: Session,
        effects: &mut Effects,
    ) -> OpReply {
        if **old == new {
            return OpReply::Session(Arc::clone(old));
        }
        self.change(old, effects, |session| *session = new)
    }

    pub(super) fn remove_static(
        &mut self,
        address: Ipv4Addr,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let (session, _) = self.known_static(address)?;
        self.take_down(session.id, model::DownReason::AdminReset, effects);
        Ok(())
    }

    /// Notes where a static subscriber was heard.
    pub(super) fn static_seen(
        &mut self,
        group: GroupId,
        address: Ipv4Addr,
        attachment: Attachment,
        effects: &mut Effects,
    ) -> Result<OpReply, Refusal> {
        let (old, fixed) = self.known_static(address)?;
        if old.group != group {
            return Err(Refusal::UnknownStatic);
        }
        check_mac(attachment.mac)?;
        check_vlans(attachment.vlans)?;
        if !fixed.admits(&attachment) {
            return Err(Refusal::BoundElsewhere);
        }
        let new = Session { attachment, ..Session::clone(&old) };
        Ok(self.change_static(&old, new, effects))
    }

    /// Forgets where a static subscriber was heard: what it is, only an operator ends.
    pub(super) fn forget_place(&mut self, old: &Arc<Session>, effects: &mut Effects) {
        if let SessionKind::Static(fixed) = old.kind {
            let new = Session { attachment: fixed.home(), ..Session::clone(old) };
            self.change_static(old, new, effects);
        }
    }

    /// The IPoE pool in whose network an address is a subscriber's: the one that it would be static in.
    #[must_use]
    pub fn ipoe_pool_of(&self, address: Ipv4Addr) -> Option<&Pool> {
        if self.gateways.contains_key(&address) {
            return None;
        }
        let is_ipoe = |pool: &&super::PoolState| pool.pool.service == GroupService::Dhcp;
        let found = match self.pool_around(address) {
            Some(pool) => Some(pool).filter(is_ipoe),
            None => self.pools.values().filter(is_ipoe).find(|pool| pool.admits(address)),
        };
        found.map(|pool| &*pool.pool)
    }

    pub(super) fn put_ban(
        &mut self,
        network: Ipv4Net,
        scope: BanScope,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let key = (network, scope);
        if self.bans.contains_key(&key) {
            return Ok(());
        }
        limit(self.bans.len(), false, BANS_MAX, "bans")?;
        for node in self.nodes.values() {
            not_cut_off(node, network, scope)?;
        }
        self.bans.insert(key, self.time);
        self.bans_changed(network, effects);
        Ok(())
    }

    pub(super) fn remove_ban(
        &mut self,
        network: Ipv4Net,
        scope: BanScope,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        self.bans.remove(&(network, scope)).ok_or(Refusal::UnknownBan)?;
        self.bans_changed(network, effects);
        Ok(())
    }

    /// Every group waits for it: no node takes one over before its kernel has the same bans.
    fn bans_changed(&self, network: Ipv4Net, effects: &mut Effects) {
        for id in self.groups.keys() {
            effects.touch(*id);
        }
        effects.push(Change::BanChanged(network));
    }

    /// Refuses a member that a ban would cut off.
    pub(super) fn check_not_banned(&self, node: &Node) -> Result<(), Refusal> {
        self.bans.keys().try_for_each(|(network, scope)| not_cut_off(node, *network, *scope))
    }
}

/// Refuses a ban of a member's own address. The cluster may talk over a core port, and a cluster that
/// has lost its majority cannot lift the ban.
fn not_cut_off(node: &Node, network: Ipv4Net, scope: BanScope) -> Result<(), Refusal> {
    let own = [node.raft_addr, node.lease_addr, node.api_addr].map(|addr: SocketAddr| addr.ip());
    let banned = own.into_iter().find(|ip| match ip {
        IpAddr::V4(ip) => network.contains(*ip),
        IpAddr::V6(_) => false,
    });
    match (scope, banned) {
        (BanScope::All, Some(ip)) => {
            invalid(format!("a ban of {network} cuts off member {:?} at {ip}", node.name))
        }
        (BanScope::All | BanScope::Icmp, _) => Ok(()),
    }
}
