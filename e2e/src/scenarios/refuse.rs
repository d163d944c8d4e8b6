//! Rooms that cannot be: each is refused at once, with words that say what to do.

use anyhow::{Result, ensure};

use super::World;
use crate::room::NAMESPACE;

/// A spec, and words of the refusal.
const NONSENSE: &[(&str, &[&str])] = &[
    ("{}", &["mode"]),
    ("{mode: {}}", &["mode"]),
    ("{mode: {stateful: {shards: 0}}}", &["shards"]),
    ("{mode: {stateful: {shards: 4, storage: {size: a lot}}}}", &["size"]),
    ("{mode: {stateful: {tolerate: {nodeFailures: 4}}}}", &["nodeFailures"]),
    ("{replicas: -1, mode: {stateful: {}}}", &["replicas"]),
    ("{mode: {stateful: {}}, chat: {channels: [{name: lounge}]}}", &["channels", "#"]),
    ("{mode: {stateful: {}}, chat: {history: {maxAge: a week}}}", &["maxAge"]),
    ("{mode: {stateful: {}}, node: {resumeWindow: '5'}}", &["resumeWindow"]),
    ("{mode: {stateful: {}}, chat: {motdd: hello}}", &["motdd"]),
];

pub(super) async fn nonsense_is_refused(world: &mut World) -> Result<String> {
    for (spec, words) in NONSENSE {
        let manifest = format!(
            "apiVersion: chatroom.dev/v1alpha1\nkind: ChatRoom\nmetadata: {{name: nonsense, namespace: {NAMESPACE}}}\nspec: {spec}\n"
        );
        let refusal = world.cluster.refusal(&manifest).await?;
        for word in *words {
            ensure!(refusal.contains(word), "the refusal of {spec} does not speak of {word:?}:\n{refusal}");
        }
    }
    Ok(format!("{} refusals read", NONSENSE.len()))
}
