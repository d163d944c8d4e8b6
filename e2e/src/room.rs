//! The room under test, as people ask for it and as the cluster shows it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::Cluster;

pub const NAME: &str = "lounge";
pub const NAMESPACE: &str = "e2e";
/// Namespace of the operator.
pub const SYSTEM: &str = "chatroom-system";

/// What may differ between the rooms that are applied.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: &'static str,
    pub namespace: &'static str,
    pub image: String,
    pub topic: String,
    pub replicas: u32,
    pub memory_limit: &'static str,
    pub storage_class: &'static str,
    pub paused: bool,
}

impl Wish {
    pub fn manifest(&self) -> String {
        let Self { name, namespace, image, topic, replicas, memory_limit, storage_class, paused } = self;
        format!(
            "apiVersion: chatroom.dev/v1alpha1
kind: ChatRoom
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  paused: {paused}
  mode: {{stateful: {{shards: 4, storage: {{size: 32Mi, className: {storage_class}, retain: Delete}}}}}}
  node:
    image: '{image}'
    imagePullPolicy: Never
    drainDeadline: 10s
    resources: {{limits: {{memory: {memory_limit}}}}}
  chat:
    motd: Under test.
    channels: [{{name: '#lounge', topic: '{topic}'}}]
  service: {{type: NodePort}}
"
        )
    }
}

/// A condition's status, reason and message.
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
}

/// A room in a cluster, by its name.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    pub cluster: &'a Cluster,
    pub namespace: &'a str,
    pub name: &'a str,
}

impl Room<'_> {
    pub async fn get(&self) -> Result<Value> {
        self.cluster.json(&["get", "chatroom", self.name, "--namespace", self.namespace]).await
    }

    pub async fn wait_ready(&self, within: Duration) -> Result<()> {
        self.cluster
            .until("the room is Ready for its present generation", within, || async {
                let room = self.get().await?;
                let generation = &room["metadata"]["generation"];
                let Some(ready) = condition(&room, "Ready") else {
                    return Ok(Err("no Ready condition".into()));
                };
                let current = &room["status"]["observedGeneration"] == generation;
                Ok(if current && ready.status == "True" {
                    Ok(())
                } else {
                    Err(format!("{} {}: {}", ready.status, ready.reason, ready.message))
                })
            })
            .await
    }

    /// Waits for a condition whose message contains all of these words.
    pub async fn wait_condition(
        &self,
        kind: &str,
        status: &str,
        words: &[&str],
        within: Duration,
    ) -> Result<()> {
        let what = format!("the condition {kind}={status} that speaks of {words:?}");
        self.cluster
            .until(&what, within, || async {
                let room = self.get().await?;
                let Some(found) = condition(&room, kind) else {
                    return Ok(Err(format!("no condition {kind}")));
                };
                let says = words.iter().all(|word| found.message.contains(word));
                Ok(if found.status == status && says {
                    Ok(())
                } else {
                    Err(format!("{} {}: {}", found.status, found.reason, found.message))
                })
            })
            .await
    }

    /// Where IRC clients outside of the cluster connect to: the room's NodePort on each Kubernetes node.
    pub async fn irc_addresses(&self, down: &[usize]) -> Result<Vec<SocketAddr>> {
        let service =
            self.cluster.json(&["get", "service", self.name, "--namespace", self.namespace]).await?;
        let ports = service["spec"]["ports"].as_array().context("the Service has no ports")?;
        let irc = ports.iter().find(|port| port["name"] == "irc").context("the Service has no port irc")?;
        let port = irc["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok());
        Ok(self.cluster.node_ports(port.context("the Service has no NodePort")?, down))
    }

    pub async fn pod(&self) -> Result<Value> {
        let pod = format!("{}-0", self.name);
        self.cluster.json(&["get", "pod", &pod, "--namespace", self.namespace]).await
    }

    /// The number of the Kubernetes node that the pod runs on.
    pub async fn pod_node(&self) -> Result<usize> {
        let pod = self.pod().await?;
        let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        match name.strip_prefix("node").and_then(|number| number.parse().ok()) {
            Some(number) => Ok(number),
            None => bail!("the pod is on no node of ours: {name:?}"),
        }
    }
}

pub fn condition(room: &Value, kind: &str) -> Option<Condition> {
    let found =
        room["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}
