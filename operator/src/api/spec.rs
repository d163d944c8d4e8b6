//! `ChatRoom.spec`: the top level, and the CustomResourceDefinition around it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
    ValidationRule,
};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chat, ChatRoomStatus, Listeners, Mode, Node, Service};

/// What the chat service should be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "chatroom.dev",
    version = "v1alpha1",
    kind = "ChatRoom",
    namespaced,
    shortname = "chat",
    status = "ChatRoomStatus",
    derive = "PartialEq",
    doc = "One chat service: nodes that serve IRC channels to clients over TCP and WebSocket, with a small web page.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ChatRoomSpec {
    /// Nodes that serve clients. Written by users, `kubectl scale` and autoscalers; the operator sets it when it is missing: to
    /// 1, or, in a stateful room, to the fewest that survive what `tolerate` says (3 by default). A value that cannot be had is not refused: condition ScalingLimited says what is run instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,

    /// Where the log lives: exactly one of the keys. Fixed once the room exists.
    pub mode: Mode,

    /// The nodes: image, size, limits of connections.
    #[serde(default)]
    pub node: Node,

    /// The chat service: message of the day, channels, history.
    #[serde(default)]
    pub chat: Chat,

    /// Ports that clients connect to. At least one is enabled.
    #[serde(default)]
    pub listeners: Listeners,

    /// The Service that clients connect to.
    #[serde(default)]
    pub service: Service,

    /// While true, the operator reports the room's state but changes nothing of it. Chat goes on.
    #[serde(default)]
    pub paused: bool,
}

/// Rules that need more than one field, with the field they speak of: name of the room, and growth of storage against
/// what the volumes have.
const ROOT_RULES: &[(Option<&str>, &str, &str)] = &[
    (
        None,
        "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "a room's name becomes part of the names of Services and pods: at most 40 of a-z, 0-9 and '-', \
         beginning with a letter and not ending with '-'",
    ),
    (
        Some(".spec.mode.stateful.storage.size"),
        "!has(self.spec.mode.stateful) || !has(oldSelf.spec.mode.stateful) \
         || !isQuantity(self.spec.mode.stateful.storage.size) \
         || quantity(self.spec.mode.stateful.storage.size).compareTo(\
            quantity(has(oldSelf.status) && has(oldSelf.status.volumeSize) \
              ? oldSelf.status.volumeSize : oldSelf.spec.mode.stateful.storage.size)) >= 0",
        "storage.size cannot shrink below what the volumes have (status.volumeSize): write a larger size",
    ),
];

/// Columns of `kubectl get`: name, type, path, description; those past the sixth only with `-o wide`.
const COLUMNS: [(&str, &str, &str, &str); 8] = [
    ("Mode", "string", ".status.mode", "Where the log lives"),
    ("Ready", "integer", ".status.readyReplicas", "Nodes that clients can join and talk on"),
    ("Desired", "integer", ".spec.replicas", "Nodes wished for"),
    ("Conns", "integer", ".status.connections", "Open client connections"),
    ("Status", "string", ".status.summary", "The room's state in a word"),
    ("Age", "date", ".metadata.creationTimestamp", "When the room was made"),
    ("Version", "string", ".status.version", "Version of the nodes"),
    ("Message", "string", ".status.message", "What is waited for, or that all is well"),
];
const NARROW_COLUMNS: usize = 6;

/// The CustomResourceDefinition, complete with columns and with the rules that need the whole object.
pub fn custom_resource_definition() -> CustomResourceDefinition {
    let mut crd = ChatRoom::crd();
    for version in &mut crd.spec.versions {
        version.additional_printer_columns = Some(columns());
        let root = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .expect("a derived resource has a schema");
        root.x_kubernetes_validations = Some(root_rules());
        // Before the operator has looked, a room is not done: what waits for it (kstatus: helm, Flux) sees an old generation.
        if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
        }
        tidy(root);
    }
    crd
}

/// Takes out what Rust says and Kubernetes does not need: names of integer types (their bounds stay), and null as a
/// value of what may be left out, which the API server removes by itself.
fn tidy(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(tidy);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        tidy(items);
    }
}

fn columns() -> Vec<CustomResourceColumnDefinition> {
    let column = |(at, (name, type_, path, description)): (usize, &(&str, &str, &str, &str))| {
        CustomResourceColumnDefinition {
            name: (*name).into(),
            type_: (*type_).into(),
            json_path: (*path).into(),
            description: Some((*description).into()),
            priority: (at >= NARROW_COLUMNS).then_some(1),
            format: None,
        }
    };
    COLUMNS.iter().enumerate().map(column).collect()
}

fn root_rules() -> Vec<ValidationRule> {
    let rule = |(field, rule, message): &(Option<&str>, &str, &str)| ValidationRule {
        field_path: field.map(Into::into),
        rule: (*rule).into(),
        message: Some((*message).into()),
        ..ValidationRule::default()
    };
    ROOT_RULES.iter().map(rule).collect()
}
