//! The cluster itself: bootstrap, members, ownership, API users.

use super::apply::Effects;
use super::config::{check_name, limit};
use super::{Cluster, JoinToken, State};
use crate::change::Change;
use crate::command::{Bootstrap, Expect, Refusal, Reply};
use model::{ApiUser, Epoch, GroupId, Node, NodeId, NodeRole, UnixMs};
use std::sync::Arc;

/// Most members, witnesses and learners included.
const NODES_MAX: usize = 64;
const API_USERS_MAX: usize = 1024;
/// Octets of a user's hashes and keys.
const API_USER_OCTETS_MAX: usize = 4096;
/// Recovery codes of a user.
const RECOVERY_CODES_MAX: usize = 32;
/// Most join tokens that can be used at one time.
const JOIN_TOKENS_MAX: usize = 64;
/// Longest digest of a join token, in octets.
const TOKEN_HASH_MAX: usize = 64;

impl State {
    /// Makes the cluster, whole or not at all.
    pub(super) fn bootstrap(
        &mut self,
        bootstrap: &Bootstrap,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        if self.cluster.is_some() {
            return Err(Refusal::AlreadyBootstrapped);
        }
        check_name(&bootstrap.cluster_id.0, "the cluster id")?;
        if bootstrap.jwt_secret.expose().is_empty() {
            return Err(Refusal::Invalid("the token secret is empty".to_owned()));
        }
        if bootstrap.level == 0 {
            return Err(Refusal::Invalid("a cluster begins at level 1 or above".to_owned()));
        }
        if bootstrap.nodes.is_empty() {
            return Err(Refusal::Invalid("a cluster needs a node".to_owned()));
        }
        let mut trial = self.clone();
        let mut done = Effects::new(effects.revision);
        trial.cluster = Some(Arc::new(Cluster {
            id: bootstrap.cluster_id.clone(),
            jwt_secret: bootstrap.jwt_secret.clone(),
            cookie_key: bootstrap.cookie_key,
        }));
        trial.level = trial.level.max(bootstrap.level);
        done.push(Change::ClusterChanged);
        bootstrap.nodes.iter().try_for_each(|node| trial.put_node(node, &mut done))?;
        bootstrap.groups.iter().try_for_each(|group| trial.put_group(group, &mut done))?;
        bootstrap.pools.iter().try_for_each(|pool| trial.put_pool(pool, &mut done))?;
        bootstrap.subscribers.iter().try_for_each(|s| trial.put_subscriber(s, &mut done))?;
        bootstrap.api_users.iter().try_for_each(|user| trial.put_api_user(user, &mut done))?;
        *self = trial;
        *effects = done;
        Ok(Reply::Done)
    }

    pub(super) fn put_node(&mut self, node: &Node, effects: &mut Effects) -> Result<(), Refusal> {
        check_name(&node.name, "the node's name")?;
        if node.id == NodeId(0) || self.retired.contains(&node.id) {
            return Err(Refusal::Invalid(format!("node id {} cannot be used", node.id)));
        }
        let known = self.nodes.contains_key(&node.id);
        limit(self.nodes.len(), known, NODES_MAX, "nodes")?;
        self.check_not_banned(node)?;
        if node.role == NodeRole::Witness {
            self.owns_nothing(node.id)?;
        }
        self.nodes.insert(node.id, Arc::new(node.clone()));
        effects.push(Change::NodeChanged(node.id));
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId, effects: &mut Effects) -> Result<(), Refusal> {
        if !self.nodes.contains_key(&id) {
            return Err(Refusal::UnknownNode);
        }
        self.owns_nothing(id)?;
        self.nodes.remove(&id);
        self.retired.insert(id);
        effects.push(Change::NodeChanged(id));
        Ok(())
    }

    /// Refuses when the node owns a group: its session changes would still be taken, or nobody
    /// would serve the group.
    fn owns_nothing(&self, id: NodeId) -> Result<(), Refusal> {
        match self.groups.values().find(|group| group.owner == Some(id)) {
            None => Ok(()),
            Some(group) => Err(Refusal::InUse(format!("node {id} owns group {:?}", group.name))),
        }
    }

    pub(super) fn acquire(
        &mut self,
        id: GroupId,
        owner: NodeId,
        epoch: Epoch,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let group = self.groups.get_mut(&id).ok_or(Refusal::UnknownGroup)?;
        let node = self.nodes.get(&owner).ok_or(Refusal::UnknownNode)?;
        if node.role != NodeRole::Data {
            return Err(Refusal::NotADataNode);
        }
        if epoch <= group.epoch {
            return Err(Refusal::StaleEpoch { current: group.epoch });
        }
        let previous = group.owner.replace(owner);
        group.epoch = epoch;
        effects.push(Change::OwnerChanged { group: id, owner, epoch, previous });
        Ok(Reply::Acquired { group: id, owner, epoch, previous })
    }

