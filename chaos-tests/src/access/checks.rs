//! What was checked, and how it came out.

use crate::lab::cluster::eventually;
use anyhow::Result;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Failed,
    Skipped,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }
}

struct Row {
    section: &'static str,
    name: String,
    outcome: Outcome,
    detail: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (section, outcome) = (self.section, self.outcome.name());
        write!(f, "{outcome:<8} {section:<8} {}", self.name)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// All checks of a run. A failed one does not end the run.
pub(super) struct Checks {
    rows: Vec<Row>,
    quiet: bool,
}

impl Checks {
    /// No checks yet; with `quiet`, only what was skipped and what failed is said at once.
    pub(super) fn new(quiet: bool) -> Self {
        Self { rows: Vec::new(), quiet }
    }

    /// Notes a check: what was found, or why it failed.
    pub(super) fn note(&mut self, section: &'static str, name: &str, found: Result<String>) {
        let (outcome, detail) = match found {
            Ok(detail) => (Outcome::Ok, detail),
            Err(error) => (Outcome::Failed, format!("{error:#}")),
        };
        let row = Row { section, name: name.to_owned(), outcome, detail };
        if outcome == Outcome::Failed {
            eprintln!("{row}");
        } else if !self.quiet {
            println!("{row}");
        }
        self.rows.push(row);
    }

    /// Notes what could not be checked. `cargo xtask test` counts lines of this form.
    pub(super) fn skip(&mut self, section: &'static str, name: &str, why: &str) {
        eprintln!("SKIPPED: {section}: {name}: {why}");
        let (name, detail) = (name.to_owned(), why.to_owned());
        self.rows.push(Row { section, name, outcome: Outcome::Skipped, detail });
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.rows.iter().filter(|r| r.outcome == outcome).count()
    }

    /// How many failed.
    pub(super) fn failed(&self) -> usize {
        self.count(Outcome::Failed)
    }

    /// The line for programs.
    pub(super) fn json(&self, took: Duration) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({"section": r.section, "check": r.name, "outcome": r.outcome.name(),
                       "detail": r.detail})
            })
            .collect();
        json!({
            "ok": self.count(Outcome::Ok),
            "failed": self.failed(),
            "skipped": self.count(Outcome::Skipped),
            "seconds": took.as_secs(),
            "checks": rows,
        })
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let [ok, failed, skipped] =
            [Outcome::Ok, Outcome::Failed, Outcome::Skipped].map(|o| self.count(o));
        write!(f, "{ok} ok, {failed} failed, {skipped} skipped")
    }
}

/// Waits until a condition of this process holds.
///
/// # Errors
/// The condition's last complaint.
pub(super) async fn until(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> Result<()>,
) -> Result<()> {
    eventually(what, within, || std::future::ready(holds())).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failed_check_is_counted_and_stands_in_the_table_and_in_the_line() {
        let mut checks = Checks::new(true);
        checks.note("nat", "a", Ok("fine".into()));
        checks.note("nat", "b", Err(anyhow!("port 7 is outside")));
        // Not by `skip`, whose line would count as a skipped test of this run.
        checks.rows.push(Row {
            section: "clients",
            name: "dhcpcd".to_owned(),
            outcome: Outcome::Skipped,
            detail: "not installed".to_owned(),
        });
        assert_eq!(checks.failed(), 1);
        let table = checks.to_string();
        assert!(table.contains("FAILED   nat      b: port 7 is outside"), "{table}");
        assert_eq!(table.lines().last(), Some("1 ok, 1 failed, 1 skipped"));
        let line = checks.json(Duration::from_secs(3));
        assert_eq!(line["failed"], 1);
        assert_eq!(line["checks"][2]["outcome"], "skipped");
    }
}
