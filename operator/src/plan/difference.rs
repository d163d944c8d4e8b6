//! Whether an object that exists is the one that is wanted, though the API server added its defaults to it.
//!
//! Two signs together: the hash of what was last applied (it tells of values that are no longer wanted), and that every
//! wanted value is there (it tells of hands that changed them).

use kube::{Resource, ResourceExt};
use serde_json::Value;

use crate::{build::hash, names, quantity};

/// The object with the hash of itself.
pub(super) fn stamped<K: Resource<DynamicType = ()> + serde::Serialize>(mut object: K) -> K {
    let hash = hash(&object);
    object.annotations_mut().insert(names::APPLIED_ANNOTATION.into(), hash);
    object
}

/// Whether `wanted`, which is [`stamped`], has to be applied over `found`.
pub(super) fn differs<K: Resource + serde::Serialize>(wanted: &K, found: &K) -> bool {
    let json = |object: &K| serde_json::to_value(object).expect("objects have string keys");
    !covers(&json(found), &json(wanted))
}

/// Whether everything in `wanted` is in `found`.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, value)| is_empty(value) || found.get(key).is_some_and(|found| covers(found, value))),
        (Value::Array(found), Value::Array(wanted)) => list_covers(found, wanted),
        (Value::String(found), Value::String(wanted)) => quantity::same(found, wanted),
        _ => found == wanted,
    }
}

/// Lists of named things may have gained some (an injected sidecar); other lists must match one by one.
fn list_covers(found: &[Value], wanted: &[Value]) -> bool {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    if !wanted.is_empty() && wanted.iter().all(|value| name(value).is_some()) {
        return wanted
            .iter()
            .all(|wanted| found.iter().any(|found| name(found) == name(wanted) && covers(found, wanted)));
    }
    found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
}

/// The API server keeps no empty values.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::covers;

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let wanted = json!({"spec": {"ports": [{"name": "irc", "port": 6667}], "x": null}});
        let found = json!({"spec": {"ports": [{"name": "irc", "port": 6667, "nodePort": 30000}], "y": 1}});
        assert!(covers(&found, &wanted));
    }

    #[test]
    fn a_changed_or_missing_value_is_one() {
        let wanted = json!({"a": {"b": [1, 2]}, "c": "1Gi"});
        assert!(covers(&json!({"a": {"b": [1, 2]}, "c": "1024Mi"}), &wanted));
        assert!(!covers(&json!({"a": {"b": [1]}, "c": "1Gi"}), &wanted));
        assert!(!covers(&json!({"a": {"b": [2, 1]}, "c": "1Gi"}), &wanted));
        assert!(!covers(&json!({"a": {}, "c": "1Gi"}), &wanted));
        assert!(!covers(&json!({"a": {"b": [1, 2]}, "c": "2Gi"}), &wanted));
    }

    #[test]
    fn named_things_are_found_by_name() {
        let wanted = json!([{"name": "a", "v": 1}]);
        assert!(covers(&json!([{"name": "sidecar"}, {"name": "a", "v": 1}]), &wanted));
        assert!(!covers(&json!([{"name": "sidecar", "v": 1}]), &wanted));
    }
}
