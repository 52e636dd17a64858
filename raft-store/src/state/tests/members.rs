use super::fixture::*;
use crate::change::Change;
use crate::command::{Bootstrap, Command, Expect, OpReply, Refusal, Reply};
use model::{ApiRole, ApiUser, Epoch, GroupId, Node, NodeId, NodeRole, Revision, Secret, UnixMs};

fn acquire(node: NodeId, epoch: u64) -> Command {
    Command::Acquire { group: EAST, node, epoch: Epoch(epoch) }
}

fn token(hash: u8, role: NodeRole, expires_s: u64) -> Command {
    Command::PutJoinToken { hash: vec![hash; 32], role, expires_at: UnixMs(expires_s * 1000) }
}

fn use_token(hash: u8, role: NodeRole) -> Command {
    Command::UseJoinToken { hash: vec![hash; 32], node: node(0, role) }
}

#[test]
fn nothing_is_taken_before_bootstrap_and_no_second_bootstrap_after() {
    let mut cluster = Cluster::empty();
    assert_eq!(cluster.refused(Command::Expire), Refusal::NotBootstrapped);
    assert_eq!(cluster.refused(acquire(A, 1)), Refusal::NotBootstrapped);
    cluster.done(Command::Bootstrap(Box::new(bootstrap())));
    assert!(cluster.changes.contains(&Change::ClusterChanged));
    assert_eq!(cluster.state.cluster_id().unwrap().0, "test");
    assert_eq!(cluster.state.jwt_secret().unwrap().expose(), "jwt");
    assert_eq!(cluster.state.cookie_key(), Some(&[1; 32]));
    assert_eq!(cluster.state.level(), 1);
    let group = cluster.state.group(EAST).unwrap();
    assert_eq!((group.owner, group.epoch), (None, Epoch(0)), "not what the command said");
    assert_eq!(group.revision, cluster.state.applied());
    let again = Command::Bootstrap(Box::new(bootstrap()));
    assert_eq!(cluster.refused(again), Refusal::AlreadyBootstrapped);
}

#[test]
fn a_bootstrap_with_one_bad_object_makes_nothing() {
    type Spoil = fn(&mut Bootstrap);
    let spoils: &[(&str, Spoil)] = &[
        ("no name", |b| b.cluster_id.0.clear()),
        ("no nodes", |b| b.nodes.clear()),
        ("no secret", |b| b.jwt_secret = Secret::new("")),
        ("a node without an id", |b| b.nodes[1].id = NodeId(0)),
        ("a pool of no group", |b| b.pools[1].group = GroupId(9)),
        ("a user of no pool", |b| {
            let mut user = subscriber("u", None);
            user.pool = Some("none".to_owned());
            b.subscribers.push(user);
        }),
    ];
    for (what, spoil) in spoils {
        let mut bad = bootstrap();
        spoil(&mut bad);
        let mut cluster = Cluster::empty();
        cluster.refused(Command::Bootstrap(Box::new(bad)));
        assert_eq!(cluster.state.nodes().count(), 0, "{what}");
        assert_eq!(cluster.state.cluster_id(), None, "{what}");
    }
}

#[test]
fn an_epoch_only_grows() {
    let mut cluster = Cluster::new();
    let stale = |current| Refusal::StaleEpoch { current: Epoch(current) };
    assert_eq!(cluster.refused(acquire(B, 1)), stale(1));
    assert_eq!(cluster.refused(acquire(B, 0)), stale(1));
    assert_eq!(cluster.refused(acquire(WITNESS, 2)), Refusal::NotADataNode);
    assert_eq!(cluster.refused(acquire(NodeId(9), 2)), Refusal::UnknownNode);
    let nowhere = Command::Acquire { group: GroupId(9), node: B, epoch: Epoch(2) };
    assert_eq!(cluster.refused(nowhere), Refusal::UnknownGroup);
    let revision = cluster.state.group(EAST).unwrap().revision;
    let reply = cluster.run(acquire(B, 5));
    let (owner, epoch, previous) = (B, Epoch(5), Some(A));
    assert_eq!(reply, Reply::Acquired { group: EAST, owner, epoch, previous });
    assert_eq!(cluster.changes, [Change::OwnerChanged { group: EAST, owner, epoch, previous }]);
    let group = cluster.state.group(EAST).unwrap();
    assert_eq!(group.revision, revision, "the standby has nothing to program for a new owner");
    assert_eq!(cluster.refused(acquire(A, 5)), stale(5));
}

