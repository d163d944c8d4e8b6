//! `operator generate`: files of the repository that follow from the code. They are committed, and checked for drift.

mod examples;
mod install;
mod rbac;
mod values_schema;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, bail};
use kube::ResourceExt;
use serde::Serialize;

use crate::{api, cli::GenerateOptions};

const HEADER: &str = "# Made by `cargo xtask generate`; change the code instead.\n";

/// Writes the files, or checks that they are as they would be written.
pub fn generate(options: &GenerateOptions) -> anyhow::Result<()> {
    let mut drifted = Vec::new();
    for (path, text) in files()? {
        let full = options.out.join(&path);
        let there = std::fs::read_to_string(&full).unwrap_or_default();
        if there == text {
            continue;
        }
        if options.check {
            drifted.push(path.display().to_string());
            continue;
        }
        let folder = full.parent().context("a generated file is in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        std::fs::write(&full, text).with_context(|| format!("cannot write {}", full.display()))?;
        println!("wrote {}", full.display());
    }
    if !drifted.is_empty() {
        bail!("not as the code says: {}; run `cargo xtask generate`", drifted.join(", "));
    }
    Ok(())
}

/// Every generated file, by its path in the repository.
pub fn files() -> anyhow::Result<BTreeMap<PathBuf, String>> {
    let crd = api::custom_resource_definition();
    let mut kept = crd.clone();
    // Deleting the chart must not delete every room with it.
    kept.annotations_mut().insert("helm.sh/resource-policy".into(), "keep".into());
    let mut files = BTreeMap::from([
        ("manifests/crds/chatrooms.chatroom.dev.yaml".into(), document(&crd)?),
        ("manifests/install.yaml".into(), documents(&install::objects(&crd)?)?),
        ("manifests/install-namespaced.yaml".into(), documents(&install::namespaced_objects(&crd)?)?),
        ("charts/chatroom-operator-crds/templates/chatrooms.yaml".into(), document(&kept)?),
        ("charts/chatroom/values.schema.json".into(), values_schema::text()?),
        ("charts/chatroom-operator/files/room-rules.yaml".into(), document(&rbac::room_rules())?),
        ("charts/chatroom-operator/files/cluster-rules.yaml".into(), document(&rbac::cluster_rules())?),
    ]);
    for (name, about, room) in examples::rooms() {
        let text = format!("{HEADER}# {about}\n{}", yaml(&room)?);
        files.insert(format!("manifests/examples/{name}.yaml").into(), text);
    }
    Ok(files)
}

fn document(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(format!("{HEADER}{}", yaml(value)?))
}

fn documents(values: &[serde_json::Value]) -> anyhow::Result<String> {
    let texts = values.iter().map(yaml).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!("{HEADER}{}", texts.join("---\n")))
}

fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let mut text = serde_yaml::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
