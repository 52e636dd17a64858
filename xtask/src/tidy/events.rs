//! Every event that an operator can see has a paragraph in `docs/events.md`, and no other has.

use super::Source;
use std::collections::BTreeMap;

const DOCUMENT: &str = "docs/events.md";
const PREFIX: &str = "TANDEM-";

/// Compares the events in Rust sources with the headings of the document.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let used = used(files);
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return vec![format!("{DOCUMENT}:1: missing")];
    };
    let described = described(document);
    let mut findings = Vec::new();
    for (id, place) in &used {
        if !described.contains_key(id) {
            findings.push(format!("{place}: {id} has no paragraph in {DOCUMENT}"));
        }
    }
    for (id, (line, has_text)) in &described {
        if !used.contains_key(id) {
            findings.push(format!("{DOCUMENT}:{line}: no source emits {id}"));
        } else if !has_text {
            findings.push(format!("{DOCUMENT}:{line}: {id} has a heading but no text"));
        }
    }
    findings
}

/// Ids in string literals, with the first place of each.
fn used(files: &[Source]) -> BTreeMap<&str, String> {
    let mut used = BTreeMap::new();
    let ours = files.iter().filter(|f| f.has_extension(&["rs"]) && !f.path.starts_with("xtask/"));
    for file in ours {
        for (number, line) in file.lines() {
            for piece in line.split('"').skip(1) {
                if let Some(id) = id(piece) {
                    used.entry(id).or_insert_with(|| format!("{}:{number}", file.path));
                }
            }
        }
    }
    used
}

/// Headings that are an id, with their line and whether text follows.
fn described(document: &Source) -> BTreeMap<&str, (usize, bool)> {
    let mut described = BTreeMap::new();
    let mut current = None;
    for (number, line) in document.lines() {
        if line.starts_with('#') {
            current = id(line.trim_start_matches('#').trim());
            if let Some(id) = current {
                described.insert(id, (number, false));
            }
        } else if !line.trim().is_empty()
            && let Some((_, has_text)) = current.and_then(|id| described.get_mut(id))
        {
            *has_text = true;
        }
    }
    described
}

/// The text, if all of it is an id.
fn id(text: &str) -> Option<&str> {
    let rest = text.strip_prefix(PREFIX)?;
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    (!rest.is_empty() && rest.chars().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn an_event_needs_a_paragraph_and_a_paragraph_an_event() {
        let code = source(
            "node/src/a.rs",
            "info!(event = \"TANDEM-A-B\", \"x\");\n\nwarn!(event = \"TANDEM-C\");",
        );
        let good = source(DOCUMENT, "# Events\n\n## TANDEM-A-B\n\nText.\n\n## TANDEM-C\nText.\n");
        assert_eq!(check(&[code, good]), Vec::<String>::new());

        let code = source("node/src/a.rs", "\n info!(event = \"TANDEM-A\");");
        let bad = source(DOCUMENT, "## TANDEM-OLD\n\nText.\n");
        let findings = check(&[code, bad]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("node/src/a.rs:2: TANDEM-A "), "{findings:?}");
        assert!(findings[1].starts_with("docs/events.md:1: "), "{findings:?}");

        let code = source("node/src/a.rs", "info!(event = \"TANDEM-A\");");
        let empty = source(DOCUMENT, "## TANDEM-A\n\n## Other\nText.\n");
        assert_eq!(check(&[code, empty]), ["docs/events.md:1: TANDEM-A has a heading but no text"]);
    }
}
