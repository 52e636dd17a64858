//! One entry at a time: same entries in, same state, replies and changes out, on every node and in
//! every build.

use super::State;
use super::clients::Known;
use crate::change::Change;
use crate::command::{Command, Entry, Refusal, Reply};
use model::{GroupId, Revision};
use std::collections::BTreeSet;

/// What one entry has done so far.
pub(super) struct Effects {
    pub(super) revision: Revision,
    pub(super) changes: Vec<Change>,
    /// Groups of which a session or setting changed.
    touched: BTreeSet<GroupId>,
}

impl Effects {
    pub(super) fn new(revision: Revision) -> Self {
        Self { revision, changes: Vec::new(), touched: BTreeSet::new() }
    }

    /// Adds what a part of the entry did, which was tried apart.
    pub(super) fn join(&mut self, part: Self) {
        self.changes.extend(part.changes);
        self.touched.extend(part.touched);
    }

    pub(super) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Notes that the data plane of a group has something to do.
    pub(super) fn touch(&mut self, group: GroupId) {
        self.touched.insert(group);
    }
}

impl State {
    /// Applies one entry. Total: a command that cannot be carried out changes nothing and is
    /// answered with a refusal.
    pub fn apply(&mut self, revision: Revision, entry: &Entry) -> (Reply, Vec<Change>) {
        self.advance(revision);
        // A new leader's clock may lag; ours never steps back.
        self.time = self.time.max(entry.at);
        if let Some((client, sequence)) = entry.client {
            match self.clients.look_up(client, sequence) {
                Known::New => {}
                Known::Reply(reply) => return ((*reply).clone(), Vec::new()),
                Known::TooOld => return (Reply::Refused(Refusal::SequenceTooOld), Vec::new()),
            }
        }
        let mut effects = Effects::new(revision);
        let reply = self.run(&entry.command, &mut effects).unwrap_or_else(Reply::Refused);
        for id in effects.touched {
            if let Some(group) = self.groups.get_mut(&id) {
                group.revision = revision;
            }
        }
        if let Some((client, sequence)) = entry.client {
            self.clients.remember(client, sequence, revision, reply.clone());
        }
        (reply, effects.changes)
    }

    /// Notes an entry that holds no command: a leader's blank one, or a change of membership.
    pub fn advance(&mut self, revision: Revision) {
        self.applied = self.applied.max(revision);
    }

    /// Carries out a command. Whatever refuses does so before it changes anything.
    pub(super) fn run(
        &mut self,
        command: &Command,
        effects: &mut Effects,
    ) -> Result<Reply, Refusal> {
        if let Command::Bootstrap(bootstrap) = command {
            return self.bootstrap(bootstrap, effects);
        }
        if self.cluster.is_none() {
            return Err(Refusal::NotBootstrapped);
        }
        if command.level() > self.level {
            return Err(Refusal::LevelTooLow);
        }
        match command {
            Command::Bootstrap(_) => return Err(Refusal::AlreadyBootstrapped),
            Command::PutNode(node) => self.put_node(node, effects)?,
            Command::RemoveNode(id) => self.remove_node(*id, effects)?,
            Command::PutGroup(group) => self.put_group(group, effects)?,
            Command::RemoveGroup(id) => self.remove_group(*id, effects)?,
            Command::PutPool(pool) => self.put_pool(pool, effects)?,
            Command::RemovePool(name) => self.remove_pool(name, effects)?,
            Command::PutSubscriber(subscriber) => self.put_subscriber(subscriber, effects)?,
            Command::RemoveSubscriber(username) => self.remove_subscriber(username, effects)?,
            Command::PutApiUser(user) => self.put_api_user(user, effects)?,
            Command::RemoveApiUser(username) => self.remove_api_user(username, effects)?,
            Command::ChangeApiUser { username, user, expect } => {
                self.change_api_user(username, user.as_deref(), *expect, effects)?;
            }
            Command::Acquire { group, node, epoch } => {
                return self.acquire(*group, *node, *epoch, effects);
            }
            Command::Sessions(batch) => return self.session_batch(batch, effects),
            Command::SetRate { session, rate } => self.set_rate(*session, *rate, effects)?,
            Command::Disconnect { session, reason } => {
                self.disconnect(*session, *reason, effects)?;
            }
            Command::Expire => self.expire(effects),
            Command::PutJoinToken { hash, role, expires_at } => {
                self.put_join_token(hash, *role, *expires_at, effects)?;
            }
            Command::UseJoinToken { hash, node } => {
                return self.use_join_token(hash, node, effects);
            }
            Command::RaiseLevel { level } => self.raise_level(*level, effects),
            Command::Documents(batch) => return self.document_batch(batch, effects),
            Command::PutStatic(put) => return self.put_static(put, effects),
            Command::RemoveStatic(address) => self.remove_static(*address, effects)?,
            Command::EditStatic { address, edit } => {
                return self.edit_static(*address, *edit, effects);
            }
            Command::PutBan { network, scope } => self.put_ban(*network, *scope, effects)?,
            Command::RemoveBan { network, scope } => self.remove_ban(*network, *scope, effects)?,
        }
        Ok(Reply::Done)
    }
}
