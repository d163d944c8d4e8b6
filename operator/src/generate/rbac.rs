//! The rights of the operator: the verbs that its code uses, and no others.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::names;

/// What it may do where its rooms are.
pub(super) fn room_rules() -> Vec<PolicyRule> {
    vec![
        rule("chatroom.dev", &["chatrooms"], &["list", "watch"]),
        rule("chatroom.dev", &["chatrooms/status"], &["patch"]),
        rule("chatroom.dev", &["chatrooms/scale"], &["update"]),
        // Objects are applied, which creates and patches; get finds objects of somebody else.
        rule(
            "",
            &["configmaps", "services", "serviceaccounts"],
            &["get", "list", "watch", "create", "patch"],
        ),
        rule("networking.k8s.io", &["networkpolicies"], &["get", "list", "watch", "create", "patch"]),
        // Deleted, without its pods, only to grow volumes.
        rule("apps", &["statefulsets"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("apps", &["deployments"], &["get", "list", "watch", "create", "patch"]),
        rule("policy", &["poddisruptionbudgets"], &["get", "list", "watch", "create", "patch"]),
        // The password of a store that it runs is created; certificates are applied. It reads no Secret: of the
        // answer to a patch it asks for the metadata alone.
        rule("", &["secrets"], &["create", "patch"]),
        // Deleted only when stuck at an outdated revision or removed from their room; patched with the order in which they are
        // stopped.
        rule("", &["pods"], &["list", "watch", "patch", "delete"]),
        // Deleted where the author of a room does not want to keep volumes of nodes that left.
        rule("", &["persistentvolumeclaims"], &["list", "watch", "patch", "delete"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// What only the operator of all namespaces does: it looks which of them have an operator of their own.
pub(super) fn cluster_rules() -> Vec<PolicyRule> {
    vec![lease(names::NAMESPACE_LEASE, &["list", "watch"])]
}

/// What it may do with the Lease of its leader. The install brings the Lease, so that it goes with the install; the
/// operator makes it anew where somebody deleted it. The right to create knows no names.
pub(super) fn lease_rules(name: &str) -> Vec<PolicyRule> {
    vec![lease(name, &["get", "patch"]), rule("coordination.k8s.io", &["leases"], &["create"])]
}

/// What it may do with the Secret that the keys of control ports follow from: make it once, and read it. The right to
/// create knows no names.
pub(super) fn control_rules(name: &str) -> Vec<PolicyRule> {
    let resource_names = Some(vec![name.into()]);
    vec![
        PolicyRule { resource_names, ..rule("", &["secrets"], &["get"]) },
        rule("", &["secrets"], &["create"]),
    ]
}

fn lease(name: &str, verbs: &[&str]) -> PolicyRule {
    let resource_names = Some(vec![name.into()]);
    PolicyRule { resource_names, ..rule("coordination.k8s.io", &["leases"], verbs) }
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![group.into()]),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}
