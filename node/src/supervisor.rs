//! What systemd is told: ready, doing what, stopping, still alive. Without systemd all of this does nothing.

use crate::clock;
use crate::daemon::Daemon;
use sd_notify::NotifyState;
use std::sync::Arc;
use tracing::{debug, error};

/// The API listens. A member may still be opening its store or waiting for the log, which has no bound: a
/// node that is cut off from its peers must not count as failed for it.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// An orderly stop has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("handing its groups over")]);
}

/// Tells the supervisor that the process lives, as often as it asks for it, while both the runtime and the
/// lease thread come round. It ends at once where no watchdog is set.
pub async fn watchdog(daemon: Arc<Daemon>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    // One third to wait and one third for the lease thread: a turn that just succeeds is still in time.
    let interval = patience / 3;
    loop {
        tell(&[NotifyState::Watchdog]);
        clock::until(Some(clock::now() + interval)).await;
        if let Some(member) = daemon.member.get()
            && tokio::time::timeout(interval, member.local.lease.ping()).await.is_err()
        {
            error!(
                event = "TANDEM-LEASE-THREAD-STUCK",
                patience_s = patience.as_secs(),
                "the lease thread does not come round; the watchdog will end this process"
            );
            return;
        }
    }
}

fn tell(states: &[NotifyState]) {
    // A supervisor that is gone is nothing that a gateway should stop for.
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the supervisor could not be told");
    }
}
