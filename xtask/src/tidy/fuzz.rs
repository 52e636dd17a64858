//! Every crate that reads octets of others has a fuzz target, and every target is complete.

use super::Source;
use super::arrows::Crate;

const LIBRARY: &str = "fuzz/src/lib.rs";
const MANIFEST: &str = "fuzz/Cargo.toml";

/// These read only what the lab itself has sent.
const TOOLS: &[&str] = &["chaos-tests", "xtask", "cli"];

/// Looks for decoders without target, and for targets without binary or corpus.
pub(crate) fn check(files: &[Source], crates: &[Crate]) -> Vec<String> {
    let Some(library) = files.iter().find(|file| file.path == LIBRARY) else {
        return vec![format!("{LIBRARY}:1: missing")];
    };
    let mut findings = Vec::new();
    for krate in crates.iter().filter(|c| !TOOLS.contains(&c.name.as_str())) {
        let Some(decoder) = decoder(files, &krate.folder) else { continue };
        let path = format!("{}::", krate.name.replace('-', "_"));
        let fuzzed = files
            .iter()
            .filter(|f| f.path.starts_with("fuzz/src/"))
            .any(|f| f.text.as_ref().is_some_and(|text| text.contains(&path)));
        if !fuzzed {
            findings.push(format!("{decoder}: {} reads octets but has no fuzz target", krate.name));
        }
    }
    let manifest = files
        .iter()
        .find(|f| f.path == MANIFEST)
        .and_then(|f| f.text.as_deref())
        .unwrap_or_default();
    for (number, name) in targets(library) {
        let place = format!("{LIBRARY}:{number}: target {name}");
        let main = format!("fuzz/fuzz_targets/{name}.rs");
        if !files.iter().any(|f| f.path == main) {
            findings.push(format!("{place} lacks {main}"));
        }
        if !manifest.contains(&format!("name = \"{name}\"")) {
            findings.push(format!("{place} lacks a [[bin]] in {MANIFEST}"));
        }
        let corpus = format!("fuzz/corpus/{name}/");
        if !files.iter().any(|f| f.path.starts_with(&corpus)) {
            findings.push(format!("{place} has no corpus in {corpus}"));
        }
    }
    findings
}

/// Where a crate decodes: the first public function from octets.
fn decoder(files: &[Source], folder: &str) -> Option<String> {
    let sources = format!("{folder}/src/");
    let ours = files.iter().filter(|f| f.path.starts_with(&sources) && f.has_extension(&["rs"]));
    ours.flat_map(|file| file.lines().map(move |(number, line)| (file, number, line)))
        .find(|(_, _, line)| decodes(line))
        .map(|(file, number, _)| format!("{}:{number}", file.path))
}

fn decodes(line: &str) -> bool {
    let Some(function) = line.trim_start().strip_prefix("pub fn ") else { return false };
    let named = ["parse", "decode"].iter().any(|name| function.starts_with(name));
    named && function.contains("[u8]")
}

/// The names in `TARGETS`: rows of the form `("name", function),`.
fn targets(library: &Source) -> Vec<(usize, &str)> {
    let rows = library.lines().filter_map(|(number, line)| {
        let name = line.trim_start().strip_prefix("(\"")?.split_once("\",")?.0;
        Some((number, name))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::super::arrows::crates;
    use super::super::source;
    use super::*;
    use serde_json::json;

    fn workspace() -> Vec<Crate> {
        let package = |name: &str, folder: &str| json!({"name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"), "dependencies": [], "publish": []});
        let packages =
            [package("quorum-lease", "protocols/quorum-lease"), package("model", "model")];
        crates(&json!({"workspace_root": "/r", "packages": packages})).unwrap()
    }

    #[test]
    fn a_decoder_without_target_is_found() {
        let files = |body: &str| {
            vec![
                source(
                    "protocols/quorum-lease/src/wire.rs",
                    "\n    pub fn decode(octets: &[u8]) -> X {",
                ),
                source("model/src/lib.rs", "pub fn parse(text: &str) -> X {"),
                source(LIBRARY, body),
            ]
        };
        assert_eq!(
            check(&files("quorum_lease::Message::decode(data)"), &workspace()),
            Vec::<String>::new()
        );
        let findings = check(&files(""), &workspace());
        assert_eq!(
            findings,
            [
                "protocols/quorum-lease/src/wire.rs:2: quorum-lease reads octets but has no fuzz target"
            ]
        );
    }

    #[test]
    fn a_target_needs_a_binary_a_manifest_entry_and_a_corpus() {
        let library =
            || source(LIBRARY, "pub const TARGETS: &[Target] = &[\n    (\"lease\", lease),\n];");
        assert_eq!(check(&[library()], &[]).len(), 3);
        let complete = [
            library(),
            source(MANIFEST, "[[bin]]\nname = \"lease\""),
            source("fuzz/fuzz_targets/lease.rs", ""),
            source("fuzz/corpus/lease/00", ""),
        ];
        assert_eq!(check(&complete, &[]), Vec::<String>::new());
    }
}
