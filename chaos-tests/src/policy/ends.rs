//! Both ends of the policy run. Every host sends all the time on every channel, and the far end sends to
//! every host; what arrives is counted. So "passes" is a count that grows, and "is dropped" one that does
//! not while that of another host does.

use crate::lab::netns;
use crate::lab::probe::{Probe, SUBSCRIBER_PORT, TARGET_PORT};
use crate::lab::topology::TARGET;
use anyhow::Result;
use dataplane::PacketSocket;
use ether::{Arp, ArpOperation, Frame, Ipv4, Udp4, checksum, ethertype, ip_protocol};
use model::{MacAddr, Vlans};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;

/// Another address behind the core router.
pub(super) const TARGET_2: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The gateway of the lab's IPoE network.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
/// How often each host sends on each channel.
const BEAT: Duration = Duration::from_millis(20);
/// Beats between two ARP requests of a host.
const ARP_BEATS: u64 = 25;
/// UDP payload of a host that sends much, and how many of them a beat has.
const LARGE_OCTETS: usize = 1000;
const LARGE_PER_BEAT: u64 = 4;
/// IPv4 octets of such a packet.
pub(super) const LARGE_PACKET_OCTETS: u64 = 1028;

/// ICMP types, RFC 792.
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;

/// What is counted of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Channel {
    /// UDP from the host at the target.
    Up,
    /// UDP from the host at the other target.
    Up2,
    /// UDP from the target at the host.
    Down,
    /// Answers of the target to the host's pings.
    Ping,
    /// Answers of the gateway to the host's pings.
    Gateway,
}

const CHANNELS: usize = 5;

impl Channel {
    fn place(self) -> usize {
        match self {
            Self::Up => 0,
            Self::Up2 => 1,
            Self::Down => 2,
            Self::Ping => 3,
            Self::Gateway => 4,
        }
    }
}

/// A simulated IPoE host without DHCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) address: Ipv4Addr,
    pub(super) mac: MacAddr,
    /// Whether the far end sends to it; of two hosts with one address, only to one.
    pub(super) is_called: bool,
}

pub(super) struct Shared {
    pub(super) hosts: Vec<Host>,
    counts: Vec<[AtomicU64; CHANNELS]>,
    /// A host that sends and gets large packets.
    large: AtomicU64,
    stop: AtomicBool,
}

/// Nobody sends much.
const NOBODY: u64 = u64::MAX;

impl Shared {
    pub(super) fn count(&self, host: usize, channel: Channel) -> u64 {
        self.counts[host][channel.place()].load(Ordering::Relaxed)
    }

    fn add(&self, host: usize, channel: Channel) {
        if let Some(counts) = self.counts.get(host) {
            counts[channel.place()].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Makes one host send and get much, or none.
    pub(super) fn enlarge(&self, host: Option<usize>) {
        let host = host.and_then(|h| u64::try_from(h).ok()).unwrap_or(NOBODY);
        self.large.store(host, Ordering::Relaxed);
    }

    /// Payloads of one beat of a host.
    fn payloads(&self, host: usize, beat: u64) -> Vec<Vec<u8>> {
        let probe = Probe { session: u32::try_from(host).unwrap_or(u32::MAX), seq: beat };
        let mut payload = probe.emit().to_vec();
        if u64::try_from(host).ok() == Some(self.large.load(Ordering::Relaxed)) {
            payload.resize(LARGE_OCTETS, 0);
            return (0..LARGE_PER_BEAT).map(|_| payload.clone()).collect();
        }
        vec![payload]
    }
}

/// The running ends. Dropping them stops the threads.
pub(super) struct Ends {
    pub(super) shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<Result<()>>>,
}

impl Ends {
    pub(super) fn start(hosts: Vec<Host>) -> Result<Self> {
        netns::ip_batch(Some("tdm-core"), &format!("addr add {TARGET_2}/32 dev lo\n"))?;
        let shared = Arc::new(Shared {
            counts: hosts.iter().map(|_| Default::default()).collect(),
            hosts,
            large: AtomicU64::new(NOBODY),
            stop: AtomicBool::new(false),
        });
        let (near, far) = (shared.clone(), shared.clone());
        let threads = vec![
            netns::thread_in("tdm-sub", "hosts", move || access(near))?,
            netns::thread_in("tdm-core", "far-end", move || core(far))?,
        ];
        Ok(Self { shared, threads })
    }

    pub(super) fn check(&self) -> Result<()> {
        anyhow::ensure!(!self.threads.iter().any(|t| t.is_finished()), "a thread has ended");
        Ok(())
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("lab: policy: {error:#}"),
                Err(_) => eprintln!("lab: policy: a thread panicked"),
            }
        }
    }
}

fn beats() -> tokio::time::Interval {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    beats
}

/// The hosts, all behind one cable.
async fn access(shared: Arc<Shared>) -> Result<()> {
    let socket = PacketSocket::open_all("acc")?;
    let mut gateways: Vec<Option<MacAddr>> = vec![None; shared.hosts.len()];
    let (mut buf, mut beats, mut beat) = (vec![0; 2048], beats(), 0);
    while !shared.stop.load(Ordering::Acquire) {
        tokio::select! {
            got = socket.recv(&mut buf) => {
                let len = got?.len.min(buf.len());
                on_frame(&shared, &buf[..len], &mut gateways);
            }
            _ = beats.tick() => {
                for frame in frames(&shared, beat, &gateways) {
                    socket.send_async(&frame).await?;
                }
                beat += 1;
            }
        }
    }
    Ok(())
}

