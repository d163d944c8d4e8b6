//! From policies, pods and namespaces to the nftables ruleset of one Kubernetes node. Pure.
//!
//! Every isolated pod of the node has a chain per isolated direction. The chain returns what a policy allows and
//! drops the rest. What the node itself sends (kubelet's probes) is not forwarded, and so never asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::selector::matches;

/// The table that the enforcer owns.
pub(crate) const TABLE: &str = "inet devcluster-policies";

/// What the API server says, all of it.
#[derive(Debug, Default, Clone)]
pub struct ClusterView {
    pub policies: Vec<NetworkPolicy>,
    pub pods: Vec<Pod>,
    pub namespaces: Vec<Namespace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    /// The end of the connection that a policy's peers are.
    fn peer_address(self) -> &'static str {
        match self {
            Self::Ingress => "ip saddr",
            Self::Egress => "ip daddr",
        }
    }
}

/// The peers and ports of one rule of a policy, for either direction.
struct Rule<'a> {
    peers: Option<&'a [NetworkPolicyPeer]>,
    ports: &'a [NetworkPolicyPort],
}

/// The node's whole ruleset, to be loaded as one transaction.
#[must_use]
pub fn ruleset(view: &ClusterView, node: &str) -> String {
    let mut chains = String::new();
    let mut jumps: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let local = view
        .pods
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node));
    for (pod, address) in local.filter_map(|pod| Some((pod, address(pod)?))) {
        for (direction, key, prefix) in
            [(Direction::Egress, "ip saddr", "from"), (Direction::Ingress, "ip daddr", "to")]
        {
            let policies: Vec<_> = policies_for(view, pod, direction).collect();
            if policies.is_empty() {
                continue;
            }
            let name = format!("{prefix}-{}", address.replace('.', "-"));
            let rules: BTreeSet<_> = policies
                .iter()
                .flat_map(|(namespace, spec)| {
                    rules(spec, direction)
                        .into_iter()
                        .flat_map(|rule| statements(view, namespace, pod, direction, &rule))
                })
                .collect();
            writeln!(chains, "  chain {name} {{").expect("a String takes all");
            for rule in rules {
                writeln!(chains, "    {rule} return").expect("a String takes all");
            }
            writeln!(chains, "    counter drop\n  }}").expect("a String takes all");
            jumps.entry(key).or_default().push(format!("{address} : jump {name}"));
        }
    }
    let mut text =
        format!("table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n{chains}  chain forward {{\n");
    text += "    type filter hook forward priority filter; policy accept;\n";
    text += "    ct state established,related accept\n";
    // What leaves one pod for another must pass both ends.
    for key in ["ip saddr", "ip daddr"] {
        if let Some(jumps) = jumps.get_mut(key) {
            jumps.sort();
            writeln!(text, "    {key} vmap {{ {} }}", jumps.join(", ")).expect("a String takes all");
        }
    }
    text + "  }\n}\n"
}

/// The address by which a pod is known; `None` while it has none, when it ended, or when it uses its node's.
fn address(pod: &Pod) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    // An ended pod's address may be another's already.
    let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let address = status.pod_ip.as_deref().filter(|address| address.parse::<std::net::Ipv4Addr>().is_ok());
    address.filter(|_| !host_network && !ended)
}

/// The policies that isolate a pod in a direction, with their namespaces.
fn policies_for<'a>(
    view: &'a ClusterView,
    pod: &'a Pod,
    direction: Direction,
) -> impl Iterator<Item = (String, &'a NetworkPolicySpec)> {
    let same = move |policy: &&NetworkPolicy| policy.namespace() == pod.namespace();
    view.policies.iter().filter(same).filter_map(move |policy| {
        let spec = policy.spec.as_ref()?;
        let selected = match &spec.pod_selector {
            Some(selector) => matches(selector, pod.metadata.labels.as_ref()),
            None => true,
        };
        (selected && isolates(spec, direction)).then(|| (policy.namespace().unwrap_or_default(), spec))
    })
}

fn isolates(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    match (&spec.policy_types, direction) {
        (Some(types), Direction::Ingress) if !types.is_empty() => types.iter().any(|kind| kind == "Ingress"),
        (Some(types), Direction::Egress) if !types.is_empty() => types.iter().any(|kind| kind == "Egress"),
        (_, Direction::Ingress) => true,
        (_, Direction::Egress) => spec.egress.is_some(),
    }
}

fn rules(spec: &NetworkPolicySpec, direction: Direction) -> Vec<Rule<'_>> {
    match direction {
        Direction::Ingress => spec
            .ingress
            .iter()
            .flatten()
            .map(|rule| Rule {
                peers: rule.from.as_deref(),
                ports: rule.ports.as_deref().unwrap_or_default(),
            })
            .collect(),
        Direction::Egress => spec
            .egress
            .iter()
            .flatten()
            .map(|rule| Rule { peers: rule.to.as_deref(), ports: rule.ports.as_deref().unwrap_or_default() })
            .collect(),
    }
}

