use super::*;
use crate::management::policy;
use model::{Line, StaticSession};
use raft_store::{PutStatic, StaticEdit};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 77);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(100, 65, 0, 1);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);
const FREE: StaticSession = StaticSession { mac: None, line: None, allowed: true };

fn place(mac: MacAddr) -> Attachment {
    Attachment { port: PORT, vlans: Vlans::NONE, mac }
}

fn arp(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let payload = Arp {
        operation: ArpOperation::Request,
        sender_mac: mac,
        sender_ip: sender,
        target_mac: MacAddr::default(),
        target_ip: target,
    }
    .emit();
    Frame {
        dst: MacAddr::BROADCAST,
        src: mac,
        vlans: Vlans::NONE,
        s_tag: false,
        ethertype: ethertype::ARP,
        payload: &payload,
    }
    .emit()
}

impl Bench {
    fn run(&mut self, command: Command) {
        self.revision += 1;
        let entry = Entry { at: UnixMs(1_700_000_000_000), client: None, trace: None, command };
        let (reply, changes) = self.state.apply(Revision(self.revision), &entry);
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        let revision = Revision(self.revision);
        let batch = ChangeBatch { revision, at: entry.at, trace: None, changes };
        self.engine.on_changes(&batch, &self.state, self.now);
    }

    fn put(&mut self, fixed: StaticSession) {
        let put = PutStatic { group: GROUP, address: ADDRESS, fixed, rate: None, seen: None };
        self.run(Command::PutStatic(put));
    }

    /// A packet that the kernel found no session for.
    fn heard(&mut self, address: Ipv4Addr, attachment: Attachment) {
        let wall = UnixMs(1_700_000_000_000);
        let sources = [UnknownSource { address, attachment }];
        self.engine.on_unknown(&sources, &self.state, self.now, wall);
        self.settle();
    }

    fn place(&self) -> Attachment {
        self.state.static_by_address(ADDRESS).unwrap().attachment
    }

    fn waiting(&self) -> Vec<(Ipv4Addr, Attachment)> {
        let list = self.waiting.list(GROUP, self.now);
        list.into_iter().map(|w| (w.address, w.attachment)).collect()
    }

    fn counted(&self, name: &str, label: &str) -> u64 {
        let all = self.counters.all();
        all.iter().find(|(n, l, _)| (*n, *l) == (name, label)).map_or(0, |(_, _, n)| *n)
    }
}

#[test]
fn a_static_subscriber_is_learnt_from_its_arp_and_from_its_packets() {
    let mut bench = Bench::new(254);
    bench.put(FREE);
    let replies = bench.frame(&arp(MAC, ADDRESS, GATEWAY));
    assert_eq!(replies.len(), 1, "the gateway answers");
    assert_eq!(bench.place(), place(MAC));
    let tagged = Attachment { vlans: Vlans { outer: 7, inner: 0 }, ..place(MAC) };
    bench.heard(ADDRESS, tagged);
    assert_eq!(bench.place(), tagged);
    assert_eq!(bench.counted("static", "learnt"), 2);
    assert_eq!(bench.waiting(), []);
    // What is known already costs the log nothing, at the next owner neither.
    let revision = bench.revision;
    bench.heard(ADDRESS, tagged);
    bench.take_over();
    bench.heard(ADDRESS, tagged);
    assert_eq!(bench.revision, revision);
}

#[test]
fn a_station_that_an_address_is_not_bound_to_is_refused_and_counted() {
    let mut bench = Bench::new(254);
    bench.put(StaticSession { mac: Some(MAC), ..FREE });
    bench.frame(&arp(OTHER_MAC, ADDRESS, GATEWAY));
    bench.heard(ADDRESS, place(OTHER_MAC));
    assert!(!bench.place().is_known());
    assert_eq!(bench.counted("source_refused", "bound_elsewhere"), 2);
    bench.frame(&arp(MAC, ADDRESS, GATEWAY));
    assert_eq!(bench.place(), place(MAC));
    bench.heard(ADDRESS, place(OTHER_MAC));
    assert_eq!(bench.place(), place(MAC));

    let line = Line { port: PortId(9), vlans: Vlans::NONE };
    bench.put(StaticSession { line: Some(line), ..FREE });
    bench.heard(ADDRESS, place(MAC));
    assert!(!bench.place().is_known(), "the line is another");
    assert_eq!(bench.waiting(), [], "nobody waits for an address that is somebody's");
}

#[test]
fn two_stations_that_claim_one_address_do_not_fill_the_log() {
    let mut bench = Bench::new(254);
    bench.put(FREE);
    let before = bench.revision;
    for n in 0..1_000 {
        bench.now = Tick::from_ms(1_000 + n * 10);
        bench.frame(&arp(if n % 2 == 0 { MAC } else { OTHER_MAC }, ADDRESS, GATEWAY));
    }
    // First heard at 1.0 s, moved at 1.01 s and 6.02 s.
    assert_eq!(bench.revision - before, 3);
    // Every frame of the one that it is not with.
    assert_eq!(bench.counted("source_refused", "moves_too_often"), 499);
}

