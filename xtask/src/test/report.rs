//! What became of each step.

use crate::host;
use anyhow::Result;
use std::fmt;
use std::time::Duration;

/// How a step that did not fail ended.
pub(crate) enum Done {
    /// It holds; the text, if any, says what was measured.
    Passed(String),
    /// It could not be tried, for this reason.
    Skipped(String),
}

enum Outcome {
    Passed,
    Failed,
    Skipped,
}

struct Step {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
    text: String,
}

/// Reasons why single tests inside a step were not run: their lines that start with `SKIPPED:`.
#[derive(Default)]
pub(crate) struct Notes(Vec<String>);

impl Notes {
    /// Looks at a line of a program's output.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(reason) = skipped(line) {
            self.0.push(reason.to_owned());
        }
    }
}

/// The reason in a line `SKIPPED: reason`, or in one that libtest has begun with `test name ... `.
fn skipped(line: &str) -> Option<&str> {
    const MARK: &str = "SKIPPED:";
    let line = line.trim();
    let rest = match line.split_once(" ... ") {
        Some((head, tail)) if head.starts_with("test ") => tail,
        Some(_) | None => line,
    };
    rest.strip_prefix(MARK).map(str::trim)
}

/// All steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Report {
    /// Runs a step under a heading; returns whether it passed.
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Notes) -> Result<Done>,
    ) -> bool {
        println!("\n==== {name}");
        let started = host::now();
        let mut notes = Notes::default();
        let result = work(&mut notes);
        let took = started.elapsed();
        let (outcome, text) = match result {
            Ok(Done::Passed(text)) => (Outcome::Passed, text),
            Ok(Done::Skipped(reason)) => (Outcome::Skipped, reason),
            Err(error) => {
                println!("{error:#}");
                (
                    Outcome::Failed,
                    format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
                )
            }
        };
        self.notes.extend(notes.0.into_iter().map(|reason| format!("{name}: {reason}")));
        let step = Step { name, outcome, took, text };
        println!("---- {step}");
        let passed = matches!(step.outcome, Outcome::Passed);
        self.steps.push(step);
        passed
    }

    /// How many steps failed.
    pub(crate) fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed))
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.steps.iter().filter(|step| which(&step.outcome)).count()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "SKIPPED",
        };
        write!(f, "{outcome:<8} {:>7.1} s  {}", self.took.as_secs_f64(), self.name)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, ": {}", self.text) }
    }
}

impl fmt::Display for Report {
    /// A table, then what single tests left out, then the counts. A step with tests left out has
    /// still passed; each of them counts as skipped, so that none goes unseen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n==== summary")?;
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        let whole: Duration = self.steps.iter().map(|step| step.took).sum();
        writeln!(f, "all      {:>7.1} s", whole.as_secs_f64())?;
        for note in &self.notes {
            writeln!(f, "SKIPPED: {note}")?;
        }
        let passed = self.count(|outcome| matches!(outcome, Outcome::Passed));
        let skipped = self.count(|outcome| matches!(outcome, Outcome::Skipped)) + self.notes.len();
        write!(f, "{passed} passed, {} failed, {skipped} skipped", self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[test]
    fn a_skipped_test_is_found_wherever_libtest_lets_it_print() {
        let rows = [
            ("SKIPPED: no BPF here", Some("no BPF here")),
            ("  SKIPPED: no BPF here ", Some("no BPF here")),
            ("test fence ... SKIPPED: no BPF here", Some("no BPF here")),
            ("nothing was SKIPPED: at all", None),
            ("test fence ... ok", None),
        ];
        for (line, want) in rows {
            assert_eq!(skipped(line), want, "{line:?}");
        }
    }

    #[test]
    fn the_last_line_counts_steps_and_every_test_left_out() {
        let mut report = Report::default();
        assert!(report.step("a", |_| Ok(Done::Passed(String::new()))));
        assert!(report.step("b", |notes| {
            notes.line("SKIPPED: no root");
            Ok(Done::Passed("kept 2/2".into()))
        }));
        assert!(!report.step("c", |_| Ok(Done::Skipped("not installed".into()))));
        assert!(!report.step("d", |_| bail!("broken")));
        let text = report.to_string();
        assert!(text.contains("SKIPPED: b: no root"), "{text}");
        assert_eq!(text.lines().last(), Some("2 passed, 1 failed, 2 skipped"));
    }
}
