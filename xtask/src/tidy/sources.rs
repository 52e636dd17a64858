//! Length of files, leftovers, and paths of one machine.

use super::Source;

/// A file this long says two things; split it.
const LINES_MAX: usize = 600;

/// What unfinished Rust looks like. Put together here, so that this file does not find itself.
const UNFINISHED: &[&str] =
    &[concat!("to", "do!("), concat!("unimple", "mented!("), concat!("#[ig", "nore")];

/// Words of a comment that promises work, in any language of the repository.
const PROMISES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// Folders that exist on one machine only.
const MACHINE: &[&str] = &[concat!("/wo", "rk/"), concat!("/tmp", "/t-")];

/// Looks at every file.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files {
        if file.has_extension(&["rs", "c", "h", "proto"]) {
            code(file, &mut findings);
        }
        for (number, line) in file.lines() {
            if let Some(path) = MACHINE.iter().find(|path| line.contains(*path)) {
                findings.push(format!("{}:{number}: {path} exists on one machine only", file.path));
            }
        }
    }
    findings
}

fn code(file: &Source, findings: &mut Vec<String>) {
    let length = file.lines().count();
    if length > LINES_MAX {
        findings.push(format!(
            "{}:{LINES_MAX}: {length} lines, at most {LINES_MAX} are good to read",
            file.path
        ));
    }
    for (number, line) in file.lines() {
        let is_comment = line.trim_start().starts_with("//");
        let unfinished = UNFINISHED.iter().find(|mark| !is_comment && line.contains(*mark));
        let promise = PROMISES.iter().find(|word| words(line).any(|w| w == **word));
        if let Some(found) = unfinished.or(promise) {
            findings.push(format!("{}:{number}: {found} is left over", file.path));
        }
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn leftovers_are_found_in_code_and_promises_everywhere() {
        let rows = [
            (format!("    {}later\")", UNFINISHED[0]), true),
            (format!("    // {}later\")", UNFINISHED[0]), false),
            (format!("{} = \"slow\"]", UNFINISHED[2]), true),
            (format!("// {}: later", PROMISES[0]), true),
            (format!("let {}S = 1;", PROMISES[0]), false),
            (format!("\"{}main\"", MACHINE[0]), true),
            ("fn done() {}".to_owned(), false),
        ];
        for (line, found) in rows {
            let findings = check(&[source("a/src/b.rs", &format!("\n{line}\n"))]);
            assert_eq!(!findings.is_empty(), found, "{line:?}: {findings:?}");
            assert!(findings.iter().all(|f| f.starts_with("a/src/b.rs:2: ")), "{findings:?}");
        }
    }

    #[test]
    fn a_long_file_is_found_and_other_files_may_be_long() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(check(&[source("a/src/b.rs", &long)]).len(), 1);
        assert_eq!(check(&[source("a/src/b.rs", &"x\n".repeat(LINES_MAX))]).len(), 0);
        assert_eq!(check(&[source("Cargo.lock", &long)]).len(), 0);
    }
}
