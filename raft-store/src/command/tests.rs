//! The bytes of the log and of replies, frozen: a log written by any build must stay readable.

use super::*;
use model::{
    ApiRole, Collection, DhcpSession, GroupService, Line, MacAddr, NatBlock, NatPool, PortId,
    PppoeSession, Revision, Session, SessionKind, StaticSession, Totp, Vlans,
};
use std::sync::Arc;

/// `name hex`, one sample a line. Lines are added, never changed: logs out there hold them.
const FROZEN: &str = include_str!("tests/frozen.txt");

fn attachment() -> Attachment {
    Attachment {
        port: PortId(3),
        vlans: Vlans { outer: 100, inner: 4094 },
        mac: MacAddr([0x02, 0, 0, 0, 0xab, 0xcd]),
    }
}

fn node() -> Node {
    Node {
        id: NodeId(7),
        name: "bng-a".to_owned(),
        role: NodeRole::Data,
        raft_addr: "192.0.2.1:7000".parse().unwrap(),
        lease_addr: "192.0.2.1:7001".parse().unwrap(),
        api_addr: "[2001:db8::1]:8443".parse().unwrap(),
    }
}

fn group() -> Group {
    Group {
        id: GroupId(1),
        name: "east".to_owned(),
        vrid: 51,
        core_address: Ipv4Addr::new(192, 0, 2, 10),
        core_prefix_len: 24,
        preferred: vec![NodeId(7), NodeId(300)],
        ac_name: "ac-east".to_owned(),
        services: vec![GroupService::Pppoe, GroupService::Dhcp],
        owner: Some(NodeId(7)),
        epoch: Epoch(4),
        revision: Revision(99),
    }
}

fn pool() -> Pool {
    Pool {
        name: "homes".to_owned(),
        group: GroupId(1),
        service: GroupService::Dhcp,
        range: "100.64.0.2-100.64.255.254".parse().unwrap(),
        prefix_len: 16,
        gateway: Ipv4Addr::new(100, 64, 0, 1),
        dns: vec![Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(1, 1, 1, 1)],
        lease_s: 3600,
        nat: Some(NatPool {
            public: "198.51.100.1-198.51.100.4".parse().unwrap(),
            ports_per_block: 1024,
        }),
        rate: Rate { down_bps: 100_000_000, up_bps: 20_000_000 },
    }
}

fn subscriber() -> Subscriber {
    Subscriber {
        username: "alice@example".to_owned(),
        password: Secret::new("correct horse"),
        rate: Some(Rate { down_bps: 1, up_bps: 2 }),
        address: Some(Ipv4Addr::new(100, 64, 9, 9)),
        pool: Some("homes".to_owned()),
    }
}

fn api_user() -> ApiUser {
    ApiUser::new("root", Secret::new("$argon2id$x"), ApiRole::admin())
}

fn ops() -> Vec<SessionOp> {
    vec![
        SessionOp::PppoeUp {
            attachment: attachment(),
            sid: 0x1234,
            username: "alice@example".to_owned(),
            local_magic: 0xdead_beef,
            peer_magic: 1,
            mtu: 1492,
            mru: 1500,
            rate: Some(Rate { down_bps: 5, up_bps: 6 }),
            address: Some(Ipv4Addr::new(100, 64, 0, 5)),
            pool: Some("homes".to_owned()),
        },
        SessionOp::LeaseGrant {
            attachment: attachment(),
            client_id: vec![1, 2, 3],
            hostname: "laptop".to_owned(),
            relay_info: vec![1, 4, 9, 9, 9, 9],
            address: None,
            lease_s: 600,
            pool: None,
        },
        SessionOp::LeaseRenew { session: SessionId(4097), lease_s: 600 },
        SessionOp::Down { session: SessionId(4097), reason: DownReason::LostCarrier },
        SessionOp::Decline { address: Ipv4Addr::new(100, 64, 0, 5), pool: "homes".to_owned() },
        SessionOp::StaticSeen { address: Ipv4Addr::new(100, 64, 0, 5), attachment: attachment() },
    ]
}

fn fixed() -> StaticSession {
    StaticSession { mac: Some(attachment().mac), line: Some(attachment().line()), allowed: true }
}

fn put_static() -> PutStatic {
    PutStatic {
        group: GroupId(1),
        address: Ipv4Addr::new(100, 64, 0, 5),
        fixed: fixed(),
        rate: Some(Rate { down_bps: 5, up_bps: 6 }),
        seen: Some(attachment()),
    }
}