#[test]
fn a_frame_that_does_not_say_who_sends_it_teaches_nothing() {
    let mut bench = Bench::new(254);
    bench.put(FREE);
    let mut proxied = arp(MAC, ADDRESS, GATEWAY);
    proxied[6..12].copy_from_slice(&OTHER_MAC.0);
    let other = Ipv4Addr::new(100, 65, 0, 5);
    for frame in [
        proxied,
        arp(MAC, Ipv4Addr::UNSPECIFIED, GATEWAY),
        arp(MacAddr([3, 0, 0, 0, 0, 1]), ADDRESS, GATEWAY),
        arp(group().virtual_mac(), ADDRESS, GATEWAY),
        arp(MAC, ADDRESS, other),
    ] {
        bench.frame(&frame);
        assert!(!bench.place().is_known(), "{frame:02x?}");
    }
}

#[test]
fn a_stranger_waits_until_an_operator_lets_it_in() {
    let mut bench = Bench::new(254);
    bench.frame(&arp(MAC, ADDRESS, GATEWAY));
    assert_eq!(bench.waiting(), [(ADDRESS, place(MAC))]);
    // Not in an IPoE network: of PPPoE, of nobody, the gateway's own.
    for address in [[100, 64, 0, 9], [192, 0, 2, 1], GATEWAY.octets(), [100, 65, 0, 255]] {
        bench.heard(address.into(), place(OTHER_MAC));
    }
    assert_eq!(bench.waiting().len(), 1);
    assert_eq!(bench.counted("source_refused", "outside"), 4);

    let heard = bench.waiting.list(GROUP, bench.now);
    let command = policy::allow(&bench.state, ADDRESS, heard.first()).unwrap();
    bench.run(command);
    assert_eq!(bench.place(), place(MAC), "it flows at once, on the standby too");
    assert_eq!(bench.waiting(), []);
    assert_eq!(policy::allow(&bench.state, GATEWAY, None), None);

    bench.run(Command::EditStatic { address: ADDRESS, edit: StaticEdit::Allow(false) });
    let again = policy::allow(&bench.state, ADDRESS, None).unwrap();
    bench.run(again);
    let session = bench.state.static_by_address(ADDRESS).unwrap();
    assert_eq!(session.kind, SessionKind::Static(FREE));
    assert_eq!(session.attachment, place(MAC));
}

#[test]
fn a_place_that_did_not_get_into_the_log_is_proposed_again() {
    let mut bench = Bench::new(254);
    bench.put(FREE);
    let wall = UnixMs(1_700_000_000_000);
    for outcome in [
        OpOutcome::Unknown,
        OpOutcome::Committed(raft_store::OpReply::Refused(raft_store::Refusal::StaleEpoch {
            current: Epoch(9),
        })),
    ] {
        bench.engine.on_frame(PORT, &arp(MAC, ADDRESS, GATEWAY), &bench.state, bench.now, wall);
        // While it is under way, it is not proposed twice.
        bench.engine.on_frame(PORT, &arp(MAC, ADDRESS, GATEWAY), &bench.state, bench.now, wall);
        let proposals: Vec<_> = bench
            .engine
            .take_output()
            .into_iter()
            .filter_map(|output| match output {
                Output::Propose { pending, .. } => Some(pending),
                Output::Send { .. } => None,
            })
            .collect();
        assert_eq!(proposals, [Pending::StaticSeen { address: ADDRESS }]);
        bench.engine.on_outcome(proposals[0].clone(), &outcome, &bench.state, bench.now);
    }
    bench.frame(&arp(MAC, ADDRESS, GATEWAY));
    assert_eq!(bench.place(), place(MAC));
}

#[test]
fn a_leased_address_is_learnt_from_nobody_and_its_holder_is_no_intruder() {
    let mut bench = Bench::new(254);
    let op = SessionOp::LeaseGrant {
        attachment: place(MAC),
        client_id: vec![],
        hostname: String::new(),
        relay_info: vec![],
        address: Some(ADDRESS),
        lease_s: 60,
        pool: None,
    };
    bench.run(Command::Sessions(SessionBatch {
        group: GROUP,
        node: ME,
        epoch: EPOCH,
        ops: vec![op],
    }));
    bench.frame(&arp(MAC, ADDRESS, GATEWAY));
    assert_eq!(bench.counted("source_refused", "held_by_another"), 0);
    bench.frame(&arp(OTHER_MAC, ADDRESS, GATEWAY));
    assert_eq!(bench.counted("source_refused", "held_by_another"), 1);
    assert_eq!(bench.state.session_by_address(ADDRESS).unwrap().attachment, place(MAC));
    assert_eq!(bench.waiting(), []);
}
