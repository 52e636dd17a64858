//! What the compiler cannot check. Each finding is one line: `file:line: what is wrong`.

mod arrows;
mod events;
mod fuzz;
mod metrics;
mod sources;

use crate::host;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

/// A file that belongs to the repository, with its text.
pub(crate) struct Source {
    /// Path from the root, with slashes.
    path: String,
    /// `None` when it is not UTF-8.
    text: Option<String>,
}

impl Source {
    fn has_extension(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension().and_then(|e| e.to_str());
        extension.is_some_and(|e| extensions.contains(&e))
    }

    /// Lines with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.iter().flat_map(|text| text.lines()).enumerate().map(|(i, line)| (i + 1, line))
    }
}

/// Runs every check.
///
/// # Errors
/// When something was found, or the files could not be read.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let crates = arrows::crates(&host::metadata()?)?;
    let findings: Vec<String> = [
        arrows::check(&crates),
        events::check(&files),
        metrics::check(&files),
        sources::check(&files),
        fuzz::check(&files, &crates),
    ]
    .concat();
    if findings.is_empty() {
        println!("tidy: {} files and {} crates are in order", files.len(), crates.len());
        return Ok(());
    }
    for finding in &findings {
        println!("{finding}");
    }
    bail!("tidy: {} findings", findings.len())
}

/// Everything that is in git or about to be.
fn files() -> Result<Vec<Source>> {
    // A checkout that belongs to another user, as in a container, is fine: nothing is executed.
    let args =
        ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = host::output(host::command("git").args(args))?;
    let mut paths: Vec<&str> =
        listed.stdout.split(|b| *b == 0).filter_map(|p| std::str::from_utf8(p).ok()).collect();
    paths.sort_unstable();
    paths.dedup();
    let root = host::root();
    let mut files = Vec::new();
    for path in paths.into_iter().filter(|p| !p.is_empty()) {
        let full = root.join(path);
        // Deleted but not yet committed, or a link.
        if !std::fs::symlink_metadata(&full).is_ok_and(|m| m.is_file()) {
            continue;
        }
        let octets = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        files.push(Source { path: path.to_owned(), text: String::from_utf8(octets).ok() });
    }
    Ok(files)
}

#[cfg(test)]
fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: Some(text.to_owned()) }
}
