//! The binary against a fake node: tables, `--json`, exit codes, files.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "../../api/tests/support/fake.rs"]
mod fake;
#[path = "support/site.rs"]
mod site;

use fake::BOOTSTRAP;
use site::{Site, same};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

const INIT: &str = include_str!("../../api/tests/support/init.json");

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_the_cluster_are_as_documented() {
    let site = Site::logged_in().await;
    same(
        &site.ok(&["cluster", "status"]),
        "
cluster   c-1
leader    wit
term      7
revision  42

ID  NODE  ROLE     RAFT      VOTER  REACHABLE  APPLIED  LAG  API
1   bng1  data     follower  yes    yes        42       0    192.0.2.1:8443
2   bng2  data     follower  yes    yes        41       1    192.0.2.2:8443
3   wit   witness  leader    yes    yes        42       0    192.0.2.3:8443

GROUP  VRID  VIRTUAL MAC        OWNER  EPOCH  FENCE  PPPOE  DHCP  STANDBY
south  51    00:00:5e:00:01:33  bng1   4      open   2      1     bng2",
    );
    same(
        &site.ok(&["cluster", "members"]),
        "
ID  NODE  ROLE     VOTER  API             RAFT            LEASE
1   bng1  data     yes    192.0.2.1:8443  192.0.2.1:8444  192.0.2.1:8445
2   bng2  data     yes    192.0.2.2:8443  192.0.2.2:8444  192.0.2.2:8445
3   wit   witness  yes    192.0.2.3:8443  192.0.2.3:8444  192.0.2.3:8445",
    );
    same(
        &site.ok(&["group", "show", "south"]),
        "
group        south
vrid         51
virtual mac  00:00:5e:00:01:33
owner        bng1
epoch        4
fence        open
revision     42
sessions     2 PPPoE, 1 DHCP

NODE  PROGRAMMED  ELIGIBLE  FENCE
bng1  42          yes       open
bng2  42          yes       shut",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_sessions_are_as_documented() {
    let site = Site::logged_in().await;
    same(
        &site.ok(&["session", "list"]),
        "
ID  TYPE   USER               ADDRESS     MAC                INTERFACE    GROUP  DOWN  UP   STATE   SINCE
1   PPPoE  user1              100.64.0.1  02:00:00:00:00:01  port1.100.1  south  100M  20M  active  2023-11-14T22:13:20Z
2   DHCP   02:00:00:00:00:02  100.64.0.2  02:00:00:00:00:02  port1.100.2  south  100M  20M  active  2023-11-14T22:13:20Z
3   PPPoE  user3              100.64.0.3  02:00:00:00:00:03  port1.100.3  south  100M  20M  active  2023-11-14T22:13:20Z",
    );
    same(
        &site.ok(&["session", "show", "2"]),
        "
id               2
type             DHCP
state            active
user             02:00:00:00:00:02
address          100.64.0.2
gateway          100.64.0.254
pool             res
nat              203.0.113.1 ports 1024-2047
mac              02:00:00:00:00:02
interface        port1.100.2
vlans            100.2
group            south
node             bng1
rate             100M down, 20M up
from subscriber  1234567 octets, 1000 packets
to subscriber    7654321 octets, 6000 packets
since            2023-11-14T22:13:20Z
accounting id    tandem-1700000000-2
lease until      2023-11-14T23:13:20Z
host name        router
revision         22 (made at 12)",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_say_what_they_did() {
    let site = Site::logged_in().await;
    let rows: &[(&[&str], &str)] = &[
        (
            &["session", "rate", "1", "--down", "1.5G", "--up", "unlimited"],
            "session 1: 1.5G down, unlimited up",
        ),
        (&["session", "disconnect", "1"], "session 1 ended"),
        (
            &["group", "failover", "south", "--to", "bng2"],
            "group south went from bng1 to bng2 at epoch 5 in 12 ms",
        ),
        (&["cluster", "remove", "bng2"], "node bng2 (2) removed"),
        (&["cluster", "remove", "3"], "node wit (3) removed"),
    ];
    for (args, want) in rows {
        same(&site.ok(args), want);
    }
    let (_, out, err) =
        site.run(&["cluster", "token", "--name", "bng4", "--ttl", "60", "--role", "witness"]);
    assert!(out.starts_with("bngctl cluster join tandem1."), "{out}");
    assert!(err.contains("2023-11-14T22:14:20Z"), "{err}");
    let calls = site.fake.state().calls.clone();
    let want = [
        "rate 1 1500000000/0",
        "disconnect 1",
        "failover south bng2",
        "remove 2",
        "remove 3",
        "join-token Some(\"bng4\") 60 Witness",
    ];
    assert_eq!(calls, want.map(|call| format!("{call} by ann key -")));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_body_of_the_api() {
    let site = Site::logged_in().await;
    let out = site.ok(&["--json", "session", "list", "--type", "pppoe", "--limit", "1"]);
    assert!(
        out.starts_with(r#"{"status":"ok","data":{"sessions":[{"id":1,"type":"PPPoE","#),
        "{out}"
    );
    assert!(out.ends_with("\"count\":1,\"next\":1}}\n"), "{out}");
    let out = site.ok(&["group", "failover", "south", "--json"]);
    same(
        &out,
        r#"{"status":"ok","data":{"group":"south","from":"bng1","to":"bng2","epoch":5,"took_ms":12}}"#,
    );
    // A refusal is a body too.
    let (code, out, err) = site.run(&["--json", "session", "show", "9"]);
    assert_eq!(code, 5);
    let body: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(body["code"], "not_found");
    assert_eq!(err, "bngctl: subscriber 9 not found\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other() {
    let site = Site::logged_in().await;
    let (_, out, err) = site.run(&["session", "list", "--limit", "2"]);
    assert_eq!(
        (out.lines().count(), err.as_str()),
        (3, "there may be more: --after 2, or --all\n")
    );
    let out = site.ok(&["session", "list", "--limit", "2", "--after", "2"]);
    assert_eq!(out.lines().nth(1).unwrap().split_whitespace().next(), Some("3"));
    let out = site.ok(&["session", "list", "--limit", "1", "--all", "--json", "--local"]);
    let counts: Vec<_> = (out.lines())
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["data"]["count"].clone())
        .collect();
    assert_eq!(counts, [1, 1, 1, 0]);
    assert!(
        site.fake
            .state()
            .calls
            .iter()
            .all(|c| c == "subscribers Local" || c.ends_with("Linearizable"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_are_as_documented() {
    let site = Site::logged_in().await;
    let nowhere = "http://127.0.0.1:1";
    let rows: &[(i32, &[&str], &str)] = &[
        (2, &["session", "show", "x"], "not a session id"),
        (2, &["session", "rate", "1", "--down", "5X", "--up", "1"], "not a rate"),
        (2, &["--url", "http://192.0.2.1", "group", "list"], "use https"),
        (2, &["--ca", "a", "--insecure", "group", "list"], "cannot be used with"),
        (1, &["--ca", "/nonexistent", "group", "list"], "/nonexistent: No such file"),
        (3, &["--url", nowhere, "group", "list"], "no node reachable"),
        (4, &["--token", "a.b.c", "group", "list"], "hint: log in"),
        (
            4,
            &["login", "--username", "ann", "--password", "guess"],
            "Incorrect username or password",
        ),
        (5, &["session", "show", "9"], "subscriber 9 not found"),
        (5, &["group", "failover", "south", "--to", "bng9"], "node bng9 not found"),
        (5, &["cluster", "remove", "bng9"], "members are bng1, bng2, wit"),
        (6, &["group", "failover", "south", "--to", "wit"], "node wit is a witness"),
        (6, &["cluster", "token", "--ttl", "1"], "ttl_s"),
    ];
    for (want, args, part) in rows {
        let (code, out, err) = site.run(args);
        assert_eq!(code, *want, "{args:?}: {out}{err}");
        assert!(err.contains(part), "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
    }
    site.fake.state().has_leader = false;
    let (code, _, err) = site.run(&["session", "list"]);
    assert_eq!((code, err.as_str()), (3, "bngctl: No leader, try again in 2 s\n"));
    site.ok(&["session", "list", "--local"]);
    site.fake.state().has_leader = true;
    site.fake.state().hangs = true;
    let (code, _, err) = site.run(&["--timeout", "1", "session", "list"]);
    assert_eq!(code, 7, "{err}");

    let dead_first = format!("{nowhere},{}", site.url);
    site.ok(&["--url", &dead_first, "group", "list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_look_and_not_touch() {
    let site = Site::new().await;
    let mut login = site.command(&["--url", &site.url, "login", "--username", "oli"]);
    login.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = login.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"battery staple\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&out.stdout).starts_with("logged in as oli (operator) until "));
    site.ok(&["group", "list"]);
    let (code, _, err) = site.run(&["session", "disconnect", "1"]);
    assert_eq!((code, err.as_str()), (4, "bngctl: Admin role required\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_kept_for_its_owner_only() {
    let site = Site::logged_in().await;
    let mode = std::fs::metadata(site.profile()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let dir = site.profile().parent().unwrap().to_owned();
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no leftover of the writing");

    std::fs::set_permissions(site.profile(), PermissionsExt::from_mode(0o644)).unwrap();
    let (code, _, err) = site.run(&["group", "list"]);
    assert!(code == 1 && err.contains("lets others read the token"), "{err}");
    std::fs::write(site.profile(), "junk").unwrap();
    std::fs::set_permissions(site.profile(), PermissionsExt::from_mode(0o600)).unwrap();
    let (code, _, err) = site.run(&["group", "list"]);
    assert!(code == 1 && err.contains("log in again"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_and_join_use_the_token_of_the_data_directory() {
    let site = Site::logged_in().await;
    let token = site.ok(&["cluster", "token"]);
    let token = token.trim().strip_prefix("bngctl cluster join ").unwrap().to_owned();

    let dir = site.home.path();
    let request: api::types::InitRequest = serde_json::from_str(INIT).unwrap();
    let config = dir.join("cluster.toml");
    std::fs::write(&config, toml::to_string(&request).unwrap()).unwrap();
    let (config, data) = (config.to_str().unwrap(), dir.to_str().unwrap());
    let init = ["--url", &site.url, "cluster", "init", "--config", config, "--data-dir", data];

    let (code, _, err) = site.run(&init);
    assert!(code == 1 && err.contains("bootstrap-token: No such file"), "{err}");
    std::fs::write(dir.join("bootstrap-token"), format!("{BOOTSTRAP}\n")).unwrap();
    let (code, _, err) = site.run(&init);
    assert_eq!((code, err.as_str()), (6, "bngctl: This node already belongs to a cluster\n"));

    site.fake.state().initialised = false;
    let (code, _, err) =
        site.run(&["--url", &site.url, "cluster", "join", &token, "--bootstrap-token", "guess"]);
    assert_eq!(code, 4, "{err}");
    let out = site.ok(&init);
    assert!(out.starts_with("cluster c-1 made, this is node 1\nfingerprint abab"), "{out}");
    assert!(out.contains("login --username ann"), "{out}");

    site.fake.state().initialised = false;
    let out = site.ok(&["--url", &site.url, "cluster", "join", &token, "--data-dir", data]);
    same(&out, "joined cluster c-1 as node 4");

    let mut wrong = request.clone();
    (wrong.groups[0].vrid, wrong.pools[0].gateway) = (0, "here".into());
    std::fs::write(config, toml::to_string(&wrong).unwrap()).unwrap();
    site.fake.state().initialised = false;
    let (code, _, err) = site.run(&init);
    assert_eq!(code, 6);
    assert!(
        err.contains("\n  groups[0].vrid: ") && err.contains("\n  pools[0].gateway: "),
        "{err}"
    );

    std::fs::write(config, "cluster_name = 'x'\nadmim = 1\n").unwrap();
    let (code, _, err) = site.run(&init);
    assert!(code == 1 && err.contains("unknown field `admim`"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_ends_when_the_new_owner_is_open() {
    let site = Site::logged_in().await;
    // The fake stays at epoch 4 until told otherwise: the wish does not come true.
    let (code, out, err) = site.run(&["--timeout", "1", "group", "failover", "south", "--wait"]);
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    assert!(err.contains("bng2 owns group south but is not open after 1 s"), "{err}");
    site.fake.state().owner = "bng1";
    site.fake.state().epoch = 5;
    let out = site.ok(&["group", "failover", "south", "--wait"]);
    assert!(out.starts_with("group south went from bng1 to bng2"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_failure_and_help_has_examples() {
    let site = Site::logged_in().await;
    let bin = env!("CARGO_BIN_EXE_bngctl");
    // `true` reads nothing; the completion script is longer than a pipe holds.
    let script = format!("set -o pipefail; {bin} completions bash | true");
    let out = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(0), &b""[..]));

    let help = site.ok(&["--help"]);
    assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    for noun in [
        &["cluster", "init", "--help"][..],
        &["group", "failover", "--help"],
        &["session", "list", "--help"],
        &["user", "add", "--help"],
        &["user", "list", "--help"],
        &["user", "passwd", "--help"],
        &["user", "role", "--help"],
        &["user", "remove", "--help"],
        &["key", "list", "--help"],
        &["key", "create", "--help"],
        &["key", "revoke", "--help"],
        &["audit", "--help"],
        &["logout", "--help"],
    ] {
        assert!(site.ok(noun).contains("Example"), "{noun:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(site.ok(&["completions", shell]).contains("failover"), "{shell}");
    }
    let out = site.ok(&["version"]);
    same(&out, "bngctl 0.1.0\ntandem 0.1.0 (API v1) on bng1, Linux 6.18.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_edited_and_committed() {
    let site = Site::logged_in().await;
    let shown = site.ok(&["config", "show", "system"]);
    assert!(shown.contains("\"name\": \"south\""), "{shown}");
    assert!(shown.contains("the candidate differs"), "{shown}");
    let (code, _, err) = site.run(&["config", "show", "system.nothing"]);
    assert_eq!((code, err.contains("there is no system.nothing")), (5, true), "{err}");
    let set = site.ok(&["config", "set", "system.name", "south"]);
    assert_eq!(set, "+ system.name \"south\"\n! pools.home: is incomplete\n");
    assert_eq!(site.run(&["config", "delete", "nothing"]).0, 5);
    let compare = site.ok(&["config", "compare"]);
    assert!(compare.starts_with("+ system.name"), "{compare}");
    assert!(site.ok(&["config", "commit"]).contains("version 43 runs"));
    let confirm = site.ok(&["config", "commit-confirm", "--within", "60"]);
    assert!(confirm.contains("goes back in 60 s"), "{confirm}");
    assert_eq!(site.run(&["config", "commit-confirm", "--within", "5"]).0, 2);
    assert!(site.ok(&["config", "history"]).contains("2023-11-14T22:13:20Z"));
    site.ok(&["config", "rollback", "7"]);
    assert_eq!(site.ok(&["config", "discard"]), "1 differences dropped\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_and_webhooks_kept() {
    let site = Site::logged_in().await;
    same(
        &site.ok(&["events", "follow", "--count", "2"]),
        "
2023-11-14T22:13:20.5Z  session.up       1  PPPoE  user1  100.64.0.1  port1.100  south
2023-11-14T22:13:20.5Z  session.down     3  PPPoE  user3  100.64.0.1  port1.100  south  user_request",
    );
    let one = site.ok(&["events", "follow", "--count", "1", "--event", "session.down", "--json"]);
    assert!(one.contains("\"id\":\"43\""), "{one}");
    assert_eq!(site.run(&["events", "follow", "--event", "nothing"]).0, 2);
    same(
        &site.ok(&["webhook", "list"]),
        "
ID        URL                        EVENTS      CURSOR  DEAD LETTERS  FAILING SINCE         ERROR
a1b2c3d4  https://crm.example.net/x  session.up  40      1             2023-11-14T22:13:20Z  answered 500",
    );
    let made = site.ok(&["webhook", "add", "https://a.example/x", "--event", "session.up"]);
    assert_eq!(made, "webhook a1b2c3d4, secret made-by-the-node\n");
    assert_eq!(site.run(&["webhook", "add", "nowhere", "--event", "session.up"]).0, 6);
    assert!(
        site.ok(&["webhook", "dead-letters", "--limit", "1"]).ends_with("more: --before 7-1\n")
    );
    site.ok(&["webhook", "dismiss", "7-1"]);
    site.ok(&["webhook", "remove", "a1b2c3d4"]);
    assert_eq!(site.run(&["webhook", "remove", "00000000"]).0, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_editor_changes_the_candidate_and_a_failed_one_changes_nothing() {
    let site = Site::logged_in().await;
    let edit = |editor: &str| site.command(&["config", "edit"]).env("EDITOR", editor).output();
    let untouched = edit("true").unwrap();
    assert_eq!(String::from_utf8_lossy(&untouched.stdout), "nothing was changed\n");
    assert_eq!(edit("false").unwrap().status.code(), Some(2));
    let loads = || site.fake.state().calls.iter().filter(|c| c.contains("config load")).count();
    assert_eq!(loads(), 0);
    let changed = edit("sed -i s/south/north/").unwrap();
    assert!(changed.status.success(), "{changed:?}");
    assert_eq!(loads(), 1);
    assert!(site.fake.state().calls.iter().any(|c| c.contains("north")));
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_shown_and_changed() {
    let site = Site::logged_in().await;
    let rows: &[(&[&str], &str)] = &[
        (&["allow", "172.16.0.4"], "172.16.0.4: active"),
        (
            &["bind", "172.16.0.4", "02:00:00:00:00:01"],
            "172.16.0.4: active, bound to 02:00:00:00:00:01",
        ),
        (
            &["shape", "172.16.0.4", "--down", "100M", "--up", "20M"],
            "172.16.0.4: 100M down, 20M up",
        ),
        (&["disallow", "172.16.0.4"], "172.16.0.4: disallowed, bound to 02:00:00:00:00:01"),
        (
            &["list"],
            "
ADDRESS     ALLOWED  STATE       MAC                BOUND  INTERFACE  GROUP  DOWN  UP
172.16.0.4  no       disallowed  aa:bb:cc:dd:ee:ff  yes    port1      south  100M  20M",
        ),
        (&["unbind", "172.16.0.4"], "172.16.0.4: disallowed"),
        (&["remove", "172.16.0.4"], "172.16.0.4 removed"),
        (&["ban", "10.0.0.0/24"], "10.0.0.0/24 (all) banned"),
        (&["ban", "10.0.0.7", "--icmp"], "10.0.0.7/32 (icmp) banned"),
        (&["unban", "10.0.0.0/24"], "10.0.0.0/24 (all) not banned any more"),
        (
            &["bans"],
            "
NETWORK      SCOPE  SINCE
10.0.0.7/32  icmp   2023-11-14T22:13:20Z",
        ),
        (
            &["waiting"],
            "
ADDRESS      MAC                INTERFACE  GROUP  FIRST                 LAST
172.16.0.50  aa:bb:cc:dd:ee:ff  port1.200  south  2023-11-14T22:13:20Z  2023-11-14T22:14:20Z",
        ),
    ];
    for (args, want) in rows {
        same(&site.ok(&[&["policy"], *args].concat()), want);
    }
    assert_eq!(site.run(&["policy", "disallow", "172.16.0.9"]).0, 5, "no such subscriber");
    assert_eq!(site.run(&["policy", "unban", "10.0.0.1/24"]).0, 2, "host bits are set");
    assert_eq!(site.run(&["policy", "ban", "192.0.2.0/24"]).0, 6, "it cuts off a member");
}