fn edits() -> Vec<(&'static str, StaticEdit)> {
    vec![
        ("allow", StaticEdit::Allow(true)),
        ("disallow", StaticEdit::Allow(false)),
        ("rate", StaticEdit::Rate(Rate { down_bps: 5, up_bps: 0 })),
        ("bind", StaticEdit::Bind(attachment().mac)),
        ("unbind", StaticEdit::Unbind),
    ]
}

fn session(kind: SessionKind) -> Session {
    Session {
        id: SessionId(8193),
        group: GroupId(1),
        attachment: attachment(),
        kind,
        username: "alice@example".to_owned(),
        address: Ipv4Addr::new(100, 64, 0, 5),
        pool: "homes".to_owned(),
        rate: Rate { down_bps: 5, up_bps: 6 },
        nat: Some(NatBlock {
            public: Ipv4Addr::new(198, 51, 100, 1),
            first_port: 1024,
            last_port: 2047,
        }),
        started_at: UnixMs(1_700_000_000_000),
        created: Revision(2),
        modified: Revision(3),
    }
}

fn commands() -> Vec<Command> {
    let bootstrap = Bootstrap {
        level: 1,
        cluster_id: ClusterId("c-1".to_owned()),
        nodes: vec![node()],
        groups: vec![group()],
        pools: vec![pool()],
        subscribers: vec![subscriber()],
        api_users: vec![api_user()],
        jwt_secret: Secret::new("jwt"),
        cookie_key: [7; 32],
    };
    let batch = |op| {
        Command::Sessions(SessionBatch {
            group: GroupId(1),
            node: NodeId(7),
            epoch: Epoch(4),
            ops: vec![op],
        })
    };
    let mut commands = vec![
        Command::Bootstrap(Box::new(bootstrap)),
        Command::PutNode(node()),
        Command::RemoveNode(NodeId(7)),
        Command::PutGroup(group()),
        Command::RemoveGroup(GroupId(1)),
        Command::PutPool(pool()),
        Command::RemovePool("homes".to_owned()),
        Command::PutSubscriber(subscriber()),
        Command::RemoveSubscriber("alice@example".to_owned()),
        Command::PutApiUser(api_user()),
        Command::RemoveApiUser("root".to_owned()),
        Command::Acquire { group: GroupId(1), node: NodeId(7), epoch: Epoch(5) },
        Command::SetRate { session: SessionId(8193), rate: Rate { down_bps: 5, up_bps: 6 } },
        Command::Disconnect { session: SessionId(8193), reason: DownReason::AdminReset },
        Command::Expire,
        Command::PutJoinToken {
            hash: vec![0xaa; 32],
            role: NodeRole::Witness,
            expires_at: UnixMs(1_700_000_000_000),
        },
        Command::UseJoinToken { hash: vec![0xaa; 32], node: Node { id: NodeId(0), ..node() } },
        Command::RaiseLevel { level: 2 },
        Command::PutStatic(put_static()),
        Command::RemoveStatic(Ipv4Addr::new(100, 64, 0, 5)),
        Command::EditStatic {
            address: Ipv4Addr::new(100, 64, 0, 5),
            edit: StaticEdit::Bind(attachment().mac),
        },
        Command::PutBan { network: "198.51.100.0/24".parse().unwrap(), scope: BanScope::Icmp },
        Command::RemoveBan { network: "198.51.100.7".parse().unwrap(), scope: BanScope::All },
    ];
    commands.extend(ops().into_iter().map(batch));
    commands.extend(documents());
    commands.push(change_api_user());
    commands
}

/// With every field of a user.
fn change_api_user() -> Command {
    let user = ApiUser {
        role: ApiRole::new("noc"),
        enabled: false,
        generation: 3,
        totp: Some(Totp {
            secret: Secret::new("ABCDEFGH"),
            active: true,
            last_step: 56_666_666,
            recovery: vec![Secret::new("aa"), Secret::new("bb")],
        }),
        created_at: UnixMs(1_700_000_000_000),
        modified: Revision(300),
        ..api_user()
    };
    let (username, expect) = (user.username.clone(), Expect::Revision(Revision(300)));
    Command::ChangeApiUser { username, user: Some(Box::new(user)), expect }
}

