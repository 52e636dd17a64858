//! The state as records, and back.
//!
//! Only what cannot be derived is written. Indexes, free addresses, free session ids and free port
//! blocks are built anew, and a record that contradicts another is found in doing so.

use super::clients::Window;
use super::{Cluster, Document, JoinToken, State};
use crate::command::collection;
use crate::command::proto::{self, SnapshotMeta};
use crate::command::{CommandError, Reply};
use model::{
    ApiUser, Ban, ClusterId, Collection, Epoch, Group, GroupId, Node, NodeId, Pool, Revision,
    Secret, Session, SessionKind, Subscriber, UnixMs,
};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Records of one section, so that a section stays far below a mebibyte or two.
const RECORDS_PER_SECTION: usize = 1024;

const META: u32 = 1;
const NODES: u32 = 2;
const RETIRED_NODES: u32 = 3;
const JOIN_TOKENS: u32 = 4;
const GROUPS: u32 = 5;
const REMOVED_GROUPS: u32 = 6;
const SUBSCRIBERS: u32 = 7;
const API_USERS: u32 = 8;
const DECLINED: u32 = 9;
const POOLS: u32 = 10;
const SESSIONS: u32 = 11;
const CLIENTS: u32 = 12;
const DOCUMENTS: u32 = 13;
const BANS: u32 = 22;

/// A run of records of one kind. A kind may have several sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What the records are.
    pub kind: u32,
    /// Protobuf messages.
    pub records: Vec<Vec<u8>>,
}

/// Why sections are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by a newer build, or damaged.
    #[error("section kind {0} is unknown")]
    UnknownSection(u32),
    /// A record is not what its section says.
    #[error("a record of section kind {kind} cannot be read")]
    Record {
        /// The section.
        kind: u32,
        /// What is wrong with the record.
        source: CommandError,
    },
    /// There is no record of the state's own numbers, or there are two.
    #[error("the snapshot has {0} meta records, not one")]
    Meta(usize),
    /// Records contradict each other.
    #[error("the records contradict each other: {0}")]
    Contradiction(String),
}

impl SnapshotError {
    /// The stable name, as in counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnknownSection(_) => "unknown_section",
            Self::Record { .. } => "record",
            Self::Meta(_) => "meta",
            Self::Contradiction(_) => "contradiction",
        }
    }
}

/// Reads one record of a section.
fn read<M, T>(kind: u32, bytes: &[u8]) -> Result<T, SnapshotError>
where
    M: Message + Default,
    T: TryFrom<M>,
    CommandError: From<T::Error>,
{
    let message = read_message::<M>(kind, bytes)?;
    T::try_from(message).map_err(|e| SnapshotError::Record { kind, source: e.into() })
}

fn read_message<M: Message + Default>(kind: u32, bytes: &[u8]) -> Result<M, SnapshotError> {
    M::decode(bytes).map_err(|e| SnapshotError::Record { kind, source: e.into() })
}

fn contradiction<T>(what: impl Into<String>) -> Result<T, SnapshotError> {
    Err(SnapshotError::Contradiction(what.into()))
}

type Records<'a> = Box<dyn Iterator<Item = Vec<u8>> + 'a>;

/// The bytes of each item.
fn records<'a, T: 'a, M: Message>(
    items: impl Iterator<Item = T> + 'a,
    message: impl Fn(T) -> M + 'a,
) -> Records<'a> {
    Box::new(items.map(move |item| message(item).encode_to_vec()))
}

