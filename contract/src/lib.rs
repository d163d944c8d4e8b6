//! What the operator and the chat node agree on: the node's configuration file, the admin API and the names of metrics.
//!
//! Types only. The operator writes [`config::NodeConfig`] into a ConfigMap and reads [`status::NodeStatus`];
//! the node does the opposite. Neither program knows anything else of the other.

pub mod config;
pub mod duration;
pub mod metrics;
pub mod ports;
pub mod status;