/// One batch for each operation, with every condition, kind of key and companion.
fn documents() -> Vec<Command> {
    let put = |key, expect| DocumentOp::Put {
        collection: Collection::Setting,
        key,
        value: b"{\"password\":\"correct horse\"}".to_vec(),
        expect,
    };
    let (collection, key) = (Collection::Ticket, "t-1".to_owned());
    let delete = DocumentOp::Delete { collection, key: key.clone(), expect: Expect::Present };
    let check = DocumentOp::Check { collection, key, expect: Expect::Revision(Revision(300)) };
    let puts = vec![
        put(DocKey::Named("dns".to_owned()), Expect::Any),
        put(DocKey::FromRevision, Expect::Absent),
    ];
    let also = vec![Command::RemovePool("homes".to_owned())];
    vec![
        Command::Documents(DocumentBatch { ops: puts, also }),
        Command::Documents(vec![delete].into()),
        Command::Documents(vec![check].into()),
    ]
}

/// The place of a variant among its kind. A new one does not compile before it has a place, and
/// then a sample.
fn place(command: &Command) -> usize {
    match command {
        Command::Bootstrap(_) => 0,
        Command::PutNode(_) => 1,
        Command::RemoveNode(_) => 2,
        Command::PutGroup(_) => 3,
        Command::RemoveGroup(_) => 4,
        Command::PutPool(_) => 5,
        Command::RemovePool(_) => 6,
        Command::PutSubscriber(_) => 7,
        Command::RemoveSubscriber(_) => 8,
        Command::PutApiUser(_) => 9,
        Command::RemoveApiUser(_) => 10,
        Command::Acquire { .. } => 11,
        Command::SetRate { .. } => 12,
        Command::Disconnect { .. } => 13,
        Command::Expire => 14,
        Command::PutJoinToken { .. } => 15,
        Command::UseJoinToken { .. } => 16,
        Command::RaiseLevel { .. } => 17,
        Command::Sessions(batch) => match batch.ops[0] {
            SessionOp::PppoeUp { .. } => 18,
            SessionOp::LeaseGrant { .. } => 19,
            SessionOp::LeaseRenew { .. } => 20,
            SessionOp::Down { .. } => 21,
            SessionOp::Decline { .. } => 22,
            SessionOp::StaticSeen { .. } => 31,
        },
        Command::Documents(batch) => match batch.ops[0] {
            DocumentOp::Put { .. } => 23,
            DocumentOp::Delete { .. } => 24,
            DocumentOp::Check { .. } => 25,
        },
        Command::PutStatic(_) => 26,
        Command::RemoveStatic(_) => 27,
        Command::EditStatic { .. } => 28,
        Command::PutBan { .. } => 29,
        Command::RemoveBan { .. } => 30,
        Command::ChangeApiUser { .. } => 32,
    }
}

fn refusals() -> Vec<Refusal> {
    let pool = || "homes".to_owned();
    vec![
        Refusal::StaleEpoch { current: Epoch(4) },
        Refusal::PoolExhausted { pool: pool() },
        Refusal::NatExhausted { pool: pool() },
        Refusal::AddressTaken,
        Refusal::AddressOutsidePool,
        Refusal::SessionIdTaken,
        Refusal::UnknownSession,
        Refusal::UnknownGroup,
        Refusal::UnknownPool,
        Refusal::UnknownNode,
        Refusal::UnknownSubscriber,
        Refusal::UnknownApiUser,
        Refusal::AlreadyBootstrapped,
        Refusal::NotBootstrapped,
        Refusal::InvalidToken,
        Refusal::NotADataNode,
        Refusal::LevelTooLow,
        Refusal::InUse("why".to_owned()),
        Refusal::SequenceTooOld,
        Refusal::Invalid("why".to_owned()),
        Refusal::DocumentConflict {
            collection: Collection::Setting,
            key: "dns".to_owned(),
            revision: Some(Revision(300)),
        },
        Refusal::DocumentUnknown { collection: Collection::Ticket, key: "t-1".to_owned() },
        Refusal::CollectionFull { collection: Collection::Webhook },
        Refusal::ApiUserConflict { revision: Some(Revision(300)) },
        Refusal::UnknownStatic,
        Refusal::UnknownBan,
        Refusal::BoundElsewhere,
    ]
}

