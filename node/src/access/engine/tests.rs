//! The engine against the client engines of the protocol crates, over a perfect cable and a real
//! state machine, in virtual time.

use super::*;
use model::{
    ClusterId, DownReason, Epoch, Ipv4Range, Node, NodeId, NodeRole, Pool, Rate, Revision, Secret,
    SessionKind, Subscriber,
};
use raft_store::{Bootstrap, Command, Entry, Reply, SessionBatch};
use std::sync::Arc;

mod statics;

const GROUP: GroupId = GroupId(1);
const PORT: PortId = PortId(1);
const EPOCH: Epoch = Epoch(1);
const ME: NodeId = NodeId(1);

struct Bench {
    state: State,
    revision: u64,
    engine: Engine,
    counters: Arc<Counters>,
    waiting: Arc<WaitingList>,
    now: Tick,
}

fn group() -> Group {
    Group {
        id: GROUP,
        name: "g1".into(),
        vrid: 51,
        core_address: Ipv4Addr::new(10, 0, 0, 1),
        core_prefix_len: 24,
        preferred: vec![],
        ac_name: "bng".into(),
        services: vec![GroupService::Pppoe, GroupService::Dhcp],
        owner: None,
        epoch: Epoch(0),
        revision: Revision(0),
    }
}

fn pool(name: &str, service: GroupService, net: u8, last: u8) -> Pool {
    Pool {
        name: name.into(),
        group: GROUP,
        service,
        range: Ipv4Range {
            first: Ipv4Addr::new(100, net, 0, 2),
            last: Ipv4Addr::new(100, net, 0, last),
        },
        prefix_len: 24,
        gateway: Ipv4Addr::new(100, net, 0, 1),
        dns: vec![Ipv4Addr::new(192, 0, 2, 53)],
        lease_s: 60,
        nat: None,
        rate: Rate::default(),
    }
}

impl Bench {
    /// A group owned by this node; each pool has addresses up to `.last`.
    fn new(last: u8) -> Self {
        let addr = "127.0.0.1:1".parse().unwrap();
        let node = Node {
            id: ME,
            name: "n1".into(),
            role: NodeRole::Data,
            raft_addr: addr,
            lease_addr: addr,
            api_addr: addr,
        };
        let bootstrap = Bootstrap {
            level: raft_store::LEVEL_SUPPORTED,
            cluster_id: ClusterId("test".into()),
            nodes: vec![node],
            groups: vec![group()],
            pools: vec![
                pool("pppoe", GroupService::Pppoe, 64, last),
                pool("dhcp", GroupService::Dhcp, 65, last),
            ],
            subscribers: vec![Subscriber {
                username: "user".into(),
                password: Secret::new("right"),
                rate: None,
                address: None,
                pool: None,
            }],
            api_users: vec![],
            jwt_secret: Secret::new("s"),
            cookie_key: [7; 32],
        };
        let counters = Arc::new(Counters::default());
        let mut state = State::new();
        let mut revision = 0;
        for command in [
            Command::Bootstrap(Box::new(bootstrap)),
            Command::Acquire { group: GROUP, node: ME, epoch: EPOCH },
        ] {
            revision += 1;
            let reply = commit(&mut state, revision, command);
            assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        }
        let now = Tick::from_ms(1_000);
        let waiting = Arc::new(WaitingList::default());
        let engine = Engine::new(&group(), &state, counters.clone(), waiting.clone(), now);
        Self { state, revision, engine, counters, waiting, now }
    }

    /// The same sessions at another node: only the state comes along.
    fn take_over(&mut self) {
        self.waiting = Arc::new(WaitingList::default());
        let (counters, waiting) = (self.counters.clone(), self.waiting.clone());
        self.engine = Engine::new(&group(), &self.state, counters, waiting, self.now);
    }

    /// Delivers a frame, carries everything out, and returns the frames that leave.
    fn frame(&mut self, octets: &[u8]) -> Vec<Vec<u8>> {
        self.engine.on_frame(PORT, octets, &self.state, self.now, UnixMs(1_700_000_000_000));
        self.settle()
    }

