//! Secrets of the configuration: never shown, and kept when what is shown comes back.

use api::types::config::path;
use api::types::{Configuration, FieldError};
use serde_json::Value;

/// What stands for a secret in every answer.
pub(super) const MASK: &str = "********";

/// Replaces each secret by [`MASK`].
#[must_use]
pub(super) fn mask(tree: &Value) -> Value {
    let mut shown = tree.clone();
    visit(&mut shown, &mut Vec::new(), &mut |_, value| *value = Value::from(MASK));
    shown
}

/// Puts the secrets of `old` where `tree` has [`MASK`], so that a tree which was read, edited and
/// sent back keeps them.
///
/// # Errors
/// The paths where there is nothing to keep.
pub(super) fn keep(tree: &mut Value, old: &Value) -> Result<(), Vec<FieldError>> {
    let mut errors = Vec::new();
    visit(tree, &mut Vec::new(), &mut |keys, value| {
        if value.as_str() != Some(MASK) {
            return;
        }
        match keys.iter().try_fold(old, |at, key| at.get(key)) {
            Some(known) => *value = known.clone(),
            None => {
                let message = format!("{MASK} stands for a secret that is not there yet");
                errors.push(FieldError::new(path(keys), message));
            }
        }
    });
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Calls `at` for each value that the schema calls a password.
fn visit(tree: &mut Value, keys: &mut Vec<String>, at: &mut impl FnMut(&[String], &mut Value)) {
    let schema = &Configuration::schema()["components"]["schemas"]["Configuration"];
    walk(tree, schema, keys, at);
}

fn walk(
    value: &mut Value,
    schema: &Value,
    keys: &mut Vec<String>,
    at: &mut impl FnMut(&[String], &mut Value),
) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => match Configuration::schema().pointer(&reference[1..]) {
            Some(target) => target,
            None => return,
        },
        None => schema,
    };
    if schema.get("format").and_then(Value::as_str) == Some("password") {
        if !value.is_null() {
            at(keys, value);
        }
        return;
    }
    match value {
        Value::Object(object) => {
            for (key, inner) in object {
                let inner_schema = schema
                    .get("properties")
                    .and_then(|all| all.get(key))
                    .or_else(|| schema.get("additionalProperties"));
                let Some(inner_schema) = inner_schema else { continue };
                keys.push(key.clone());
                walk(inner, inner_schema, keys, at);
                keys.pop();
            }
        }
        Value::Array(items) => {
            let Some(inner_schema) = schema.get("items") else { return };
            for (i, item) in items.iter_mut().enumerate() {
                keys.push(i.to_string());
                walk(item, inner_schema, keys, at);
                keys.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_shown_can_be_sent_back_and_keeps_its_secrets() {
        let tree = json!({
            "api": {"freeradius": {"token": "a-long-secret-token"}, "purenas": {"key": "k"}},
            "system": {"name": "south"},
        });
        let shown = mask(&tree);
        assert_eq!(shown["api"]["freeradius"]["token"], MASK);
        assert_eq!(shown["api"]["purenas"]["key"], MASK);
        assert_eq!(shown["system"]["name"], "south");
        let mut back = shown.clone();
        keep(&mut back, &tree).unwrap();
        assert_eq!(back, tree);
        let mut fresh = shown;
        let errors = keep(&mut fresh, &json!({})).unwrap_err();
        let paths: Vec<_> = errors.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["api.freeradius.token", "api.purenas.key"]);
    }
}