fn replies() -> Vec<(String, Reply)> {
    let pppoe = session(SessionKind::Pppoe(PppoeSession {
        sid: 0x1234,
        local_magic: 0xdead_beef,
        peer_magic: 1,
        mtu: 1492,
        mru: 1500,
    }));
    let dhcp = session(SessionKind::Dhcp(DhcpSession {
        client_id: vec![1, 2, 3],
        hostname: "laptop".to_owned(),
        relay_info: vec![1, 4, 9, 9, 9, 9],
        expires_at: UnixMs(1_700_000_600_000),
    }));
    let ops = vec![
        OpReply::Session(Arc::new(pppoe)),
        OpReply::Session(Arc::new(dhcp)),
        OpReply::Done,
        OpReply::Refused(Refusal::AddressTaken),
    ];
    let acquired = Reply::Acquired {
        group: GroupId(1),
        owner: NodeId(7),
        epoch: Epoch(5),
        previous: Some(NodeId(8)),
    };
    let mut replies = vec![
        ("reply.done".to_owned(), Reply::Done),
        ("reply.acquired".to_owned(), acquired),
        ("reply.sessions".to_owned(), Reply::Sessions(ops)),
        ("reply.node_id".to_owned(), Reply::NodeId(NodeId(42))),
        (
            "reply.sessions_static".to_owned(),
            Reply::Sessions(vec![OpReply::Session(Arc::new(session(
                SessionKind::Static(fixed()),
            )))]),
        ),
    ];
    let keys = vec!["dns".to_owned(), DocKey::at(Revision(300), 1)];
    replies.push(("reply.documents".to_owned(), Reply::Documents { keys }));
    let absent = Refusal::DocumentConflict {
        collection: Collection::Setting,
        key: "dns".to_owned(),
        revision: None,
    };
    replies.push(("reply.refused.document_absent".to_owned(), Reply::Refused(absent)));
    for refusal in refusals() {
        replies.push((format!("reply.refused.{}", refusal.label()), Reply::Refused(refusal)));
    }
    replies
}

fn frozen(name: &str) -> Option<Vec<u8>> {
    let line = FROZEN.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(hex::decode(line).expect("hexadecimal"))
}

/// Compares each sample with its frozen bytes, and reads those back.
#[track_caller]
fn assert_frozen<T: PartialEq + fmt::Debug>(
    samples: Vec<(String, T)>,
    encode: fn(&T) -> Vec<u8>,
    decode: fn(&[u8]) -> Result<T, CommandError>,
) {
    let mut missing = String::new();
    for (name, sample) in samples {
        let bytes = encode(&sample);
        match frozen(&name) {
            None => missing += &format!("{name} {}\n", hex::encode(bytes)),
            Some(frozen) => {
                assert_eq!(hex::encode(bytes), hex::encode(&frozen), "{name}");
                assert_eq!(decode(&frozen), Ok(sample), "{name}");
            }
        }
    }
    assert!(missing.is_empty(), "add to frozen.txt:\n{missing}");
}

#[test]
fn the_bytes_of_every_command_are_frozen() {
    let mut places: Vec<_> = commands().iter().map(place).collect();
    places.sort_unstable();
    assert_eq!(places, (0..33).collect::<Vec<_>>(), "every variant has a sample");
    let name = |command: &Command| {
        let op = if let Command::Sessions(batch) = command {
            batch.ops[0].label()
        } else if let Command::Documents(batch) = command {
            batch.ops[0].label()
        } else {
            ""
        };
        format!("command.{}.{op}", command.label()).trim_end_matches('.').to_owned()
    };
    let samples = commands().into_iter().map(|command| (name(&command), command)).collect();
    assert_frozen(samples, Command::encode, Command::decode);
}

#[test]
fn a_bootstrap_above_level_1_is_something_that_older_builds_cannot_mistake() {
    let first = commands().remove(0);
    let Command::Bootstrap(bootstrap) = &first else { panic!("{first:?}") };
    let leveled = Command::Bootstrap(Box::new(Bootstrap { level: 2, ..(**bootstrap).clone() }));
    let field = |command: &Command| command.encode()[0] >> 3; // of a tag below 16
    assert_eq!(field(&first), 1);
    assert_ne!(field(&leveled), 1, "older builds ignore a field, but stop at a variant");
    assert_frozen(
        vec![("command.leveled_bootstrap".to_owned(), leveled)],
        Command::encode,
        Command::decode,
    );
}

