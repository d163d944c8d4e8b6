//! Service that clients connect to: the nodes that are ready.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::metadata;
use crate::{
    api::{ServiceType, SessionAffinity},
    names,
    validate::Room,
};

pub(super) fn build(room: &Room) -> Service {
    let mut metadata = metadata::of(room, names::client_service(&room.name));
    if !room.service.annotations.is_empty() {
        metadata.annotations = Some(room.service.annotations.clone());
    }
    let ports = [
        ("irc", "irc", room.ports.irc),
        ("ircs", "ircs", room.ports.ircs),
        ("web", "http", room.ports.web),
        ("webs", "https", room.ports.webs),
    ];
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(type_name(room.service.type_).into()),
            session_affinity: Some(affinity_name(room.service.session_affinity).into()),
            selector: Some(names::selector(&room.name)),
            ports: Some(
                ports
                    .into_iter()
                    .filter_map(|(name, protocol, port)| port.map(|port| service_port(name, protocol, port)))
                    .collect(),
            ),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn service_port(name: &str, protocol: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        app_protocol: Some(protocol.into()),
        port: i32::from(port),
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::String(name.into())),
        ..ServicePort::default()
    }
}

fn type_name(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

fn affinity_name(affinity: SessionAffinity) -> &'static str {
    match affinity {
        SessionAffinity::None => "None",
        SessionAffinity::ClientIP => "ClientIP",
    }
}
