use crate::lease::{ClientKey, Lease, Leases};
use crate::offers::{MAX_OFFERS, Offers};
use crate::pending::{Pending, Wait};
use crate::reply::{self, Destination, NakReason};
use crate::request::Request;
use crate::wire::MessageType;
use crate::{DropReason, PoolConfig};
use model::{Attachment, SessionId, Tick};
use std::net::Ipv4Addr;

/// How many addresses one DISCOVER may look at: one more than can be set aside.
const PROBES_MAX: usize = MAX_OFFERS + 1;

/// Names a command between [`Action::Commit`] and [`Server::on_committed`]; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message from the server port.
    Reply {
        /// Where it goes.
        to: Destination,
        /// UDP payload.
        payload: Vec<u8>,
    },
    /// Propose a command; its outcome comes back through [`Server::on_committed`].
    Commit {
        /// Names it.
        token: Token,
        /// The command.
        request: Commit,
    },
    /// Count a message that gets no answer.
    Drop(DropReason),
}

/// A change of the group's leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Give a client a lease. When the same client ([`ClientKey::identity`]) holds a lease already,
    /// the new one takes its place: the client has changed its hardware address, or the pool has
    /// moved to another network.
    Grant {
        /// The client.
        key: ClientKey,
        /// The address it was offered.
        address: Ipv4Addr,
        /// Option 12, for displays.
        hostname: String,
        /// Option 82 as received, empty when there was none.
        relay_info: Vec<u8>,
        /// Lease time in seconds.
        lease_s: u32,
    },
    /// Extend a lease.
    Renew {
        /// Its session.
        session: SessionId,
        /// Lease time in seconds, from the commit on.
        lease_s: u32,
    },
    /// End a lease.
    Release {
        /// Its session.
        session: SessionId,
    },
    /// Take an address out of use: a client has found it in use by a stranger.
    Decline {
        /// The lease to end, if the client had one already.
        session: Option<SessionId>,
        /// The address.
        address: Ipv4Addr,
    },
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The lease is in the log.
    Granted {
        /// Its session.
        session: SessionId,
        /// Its address.
        address: Ipv4Addr,
    },
    /// The lease is extended.
    Renewed,
    /// RELEASE or DECLINE took effect.
    Done,
    /// The state machine said no, because the address is taken or the lease is gone. A node that is
    /// not the owner any more reports [`Outcome::Unknown`]: it may not speak, least of all a NAK.
    Refused,
    /// Nobody knows: time ran out or ownership was lost. The client will repeat its request.
    Unknown,
}

/// How a REQUEST names its address. RFC 2131 §4.3.2 and table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// Takes our offer.
    Selecting,
    /// Confirms an address after a restart.
    InitReboot,
    /// Extends, by unicast to us.
    Renewing,
    /// Extends, by broadcast to all servers.
    Rebinding,
}

/// The DHCP server of one group. It speaks only while its node owns the group: the driver
/// delivers messages then, and calls [`Server::clear`] when ownership is lost.
#[derive(Debug, Default)]
pub struct Server {
    offers: Offers,
    pending: Pending,
}

