//! The rights of the operator: the verbs that its code uses, and no others.

use k8s_openapi::api::rbac::v1::PolicyRule;

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
        // Deleted only when stuck at an outdated revision.
        rule("", &["pods"], &["list", "watch", "delete"]),
        rule("", &["persistentvolumeclaims"], &["list", "watch", "patch"]),
        rule("discovery.k8s.io", &["endpointslices"], &["list", "watch"]),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]
}

/// What it may do in its own namespace.
pub(super) fn own_rules() -> Vec<PolicyRule> {
    vec![rule("coordination.k8s.io", &["leases"], &["get", "create", "patch"])]
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
