//! The only place that writes to the output, so that a closed pipe is an error and no panic.

use crate::error::CliError;
use api::Answer;
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt::Display;
use std::io::Write;

/// Prints the body of the answer with `--json`, else what `text` makes of it.
pub(crate) fn answer<T, D: Display>(
    json: bool,
    answer: &Answer<T>,
    text: impl FnOnce(&T) -> D,
) -> Result<(), CliError> {
    if json { line(&answer.body) } else { line(text(&answer.data)) }
}

/// Prints one text and ends the line.
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    // Formatted first: a formatter turns the kind of an I/O error into a panic or nothing.
    let text = format!("{text}");
    out.write_all(text.trim_end().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Prints a remark that is not part of the output.
pub(crate) fn remark(text: impl Display) {
    let _closed = writeln!(std::io::stderr(), "{text}");
}

/// A table with a heading and no lines: easy to read, cut and grep.
pub(crate) fn table(heading: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Names and values below each other.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

/// A table without the blanks at the ends of its lines.
pub(crate) fn rows(table: &Table) -> String {
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}
