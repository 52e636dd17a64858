//! Why the store cannot go on. The first reason counts: what follows are its consequences.

use tokio::sync::watch;

/// Shared by the parts that can find out; clones report to the same place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fatal {
    reason: watch::Sender<Option<String>>,
}

impl Fatal {
    pub(crate) fn report(&self, reason: String) {
        self.reason.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                tracing::error!(event = "TANDEM-STORE-FAILED", %reason, "the store has failed; this node stops");
                *known = Some(reason);
            }
            first
        });
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<String>> {
        self.reason.subscribe()
    }
}
