//! What operators do about static subscribers and about sources that wait: read the list on any
//! node, and let one in.

use crate::clock;
use crate::member::Member;
use crate::peer::Request;
use crate::service::{interface, same_secret, state_name};
use crate::waiting::Waiting;
use api::types::policy::{StaticSubscriber, WaitingSource};
use api::{ApiError, KeyRefusal};
use dataplane::Counters;
use futures::future::join_all;
use ipnet::IpNet;
use model::{GroupId, GroupService, Secret, Session, SessionKind, StaticSession};
use raft_store::{Command, PutStatic, State, StaticEdit};
use std::net::{IpAddr, Ipv4Addr};
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

/// Checks a key of the PureNAS dialect.
///
/// # Errors
/// [`KeyRefusal`].
pub fn check_key(configured: Option<&Secret>, given: &Secret) -> Result<(), KeyRefusal> {
    let configured = configured.ok_or(KeyRefusal::Unset)?;
    let same = same_secret(given.expose(), configured.expose());
    if same { Ok(()) } else { Err(KeyRefusal::Wrong) }
}

/// Whether one of the networks holds the address; without networks, any may ask.
///
/// # Errors
/// [`KeyRefusal::Unset`]: to the others the dialect is shut.
pub fn check_source(allowed: &[String], from: Option<IpAddr>) -> Result<(), KeyRefusal> {
    let holds = |network: &String| {
        let address = network.parse::<IpAddr>().is_ok_and(|one| Some(one) == from);
        address || network.parse::<IpNet>().is_ok_and(|net| from.is_some_and(|f| net.contains(&f)))
    };
    let open = allowed.is_empty() || allowed.iter().any(holds);
    if open { Ok(()) } else { Err(KeyRefusal::Unset) }
}

/// Where an address waits; `None` also when the owner does not say in time, since it will be heard
/// again.
pub async fn heard(member: &Member, state: &State, address: Ipv4Addr) -> Option<Waiting> {
    if state.static_by_address(address).is_some() {
        return None;
    }
    let group = state.ipoe_pool_of(address)?.group;
    let waiting = member.waiting(group).await.ok()?;
    waiting.into_iter().find(|source| source.address == address)
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

/// A static subscriber as the API shows it; `None` for another session.
#[must_use]
pub fn view(state: &State, session: &Session, traffic: Counters) -> Option<StaticSubscriber> {
    let SessionKind::Static(fixed) = session.kind else { return None };
    let group = state.group(session.group).map(|g| g.name.clone());
    let heard = session.attachment.is_known();
    Some(StaticSubscriber {
        ip_address: session.address,
        id: session.id,
        group: group.unwrap_or_else(|| session.group.to_string()),
        allowed: fixed.allowed,
        bound_mac: fixed.mac,
        mac_address: if heard { Some(session.attachment.mac) } else { fixed.mac },
        interface: heard.then(|| interface(session.attachment.line())),
        rate_down: session.rate.down_bps,
        rate_up: session.rate.up_bps,
        packets_in: traffic.packets_up,
        state: state_name(session).to_owned(),
    })
}

/// The sources that wait in all groups with an IPoE network.
///
/// # Errors
/// [`ApiError::Conflict`] when the owner of one cannot tell: a list that lacks a group without
/// saying so would be taken for the whole.
pub async fn waiting(member: &Member, state: &State) -> Result<Vec<WaitingSource>, ApiError> {
    let is_ipoe =
        |group: GroupId| state.pools().any(|p| p.group == group && p.service == GroupService::Dhcp);
    let groups: Vec<_> = state.groups().filter(|group| is_ipoe(group.id)).collect();
    let lists = join_all(groups.iter().map(|group| member.waiting(group.id))).await;
    let mut sources = Vec::new();
    for (group, list) in groups.iter().zip(lists) {
        let list = list.map_err(|why| {
            ApiError::conflict(format!("who waits in group {} is not known: {why}", group.name))
        })?;
        sources.extend(list.into_iter().map(|source| WaitingSource {
            ip_address: source.address,
            mac_address: source.attachment.mac,
            interface: interface(source.attachment.line()),
            group: group.name.clone(),
            first_seen: source.first_seen.as_secs(),
            last_seen: source.last_seen.as_secs(),
        }));
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_configured_key_opens_and_none_opens_nothing() {
        let key = Secret::new("0123456789abcdef");
        assert_eq!(check_key(Some(&key), &key), Ok(()));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert_eq!(check_key(Some(&key), &Secret::new(wrong)), Err(KeyRefusal::Wrong));
        }
        for any in ["", "0123456789abcdef"] {
            assert_eq!(check_key(None, &Secret::new(any)), Err(KeyRefusal::Unset));
        }
    }

    #[test]
    fn only_the_listed_networks_may_ask() {
        let listed = ["10.0.0.0/8".to_owned(), "192.0.2.7".to_owned()];
        let rows = [
            (Some("10.1.2.3"), true),
            (Some("192.0.2.7"), true),
            (Some("192.0.2.8"), false),
            (None, false),
        ];
        for (from, want) in rows {
            let from = from.map(|text| text.parse().unwrap());
            assert_eq!(check_source(&listed, from).is_ok(), want, "{from:?}");
            assert!(check_source(&[], from).is_ok(), "no list");
        }
    }
}
