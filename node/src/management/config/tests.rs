use super::commit::dry_run;
use super::{compile, store};
use api::types::Configuration;
use model::{
    ApiRole, ApiUser, ClusterId, Collection, Node, NodeId, NodeRole, Revision, Secret, UnixMs,
};
use raft_store::{
    Bootstrap, Command, DocKey, DocumentBatch, DocumentOp, Entry, Expect, Reply, State,
};
use serde_json::{Value, json};

fn node(id: u64) -> Node {
    let addr = "127.0.0.1:1".parse().unwrap();
    Node {
        id: NodeId(id),
        name: format!("bng{id}"),
        role: NodeRole::Data,
        raft_addr: addr,
        lease_addr: addr,
        api_addr: addr,
    }
}

fn run(state: &mut State, command: Command) -> Reply {
    let revision = Revision(state.applied().0 + 1);
    let entry = Entry { at: UnixMs(1_000), client: None, trace: None, command };
    state.apply(revision, &entry).0
}

fn cluster() -> State {
    let mut state = State::default();
    let admin = ApiUser::new("admin", Secret::new("x"), ApiRole::admin());
    let bootstrap = Bootstrap {
        level: raft_store::LEVEL_SUPPORTED,
        cluster_id: ClusterId("c".into()),
        nodes: vec![node(1), node(2)],
        groups: vec![],
        pools: vec![],
        subscribers: vec![],
        api_users: vec![admin],
        jwt_secret: Secret::new("s"),
        cookie_key: [0; 32],
    };
    assert_eq!(run(&mut state, Command::Bootstrap(Box::new(bootstrap))), Reply::Done);
    state
}

fn tree() -> Value {
    json!({
        "groups": {
            "north": {"vrid": 52, "core_address": "10.0.0.2/24", "ac_name": "n", "services": ["dhcp"]},
            "south": {
                "vrid": 51, "core_address": "10.0.0.1/24", "ac_name": "s",
                "services": ["pppoe", "dhcp"], "preferred": ["bng2"]
            },
        },
        "pools": {"home": {
            "group": "south", "service": "pppoe", "range": "100.64.0.2-100.64.0.250",
            "prefix_len": 24, "gateway": "100.64.0.1", "rate_down": "100mbit", "lease_s": 3600,
            "nat": {"public": "203.0.113.0-203.0.113.7", "ports_per_block": 1024}
        }},
    })
}

/// Applies what the tree asks for, and shows what the state then is.
fn commit(state: &mut State, tree: &Value) -> Configuration {
    let config = Configuration::check(tree).unwrap();
    for command in compile::commands(&config, state).unwrap() {
        assert_eq!(run(state, command.clone()), Reply::Done, "{command:?}");
    }
    let mut shown = Configuration::default();
    compile::show(state, &mut shown);
    shown
}

#[test]
fn groups_and_pools_come_out_of_the_state_as_they_went_in() {
    let mut state = cluster();
    let want = Configuration::check(&tree()).unwrap();
    assert_eq!(commit(&mut state, &tree()), want);
    let again = compile::commands(&want, &state).unwrap();
    assert_eq!(again, [], "what is there already needs no command");
}

#[test]
fn a_pool_moves_to_another_group_whose_old_one_goes_in_the_same_commit() {
    let mut state = cluster();
    commit(&mut state, &tree());
    let numbers: Vec<_> = state.groups().map(|g| (g.name.clone(), g.id)).collect();
    let mut next = tree();
    next["groups"]["north"]["services"] = json!(["pppoe"]);
    next["pools"]["home"]["group"] = json!("north");
    next["groups"].as_object_mut().unwrap().remove("south");
    let shown = commit(&mut state, &next);
    assert_eq!(shown, Configuration::check(&next).unwrap());
    let north = state.group_by_name("north").unwrap().id;
    assert!(numbers.contains(&("north".into(), north)), "a group keeps its number");
}

#[test]
fn a_dry_run_tells_what_only_the_state_knows() {
    let mut state = cluster();
    commit(&mut state, &tree());
    assert_eq!(dry_run(&tree(), &state), Ok(()));
    let mut unknown = tree();
    unknown["groups"]["south"]["preferred"] = json!(["bng1", "bng9"]);
    let errors = dry_run(&unknown, &state).unwrap_err();
    assert_eq!(errors[0].path, "groups.south.preferred[1]");
}

#[test]
fn the_running_configuration_joins_document_and_state() {
    let mut state = cluster();
    commit(&mut state, &tree());
    assert_eq!(store::running(&state).pppoe.lcp_echo_interval, 30, "defaults before any commit");
    let value = json!({"config": {"pppoe": {"lcp_echo_interval": 10}}}).to_string();
    let op = DocumentOp::Put {
        collection: Collection::Config,
        key: DocKey::Named(store::RUNNING.to_owned()),
        value: value.into_bytes(),
        expect: Expect::Absent,
    };
    let reply = run(&mut state, Command::Documents(DocumentBatch::from(vec![op])));
    assert!(matches!(reply, Reply::Documents { .. }), "{reply:?}");
    let running = store::running(&state);
    assert_eq!((running.pppoe.lcp_echo_interval, running.pools.len()), (10, 1));
}
