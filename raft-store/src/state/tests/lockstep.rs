//! Random logs: what must hold in every state, and that replicas never differ.

use super::documents::{delete, log, put};
use super::fixture::*;
use crate::State;
use crate::command::{
    Command, DocumentBatch, Entry, Expect, LEVEL_SUPPORTED, PutStatic, SessionBatch, SessionOp,
    StaticEdit,
};
use model::{
    ApiRole, ApiUser, BanScope, Collection, DownReason, Epoch, GroupService, NodeId, NodeRole,
    Pool, Rate, Revision, SessionId, StaticSession, UnixMs,
};
use proptest::prelude::*;

/// A step whose numbers find their meaning in the state at hand, so that most commands hit
/// something.
#[derive(Clone, Debug)]
struct Step {
    what: u8,
    n: u8,
    m: u8,
    client: Option<(u64, u64)>,
    pass_ms: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let client = prop::option::weighted(0.3, (0..3_u64, 0..12_u64));
    (0..62_u8, any::<u8>(), any::<u8>(), client, 0..200_000_u64)
        .prop_map(|(what, n, m, client, pass_ms)| Step { what, n, m, client, pass_ms })
}

/// Some session, by a number.
fn some_session(state: &State, n: u8) -> SessionId {
    let count = state.sessions().len().max(1);
    state.sessions().nth(usize::from(n) % count).map_or(SessionId(n.into()), |session| session.id)
}

fn wanted(m: u8, net: u8) -> Option<String> {
    m.is_multiple_of(3).then(|| format!("10.0.{net}.{}", m % 16))
}

fn op(state: &State, what: u8, n: u8, m: u8) -> SessionOp {
    let user = format!("u{}", m % 4);
    match what % 7 {
        0 => match wanted(m, 0) {
            None => pppoe(n % 8, u16::from(m % 8), &user),
            Some(wanted) => pppoe_at(n % 8, u16::from(m % 8), &user, &wanted),
        },
        1 | 2 => lease(n % 12, &vec![m; usize::from(m % 2)], wanted(m, 1).as_deref()),
        3 => SessionOp::LeaseRenew { session: some_session(state, n), lease_s: u32::from(m) * 10 },
        4 => SessionOp::Down { session: some_session(state, n), reason: DownReason::LostCarrier },
        5 => SessionOp::Decline {
            address: ip(&format!("10.0.1.{}", n % 10)),
            pool: "dhcp".to_owned(),
        },
        _ => SessionOp::StaticSeen { address: static_address(n), attachment: at(m % 4) },
    }
}

/// Inside and around the range of the IPoE pool, its gateway and the network's own address included.
fn static_address(n: u8) -> std::net::Ipv4Addr {
    ip(&format!("10.0.1.{}", n % 12))
}

fn policy(what: u8, n: u8, m: u8) -> Command {
    let address = static_address(n);
    let place = at(m % 4);
    let network = ["10.0.0.0/8", "198.51.100.0/24", "127.0.0.1/32"][usize::from(n % 3)];
    let network = network.parse().unwrap();
    let scope = if m.is_multiple_of(2) { BanScope::All } else { BanScope::Icmp };
    match what % 6 {
        0 | 1 => Command::PutStatic(PutStatic {
            group: EAST,
            address,
            fixed: StaticSession {
                mac: (m & 4 == 0).then_some(place.mac),
                line: (m & 8 == 0).then_some(place.line()),
                allowed: m & 16 == 0,
            },
            rate: None,
            seen: (m & 32 == 0).then_some(at(m % 3)),
        }),
        2 => Command::RemoveStatic(address),
        3 => {
            let edit = match m % 4 {
                0 => StaticEdit::Allow(n & 16 == 0),
                1 => StaticEdit::Rate(Rate { down_bps: n.into(), up_bps: 0 }),
                2 => StaticEdit::Bind(place.mac),
                _ => StaticEdit::Unbind,
            };
            Command::EditStatic { address, edit }
        }
        4 => Command::PutBan { network, scope },
        _ => Command::RemoveBan { network, scope },
    }
}

fn changed_pool(n: u8, m: u8) -> Pool {
    let last = 10 + m % 8;
    match n % 4 {
        0 => Pool { range: format!("10.0.0.10-10.0.0.{last}").parse().unwrap(), ..ppp_pool() },
        1 => Pool { gateway: ip(&format!("10.0.1.{}", m % 10)), ..dhcp_pool() },
        2 => Pool { nat: ppp_pool().nat.filter(|_| m.is_multiple_of(2)), ..dhcp_pool() },
        _ => {
            pool("zz", GroupService::Dhcp, &format!("10.0.1.20-10.0.1.{}", 20 + m % 4), "10.0.1.5")
        }
    }
}

