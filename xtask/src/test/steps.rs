//! The steps, each a function that passes, skips with a reason, or fails.

use super::report::{Done, Notes};
use crate::host::{self, Chatter};
use crate::lab::{self, LastObject, Profile};
use crate::{debian, package, tidy};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::process::Command;

/// Minutes of chaos.
const CHAOS_MINUTES: u32 = 3;
/// Where profile `ci` of `.config/nextest.toml` leaves its report.
const JUNIT: &str = "target/nextest/ci/junit.xml";
/// Mutations of the corpus, per fuzz target.
const MUTATIONS: u32 = 20_000;

fn passed() -> Done {
    Done::Passed(String::new())
}

fn cargo(args: &[&str]) -> Result<Done> {
    host::check(host::cargo().args(args), Chatter::Stdout).map(|()| passed())
}

pub(super) fn packages(_: &mut Notes) -> Result<Done> {
    let sets = [debian::BUILD, debian::LAB, debian::CHAOS, debian::CLIENTS, debian::PACKAGE];
    debian::ensure(&sets, Chatter::Stdout).map(|()| passed())
}

pub(super) fn format(_: &mut Notes) -> Result<Done> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
}

pub(super) fn clippy(_: &mut Notes) -> Result<Done> {
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
}

pub(super) fn tidy(_: &mut Notes) -> Result<Done> {
    tidy::run().map(|()| passed())
}

pub(super) fn deny(_: &mut Notes) -> Result<Done> {
    if !host::succeeds(host::cargo().args(["deny", "--version"])) {
        return Ok(Done::Skipped("cargo-deny is not installed (cargo install cargo-deny)".into()));
    }
    cargo(&["deny", "check", "bans", "licenses", "sources"])?;
    if !host::succeeds(host::cargo().args(["deny", "fetch", "db"])) {
        let reason = "bans, licences and sources are good; the advisory database cannot be fetched";
        return Ok(Done::Skipped(reason.into()));
    }
    cargo(&["deny", "check", "advisories"])
}

pub(super) fn unit(notes: &mut Notes) -> Result<Done> {
    if host::succeeds(host::cargo().args(["nextest", "--version"])) {
        return nextest(notes);
    }
    println!("cargo-nextest is not installed, so cargo test runs the tests");
    let args = ["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--locked"];
    let mut cargo = host::cargo();
    cargo.args(args).args(["--no-fail-fast", "--", "--show-output"]);
    show(&mut cargo, notes)
}

/// Profile `ci` writes the output of passed tests into a JUnit file instead of on the screen.
fn nextest(notes: &mut Notes) -> Result<Done> {
    let junit = host::root().join(JUNIT);
    if junit.exists() {
        std::fs::remove_file(&junit)?;
    }
    let tested = cargo(&["nextest", "run", "--workspace", "--locked", "--profile", "ci"]);
    if let Ok(report) = std::fs::read_to_string(&junit) {
        for line in report.lines() {
            notes.line(&unescaped(line));
        }
    }
    tested
}