#[test]
fn session_changes_of_a_former_owner_are_refused() {
    let mut cluster = Cluster::new();
    let session = cluster.up(pppoe(1, 1, "u")).id;
    cluster.run(acquire(B, 2));
    let down = crate::SessionOp::Down { session, reason: model::DownReason::LostCarrier };
    let stale = OpReply::Refused(Refusal::StaleEpoch { current: Epoch(2) });
    for (node, epoch) in [(A, 1), (A, 2), (B, 1), (B, 3), (WITNESS, 2)] {
        let replies = cluster.ops_as(node, epoch, vec![down.clone(), pppoe(2, 2, "v")]);
        assert_eq!(replies, [stale.clone(), stale.clone()], "{node} at {epoch}");
        assert_eq!(cluster.changes, []);
    }
    assert_eq!(cluster.ops_as(B, 2, vec![down]), [OpReply::Done]);
}

#[test]
fn a_node_that_owns_a_group_stays_a_data_node() {
    let mut cluster = Cluster::new();
    assert!(matches!(cluster.refused(Command::RemoveNode(A)), Refusal::InUse(_)));
    let witness = Command::PutNode(node(1, NodeRole::Witness));
    assert!(matches!(cluster.refused(witness), Refusal::InUse(_)));
    cluster.run(acquire(B, 2));
    cluster.done(Command::RemoveNode(A));
    assert_eq!(cluster.changes, [Change::NodeChanged(A)]);
    assert_eq!(cluster.refused(Command::RemoveNode(A)), Refusal::UnknownNode);
    let back = Command::PutNode(node(1, NodeRole::Data));
    assert!(matches!(cluster.refused(back), Refusal::Invalid(_)), "an id is never reused");
    let renamed = Node { name: "b2".to_owned(), ..node(2, NodeRole::Data) };
    cluster.done(Command::PutNode(renamed.clone()));
    assert_eq!(cluster.state.node(B), Some(&renamed));
}

#[test]
fn a_join_token_lets_one_node_in_before_its_end() {
    let mut cluster = Cluster::new();
    cluster.done(token(1, NodeRole::Data, 1060));
    cluster.done(token(2, NodeRole::Witness, 1060));
    let stray = cluster.refused(use_token(9, NodeRole::Data));
    assert_eq!(stray, Refusal::InvalidToken, "never given");
    let other = cluster.refused(use_token(1, NodeRole::Witness));
    assert_eq!(other, Refusal::InvalidToken, "for another role");
    let reply = cluster.run(use_token(1, NodeRole::Data));
    let id = NodeId(cluster.index);
    assert_eq!(reply, Reply::NodeId(id));
    assert_eq!(cluster.state.node(id).map(|node| node.role), Some(NodeRole::Data));
    assert_eq!(cluster.refused(use_token(1, NodeRole::Data)), Refusal::InvalidToken, "spent");
    cluster.now_s = 1060;
    assert_eq!(cluster.refused(use_token(2, NodeRole::Witness)), Refusal::InvalidToken, "late");
    assert!(matches!(cluster.refused(token(3, NodeRole::Data, 1060)), Refusal::Invalid(_)));
    assert!(cluster.state.join_token(&[2; 32]).is_some());
    assert_eq!(cluster.state.next_expiry(), Some(UnixMs(1_060_000)));
    cluster.done(Command::Expire);
    assert_eq!(cluster.state.join_token(&[2; 32]), None);
}

#[test]
fn live_join_tokens_are_bounded_and_dead_ones_make_room() {
    let mut cluster = Cluster::new();
    for n in 0..64 {
        cluster.done(token(n, NodeRole::Data, 1060));
    }
    assert!(matches!(cluster.refused(token(64, NodeRole::Data, 1060)), Refusal::Invalid(_)));
    cluster.done(token(0, NodeRole::Data, 1090));
    cluster.now_s = 1061;
    cluster.done(token(64, NodeRole::Data, 1090));
    assert_eq!(cluster.state.join_token(&[1; 32]), None);
    assert!(cluster.state.join_token(&[0; 32]).is_some());
}

#[test]
fn a_joined_node_never_gets_an_id_that_an_operator_chose() {
    let mut cluster = Cluster::new();
    cluster.done(token(1, NodeRole::Data, 2000));
    let next = cluster.index + 2;
    cluster.done(Command::PutNode(node(next, NodeRole::Data)));
    assert!(matches!(cluster.refused(use_token(1, NodeRole::Data)), Refusal::Invalid(_)));
    let retired = cluster.index + 3;
    cluster.done(Command::PutNode(node(retired, NodeRole::Data)));
    cluster.done(Command::RemoveNode(NodeId(retired)));
    assert!(matches!(cluster.refused(use_token(1, NodeRole::Data)), Refusal::Invalid(_)));
    let reply = cluster.run(use_token(1, NodeRole::Data));
    assert_eq!(reply, Reply::NodeId(NodeId(cluster.index)));
}

