//! The committed OpenAPI document.

use crate::host;
use anyhow::{Context as _, Result, bail};

const DOCUMENT: &str = "docs/openapi/tandem.json";

/// Writes the document.
///
/// # Errors
/// When the crate does not compile or the file cannot be written.
pub(crate) fn write() -> Result<()> {
    let path = host::root().join(DOCUMENT);
    std::fs::write(&path, generate()?).with_context(|| format!("cannot write {DOCUMENT}"))?;
    println!("wrote {DOCUMENT}");
    Ok(())
}

/// Compares the document with the code.
///
/// # Errors
/// The first line that differs.
pub(crate) fn check() -> Result<()> {
    let committed = std::fs::read_to_string(host::root().join(DOCUMENT));
    let committed = committed.with_context(|| format!("cannot read {DOCUMENT}"))?;
    let generated = generate()?;
    match first_difference(&committed, &generated) {
        None => Ok(()),
        Some((line, old, new)) => bail!(
            "{DOCUMENT}:{line}: the document says {old:?}, the code says {new:?}; \
             run `cargo xtask openapi`, and raise the version if a client could break"
        ),
    }
}

fn generate() -> Result<String> {
    let args = ["run", "--quiet", "--locked", "-p", "api", "--example", "openapi"];
    let out = host::output(host::cargo().args(args))?;
    let text = String::from_utf8(out.stdout).context("the document is not UTF-8")?;
    serde_json::from_str::<serde_json::Value>(&text).context("the document is not JSON")?;
    Ok(text)
}

/// The number, from 1, of the first line that differs, and the line on both sides.
fn first_difference<'a>(a: &'a str, b: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut a, mut b) = (a.lines(), b.lines());
    for number in 1.. {
        match (a.next(), b.next()) {
            (None, None) => return None,
            (x, y) if x == y => {}
            (x, y) => return Some((number, x.unwrap_or_default(), y.unwrap_or_default())),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb", "a\nc"), Some((2, "b", "c")));
        assert_eq!(first_difference("a", "a\nb"), Some((2, "", "b")));
    }
}
