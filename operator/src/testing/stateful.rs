//! The part of the model that runs stateful rooms: the StatefulSet controller, volumes, and the kubelets.

use std::{collections::BTreeMap, sync::Arc};

use contract::status::{Cluster, Durability, Membership, NodeState, NodeStatus};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::SignedDuration,
};
use kube::ResourceExt;
use serde_json::json;

use super::{
    Model,
    cluster::Running,
    model::{BAD_IMAGE, endpoint},
    serving_node,
};
use crate::{build, names, nodes::NodeView, plan::rollout, pods};

/// Kubernetes nodes; the volume of an ordinal is on one of them for good.
pub(crate) const HOSTS: i32 = 4;

/// Templates by their revisions.
pub(super) type Revisions = BTreeMap<String, PodTemplateSpec>;

impl Model {
    /// What Kubernetes and the nodes do of themselves in a stateful room; says whether something came of it.
    pub(super) fn stateful_kubernetes(&mut self) -> bool {
        let before = self.seen_stateful();
        self.finish_stopping();
        if let Some(set) = self.observed.objects.stateful_set.clone() {
            let revision = build::hash(&set.spec.template);
            self.revisions.insert(revision.clone(), set.spec.template.clone());
            let current = self.count_stateful(&set, &revision);
            self.start_missing(&set, &current, &revision);
            self.stop_surplus(&set);
            self.replace_outdated(&set, &revision);
        }
        self.stateful_kubelets();
        before != self.seen_stateful()
    }

    fn seen_stateful(&self) -> String {
        let pods: Vec<_> = self.observed.pods.iter().map(AsRef::as_ref).collect();
        let status = self.observed.objects.stateful_set.as_ref().and_then(|set| set.status.clone());
        format!("{}{}{:?}", json!([pods, status]), self.observed.claims.len(), self.observed.nodes)
    }

    fn host(pod: &str) -> String {
        format!("host-{}", names::ordinal("lounge", pod).unwrap_or_default() % HOSTS)
    }

    fn is_down(&self, pod: &Pod) -> bool {
        self.hosts_down.contains(&Self::host(&pod.name_any()))
    }

    /// Pods that were told to stop are gone, except where nobody can confirm it.
    fn finish_stopping(&mut self) {
        for pod in self.observed.pods.clone() {
            if pod.metadata.deletion_timestamp.is_some() && !self.is_down(&pod) {
                self.end_pod(&pod);
            }
        }
    }

    /// The pod object goes, and its process with it.
    pub(crate) fn end_pod(&mut self, pod: &Pod) {
        self.observed.pods.retain(|found| found.uid() != pod.uid());
        self.forget(pod);
    }

    fn tell_to_stop(&mut self, name: &str) {
        let end = Time(self.now + SignedDuration::from_secs(45));
        for pod in &mut self.observed.pods {
            if pod.name_any() == name && pod.metadata.deletion_timestamp.is_none() {
                let pod = Arc::make_mut(pod);
                pod.metadata.deletion_timestamp = Some(end.clone());
                pod.metadata.deletion_grace_period_seconds = Some(45);
            }
        }
    }

