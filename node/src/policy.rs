//! What operators do about sources that wait: read the list on any node, and let one in.

use crate::clock;
use crate::member::Member;
use crate::peer::Request;
use crate::waiting::Waiting;
use model::{GroupId, StaticSession};
use raft_store::{Command, PutStatic, State, StaticEdit};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long the owner may take to tell its list.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

impl Member {
    /// The sources that wait in a group, as its owner hears them.
    ///
    /// # Errors
    /// Why the owner could not be asked; nobody owns the group, for one.
    pub async fn waiting(&self, group: GroupId) -> Result<Vec<Waiting>, String> {
        let state = self.local.store.state();
        let owner = state.group(group).and_then(|g| g.owner);
        match owner {
            None => Err(format!("nobody owns group {group}")),
            Some(owner) if owner == self.local.me => self.waiting_here(group),
            Some(owner) => self.local.ask(owner, &Request::Waiting { group }, ASK_TIMEOUT).await,
        }
    }

    /// This node's own list; only the owner has one.
    ///
    /// # Errors
    /// When the fence is shut here, so that nothing is heard.
    pub fn waiting_here(&self, group: GroupId) -> Result<Vec<Waiting>, String> {
        if self.local.lease.status().borrow().open.contains_key(&group) {
            Ok(self.waiting.list(group, clock::now()))
        } else {
            Err(format!("this node does not serve group {group} now"))
        }
    }
}

/// The command that lets an address in: an edit of a known static subscriber, else a new one in the
/// network that the address lies in, at the place where it was heard. `None` for an address that
/// lies in no IPoE network.
#[must_use]
pub fn allow(state: &State, address: Ipv4Addr, heard: Option<&Waiting>) -> Option<Command> {
    if state.static_by_address(address).is_some() {
        return Some(Command::EditStatic { address, edit: StaticEdit::Allow(true) });
    }
    let group = state.ipoe_pool_of(address)?.group;
    let seen = heard.filter(|w| w.address == address).map(|w| w.attachment);
    let fixed = StaticSession { mac: None, line: None, allowed: true };
    Some(Command::PutStatic(PutStatic { group, address, fixed, rate: None, seen }))
}