#[test]
fn the_last_administrator_stays() {
    let mut cluster = Cluster::new();
    let demoted = || Command::PutApiUser(api_user("admin", ApiRole::operator()));
    let removed = || Command::RemoveApiUser("admin".to_owned());
    cluster.done(Command::PutApiUser(api_user("eve", ApiRole::operator())));
    assert!(matches!(cluster.refused(demoted()), Refusal::Invalid(_)));
    assert!(matches!(cluster.refused(removed()), Refusal::Invalid(_)));
    let unknown = Command::RemoveApiUser("nobody".to_owned());
    assert_eq!(cluster.refused(unknown), Refusal::UnknownApiUser);
    cluster.done(Command::PutApiUser(api_user("eve", ApiRole::admin())));
    cluster.done(removed());
    assert_eq!(cluster.changes, [Change::ApiUserChanged("admin".to_owned())]);
    let names: Vec<_> = cluster.state.api_users().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["eve"]);
}

#[test]
fn an_api_user_changes_only_when_it_is_as_expected() {
    let mut cluster = Cluster::new();
    let change = |user: ApiUser, expect| Command::ChangeApiUser {
        username: user.username.clone(),
        user: Some(Box::new(user)),
        expect,
    };
    let eve = || api_user("eve", ApiRole::new("noc"));
    let early = [change(eve(), Expect::Absent), Command::PutApiUser(eve())];
    for command in early {
        assert_eq!(cluster.refused(command), Refusal::LevelTooLow, "others cannot read it yet");
    }
    cluster.done(Command::RaiseLevel { level: crate::LEVEL_API_USERS });
    assert_eq!(cluster.refused(change(eve(), Expect::Present)), Refusal::UnknownApiUser);
    cluster.now_s += 7;
    cluster.done(change(eve(), Expect::Absent));
    let made = cluster.state.api_user("eve").unwrap().clone();
    assert_eq!((made.created_at.as_secs(), made.modified.0), (cluster.now_s, cluster.index));
    let conflict = Refusal::ApiUserConflict { revision: Some(made.modified) };
    assert_eq!(cluster.refused(change(eve(), Expect::Absent)), conflict);
    assert_eq!(cluster.refused(change(eve(), Expect::Revision(Revision(1)))), conflict);
    cluster.now_s += 1;
    let disabled = ApiUser { enabled: false, ..eve() };
    cluster.done(change(disabled, Expect::Revision(made.modified)));
    let now = cluster.state.api_user("eve").unwrap();
    assert_eq!((now.enabled, now.created_at), (false, made.created_at));
    assert_eq!(now.modified.0, cluster.index);
    let remove = |expect| Command::ChangeApiUser { username: "eve".to_owned(), user: None, expect };
    assert!(matches!(
        cluster.refused(remove(Expect::Revision(made.modified))),
        Refusal::ApiUserConflict { .. }
    ));
    cluster.done(remove(Expect::Present));
    assert_eq!(cluster.state.api_user("eve"), None);
    let other_name = Command::ChangeApiUser {
        username: "bob".to_owned(),
        user: Some(Box::new(eve())),
        expect: Expect::Any,
    };
    assert!(matches!(cluster.refused(other_name), Refusal::Invalid(_)));
    let large = ApiUser { password_hash: Secret::new("x".repeat(5000)), ..eve() };
    assert!(matches!(cluster.refused(change(large, Expect::Any)), Refusal::Invalid(_)));
    // A disabled administrator is none.
    let admin = ApiUser { enabled: false, ..api_user("admin", ApiRole::admin()) };
    assert!(matches!(cluster.refused(change(admin, Expect::Any)), Refusal::Invalid(_)));
}

#[test]
fn a_level_never_falls() {
    let mut cluster = Cluster::new();
    for (level, want) in [(3, 3), (2, 3), (4, 4)] {
        cluster.done(Command::RaiseLevel { level });
        assert_eq!(cluster.state.level(), want);
    }
}

#[test]
fn time_never_steps_back() {
    let mut cluster = Cluster::new();
    cluster.now_s = 900;
    cluster.done(Command::Expire);
    assert_eq!(cluster.state.time(), UnixMs(1_000_000));
    let reply = cluster.up(lease(1, b"", None));
    let model::SessionKind::Dhcp(lease) = &reply.kind else { panic!("no lease") };
    assert_eq!(lease.expires_at, UnixMs(1_600_000));
}