impl Server {
    /// A server that has offered nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Consumes a UDP payload that arrived at the server port.
    ///
    /// `from` is where the frame came from, with the Ethernet source; `dst_ip` is where the packet
    /// was sent to: broadcast or one of our addresses.
    #[must_use]
    pub fn on_message(
        &mut self,
        leases: &impl Leases,
        message: &[u8],
        from: Attachment,
        dst_ip: Ipv4Addr,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Vec<Action> {
        self.step(now);
        let action = Request::parse(message, from, dst_ip, cfg).and_then(|r| match r.kind {
            MessageType::Discover => self.on_discover(leases, &r, now, cfg),
            MessageType::Request => self.on_request(leases, r, now, cfg),
            MessageType::Decline => self.on_decline(leases, &r, now, cfg),
            MessageType::Release => self.on_release(leases, &r, now, cfg),
            MessageType::Inform => Self::on_inform(&r, cfg),
            MessageType::Offer | MessageType::Ack | MessageType::Nak => {
                Err(DropReason::ServerMessage)
            }
        });
        vec![action.unwrap_or_else(Action::Drop)]
    }

    /// Consumes the outcome of a command. One that comes too late, or twice, changes nothing.
    #[must_use]
    pub fn on_committed(
        &mut self,
        token: Token,
        outcome: Outcome,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Vec<Action> {
        self.step(now);
        let Some(Wait::Lease { address, request, .. }) = self.pending.remove(token) else {
            return vec![];
        };
        match outcome {
            Outcome::Granted { address: granted, .. } if granted != address => {
                // Its lease is on another address; the next DISCOVER will learn which.
                vec![reply::nak(&request, NakReason::NotYourAddress, cfg)]
            }
            Outcome::Granted { .. } | Outcome::Renewed => vec![reply::ack(&request, address, cfg)],
            Outcome::Refused => vec![reply::nak(&request, NakReason::Refused, cfg)],
            Outcome::Done | Outcome::Unknown => vec![],
        }
    }

    /// Forgets offers and requests whose time is over. Early or repeated calls do no harm.
    pub fn step(&mut self, now: Tick) {
        self.offers.expire(now);
        self.pending.expire(now);
    }

    /// When [`Server::step`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match (self.offers.deadline(), self.pending.deadline()) {
            (Some(offer), Some(pending)) => Some(offer.min(pending)),
            (offer, pending) => offer.or(pending),
        }
    }

    /// Forgets everything: ownership was lost. Outcomes still to come will change nothing.
    pub fn clear(&mut self) {
        self.offers.clear();
        self.pending.clear();
    }

    /// How many addresses are set aside for clients with an open offer.
    #[must_use]
    pub fn offers_outstanding(&self) -> usize {
        self.offers.len()
    }

    /// How many commands wait for their outcome.
    #[must_use]
    pub fn commits_pending(&self) -> usize {
        self.pending.len()
    }

    /// RFC 2131 §4.3.1.
    fn on_discover(
        &mut self,
        leases: &impl Leases,
        request: &Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        let client = request.key.identity();
        let address =
            self.choose(leases, request, &client, cfg).ok_or(DropReason::PoolExhausted)?;
        self.offers.put(client, address, now);
        Ok(reply::offer(request, address, cfg))
    }

    /// The address to offer: the client's lease, what it is being granted, what it was offered,
    /// what it asks for, or the first free one from a place in the pool that the client decides.
    fn choose(
        &self,
        leases: &impl Leases,
        request: &Request,
        client: &ClientKey,
        cfg: &PoolConfig,
    ) -> Option<Ipv4Addr> {
        if let Some(lease) = lease_of(leases, &request.key, cfg) {
            return Some(lease.address);
        }
        if let Some(address) = self.pending.new_address_of(client) {
            return Some(address);
        }
        let hints = [self.offers.address_of(client), request.requested];
        if let Some(address) =
            hints.into_iter().flatten().find(|&a| self.is_free(leases, a, client, cfg))
        {
            return Some(address);
        }
        let count = cfg.range.count();
        let mut at = request.key.hash() % count;
        for _ in 0..PROBES_MAX {
            let wanted = cfg.range.nth(at)?;
            let found = leases.free(Some(wanted))?;
            if cfg.is_grantable(found) && !self.is_set_aside(found, client) {
                return Some(found);
            }
            // All between the wanted and a higher found address is taken: go on behind it.
            let skip = u64::from(u32::from(found).saturating_sub(u32::from(wanted)));
            at = (at + skip + 1) % count;
        }
        None
    }