#[test]
fn the_bytes_of_every_form_of_a_policy_command_are_frozen() {
    let address = Ipv4Addr::new(100, 64, 0, 5);
    let edit = |(name, edit)| (format!("edit.{name}"), Command::EditStatic { address, edit });
    let mut samples: Vec<_> = edits().into_iter().map(edit).collect();
    let nothing = StaticSession { mac: None, line: None, allowed: false };
    let bare = PutStatic { fixed: nothing, rate: None, seen: None, ..put_static() };
    samples.push(("put_static.bare".to_owned(), Command::PutStatic(bare)));
    let line = Some(Line { port: PortId(0), vlans: Vlans::NONE });
    let by_line = PutStatic { fixed: StaticSession { line, ..nothing }, ..put_static() };
    samples.push(("put_static.line".to_owned(), Command::PutStatic(by_line)));
    for (name, network) in [("everything", "0.0.0.0/0"), ("host", "203.0.113.9/32")] {
        let network = network.parse().unwrap();
        let command = Command::PutBan { network, scope: BanScope::All };
        samples.push((format!("put_ban.{name}"), command));
    }
    assert_frozen(samples, Command::encode, Command::decode);
}

#[test]
fn a_ban_of_a_network_with_host_bits_is_no_command() {
    let rule = |address: u32, prefix_len, scope| proto::Command {
        kind: Some(proto::command::Kind::PutBan(proto::BanRule { address, prefix_len, scope })),
    };
    assert!(Command::try_from(rule(0x0a00_0000, 8, 1)).is_ok());
    for (address, prefix_len, scope) in
        [(0x0a00_0001, 8, 1), (0x0a00_0000, 33, 1), (0x0a00_0000, 8, 0), (0x0a00_0000, 8, 3)]
    {
        assert!(Command::try_from(rule(address, prefix_len, scope)).is_err());
    }
}

#[test]
fn the_bytes_of_every_reply_are_frozen() {
    assert_frozen(replies(), Reply::encode, Reply::decode);
}

#[test]
fn the_bytes_of_an_entry_are_frozen() {
    let entry = Entry {
        at: UnixMs(1_700_000_000_000),
        client: Some((5, 6)),
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        command: Command::Expire,
    };
    let bare = Entry { client: None, trace: None, ..entry.clone() };
    let samples = vec![("entry.full".to_owned(), entry), ("entry.bare".to_owned(), bare)];
    assert_frozen(samples, Entry::encode, Entry::decode);
}

#[test]
fn every_enumeration_value_survives() {
    let reasons = [
        DownReason::UserRequest,
        DownReason::LostCarrier,
        DownReason::Expired,
        DownReason::AdminReset,
        DownReason::Declined,
        DownReason::Replaced,
        DownReason::NegotiationFailed,
    ];
    for reason in reasons {
        let command = Command::Disconnect { session: SessionId(1), reason };
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
    for role in [ApiRole::operator(), ApiRole::admin(), ApiRole::new("noc")] {
        let command = Command::PutApiUser(ApiUser { role, ..api_user() });
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn labels_are_distinct() {
    let mut labels: Vec<_> = refusals().iter().map(Refusal::label).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), refusals().len());
}

#[test]
fn bytes_that_are_no_command_are_refused_and_never_panic() {
    let no_variant = CommandError::UnknownVariant("command");
    let role = CommandError::UnknownNumber { field: "join_token.role", number: 0 };
    let missing = CommandError::Missing("set_rate.rate");
    let table: &[(&str, &str, CommandError)] = &[
        ("nothing", "", no_variant.clone()),
        ("a variant of a newer build", "ca3e00", no_variant),
        ("an enumeration left out", "7a00", role),
        ("a message left out", "620208 01", missing),
    ];
    for (what, hex, want) in table {
        let bytes = hex::decode(hex.replace(' ', "")).unwrap();
        assert_eq!(Command::decode(&bytes), Err(want.clone()), "{what}");
    }
    for command in commands() {
        let bytes = command.encode();
        for end in 0..bytes.len() {
            let _ = Command::decode(&bytes[..end]);
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            let _ = Command::decode(&bytes);
        }
    }
}

#[test]
fn secrets_do_not_reach_a_log() {
    for command in commands() {
        let text = format!("{command:?}");
        for secret in ["correct horse", "$argon2id$", "7, 7, 7, 7", "jwt\""] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
