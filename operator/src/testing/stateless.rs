//! The part of the model that runs stateless rooms: the Deployment controller, the store's pod, and the kubelets.

use std::{cmp::Reverse, sync::Arc};

use contract::status::{NodeState, NodeStatus};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use serde_json::json;

use super::{
    Model,
    model::{BAD_IMAGE, endpoint},
    serving_node,
};
use crate::{build, names, nodes::NodeView, plan::Rank, pods};

impl Model {
    /// What Kubernetes does of itself in a stateless room; says whether it did something.
    pub(super) fn stateless_kubernetes(&mut self) -> bool {
        let before = self.seen();
        self.store_pod();
        self.observed.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        if let Some(deployment) = self.observed.objects.deployment.clone() {
            self.roll(&deployment);
            self.count(&deployment);
        }
        self.kubelets();
        before != self.seen()
    }

    /// Panics if a Deployment is lowered while Kubernetes does not know the order in which its pods may go.
    pub(super) fn assert_ranked(&self, new: &Deployment, old: &Deployment) {
        let (new, old) = (new.spec.replicas.unwrap(), old.spec.replicas.unwrap());
        let pods: Vec<_> = self.live().collect();
        if new < old && new > 0 && pods.len() > 1 {
            for pod in pods {
                assert!(cost(pod).is_some(), "{} has no rank", pod.name_any());
            }
        }
    }

    pub(super) fn rank(&mut self, ranks: &[Rank]) {
        for Rank { pod: target, cost, at } in ranks {
            let pod = self.observed.pods.iter_mut().find(|pod| pod.uid().as_ref() == Some(&target.uid));
            let annotations = Arc::make_mut(pod.expect("the pod was seen")).annotations_mut();
            annotations.insert(names::DELETION_COST_ANNOTATION.into(), cost.to_string());
            annotations.insert(names::RANKED_ANNOTATION.into(), at.to_string());
        }
    }

    /// Gives the nodes these many connections, in the order of their pods.
    pub(crate) fn connect(&mut self, connections: &[u32]) {
        let uids: Vec<_> = self.live().filter_map(ResourceExt::uid).collect();
        for (uid, &connections) in uids.iter().zip(connections) {
            if let Some(NodeView::Heard(status)) = self.observed.nodes.get_mut(uid) {
                status.connections = connections;
            }
        }
    }

