use serde_json::{Value, json};

use super::*;

/// Two pods of `chat` on node0 and one on node1, a client in `people`, and what the given policies make of it.
fn rules_of(policies: &[Value]) -> String {
    let pod = |namespace: &str, name: &str, app: &str, node: &str, ip: &str| {
        json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [
                {"name": "c", "ports": [{"name": "irc", "containerPort": 6667}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
            ]},
            "status": {"phase": "Running", "podIP": ip},
        })
    };
    let pods = [
        pod("chat", "a", "chat", "node0", "10.244.0.2"),
        pod("chat", "b", "store", "node0", "10.244.0.3"),
        pod("chat", "c", "chat", "node1", "10.244.1.2"),
        pod("people", "d", "client", "node1", "10.244.1.3"),
    ];
    let namespace = |name: &str| json!({"metadata": {"name": name, "labels": {"team": name}}});
    let view = ClusterView {
        policies: policies.iter().map(|policy| from(policy.clone())).collect(),
        pods: pods.into_iter().map(from).collect(),
        namespaces: [namespace("chat"), namespace("people")].into_iter().map(from).collect(),
    };
    ruleset(&view, "node0")
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn policy(spec: &Value) -> Value {
    json!({"metadata": {"namespace": "chat", "name": "p"}, "spec": spec})
}

/// What a chain lets through; it must drop the rest.
fn chain<'a>(ruleset: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let start = ruleset.find(&format!("chain {name} {{"))?;
    let body = ruleset[start..].lines().skip(1);
    let mut rules: Vec<_> = body.map(str::trim).take_while(|line| *line != "}").collect();
    assert_eq!(rules.pop(), Some("counter drop"), "{ruleset}");
    Some(rules)
}

#[test]
fn without_policies_nothing_is_dropped() {
    assert!(!rules_of(&[]).contains("drop"));
}

#[test]
fn an_empty_policy_denies_ingress_to_the_local_pods_it_selects_and_nothing_else() {
    let rules = rules_of(&[policy(&json!({"podSelector": {"matchLabels": {"app": "chat"}}}))]);
    assert_eq!(chain(&rules, "to-10-244-0-2"), Some(vec![]));
    assert_eq!(chain(&rules, "to-10-244-0-3"), None, "not selected");
    assert_eq!(chain(&rules, "to-10-244-1-2"), None, "another node's");
    assert_eq!(chain(&rules, "from-10-244-0-2"), None, "egress is not named");
    assert!(rules.contains("ip daddr vmap { 10.244.0.2 : jump to-10-244-0-2 }"), "{rules}");
}

#[test]
fn egress_is_isolated_when_it_is_named_or_has_rules() {
    let named = rules_of(&[policy(&json!({"podSelector": {}, "policyTypes": ["Egress"]}))]);
    assert_eq!(chain(&named, "from-10-244-0-2"), Some(vec![]));
    assert_eq!(chain(&named, "to-10-244-0-2"), None);
    let implied = rules_of(&[policy(&json!({"podSelector": {}, "egress": [{}]}))]);
    assert_eq!(chain(&implied, "from-10-244-0-2"), Some(vec!["return"]));
    assert_eq!(chain(&implied, "to-10-244-0-2"), Some(vec![]));
}

#[test]
fn peers_are_pods_of_the_policys_namespace_unless_namespaces_are_selected() {
    let from = |peer: Value| {
        let rules = rules_of(&[policy(&json!({"podSelector": {}, "ingress": [{"from": [peer]}]}))]);
        chain(&rules, "to-10-244-0-2").unwrap().join("\n")
    };
    assert_eq!(
        from(json!({"podSelector": {"matchLabels": {"app": "chat"}}})),
        "ip saddr { 10.244.0.2, 10.244.1.2 } return"
    );
    assert_eq!(
        from(json!({"namespaceSelector": {"matchLabels": {"team": "people"}}})),
        "ip saddr { 10.244.1.3 } return"
    );
    let both = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}});
    assert_eq!(from(both), "ip saddr { 10.244.1.3 } return");
    assert_eq!(from(json!({"podSelector": {"matchLabels": {"app": "nobody"}}})), "");
}

