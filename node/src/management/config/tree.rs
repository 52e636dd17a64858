//! A JSON tree as an operator edits it: paths, set, delete, differences.

use api::types::config::ConfigChange;
use serde_json::{Map, Value};

/// Deepest path that is accepted.
const DEPTH_MAX: usize = 16;
/// Longest key, in octets.
const KEY_OCTETS_MAX: usize = 255;

/// Why a path or an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeError {
    /// Nothing between two separators, or an open quote.
    #[error("the path is empty, has an empty key or an open quote")]
    Path,
    /// Deeper or longer than any configuration.
    #[error("a path has at most {DEPTH_MAX} keys of {KEY_OCTETS_MAX} octets")]
    TooLong,
    /// Something on the way is no object.
    #[error("{0} is a value, not a section")]
    NotASection(String),
    /// There is no such key.
    #[error("there is no {0}")]
    Absent(String),
}

/// The keys of `pools.home`, `pools/home`, `pools home` or `pools."my.home"`.
///
/// # Errors
/// [`TreeError::Path`], [`TreeError::TooLong`].
pub(super) fn keys(path: &str) -> Result<Vec<String>, TreeError> {
    let mut keys = Vec::new();
    let mut rest = path.trim().trim_start_matches('/');
    loop {
        let (key, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            let (key, tail) = quoted.split_once('"').ok_or(TreeError::Path)?;
            if !tail.is_empty() && !tail.starts_with(is_separator) {
                return Err(TreeError::Path);
            }
            (key, tail)
        } else {
            rest.split_at(rest.find(is_separator).unwrap_or(rest.len()))
        };
        if key.is_empty() {
            return Err(TreeError::Path);
        }
        if keys.len() == DEPTH_MAX || key.len() > KEY_OCTETS_MAX {
            return Err(TreeError::TooLong);
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
pub(super) fn path(keys: &[String]) -> String {
    let quoted = |key: &String| {
        if key.contains(is_separator) { format!("\"{key}\"") } else { key.clone() }
    };
    keys.iter().map(quoted).collect::<Vec<_>>().join(".")
}

/// Puts a value at a path; sections on the way are made.
///
/// # Errors
/// [`TreeError::NotASection`] when the way leads through a value; the tree is as it was then.
pub(super) fn set(tree: &mut Value, keys: &[String], value: Value) -> Result<(), TreeError> {
    let Some((last, way)) = keys.split_last() else { return Err(TreeError::Path) };
    check_way(tree, way)?;
    let mut at = tree;
    for key in way {
        at = section(at).entry(key).or_insert_with(|| Value::Object(Map::new()));
    }
    section(at).insert(last.clone(), value);
    Ok(())
}

/// Takes the value at a path away.
///
/// # Errors
/// [`TreeError::Absent`] or [`TreeError::NotASection`].
pub(super) fn delete(tree: &mut Value, keys: &[String]) -> Result<(), TreeError> {
    let Some((last, way)) = keys.split_last() else { return Err(TreeError::Path) };
    check_way(tree, way)?;
    let mut at = tree;
    for key in way {
        at = section(at).get_mut(key).ok_or_else(|| TreeError::Absent(path(keys)))?;
    }
    section(at).remove(last).map(|_| ()).ok_or_else(|| TreeError::Absent(path(keys)))
}

fn check_way(tree: &Value, way: &[String]) -> Result<(), TreeError> {
    let mut at = Some(tree);
    for depth in 0..=way.len() {
        match at {
            None | Some(Value::Object(_)) => {}
            Some(_) => return Err(TreeError::NotASection(path(&way[..depth]))),
        }
        at = at.and_then(|value| value.get(way.get(depth)?));
    }
    Ok(())
}

/// The object that `check_way` has seen, or that was made on the way.
fn section(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("an object was put there")
        }
    }
}

/// Every difference between two trees, in the order of their paths. Lists differ as a whole.
#[must_use]
pub(super) fn differences(before: &Value, after: &Value) -> Vec<ConfigChange> {
    let mut changes = Vec::new();
    let mut keys = Vec::new();
    compare(Some(before), Some(after), &mut keys, &mut changes);
    changes
}

fn compare(
    before: Option<&Value>,
    after: Option<&Value>,
    keys: &mut Vec<String>,
    changes: &mut Vec<ConfigChange>,
) {
    if before == after {
        return;
    }
    let empty = Map::new();
    let as_section = |value: Option<&Value>| match value {
        Some(Value::Object(object)) => Some(object.clone()),
        None => Some(empty.clone()),
        Some(_) => None,
    };
    match (as_section(before), as_section(after)) {
        (Some(old), Some(new)) if !(old.is_empty() && new.is_empty()) => {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                keys.push(name.clone());
                compare(old.get(name), new.get(name), keys, changes);
                keys.pop();
            }
        }
        _ => changes.push(ConfigChange {
            path: path(keys),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

/// Differences as lines for people.
#[must_use]
pub(super) fn text(changes: &[ConfigChange]) -> String {
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
    use serde_json::json;

    fn k(path: &str) -> Vec<String> {
        keys(path).unwrap()
    }

    #[test]
    fn a_path_is_read_in_each_of_its_forms() {
        for form in ["pppoe.mtu", "pppoe/mtu", "/pppoe/mtu", "pppoe mtu", " pppoe.\"mtu\" "] {
            assert_eq!(k(form), ["pppoe", "mtu"], "{form}");
        }
        assert_eq!(k("pools.\"my.home\".range"), ["pools", "my.home", "range"]);
        assert_eq!(path(&k("pools.\"my.home\"")), "pools.\"my.home\"");
        for bad in ["", " ", "a..b", "a.", "\"a", "\"a\"b", "\"\""] {
            assert_eq!(keys(bad), Err(TreeError::Path), "{bad:?}");
        }
        assert_eq!(keys(&vec!["a"; 17].join(".")), Err(TreeError::TooLong));
    }

    #[test]
    fn a_set_makes_its_sections_and_never_replaces_a_value_by_one() {
        let mut tree = json!({"a": {"b": 1}});
        set(&mut tree, &k("c.d.e"), json!([1])).unwrap();
        set(&mut tree, &k("a.b"), json!(2)).unwrap();
        assert_eq!(tree, json!({"a": {"b": 2}, "c": {"d": {"e": [1]}}}));
        let before = tree.clone();
        let refused = set(&mut tree, &k("a.b.c"), json!(3));
        assert_eq!(refused, Err(TreeError::NotASection("a.b".into())));
        assert_eq!(tree, before);
    }

    #[test]
    fn a_delete_takes_what_is_there_and_says_what_is_not() {
        let mut tree = json!({"a": {"b": 1, "c": 2}});
        delete(&mut tree, &k("a.b")).unwrap();
        assert_eq!(tree, json!({"a": {"c": 2}}));
        assert_eq!(delete(&mut tree, &k("a.b")), Err(TreeError::Absent("a.b".into())));
        assert_eq!(delete(&mut tree, &k("x.y")), Err(TreeError::Absent("x.y".into())));
        assert_eq!(delete(&mut tree, &k("a.c.d")), Err(TreeError::NotASection("a.c".into())));
    }

    #[test]
    fn differences_name_each_value_once_and_rebuild_the_other_tree() {
        let cases = [
            (json!({}), json!({"a": {"b": 1}}), "+ a.b 1\n"),
            (json!({"a": {"b": 1}}), json!({}), "- a.b 1\n"),
            (json!({"a": [1, 2]}), json!({"a": [1]}), "- a [1,2]\n+ a [1]\n"),
            (json!({"a": 1}), json!({"a": {"b": 2}}), "- a 1\n+ a {\"b\":2}\n"),
            (json!({}), json!({"a": {}}), "+ a {}\n"),
            (json!({"a": 1, "b": 2}), json!({"b": 3, "c": 4}), "- a 1\n- b 2\n+ b 3\n+ c 4\n"),
        ];
        for (before, after, want) in cases {
            let changes = differences(&before, &after);
            assert_eq!(text(&changes), want, "{before} {after}");
            let mut rebuilt = before.clone();
            for change in &changes {
                match &change.after {
                    Some(value) => set(&mut rebuilt, &k(&change.path), value.clone()).unwrap(),
                    None => delete(&mut rebuilt, &k(&change.path)).unwrap(),
                }
            }
            // A section whose last value went may stay as an empty one.
            assert_eq!(differences(&rebuilt, &after).len(), usize::from(after == json!({})));
        }
        assert_eq!(differences(&json!({"a": 1}), &json!({"a": 1})), []);
    }
}