    pub(super) fn put_join_token(
        &mut self,
        hash: &[u8],
        role: NodeRole,
        expires_at: UnixMs,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if hash.is_empty() || hash.len() > TOKEN_HASH_MAX {
            let why = format!("a token digest has 1 to {TOKEN_HASH_MAX} octets");
            return Err(Refusal::Invalid(why));
        }
        if expires_at <= self.time {
            return Err(Refusal::Invalid("the token has expired already".to_owned()));
        }
        let live = self.join_tokens.values().filter(|token| token.expires_at > self.time).count();
        limit(live, self.join_tokens.contains_key(hash), JOIN_TOKENS_MAX, "join tokens")?;
        self.forget_dead_tokens();
        self.join_tokens.insert(hash.to_vec(), JoinToken { role, expires_at });
        effects.push(Change::ClusterChanged);
        Ok(())
    }

    /// Drops tokens whose time has passed; says whether there were any.
    pub(super) fn forget_dead_tokens(&mut self) -> bool {
        let now = self.time;
        let dead =
            |(hash, token): (&Vec<u8>, &JoinToken)| (token.expires_at <= now).then(|| hash.clone());
        let dead: Vec<_> = self.join_tokens.iter().filter_map(dead).collect();
        for hash in &dead {
            self.join_tokens.remove(hash);
        }
        !dead.is_empty()
    }

    pub(super) fn use_join_token(
        &mut self,
        hash: &[u8],
        node: &Node,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        let token = self.join_tokens.get(hash).ok_or(Refusal::InvalidToken)?;
        if token.expires_at <= self.time || token.role != node.role {
            return Err(Refusal::InvalidToken);
        }
        // The index of a committed entry is given once for ever. Ids that operators chose may stand
        // in its way.
        let id = NodeId(effects.revision.0);
        if self.nodes.contains_key(&id) {
            return Err(Refusal::Invalid(format!("node id {id} is taken, try again")));
        }
        self.put_node(&Node { id, ..node.clone() }, effects)?;
        self.join_tokens.remove(hash);
        effects.push(Change::ClusterChanged);
        Ok(Reply::NodeId(id))
    }

    /// Never lowers the level. A level above [`crate::LEVEL_SUPPORTED`] is taken like any other, since
    /// builds that know it do so too; this build's node then stops.
    pub(super) fn raise_level(&mut self, level: u32, effects: &mut Effects) {
        if level > self.level {
            self.level = level;
            effects.push(Change::ClusterChanged);
        }
    }

    pub(super) fn put_api_user(
        &mut self,
        user: &ApiUser,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        check_name(&user.username, "the user name")?;
        let known = self.api_users.contains_key(&user.username);
        limit(self.api_users.len(), known, API_USERS_MAX, "API users")?;
        if !administers(user) {
            self.keep_an_admin(&user.username)?;
        }
        self.api_users.insert(user.username.clone(), Arc::new(user.clone()));
        effects.push(Change::ApiUserChanged(user.username.clone()));
        Ok(())
    }

    /// Adds, changes or removes a user, when it is as the proposer believes.
    pub(super) fn change_api_user(
        &mut self,
        username: &str,
        user: Option<&ApiUser>,
        expect: Expect,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let known = self.api_user(username);
        let revision = known.map(|known| known.modified);
        let met = match expect {
            Expect::Any => true,
            Expect::Absent => revision.is_none(),
            Expect::Present if revision.is_none() => return Err(Refusal::UnknownApiUser),
            Expect::Present => true,
            Expect::Revision(wanted) => revision == Some(wanted),
        };
        if !met {
            return Err(Refusal::ApiUserConflict { revision });
        }
        let Some(user) = user else { return self.remove_api_user(username, effects) };
        if user.username != username {
            return Err(Refusal::Invalid("an API user keeps its name".to_owned()));
        }
        check_api_user(user)?;
        let created_at = known.map_or(self.time, |known| known.created_at);
        let user = ApiUser { created_at, modified: effects.revision, ..user.clone() };
        self.put_api_user(&user, effects)
    }

    pub(super) fn remove_api_user(
        &mut self,
        username: &str,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if !self.api_users.contains_key(username) {
            return Err(Refusal::UnknownApiUser);
        }
        self.keep_an_admin(username)?;
        self.api_users.remove(username);
        effects.push(Change::ApiUserChanged(username.to_owned()));
        Ok(())
    }

    /// Refuses when nobody could administer the cluster without this user.
    fn keep_an_admin(&self, username: &str) -> Result<(), Refusal> {
        let was_admin = self.api_user(username).is_some_and(administers);
        let others = self.api_users().any(|user| user.username != username && administers(user));
        if was_admin && !others {
            return Err(Refusal::Invalid("the last administrator stays".to_owned()));
        }
        Ok(())
    }
}

fn administers(user: &ApiUser) -> bool {
    user.role.is_admin() && user.enabled
}

/// Bounds what a user may hold.
fn check_api_user(user: &ApiUser) -> Result<(), Refusal> {
    check_name(user.role.as_str(), "the role")?;
    let totp = user.totp.iter();
    let octets = totp.clone().map(|totp| totp.secret.expose().len()).sum::<usize>()
        + totp.clone().flat_map(|t| &t.recovery).map(|code| code.expose().len()).sum::<usize>()
        + user.password_hash.expose().len();
    let codes = totp.map(|totp| totp.recovery.len()).sum::<usize>();
    if octets > API_USER_OCTETS_MAX || codes > RECOVERY_CODES_MAX {
        return Err(Refusal::Invalid("the API user is too large".to_owned()));
    }
    Ok(())
}
