//! One simulated subscriber.

use crate::lab::cluster::{PASSWORD, user_name};
use ether::{Arp, ArpOperation, Frame, Udp4, ethertype};
use model::{MacAddr, Secret, Tick, Vlans};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long a subscriber waits before it dials again.
const REDIAL: Duration = Duration::from_secs(1);
/// How long a client waits for the first answer; real ones take 3 to 5 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a subscriber speaks.
pub enum Kind {
    /// PPPoE and PPP.
    Pppoe {
        /// Discovery.
        discovery: Box<pppoe::client::Client>,
        /// PPP, once discovery is done.
        ppp: Option<Box<ppp::client::Client>>,
        /// PPP settings.
        cfg: Box<ppp::client::ClientConfig>,
    },
    /// IPoE.
    Dhcp {
        /// The client.
        client: Box<dhcp::client::Client>,
        /// The router that it was told.
        router: Option<Ipv4Addr>,
    },
}

/// What a subscriber did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It has an address.
    Up(Ipv4Addr),
    /// Its session ended, without its wish.
    Lost,
}

/// A subscriber: protocol engines, address, and what it is about to do.
pub struct Host {
    index: usize,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Tags of its frames.
    pub vlans: Vlans,
    kind: Kind,
    wants: bool,
    redial_at: Option<Tick>,
    /// The gateway's MAC, learnt from PADS or ARP.
    pub gateway: Option<MacAddr>,
    /// PPPoE SESSION_ID.
    pub sid: Option<u16>,
    /// Its address while the session is up.
    pub address: Option<Ipv4Addr>,
    /// Frames to send.
    pub out: Vec<Vec<u8>>,
    /// What happened, for the driver.
    pub news: Vec<News>,
}

/// The MAC address of subscriber `i`.
#[must_use]
pub(super) fn mac_of(i: usize) -> MacAddr {
    let n = u32::try_from(i).unwrap_or(u32::MAX).to_be_bytes();
    MacAddr([0x02, 0x74, n[0], n[1], n[2], n[3]])
}

/// The subscriber that owns a MAC address.
#[must_use]
pub(super) fn index_of(mac: MacAddr) -> Option<usize> {
    let [0x02, 0x74, a, b, c, d] = mac.0 else { return None };
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()
}

impl Host {
    /// A PPPoE subscriber.
    #[must_use]
    pub fn pppoe(index: usize) -> Self {
        let uniq = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
        let mut discovery = pppoe::client::Config::new("", uniq);
        discovery.timeout = PATIENCE;
        let cfg = ppp::client::ClientConfig {
            username: user_name(index),
            password: Secret::new(PASSWORD),
            restart: Duration::from_secs(1),
            ..ppp::client::ClientConfig::default()
        };
        let discovery = Box::new(pppoe::client::Client::new(discovery));
        Self::new(index, Kind::Pppoe { discovery, ppp: None, cfg: Box::new(cfg) })
    }

    /// A DHCP subscriber.
    #[must_use]
    pub fn dhcp(index: usize) -> Self {
        let cfg = dhcp::client::Config {
            hostname: format!("cpe{index}"),
            initial_retry: PATIENCE,
            renew_retry_min: Duration::from_secs(1),
            ..dhcp::client::Config::new(mac_of(index))
        };
        let seed =
            u64::try_from(index).unwrap_or(0).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let client = Box::new(dhcp::client::Client::new(cfg, seed));
        Self::new(index, Kind::Dhcp { client, router: None })
    }

    fn new(index: usize, kind: Kind) -> Self {
        Self {
            index,
            mac: mac_of(index),
            vlans: Vlans::NONE,
            kind,
            wants: false,
            redial_at: None,
            gateway: None,
            sid: None,
            address: None,
            out: Vec::new(),
            news: Vec::new(),
        }
    }

    /// The same subscriber behind these tags.
    #[must_use]
    pub fn tagged(self, vlans: Vlans) -> Self {
        Self { vlans, ..self }
    }

    /// Whether a frame bears the tags of this subscriber.
    #[must_use]
    pub fn has_tags_of(&self, frame: &Frame<'_>) -> bool {
        (frame.vlans, frame.s_tag) == (self.vlans, self.vlans.has_service_tag())
    }

    /// Dials in.
    pub fn dial(&mut self, now: Tick) {
        if self.wants {
            return;
        }
        self.wants = true;
        self.start(now);
    }

