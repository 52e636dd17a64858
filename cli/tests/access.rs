//! Users, keys, audit trail and logout of the binary, against a fake node.
#![expect(clippy::unwrap_used, reason = "a test whose set-up failed has nothing left to say")]

#[path = "../../api/tests/support/fake.rs"]
mod fake;
#[path = "support/site.rs"]
mod site;

use site::{Site, same};
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn users_and_keys_are_listed_made_and_removed() {
    let site = Site::logged_in().await;
    let typed = |args: &[&str], input: &str| {
        let mut command = site.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{args:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    same(
        &typed(&["user", "add", "eve", "--role", "engineer"], "a long password\n"),
        "user eve added with role engineer",
    );
    same(
        &typed(&["user", "passwd", "eve"], "another password\n"),
        "user eve has a new password; its logins have ended",
    );
    same(&site.ok(&["user", "role", "eve", "viewer"]), "user eve has role viewer");
    same(
        &site.ok(&["user", "list"]),
        "
USER  ROLE      ENABLED  SECOND FACTOR  ADDED
ann   admin     yes      no             2023-11-14T22:13:20Z
eng   engineer  yes      no             2023-11-14T22:13:20Z
eve   viewer    yes      no             2023-11-14T22:13:20Z
oli   operator  yes      no             2023-11-14T22:13:20Z
tom   viewer    yes      yes            2023-11-14T22:13:20Z",
    );
    same(&site.ok(&["user", "remove", "eve"]), "user eve removed");
    assert_eq!(site.run(&["user", "remove", "eve"]).0, 5);
    same(
        &site.ok(&["key", "list"]),
        "
ID  NAME    OWNER  ALLOWS    EXPIRES  LAST SEEN
k1  portal  ann    dns:read  -        2023-11-14T22:13:20Z",
    );
    let (code, out, err) = site.run(&["key", "create", "x1", "--allow", "subscribers:read"]);
    assert_eq!((code, out.as_str()), (0, "tdm_x1\n"), "{err}");
    assert!(err.contains("not shown again"), "{err}");
    assert_eq!(site.run(&["key", "create", "x2", "--allow", "subscribers:reed"]).0, 6);
    // The key is a credential of its own, and allows what it says.
    site.ok(&["--token", "tdm_x1", "session", "list"]);
    assert_eq!(site.run(&["--token", "tdm_x1", "group", "list"]).0, 4);
    same(&site.ok(&["key", "revoke", "k1"]), "key k1 revoked");
    let json = site.ok(&["--json", "user", "list"]);
    assert!(json.starts_with(r#"{"status":"ok","data":{"users":[{"id":"ann""#), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_trail_is_a_table_and_a_logout_ends_the_login() {
    let site = Site::logged_in().await;
    let (_, out, err) = site.run(&["audit", "--limit", "2"]);
    same(
        &out,
        "
WHEN                  WHO  FROM  ACTION    OBJECT    OUTCOME
2023-11-14T22:13:20Z  ann  -     user.add  user/eve  done
2023-11-14T22:13:20Z  ann  -     user.add  user/eve  done",
    );
    assert!(err.contains("there is more: --before 0000"), "{err}");
    assert_eq!(site.run(&["audit", "--limit", "0"]).0, 2);
    same(&site.ok(&["logout"]), "logged out");
    assert!(!site.profile().exists());
    assert_eq!(site.fake.state().access.revoked.len(), 1);
    let (code, _, err) = site.run(&["--url", &site.url, "logout"]);
    assert_eq!(code, 4, "{err}");
}
