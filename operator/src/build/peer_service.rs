//! Headless Service: the names of the nodes, also of those that are not ready.

use contract::ports;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::{names, validate::Room};

pub(super) fn build(room: &Room) -> Service {
    Service {
        metadata: metadata::of(room, names::peer_service(&room.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&room.name)),
            ports: Some(vec![ServicePort {
                name: Some("admin".into()),
                port: i32::from(ports::ADMIN),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String("admin".into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
