//! Subscribers with private addresses.

use super::checks::{Checks, until};
use super::{PORTS_PER_BLOCK, PPPOE, PRIVATE, Site};
use crate::lab::netns;
use crate::lab::subscribers::Seen;
use crate::lab::topology::TARGET;
use anyhow::{Context as _, Result, anyhow, ensure};
use dataplane::boottime_now;
use model::{NatBlock, SessionId, Tick};
use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

/// A port of the target from which nobody was sent anything.
const STRANGER_PORT: u16 = 9001;
/// Packets of a stranger to each address.
const STRAYS: u64 = 5;
const FLOW: Duration = Duration::from_secs(10);

/// A probe from the subscriber after `since` came from a port of the block.
fn translated(seen: &Seen, block: NatBlock, since: Tick) -> Result<()> {
    ensure!(seen.up.last() > since && seen.down.last() > since, "silent");
    let outside = seen.outside().context("never heard at the core")?;
    let NatBlock { public, first_port, last_port } = block;
    ensure!(*outside.ip() == public, "came from {outside}, not from {public}");
    ensure!(
        (first_port..=last_port).contains(&outside.port()),
        "came from {outside}, outside of ports {first_port} to {last_port}"
    );
    Ok(())
}

impl Site {
    /// Checks that each private subscriber is seen behind its own port block, that answers to the port it
    /// opened come back, and that the block is the one of before.
    pub(super) async fn check_blocks(&mut self, checks: &mut Checks, when: &str) {
        let found = self.blocks_in_force().await;
        checks.note("nat", &format!("each subscriber keeps to its port block: {when}"), found);
        let found = self.block_by_bngctl().await;
        checks.note("nat", &format!("bngctl session show tells the block: {when}"), found);
    }

    async fn blocks_in_force(&mut self) -> Result<String> {
        let since = boottime_now();
        let mut blocks = BTreeSet::new();
        for i in PPPOE - PRIVATE..PPPOE {
            let nat = self.detail_of(i).await?.nat;
            let nat = nat.with_context(|| format!("subscriber {i} has no block"))?;
            let block = NatBlock {
                public: nat.public,
                first_port: nat.first_port,
                last_port: nat.last_port,
            };
            ensure!(
                u32::from(block.last_port - block.first_port) + 1 == PORTS_PER_BLOCK,
                "{block:?} has not {PORTS_PER_BLOCK} ports"
            );
            ensure!(blocks.insert(block), "two subscribers have {block:?}");
            let before = *self.blocks.entry(i).or_insert(block);
            ensure!(before == block, "subscriber {i} had {before:?} and has {block:?}");
            let seen = &self.lab.subscribers.shared().seen[i];
            until("translated traffic both ways", FLOW, || translated(seen, block, since))
                .await
                .with_context(|| format!("subscriber {i}"))?;
        }
        Ok(format!("{} blocks of {PORTS_PER_BLOCK} ports, traffic both ways", blocks.len()))
    }

    async fn block_by_bngctl(&self) -> Result<String> {
        let i = PPPOE - 1;
        let block = self.blocks.get(&i).context("no block is known")?;
        let SessionId(id) = self.detail_of(i).await?.id;
        let shown = self.bngctl.run(&["session", "show", &id.to_string()])?;
        let want = format!("{} ports {}-{}", block.public, block.first_port, block.last_port);
        ensure!(shown.contains(&want), "{want:?} is not in {shown:?}");
        Ok(want)
    }

    /// Sends to ports that no flow has opened, and to a private address from the core: nothing may
    /// reach a subscriber, and nothing may go round.
    pub(super) async fn check_strays(&self, checks: &mut Checks) {
        let found = self.strays().await;
        checks.note("nat", "what nobody asked for is dropped", found);
    }

    async fn strays(&self) -> Result<String> {
        let i = PPPOE - 1;
        let block = self.blocks.get(&i).context("no block is known")?;
        let seen = &self.lab.subscribers.shared().seen[i];
        let inside = seen.address().context("no address")?;
        let open = seen.outside().context("never heard at the core")?;
        let unused =
            if open.port() == block.last_port { block.first_port } else { block.last_port };
        let targets =
            [open, SocketAddrV4::new(block.public, unused), SocketAddrV4::new(inside, 40_000)];
        send_strays(Arc::new(targets), self.probe_of(i)?).await?;
        let asked = 2 * STRAYS;
        until("the packets reach a node", FLOW, || {
            let seen = self.tap.seen();
            ensure!(seen.to_public >= asked, "{} of {asked} to public ports", seen.to_public);
            ensure!(seen.to_private >= STRAYS, "{} to a private address", seen.to_private);
            Ok(())
        })
        .await?;
        // What is sent after them takes the same way, so once it has arrived they were dealt with.
        self.lab.flowing(boottime_now()).await?;
        let strays =
            self.lab.subscribers.shared().strays.load(std::sync::atomic::Ordering::Relaxed);
        let looped = self.tap.seen().looped;
        ensure!(strays == 0, "{strays} packets of a stranger reached a subscriber");
        ensure!(looped == 0, "{looped} packets went back to the core");
        Ok(format!("{} packets to a block and to a private address", 3 * STRAYS))
    }

    /// A payload that the subscriber would count.
    fn probe_of(&self, i: usize) -> Result<Vec<u8>> {
        let session = u32::try_from(i)?;
        Ok(crate::lab::probe::Probe { session, seq: crate::lab::probe::STRAY_SEQ }.emit().to_vec())
    }
}

async fn send_strays(targets: Arc<[SocketAddrV4; 3]>, payload: Vec<u8>) -> Result<()> {
    let thread = netns::thread_in("tdm-core", "stranger", move || async move {
        let from = SocketAddrV4::new(TARGET, STRANGER_PORT);
        let socket = tokio::net::UdpSocket::bind(from).await?;
        for _ in 0..STRAYS {
            for to in targets.iter() {
                socket.send_to(&payload, to).await?;
            }
        }
        Ok(())
    })?;
    let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
    joined.map_err(|_| anyhow!("the stranger panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_port_outside_of_the_block_and_another_address_are_found() {
        let public = Ipv4Addr::new(203, 0, 113, 8);
        let block = NatBlock { public, first_port: 2048, last_port: 3071 };
        let rows = [
            (public, 2048, true),
            (public, 3071, true),
            (public, 3072, false),
            (public, 2047, false),
            (Ipv4Addr::new(203, 0, 113, 9), 2048, false),
            (Ipv4Addr::new(100, 66, 0, 2), 2048, false),
        ];
        for (address, port, good) in rows {
            let seen = Seen::default();
            seen.up.arrived(Tick::from_ms(9));
            seen.down.arrived(Tick::from_ms(9));
            seen.seen_from(SocketAddrV4::new(address, port));
            assert_eq!(
                translated(&seen, block, Tick::from_ms(5)).is_ok(),
                good,
                "{address}:{port}"
            );
            assert!(translated(&seen, block, Tick::from_ms(9)).is_err(), "silent since");
        }
    }
}