    /// Gives the set its status; returns the revision of pods below the partition.
    fn count_stateful(&mut self, set: &Arc<StatefulSet>, revision: &str) -> String {
        let replicas = set.spec.replicas.unwrap_or_default();
        let count = |which: &dyn Fn(&Pod) -> bool| {
            let in_place = |pod: &&Arc<Pod>| names::ordinal("lounge", &pod.name_any()) < Some(replicas);
            i32::try_from(self.observed.pods.iter().filter(in_place).filter(|pod| which(pod)).count())
                .unwrap()
        };
        let updated = |pod: &Pod| !rollout::is_outdated(pod, revision);
        let complete = count(&|pod| updated(pod) && pods::is_ready(pod)) == replicas;
        let before = set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current = before.filter(|_| !complete).unwrap_or_else(|| revision.to_owned());
        let status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            update_revision: Some(revision.into()),
            current_revision: Some(current.clone()),
            replicas: count(&|_| true),
            ..StatefulSetStatus::default()
        };
        let mut set = set.as_ref().clone();
        set.status = Some(status);
        self.observed.objects.stateful_set = Some(Arc::new(set));
        current
    }

    fn start_missing(&mut self, set: &StatefulSet, current: &str, update: &str) {
        for ordinal in 0..set.spec.replicas.unwrap_or_default() {
            let name = names::pod("lounge", ordinal);
            if self.observed.pods.iter().any(|pod| pod.name_any() == name) {
                continue;
            }
            self.claim(set, &name);
            let revision = if ordinal < rollout::partition(set) { current } else { update };
            let template = self.revisions[revision].clone();
            self.versions += 1;
            let mut pod = Pod {
                metadata: template.metadata.expect("the template has labels"),
                spec: template.spec,
                status: None,
            };
            pod.metadata.name = Some(name);
            pod.metadata.namespace = Some("default".into());
            pod.metadata.uid = Some(format!("pod-{}", self.versions));
            pod.metadata.resource_version = Some(self.versions.to_string());
            pod.labels_mut().insert(names::REVISION_LABEL.into(), revision.into());
            self.observed.pods.push(Arc::new(pod));
        }
        self.observed.pods.sort_by_key(|pod| pod.name_any());
    }

    fn claim(&mut self, set: &StatefulSet, pod: &str) {
        let name = names::claim(pod);
        if self.observed.claims.iter().any(|claim| claim.name_any() == name) {
            return;
        }
        let template = set.spec.volume_claim_templates.as_ref().expect("a node has a volume");
        let size = crate::plan::storage::requested(&template[0]).expect("the volume has a size");
        self.versions += 1;
        self.observed.claims.push(Arc::new(claim_of(&name, &self.versions.to_string(), &size.0)));
        self.observed.claims.sort_by_key(|claim| claim.name_any());
    }

    fn stop_surplus(&mut self, set: &StatefulSet) {
        let replicas = set.spec.replicas;
        let names: Vec<_> = self.observed.pods.iter().map(|pod| pod.name_any()).collect();
        for name in names.iter().filter(|name| names::ordinal("lounge", name) >= replicas) {
            self.tell_to_stop(name);
        }
    }

    /// As the controller does: from the highest ordinal down to the partition, one that is not ready holding up the rest.
    fn replace_outdated(&mut self, set: &StatefulSet, revision: &str) {
        for ordinal in (rollout::partition(set)..set.spec.replicas.unwrap_or_default()).rev() {
            let name = names::pod("lounge", ordinal);
            let Some(pod) = self.observed.pods.iter().find(|pod| pod.name_any() == name).cloned() else {
                return;
            };
            let outdated = rollout::is_outdated(&pod, revision);
            if outdated && pod.metadata.deletion_timestamp.is_none() {
                if pods::is_ready(&pod) {
                    let running = self.running();
                    // What a hand writes while pods are rolled goes to as many as are let, until it is undone.
                    let by_hand = build::template_hash(set) != Some(revision);
                    assert!(
                        by_hand
                            || set.spec.replicas == Some(1)
                            || self.cluster.is_whole(&running)
                            || self.cluster.can_lose(&[&names::claim(&name)], &running),
                        "{name} is rolled though a shard needs it: {:#?}",
                        self.cluster.groups
                    );
                } else if self.waits_for_bad_pods {
                    return;
                }
                self.tell_to_stop(&name);
                return;
            }
            if !pods::is_ready(&pod) {
                return;
            }
        }
    }

    /// Nodes whose processes run.
    pub(super) fn running(&self) -> Running {
        let runs =
            |pod: &&Arc<Pod>| !is_bad(pod) && !self.is_down(pod) && pod.metadata.deletion_timestamp.is_none();
        let node = |pod: &Arc<Pod>| {
            let name = pod.name_any();
            (name.clone(), (names::claim(&name), Self::host(&name)))
        };
        self.observed.pods.iter().filter(runs).map(node).collect()
    }

    fn stateful_kubelets(&mut self) {
        let running = self.running();
        for (name, (claim, _)) in &running {
            let pod = self.observed.pods.iter().find(|pod| pod.name_any() == *name).and_then(|pod| pod.uid());
            let uid = pod.expect("a stored pod has a uid");
            if self.processes.insert(claim.clone(), uid.clone()) != Some(uid) {
                self.cluster.restarted(claim);
            }
        }
        self.processes.retain(|claim, _| running.values().any(|(running, _)| running == claim));
        self.cluster.step(&running);
        for pod in self.observed.pods.clone() {
            self.kubelet(&pod, &running);
        }
    }

    fn kubelet(&mut self, pod: &Pod, running: &Running) {
        let uid = pod.uid().expect("a stored pod has a uid");
        self.forget(pod);
        if self.is_down(pod) {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase != Some("Running") {
                self.observed.nodes.insert(uid, NodeView::Silent("its pod is not running".into()));
                return self.find_no_place(pod);
            }
            if pod.metadata.deletion_timestamp.is_none() {
                self.tell_to_stop(&pod.name_any());
            }
            self.observed.nodes.insert(uid, NodeView::Silent("no answer in 3 s".into()));
            return self.set_status(
                pod,
                &json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [
                    {"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"},
                ]}),
            );
        }
        let Some((claim, _)) = running.get(&pod.name_any()) else {
            let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone());
            let waiting = json!({"phase": "Pending", "containerStatuses": [{
                "name": "chat-node", "ready": false, "restartCount": 0, "image": image, "imageID": "",
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            }]});
            self.observed.nodes.insert(uid, NodeView::Silent("its pod is not running".into()));
            if is_bad(pod) {
                self.set_status(pod, &waiting);
            }
            return;
        };
        let told = self.cluster.says(claim);
        let member = self.cluster.disks[claim].member.clone();
        let takes_part = matches!(told.membership, Membership::Member | Membership::Leaving);
        let ready = takes_part && self.cluster.is_led();
        let ready_text = if ready { "True" } else { "False" };
        self.set_status(
            pod,
            &json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [
                {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": ready_text},
            ]}),
        );
        self.observed.nodes.insert(uid.clone(), NodeView::Heard(node(member, told, ready)));
        if ready {
            self.observed.endpoints.push(Arc::new(endpoint(&uid)));
        }
    }

    /// Its volume is on a Kubernetes node that is off.
    fn find_no_place(&mut self, pod: &Pod) {
        let before = pod.status.as_ref().and_then(|status| status.conditions.as_ref()?.first().cloned());
        let unschedulable = before.filter(|condition| condition.status == "False");
        let since = unschedulable.and_then(|condition| condition.last_transition_time);
        let since = since.unwrap_or(Time(self.now));
        self.set_status(
            pod,
            &json!({"phase": "Pending", "conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/4 nodes are available", "lastTransitionTime": since,
            }]}),
        );
    }

    /// Somebody takes a Kubernetes node that is off out of the cluster: its pods are gone, and made anew elsewhere.
    pub(crate) fn delete_host(&mut self, host: &str) {
        for pod in self.observed.pods.clone() {
            if Self::host(&pod.name_any()) == host && self.is_down(&pod) {
                self.end_pod(&pod);
            }
        }
    }

    /// Volume and pod of an ordinal are lost.
    pub(crate) fn lose_disk(&mut self, ordinal: i32) {
        let name = names::pod("lounge", ordinal);
        let claim = names::claim(&name);
        self.observed.claims.retain(|found| found.name_any() != claim);
        self.cluster.disks.remove(&claim);
        self.processes.remove(&claim);
        if let Some(pod) = self.observed.pods.iter().find(|pod| pod.name_any() == name).cloned() {
            self.end_pod(&pod);
        }
    }

    /// Whether the room would survive the loss of a volume now.
    pub(crate) fn can_lose(&self, ordinal: i32) -> bool {
        self.cluster.can_lose(&[&names::claim(&names::pod("lounge", ordinal))], &self.running())
    }
}

fn is_bad(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.containers[0].image.as_ref())
        .is_some_and(|it| it.contains(BAD_IMAGE))
}

fn node(member: String, told: Cluster, ready: bool) -> NodeStatus {
    NodeStatus {
        member,
        state: if ready { NodeState::Serving } else { NodeState::Recovering },
        settings_revision: if ready { u64::MAX } else { 0 },
        durability: Durability::QuorumFsync,
        cluster: Some(told),
        ..serving_node()
    }
}

pub(super) fn claim_of(name: &str, uid: &str, size: &str) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "default", "uid": uid, "resourceVersion": size},
        "spec": {"resources": {"requests": {"storage": size}}},
        "status": {"phase": "Bound"},
    }))
    .expect("a claim")
}
