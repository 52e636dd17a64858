use crate::cookie::{self, CookieCheck};
use crate::limit::{HostLimit, PortLimit};
use crate::{Code, DropReason, Packet, ServerConfig, Tag, tag};
use model::{Attachment, MacAddr, Tick, UnixMs};

/// What the driver has to do with a discovery packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a frame of type [`ether::ethertype::PPPOE_DISCOVERY`].
    Reply {
        /// The host.
        to: Attachment,
        /// Discovery payload.
        payload: Vec<u8>,
    },
    /// The host asks for a session and receives what is sent to its address.
    ///
    /// A host whose PADS got lost asks again: when the attachment has a half-open session, answer
    /// with the same session id. [`pads`] or [`pads_refused`] makes the answer.
    Open {
        /// The host.
        from: Attachment,
        /// What it asked for.
        request: Padr,
    },
    /// A PADT arrived. Anyone can send one: check that the session belongs to the attachment.
    Close {
        /// Where it came from.
        from: Attachment,
        /// The session that it names, never 0.
        sid: u16,
    },
    /// Nothing, except to count it.
    Drop(DropReason),
}

/// A PADR with a good cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Padr {
    /// Service-Name, empty when any will do.
    pub service: Vec<u8>,
    /// Host-Uniq, to be echoed.
    pub host_uniq: Option<Vec<u8>>,
    /// The relay's token, to be echoed.
    pub relay_session_id: Option<Vec<u8>>,
    /// Agreed PPP payload in octets, when both sides can carry more than 1492. RFC 4638.
    pub max_payload: Option<u16>,
    /// TR-101 Agent Circuit ID.
    pub circuit_id: Option<String>,
    /// TR-101 Agent Remote ID.
    pub remote_id: Option<String>,
    /// TR-101 actual data rate upstream, in kbit/s.
    pub line_up_kbps: Option<u32>,
    /// TR-101 actual data rate downstream, in kbit/s.
    pub line_down_kbps: Option<u32>,
}

impl Padr {
    fn read(packet: &Packet<'_>, service: &[u8], cfg: &ServerConfig) -> Self {
        let line = packet.line_info();
        Self {
            service: service.to_vec(),
            host_uniq: packet.tag(tag::HOST_UNIQ).map(<[u8]>::to_vec),
            relay_session_id: packet.tag(tag::RELAY_SESSION_ID).map(<[u8]>::to_vec),
            max_payload: cfg.agreed_max_payload(packet.max_payload()),
            circuit_id: line.circuit_id,
            remote_id: line.remote_id,
            line_up_kbps: line.up_kbps,
            line_down_kbps: line.down_kbps,
        }
    }
}

/// Why a session is refused, as a PADS can tell it. RFC 2516 appendix A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadsError {
    /// The service is not offered.
    ServiceNameError,
    /// The concentrator lacks resources or failed.
    AcSystemError,
    /// Anything else that trying again will not change.
    GenericError,
}

impl PadsError {
    const fn tag_kind(self) -> u16 {
        match self {
            Self::ServiceNameError => tag::SERVICE_NAME_ERROR,
            Self::AcSystemError => tag::AC_SYSTEM_ERROR,
            Self::GenericError => tag::GENERIC_ERROR,
        }
    }
}

