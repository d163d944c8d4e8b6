//! Headless Service: where nodes find each other, also those that are not ready.

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
                name: Some(names::PEER_PORT.into()),
                port: i32::from(ports::PEER),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String(names::PEER_PORT.into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
