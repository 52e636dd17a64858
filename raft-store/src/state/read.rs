//! What others may ask of the state.

use super::{ClientKey, Cluster, JoinToken, NatUsage, PoolUsage, SID_MAX, State};
use model::{
    ApiUser, Attachment, Ban, ClusterId, Group, GroupId, GroupService, Node, NodeId, Pool,
    Revision, Secret, Session, SessionId, Subscriber, UnixMs,
};
use std::net::Ipv4Addr;
use std::sync::Arc;

impl State {
    /// Index of the last entry.
    #[must_use]
    pub fn applied(&self) -> Revision {
        self.applied
    }

    /// The cluster's time, as of the last entry.
    #[must_use]
    pub fn time(&self) -> UnixMs {
        self.time
    }

    /// The cluster's name; `None` before bootstrap.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster().map(|cluster| &cluster.id)
    }

    /// The level of commands that every member can decode; 0 before bootstrap.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level
    }

    /// What signs API tokens; `None` before bootstrap.
    #[must_use]
    pub fn jwt_secret(&self) -> Option<&Secret> {
        self.cluster().map(|cluster| &cluster.jwt_secret)
    }

    /// What signs AC-Cookies; `None` before bootstrap.
    #[must_use]
    pub fn cookie_key(&self) -> Option<&[u8; 32]> {
        self.cluster().map(|cluster| &cluster.cookie_key)
    }

    fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The members, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> + '_ {
        self.nodes.values().map(|node| &**node)
    }

    /// A member.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// The groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> + '_ {
        self.groups.values()
    }

    /// A group.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    /// The group of that name.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<&Group> {
        self.groups.values().find(|group| group.name == name)
    }

    /// The pools, by name.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> + '_ {
        self.pools.values().map(|pool| &*pool.pool)
    }

    /// A pool.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name).map(|pool| &*pool.pool)
    }

    /// The pools that a group uses for a service, by name: the order in which `apply` tries them.
    pub fn pools_of(
        &self,
        group: GroupId,
        service: GroupService,
    ) -> impl Iterator<Item = &Pool> + '_ {
        self.pool_states_of(group, service).map(|pool| &*pool.pool)
    }

    /// How full a pool is.
    #[must_use]
    pub fn pool_usage(&self, name: &str) -> Option<PoolUsage> {
        self.pools.get(name).map(super::pool::PoolState::usage)
    }

    /// How full the public addresses of a pool are; `None` for a pool without NAT.
    #[must_use]
    pub fn nat_usage(&self, pool: &str) -> Option<NatUsage> {
        self.nat_space(pool).map(super::nat::NatSpace::usage)
    }

    /// All sessions, by id and so by age.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = &Arc<Session>> + '_ {
        self.sessions.values()
    }

    /// A group's sessions, by age.
    pub fn sessions_of(&self, group: GroupId) -> impl Iterator<Item = &Arc<Session>> + '_ {
        let all = (group, SessionId(0))..=(group, SessionId(u64::MAX));
        self.by_group.range(all).filter_map(|(_, id)| self.sessions.get(id))
    }

    /// A session.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<&Arc<Session>> {
        self.sessions.get(&id)
    }

    /// The holder of an address.
    #[must_use]
    pub fn session_by_address(&self, address: Ipv4Addr) -> Option<&Arc<Session>> {
        self.session(*self.by_address.get(&address)?)
    }

    /// The holder of a PPPoE SESSION_ID.
    #[must_use]
    pub fn session_by_pppoe(&self, group: GroupId, sid: u16) -> Option<&Arc<Session>> {
        self.session(*self.by_sid.get(&(group, sid))?)
    }

    /// The sessions at one place of the access network, by age. At most one of them has a lease.
    pub fn sessions_by_attachment(
        &self,
        group: GroupId,
        attachment: &Attachment,
    ) -> impl Iterator<Item = &Arc<Session>> + '_ {
        let all = (group, *attachment, SessionId(0))..=(group, *attachment, SessionId(u64::MAX));
        self.by_attachment.range(all).filter_map(|(_, _, id)| self.sessions.get(id))
    }

    /// The lease of a DHCP client: by its identifier, or by its MAC when that is empty, on its port
    /// and VLANs.
    #[must_use]
    pub fn lease_by_client(
        &self,
        group: GroupId,
        client_id: &[u8],
        attachment: &Attachment,
    ) -> Option<&Arc<Session>> {
        self.session(*self.by_client.get(&ClientKey::new(group, client_id, attachment))?)
    }

    /// Who has this public address and port.
    #[must_use]
    pub fn session_by_nat(&self, public: Ipv4Addr, port: u16) -> Option<&Arc<Session>> {
        let (_, id) = self.by_nat.get_prev(&(public, port))?;
        self.session(*id).filter(|session| {
            session.nat.is_some_and(|block| block.public == public && port <= block.last_port)
        })
    }

    /// The static subscribers, by address.
    pub fn statics(&self) -> impl Iterator<Item = &Arc<Session>> + '_ {
        self.statics.values().filter_map(|id| self.sessions.get(id))
    }

    /// The static subscriber with that address.
    #[must_use]
    pub fn static_by_address(&self, address: Ipv4Addr) -> Option<&Arc<Session>> {
        self.session(*self.statics.get(&address)?)
    }

    /// The bans, by network.
    pub fn bans(&self) -> impl ExactSizeIterator<Item = Ban> + '_ {
        self.bans.iter().map(|(&(network, scope), &since)| Ban { network, scope, since })
    }

    /// A local user.
    #[must_use]
    pub fn subscriber(&self, username: &str) -> Option<&Subscriber> {
        self.subscribers.get(username).map(|subscriber| &**subscriber)
    }

    /// The local users, by name.
    pub fn subscribers(&self) -> impl ExactSizeIterator<Item = &Subscriber> + '_ {
        self.subscribers.values().map(|subscriber| &**subscriber)
    }

    /// The subscriber whose fixed address this is.
    #[must_use]
    pub fn reserved_for(&self, address: Ipv4Addr) -> Option<&str> {
        self.reserved.get(&address).map(String::as_str)
    }

    /// An API user.
    #[must_use]
    pub fn api_user(&self, username: &str) -> Option<&ApiUser> {
        self.api_users.get(username).map(|user| &**user)
    }

    /// The API users, by name.
    pub fn api_users(&self) -> impl ExactSizeIterator<Item = &ApiUser> + '_ {
        self.api_users.values().map(|user| &**user)
    }

    /// A join token by its digest, also when its time has passed.
    #[must_use]
    pub fn join_token(&self, hash: &[u8]) -> Option<JoinToken> {
        self.join_tokens.get(hash).copied()
    }

    /// When the next lease, rest of an address or join token ends: an `Expire` before it does
    /// nothing.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixMs> {
        let lease = self.by_end.get_min().map(|&(at, _)| at);
        let rest = self.declined_by_end.get_min().map(|&(at, _)| at);
        let token = self.join_tokens.values().map(|token| token.expires_at).min();
        lease.into_iter().chain(rest).chain(token).min()
    }

    /// A free address of the pool, to be offered: `wanted` when it is free, else the one that
    /// `apply` would choose.
    ///
    /// `skip` rules out addresses that were offered already; there are few of them. Nothing is
    /// promised: until the grant is applied, another may get the address.
    #[must_use]
    pub fn free_address(
        &self,
        pool: &str,
        wanted: Option<Ipv4Addr>,
        skip: &dyn Fn(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        let pool = self.pools.get(pool)?;
        wanted
            .filter(|&address| pool.is_free(address) && !skip(address))
            .or_else(|| pool.next_free(skip))
    }

    /// Whether a PPPoE SESSION_ID may be given to a new session.
    #[must_use]
    pub fn sid_free(&self, group: GroupId, sid: u16) -> bool {
        self.free_sids.get(&group).is_some_and(|free| free.contains(sid.into()))
    }

    /// The first free PPPoE SESSION_ID above `after`, starting again at 1 past the last.
    ///
    /// `skip` rules out those that were told to peers already; there are few of them.
    #[must_use]
    pub fn next_sid(&self, group: GroupId, after: u16, skip: &dyn Fn(u16) -> bool) -> Option<u16> {
        let free = self.free_sids.get(&group)?;
        let find = |from: u64, to: u64| {
            let mut at = free.at_or_above(from)?;
            while at <= to {
                let sid = u16::try_from(at).ok()?;
                if !skip(sid) {
                    return Some(sid);
                }
                at = free.at_or_above(at + 1)?;
            }
            None
        };
        find(u64::from(after) + 1, SID_MAX.into()).or_else(|| find(1, after.into()))
    }
}
