use model::{Attachment, MacAddr, PortId, Tick, UnixMs, Vlans};
use pppoe::client::{self, Client};
use pppoe::{Action, Packet, PadsError, Server, ServerConfig};

const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc1]);
const WALL: UnixMs = UnixMs(1_700_000_000_000);

pub(crate) fn packet(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    let octets = packet.emit();
    assert_eq!(Packet::parse(&octets).as_ref(), Ok(&packet));
    let _ = (packet.error(), packet.max_payload(), packet.line_info());

    let from = Attachment { port: PortId(1), vlans: Vlans::NONE, mac: HOST };
    let own = MacAddr::virtual_router(51);
    let cfg = ServerConfig::new("bng1", [7; 32]);
    let mut server = Server::new();
    for to in [MacAddr::BROADCAST, own] {
        let actions = server.on_frame(from, to, &packet, Tick::from_ms(10), WALL, &cfg);
        assert_eq!(actions.len(), 1);
        for action in actions {
            carry_out(&action, &mut server, &cfg);
        }
    }
    let mut client = Client::new(client::Config::new("", [1, 2, 3]));
    let _ = client.step(client::Event::Start, Tick::ZERO);
    let frame = client::Event::Frame { from_mac: own, packet: &packet };
    let _ = client.step(frame, Tick::from_ms(5));
}

/// Follows an offer to the session, with the cookie that only the server can make.
fn carry_out(action: &Action, server: &mut Server, cfg: &ServerConfig) {
    match action {
        Action::Reply { to, payload } => {
            let mut answer = Packet::parse(payload).expect("an answer is sound");
            if answer.code == pppoe::Code::Pado {
                answer.code = pppoe::Code::Padr;
                let own = MacAddr::virtual_router(51);
                let actions = server.on_frame(*to, own, &answer, Tick::from_ms(20), WALL, cfg);
                assert_eq!(actions.len(), 1);
            }
        }
        Action::Open { request, .. } => {
            let refused = pppoe::pads_refused(cfg, request, PadsError::AcSystemError, "no");
            for payload in [pppoe::pads(cfg, request, 1), refused] {
                assert!(Packet::parse(&payload).is_ok());
            }
        }
        Action::Close { sid, .. } => assert_ne!(*sid, 0),
        Action::Drop(reason) => assert!(!reason.label().is_empty()),
    }
}

pub(crate) fn session(data: &[u8]) {
    let Ok((sid, ppp)) = pppoe::parse_session(data) else { return };
    assert_eq!(pppoe::parse_session(&pppoe::emit_session(sid, ppp)), Ok((sid, ppp)));
    if let Ok((_, information)) = ppp::wire::split(ppp)
        && let Ok(packet) = ppp::wire::Packet::parse(information)
    {
        // Ends at the first bad option; each good one takes two octets at least.
        let options = ppp::wire::ConfigOptions::new(packet.data).count();
        assert!(options <= packet.data.len() / 2 + 1);
    }
}
