//! Which labels a selector takes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Whether a selector takes an object with these labels. An empty one takes everything.
pub(super) fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    equal && selector.match_expressions.iter().flatten().all(|rule| holds(rule, value(&rule.key)))
}

fn holds(rule: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let listed = || value.is_some_and(|value| rule.values.iter().flatten().any(|wanted| wanted == value));
    match rule.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // The API server admits no other.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "chat"), ("tier", "web")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    fn takes(selector: serde_json::Value) -> bool {
        matches(&serde_json::from_value(selector).unwrap(), Some(&labels()))
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        assert!(takes(serde_json::json!({})));
        assert!(takes(serde_json::json!({"matchLabels": {"app": "chat"}})));
        assert!(!takes(serde_json::json!({"matchLabels": {"app": "chat", "tier": "db"}})));
        for (operator, values, expected) in [
            ("In", vec!["web", "db"], true),
            ("In", vec!["db"], false),
            ("NotIn", vec!["web"], false),
            ("NotIn", vec!["db"], true),
            ("Exists", vec![], true),
            ("DoesNotExist", vec![], false),
        ] {
            let rule = serde_json::json!({"key": "tier", "operator": operator, "values": values});
            assert_eq!(takes(serde_json::json!({"matchExpressions": [rule]})), expected, "{operator}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_in_anything() {
        let rule =
            serde_json::json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]});
        assert!(matches(&serde_json::from_value(rule).unwrap(), None));
    }
}