    /// Lets time pass to `ms` and carries out what is due.
    fn until(&mut self, ms: u64) -> Vec<Vec<u8>> {
        self.now = Tick::from_ms(ms);
        self.engine.on_time(&self.state, self.now);
        self.settle()
    }

    fn settle(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let outputs = self.engine.take_output();
            if outputs.is_empty() {
                return frames;
            }
            for output in outputs {
                match output {
                    Output::Send { frame, .. } => frames.push(frame),
                    Output::Propose { pending, op } => {
                        let batch =
                            SessionBatch { group: GROUP, node: ME, epoch: EPOCH, ops: vec![op] };
                        self.revision += 1;
                        let Reply::Sessions(mut replies) =
                            commit(&mut self.state, self.revision, Command::Sessions(batch))
                        else {
                            panic!("a batch answers with one reply each");
                        };
                        let outcome = OpOutcome::Committed(replies.remove(0));
                        self.engine.on_outcome(pending, &outcome, &self.state, self.now);
                    }
                }
            }
        }
    }
}

fn commit(state: &mut State, revision: u64, command: Command) -> Reply {
    let entry = Entry { at: UnixMs(1_700_000_000_000), client: None, trace: None, command };
    state.apply(Revision(revision), &entry).0
}

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

/// A PPPoE client on the cable.
struct Dialler {
    discovery: ::pppoe::client::Client,
    ppp: ppp::client::Client,
    cfg: ppp::client::ClientConfig,
    server: MacAddr,
    sid: u16,
    address: Option<Ipv4Addr>,
    down: bool,
    mac: MacAddr,
    vlans: Vlans,
}

impl Dialler {
    fn new(password: &str) -> Self {
        let cfg = ppp::client::ClientConfig {
            username: "user".into(),
            password: Secret::new(password),
            ..ppp::client::ClientConfig::default()
        };
        Self {
            discovery: ::pppoe::client::Client::new(::pppoe::client::Config::new("", [1, 2, 3, 4])),
            ppp: ppp::client::Client::new(0x1234_5678),
            cfg,
            server: MacAddr::BROADCAST,
            sid: 0,
            address: None,
            down: false,
            mac: MAC,
            vlans: Vlans::NONE,
        }
    }

    fn emit(&self, dst: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let (vlans, s_tag) = (self.vlans, self.vlans.has_service_tag());
        Frame { dst, src: self.mac, vlans, s_tag, ethertype, payload }.emit()
    }

    fn discovery(&mut self, actions: Vec<::pppoe::client::Action>, now: Tick) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for action in actions {
            match action {
                ::pppoe::client::Action::Send { dst, payload } => {
                    out.push(self.emit(dst, ethertype::PPPOE_DISCOVERY, &payload));
                }
                ::pppoe::client::Action::Opened { sid, server } => {
                    (self.sid, self.server) = (sid, server);
                    let actions = self.ppp.step(ppp::client::Event::Start, now, &self.cfg);
                    out.extend(self.ppp(actions));
                }
                ::pppoe::client::Action::Closed | ::pppoe::client::Action::Failed => {
                    self.down = true
                }
            }
        }
        out
    }

    fn ppp(&mut self, actions: Vec<ppp::client::Action>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for action in actions {
            match action {
                ppp::client::Action::Send(frame) => {
                    let payload = ::pppoe::emit_session(self.sid, &frame);
                    out.push(self.emit(self.server, ethertype::PPPOE_SESSION, &payload));
                }
                ppp::client::Action::Up { local, .. } => self.address = Some(local),
                ppp::client::Action::Down(_) => self.down = true,
            }
        }
        out
    }

    fn on_frame(&mut self, octets: &[u8], now: Tick) -> Vec<Vec<u8>> {
        let frame = Frame::parse(octets).unwrap();
        match frame.ethertype {
            ethertype::PPPOE_DISCOVERY => {
                let packet = ::pppoe::Packet::parse(frame.payload).unwrap();
                let event = ::pppoe::client::Event::Frame { from_mac: frame.src, packet: &packet };
                let actions = self.discovery.step(event, now);
                self.discovery(actions, now)
            }
            ethertype::PPPOE_SESSION => {
                let (_, ppp) = ::pppoe::parse_session(frame.payload).unwrap();
                let actions = self.ppp.step(ppp::client::Event::Frame(ppp), now, &self.cfg);
                self.ppp(actions)
            }
            _ => vec![],
        }
    }

    /// Plays frames to and fro until both sides are silent.
    fn talk(&mut self, bench: &mut Bench, mut frames: Vec<Vec<u8>>) {
        for _ in 0..200 {
            let answers: Vec<Vec<u8>> = frames.iter().flat_map(|f| bench.frame(f)).collect();
            if answers.is_empty() {
                return;
            }
            frames = answers.iter().flat_map(|f| self.on_frame(f, bench.now)).collect();
        }
        panic!("the two sides never fall silent");
    }

    fn dial(&mut self, bench: &mut Bench) {
        let actions = self.discovery.step(::pppoe::client::Event::Start, bench.now);
        let frames = self.discovery(actions, bench.now);
        self.talk(bench, frames);
    }
}

