//! Reading a pod: is it ready, is it stuck, what does it wait for. Pure.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, Pod, PodCondition},
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;

use crate::names;

/// A kubelet that lives has long removed the pod by then.
const AFTER_GRACE: SignedDuration = SignedDuration::from_secs(20);

/// One word for a container between two tries, whether it ends, waits for the next try, or is in it.
const CRASHED: &str = "Crashed";

const UNSCHEDULABLE: &str = "Unschedulable";

/// Something that keeps a pod from running, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Kubernetes' word for it, such as ImagePullBackOff.
    pub reason: String,
    /// With the pod's name, the cause, and what to do where that is known.
    pub message: String,
    /// Whether it never passes by itself.
    pub lasting: bool,
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

/// Whether the kubelet, when it last spoke, waited for a container. A pod whose Kubernetes node is gone is neither
/// starting nor ready.
pub fn is_starting(pod: &Pod) -> bool {
    !is_ready(pod) && condition(pod, "ContainersReady").is_none_or(|condition| condition.status != "True")
}

/// Whether the pod has its place and none of its containers was begun: its volumes may be missing, and with them a Secret.
pub fn waits_for_volumes(pod: &Pod) -> bool {
    let begun = |status: &ContainerStatus| {
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) != Some("ContainerCreating")
    };
    pod.metadata.deletion_timestamp.is_none()
        && pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending")
        && condition(pod, "PodScheduled").is_some_and(|condition| condition.status == "True")
        && !containers(pod).any(begun)
}

/// The code with which a container ended that waits for its next life, or has begun it.
pub fn exit_code(pod: &Pod) -> Option<i32> {
    containers(pod).find_map(|status| {
        let now = status.state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = now.or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.as_ref()))?;
        Some(ended.exit_code)
    })
}

/// When a pod that is being stopped counts as lost with its Kubernetes node: it is past the end of its grace.
pub fn lost_at(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.deletion_timestamp.as_ref().map(|end| end.0 + AFTER_GRACE)
}

/// How long a pod may be out of reach before another node takes its place.
const REPLACE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// When a node whose member does not live is to be replaced: that long after Kubernetes gave up its pod, or finds no place
/// for it where its volume is.
pub fn replaced_at(pod: &Pod) -> Option<Timestamp> {
    let ordered = pod.metadata.deletion_timestamp.as_ref().map(|end| {
        end.0 - SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default())
    });
    let homeless = || {
        let scheduled = condition(pod, "PodScheduled").filter(|condition| {
            condition.status == "False" && condition.reason.as_deref() == Some(UNSCHEDULABLE)
        })?;
        scheduled.last_transition_time.as_ref().map(|time| time.0)
    };
    ordered.or_else(homeless).map(|since| since + REPLACE_AFTER)
}

/// Why a container of the pod does not run, if it will not for a while.
pub fn stuck(pod: &Pod) -> Option<Trouble> {
    let name = pod.name_any();
    let image = |status: &ContainerStatus| {
        pod.spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find(|container| container.name == status.name)
            .and_then(|container| container.image.clone())
            .unwrap_or_default()
    };
    containers(pod).find_map(|status| {
        let state = status.state.as_ref()?;
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref()?;
            let detail = waiting.message.as_deref().unwrap_or_default();
            let (message, lasting) = match reason {
                "ImagePullBackOff" | "ErrImagePull" | "RegistryUnavailable" | "ImageInspectError" => (
                    format!(
                        "pod {name} cannot get image {}: {} ({reason}: {detail})",
                        image(status),
                        image_remedy(status)
                    ),
                    false,
                ),
                "InvalidImageName" | "ErrImageNeverPull" => (
                    format!(
                        "pod {name} cannot get image {}: {} ({reason}: {detail})",
                        image(status),
                        image_remedy(status)
                    ),
                    true,
                ),
                "CrashLoopBackOff" => {
                    return Some(Trouble {
                        reason: CRASHED.into(),
                        message: crash(&name, status),
                        lasting: false,
                    });
                }
                "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                    (format!("pod {name} cannot start its container ({reason}: {detail})"), false)
                }
                _ => return None,
            };
            return Some(Trouble { reason: reason.into(), message, lasting });
        }
        let ended = state.terminated.as_ref()?;
        (ended.exit_code != 0).then(|| Trouble {
            reason: CRASHED.into(),
            message: crash(&name, status),
            lasting: false,
        })
    })
}

fn image_remedy(status: &ContainerStatus) -> &'static str {
    if status.name == names::STORE_CONTAINER {
        "start the operator with a --store-image (chart value storeImage) that exists"
    } else {
        "set spec.node.image to one that exists"
    }
}

/// How the container that now starts ended the time before, if that was no good end.
pub fn ended_before(pod: &Pod) -> Option<Trouble> {
    let name = pod.name_any();
    containers(pod).find_map(|status| {
        let ended = status.last_state.as_ref()?.terminated.as_ref()?;
        (ended.exit_code != 0).then(|| Trouble {
            reason: CRASHED.into(),
            message: crash(&name, status),
            lasting: false,
        })
    })
}

/// What a pod that is not ready waits for.
pub fn trouble(pod: &Pod) -> Option<Trouble> {
    if let Some(stuck) = stuck(pod) {
        return Some(stuck);
    }
    let name = pod.name_any();
    let scheduled = condition(pod, "PodScheduled")?;
    // Other reasons (SchedulerError) are about one try, and the next comes at once.
    (scheduled.status == "False" && scheduled.reason.as_deref() == Some(UNSCHEDULABLE)).then(|| Trouble {
        reason: UNSCHEDULABLE.into(),
        message: format!(
            "pod {name} has no place on a Kubernetes node: {}",
            scheduled.message.as_deref().unwrap_or("the scheduler gives no reason")
        ),
        lasting: false,
    })
}

/// The last words of a container that keeps ending.
fn crash(pod: &str, status: &ContainerStatus) -> String {
    let last = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = last.or_else(|| status.last_state.as_ref().and_then(|state| state.terminated.as_ref()));
    let Some(ended) = ended else {
        return format!("pod {pod} keeps ending: see `kubectl logs {pod} --previous`");
    };
    let why = ended.reason.as_deref().unwrap_or("Error");
    let words = ended.message.as_deref().map(last_line).unwrap_or_default();
    let words = if words.is_empty() { String::new() } else { format!(": {words}") };
    let remedy = match why {
        "OOMKilled" if status.name == names::NODE_CONTAINER => {
            "raise spec.node.resources.limits.memory".to_owned()
        }
        _ => format!("see `kubectl logs {pod} --previous`"),
    };
    format!("pod {pod} ended with code {} ({why}){words}; {remedy}", ended.exit_code)
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    line.chars().take(300).collect()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == type_)
}
