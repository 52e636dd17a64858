//! Documents: the records of the management plane, which the cluster keeps without understanding
//! them.

use std::fmt;

/// A named set of documents.
///
/// The numbers are in the log: they are never reused. So are the limits, because `apply` refuses or
/// drops by them: changing one takes a new replicated level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Collection {
    /// Configuration: running, candidate, a commit that waits for its confirmation.
    Config,
    /// Earlier running configurations.
    ConfigArchive,
    /// API keys, by their digest.
    ApiKey,
    /// Roles with their permissions.
    Role,
    /// Families of refresh tokens.
    RefreshToken,
    /// Webhooks.
    Webhook,
    /// How far each webhook was served.
    WebhookCursor,
    /// Deliveries that a webhook did not take.
    WebhookDeadLetter,
    /// Who did what.
    Audit,
    /// Settings of the system, one document each.
    Setting,
    /// RADIUS users.
    RadiusUser,
    /// RADIUS accounting records, one for each session.
    RadiusAccounting,
    /// Outcomes of authentications.
    RadiusPostAuth,
    /// Batches of generated users.
    RadiusBatch,
    /// Jobs that run at a time.
    Schedule,
    /// Short-lived one-time tickets.
    Ticket,
}

/// What happens to a document that does not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The new one is refused: what is there matters as much.
    Refuse,
    /// It gets in, and those that were not written for longest go.
    DropOldest,
}

/// The bounds of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionLimits {
    /// Most documents.
    pub documents_max: usize,
    /// Longest value, in octets.
    pub value_octets_max: usize,
    /// Most octets of all values together.
    pub total_octets_max: u64,
    /// What gives way.
    pub when_full: WhenFull,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Collection {
    /// All of them, by number.
    pub const ALL: [Self; 16] = [
        Self::Config,
        Self::ConfigArchive,
        Self::ApiKey,
        Self::Role,
        Self::RefreshToken,
        Self::Webhook,
        Self::WebhookCursor,
        Self::WebhookDeadLetter,
        Self::Audit,
        Self::Setting,
        Self::RadiusUser,
        Self::RadiusAccounting,
        Self::RadiusPostAuth,
        Self::RadiusBatch,
        Self::Schedule,
        Self::Ticket,
    ];

    /// The number in log and snapshot.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Config => 1,
            Self::ConfigArchive => 2,
            Self::ApiKey => 3,
            Self::Role => 4,
            Self::RefreshToken => 5,
            Self::Webhook => 6,
            Self::WebhookCursor => 7,
            Self::WebhookDeadLetter => 8,
            Self::Audit => 9,
            Self::Setting => 10,
            Self::RadiusUser => 11,
            Self::RadiusAccounting => 12,
            Self::RadiusPostAuth => 13,
            Self::RadiusBatch => 14,
            Self::Schedule => 15,
            Self::Ticket => 16,
        }
    }

    /// The collection of that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|collection| collection.number() == number)
    }

    /// The stable name, as in events, counters and messages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::ConfigArchive => "config_archive",
            Self::ApiKey => "api_key",
            Self::Role => "role",
            Self::RefreshToken => "refresh_token",
            Self::Webhook => "webhook",
            Self::WebhookCursor => "webhook_cursor",
            Self::WebhookDeadLetter => "webhook_dead_letter",
            Self::Audit => "audit",
            Self::Setting => "setting",
            Self::RadiusUser => "radius_user",
            Self::RadiusAccounting => "radius_accounting",
            Self::RadiusPostAuth => "radius_post_auth",
            Self::RadiusBatch => "radius_batch",
            Self::Schedule => "schedule",
            Self::Ticket => "ticket",
        }
    }

    /// Its bounds. What an administrator writes is refused when full; what the system writes by
    /// itself, or anybody can cause by logging in, makes room.
    #[must_use]
    pub const fn limits(self) -> CollectionLimits {
        use WhenFull::{DropOldest, Refuse};
        let (documents_max, value_octets_max, total_mib, when_full) = match self {
            Self::Config => (4_096, 4 * MIB, 64, Refuse),
            Self::ConfigArchive => (50, 4 * MIB, 64, DropOldest),
            Self::ApiKey => (4_096, 8 * KIB, 16, Refuse),
            Self::Role => (256, 64 * KIB, 8, Refuse),
            Self::RefreshToken => (16_384, 4 * KIB, 32, DropOldest),
            Self::Webhook => (1_024, 16 * KIB, 16, Refuse),
            Self::WebhookCursor => (1_024, KIB, 1, Refuse),
            Self::WebhookDeadLetter => (1_000, 64 * KIB, 32, DropOldest),
            Self::Audit => (10_000, 16 * KIB, 64, DropOldest),
            Self::Setting => (4_096, 256 * KIB, 32, Refuse),
            Self::RadiusUser => (262_144, 8 * KIB, 256, Refuse),
            Self::RadiusAccounting => (200_000, 4 * KIB, 256, DropOldest),
            Self::RadiusPostAuth => (10_000, 4 * KIB, 16, DropOldest),
            Self::RadiusBatch => (1_000, MIB, 64, Refuse),
            Self::Schedule => (1_024, 16 * KIB, 8, Refuse),
            Self::Ticket => (4_096, 4 * KIB, 8, DropOldest),
        };
        let total_octets_max = total_mib << 20;
        CollectionLimits { documents_max, value_octets_max, total_octets_max, when_full }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_frozen_and_distinct() {
        let names = "config config_archive api_key role refresh_token webhook webhook_cursor \
                     webhook_dead_letter audit setting radius_user radius_accounting \
                     radius_post_auth radius_batch schedule ticket";
        for (number, name) in (1..).zip(names.split_ascii_whitespace()) {
            let collection = Collection::from_number(number).expect(name);
            assert_eq!((collection.number(), collection.label()), (number, name));
        }
        assert_eq!(names.split_ascii_whitespace().count(), Collection::ALL.len());
        assert_eq!(Collection::from_number(0), None);
        assert_eq!(Collection::from_number(17), None);
    }

    #[test]
    fn the_longest_value_of_every_collection_fits_into_it() {
        for collection in Collection::ALL {
            let limits = collection.limits();
            assert!(limits.documents_max > 0, "{collection}");
            assert!(limits.value_octets_max as u64 <= limits.total_octets_max, "{collection}");
        }
    }
}