/// The discovery side of an access concentrator.
///
/// Its memory is of fixed size and may be lost at any time, as in a failover, without harm.
#[derive(Clone, Debug)]
pub struct Server {
    ports: PortLimit,
    padi_hosts: HostLimit,
    padr_hosts: HostLimit,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// Returns a server that has heard of no one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            ports: PortLimit::default(),
            padi_hosts: HostLimit::new(),
            padr_hosts: HostLimit::new(),
        }
    }

    /// Consumes one discovery packet that arrived `from` a host, addressed `to` us or to all.
    ///
    /// `wall` is the cluster's replicated time: it dates the cookies, which the next owner of the group
    /// must accept. The answer always has exactly one action.
    ///
    /// - A PADI for a service that is not offered gets no answer (RFC 2516 §5.2).
    /// - A PADR without a cookie, or with one that is not ours, gets no answer: its source address
    ///   may be forged, and the answer would go to someone else.
    /// - A PADR with an own but outdated cookie gets a PADS with AC-System-Error, so that the host
    ///   starts again with a PADI instead of repeating the PADR.
    /// - A PADR for an unknown service gets a PADS with Service-Name-Error (RFC 2516 §5.4).
    #[must_use]
    pub fn on_frame(
        &mut self,
        from: Attachment,
        to: MacAddr,
        packet: &Packet<'_>,
        now: Tick,
        wall: UnixMs,
        cfg: &ServerConfig,
    ) -> Vec<Action> {
        let handled = if from.mac.is_multicast() {
            Err(DropReason::GroupSource)
        } else {
            match packet.code {
                Code::Padi => self.padi(from, to, packet, now, wall, cfg),
                Code::Padr => self.padr(from, to, packet, now, wall, cfg),
                Code::Padt => padt_received(from, to, packet.session_id),
                Code::Pado | Code::Pads => Err(DropReason::NotForServer),
            }
        };
        vec![handled.unwrap_or_else(Action::Drop)]
    }

    fn padi(
        &mut self,
        from: Attachment,
        to: MacAddr,
        packet: &Packet<'_>,
        now: Tick,
        wall: UnixMs,
        cfg: &ServerConfig,
    ) -> Result<Action, DropReason> {
        if to.is_multicast() && to != MacAddr::BROADCAST {
            return Err(DropReason::Destination);
        }
        if packet.session_id != 0 {
            return Err(DropReason::SessionId(packet.session_id));
        }
        let service = packet.tag(tag::SERVICE_NAME).ok_or(DropReason::NoServiceName)?;
        if !cfg.offers(service) {
            return Err(DropReason::UnknownService);
        }
        // The host first: one that floods must not use up the share of the others.
        if !self.padi_hosts.take(from, now, cfg.padi_per_mac_per_s) {
            return Err(DropReason::HostRate);
        }
        if !self.ports.take(from.port, now, cfg.padi_per_s, cfg.padi_burst) {
            return Err(DropReason::PortRate);
        }
        reply(from, pado(cfg, packet, service, &cookie::make(cfg, from, wall)), cfg)
    }

    fn padr(
        &mut self,
        from: Attachment,
        to: MacAddr,
        packet: &Packet<'_>,
        now: Tick,
        wall: UnixMs,
        cfg: &ServerConfig,
    ) -> Result<Action, DropReason> {
        if to.is_multicast() {
            return Err(DropReason::Destination);
        }
        if packet.session_id != 0 {
            return Err(DropReason::SessionId(packet.session_id));
        }
        let service = packet.tag(tag::SERVICE_NAME).ok_or(DropReason::NoServiceName)?;
        if !self.padr_hosts.take(from, now, cfg.padi_per_mac_per_s) {
            return Err(DropReason::HostRate);
        }
        let cookie = packet.tag(tag::AC_COOKIE).ok_or(DropReason::NoCookie)?;
        let request = Padr::read(packet, service, cfg);
        match cookie::check(cfg, from, wall, cookie) {
            CookieCheck::Forged => Err(DropReason::BadCookie),
            CookieCheck::Stale => {
                let text = "AC-Cookie is outdated";
                reply(from, pads_refused(cfg, &request, PadsError::AcSystemError, text), cfg)
            }
            CookieCheck::Good if cfg.offers(service) => {
                // PADS is made later from this request: what could not be sent then is refused now.
                let answer_octets = pads(cfg, &request, u16::MAX).len();
                if answer_octets > usize::from(cfg.mtu) {
                    return Err(DropReason::AnswerTooLong(answer_octets));
                }
                Ok(Action::Open { from, request })
            }
            CookieCheck::Good => {
                let text = "service is not offered";
                reply(from, pads_refused(cfg, &request, PadsError::ServiceNameError, text), cfg)
            }
        }
    }
}

