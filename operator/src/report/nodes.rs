//! What the nodes of a room do, and what the first of them that does not serve waits for. Pure.

use std::collections::BTreeSet;

use contract::status::{Membership, NodeState, NodeStatus};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentCondition},
        core::v1::{Pod, Volume},
        discovery::v1::EndpointSlice,
    },
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{conditions, store};
use crate::{
    api::{MemberState, Mode, NodeRow, Stateless, Store},
    build, names,
    nodes::NodeView,
    observe::Observed,
    pods::{self, Trouble},
};

/// The nodes of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    pub rows: Vec<NodeRow>,
    /// How many of them clients can join and talk on.
    pub serving: i32,
    /// How many of them are being stopped.
    pub stopping: i32,
    /// What the first node that does not serve waits for; one that is to stay goes before one that is being stopped.
    pub trouble: Option<Trouble>,
}

pub fn look(room: &str, mode: &Mode, observed: &Observed, now: Timestamp) -> Nodes {
    let mut nodes = Nodes::default();
    let mut last = None;
    for pod in &observed.pods {
        let uid = pod.uid().unwrap_or_default();
        let view = observed.nodes.get(&uid);
        let trouble = not_serving(room, mode, observed, pod, view, now);
        nodes.rows.push(row(pod, view, trouble.as_ref()));
        match trouble {
            None => nodes.serving += 1,
            Some(trouble) if pod.metadata.deletion_timestamp.is_some() => {
                nodes.stopping += 1;
                last.get_or_insert(trouble);
            }
            Some(trouble) => {
                nodes.trouble.get_or_insert(trouble);
            }
        }
    }
    if nodes.rows.is_empty() {
        last = Some(no_pod(room, mode, observed));
    }
    nodes.trouble = nodes.trouble.or_else(|| pods_refused(observed)).or(last);
    nodes
}

/// Why Kubernetes makes no pods of the Deployment: a quota, or a rule of the cluster.
fn pods_refused(observed: &Observed) -> Option<Trouble> {
    let deployment = observed.objects.deployment.as_deref()?;
    let failure = deployment_condition(deployment, "ReplicaFailure", "True")?;
    let why = failure.message.as_deref().unwrap_or("no reason is given");
    waiting(
        conditions::NO_PODS,
        format!("Kubernetes makes no pod of Deployment {}: {why}", deployment.name_any()),
    )
}

/// The Deployment's condition of that type, if it has that status.
pub(super) fn deployment_condition<'a>(
    deployment: &'a Deployment,
    type_: &str,
    status: &str,
) -> Option<&'a DeploymentCondition> {
    deployment.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| {
        condition.type_.as_deref() == Some(type_) && condition.status.as_deref() == Some(status)
    })
}

fn row(pod: &Pod, view: Option<&NodeView>, trouble: Option<&Trouble>) -> NodeRow {
    let heard = heard(view);
    let stopping = pod.metadata.deletion_timestamp.is_some();
    NodeRow {
        pod: pod.name_any(),
        state: if stopping {
            MemberState::Draining
        } else {
            heard.map_or(MemberState::Unknown, |status| match status.state {
                NodeState::Recovering => MemberState::Recovering,
                NodeState::Serving => MemberState::Serving,
                NodeState::ReadOnly => MemberState::ReadOnly,
                NodeState::Draining => MemberState::Draining,
            })
        },
        member: heard.map(|status| status.member.clone()).filter(|member| !member.is_empty()),
        membership: heard.and_then(|status| Some(status.cluster.as_ref()?.membership.into())),
        leads: heard.and_then(leads),
        version: heard.map(|status| status.version.clone()),
        connections: heard.map_or(0, |status| status.connections),
        reason: trouble.map(|trouble| trouble.message.clone()).unwrap_or_default(),
    }
}

/// Shards that a stateful node leads, as far as it knows.
fn leads(status: &NodeStatus) -> Option<u16> {
    let groups = &status.cluster.as_ref()?.groups;
    let own = groups.iter().filter(|group| !group.leader.is_empty() && group.leader == status.member);
    u16::try_from(own.count()).ok()
}

/// What the node has said on a connection that still stands.
pub fn heard(view: Option<&NodeView>) -> Option<&NodeStatus> {
    match view {
        Some(NodeView::Heard(status)) => Some(status),
        _ => None,
    }
}

/// Why clients cannot join and talk on the node; `None` if they can.
fn not_serving(
    room: &str,
    mode: &Mode,
    observed: &Observed,
    pod: &Pod,
    view: Option<&NodeView>,
    now: Timestamp,
) -> Option<Trouble> {
    let name = pod.name_any();
    if let Some(lost_at) = pods::lost_at(pod) {
        return stopping(pod, lost_at <= now);
    }
    if let Mode::Stateless(_) = mode
        && let Some(message) = store::refusal(observed, pod)
    {
        return Some(Trouble { reason: conditions::STORE_REFUSED.into(), message, lasting: true });
    }
    if let Some(trouble) = pods::trouble(pod) {
        return Some(trouble);
    }
    if pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Running") {
        return not_running(mode, observed, pod);
    }
    if let Some(NodeView::Heard(status)) = view
        && let Some(trouble) = no_member(&name, status)
    {
        return Some(trouble);
    }
    match view {
        Some(NodeView::Heard(status)) => match status.state {
            NodeState::Serving => {}
            NodeState::Recovering => {
                let does = if store::has_log(status) { "reads its log" } else { "begins" };
                return node(conditions::NODE_RECOVERING, &name, does, status);
            }
            NodeState::ReadOnly => {
                return node(conditions::NODE_READ_ONLY, &name, "takes no messages", status);
            }
            NodeState::Draining => {
                return node(conditions::NODE_DRAINING, &name, "moves its clients away", status);
            }
        },
        _ if pods::is_starting(pod) => {
            if let Some(trouble) = pods::ended_before(pod) {
                return Some(trouble);
            }
        }
        Some(NodeView::Silent(why)) => {
            let host = host(pod);
            return waiting(
                conditions::NODE_SILENT,
                format!("node {name} on Kubernetes node {host} is silent: {why}"),
            );
        }
        Some(NodeView::Unasked) | None => {
            return waiting(conditions::NODE_SILENT, format!("node {name} was not asked yet"));
        }
    }
    if !pods::is_ready(pod) {
        return waiting(conditions::STARTING, format!("pod {name} has not passed its readiness probe yet"));
    }
    let service = names::client_service(room);
    if !has_endpoint(observed, &service, pod) {
        return waiting(
            conditions::NO_ENDPOINT,
            format!("Service {service} does not lead to pod {name} yet"),
        );
    }
    None
}

