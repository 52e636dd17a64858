//! Paths into the configuration, and differences as lines: the same for nodes and clients.

use super::ConfigChange;

/// Deepest path that is accepted.
const DEPTH_MAX: usize = 16;
/// Longest key, in octets.
const KEY_OCTETS_MAX: usize = 255;

/// Why a path cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing between two separators, or an open quote.
    #[error("the path is empty, has an empty key or an open quote")]
    Empty,
    /// Deeper or longer than any configuration.
    #[error("a path has at most {DEPTH_MAX} keys of {KEY_OCTETS_MAX} octets")]
    TooLong,
}

/// The keys of `pools.home`, `pools/home`, `pools home` or `pools."my.home"`.
///
/// # Errors
/// [`PathError`].
pub fn keys(path: &str) -> Result<Vec<String>, PathError> {
    let mut keys = Vec::new();
    let mut rest = path.trim().trim_start_matches('/');
    loop {
        let (key, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            let (key, tail) = quoted.split_once('"').ok_or(PathError::Empty)?;
            if !tail.is_empty() && !tail.starts_with(is_separator) {
                return Err(PathError::Empty);
            }
            (key, tail)
        } else {
            rest.split_at(rest.find(is_separator).unwrap_or(rest.len()))
        };
        if key.is_empty() {
            return Err(PathError::Empty);
        }
        if keys.len() == DEPTH_MAX || key.len() > KEY_OCTETS_MAX {
            return Err(PathError::TooLong);
        }
        keys.push(key.to_owned());
        match tail.strip_prefix(is_separator) {
            Some(more) => rest = more,
            None => return Ok(keys),
        }
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '/' | ' ')
}

/// The path of keys, as differences and errors print it.
#[must_use]
pub fn path(keys: &[String]) -> String {
    let quoted = |key: &String| {
        if key.contains(is_separator) { format!("\"{key}\"") } else { key.clone() }
    };
    keys.iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// Differences as lines for people, `-` before and `+` after.
#[must_use]
pub fn text(changes: &[ConfigChange]) -> String {
    let mut out = String::new();
    for change in changes {
        for (sign, value) in [('-', &change.before), ('+', &change.after)] {
            if let Some(value) = value {
                out.push_str(&format!("{sign} {} {value}\n", change.path));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_in_each_of_its_forms() {
        for form in ["pppoe.mtu", "pppoe/mtu", "/pppoe/mtu", "pppoe mtu", " pppoe.\"mtu\" "] {
            assert_eq!(keys(form).unwrap(), ["pppoe", "mtu"], "{form}");
        }
        assert_eq!(keys("pools.\"my.home\".range").unwrap(), ["pools", "my.home", "range"]);
        assert_eq!(path(&keys("pools.\"my.home\"").unwrap()), "pools.\"my.home\"");
        for bad in ["", " ", "a..b", "a.", "\"a", "\"a\"b", "\"\""] {
            assert_eq!(keys(bad), Err(PathError::Empty), "{bad:?}");
        }
        assert_eq!(keys(&vec!["a"; 17].join(".")), Err(PathError::TooLong));
    }
}
