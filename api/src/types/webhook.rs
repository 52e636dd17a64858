//! Webhooks: events posted to a URL.

use super::event::{EventId, EventKind, SubscriberEvent};
use model::Secret;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Body of `POST /api/v1/webhooks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to post, `http` or `https`.
    #[schema(example = "https://crm.example.net/tandem", max_length = 2048)]
    pub url: String,
    /// Which events.
    #[schema(value_type = Vec<EventKind>, example = json!(["session.up", "session.down"]))]
    pub events: Vec<EventKind>,
    /// Key of the signature; one is made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, min_length = 16, max_length = 256)]
    pub secret: Option<Secret>,
}

/// A webhook that was just made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookCreated {
    /// Eight hexadecimal digits.
    #[schema(example = "a1b2c3d4")]
    pub id: String,
    /// Where to.
    pub url: String,
    /// Which events.
    pub events: Vec<EventKind>,
    /// Key of the signature. Shown this once.
    #[schema(value_type = String)]
    pub secret: Secret,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Webhook {
    /// Eight hexadecimal digits.
    #[schema(example = "a1b2c3d4")]
    pub id: String,
    /// Where to.
    pub url: String,
    /// Which events.
    pub events: Vec<EventKind>,
    /// Who made it.
    pub created_by: String,
    /// When, in seconds since 1970.
    pub created_at: u64,
    /// Everything up to here was taken, or given up. Behind by up to a second.
    #[schema(value_type = String)]
    pub cursor: EventId,
    /// Present while deliveries fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<WebhookFailing>,
    /// Deliveries that were given up and are still listed.
    pub dead_letters: usize,
}

/// Why a webhook is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookFailing {
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// What went wrong first.
    pub error: String,
}

/// All webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookList {
    /// By id.
    pub webhooks: Vec<Webhook>,
    /// How many.
    pub count: usize,
}

/// Answer to a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebhookDeleted {
    /// Its id.
    pub id: String,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// Its own id, for deleting it and for paging.
    pub id: String,
    /// The webhook.
    pub webhook: String,
    /// When it was given up, in seconds since 1970.
    pub at: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub error: String,
    /// The event; absent when events were lost before they could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<SubscriberEvent>,
}

/// A page of dead letters, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterList {
    /// Newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// How many are on this page.
    pub count: usize,
    /// Pass it as `before` to get the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which dead letters to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterQuery {
    /// At most so many, 1 to 100; 50 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
    /// Only older ones than this: the `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

impl DeadLetterQuery {
    /// The limit when the caller names none.
    pub const LIMIT_DEFAULT: u32 = 50;
    /// The largest page.
    pub const LIMIT_MAX: u32 = 100;
}