fn padt_received(from: Attachment, to: MacAddr, sid: u16) -> Result<Action, DropReason> {
    if to.is_multicast() {
        Err(DropReason::Destination)
    } else if sid == 0 {
        Err(DropReason::SessionId(sid))
    } else {
        Ok(Action::Close { from, sid })
    }
}

fn reply(to: Attachment, payload: Vec<u8>, cfg: &ServerConfig) -> Result<Action, DropReason> {
    if payload.len() > usize::from(cfg.mtu) {
        return Err(DropReason::AnswerTooLong(payload.len()));
    }
    Ok(Action::Reply { to, payload })
}

/// RFC 2516 §5.2: the service asked for; the other services too when any will do.
fn pado(cfg: &ServerConfig, padi: &Packet<'_>, service: &[u8], cookie: &[u8]) -> Vec<u8> {
    let mut tags =
        vec![Tag::new(tag::AC_NAME, cfg.ac_name.as_bytes()), Tag::new(tag::SERVICE_NAME, service)];
    if service.is_empty() {
        tags.extend(cfg.services.iter().map(|s| Tag::new(tag::SERVICE_NAME, s.as_bytes())));
    }
    tags.push(Tag::new(tag::AC_COOKIE, cookie));
    for kind in [tag::HOST_UNIQ, tag::RELAY_SESSION_ID] {
        tags.extend(padi.tag(kind).map(|value| Tag::new(kind, value)));
    }
    let max_payload = cfg.agreed_max_payload(padi.max_payload()).map(u16::to_be_bytes);
    tags.extend(max_payload.iter().map(|octets| Tag::new(tag::PPP_MAX_PAYLOAD, octets)));
    Packet { code: Code::Pado, session_id: 0, tags }.emit()
}

/// Returns the PADS that confirms session `sid`. RFC 2516 §5.4, RFC 4638.
#[must_use]
pub fn pads(cfg: &ServerConfig, request: &Padr, sid: u16) -> Vec<u8> {
    let max_payload = request.max_payload.map(u16::to_be_bytes);
    let mut tags = pads_tags(cfg, request);
    tags.extend(max_payload.iter().map(|octets| Tag::new(tag::PPP_MAX_PAYLOAD, octets)));
    Packet { code: Code::Pads, session_id: sid, tags }.emit()
}

/// Returns the PADS that refuses a session: its id is 0 and it carries an error. RFC 2516 §5.4.
#[must_use]
pub fn pads_refused(cfg: &ServerConfig, request: &Padr, error: PadsError, text: &str) -> Vec<u8> {
    let mut tags = pads_tags(cfg, request);
    tags.push(Tag::new(error.tag_kind(), text.as_bytes()));
    Packet { code: Code::Pads, session_id: 0, tags }.emit()
}

fn pads_tags<'a>(cfg: &'a ServerConfig, request: &'a Padr) -> Vec<Tag<'a>> {
    let mut tags = vec![
        Tag::new(tag::AC_NAME, cfg.ac_name.as_bytes()),
        Tag::new(tag::SERVICE_NAME, &request.service),
    ];
    tags.extend(request.host_uniq.iter().map(|v| Tag::new(tag::HOST_UNIQ, v)));
    tags.extend(request.relay_session_id.iter().map(|v| Tag::new(tag::RELAY_SESSION_ID, v)));
    tags
}

/// Returns a PADT, for a session that ends or that is not known. RFC 2516 §5.5.
#[must_use]
pub fn padt(sid: u16, text: Option<&str>) -> Vec<u8> {
    let tags = text.iter().map(|t| Tag::new(tag::GENERIC_ERROR, t.as_bytes())).collect();
    Packet { code: Code::Padt, session_id: sid, tags }.emit()
}

#[cfg(test)]
mod tests;
