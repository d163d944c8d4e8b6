//! `ChatRoom.spec.listeners` and `ChatRoom.spec.service`: how clients reach the room.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DurationText;

/// Ports that clients connect to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.irc.enabled || self.web.enabled || has(self.ircs) || has(self.webs)",
        "message": "clients need a way in: enable irc or web, or set ircs or webs"
    },
    {
        "rule": "!self.irc.enabled || !self.web.enabled || self.irc.port != self.web.port",
        "message": "irc and web need different ports: the usual ones are 6667 and 8080"
    },
    {
        "rule": "!has(self.ircs) || ((!self.irc.enabled || self.irc.port != self.ircs.port) \
                 && (!self.web.enabled || self.web.port != self.ircs.port))",
        "message": "ircs needs a port of its own: the usual one is 6697"
    },
    {
        "rule": "!has(self.webs) || ((!self.irc.enabled || self.irc.port != self.webs.port) \
                 && (!self.web.enabled || self.web.port != self.webs.port) \
                 && (!has(self.ircs) || self.ircs.port != self.webs.port))",
        "message": "webs needs a port of its own: the usual one is 8443"
    }
]))]
pub struct Listeners {
    /// IRC over TCP, clear text.
    pub irc: IrcListener,

    /// IRC over TLS; not served when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ircs: Option<SecureIrcListener>,

    /// The web page and IRC over WebSocket, clear text.
    pub web: WebListener,

    /// The web page and IRC over WebSocket, over TLS; not served when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webs: Option<SecureWebListener>,
}

/// IRC over TCP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct IrcListener {
    /// Whether it is served.
    pub enabled: bool,

    /// Port of the Service.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// IRC over TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecureIrcListener {
    /// Port of the Service.
    #[serde(default = "ircs_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// Name of a Secret in the room's namespace with the certificate (`tls.crt`) and its key (`tls.key`), as cert-manager and
    /// `kubectl create secret tls` make them. The nodes take a renewed one without a restart.
    #[schemars(length(min = 1, max = 253))]
    pub certificate_secret: String,

    /// How long clients that know `sts` come over TLS alone once they did, such as 30d; for that one connection when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_duration: Option<DurationText>,
}

/// Web page and IRC over WebSocket, over TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecureWebListener {
    /// Port of the Service.
    #[serde(default = "webs_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// Name of a Secret in the room's namespace with the certificate (`tls.crt`) and its key (`tls.key`), as cert-manager and
    /// `kubectl create secret tls` make them. The nodes take a renewed one without a restart.
    #[schemars(length(min = 1, max = 253))]
    pub certificate_secret: String,

    /// Origins, such as https://chat.example.org, whose pages may open a WebSocket here besides the node's own page.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
        "rule": "self.all(origin, origin.matches('^https?://[^/[:space:]]+$'))",
        "message": "an origin is a scheme and a host without a path: write https://chat.example.org"
    }]))]
    pub allowed_origins: Vec<String>,
}

fn ircs_port() -> u16 {
    contract::ports::IRCS
}

fn webs_port() -> u16 {
    contract::ports::WEBS
}

/// Web page and IRC over WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct WebListener {
    /// Whether it is served.
    pub enabled: bool,

    /// Port of the Service.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,

    /// Origins, such as https://chat.example.org, whose pages may open a WebSocket here besides the node's own page.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
        "rule": "self.all(origin, origin.matches('^https?://[^/[:space:]]+$'))",
        "message": "an origin is a scheme and a host without a path: write https://chat.example.org"
    }]))]
    pub allowed_origins: Vec<String>,
}

impl Default for IrcListener {
    fn default() -> Self {
        Self { enabled: true, port: contract::ports::IRC }
    }
}

impl Default for WebListener {
    fn default() -> Self {
        Self { enabled: true, port: contract::ports::WEB, allowed_origins: Vec::new() }
    }
}

/// The Service that clients connect to. It has the room's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// How the Service is reached.
    #[serde(rename = "type")]
    pub type_: ServiceType,

    /// Whether one client address is kept on one node. Sessions resume on any node, so it is not needed.
    pub session_affinity: SessionAffinity,

    /// Annotations of the Service, for load balancers.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionAffinity {
    #[default]
    None,
    ClientIP,
}