/// The conditions under which a rule allows a connection; each stands for itself.
fn statements(
    view: &ClusterView,
    namespace: &str,
    subject: &Pod,
    direction: Direction,
    rule: &Rule<'_>,
) -> Vec<String> {
    let mut statements = Vec::new();
    let peers = rule.peers.filter(|peers| !peers.is_empty());
    let blocks: Vec<&IPBlock> =
        peers.iter().copied().flatten().filter_map(|peer| peer.ip_block.as_ref()).collect();
    let pods: Vec<&Pod> = match peers {
        Some(peers) => view
            .pods
            .iter()
            .filter(|pod| peers.iter().any(|peer| is_peer(view, namespace, peer, pod)))
            .collect(),
        None => Vec::new(),
    };
    let ports: Vec<Option<&NetworkPolicyPort>> =
        if rule.ports.is_empty() { vec![None] } else { rule.ports.iter().map(Some).collect() };
    for port in ports {
        // A port's name means what the container that is connected to calls so.
        let named = port.and_then(|port| match &port.port {
            Some(IntOrString::String(name)) => Some((name.as_str(), protocol(port))),
            _ => None,
        });
        let fixed = match (port, named, direction) {
            (_, Some((name, protocol)), Direction::Ingress) => {
                match container_port(subject, name, protocol) {
                    Some(number) => format!("{protocol} dport {number}"),
                    None => continue,
                }
            }
            (_, Some(_), Direction::Egress) => String::new(),
            (Some(port), None, _) => numbered(port),
            (None, None, _) => String::new(),
        };
        match (named, direction, peers) {
            (Some((name, protocol)), Direction::Egress, _) => {
                let targets: Vec<&Pod> =
                    if peers.is_some() { pods.clone() } else { view.pods.iter().collect() };
                let mut by_number: BTreeMap<i32, BTreeSet<&str>> = BTreeMap::new();
                for pod in targets {
                    if let (Some(address), Some(number)) = (address(pod), container_port(pod, name, protocol))
                    {
                        by_number.entry(number).or_default().insert(address);
                    }
                }
                for (number, addresses) in by_number {
                    statements
                        .push(format!("{} {protocol} dport {number}", address_set(direction, &addresses)));
                }
            }
            (_, _, None) => statements.push(fixed),
            (_, _, Some(_)) => {
                let addresses: BTreeSet<_> = pods.iter().filter_map(|pod| address(pod)).collect();
                if !addresses.is_empty() {
                    statements.push(format!("{} {fixed}", address_set(direction, &addresses)));
                }
                let blocks = blocks.iter().filter_map(|block| block_condition(direction, block));
                statements.extend(blocks.map(|condition| format!("{condition} {fixed}")));
            }
        }
    }
    statements.iter().map(|statement| statement.trim().to_owned()).collect()
}

fn is_peer(view: &ClusterView, namespace: &str, peer: &NetworkPolicyPeer, pod: &Pod) -> bool {
    if peer.ip_block.is_some() {
        return false;
    }
    let its_namespace = pod.namespace().unwrap_or_default();
    let namespace_fits = match &peer.namespace_selector {
        None => its_namespace == namespace,
        Some(selector) => view.namespaces.iter().any(|known| {
            known.name_any() == its_namespace && matches(selector, known.metadata.labels.as_ref())
        }),
    };
    let pod_fits =
        peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, pod.metadata.labels.as_ref()));
    namespace_fits && pod_fits
}

fn address_set(direction: Direction, addresses: &BTreeSet<&str>) -> String {
    let list: Vec<_> = addresses.iter().copied().collect();
    format!("{} {{ {} }}", direction.peer_address(), list.join(", "))
}

/// `None` for addresses of the other family, which no pod here has.
fn block_condition(direction: Direction, block: &IPBlock) -> Option<String> {
    let key = direction.peer_address();
    if block.cidr.contains(':') {
        return None;
    }
    let except: Vec<_> =
        block.except.iter().flatten().filter(|cidr| !cidr.contains(':')).map(String::as_str).collect();
    // A set needs no special form for everything, a lone prefix of length zero does.
    let mut condition = match block.cidr.as_str() {
        "0.0.0.0/0" => "meta nfproto ipv4".to_owned(),
        cidr => format!("{key} {cidr}"),
    };
    for cidr in except {
        write!(condition, " {key} != {cidr}").expect("a String takes all");
    }
    Some(condition)
}

fn protocol(port: &NetworkPolicyPort) -> &'static str {
    match port.protocol.as_deref() {
        Some("UDP") => "udp",
        Some("SCTP") => "sctp",
        _ => "tcp",
    }
}

fn numbered(port: &NetworkPolicyPort) -> String {
    let protocol = protocol(port);
    match (&port.port, port.end_port) {
        (Some(IntOrString::Int(first)), Some(last)) => format!("{protocol} dport {first}-{last}"),
        (Some(IntOrString::Int(number)), None) => format!("{protocol} dport {number}"),
        _ => format!("meta l4proto {protocol}"),
    }
}

fn container_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let fits = |port: &&k8s_openapi::api::core::v1::ContainerPort| {
        port.name.as_deref() == Some(name)
            && port.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    };
    ports.into_iter().find(fits).map(|port| port.container_port)
}

#[cfg(test)]
mod tests;
