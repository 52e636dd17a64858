//! The life of the DHCP clients that are not ours, across a takeover.

use super::Site;
use super::checks::Checks;
use super::clients::{Program, RealClient, is_installed};
use crate::lab::cluster::eventually;
use anyhow::{Context as _, Result, ensure};
use api::types::{SubscriberDetail, SubscriberQuery};
use std::time::Duration;

/// dhcpcd probes for some 5 s before it believes an address.
const BIND: Duration = Duration::from_secs(25);
const PING: Duration = Duration::from_secs(5);
/// Half of the lease, and repetitions.
const RENEW: Duration = Duration::from_secs(20);
const RELEASE: Duration = Duration::from_secs(10);

const SECTION: &str = "clients";

/// A client and the lease that it got.
pub(super) struct Guest {
    client: RealClient,
    lease: Option<SubscriberDetail>,
}

impl Guest {
    fn name(&self) -> &'static str {
        self.client.program.name()
    }
}

impl Site {
    /// Starts the clients that are installed.
    pub(super) fn start_clients(&mut self, checks: &mut Checks) -> Result<()> {
        for program in Program::ALL {
            let name = program.name();
            if !is_installed(name) {
                let why = format!("package {} is not installed", program.package());
                checks.skip(SECTION, name, &why);
            } else if !is_installed("fping") {
                checks.skip(SECTION, name, "package fping is not installed");
            } else {
                let client = RealClient::start(self.lab.cluster.topology(), program)?;
                self.clients.push(Guest { client, lease: None });
            }
        }
        Ok(())
    }

    async fn lease_of(&self, guest: &Guest) -> Result<Option<SubscriberDetail>> {
        let query = SubscriberQuery { mac: Some(guest.client.mac), ..SubscriberQuery::default() };
        self.find(&query).await
    }

    /// Checks that each client has a lease and reaches the target.
    pub(super) async fn check_clients_bound(&mut self, checks: &mut Checks) {
        let mut guests = std::mem::take(&mut self.clients);
        for guest in &mut guests {
            let found = eventually("it has a lease and its pings are answered", BIND, || async {
                let lease = self.lease_of(guest).await?;
                let lease = lease
                    .with_context(|| format!("no lease; events {:?}", guest.client.events()))?;
                guest.client.ping()?;
                Ok(lease)
            })
            .await;
            let found = found.map(|lease| {
                let text = lease.ip_address.to_string();
                guest.lease = Some(lease);
                text
            });
            let name = format!("{} gets a lease and pings the target", guest.name());
            checks.note(SECTION, &name, found);
        }
        // One without a lease has failed once; all later checks would only repeat it.
        guests.retain(|g| g.lease.is_some());
        self.clients = guests;
    }

    /// Checks that each client still reaches the target with the address that it has.
    pub(super) async fn check_clients_ping(&self, checks: &mut Checks, when: &str) {
        for guest in &self.clients {
            let found = async {
                eventually("its ping is answered", PING, || async { guest.client.ping() }).await?;
                self.same_lease(guest).await.map(|now| now.ip_address.to_string())
            };
            checks.note(SECTION, &format!("{} still pings: {when}", guest.name()), found.await);
        }
    }

    /// The lease that a client has now, if it is the one that it had first.
    async fn same_lease(&self, guest: &Guest) -> Result<SubscriberDetail> {
        let had = guest.lease.as_ref().context("it had no lease")?;
        let now = self.lease_of(guest).await?.context("its session is gone")?;
        ensure!(
            (now.id, now.ip_address) == (had.id, had.ip_address),
            "it had session {} with {} and has {} with {}",
            had.id,
            had.ip_address,
            now.id,
            now.ip_address
        );
        Ok(now)
    }

    /// Checks that each client renews the same address at the node that owns the group now.
    pub(super) async fn check_clients_renew(&mut self, checks: &mut Checks) {
        let mut guests = std::mem::take(&mut self.clients);
        let mut before = Vec::new();
        for guest in &mut guests {
            before.push(self.same_lease(guest).await.and_then(|lease| {
                let renewals = guest.client.renewals();
                guest.client.renew()?;
                Ok((lease.lease_expires_at, renewals))
            }));
        }
        for (guest, before) in guests.iter().zip(before) {
            let found = match before {
                Ok((expires, renewals)) => self.renewed(guest, expires, renewals).await,
                Err(error) => Err(error),
            };
            let name = format!("{} renews the same address at the new owner", guest.name());
            checks.note(SECTION, &name, found);
        }
        self.clients = guests;
    }

    async fn renewed(&self, guest: &Guest, expires: Option<u64>, said: usize) -> Result<String> {
        eventually("the lease ends later and the client says so", RENEW, || async {
            let now = self.same_lease(guest).await?;
            let end = now.lease_expires_at;
            ensure!(end > expires, "the lease ends at {end:?} as before");
            let renewals = guest.client.renewals();
            ensure!(renewals > said, "its events: {:?}", guest.client.events());
            let node = now.node.unwrap_or_default();
            Ok(format!(
                "{} at {node}, {} s later",
                now.ip_address,
                end.zip(expires).map_or(0, |(a, b)| a - b)
            ))
        })
        .await
    }

    /// Checks that each client can give its address back.
    pub(super) async fn check_clients_release(&mut self, checks: &mut Checks) {
        let mut guests = std::mem::take(&mut self.clients);
        for guest in &mut guests {
            let found = match guest.client.release() {
                Ok(()) => self.released(guest).await,
                Err(error) => Err(error),
            };
            checks.note(SECTION, &format!("{} gives its address back", guest.name()), found);
        }
        self.clients = guests;
    }

    async fn released(&self, guest: &Guest) -> Result<String> {
        let address = guest.lease.as_ref().context("it had no lease")?.ip_address;
        eventually("its session is gone and its address free", RELEASE, || async {
            let session = self.lease_of(guest).await?;
            ensure!(session.is_none(), "still there; events {:?}", guest.client.events());
            let query = SubscriberQuery { ip: Some(address), ..SubscriberQuery::default() };
            ensure!(self.find(&query).await?.is_none(), "{address} is held by another");
            Ok(address.to_string())
        })
        .await
    }
}
