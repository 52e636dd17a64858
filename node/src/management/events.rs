//! Changes of sessions as events, the same on every node.

use crate::service::{group_name, interface};
use api::ApiError;
use api::EventStream;
use api::types::event::{
    EventData, EventFilter, EventId, EventKind, Resync, StreamItem, SubscriberEvent,
};
use futures::StreamExt as _;
use model::{Revision, Session, UnixMs};
use raft_store::{Change, ChangeBatch, ChangeFeed, Gone, RaftStatus, State, Store};
use std::collections::VecDeque;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// After this long without an event, the reader is told how far it is.
const QUIET: Duration = Duration::from_secs(15);
/// How long a node may take to come to the place that a reader has seen elsewhere.
const CATCH_UP: Duration = Duration::from_secs(5);

/// RFC 3339 in UTC, with milliseconds.
fn timestamp(at: UnixMs) -> String {
    let nanos = i128::from(at.0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The events of one entry, in order. Their number and order depend on the entry alone.
pub(crate) fn of_batch(state: &State, batch: &ChangeBatch) -> Vec<SubscriberEvent> {
    let told: Vec<_> = batch.changes.iter().filter_map(of_change).collect();
    let count = told.len();
    let event =
        |(index, (event, session, reason)): (usize, (EventKind, &Session, _))| SubscriberEvent {
            event,
            timestamp: timestamp(batch.at),
            id: EventId::after(batch.revision, index, count),
            data: data(state, session, reason),
        };
    told.into_iter().enumerate().map(event).collect()
}

fn of_change(change: &Change) -> Option<(EventKind, &Session, Option<&'static str>)> {
    match change {
        Change::SessionUp(session) => Some((EventKind::SessionUp, session, None)),
        Change::SessionChanged(session) => Some((EventKind::SessionChanged, session, None)),
        Change::SessionDown { session, reason } => {
            Some((EventKind::SessionDown, session, Some(reason.label())))
        }
        Change::GroupChanged(_)
        | Change::OwnerChanged { .. }
        | Change::PoolChanged(_)
        | Change::NodeChanged(_)
        | Change::BanChanged(_)
        | Change::SubscriberChanged(_)
        | Change::ApiUserChanged(_)
        | Change::ClusterChanged
        | Change::DocumentPut { .. }
        | Change::DocumentDeleted { .. } => None,
    }
}

fn data(state: &State, session: &Session, reason: Option<&'static str>) -> EventData {
    EventData {
        id: session.id,
        session_type: session.kind.service().into(),
        username: session.username.clone(),
        ip_address: session.address,
        interface: interface(session.attachment.line()),
        group: group_name(state, session),
        rate_down: session.rate.down_bps,
        rate_up: session.rate.up_bps,
        reason: reason.map(str::to_owned),
    }
}

/// Reads events from a place on, and says when some are missing.
pub(crate) struct Reader {
    store: Store,
    feed: ChangeFeed,
    /// Events up to here were seen.
    seen: EventId,
}

impl Reader {
    /// Begins after `seen`; tells where it really begins when that is no longer kept.
    pub(crate) fn new(store: &Store, seen: EventId) -> (Self, Option<Resync>) {
        match store.changes(seen.whole()) {
            Ok(feed) => (Self { store: store.clone(), feed, seen }, None),
            Err(gone) => {
                let (feed, from) = begin_anew(store, gone);
                (Self { store: store.clone(), feed, seen: from }, Some(resync(from)))
            }
        }
    }

    /// Everything up to here was returned by [`Reader::next`].
    pub(crate) fn position(&self) -> EventId {
        self.seen.max(EventId::all_of(self.feed.position()))
    }

    /// The events of the next entry that has any the reader has not seen, or what is missing. Dropping the future loses
    /// nothing.
    pub(crate) async fn next(&mut self) -> Result<Vec<SubscriberEvent>, Resync> {
        loop {
            match self.feed.next().await {
                Ok(batch) => {
                    let mut events = of_batch(&self.store.state(), &batch);
                    events.retain(|event| event.id > self.seen);
                    if !events.is_empty() {
                        return Ok(events);
                    }
                }
                Err(gone) => {
                    let (feed, from) = begin_anew(&self.store, gone);
                    self.feed = feed;
                    self.seen = from;
                    return Err(resync(from));
                }
            }
        }
    }
}

/// The newest state has everything, so nothing older needs to be told.
fn begin_anew(store: &Store, mut gone: Gone) -> (ChangeFeed, EventId) {
    loop {
        let at = store.state().applied().max(gone.oldest);
        match store.changes(at) {
            Ok(feed) => return (feed, EventId::all_of(at)),
            // The ring moved on meanwhile.
            Err(later) => gone = later,
        }
    }
}

fn resync(from: EventId) -> Resync {
    let message = format!("events up to {from} are no longer kept; list the sessions anew");
    Resync { from, message }
}

/// Waits until this node has come to `revision`.
async fn reached(store: &Store, revision: Revision) -> Result<(), ApiError> {
    let mut applied = store.applied();
    let there = async { applied.wait_for(|at| *at >= revision).await.is_ok() };
    if tokio::time::timeout(CATCH_UP, there).await.unwrap_or(false) {
        return Ok(());
    }
    // Behind, or asked for a place that does not exist?
    match store.read_index().await {
        Ok(_) if store.state().applied() < revision => {
            let message = format!("the cluster has not come to revision {revision} yet");
            Err(ApiError::BadRequest { message })
        }
        Ok(_) => Ok(()),
        Err(e) => Err(crate::service::propose_error(&e)),
    }
}

/// The stream of one client.
struct Follow {
    reader: Reader,
    filter: EventFilter,
    ready: VecDeque<StreamItem>,
    raft: watch::Receiver<RaftStatus>,
}

/// Events from `after` on, or from now on.
///
/// # Errors
/// [`ApiError::BadRequest`] when the cluster has not come to `after` yet.
pub(crate) async fn stream(
    store: &Store,
    after: Option<EventId>,
    filter: EventFilter,
) -> Result<EventStream, ApiError> {
    let seen = match after {
        Some(id) => {
            reached(store, id.revision).await?;
            id
        }
        None => EventId::all_of(store.state().applied()),
    };
    let (reader, missing) = Reader::new(store, seen);
    let first = match missing {
        Some(resync) => StreamItem::Resync(resync),
        // The client has a place to go on from, even if nothing happens before its node dies.
        None => StreamItem::Position(seen),
    };
    let raft = store.status();
    let follow = Follow { reader, filter, ready: VecDeque::from([first]), raft };
    let items = futures::stream::unfold(follow, async |mut follow| {
        let item = follow.next().await?;
        Some((item, follow))
    });
    Ok(items.boxed())
}

impl Follow {
    /// The next item; `None` when the store has stopped.
    async fn next(&mut self) -> Option<StreamItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(item);
            }
            let next = tokio::select! {
                next = tokio::time::timeout(QUIET, self.reader.next()) => next,
                _ = self.raft.wait_for(|_| false) => return None,
            };
            match next {
                Ok(Ok(events)) => {
                    let wanted = events.into_iter().filter(|event| self.filter.fits(event));
                    self.ready.extend(wanted.map(|event| StreamItem::Event(Box::new(event))));
                }
                Ok(Err(resync)) => return Some(StreamItem::Resync(resync)),
                Err(_quiet) => return Some(StreamItem::Position(self.reader.position())),
            }
        }
    }
}