fn count(bench: &Bench, name: &str, label: &str) -> u64 {
    bench
        .counters
        .all()
        .iter()
        .find(|(n, l, _)| *n == name && *l == label)
        .map_or(0, |(_, _, n)| *n)
}

#[test]
fn a_pppoe_client_gets_the_address_that_the_log_gave_it() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    let session = bench.state.session_by_pppoe(GROUP, dialler.sid).expect("committed").clone();
    assert_eq!(dialler.address, Some(session.address));
    assert_eq!(dialler.server, group().virtual_mac());
    assert_eq!(session.username, "user");
    assert_eq!(count(&bench, "sessions", "pppoe_up"), 1);
}

#[test]
fn a_wrong_password_makes_no_session() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("wrong");
    dialler.dial(&mut bench);
    assert!(dialler.address.is_none() && dialler.down);
    assert_eq!(bench.state.sessions().len(), 0);
}

#[test]
fn an_exhausted_pool_ends_the_link_and_is_counted() {
    let mut bench = Bench::new(2);
    let mut first = dhcp::client::Client::new(dhcp::client::Config::new(MAC), 7);
    let actions = first.step(dhcp::client::Event::Start, bench.now);
    dhcp_exchange(&mut bench, &mut first, actions);
    assert!(first.address().is_some(), "the only address of the DHCP pool");
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    assert!(dialler.address.is_some(), "the only address of the PPPoE pool");
    let mut other = Dialler::new("right");
    other.mac = MacAddr([2, 0, 0, 0, 0, 10]);
    other.dial(&mut bench);
    assert!(other.address.is_none() && other.down, "terminated");
    assert_eq!(count(&bench, "session_refused", "pool_exhausted"), 1);
    assert_eq!(bench.state.sessions().len(), 2);
}

#[test]
fn a_link_goes_on_at_the_new_owner_with_the_same_magic_number() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    bench.take_over();
    let SessionKind::Pppoe(saved) = &bench.state.session_by_pppoe(GROUP, dialler.sid).unwrap().kind
    else {
        panic!("a PPPoE session");
    };
    let (ours, theirs) = (saved.local_magic, saved.peer_magic);
    // LCP Echo-Request, RFC 1661 §5.8, with the client's magic number.
    let mut echo = vec![0xc0, 0x21, 9, 1, 0, 8];
    echo.extend(theirs.to_be_bytes());
    let payload = ::pppoe::emit_session(dialler.sid, &echo);
    let frame = dialler.emit(dialler.server, ethertype::PPPOE_SESSION, &payload);
    let answers = bench.frame(&frame);
    let reply = answers
        .iter()
        .filter_map(|f| {
            let frame = Frame::parse(f).unwrap();
            let (_, ppp) = ::pppoe::parse_session(frame.payload).ok()?;
            (ppp.get(2) == Some(&10)).then(|| ppp[6..10].to_vec())
        })
        .next();
    assert_eq!(reply, Some(ours.to_be_bytes().to_vec()), "an Echo-Reply with our old magic number");
}

