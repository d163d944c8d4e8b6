//! NetworkPolicy: clients reach the client ports, the operator alone the admin port, nodes reach nobody.
//!
//! Probes come from the Kubernetes node itself, which every policy engine lets in.

use contract::ports;
use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::metadata;
use crate::{names, validate::Room};

pub(super) fn build(room: &Room) -> NetworkPolicy {
    let client_ports: Vec<_> = [room.irc_port.map(|_| ports::IRC), room.web_port.map(|_| ports::WEB)]
        .into_iter()
        .flatten()
        .map(tcp)
        .collect();
    let mut ingress =
        vec![NetworkPolicyIngressRule { ports: Some(client_ports), ..NetworkPolicyIngressRule::default() }];
    ingress.extend(room.operator_namespace.as_deref().map(from_operator));
    NetworkPolicy {
        metadata: metadata::of(room, names::network_policy(&room.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(metadata::selector(room)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(ingress),
            ..NetworkPolicySpec::default()
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
        ports: Some(vec![tcp(ports::ADMIN)]),
    }
}

fn tcp(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".into()),
        end_port: None,
    }
}
