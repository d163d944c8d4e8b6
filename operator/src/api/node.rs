//! `ChatRoom.spec.node`: how each node runs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DurationText, schema};

/// How each node runs. A change rolls the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// Image of the nodes; the operator's default image when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!self.matches('[[:space:]]')",
        "message": "an image name has no white space: write it as registry/name:tag"
    }]))]
    pub image: Option<String>,

    /// When the image is pulled; IfNotPresent when left out, Always for the tag `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Threads with sockets of their own; 1 is the single-threaded server.
    #[schemars(range(min = 1, max = 64))]
    pub workers: u16,

    /// CPU and memory of each node.
    pub resources: Resources,

    /// Connections a node accepts; more are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: u32,

    /// Connections a node accepts from one client address. Raise it where clients arrive through a proxy or NAT.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_address: u32,

    /// How long a session outlives its connection, such as 5m.
    pub resume_window: DurationText,

    /// How long a node that is being stopped may take to move its clients away, such as 30s; at most 10m.
    pub drain_deadline: DurationText,

    /// What the nodes log.
    pub log_level: LogLevel,

    /// How the nodes log.
    pub log_format: LogFormat,
}

impl Default for Node {
    fn default() -> Self {
        let node = contract::config::NodeConfig::default();
        Self {
            image: None,
            image_pull_policy: None,
            workers: 1,
            resources: Resources::default(),
            max_connections: node.limits.max_connections,
            max_connections_per_address: node.limits.max_connections_per_address,
            resume_window: node.resume_window.into(),
            drain_deadline: node.drain_deadline.into(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// CPU and memory of a node, as in a container's `resources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for each node, such as `cpu: 100m` and `memory: 128Mi`.
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, IntOrString>,

    /// What a node may use at most.
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Default for Resources {
    fn default() -> Self {
        let text = |value: &str| IntOrString::String(value.into());
        Self {
            requests: [("cpu".into(), text("50m")), ("memory".into(), text("64Mi"))].into(),
            limits: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    Text,
    Json,
}
