//! NetworkPolicy of the store: the nodes of its room reach it, nobody else does, and it reaches nobody.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicySpec,
};

use super::{PORT, metadata_of, selector};
use crate::{
    build::{metadata, network_policy::tcp},
    names,
    validate::Room,
};

pub(in crate::build) fn build(room: &Room) -> NetworkPolicy {
    NetworkPolicy {
        metadata: metadata_of(room, names::store(&room.name)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(room)),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![NetworkPolicyPeer {
                    pod_selector: Some(metadata::selector(room)),
                    ..NetworkPolicyPeer::default()
                }]),
                ports: Some(vec![tcp(PORT)]),
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
