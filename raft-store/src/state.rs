//! The replicated state: everything the cluster agrees on, with its indexes.
//!
//! All maps are persistent, so a clone costs nothing and a snapshot never blocks `apply`.

mod apply;
mod clients;
mod config;
mod documents;
mod members;
mod nat;
mod place;
mod policy;
mod pool;
mod ranges;
mod read;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;

use clients::Clients;
use documents::Documents;
use imbl::{OrdMap, OrdSet};
use model::{
    ApiUser, Attachment, BanScope, ClusterId, Epoch, Group, GroupId, GroupService, Ipv4Net, Node,
    NodeId, NodeRole, PortId, Revision, Secret, Session, SessionId, SessionKind, Subscriber,
    UnixMs, Vlans,
};
use nat::NatSpace;
use pool::PoolState;
use ranges::RangeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

pub use documents::Document;
pub use nat::NatUsage;
pub use pool::PoolUsage;
pub use snapshot::{Section, SnapshotError};

/// The highest PPPoE SESSION_ID: 0 and 0xffff are reserved. RFC 2516 §4.
pub const SID_MAX: u16 = 0xfffe;

/// A token that lets one node join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// What the joining node will be.
    pub role: NodeRole,
    /// After this the token is worth nothing.
    pub expires_at: UnixMs,
}

/// What bootstrap fixed for ever.
#[derive(Clone)]
struct Cluster {
    id: ClusterId,
    jwt_secret: Secret,
    cookie_key: [u8; 32],
}

/// What makes two DHCP requests come from one client: its identifier, else its MAC, on one access
/// line.
///
/// The VLANs are part of it, because subscribers behind different lines may have equal identifiers,
/// and must not be able to take each other's lease by forging one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ClientKey {
    group: GroupId,
    port: PortId,
    vlans: Vlans,
    identity: Identity,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Mac([u8; 6]),
    ClientId(Vec<u8>),
}

impl ClientKey {
    /// RFC 2131 §4.2: the client identifier if there is one, else the hardware address.
    fn new(group: GroupId, client_id: &[u8], attachment: &Attachment) -> Self {
        let identity = if client_id.is_empty() {
            Identity::Mac(attachment.mac.0)
        } else {
            Identity::ClientId(client_id.to_vec())
        };
        Self { group, port: attachment.port, vlans: attachment.vlans, identity }
    }
}

/// The replicated state machine. A clone is cheap and independent.
#[derive(Clone, Default)]
pub struct State {
    applied: Revision,
    time: UnixMs,
    level: u32,
    cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    /// Ids of removed nodes, which never come back.
    retired: OrdSet<NodeId>,
    join_tokens: OrdMap<Vec<u8>, JoinToken>,
    groups: OrdMap<GroupId, Group>,
    /// Epochs of groups that were removed: an epoch only grows, also when the group comes back.
    removed_groups: OrdMap<GroupId, Epoch>,
    subscribers: OrdMap<String, Arc<Subscriber>>,
    api_users: OrdMap<String, Arc<ApiUser>>,
    clients: Clients,
    documents: Documents,

    pools: OrdMap<String, PoolState>,
    pools_by_use: OrdSet<(GroupId, GroupService, String)>,
    /// First address of a pool's range to its name. Ranges do not overlap.
    pools_by_first: OrdMap<Ipv4Addr, String>,
    /// How many pools have this gateway.
    gateways: OrdMap<Ipv4Addr, u64>,
    /// Fixed addresses of subscribers, which nobody else gets.
    reserved: OrdMap<Ipv4Addr, String>,
    /// Addresses that rest after a decline, with the end of the rest.
    declined: OrdMap<Ipv4Addr, UnixMs>,
    declined_by_end: OrdSet<(UnixMs, Ipv4Addr)>,
    /// First public address to its port blocks. Public ranges are equal or do not overlap.
    nat: OrdMap<Ipv4Addr, NatSpace>,
    /// PPPoE session ids that are free, of each group.
    free_sids: OrdMap<GroupId, RangeSet>,