/// Large values, so that the bound on a collection's octets is reached as well.
fn documents(state: &State, n: u8, m: u8) -> Command {
    let collection = [Collection::ConfigArchive, Collection::Webhook][usize::from(n % 2)];
    let key = format!("k{}", n % 7);
    let octets = if m < 8 { collection.limits().value_octets_max } else { m.into() };
    let modified = state.document(collection, &key).map_or(Revision(0), |doc| doc.modified);
    let expect = match m % 5 {
        0 => Expect::Absent,
        1 => Expect::Present,
        2 => Expect::Revision(modified),
        _ => Expect::Any,
    };
    let mut ops = vec![match m % 4 {
        0 => delete(collection, &key, expect),
        1 => log(collection, &vec![m; octets]),
        _ => put(collection, &key, &vec![m; octets], expect),
    }];
    ops.extend((0..n % 16).map(|_| log(Collection::ConfigArchive, &[m])));
    let users = if m.is_multiple_of(6) { n % 3 } else { 0 };
    let also = (0..users)
        .map(|user| Command::PutSubscriber(subscriber(&format!("u{user}"), None)))
        .collect();
    Command::Documents(DocumentBatch { ops, also })
}

/// The only administrator is among them.
fn changed_user(state: &State, n: u8, m: u8) -> Command {
    let name = ["admin", "a1", "a2"][usize::from(n % 3)];
    let modified = state.api_user(name).map_or(Revision(0), |user| user.modified);
    let expect = match m % 4 {
        0 => Expect::Absent,
        1 => Expect::Present,
        2 => Expect::Any,
        _ => Expect::Revision(modified),
    };
    let role = [ApiRole::admin(), ApiRole::new("noc")][usize::from(m % 2)].clone();
    let user = ApiUser { enabled: !n.is_multiple_of(5), ..api_user(name, role) };
    let user = (!m.is_multiple_of(7)).then(|| Box::new(user));
    Command::ChangeApiUser { username: name.to_owned(), user, expect }
}

fn command(state: &State, step: &Step) -> Command {
    let Step { what, n, m, .. } = *step;
    let group = state.group(EAST);
    let owner = group.and_then(|group| group.owner).unwrap_or(A);
    let epoch = group.map_or(Epoch(0), |group| group.epoch);
    match what {
        0..=23 => {
            let stale = u64::from(n > 250);
            let ops = (0..=(what % 3)).map(|i| op(state, what / 3 + i, n ^ i, m.wrapping_add(i)));
            let epoch = Epoch(epoch.0 + stale);
            Command::Sessions(SessionBatch { group: EAST, node: owner, epoch, ops: ops.collect() })
        }
        24..=27 => Command::Expire,
        28 | 29 => Command::Acquire {
            group: EAST,
            node: NodeId(u64::from(n % 4)),
            epoch: Epoch((epoch.0 + u64::from(m % 4)).saturating_sub(2)),
        },
        30 => Command::SetRate {
            session: some_session(state, n),
            rate: Rate { down_bps: m.into(), up_bps: 0 },
        },
        31 => {
            Command::Disconnect { session: some_session(state, n), reason: DownReason::AdminReset }
        }
        32 | 33 => Command::PutPool(changed_pool(n, m)),
        34 => Command::RemovePool(["ppp", "dhcp", "zz"][usize::from(n % 3)].to_owned()),
        35 | 36 => {
            let address = m.is_multiple_of(2).then(|| format!("10.0.0.{}", 8 + m % 8));
            Command::PutSubscriber(subscriber(&format!("u{}", n % 4), address.as_deref()))
        }
        37 => Command::RemoveSubscriber(format!("u{}", n % 4)),
        38 => Command::PutJoinToken {
            hash: vec![n % 3],
            role: NodeRole::Data,
            expires_at: UnixMs(u64::from(m) * 100_000),
        },
        39 => Command::UseJoinToken { hash: vec![n % 3], node: node(0, NodeRole::Data) },
        40 | 41 => changed_user(state, n, m),
        42..=49 => documents(state, n, m),
        _ => policy(what, n, m),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn replicas_never_differ_and_every_state_is_sound(
        steps in prop::collection::vec(step(), 1..120),
        cut in 0..120_usize,
    ) {
        let mut one = Cluster::new();
        one.done(Command::RaiseLevel { level: LEVEL_SUPPORTED });
        let mut two = one.clone();
        let mut three = None;
        let mut now_ms = 1_000_000;
        for (at, step) in steps.iter().enumerate() {
            if at == cut {
                let restored = State::from_sections(one.state.sections());
                three = Some(restored.expect("what was written can be read"));
            }
            now_ms += step.pass_ms;
            one.index += 1;
            let revision = Revision(one.index);
            let entry = Entry {
                at: UnixMs(now_ms),
                client: step.client,
                trace: None,
                command: command(&one.state, step),
            };
            let bytes = entry.encode();
            let decoded = Entry::decode(&bytes).expect("what was written can be read");
            prop_assert_eq!(&decoded, &entry);
            let before = one.state.group(EAST).map(|group| group.epoch);
            let (reply, changes) = one.state.apply(revision, &entry);
            check(&one.state);
            let after = one.state.group(EAST).map(|group| group.epoch);
            prop_assert!(after >= before, "an epoch fell");
            let administers = |user: &ApiUser| user.role.is_admin() && user.enabled;
            prop_assert!(one.state.api_users().any(administers), "nobody can administer it");
            prop_assert_eq!(two.state.apply(revision, &decoded), (reply.clone(), changes.clone()));
            if let Some(three) = &mut three {
                prop_assert_eq!(three.apply(revision, &decoded), (reply, changes));
            }
        }
        prop_assert_eq!(one.state.digest(), two.state.digest());
        if let Some(three) = three {
            check(&three);
            prop_assert_eq!(three.digest(), one.state.digest());
        }
    }
}
