//! What happens to subscribers, as a stream and as webhooks.

use super::SessionType;
use model::{GroupService, Revision, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use utoipa::{IntoParams, ToSchema};

/// A place in the stream of events, the same on every node: the field `id` of server-sent events.
///
/// `42` is after everything that revision 42 changed, `42.3` after the first three events of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The revision.
    pub revision: Revision,
    /// How many of its events; all when absent.
    part: Part,
}

/// Ordered: any number comes before all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    First(u32),
    All,
}

impl EventId {
    /// After everything that a revision changed.
    #[must_use]
    pub fn all_of(revision: Revision) -> Self {
        Self { revision, part: Part::All }
    }

    /// After event number `index` (from 0) of the `count` events of a revision.
    #[must_use]
    pub fn after(revision: Revision, index: usize, count: usize) -> Self {
        match u32::try_from(index + 1) {
            Ok(first) if index + 1 < count => Self { revision, part: Part::First(first) },
            Ok(_) | Err(_) => Self::all_of(revision),
        }
    }

    /// The last revision of which nothing more is to come.
    #[must_use]
    pub fn whole(self) -> Revision {
        match self.part {
            Part::All => self.revision,
            Part::First(_) => Revision(self.revision.0.saturating_sub(1)),
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::All => write!(f, "{}", self.revision),
            Part::First(first) => write!(f, "{}.{first}", self.revision),
        }
    }
}

/// Not the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is a revision, such as 42, or a part of one, such as 42.3")]
pub struct NoEventId;

impl FromStr for EventId {
    type Err = NoEventId;

    fn from_str(text: &str) -> Result<Self, NoEventId> {
        let number = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or(NoEventId)
        };
        let Some((revision, part)) = text.split_once('.') else {
            return Ok(Self::all_of(Revision(number(text)?)));
        };
        let first = u32::try_from(number(part)?).map_err(|_| NoEventId)?;
        Ok(Self { revision: Revision(number(revision)?), part: Part::First(first) })
    }
}

impl Serialize for EventId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
pub enum EventKind {
    /// A session began.
    #[serde(rename = "session.up")]
    SessionUp,
    /// A session goes on with other values: a rate, a renewed lease.
    #[serde(rename = "session.changed")]
    SessionChanged,
    /// A session ended.
    #[serde(rename = "session.down")]
    SessionDown,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SessionUp, Self::SessionChanged, Self::SessionDown];

    /// The name in requests and answers.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SessionUp => "session.up",
            Self::SessionChanged => "session.changed",
            Self::SessionDown => "session.down",
        }
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.label() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|kind| kind.label()).collect();
            format!("{text:?} is no event; there are {}", known.join(", "))
        })
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriberEvent {
    /// What happened.
    pub event: EventKind,
    /// When, by the cluster's time (RFC 3339).
    #[schema(example = "2026-11-24T12:00:00.250Z")]
    pub timestamp: String,
    /// Where the event stands in the stream; the same on every node, and never used twice.
    #[schema(value_type = String, example = "42.3")]
    pub id: EventId,
    /// The session.
    pub data: EventData,
}

/// The session that an event is about, as it is from then on; for `session.down`, as it was last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventData {
    /// Unique in the cluster.
    #[schema(value_type = u64)]
    pub id: SessionId,
    /// `PPPoE` or `DHCP`.
    #[serde(rename = "type")]
    pub session_type: SessionType,
    /// PPP user, or the MAC address for DHCP.
    pub username: String,
    /// The subscriber's address.
    #[schema(value_type = String, format = Ipv4)]
    pub ip_address: Ipv4Addr,
    /// Access port and VLAN tags.
    #[schema(example = "port1.200.20")]
    pub interface: String,
    /// The redundancy group that serves it.
    pub group: String,
    /// Rate towards the subscriber in bits per second, 0 for unlimited.
    pub rate_down: u64,
    /// Rate from the subscriber in bits per second, 0 for unlimited.
    pub rate_up: u64,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "user_request")]
    pub reason: Option<String>,
}

/// Which events to send: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only these events, with commas between: `session.up,session.down`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(example = "session.up,session.down")]
    pub events: Option<String>,
    /// Only sessions of this kind: `pppoe` or `dhcp`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "pppoe")]
    pub service: Option<GroupService>,
    /// Only sessions of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Only sessions of this redundancy group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Only this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u64>)]
    pub session: Option<SessionId>,
    /// Begin after this event, for clients that cannot send the header `Last-Event-ID`, which counts
    /// when both are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub last_event_id: Option<EventId>,
}

/// [`EventQuery`] that was found to make sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Empty for all.
    pub kinds: Vec<EventKind>,
    /// The kind of session.
    pub session_type: Option<SessionType>,
    /// The user.
    pub username: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The session.
    pub session: Option<SessionId>,
}

impl EventFilter {
    /// Whether the event is wanted.
    #[must_use]
    pub fn fits(&self, event: &SubscriberEvent) -> bool {
        let data = &event.data;
        (self.kinds.is_empty() || self.kinds.contains(&event.event))
            && self.session_type.is_none_or(|wanted| wanted == data.session_type)
            && self.username.as_ref().is_none_or(|wanted| *wanted == data.username)
            && self.group.as_ref().is_none_or(|wanted| *wanted == data.group)
            && self.session.is_none_or(|wanted| wanted == data.id)
    }
}

impl EventQuery {
    /// The conditions.
    ///
    /// # Errors
    /// Names an event that does not exist.
    pub fn filter(&self) -> Result<EventFilter, String> {
        let names = self.events.as_deref().unwrap_or_default();
        let kinds = names.split(',').filter(|name| !name.is_empty()).map(str::parse);
        Ok(EventFilter {
            kinds: kinds.collect::<Result<_, _>>()?,
            session_type: self.service.map(SessionType::from),
            username: self.username.clone(),
            group: self.group.clone(),
            session: self.session,
        })
    }
}

/// The event `resync`: what was asked for is no longer kept, and the stream goes on from `from`.
/// Whoever mirrors sessions lists them anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resync {
    /// Events up to here may be missing.
    #[schema(value_type = String)]
    pub from: EventId,
    /// For people.
    pub message: String,
}

/// One part of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// An event.
    Event(Box<SubscriberEvent>),
    /// Nothing that was asked for happened up to here.
    Position(EventId),
    /// Events are missing.
    Resync(Resync),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_and_say_where_a_reader_goes_on() {
        let all = |n| EventId::all_of(Revision(n));
        assert_eq!(EventId::after(Revision(7), 0, 1), all(7));
        assert_eq!(EventId::after(Revision(7), 2, 3), all(7));
        let first_two = EventId::after(Revision(7), 1, 3);
        assert_eq!((first_two.to_string(), first_two.whole()), ("7.2".to_owned(), Revision(6)));
        assert_eq!(all(7).whole(), Revision(7));
        assert!(all(6) < first_two && first_two < all(7));
        for id in [all(0), all(u64::MAX), first_two] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            ".",
            "7.",
            ".2",
            "7.2.1",
            "-1",
            "+1",
            "7.-2",
            "99999999999999999999",
            "1.4294967296",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(NoEventId), "{text:?}");
        }
    }
}