    /// RFC 2131 §4.3.2.
    fn on_request(
        &mut self,
        leases: &impl Leases,
        request: Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        let client = request.key.identity();
        if let Some(other) = request.other_server(cfg.gateway) {
            // The client declines our offer by taking another one. RFC 2131 §3.1, 3.
            self.offers.remove(&client);
            return Err(DropReason::OtherServer(other));
        }
        let (claim, address) = claim(&request, cfg)?;
        if let Some(wait) = self.pending.of_client(&client) {
            match wait {
                // The answer goes to the newest request, whose transaction id may have changed.
                Wait::Lease { address: awaited, request: latest, .. }
                    if *awaited == address && latest.key == request.key =>
                {
                    **latest = request;
                }
                Wait::Lease { .. } | Wait::End => {}
            }
            return Err(DropReason::CommitPending);
        }
        if !cfg.in_network(address) {
            return Ok(reply::nak(&request, NakReason::WrongNetwork, cfg));
        }
        match lease_of(leases, &request.key, cfg) {
            Some(lease) if lease.address == address => {
                self.extend(&lease, &client, request, now, cfg)
            }
            Some(_) => Ok(reply::nak(&request, NakReason::NotYourAddress, cfg)),
            None => match claim {
                Claim::Selecting if self.is_free(leases, address, &client, cfg) => {
                    self.grant(address, &client, request, now, cfg)
                }
                Claim::Selecting => Ok(reply::nak(&request, NakReason::AddressInUse, cfg)),
                // Sent to us alone, so the lease was ours, and it has ended.
                Claim::Renewing => Ok(reply::nak(&request, NakReason::NoLease, cfg)),
                Claim::InitReboot | Claim::Rebinding if leases.by_address(address).is_some() => {
                    Ok(reply::nak(&request, NakReason::AddressInUse, cfg))
                }
                Claim::InitReboot | Claim::Rebinding => Err(DropReason::UnknownClient),
            },
        }
    }

    /// Extends a lease. A client that changed its hardware address gets its lease anew, because
    /// the data plane would not let its packets in under the old one.
    fn extend(
        &mut self,
        lease: &Lease,
        client: &ClientKey,
        request: Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        if lease.key.attachment != request.key.attachment {
            return self.grant(lease.address, client, request, now, cfg);
        }
        let commit = Commit::Renew { session: lease.session, lease_s: cfg.lease_s };
        let request = Box::new(request);
        let wait = Wait::Lease { address: lease.address, is_new: false, request };
        self.propose(client, wait, commit, now)
    }

    fn grant(
        &mut self,
        address: Ipv4Addr,
        client: &ClientKey,
        request: Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        let commit = Commit::Grant {
            key: request.key.clone(),
            address,
            hostname: request.hostname.clone(),
            relay_info: request.relay_info.clone().unwrap_or_default(),
            lease_s: cfg.lease_s,
        };
        let wait = Wait::Lease { address, is_new: true, request: Box::new(request) };
        self.propose(client, wait, commit, now)
    }

    /// RFC 2131 §4.3.3. Only the holder of a lease or an offer is believed: whoever may decline any
    /// address can empty the pool.
    fn on_decline(
        &mut self,
        leases: &impl Leases,
        request: &Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        if let Some(other) = request.other_server(cfg.gateway) {
            return Err(DropReason::OtherServer(other));
        }
        let address = request.requested.ok_or(DropReason::NoAddress)?;
        let client = request.key.identity();
        let session = match held(leases, &request.key, address) {
            Some(lease) => Some(lease.session),
            None if self.offers.address_of(&client) == Some(address) => None,
            None => return Err(DropReason::NotHolder(address)),
        };
        self.end(&client, Commit::Decline { session, address }, now)
    }