/// A line of element content without its tags and entities.
fn unescaped(line: &str) -> String {
    let text = line.trim_start();
    let text =
        if text.starts_with('<') { text.split_once('>').map_or("", |(_, t)| t) } else { text };
    let text = text.split_once('<').map_or(text, |(t, _)| t);
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

pub(super) fn doc(_: &mut Notes) -> Result<Done> {
    cargo(&["test", "--workspace", "--doc", "--locked"])
}

pub(super) fn fuzz(notes: &mut Notes) -> Result<Done> {
    let resolve =
        ["metadata", "--locked", "--format-version", "1", "--manifest-path", "fuzz/Cargo.toml"];
    if !host::succeeds(host::cargo().args(resolve)) {
        bail!(
            "fuzz/Cargo.lock is behind the manifests: run `cargo check --manifest-path fuzz/Cargo.toml`"
        );
    }
    let mut cargo = host::cargo();
    cargo.args(["run", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bin", "replay"]);
    cargo.arg("--target-dir").arg(host::target_dir()?.join("fuzz"));
    cargo.args(["--", "--mutations", &MUTATIONS.to_string()]);
    show(&mut cargo, notes)
}

/// Builds tests and programs in one go: with other targets selected, cargo would choose other features of
/// the dependencies and compile them a second time. The test of `api` that finds a stale OpenAPI document is among them.
pub(super) fn build(_: &mut Notes) -> Result<Done> {
    cargo(&["build", "--workspace", "--all-targets", "--locked"])
}

pub(super) fn demo(built: bool, notes: &mut Notes) -> Result<Done> {
    in_lab(built, &["demo"], notes, demo_verdict)
}

pub(super) fn access(built: bool, notes: &mut Notes) -> Result<Done> {
    in_lab(built, &["access"], notes, access_verdict)
}

pub(super) fn policy(built: bool, notes: &mut Notes) -> Result<Done> {
    in_lab(built, &["policy"], notes, policy_verdict)
}

pub(super) fn chaos(built: bool, notes: &mut Notes) -> Result<Done> {
    in_lab(built, &["chaos", "--minutes", &CHAOS_MINUTES.to_string()], notes, chaos_verdict)
}

/// Packs the debug programs, lets the tools that are there look at the result, and installs it on machines of a lab.
pub(super) fn package(built: bool, notes: &mut Notes) -> Result<Done> {
    if !built {
        return Ok(Done::Skipped("the programs were not built".into()));
    }
    if !host::succeeds(Command::new("dpkg-deb").arg("--version")) {
        return Ok(Done::Skipped("no dpkg-deb here".into()));
    }
    let deb = package::assemble(Profile::Debug, &package::folder()?)?;
    let deb = deb.to_str().context("the target directory is plain text")?;
    if host::succeeds(Command::new("lintian").arg("--version")) {
        let mut lintian = host::command("lintian");
        // Its warning about root's rights is no finding.
        lintian.args(["--allow-root", "--fail-on", "error,warning", deb]);
        host::check(&mut lintian, Chatter::Stdout)?;
    } else {
        notes.line("SKIPPED: lintian is not installed, so nobody looked at the package");
    }
    if host::succeeds(Command::new("promtool").arg("--version")) {
        let tests = "deploy/prometheus/tandem.rules.test.yml";
        host::check(host::command("promtool").args(["test", "rules", tests]), Chatter::Stdout)?;
    } else {
        notes.line("SKIPPED: promtool is not installed, so the alert rules were not tried");
    }
    in_lab(built, &["install", "--deb", deb], notes, install_verdict)
}

fn install_verdict(value: &Value) -> Result<Done> {
    if let Some(reason) = value.get("skipped").and_then(Value::as_str) {
        return Ok(Done::Skipped(format!("packed, but not installed: {reason}")));
    }
    let (machines, kept) = (number(value, "/machines")?, number(value, "/kept")?);
    ensure!(kept >= 1.0, "no session was kept");
    Ok(Done::Passed(format!("{machines} machines with systemd, {kept} sessions kept")))
}

/// Runs a lab task with `--json` and judges its last line.
fn in_lab(
    built: bool,
    args: &[&str],
    notes: &mut Notes,
    verdict: fn(&Value) -> Result<Done>,
) -> Result<Done> {
    if !built {
        return Ok(Done::Skipped("the lab's programs were not built".into()));
    }
    if !host::is_root() {
        return Ok(Done::Skipped("needs root, for network namespaces and BPF".into()));
    }
    let mut command = host::command(lab::binary(Profile::Debug)?);
    command.args(args).arg("--json");
    let mut last = LastObject::default();
    let succeeded = host::lines(&mut command, |line| {
        notes.line(line);
        last.line(line, |text| println!("{text}"));
    })?;
    let line = last.0.unwrap_or_default();
    println!("{line}");
    if !succeeded {
        bail!("{} failed; `cargo xtask lab clean` removes what is left", host::shown(&command));
    }
    let value = serde_json::from_str(&line).context("the lab printed no line of JSON")?;
    verdict(&value)
}

fn number(value: &Value, pointer: &str) -> Result<f64> {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.with_context(|| format!("no number at {pointer} in {value}"))
}

fn demo_verdict(value: &Value) -> Result<Done> {
    let sessions = number(value, "/sessions/pppoe")? + number(value, "/sessions/dhcp")?;
    let (kept, owners) = (number(value, "/kept")?, number(value, "/owners_on_wire_max")?);
    ensure!(kept >= sessions, "kept {kept} of {sessions} sessions");
    ensure!((1.0..2.0).contains(&owners), "{owners} owners on the wire at one time");
    let kill = (number(value, "/gap_ms/kill/p50")?, number(value, "/gap_ms/kill/max")?);
    let planned = (number(value, "/gap_ms/planned/p50")?, number(value, "/gap_ms/planned/max")?);
    Ok(Done::Passed(format!(
        "kept {kept}/{sessions}, gap p50/max: kill {}/{} ms, planned {}/{} ms",
        kill.0, kill.1, planned.0, planned.1
    )))
}

fn access_verdict(value: &Value) -> Result<Done> {
    let [ok, failed, skipped] =
        [number(value, "/ok")?, number(value, "/failed")?, number(value, "/skipped")?];
    ensure!(failed < 1.0, "{failed} checks failed");
    ensure!(ok >= 1.0, "nothing was checked");
    Ok(Done::Passed(format!("{ok} checks, {skipped} skipped, {} s", number(value, "/seconds")?)))
}

fn policy_verdict(value: &Value) -> Result<Done> {
    let checks = value.get("checks").and_then(Value::as_array).context("no checks")?;
    let (failed, owners) = (number(value, "/failed")?, number(value, "/owners_on_wire_max")?);
    ensure!(!checks.is_empty() && failed < 1.0, "{failed} of {} checks failed", checks.len());
    ensure!((1.0..2.0).contains(&owners), "{owners} owners on the wire at one time");
    Ok(Done::Passed(format!("{} checks before and after a takeover", checks.len())))
}

fn chaos_verdict(value: &Value) -> Result<Done> {
    let (faults, violations) = (number(value, "/faults")?, number(value, "/violations")?);
    let seed = value.get("seed").context("no seed")?;
    ensure!(violations < 1.0, "{violations} violations with seed {seed}");
    ensure!(faults >= 1.0, "nothing was struck with seed {seed}");
    let recovery = number(value, "/recovery_ms/max")?;
    let skipped = value.get("skipped").and_then(Value::as_object).cloned().unwrap_or_default();
    let without = match skipped.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        kinds => format!(", without {kinds}"),
    };
    let text = format!("{faults} faults{without}, recovery at most {recovery} ms, seed {seed}");
    Ok(Done::Passed(text))
}

/// Runs a program, shows what it prints, and notes the tests that it left out.
fn show(command: &mut Command, notes: &mut Notes) -> Result<Done> {
    let succeeded = host::lines(command, |line| {
        notes.line(line);
        println!("{line}");
    })?;
    if succeeded { Ok(passed()) } else { bail!("{} failed", host::shown(command)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_demo_that_lost_a_session_or_showed_two_owners_fails() {
        let line = |kept: u32, owners: u32| {
            let gap = json!({"p50": 12.5, "max": 40});
            json!({"sessions": {"pppoe": 2, "dhcp": 3}, "kept": kept,
                   "gap_ms": {"kill": gap, "planned": gap}, "owners_on_wire_max": owners})
        };
        let good = demo_verdict(&line(5, 1)).unwrap();
        let Done::Passed(text) = good else { panic!("skipped") };
        assert!(text.starts_with("kept 5/5, gap p50/max: kill 12.5/40 ms"), "{text}");
        for (kept, owners) in [(4, 1), (5, 2), (5, 0)] {
            assert!(demo_verdict(&line(kept, owners)).is_err(), "kept {kept}, {owners} owners");
        }
        assert!(demo_verdict(&json!({})).is_err());
    }

    #[test]
    fn a_policy_run_with_a_failed_check_or_none_fails() {
        let line = |failed: u32, owners: u32, checks: usize| {
            let row = json!({"check": "x", "before": "ok", "after": "ok"});
            json!({"checks": vec![row; checks], "failed": failed, "owners_on_wire_max": owners})
        };
        let good = policy_verdict(&line(0, 1, 9)).unwrap();
        assert!(
            matches!(good, Done::Passed(text) if text.starts_with("9 checks before and after"))
        );
        for (failed, owners, checks) in [(1, 1, 9), (0, 2, 9), (0, 1, 0)] {
            assert!(policy_verdict(&line(failed, owners, checks)).is_err());
        }
    }

    #[test]
    fn chaos_with_a_violation_or_without_a_fault_fails() {
        let line = |faults: u32, violations: u32| json!({"seed": u64::MAX, "faults": faults, "violations": violations, "recovery_ms": {"p50": 1, "max": 2}});
        let good = chaos_verdict(&line(9, 0)).unwrap();
        assert!(matches!(good, Done::Passed(text) if text.ends_with("seed 18446744073709551615")));
        let mut without = line(9, 0);
        without["skipped"] = json!({"clock": "the package libfaketime is missing"});
        let passed = chaos_verdict(&without).unwrap();
        assert!(
            matches!(passed, Done::Passed(text) if text.starts_with("9 faults, without clock, recovery"))
        );
        assert!(chaos_verdict(&line(9, 1)).is_err());
        assert!(chaos_verdict(&line(0, 0)).is_err());
    }

    #[test]
    fn a_run_of_the_access_lab_with_a_failed_check_or_without_any_fails() {
        let line =
            |ok: u32, failed: u32| json!({"ok": ok, "failed": failed, "skipped": 1, "seconds": 60});
        let passed = access_verdict(&line(40, 0)).unwrap();
        assert!(matches!(passed, Done::Passed(text) if text == "40 checks, 1 skipped, 60 s"));
        assert!(access_verdict(&line(40, 1)).is_err());
        assert!(access_verdict(&line(0, 0)).is_err());
    }

    #[test]
    fn an_install_that_could_not_be_tried_counts_as_skipped() {
        let skipped = install_verdict(&json!({"skipped": "no systemd"})).unwrap();
        assert!(matches!(skipped, Done::Skipped(text) if text.ends_with("no systemd")));
        let good = install_verdict(&json!({"machines": 3, "kept": 2})).unwrap();
        assert!(matches!(good, Done::Passed(_)));
        assert!(install_verdict(&json!({"machines": 3, "kept": 0})).is_err());
        assert!(install_verdict(&json!({})).is_err());
    }

    #[test]
    fn a_line_of_junit_loses_its_markup() {
        let rows = [
            ("    <system-out>SKIPPED: a &lt;b&gt; &amp;amp;", "SKIPPED: a <b> &amp;"),
            ("SKIPPED: kernel</system-out>", "SKIPPED: kernel"),
            ("<testcase name=\"x\">", ""),
        ];
        for (line, want) in rows {
            assert_eq!(unescaped(line), want);
        }
    }
}
