//! NetworkPolicy: clients reach the client ports, the operator alone those for its own; nodes reach nobody
//! but their store, or each other.
//!
//! Probes come from the Kubernetes node itself, which every policy engine lets in.

use contract::ports;
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{metadata, store};
use crate::{
    names,
    validate::{Room, Shape, Store},
};

/// Where name servers listen: the usual port, and the one that those of some distributions have behind their Service.
const DNS: [u16; 2] = [53, 5353];

pub(super) fn build(room: &Room) -> NetworkPolicy {
    let client_ports: Vec<_> = room.ports.of_pods().into_iter().map(|(_, port)| tcp(port)).collect();
    let mut ingress =
        vec![NetworkPolicyIngressRule { ports: Some(client_ports), ..NetworkPolicyIngressRule::default() }];
    ingress.extend(room.operator_namespace.as_deref().map(from_operator));
    ingress.extend(room.stateful().map(|_| NetworkPolicyIngressRule {
        from: Some(vec![peers(room)]),
        ports: Some(vec![tcp(ports::PEER)]),
    }));
    NetworkPolicy {
        metadata: metadata::of(room, names::network_policy(&room.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(metadata::selector(room)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(ingress),
            egress: Some(egress(room)),
        }),
    }
}

fn from_operator(namespace: &str) -> NetworkPolicyIngressRule {
    let labelled = |key: &str, value: &str| LabelSelector {
        match_labels: Some([(key.into(), value.into())].into()),
        ..LabelSelector::default()
    };
    NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            namespace_selector: Some(labelled("kubernetes.io/metadata.name", namespace)),
            pod_selector: Some(labelled("app.kubernetes.io/name", names::OPERATOR)),
            ip_block: None,
        }]),
        // Nodes of an earlier version have no control port and are asked at the other.
        ports: Some(vec![tcp(ports::ADMIN), tcp(ports::CONTROL)]),
    }
}

/// The room's own nodes.
fn peers(room: &Room) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(metadata::selector(room)), ..NetworkPolicyPeer::default() }
}

fn egress(room: &Room) -> Vec<NetworkPolicyEgressRule> {
    let to_log = match &room.shape {
        Shape::Stateful(_) => {
            NetworkPolicyEgressRule { to: Some(vec![peers(room)]), ports: Some(vec![tcp(ports::PEER)]) }
        }
        Shape::Stateless(Store::Managed(_)) => NetworkPolicyEgressRule {
            to: Some(vec![NetworkPolicyPeer {
                pod_selector: Some(store::selector(room)),
                ..NetworkPolicyPeer::default()
            }]),
            ports: Some(vec![tcp(store::PORT)]),
        },
        // Host and port are in a Secret that only the nodes read.
        Shape::Stateless(Store::Valkey(_)) => {
            NetworkPolicyEgressRule { to: None, ports: Some(vec![port("TCP", None)]) }
        }
    };
    let names =
        DNS.into_iter().flat_map(|number| ["UDP", "TCP"].map(|protocol| port(protocol, Some(number))));
    vec![NetworkPolicyEgressRule { to: None, ports: Some(names.collect()) }, to_log]
}

pub(super) fn tcp(number: u16) -> NetworkPolicyPort {
    port("TCP", Some(number))
}

fn port(protocol: &str, number: Option<u16>) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: number.map(|number| IntOrString::Int(i32::from(number))),
        protocol: Some(protocol.into()),
        end_port: None,
    }
}