    fn start(&mut self, now: Tick) {
        self.redial_at = None;
        match &mut self.kind {
            Kind::Pppoe { discovery, .. } => {
                let actions = discovery.step(pppoe::client::Event::Start, now);
                self.discovery(actions, now);
            }
            Kind::Dhcp { client, .. } => {
                let actions = client.step(dhcp::client::Event::Start, now);
                self.dhcp_actions(actions, now);
            }
        }
    }

    /// Hangs up, in order.
    pub fn hang_up(&mut self, now: Tick) {
        self.wants = false;
        self.redial_at = None;
        self.address = None;
        match &mut self.kind {
            Kind::Pppoe { discovery, .. } => {
                let actions = discovery.step(pppoe::client::Event::Close, now);
                self.discovery(actions, now);
            }
            Kind::Dhcp { client, .. } => {
                let actions = client.step(dhcp::client::Event::Release, now);
                self.dhcp_actions(actions, now);
            }
        }
    }

    /// Forgets everything, and says nothing more.
    pub fn vanish(&mut self) {
        *self = match self.kind {
            Kind::Pppoe { .. } => Self::pppoe(self.index),
            Kind::Dhcp { .. } => Self::dhcp(self.index),
        };
    }

    /// When [`Host::on_time`] is next due.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        let engine = match &self.kind {
            Kind::Pppoe { discovery, ppp, .. } => {
                let ppp = ppp.as_ref().and_then(|p| p.deadline());
                [discovery.deadline(), ppp].into_iter().flatten().min()
            }
            Kind::Dhcp { client, .. } => client.deadline(),
        };
        [engine, self.redial_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Tick) {
        if self.redial_at.is_some_and(|at| at <= now) {
            return self.start(now);
        }
        match &mut self.kind {
            Kind::Pppoe { discovery, ppp, cfg } => {
                let ppp_actions = match ppp {
                    Some(ppp) if ppp.deadline().is_some_and(|at| at <= now) => {
                        ppp.step(ppp::client::Event::Deadline, now, cfg)
                    }
                    Some(_) | None => vec![],
                };
                let found = if discovery.deadline().is_some_and(|at| at <= now) {
                    discovery.step(pppoe::client::Event::Deadline, now)
                } else {
                    vec![]
                };
                self.ppp(ppp_actions, now);
                self.discovery(found, now);
            }
            Kind::Dhcp { client, .. } => {
                if client.deadline().is_some_and(|at| at <= now) {
                    let actions = client.step(dhcp::client::Event::Deadline, now);
                    self.dhcp_actions(actions, now);
                }
            }
        }
    }

    /// Consumes a frame; returns the UDP payload of a data packet for this subscriber.
    pub fn on_frame<'a>(&mut self, frame: &Frame<'a>, now: Tick) -> Option<&'a [u8]> {
        match (frame.ethertype, &mut self.kind) {
            (ethertype::PPPOE_DISCOVERY, Kind::Pppoe { discovery, .. }) => {
                let packet = pppoe::Packet::parse(frame.payload).ok()?;
                let event = pppoe::client::Event::Frame { from_mac: frame.src, packet: &packet };
                let actions = discovery.step(event, now);
                self.discovery(actions, now);
                None
            }
            (ethertype::PPPOE_SESSION, Kind::Pppoe { ppp, cfg, .. }) => {
                let (sid, ppp_frame) = pppoe::parse_session(frame.payload).ok()?;
                if Some(sid) != self.sid {
                    return None;
                }
                if let Some(packet) = ppp_frame.strip_prefix(&[0x00, 0x21]) {
                    return data(packet);
                }
                let actions = ppp.as_mut()?.step(ppp::client::Event::Frame(ppp_frame), now, cfg);
                self.ppp(actions, now);
                None
            }
            (ethertype::ARP, Kind::Dhcp { router, .. }) => {
                let arp = Arp::parse(frame.payload).ok()?;
                if Some(arp.sender_ip) == *router && arp.operation == ArpOperation::Reply {
                    self.gateway = Some(arp.sender_mac);
                }
                None
            }
            (ethertype::IPV4, Kind::Dhcp { client, .. }) => {
                let udp = Udp4::parse(frame.payload).ok()??;
                if udp.dst_port != 68 {
                    return Some(udp.payload);
                }
                let actions = client.step(dhcp::client::Event::Message(udp.payload), now);
                self.dhcp_actions(actions, now);
                None
            }
            (_, Kind::Pppoe { .. } | Kind::Dhcp { .. }) => None,
        }
    }

    /// A UDP packet of this subscriber as a frame, once it knows where to send it.
    #[must_use]
    pub fn wrap(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let gateway = self.gateway?;
        match self.sid {
            Some(sid) => {
                let ppp = [&[0x00, 0x21], packet].concat();
                Some(self.frame(gateway, ethertype::PPPOE_SESSION, &pppoe::emit_session(sid, &ppp)))
            }
            None => Some(self.frame(gateway, ethertype::IPV4, packet)),
        }
    }

    fn frame(&self, dst: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let (vlans, s_tag) = (self.vlans, self.vlans.has_service_tag());
        Frame { dst, src: self.mac, vlans, s_tag, ethertype, payload }.emit()
    }

    fn discovery(&mut self, actions: Vec<pppoe::client::Action>, now: Tick) {
        for action in actions {
            match action {
                pppoe::client::Action::Send { dst, payload } => {
                    let frame = self.frame(dst, ethertype::PPPOE_DISCOVERY, &payload);
                    self.out.push(frame);
                }
                pppoe::client::Action::Opened { sid, server } => {
                    self.sid = Some(sid);
                    self.gateway = Some(server);
                    let Kind::Pppoe { ppp, cfg, .. } = &mut self.kind else { continue };
                    let magic =
                        u32::try_from(self.index).unwrap_or(0) ^ 0x5a5a_0001 ^ u32::from(sid) << 16;
                    let mut engine = Box::new(ppp::client::Client::new(magic));
                    let actions = engine.step(ppp::client::Event::Start, now, cfg);
                    *ppp = Some(engine);
                    self.ppp(actions, now);
                }
                pppoe::client::Action::Closed | pppoe::client::Action::Failed => self.ended(now),
            }
        }
    }

    fn ppp(&mut self, actions: Vec<ppp::client::Action>, now: Tick) {
        for action in actions {
            match action {
                ppp::client::Action::Send(ppp) => {
                    let (Some(sid), Some(server)) = (self.sid, self.gateway) else { continue };
                    let frame = self.frame(
                        server,
                        ethertype::PPPOE_SESSION,
                        &pppoe::emit_session(sid, &ppp),
                    );
                    self.out.push(frame);
                }
                ppp::client::Action::Up { local, .. } => self.came_up(local),
                ppp::client::Action::Down(_) => {
                    let Kind::Pppoe { discovery, .. } = &mut self.kind else { continue };
                    let actions = discovery.step(pppoe::client::Event::Close, now);
                    self.discovery(actions, now);
                    self.ended(now);
                }
            }
        }
    }

    fn dhcp_actions(&mut self, actions: Vec<dhcp::client::Action>, now: Tick) {
        for action in actions {
            match action {
                dhcp::client::Action::Send { payload, broadcast, src_ip, dst_ip } => {
                    let packet = Udp4 {
                        src: src_ip,
                        dst: dst_ip,
                        src_port: 68,
                        dst_port: 67,
                        ttl: 64,
                        payload: &payload,
                    }
                    .emit();
                    let dst = if broadcast {
                        MacAddr::BROADCAST
                    } else {
                        self.gateway.unwrap_or(MacAddr::BROADCAST)
                    };
                    let frame = self.frame(dst, ethertype::IPV4, &packet);
                    self.out.push(frame);
                }
                dhcp::client::Action::Bound { address, router: told, .. } => {
                    if let Kind::Dhcp { router, .. } = &mut self.kind {
                        *router = told;
                    }
                    if let (None, Some(router)) = (self.gateway, told) {
                        self.ask_for(router, address);
                    }
                    self.came_up(address);
                }
                dhcp::client::Action::Lost => self.ended(now),
            }
        }
    }

    fn ask_for(&mut self, router: Ipv4Addr, own: Ipv4Addr) {
        let arp = Arp {
            operation: ArpOperation::Request,
            sender_mac: self.mac,
            sender_ip: own,
            target_mac: MacAddr::default(),
            target_ip: router,
        };
        let frame = self.frame(MacAddr::BROADCAST, ethertype::ARP, &arp.emit());
        self.out.push(frame);
    }

    fn came_up(&mut self, address: Ipv4Addr) {
        if self.address.replace(address) != Some(address) {
            self.news.push(News::Up(address));
        }
    }

    fn ended(&mut self, now: Tick) {
        if let Kind::Pppoe { ppp, .. } = &mut self.kind {
            *ppp = None;
            self.sid = None;
        }
        if self.address.take().is_some() && self.wants {
            self.news.push(News::Lost);
        }
        if self.wants && self.redial_at.is_none() {
            self.redial_at = Some(now + REDIAL);
        }
    }
}

fn data(packet: &[u8]) -> Option<&[u8]> {
    Udp4::parse(packet).ok()?.map(|udp| udp.payload)
}
