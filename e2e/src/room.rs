//! The room under test, as people ask for it and as the cluster shows it.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::Cluster;

pub const NAME: &str = "lounge";
pub const NAMESPACE: &str = "e2e";
/// What a node asks for of a core; autoscalers hold its use against it.
const CPU_REQUEST: &str = "20m";
/// Namespace of the operator.
pub const SYSTEM: &str = "chatroom-system";

/// Where a room's log is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// On the volume of its one node.
    OwnVolume,
    /// On the volumes of its nodes, of which one may fail.
    Replicated,
    /// In a store that the operator runs.
    ManagedStore,
    /// In somebody's store, whose URL is under the key `url` of this Secret.
    StoreOf { secret: &'static str },
}

/// What may differ between the rooms that are applied.
#[derive(Clone, Debug)]
pub struct Wish {
    pub name: &'static str,
    pub namespace: &'static str,
    pub image: String,
    pub topic: String,
    /// `None` leaves the number to whoever scales.
    pub replicas: Option<u32>,
    pub log: Log,
    pub memory_limit: &'static str,
    pub storage_class: &'static str,
    pub paused: bool,
}

impl Wish {
    pub fn manifest(&self) -> String {
        let Self { name, namespace, image, topic, replicas, log, memory_limit, storage_class, paused } = self;
        let replicas = replicas.map_or_else(String::new, |replicas| format!("\n  replicas: {replicas}"));
        let volume = format!("size: 32Mi, className: {storage_class}");
        let mode = match log {
            Log::OwnVolume => format!(
                "stateful: {{shards: 4, tolerate: {{nodeFailures: 0}}, storage: {{{volume}, retain: Delete}}}}"
            ),
            Log::Replicated => format!(
                "stateful: {{shards: 4, tolerate: {{nodeFailures: 1}}, storage: {{{volume}, retain: Delete}}}}"
            ),
            Log::ManagedStore => format!("stateless: {{shards: 2, store: {{managed: {{{volume}}}}}}}"),
            Log::StoreOf { secret } => format!(
                "stateless: {{shards: 2, store: {{valkey: {{urlFrom: {{secretKeyRef: {{name: {secret}, key: url}}}}}}}}}}"
            ),
        };
        format!(
            "apiVersion: chatroom.dev/v1alpha1
kind: ChatRoom
metadata: {{name: {name}, namespace: {namespace}}}
spec:{replicas}
  paused: {paused}
  mode: {{{mode}}}
  node:
    image: '{image}'
    imagePullPolicy: Never
    drainDeadline: 10s
    resources: {{requests: {{cpu: {CPU_REQUEST}}}, limits: {{memory: {memory_limit}}}}}
  chat:
    motd: Under test.
    history: {{maxMessages: 50000}}
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
        self.addresses("irc", down).await
    }

    /// The NodePort of the Service's port of that name, on each Kubernetes node that is not down.
    pub async fn addresses(&self, name: &str, down: &[usize]) -> Result<Vec<SocketAddr>> {
        let service =
            self.cluster.json(&["get", "service", self.name, "--namespace", self.namespace]).await?;
        let ports = service["spec"]["ports"].as_array().context("the Service has no ports")?;
        let found = ports.iter().find(|port| port["name"] == name);
        let found = found.with_context(|| format!("the Service has no port {name}"))?;
        let port = found["nodePort"].as_u64().and_then(|port| u16::try_from(port).ok());
        Ok(self.cluster.node_ports(port.context("the Service has no NodePort")?, down))
    }

    /// Waits until the operator tells of exactly so many nodes, all serving and none being stopped.
    pub async fn wait_nodes(&self, nodes: u64, within: Duration) -> Result<()> {
        self.cluster
            .until(&format!("the room has {nodes} nodes that serve, and no other"), within, || async {
                let room = self.get().await?;
                let status = &room["status"];
                let [replicas, ready, stopping] = ["replicas", "readyReplicas", "terminatingReplicas"]
                    .map(|key| status[key].as_u64().unwrap_or_default());
                let current = status["observedGeneration"] == room["metadata"]["generation"];
                let arrived = current && (replicas, ready, stopping) == (nodes, nodes, 0);
                let now = || format!("{ready} of {replicas} serve, {stopping} stop: {}", status["message"]);
                Ok(if arrived { Ok(()) } else { Err(now()) })
            })
            .await?;
        self.wait_ready(within).await
    }

    /// The pods of the room's nodes.
    pub async fn pods(&self) -> Result<Vec<Value>> {
        self.pods_of("chat-node").await
    }

    /// The pods of `chat-node` or `chat-store`.
    pub async fn pods_of(&self, app: &str) -> Result<Vec<Value>> {
        let selector = format!("app.kubernetes.io/name={app},chatroom.dev/room={}", self.name);
        let list = ["get", "pods", "--namespace", self.namespace, "--selector", &selector];
        let mut list = self.cluster.json(&list).await?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            other => bail!("kubectl lists pods as {other}"),
        }
    }

    pub async fn pod(&self) -> Result<Value> {
        let pod = format!("{}-0", self.name);
        self.cluster.json(&["get", "pod", &pod, "--namespace", self.namespace]).await
    }

    /// The number of the Kubernetes node that the pod runs on.
    pub async fn pod_node(&self) -> Result<usize> {
        node_of(&self.pod().await?)
    }
}

/// The number of the Kubernetes node that a pod runs on.
pub fn node_of(pod: &Value) -> Result<usize> {
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    match name.strip_prefix("node").and_then(|number| number.parse().ok()) {
        Some(number) => Ok(number),
        None => bail!("the pod is on no node of ours: {name:?}"),
    }
}

pub fn condition(room: &Value, kind: &str) -> Option<Condition> {
    let found =
        room["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}