#[test]
fn ports_are_numbers_ranges_names_or_whole_protocols() {
    let allowed = |port: Value| {
        let rules = rules_of(&[policy(&json!({"podSelector": {}, "ingress": [{"ports": [port]}]}))]);
        chain(&rules, "to-10-244-0-2").unwrap().join("\n")
    };
    assert_eq!(allowed(json!({"port": 80})), "tcp dport 80 return");
    assert_eq!(allowed(json!({"port": 53, "protocol": "UDP"})), "udp dport 53 return");
    assert_eq!(allowed(json!({"port": 8000, "endPort": 8010})), "tcp dport 8000-8010 return");
    assert_eq!(allowed(json!({"port": "irc"})), "tcp dport 6667 return");
    assert_eq!(allowed(json!({"port": "dns"})), "", "a name belongs to its protocol");
    assert_eq!(allowed(json!({"protocol": "SCTP"})), "meta l4proto sctp return");
}

#[test]
fn a_named_port_of_egress_is_the_peers_own() {
    let egress =
        json!({"to": [{"podSelector": {"matchLabels": {"app": "store"}}}], "ports": [{"port": "irc"}]});
    let rules = rules_of(&[policy(&json!({"podSelector": {}, "egress": [egress]}))]);
    assert_eq!(chain(&rules, "from-10-244-0-2"), Some(vec!["ip daddr { 10.244.0.3 } tcp dport 6667 return"]));
}

#[test]
fn blocks_have_exceptions() {
    let block = json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.0/16", "10.1.2.3/32"]}});
    let rules = rules_of(&[policy(
        &json!({"podSelector": {}, "egress": [{"to": [block], "ports": [{"port": 443}]}]}),
    )]);
    let expected =
        "ip daddr 10.0.0.0/8 ip daddr != 10.244.0.0/16 ip daddr != 10.1.2.3/32 tcp dport 443 return";
    assert_eq!(chain(&rules, "from-10-244-0-2"), Some(vec![expected]));
    let everything = json!({"ipBlock": {"cidr": "0.0.0.0/0"}});
    let rules = rules_of(&[policy(&json!({"podSelector": {}, "ingress": [{"from": [everything]}]}))]);
    assert_eq!(chain(&rules, "to-10-244-0-2"), Some(vec!["meta nfproto ipv4 return"]));
}

#[test]
fn an_empty_list_of_peers_is_everybody() {
    let rules = rules_of(&[policy(&json!({"podSelector": {}, "ingress": [{"from": []}]}))]);
    assert_eq!(chain(&rules, "to-10-244-0-2"), Some(vec!["return"]));
}

#[test]
fn policies_of_other_namespaces_do_not_count() {
    let foreign = json!({"metadata": {"namespace": "people", "name": "p"}, "spec": {"podSelector": {}}});
    assert!(!rules_of(&[foreign]).contains("drop"));
}

#[test]
fn policies_add_up() {
    let allow = |port: u16| policy(&json!({"podSelector": {}, "ingress": [{"ports": [{"port": port}]}]}));
    let rules = rules_of(&[policy(&json!({"podSelector": {}})), allow(80), allow(81)]);
    assert_eq!(chain(&rules, "to-10-244-0-2"), Some(vec!["tcp dport 80 return", "tcp dport 81 return"]));
}

#[test]
fn ended_and_host_network_pods_have_no_address_of_their_own() {
    let pod = |extra: Value, phase: &str| -> Pod {
        let mut spec = json!({"nodeName": "node0", "containers": []});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        from(
            json!({"metadata": {"namespace": "chat"}, "spec": spec, "status": {"phase": phase, "podIP": "10.244.0.9"}}),
        )
    };
    assert_eq!(address(&pod(json!({}), "Running")), Some("10.244.0.9"));
    assert_eq!(address(&pod(json!({}), "Succeeded")), None);
    assert_eq!(address(&pod(json!({"hostNetwork": true}), "Running")), None);
}

#[test]
fn the_ruleset_replaces_the_one_before_it_in_one_transaction() {
    let rules = rules_of(&[]);
    assert!(
        rules.starts_with("table inet devcluster-policies {}\ndelete table inet devcluster-policies\n"),
        "{rules}"
    );
}
