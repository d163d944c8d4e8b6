use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

use crate::{api, cli::GenerateOptions};

#[test]
fn committed_files_are_what_the_code_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    super::generate(&GenerateOptions { out: root, check: true }).unwrap();
}

#[test]
fn a_drifted_file_is_named() {
    let out = std::env::temp_dir().join(format!("operator-generate-{}", std::process::id()));
    super::generate(&GenerateOptions { out: out.clone(), check: false }).unwrap();
    std::fs::write(out.join("manifests/install.yaml"), "changed").unwrap();
    let error = super::generate(&GenerateOptions { out: out.clone(), check: true }).unwrap_err().to_string();
    std::fs::remove_dir_all(out).unwrap();
    assert!(error.contains("manifests/install.yaml") && !error.contains("crds"), "{error}");
}

#[test]
fn every_field_is_documented_for_kubectl_explain() {
    let crd = api::custom_resource_definition();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let mut missing = Vec::new();
    for part in ["spec", "status"] {
        undocumented(part, &schema.properties.as_ref().unwrap()[part], &mut missing);
    }
    assert!(missing.is_empty(), "{missing:?}");
}

fn undocumented(path: &str, schema: &JSONSchemaProps, missing: &mut Vec<String>) {
    if schema.description.is_none() {
        missing.push(path.to_owned());
    }
    for (name, property) in schema.properties.iter().flatten() {
        undocumented(&format!("{path}.{name}"), property, missing);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        for (name, property) in items.properties.iter().flatten() {
            undocumented(&format!("{path}[].{name}"), property, missing);
        }
    }
}

#[test]
fn replicas_have_no_default() {
    let crd = api::custom_resource_definition();
    let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let spec = &schema.properties.as_ref().unwrap()["spec"];
    assert!(spec.properties.as_ref().unwrap()["replicas"].default.is_none());
}

#[test]
fn examples_are_rooms_that_pass_validation() {
    for (name, _, room) in super::examples::rooms() {
        let mut room: api::ChatRoom = serde_json::from_value(room).unwrap();
        room.metadata.namespace = Some("default".into());
        room.metadata.uid = Some("uid".into());
        let valid = crate::validate::validate(&room, &Default::default(), &crate::testing::defaults());
        assert!(valid.is_ok(), "{name}: {valid:?}");
    }
}