    /// RFC 2131 §4.3.4.
    fn on_release(
        &mut self,
        leases: &impl Leases,
        request: &Request,
        now: Tick,
        cfg: &PoolConfig,
    ) -> Result<Action, DropReason> {
        if let Some(other) = request.other_server(cfg.gateway) {
            return Err(DropReason::OtherServer(other));
        }
        let address = request.ciaddr;
        if address.is_unspecified() {
            return Err(DropReason::NoAddress);
        }
        let lease = held(leases, &request.key, address).ok_or(DropReason::NotHolder(address))?;
        self.end(&request.key.identity(), Commit::Release { session: lease.session }, now)
    }

    /// RFC 2131 §4.3.5.
    fn on_inform(request: &Request, cfg: &PoolConfig) -> Result<Action, DropReason> {
        if request.ciaddr.is_unspecified() {
            return Err(DropReason::NoAddress);
        }
        if !cfg.in_network(request.ciaddr) {
            return Err(DropReason::WrongNetwork(request.ciaddr));
        }
        Ok(reply::ack_inform(request, cfg))
    }

    /// Proposes the end of a lease, once; a reply that its client still waits for is given up.
    fn end(&mut self, client: &ClientKey, commit: Commit, now: Tick) -> Result<Action, DropReason> {
        if self.pending.of_client(client) == Some(&mut Wait::End) {
            return Err(DropReason::CommitPending);
        }
        self.propose(client, Wait::End, commit, now)
    }

    fn propose(
        &mut self,
        client: &ClientKey,
        wait: Wait,
        request: Commit,
        now: Tick,
    ) -> Result<Action, DropReason> {
        let token = self.pending.insert(client, wait, now).ok_or(DropReason::Busy)?;
        self.offers.remove(client);
        Ok(Action::Commit { token, request })
    }

    /// Whether `client` may have an address that it has no lease on.
    fn is_free(
        &self,
        leases: &impl Leases,
        address: Ipv4Addr,
        client: &ClientKey,
        cfg: &PoolConfig,
    ) -> bool {
        cfg.is_grantable(address)
            && !self.is_set_aside(address, client)
            && leases.free(Some(address)) == Some(address)
    }

    /// Whether an address is offered, or being granted, to somebody else.
    fn is_set_aside(&self, address: Ipv4Addr, client: &ClientKey) -> bool {
        let holders = [self.offers.client_of(address), self.pending.client_of(address)];
        holders.into_iter().flatten().any(|holder| holder != client)
    }
}

/// Which kind of REQUEST this is, and for which address. RFC 2131 §4.3.2, table 4.
fn claim(request: &Request, cfg: &PoolConfig) -> Result<(Claim, Ipv4Addr), DropReason> {
    let ciaddr = Some(request.ciaddr).filter(|a| !a.is_unspecified());
    if request.server_id.is_some() {
        // `ciaddr` must be zero here; a client that fills it in place of option 50 means the same.
        let address = request.requested.or(ciaddr).ok_or(DropReason::NoAddress)?;
        return Ok((Claim::Selecting, address));
    }
    match ciaddr {
        None => request.requested.map(|a| (Claim::InitReboot, a)).ok_or(DropReason::NoAddress),
        Some(address) if request.is_relayed() || request.dst_ip.is_broadcast() => {
            Ok((Claim::Rebinding, address))
        }
        Some(address) if request.dst_ip == cfg.gateway => Ok((Claim::Renewing, address)),
        Some(_) => Err(DropReason::OtherServer(request.dst_ip)),
    }
}

/// The client's lease, unless the pool has moved to another network since.
fn lease_of(leases: &impl Leases, key: &ClientKey, cfg: &PoolConfig) -> Option<Lease> {
    leases.by_client(key).filter(|lease| cfg.in_network(lease.address))
}

/// The client's lease on `address`, held under the very attachment that asks to end it.
fn held(leases: &impl Leases, key: &ClientKey, address: Ipv4Addr) -> Option<Lease> {
    leases
        .by_client(key)
        .filter(|lease| lease.address == address && lease.key.attachment == key.attachment)
}

#[cfg(test)]
mod tests;