fn on_frame(shared: &Shared, octets: &[u8], gateways: &mut [Option<MacAddr>]) {
    let Ok(frame) = Frame::parse(octets) else { return };
    let Some(host) = shared.hosts.iter().position(|h| h.mac == frame.dst) else { return };
    if frame.ethertype == ethertype::ARP {
        if let Ok(arp) = Arp::parse(frame.payload)
            && (arp.operation, arp.sender_ip) == (ArpOperation::Reply, GATEWAY)
        {
            gateways[host] = Some(arp.sender_mac);
        }
    } else if let Some(from) = echo_reply(frame.payload) {
        let channel = if from == GATEWAY { Channel::Gateway } else { Channel::Ping };
        shared.add(host, channel);
    } else if let Ok(Some(udp)) = Udp4::parse(frame.payload)
        && Probe::parse(udp.payload).is_some_and(|p| usize::try_from(p.session) == Ok(host))
    {
        shared.add(host, Channel::Down);
    }
}

fn frames(shared: &Shared, beat: u64, gateways: &[Option<MacAddr>]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (i, (host, gateway)) in shared.hosts.iter().zip(gateways).enumerate() {
        let frame = |dst, ethertype, payload: &[u8]| {
            Frame { dst, src: host.mac, vlans: Vlans::NONE, s_tag: false, ethertype, payload }
                .emit()
        };
        if gateway.is_none() || beat.is_multiple_of(ARP_BEATS) {
            let arp = Arp {
                operation: ArpOperation::Request,
                sender_mac: host.mac,
                sender_ip: host.address,
                target_mac: MacAddr::default(),
                target_ip: GATEWAY,
            };
            out.push(frame(MacAddr::BROADCAST, ethertype::ARP, &arp.emit()));
        }
        let Some(gateway) = *gateway else { continue };
        for payload in shared.payloads(i, beat) {
            let (src, src_port, dst_port) = (host.address, SUBSCRIBER_PORT, TARGET_PORT);
            for dst in [TARGET, TARGET_2] {
                let packet = Udp4 { src, dst, src_port, dst_port, ttl: 64, payload: &payload };
                out.push(frame(gateway, ethertype::IPV4, &packet.emit()));
            }
        }
        for dst in [TARGET, GATEWAY] {
            out.push(frame(gateway, ethertype::IPV4, &echo_request(host.address, dst)));
        }
    }
    out
}

/// An ICMP echo request (RFC 792) without data.
fn echo_request(src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
    let mut echo = vec![ECHO_REQUEST, 0, 0, 0, 0x74, 0x64, 0, 1];
    let sum = checksum(&[&echo]);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    Ipv4 { src, dst, protocol: ip_protocol::ICMP, ttl: 64, payload: &echo }.emit()
}

/// Who answers an echo request with this packet.
fn echo_reply(packet: &[u8]) -> Option<Ipv4Addr> {
    let packet = Ipv4::parse(packet).ok().filter(|p| p.protocol == ip_protocol::ICMP)?;
    (packet.payload.first() == Some(&ECHO_REPLY)).then_some(packet.src)
}

/// The far end: counts what arrives, and sends to the hosts.
async fn core(shared: Arc<Shared>) -> Result<()> {
    let target = UdpSocket::bind(SocketAddrV4::new(TARGET, TARGET_PORT)).await?;
    let second = UdpSocket::bind(SocketAddrV4::new(TARGET_2, TARGET_PORT)).await?;
    let (mut buf, mut buf_2) = ([0; 2048], [0; 2048]);
    let (mut beats, mut beat) = (beats(), 0);
    let heard = |payload: &[u8], channel| {
        if let Some(probe) = Probe::parse(payload)
            && let Ok(host) = usize::try_from(probe.session)
        {
            shared.add(host, channel);
        }
    };
    while !shared.stop.load(Ordering::Acquire) {
        tokio::select! {
            Ok((len, _)) = target.recv_from(&mut buf) => heard(&buf[..len], Channel::Up),
            Ok((len, _)) = second.recv_from(&mut buf_2) => heard(&buf_2[..len], Channel::Up2),
            _ = beats.tick() => {
                let called = shared.hosts.iter().enumerate().filter(|(_, h)| h.is_called);
                for (i, host) in called {
                    let to = SocketAddrV4::new(host.address, SUBSCRIBER_PORT);
                    for payload in shared.payloads(i, beat) {
                        // What is not sent is not counted.
                        let _ = target.send_to(&payload, to).await;
                    }
                }
                beat += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_request_is_whole_and_its_answer_is_known() {
        let mut packet = echo_request(TARGET, GATEWAY);
        assert_eq!(checksum(&[&packet[20..]]), 0);
        assert_eq!(echo_reply(&packet), None);
        packet[20] = ECHO_REPLY;
        assert_eq!(echo_reply(&packet), Some(TARGET));
    }
}
