//! Schema of the values of chart `chatroom`: the schema of the spec, and the values that are the chart's own.

use serde_json::{Map, Value, json};

use crate::api;

pub(super) fn text() -> anyhow::Result<String> {
    let mut crd = serde_json::to_value(api::custom_resource_definition())?;
    let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].take();
    plain(&mut schema);
    // Null leaves it out, which is the default.
    schema["properties"]["replicas"]["type"] = json!(["integer", "null"]);
    schema["properties"]["test"] = test();
    schema["properties"]["global"] = json!({"type": "object"});
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["description"] =
        json!("Made by `cargo xtask generate` from the ChatRoom's spec; change the code instead.");
    let mut text = serde_json::to_string_pretty(&schema)?;
    text.push('\n');
    Ok(text)
}

/// Takes out what is Kubernetes' own, and closes objects so that a typing mistake is found.
fn plain(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    map.retain(|key, _| !key.starts_with("x-kubernetes-") && key != "default");
    if map.contains_key("properties") {
        map.insert("additionalProperties".into(), json!(false));
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(plain);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            plain(inner);
        }
    }
}

fn test() -> Value {
    let mut image = Map::new();
    image.insert("repository".into(), json!({"type": "string", "minLength": 1}));
    image.insert("tag".into(), json!({"type": "string"}));
    image.insert("pullPolicy".into(), json!({"enum": ["Always", "IfNotPresent", "Never"]}));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "image": {"type": "object", "additionalProperties": false, "properties": image},
            "channel": {"type": "string", "pattern": "^#[^ ,:]+$"},
            "timeoutSeconds": {"type": "integer", "minimum": 1},
        },
    })
}