    /// A pod dies with its process, at once.
    pub(crate) fn lose_pod(&mut self, number: usize) {
        if !self.observed.pods.is_empty() {
            let pod = self.observed.pods.remove(number % self.observed.pods.len());
            self.forget(&pod);
        }
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = &Pod> {
        self.observed.pods.iter().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    fn seen(&self) -> String {
        let pods: Vec<_> =
            self.observed.pods.iter().chain(&self.observed.store_pods).map(AsRef::as_ref).collect();
        let status =
            self.observed.objects.deployment.as_ref().and_then(|deployment| deployment.status.clone());
        format!("{}{:?}", json!([pods, status]), self.observed.nodes)
    }

    fn store_pod(&mut self) {
        let Some(set) = self.observed.objects.store_stateful_set.clone() else { return };
        if self.observed.store_pods.is_empty() {
            let pod = self.pod_of(
                set.spec.template.metadata.clone(),
                set.spec.template.spec.clone(),
                "lounge-store-0",
            );
            self.observed.store_pods.push(Arc::new(pod));
            return;
        }
        let status = if self.secret { running(true) } else { creating() };
        for pod in &mut self.observed.store_pods {
            Arc::make_mut(pod).status = Some(serde_json::from_value(status.clone()).expect("a pod's status"));
        }
    }

    /// One step of the Deployment controller: maxSurge 1, maxUnavailable 0.
    fn roll(&mut self, deployment: &Deployment) {
        let revision = build::hash(&deployment.spec.template);
        let replicas = usize::try_from(deployment.spec.replicas.unwrap()).unwrap();
        let of_revision = |pod: &Pod| pod.labels().get(names::TEMPLATE_HASH_LABEL) == Some(&revision);
        let ready = self.live().filter(|pod| pods::is_ready(pod)).count();
        let (new, old) = self.live().partition::<Vec<_>, _>(|pod| of_revision(pod));
        let (new_count, live) = (new.len(), new.len() + old.len());
        let unready_old = old.iter().find(|pod| !pods::is_ready(pod)).and_then(|pod| pod.uid());
        let first = |pods: Vec<&Pod>| {
            pods.into_iter()
                .min_by_key(|pod| (pods::is_ready(pod), cost(pod).unwrap_or(0)))
                .and_then(ResourceExt::uid)
        };
        let going = if new_count > replicas {
            first(new)
        } else if unready_old.is_some() {
            unready_old
        } else if ready > replicas || live > replicas + 1 {
            first(old)
        } else {
            None
        };
        match going {
            Some(uid) => self.stop(&uid),
            None if old_is_gone(live, new_count) => {
                for _ in new_count..replicas {
                    self.start(deployment, &revision);
                }
            }
            None if new_count < replicas && live <= replicas => self.start(deployment, &revision),
            None => {}
        }
    }

    fn start(&mut self, deployment: &Deployment, revision: &str) {
        let name = format!("lounge-{}-{}", &revision[..5], self.versions);
        let template = &deployment.spec.template;
        let mut pod = self.pod_of(template.metadata.clone(), template.spec.clone(), &name);
        pod.labels_mut().insert(names::TEMPLATE_HASH_LABEL.into(), revision.into());
        self.observed.pods.push(Arc::new(pod));
    }

    fn pod_of(
        &mut self,
        metadata: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
        spec: Option<k8s_openapi::api::core::v1::PodSpec>,
        name: &str,
    ) -> Pod {
        self.versions += 1;
        let mut pod = Pod { metadata: metadata.expect("the template has labels"), spec, status: None };
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("default".into());
        pod.metadata.uid = Some(format!("pod-{}", self.versions));
        pod.metadata.resource_version = Some(self.versions.to_string());
        pod
    }

    fn stop(&mut self, uid: &str) {
        let end = Time(self.now);
        for pod in &mut self.observed.pods {
            if pod.uid().as_deref() == Some(uid) {
                Arc::make_mut(pod).metadata.deletion_timestamp = Some(end.clone());
            }
        }
        let pod = self.observed.pods.iter().find(|pod| pod.uid().as_deref() == Some(uid)).cloned();
        self.forget(&pod.expect("the pod is there"));
    }

    pub(super) fn forget(&mut self, pod: &Pod) {
        let uid = pod.uid().expect("a stored pod has a uid");
        self.observed.nodes.remove(&uid);
        self.observed.endpoints.retain(|slice| {
            slice.endpoints.iter().flatten().all(|endpoint| {
                endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref()) != Some(&uid)
            })
        });
    }

    fn count(&mut self, deployment: &Deployment) {
        let revision = build::hash(&deployment.spec.template);
        let count = |number: usize| i32::try_from(number).ok();
        let updated =
            self.live().filter(|pod| pod.labels().get(names::TEMPLATE_HASH_LABEL) == Some(&revision)).count();
        let status = DeploymentStatus {
            observed_generation: deployment.metadata.generation,
            replicas: count(self.live().count()),
            updated_replicas: count(updated),
            ..DeploymentStatus::default()
        };
        let mut deployment = deployment.clone();
        deployment.status = Some(status);
        self.observed.objects.deployment = Some(Arc::new(deployment));
    }

    fn kubelets(&mut self) {
        let managed = self.observed.objects.store_stateful_set.is_some();
        let store_runs = !managed || self.observed.store_pods.iter().any(|pod| pods::is_ready(pod));
        let away = (!store_runs).then(|| "connection refused".to_owned()).or_else(|| self.store_away.clone());
        let pods: Vec<_> = self.live().cloned().collect();
        for pod in pods {
            let image =
                pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
            if image.contains(BAD_IMAGE) {
                self.set_status(
                    &pod,
                    &json!({"phase": "Pending", "containerStatuses": [{
                        "name": "chat-node", "ready": false, "restartCount": 0, "image": image, "imageID": "",
                        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
                    }]}),
                );
            } else if managed
                && !self.secret
                && pod.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Running"))
            {
                self.set_status(&pod, &creating());
            } else {
                self.run(&pod, away.as_deref());
            }
        }
    }

    fn run(&mut self, pod: &Pod, away: Option<&str>) {
        let uid = pod.uid().expect("a stored pod has a uid");
        let before = match self.observed.nodes.get(&uid) {
            Some(NodeView::Heard(status)) => Some(status.clone()),
            _ => None,
        };
        let opened = before.clone().filter(|status| !status.member.is_empty());
        let status = match (away, opened) {
            (None, opened) => NodeStatus {
                state: NodeState::Serving,
                reason: String::new(),
                ..opened.unwrap_or_else(serving_node)
            },
            (Some(why), Some(opened)) => {
                NodeStatus { state: NodeState::ReadOnly, reason: why.into(), ..opened }
            }
            (Some(why), None) => NodeStatus {
                state: NodeState::Recovering,
                reason: format!("waiting for the store: {why}"),
                member: String::new(),
                connections: 0,
                settings_revision: 0,
                durability: contract::status::Durability::Memory,
                ..serving_node()
            },
        };
        self.forget(pod);
        self.observed.nodes.insert(uid.clone(), NodeView::Heard(status));
        if away.is_none() {
            self.observed.endpoints.push(Arc::new(endpoint(&uid)));
        }
        self.set_status(pod, &running(away.is_none()));
    }

    pub(super) fn set_status(&mut self, pod: &Pod, status: &serde_json::Value) {
        for found in &mut self.observed.pods {
            if found.uid() == pod.uid() {
                Arc::make_mut(found).status =
                    Some(serde_json::from_value(status.clone()).expect("a pod's status"));
            }
        }
    }
}

fn old_is_gone(live: usize, new: usize) -> bool {
    live == new
}

fn cost(pod: &Pod) -> Option<i32> {
    pod.annotations().get(names::DELETION_COST_ANNOTATION)?.parse().ok()
}

fn running(ready: bool) -> serde_json::Value {
    json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Ready", "status": if ready { "True" } else { "False" }},
    ]})
}

/// Its volumes are waited for.
fn creating() -> serde_json::Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]})
}

/// Pods with the most clients first, as the test reads them.
pub(crate) fn busiest_first(model: &Model) -> Vec<u32> {
    let mut connections: Vec<_> = model
        .live()
        .filter_map(|pod| match model.observed.nodes.get(&pod.uid()?) {
            Some(NodeView::Heard(status)) => Some(status.connections),
            _ => None,
        })
        .collect();
    connections.sort_by_key(|&connections| Reverse(connections));
    connections
}