    sessions: OrdMap<SessionId, Arc<Session>>,
    by_group: OrdSet<(GroupId, SessionId)>,
    by_address: OrdMap<Ipv4Addr, SessionId>,
    by_sid: OrdMap<(GroupId, u16), SessionId>,
    by_attachment: OrdSet<(GroupId, Attachment, SessionId)>,
    by_client: OrdMap<ClientKey, SessionId>,
    by_nat: OrdMap<(Ipv4Addr, u16), SessionId>,
    /// DHCP sessions by the end of their lease.
    by_end: OrdSet<(UnixMs, SessionId)>,
    /// Static subscribers.
    statics: OrdMap<Ipv4Addr, SessionId>,
    /// Bans, with when they were made.
    bans: OrdMap<(Ipv4Net, BanScope), UnixMs>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("applied", &self.applied)
            .field("time", &self.time)
            .field("level", &self.level)
            .field("groups", &self.groups.len())
            .field("pools", &self.pools.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The pool whose range holds the address.
    fn pool_around(&self, address: Ipv4Addr) -> Option<&PoolState> {
        let (_, name) = self.pools_by_first.get_prev(&address)?;
        self.pools.get(name).filter(|pool| pool.pool.range.contains(address))
    }

    /// Whether nothing keeps the address from being handed out to anybody.
    fn is_available(&self, address: Ipv4Addr) -> bool {
        !self.by_address.contains_key(&address)
            && !self.reserved.contains_key(&address)
            && !self.declined.contains_key(&address)
            && !self.gateways.contains_key(&address)
    }

    /// Moves the address into or out of its pool's free set, after anything that may have changed
    /// its availability.
    fn refresh_address(&mut self, address: Ipv4Addr) {
        let available = self.is_available(address);
        let revision = self.applied;
        let Some((_, name)) = self.pools_by_first.get_prev(&address) else { return };
        let Some(pool) = self.pools.get_mut(name) else { return };
        if !pool.pool.range.contains(address) || pool.is_free(address) == available {
            return;
        }
        if available {
            pool.release(address, revision);
        } else {
            pool.take(address);
        }
    }

    /// Enters a session into every index. The caller has made sure that nothing of it is taken.
    fn attach(&mut self, session: Arc<Session>) {
        let Session { id, group, attachment, address, nat, .. } = *session;
        self.by_group.insert((group, id));
        self.by_address.insert(address, id);
        self.by_attachment.insert((group, attachment, id));
        match &session.kind {
            SessionKind::Pppoe(pppoe) => {
                self.by_sid.insert((group, pppoe.sid), id);
                if let Some(free) = self.free_sids.get_mut(&group) {
                    free.remove(pppoe.sid.into());
                }
            }
            SessionKind::Dhcp(dhcp) => {
                self.by_client.insert(ClientKey::new(group, &dhcp.client_id, &attachment), id);
                self.by_end.insert((dhcp.expires_at, id));
            }
            SessionKind::Static(_) => {
                self.statics.insert(address, id);
            }
        }
        if let Some(block) = nat {
            self.by_nat.insert((block.public, block.first_port), id);
        }
        if let Some(pool) = self.pools.get_mut(&session.pool) {
            pool.sessions += 1;
        }
        self.sessions.insert(id, session);
        self.refresh_address(address);
    }

    /// Takes a session out of every index and frees what it held.
    fn detach(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.sessions.remove(&id)?;
        let Session { group, attachment, address, nat, .. } = *session;
        self.by_group.remove(&(group, id));
        self.by_address.remove(&address);
        self.by_attachment.remove(&(group, attachment, id));
        match &session.kind {
            SessionKind::Pppoe(pppoe) => {
                self.by_sid.remove(&(group, pppoe.sid));
                if let Some(free) = self.free_sids.get_mut(&group) {
                    free.insert(pppoe.sid.into());
                }
            }
            SessionKind::Dhcp(dhcp) => {
                self.by_client.remove(&ClientKey::new(group, &dhcp.client_id, &attachment));
                self.by_end.remove(&(dhcp.expires_at, id));
            }
            SessionKind::Static(_) => {
                self.statics.remove(&address);
            }
        }
        if let Some(block) = nat {
            self.by_nat.remove(&(block.public, block.first_port));
            if let Some(space) = self.nat_space_mut(&session.pool) {
                space.release(block);
            }
        }
        if let Some(pool) = self.pools.get_mut(&session.pool) {
            pool.sessions -= 1;
        }
        self.refresh_address(address);
        Some(session)
    }

    /// Puts a session's new version in place of the old; what the indexes hold of it, but for the
    /// lease's end and a static subscriber's place, is the same.
    fn replace(&mut self, session: Arc<Session>) {
        let Session { id, group, attachment, .. } = *session;
        let end = |session: &Session| match &session.kind {
            SessionKind::Pppoe(_) | SessionKind::Static(_) => None,
            SessionKind::Dhcp(dhcp) => Some(dhcp.expires_at),
        };
        let new_end = end(&session);
        let Some(old) = self.sessions.insert(id, session) else { return };
        let old_end = end(&old);
        if old_end != new_end {
            old_end.map(|at| self.by_end.remove(&(at, id)));
            new_end.map(|at| self.by_end.insert((at, id)));
        }
        if old.attachment != attachment {
            self.by_attachment.remove(&(group, old.attachment, id));
            self.by_attachment.insert((group, attachment, id));
        }
    }

    /// The port blocks that a pool draws from.
    fn nat_space(&self, pool: &str) -> Option<&NatSpace> {
        let nat = self.pools.get(pool)?.pool.nat.as_ref()?;
        self.nat.get(&nat.public.first)
    }

    fn nat_space_mut(&mut self, pool: &str) -> Option<&mut NatSpace> {
        let first = self.pools.get(pool)?.pool.nat.as_ref()?.public.first;
        self.nat.get_mut(&first)
    }
}
