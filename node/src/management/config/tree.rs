//! A JSON tree as an operator edits it: set, delete, differences.

use api::types::config::{ConfigChange, PathError, path};
use serde_json::{Map, Value};

/// Why an edit is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TreeError {
    /// The path cannot be read, or names the whole tree.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something on the way is no object.
    #[error("{0} is a value, not a section")]
    NotASection(String),
    /// There is no such key.
    #[error("there is no {0}")]
    Absent(String),
}

/// Puts a value at a path; sections on the way are made.
///
/// # Errors
/// [`TreeError::NotASection`] when the way leads through a value; the tree is as it was then.
pub(super) fn set(tree: &mut Value, keys: &[String], value: Value) -> Result<(), TreeError> {
    let Some((last, way)) = keys.split_last() else { return Err(PathError::Empty.into()) };
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
    let Some((last, way)) = keys.split_last() else { return Err(PathError::Empty.into()) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use api::types::config::{keys, text};
    use serde_json::json;

    fn k(path: &str) -> Vec<String> {
        keys(path).unwrap()
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