/// What a stateful node that is no member waits for.
fn no_member(name: &str, status: &NodeStatus) -> Option<Trouble> {
    let (reason, does) = match status.cluster.as_ref()?.membership {
        Membership::Member => return None,
        Membership::Waiting => {
            (conditions::NODE_WAITING, "has an empty volume and waits for the room to let it in")
        }
        Membership::Joining => (conditions::NODE_JOINING, "gets what the other nodes have"),
        Membership::Leaving => (conditions::NODE_LEAVING, "gives its shards to others"),
        Membership::Removed => (conditions::NODE_REMOVED, "was removed from the room"),
    };
    node(reason, name, does, status)
}

fn stopping(pod: &Pod, lost: bool) -> Option<Trouble> {
    let (name, host) = (pod.name_any(), host(pod));
    if lost {
        return waiting(
            conditions::NODE_LOST,
            format!(
                "pod {name} cannot be stopped, as Kubernetes node {host} does not answer: bring {host} back, or, if it \
                 is off for good, `kubectl taint node {host} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute`"
            ),
        );
    }
    waiting(conditions::STOPPING, format!("pod {name} is being stopped"))
}

fn host(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("(none)")
}

fn not_running(mode: &Mode, observed: &Observed, pod: &Pod) -> Option<Trouble> {
    let needs = if pods::waits_for_volumes(pod) { needed_secrets(mode, pod) } else { Vec::new() };
    let pod = pod.name_any();
    if !needs.is_empty() {
        return waiting(
            conditions::STARTING,
            format!(
                "pod {pod} is starting; it needs {}, see `kubectl describe pod {pod}`",
                needs.join(" and ")
            ),
        );
    }
    let claim = names::claim(&pod);
    let pending = observed.claims.iter().any(|found| {
        found.name_any() == claim
            && found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
    });
    if pending {
        return waiting(
            conditions::VOLUME_PENDING,
            format!("PersistentVolumeClaim {claim} has no volume yet: see `kubectl describe pvc {claim}`"),
        );
    }
    waiting(conditions::STARTING, format!("pod {pod} is starting"))
}

/// The Secrets of the room's author that the pod mounts, in words. Those that the operator makes are none of them.
fn needed_secrets(mode: &Mode, pod: &Pod) -> Vec<String> {
    let own_store = matches!(mode, Mode::Stateless(Stateless { store: Store::Valkey(_), .. }));
    let of_author = |volume: &&Volume| {
        (own_store && volume.name == build::STORE_URL_VOLUME)
            || build::CERTIFICATE_VOLUMES.contains(&volume.name.as_str())
    };
    let words = |volume: &Volume| {
        let secret = volume.secret.as_ref()?;
        let keys: Vec<_> = secret.items.iter().flatten().map(|item| item.key.as_str()).collect();
        let key = if keys.len() == 1 { "key" } else { "keys" };
        Some(format!("Secret {} with {key} {}", secret.secret_name.as_deref()?, keys.join(" and ")))
    };
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    // Two listeners may have the same.
    volumes.filter(of_author).filter_map(words).collect::<BTreeSet<_>>().into_iter().collect()
}

fn no_pod(room: &str, mode: &Mode, observed: &Observed) -> Trouble {
    let (kind, name, there) = match mode {
        Mode::Stateful(_) => {
            ("StatefulSet", names::stateful_set(room), observed.objects.stateful_set.is_some())
        }
        Mode::Stateless(_) => ("Deployment", names::deployment(room), observed.objects.deployment.is_some()),
    };
    let message = if there {
        format!("{kind} {name} has no pod yet: see `kubectl describe {} {name}`", kind.to_lowercase())
    } else {
        format!("{kind} {name} is being created")
    };
    Trouble { reason: conditions::CREATING.into(), message, lasting: false }
}

fn node(reason: &str, name: &str, does: &str, status: &NodeStatus) -> Option<Trouble> {
    let why = if status.reason.is_empty() { String::new() } else { format!(": {}", status.reason) };
    waiting(reason, format!("node {name} {does}{why}"))
}

fn waiting(reason: &str, message: String) -> Option<Trouble> {
    Some(Trouble { reason: reason.into(), message, lasting: false })
}

fn has_endpoint(observed: &Observed, service: &str, pod: &Pod) -> bool {
    let of_service = |slice: &&std::sync::Arc<EndpointSlice>| {
        slice.labels().get(names::SERVICE_NAME_LABEL).map(String::as_str) == Some(service)
    };
    observed.endpoints.iter().filter(of_service).flat_map(|slice| slice.endpoints.iter().flatten()).any(
        |endpoint| {
            endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref()) == pod.metadata.uid.as_ref()
                && endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) != Some(false)
        },
    )
}
