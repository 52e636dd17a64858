//! Every metric that a node emits is described in `docs/metrics.md`, and no other is; dashboard and alerts name no metric
//! that nobody emits.

use super::Source;
use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/metrics.md";
const PREFIX: &str = "tandem_";
/// Where metrics are emitted.
const EMITTERS: &[&str] = &["node/src/metrics.rs", "node/src/metrics/"];
/// Where they are used.
const USERS: &[&str] = &["deploy/grafana/", "deploy/prometheus/"];

/// Compares emitted, described and used metrics.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let emitted = found(files, EMITTERS, quoted);
    let used = found(files, USERS, named);
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return vec![format!("{DOCUMENT}:1: missing")];
    };
    let mut described = BTreeMap::new();
    for (number, line) in document.lines() {
        if let Some(name) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            described.insert(name.to_owned(), format!("{DOCUMENT}:{number}"));
        }
    }
    let mut findings = Vec::new();
    for (name, place) in emitted.iter().filter(|(name, _)| !described.contains_key(*name)) {
        findings.push(format!("{place}: {name} has no row in {DOCUMENT}"));
    }
    for (name, place) in described.iter().chain(&used) {
        if name.starts_with(PREFIX) && !emitted.contains_key(name) {
            findings.push(format!("{place}: no node emits {name}"));
        }
    }
    findings
}

/// Metrics in files below some folders, with the first place of each.
fn found(
    files: &[Source],
    folders: &[&str],
    names: fn(&str) -> Vec<&str>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in files.iter().filter(|f| folders.iter().any(|folder| f.path.starts_with(folder))) {
        for (number, line) in file.lines() {
            for name in names(line) {
                let place = || format!("{}:{number}", file.path);
                found.entry(name.to_owned()).or_insert_with(place);
            }
        }
    }
    found
}

/// String literals that are a metric and nothing else.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).filter(|text| named(text) == [*text]).collect()
}

/// Words that are a metric.
fn named(line: &str) -> Vec<&str> {
    let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.len() > PREFIX.len() && word.starts_with(PREFIX)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_metric_is_emitted_described_and_only_then_used() {
        let code =
            source("node/src/metrics/a.rs", "text.gauge(\"tandem_up\", \"Of tandem_old.\");");
        let page = source(DOCUMENT, "| `tandem_up` | gauge | | is up |\n| metric | type |\n");
        let board =
            source("deploy/grafana/a.json", "\"expr\": \"rate(tandem_up{a=\\\"b\\\"}[5m])\"");
        assert_eq!(check(&[code, page, board]), Vec::<String>::new());

        let code = source("node/src/metrics.rs", "\n\"tandem_new\"");
        let page = source(DOCUMENT, "\n\n| `tandem_gone` | gauge |");
        let board = source("deploy/prometheus/a.yml", "expr: tandem_wrong_total > 0");
        assert_eq!(
            check(&[code, page, board]),
            [
                "node/src/metrics.rs:2: tandem_new has no row in docs/metrics.md",
                "docs/metrics.md:3: no node emits tandem_gone",
                "deploy/prometheus/a.yml:1: no node emits tandem_wrong_total",
            ]
        );
    }
}