impl State {
    /// The state as sections, one at a time and in a fixed order.
    pub fn sections(&self) -> impl Iterator<Item = Section> + '_ {
        let mut kinds = [
            (META, records(std::iter::once(self), State::meta_message)),
            (NODES, records(self.nodes(), proto::Node::from)),
            (RETIRED_NODES, records(self.retired.iter(), |id| proto::RetiredNode { id: id.0 })),
            (JOIN_TOKENS, records(self.join_tokens.iter(), token_message)),
            (GROUPS, records(self.groups(), proto::Group::from)),
            (
                REMOVED_GROUPS,
                records(self.removed_groups.iter(), |(id, epoch)| proto::RemovedGroup {
                    id: id.0,
                    epoch: epoch.0,
                }),
            ),
            (SUBSCRIBERS, records(self.subscribers(), proto::Subscriber::from)),
            (API_USERS, records(self.api_users(), proto::ApiUser::from)),
            (DECLINED, records(self.declined.iter(), declined_message)),
            (POOLS, records(self.pools.values(), pool_message)),
            (SESSIONS, records(self.sessions(), |session| proto::Session::from(&**session))),
            (CLIENTS, records(self.clients.iter(), window_message)),
            (DOCUMENTS, records(self.documents.iter(), document_message)),
            (BANS, records(self.bans(), |ban| proto::SnapshotBan::from(&ban))),
        ]
        .into_iter()
        .peekable();
        std::iter::from_fn(move || {
            while let Some((kind, records)) = kinds.peek_mut() {
                let chunk: Vec<_> = records.by_ref().take(RECORDS_PER_SECTION).collect();
                if !chunk.is_empty() {
                    return Some(Section { kind: *kind, records: chunk });
                }
                kinds.next();
            }
            None
        })
    }

    /// All sections.
    #[must_use]
    pub fn write_sections(&self) -> Vec<Section> {
        self.sections().collect()
    }

    /// A digest of everything replicated: equal states have equal digests, on every node.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for section in self.sections() {
            for record in section.records {
                hash.update(section.kind.to_be_bytes());
                hash.update(u64::try_from(record.len()).unwrap_or(u64::MAX).to_be_bytes());
                hash.update(record);
            }
        }
        hash.finalize().into()
    }

    /// Builds the state that [`State::sections`] described. The order of the sections does not
    /// matter.
    ///
    /// # Errors
    /// [`SnapshotError`] when a section is unknown, a record damaged, or records contradict each
    /// other.
    pub fn from_sections(
        sections: impl IntoIterator<Item = Section>,
    ) -> Result<Self, SnapshotError> {
        let mut loader = Loader::default();
        for Section { kind, records } in sections {
            for record in records {
                loader.read(kind, &record)?;
            }
        }
        loader.finish()
    }

    fn meta_message(&self) -> SnapshotMeta {
        SnapshotMeta {
            applied: self.applied.0,
            time_ms: self.time.0,
            level: self.level,
            cluster: self.cluster.as_ref().map(|cluster| proto::SnapshotCluster {
                id: cluster.id.0.clone(),
                jwt_secret: cluster.jwt_secret.expose().to_owned(),
                cookie_key: cluster.cookie_key.to_vec(),
            }),
        }
    }

    fn load_meta(&mut self, meta: SnapshotMeta) -> Result<(), SnapshotError> {
        self.applied = Revision(meta.applied);
        self.time = UnixMs(meta.time_ms);
        self.level = meta.level;
        if let Some(cluster) = meta.cluster {
            let cookie_key = cluster.cookie_key.as_slice().try_into().map_err(|_| {
                SnapshotError::Contradiction("the cookie key does not have 32 octets".to_owned())
            })?;
            self.cluster = Some(Arc::new(Cluster {
                id: ClusterId(cluster.id),
                jwt_secret: Secret::new(cluster.jwt_secret),
                cookie_key,
            }));
        }
        Ok(())
    }

    fn load_group(&mut self, group: Group) -> Result<(), SnapshotError> {
        let id = group.id;
        let sids = super::RangeSet::span(1, super::SID_MAX.into());
        self.free_sids.insert(id, sids);
        if self.groups.insert(id, group).is_some() {
            return contradiction(format!("group {id} comes twice"));
        }
        Ok(())
    }

    fn load_subscriber(&mut self, user: Subscriber) -> Result<(), SnapshotError> {
        if let Some(address) = user.address
            && self.reserved.insert(address, user.username.clone()).is_some()
        {
            return contradiction(format!("{address} is set aside twice"));
        }
        self.subscribers.insert(user.username.clone(), Arc::new(user));
        Ok(())
    }

    fn load_pool(&mut self, pool: &Pool) -> Result<(), SnapshotError> {
        if self.pools.contains_key(&pool.name) || !self.groups.contains_key(&pool.group) {
            return contradiction(format!("pool {:?} comes twice or has no group", pool.name));
        }
        self.put_pool_in(pool, None)
            .map_err(|refusal| SnapshotError::Contradiction(refusal.to_string()))
    }

    /// Enters a session, unless something that it holds is held by another.
    fn load_session(&mut self, session: Session) -> Result<(), SnapshotError> {
        let id = session.id;
        let free = match &session.kind {
            SessionKind::Pppoe(pppoe) => self.sid_free(session.group, pppoe.sid),
            SessionKind::Dhcp(lease) => {
                let client_id = &lease.client_id;
                self.lease_by_client(session.group, client_id, &session.attachment).is_none()
            }
            SessionKind::Static(_) => true, // its address is checked below
        };
        let pool = self.pools.get(&session.pool);
        let known = pool.is_some_and(|state| {
            state.pool.group == session.group && state.pool.nat.is_some() == session.nat.is_some()
        });
        if !free
            || !known
            || self.sessions.contains_key(&id)
            || self.by_address.contains_key(&session.address)
        {
            return contradiction(format!("session {id} holds what another holds"));
        }
        if let Some(block) = session.nat {
            let space = self.nat_space_mut(&session.pool);
            if !space.is_some_and(|space| space.take(block)) {
                return contradiction(format!("session {id} has another's ports"));
            }
        }
        self.attach(Arc::new(session));
        Ok(())
    }

    /// Restores the queue of a pool's freed addresses; runs when everything else is in place.
    fn load_freed(&mut self, message: proto::SnapshotPool) -> Result<(), SnapshotError> {
        let name = message.pool.map(|pool| pool.name).unwrap_or_default();
        let Some(pool) = self.pools.get_mut(&name) else {
            return contradiction(format!("there is no pool {name:?}"));
        };
        for freed in message.freed {
            let address = Ipv4Addr::from(freed.address);
            if !pool.is_free(address) {
                return contradiction(format!("{address} is free and held"));
            }
            pool.release(address, Revision(freed.revision));
        }
        Ok(())
    }

    fn load_document(&mut self, message: proto::SnapshotDocument) -> Result<(), SnapshotError> {
        let collection = collection(message.collection, "snapshot_document.collection")
            .map_err(|source| SnapshotError::Record { kind: DOCUMENTS, source })?;
        let document = Document {
            value: message.value.into(),
            created: Revision(message.created),
            modified: Revision(message.modified),
            at: UnixMs(message.at_ms),
        };
        let what = format!("document {:?} of {collection}", message.key);
        if !self.documents.restore(collection, message.key.into(), document) {
            return contradiction(format!("{what} comes twice"));
        }
        Ok(())
    }

    fn load_window(&mut self, message: proto::ClientWindow) -> Result<(), SnapshotError> {
        let mut window = Window {
            used: Revision(message.used),
            forgotten: message.forgotten,
            ..Window::default()
        };
        for kept in message.replies {
            let reply = kept.reply.ok_or(CommandError::Missing("client_reply.reply"));
            let reply: Reply = reply
                .and_then(TryInto::try_into)
                .map_err(|source| SnapshotError::Record { kind: CLIENTS, source })?;
            window.replies.insert(kept.sequence, Arc::new(reply));
        }
        if !self.clients.restore(message.id, window) {
            return contradiction(format!("client {} comes twice", message.id));
        }
        Ok(())
    }
}