#[test]
fn a_dead_peer_leaves_the_log_after_its_echoes_stay_unanswered_at_the_new_owner_too() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    bench.take_over();
    let mut ms = 1_000;
    while bench.state.sessions().len() == 1 && ms < 300_000 {
        ms += 500;
        bench.until(ms);
    }
    assert_eq!(bench.state.sessions().len(), 0);
    assert!((90_000..160_000).contains(&ms), "three echoes of 30 s each, gone after {ms} ms");
    assert_eq!(count(&bench, "pppoe_down", DownReason::LostCarrier.label()), 1);
}

#[test]
fn a_double_tagged_link_is_spoken_to_under_its_service_tag_at_the_new_owner() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.vlans = Vlans { outer: 200, inner: 20 };
    dialler.dial(&mut bench);
    let tags = |frames: Vec<Vec<u8>>| {
        let frame = Frame::parse(frames.first().expect("a frame")).unwrap();
        (frame.vlans, frame.s_tag)
    };
    bench.take_over();
    let mut echo = Vec::new();
    // The subscriber stays silent, so only the log tells how it is attached.
    for ms in (1_000..120_000).step_by(500) {
        echo.extend(bench.until(ms));
        if !echo.is_empty() {
            break;
        }
    }
    assert_eq!(tags(echo), (dialler.vlans, true), "LCP Echo-Request");
    bench.take_over();
    let session = bench.state.session_by_pppoe(GROUP, dialler.sid).unwrap().clone();
    let reason = DownReason::AdminReset;
    let changes = vec![Change::SessionDown { session, reason }];
    let revision = Revision(bench.revision + 1);
    let batch = ChangeBatch { revision, at: UnixMs(1_700_000_000_000), trace: None, changes };
    bench.engine.on_changes(&batch, &bench.state, bench.now);
    assert_eq!(tags(bench.settle()), (dialler.vlans, true), "PADT");
}

#[test]
fn frames_of_an_unknown_session_get_a_padt_and_of_a_stolen_one_too() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    let echo = [0xc0, 0x21, 9, 1, 0, 8, 0, 0, 0, 0];
    for (sid, src) in [(999, MAC), (dialler.sid, MacAddr([2, 0, 0, 0, 0, 66]))] {
        let payload = ::pppoe::emit_session(sid, &echo);
        let dst = dialler.server;
        let frame = Frame {
            dst,
            src,
            vlans: Vlans::NONE,
            s_tag: false,
            ethertype: ethertype::PPPOE_SESSION,
            payload: &payload,
        };
        let answers = bench.frame(&frame.emit());
        let padt = Frame::parse(&answers[0]).unwrap();
        assert_eq!(
            (padt.ethertype, padt.payload[1]),
            (ethertype::PPPOE_DISCOVERY, 0xa7),
            "sid {sid}"
        );
    }
    assert_eq!(bench.state.sessions().len(), 1, "the real one stays");
}

#[test]
fn a_padt_of_the_owner_of_the_session_ends_it_and_one_of_a_stranger_does_not() {
    let mut bench = Bench::new(10);
    let mut dialler = Dialler::new("right");
    dialler.dial(&mut bench);
    let padt = |src| {
        let payload = ::pppoe::padt(dialler.sid, None);
        let dst = dialler.server;
        Frame {
            dst,
            src,
            vlans: Vlans::NONE,
            s_tag: false,
            ethertype: ethertype::PPPOE_DISCOVERY,
            payload: &payload,
        }
        .emit()
    };
    bench.frame(&padt(MacAddr([2, 0, 0, 0, 0, 66])));
    assert_eq!(bench.state.sessions().len(), 1);
    bench.frame(&padt(MAC));
    assert_eq!(bench.state.sessions().len(), 0);
}

