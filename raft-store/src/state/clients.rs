//! The replies that repetitions of a command get.

use crate::command::Reply;
use imbl::{OrdMap, OrdSet};
use model::Revision;
use std::sync::Arc;

/// Replies remembered for one client. A client keeps fewer proposals than this in flight.
pub(super) const REPLIES_MAX: usize = 32;
/// Clients remembered; the one that was silent longest is forgotten first.
pub(super) const CLIENTS_MAX: usize = 4096;

/// What is known of a command's client and sequence.
pub(super) enum Known {
    /// Never seen: apply it.
    New,
    /// Applied before, with this reply.
    Reply(Arc<Reply>),
    /// So old that its reply, if there was one, is forgotten.
    TooOld,
}

/// The newest replies of one client.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    /// Revision of the newest command.
    pub(super) used: Revision,
    /// Highest sequence that was forgotten.
    pub(super) forgotten: Option<u64>,
    pub(super) replies: OrdMap<u64, Arc<Reply>>,
}

/// The clients of the log, bounded in number and in replies for each.
#[derive(Clone, Debug, Default)]
pub(super) struct Clients {
    windows: OrdMap<u64, Window>,
    by_age: OrdSet<(Revision, u64)>,
}

impl Clients {
    pub(super) fn look_up(&self, client: u64, sequence: u64) -> Known {
        let Some(window) = self.windows.get(&client) else { return Known::New };
        if let Some(reply) = window.replies.get(&sequence) {
            return Known::Reply(Arc::clone(reply));
        }
        if window.forgotten.is_some_and(|forgotten| sequence <= forgotten) {
            return Known::TooOld;
        }
        Known::New
    }

    /// Remembers a reply and forgets what passes the bounds.
    pub(super) fn remember(&mut self, client: u64, sequence: u64, at: Revision, reply: Reply) {
        let window = self.windows.entry(client).or_default();
        self.by_age.remove(&(window.used, client));
        window.used = at;
        window.replies.insert(sequence, Arc::new(reply));
        while window.replies.len() > REPLIES_MAX {
            let Some(&(oldest, _)) = window.replies.get_min() else { break };
            window.replies.remove(&oldest);
            window.forgotten = window.forgotten.max(Some(oldest));
        }
        self.by_age.insert((at, client));
        while self.by_age.len() > CLIENTS_MAX {
            let Some((_, silent)) = self.by_age.remove_min() else { break };
            self.windows.remove(&silent);
        }
    }

    /// Puts a window back that a snapshot kept; false when the client is there already.
    pub(super) fn restore(&mut self, client: u64, window: Window) -> bool {
        self.by_age.insert((window.used, client));
        self.windows.insert(client, window).is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Window)> + '_ {
        self.windows.iter().map(|(&client, window)| (client, window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(known: &Known) -> &'static str {
        match known {
            Known::New => "new",
            Known::Reply(_) => "reply",
            Known::TooOld => "too old",
        }
    }

    #[test]
    fn a_window_slides_and_does_not_apply_what_it_forgot() {
        let mut clients = Clients::default();
        let last = REPLIES_MAX as u64 + 5;
        for sequence in (0..=last).filter(|s| *s != 4 && *s != 9) {
            clients.remember(7, sequence, Revision(sequence), Reply::Done);
        }
        for (sequence, want) in [
            (0, "too old"),
            (3, "too old"),
            (4, "new"), // overtaken by others, but none so late was forgotten
            (5, "reply"),
            (9, "new"),
            (last, "reply"),
            (last + 1, "new"),
        ] {
            assert_eq!(outcome(&clients.look_up(7, sequence)), want, "sequence {sequence}");
        }
        assert_eq!(outcome(&clients.look_up(8, 0)), "new");
    }

    #[test]
    fn the_client_that_was_silent_longest_is_forgotten() {
        let mut clients = Clients::default();
        let max = CLIENTS_MAX as u64;
        for client in 0..max {
            clients.remember(client, 1, Revision(client + 1), Reply::Done);
        }
        clients.remember(0, 2, Revision(max + 1), Reply::Done);
        clients.remember(max, 1, Revision(max + 2), Reply::Done);
        assert_eq!(outcome(&clients.look_up(0, 1)), "reply");
        assert_eq!(outcome(&clients.look_up(1, 1)), "new");
        assert_eq!(outcome(&clients.look_up(max, 1)), "reply");
        assert_eq!(clients.iter().count(), CLIENTS_MAX);
    }
}