fn token_message((hash, token): (&Vec<u8>, &JoinToken)) -> proto::JoinToken {
    proto::JoinToken::from((hash.as_slice(), token.role, token.expires_at))
}

fn declined_message((address, until): (&Ipv4Addr, &UnixMs)) -> proto::DeclinedAddress {
    proto::DeclinedAddress { address: (*address).into(), until_ms: until.0 }
}

fn pool_message(state: &super::PoolState) -> proto::SnapshotPool {
    let freed = state.freed().map(|(revision, address)| proto::FreedAddress {
        address: address.into(),
        revision: revision.0,
    });
    proto::SnapshotPool { pool: Some((&*state.pool).into()), freed: freed.collect() }
}

fn document_message(
    (collection, key, document): (Collection, &str, &Document),
) -> proto::SnapshotDocument {
    proto::SnapshotDocument {
        collection: collection.number(),
        key: key.to_owned(),
        value: document.value.to_vec(),
        created: document.created.0,
        modified: document.modified.0,
        at_ms: document.at.0,
    }
}

fn window_message((id, window): (u64, &Window)) -> proto::ClientWindow {
    let replies = window.replies.iter().map(|(sequence, reply)| proto::ClientReply {
        sequence: *sequence,
        reply: Some((&**reply).into()),
    });
    proto::ClientWindow {
        id,
        used: window.used.0,
        forgotten: window.forgotten,
        replies: replies.collect(),
    }
}