/// One DHCP exchange: feeds the client's messages in, and the server's back.
fn dhcp_exchange(
    bench: &mut Bench,
    client: &mut dhcp::client::Client,
    actions: Vec<dhcp::client::Action>,
) {
    let mut actions = actions;
    for _ in 0..10 {
        let mut answers = Vec::new();
        for action in &actions {
            if let dhcp::client::Action::Send { payload, src_ip, dst_ip, .. } = action {
                let packet = Udp4 {
                    src: *src_ip,
                    dst: *dst_ip,
                    src_port: 68,
                    dst_port: 67,
                    ttl: 64,
                    payload,
                }
                .emit();
                let frame = Frame {
                    dst: MacAddr::BROADCAST,
                    src: MAC,
                    vlans: Vlans::NONE,
                    s_tag: false,
                    ethertype: ethertype::IPV4,
                    payload: &packet,
                };
                answers.extend(bench.frame(&frame.emit()));
            }
        }
        if answers.is_empty() {
            return;
        }
        actions.clear();
        for answer in &answers {
            let frame = Frame::parse(answer).unwrap();
            let udp = Udp4::parse(frame.payload).unwrap().unwrap();
            actions.extend(client.step(dhcp::client::Event::Message(udp.payload), bench.now));
        }
    }
}

#[test]
fn a_dhcp_lease_is_committed_before_the_ack_and_renewed_at_the_new_owner() {
    let mut bench = Bench::new(10);
    let mut client = dhcp::client::Client::new(dhcp::client::Config::new(MAC), 7);
    let actions = client.step(dhcp::client::Event::Start, bench.now);
    dhcp_exchange(&mut bench, &mut client, actions);
    let address = client.address().expect("bound");
    let session = bench.state.session_by_address(address).expect("committed").clone();
    bench.take_over();
    bench.now = client.deadline().expect("T1");
    let actions = client.step(dhcp::client::Event::Deadline, bench.now);
    dhcp_exchange(&mut bench, &mut client, actions);
    let renewed = bench.state.session_by_address(address).expect("still there");
    assert_eq!(client.address(), Some(address));
    assert_eq!(renewed.id, session.id);
    assert!(renewed.modified > session.modified, "the renewal is in the log");
}

#[test]
fn arp_for_the_gateway_is_answered_from_the_virtual_mac_and_for_others_not() {
    let mut bench = Bench::new(10);
    for (target, answered) in [("100.65.0.1", true), ("100.65.0.9", false), ("100.64.0.1", false)] {
        let arp = Arp {
            operation: ArpOperation::Request,
            sender_mac: MAC,
            sender_ip: Ipv4Addr::new(100, 65, 0, 7),
            target_mac: MacAddr::default(),
            target_ip: target.parse().unwrap(),
        };
        let payload = arp.emit();
        let frame = Frame {
            dst: MacAddr::BROADCAST,
            src: MAC,
            vlans: Vlans { outer: 7, inner: 0 },
            s_tag: false,
            ethertype: ethertype::ARP,
            payload: &payload,
        };
        let answers = bench.frame(&frame.emit());
        assert_eq!(answers.len(), usize::from(answered), "{target}");
        if let Some(answer) = answers.first() {
            let frame = Frame::parse(answer).unwrap();
            assert_eq!((frame.src, frame.vlans.outer), (group().virtual_mac(), 7));
        }
    }
}

#[test]
fn garbage_is_counted_and_answered_by_nothing() {
    let mut bench = Bench::new(10);
    for octets in [&[][..], &[0xff; 13], &[0x02; 60]] {
        assert!(bench.frame(octets).is_empty(), "{octets:?}");
    }
    assert!(bench.counters.all().iter().map(|(_, _, n)| n).sum::<u64>() >= 3);
}