/// Collects records until all are there: what they mean depends on each other.
#[derive(Default)]
struct Loader {
    /// Filled with what stands for itself.
    state: State,
    meta: Vec<SnapshotMeta>,
    pools: Vec<proto::SnapshotPool>,
    sessions: Vec<Session>,
    declined: Vec<proto::DeclinedAddress>,
}

impl Loader {
    fn read(&mut self, kind: u32, bytes: &[u8]) -> Result<(), SnapshotError> {
        let state = &mut self.state;
        match kind {
            META => self.meta.push(read_message(kind, bytes)?),
            NODES => {
                let node: Node = read::<proto::Node, _>(kind, bytes)?;
                state.nodes.insert(node.id, Arc::new(node));
            }
            RETIRED_NODES => {
                let node: proto::RetiredNode = read_message(kind, bytes)?;
                state.retired.insert(NodeId(node.id));
            }
            JOIN_TOKENS => {
                let (hash, role, expires_at) = read::<proto::JoinToken, _>(kind, bytes)?;
                state.join_tokens.insert(hash, JoinToken { role, expires_at });
            }
            GROUPS => state.load_group(read::<proto::Group, _>(kind, bytes)?)?,
            REMOVED_GROUPS => {
                let group: proto::RemovedGroup = read_message(kind, bytes)?;
                state.removed_groups.insert(GroupId(group.id), Epoch(group.epoch));
            }
            SUBSCRIBERS => state.load_subscriber(read::<proto::Subscriber, _>(kind, bytes)?)?,
            API_USERS => {
                let user: ApiUser = read::<proto::ApiUser, _>(kind, bytes)?;
                state.api_users.insert(user.username.clone(), Arc::new(user));
            }
            DECLINED => self.declined.push(read_message(kind, bytes)?),
            POOLS => self.pools.push(read_message(kind, bytes)?),
            SESSIONS => self.sessions.push(read::<proto::Session, _>(kind, bytes)?),
            CLIENTS => state.load_window(read_message(kind, bytes)?)?,
            DOCUMENTS => state.load_document(read_message(kind, bytes)?)?,
            BANS => {
                let ban: Ban = read::<proto::SnapshotBan, _>(kind, bytes)?;
                if state.bans.insert((ban.network, ban.scope), ban.since).is_some() {
                    return contradiction(format!("the ban of {} comes twice", ban.network));
                }
            }
            _ => return Err(SnapshotError::UnknownSection(kind)),
        }
        Ok(())
    }

    fn finish(self) -> Result<State, SnapshotError> {
        let Self { mut state, meta, pools, sessions, declined } = self;
        let [meta] =
            <[SnapshotMeta; 1]>::try_from(meta).map_err(|meta| SnapshotError::Meta(meta.len()))?;
        state.load_meta(meta)?;
        for rest in declined {
            state.rest_until(rest.address.into(), UnixMs(rest.until_ms));
        }
        for message in &pools {
            let pool = message.pool.clone().ok_or(CommandError::Missing("snapshot_pool.pool"));
            let pool = pool
                .and_then(Pool::try_from)
                .map_err(|source| SnapshotError::Record { kind: POOLS, source })?;
            state.load_pool(&pool)?;
        }
        for session in sessions {
            state.load_session(session)?;
        }
        for message in pools {
            state.load_freed(message)?;
        }
        Ok(state)
    }
}
