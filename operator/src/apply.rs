//! Fourth stage: writes what the plan says, in a fixed order: objects, then the seed, then the step.
//!
//! Nothing is pruned: which kinds a room has follows from what its author cannot change. When that ends, a kind is pruned
//! here, after the step, by label and owner.

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        autoscaling::v1::{Scale, ScaleSpec},
        core::v1::{PersistentVolumeClaim, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};

use crate::{
    api::ChatRoom,
    build::{self, Objects},
    error::{Error, refusal},
    metrics::Metrics,
    names,
    nodes::{Followers, Order},
    plan::{Certificates, Change, Plan, Rank, Step, Target},
    validate::Room,
};

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Objects that were written, in order.
    pub written: Vec<String>,
    /// Whether the nodes' StatefulSet or Deployment was among them: its status then speaks of an older one.
    pub workload_written: bool,
    /// The step, if it was taken.
    pub stepped: Option<Step>,
    /// Objects that the API server will not take as they are.
    pub refusals: Vec<Refusal>,
    /// A claim that may not grow.
    pub growth_refused: Option<Refusal>,
    /// A node that was told something and does not do it.
    pub disobeyed: Option<Refusal>,
}

/// What the API server said of an object, or a node of what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub object: String,
    pub message: String,
}

pub async fn apply(
    client: &Client,
    followers: &Followers,
    metrics: &Metrics,
    chat_room: &ChatRoom,
    room: &Room,
    plan: Plan,
) -> Result<Outcome, Error> {
    let Plan { offer_secret, certificates, objects, seed, step } = plan;
    let Objects {
        service_account,
        config_map,
        client_service,
        network_policy,
        stateful_set,
        peer_service,
        deployment,
        disruption_budget,
        store_service,
        store_network_policy,
        store_stateful_set,
    } = objects;
    let namespace = &room.namespace;
    let mut writer = Writer { client, followers, metrics, namespace, outcome: Outcome::default() };
    if !writer.certificates(certificates).await? {
        // The ConfigMap would say that they were written, and pods would wait for them in vain.
        return Ok(writer.outcome);
    }
    writer.write(service_account).await?;
    writer.write(config_map).await?;
    writer.write(network_policy).await?;
    writer.write(store_network_policy).await?;
    if let Some(store) = room.managed_store().filter(|_| offer_secret) {
        writer.offer_secret(&build::store_secret(room, store, &password()?)).await?;
    }
    writer.write(store_service).await?;
    writer.write(store_stateful_set).await?;
    writer.write(peer_service).await?;
    writer.write(client_service).await?;
    writer.write(disruption_budget).await?;
    let stateful_set = writer.write(stateful_set).await?;
    let deployment = writer.write(deployment).await?;
    writer.outcome.workload_written = stateful_set || deployment;
    if let Some(replicas) = seed {
        writer.seed(chat_room, replicas).await?;
    }
    if let Some(step) = step {
        writer.step(step).await?;
    }
    Ok(writer.outcome)
}

struct Writer<'a> {
    client: &'a Client,
    followers: &'a Followers,
    metrics: &'a Metrics,
    namespace: &'a str,
    outcome: Outcome,
}

impl Writer<'_> {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Applies an object that has to be written; says whether it was.
    async fn write<K>(&mut self, change: Change<K>) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let Some(object) = change else { return Ok(false) };
        let kind = K::kind(&());
        let name = object.meta().name.clone().unwrap_or_default();
        self.metrics.wrote(&kind);
        // By force: the fields are the operator's, whoever touched them.
        let params = PatchParams::apply(names::OPERATOR).force();
        match self.api::<K>().patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => {
                self.outcome.written.push(format!("{kind} {name}"));
                Ok(true)
            }
            Err(error) => match refusal(&error) {
                Some(message) => {
                    self.outcome.refusals.push(Refusal { object: format!("{kind} {name}"), message });
                    Ok(false)
                }
                None => Err(Error::write(&kind, &name, error)),
            },
        }
    }

    /// Writes the Secrets with certificates; says whether all were taken.
    async fn certificates(&mut self, certificates: Option<Certificates>) -> Result<bool, Error> {
        let mut taken = true;
        match certificates {
            Some(Certificates::Apply(secrets)) => {
                for secret in &secrets {
                    taken &= self.apply_secret(secret).await?;
                }
            }
            Some(Certificates::Offer(secrets)) => {
                for secret in &secrets {
                    taken &= self.offer_secret(secret).await?;
                }
            }
            None => {}
        }
        Ok(taken)
    }

    /// Writes a Secret without seeing it again; says whether it was taken.
    async fn apply_secret(&mut self, secret: &Secret) -> Result<bool, Error> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        self.metrics.wrote("Secret");
        let params = PatchParams::apply(names::OPERATOR).force();
        match self.api::<Secret>().patch_metadata(name, &params, &Patch::Apply(secret)).await {
            Ok(_) => {
                self.outcome.written.push(format!("Secret {name}"));
                Ok(true)
            }
            Err(error) => self.secret_refused(name, error),
        }
    }

    /// Makes a Secret if there is none of that name; says whether there is one then. One that is there is neither read nor
    /// changed.
    async fn offer_secret(&mut self, secret: &Secret) -> Result<bool, Error> {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let params = PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() };
        self.metrics.wrote("Secret");
        match self.api::<Secret>().create(&params, secret).await {
            Ok(_) => self.outcome.written.push(format!("Secret {name}")),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return self.secret_refused(name, error),
        }
        Ok(true)
    }

    fn secret_refused(&mut self, name: &str, error: kube::Error) -> Result<bool, Error> {
        let Some(message) = refusal(&error) else { return Err(Error::write("Secret", name, error)) };
        self.outcome.refusals.push(Refusal { object: format!("Secret {name}"), message });
        Ok(false)
    }

    /// Gives the room the replicas it does not have: `/scale` cannot be read without them.
    async fn seed(&mut self, chat_room: &ChatRoom, replicas: i32) -> Result<(), Error> {
        let ObjectMeta { name, namespace, uid, resource_version, .. } = chat_room.metadata.clone();
        let name = name.unwrap_or_default();
        let scale = Scale {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace,
                uid,
                resource_version,
                ..ObjectMeta::default()
            },
            spec: Some(ScaleSpec { replicas: Some(replicas) }),
            status: None,
        };
        let params = PostParams { field_manager: Some(names::OPERATOR.into()), ..PostParams::default() };
        self.metrics.wrote("Scale");
        match self.api::<ChatRoom>().replace_scale(&name, &params, &scale).await {
            Ok(_) => {
                self.outcome.written.push(format!("replicas of ChatRoom {name}"));
                Ok(())
            }
            // Somebody else wrote the room first, perhaps its replicas; that write brings us back.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(Error::write("scale of ChatRoom", &name, error)),
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), Error> {
        let done = match &step {
            Step::TellFounder { pod, uid, member } => self.order(pod, uid, Order::Found { member }).await,
            Step::RemoveMember { pod, uid, member, .. } => {
                self.order(pod, uid, Order::Remove { member }).await
            }
            Step::DeleteStuckPod { target, .. } | Step::RestartRemoved { target } => {
                self.delete::<Pod>("Pod", target, DeleteParams::default()).await?
            }
            Step::DeleteClaim { target } => {
                let params = DeleteParams::default();
                self.delete::<PersistentVolumeClaim>("PersistentVolumeClaim", target, params).await?
            }
            Step::ReplaceStatefulSet { target } => {
                self.delete::<StatefulSet>("StatefulSet", target, DeleteParams::orphan()).await?
            }
            Step::GrowClaim { target, size } => self.grow(target, size).await?,
            Step::RankPods { ranks } => self.rank(ranks).await?,
        };
        if done {
            self.outcome.stepped = Some(step);
        }
        Ok(())
    }

    /// Tells a node something; says whether it does it. What it does not do is told, and tried again.
    async fn order(&mut self, pod: &str, uid: &str, order: Order<'_>) -> bool {
        match self.followers.order(uid, order).await {
            Ok(()) => true,
            Err(message) => {
                self.outcome.disobeyed = Some(Refusal { object: format!("node {pod}"), message });
                false
            }
        }
    }

    /// Deletes the object at the version the step was decided for; says whether it was that one.
    async fn delete<K>(&self, kind: &str, target: &Target, params: DeleteParams) -> Result<bool, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let params = params.preconditions(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: Some(target.resource_version.clone()),
        });
        self.metrics.wrote(kind);
        match self.api::<K>().delete(&target.name, &params).await {
            Ok(_) => Ok(true),
            // It changed or went: what is there now is looked at when the watch brings it.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(Error::write(kind, &target.name, error)),
        }
    }

    /// Writes the pods' ranks; says whether a pod got one.
    async fn rank(&self, ranks: &[Rank]) -> Result<bool, Error> {
        let params = PatchParams { field_manager: Some(names::OPERATOR.into()), ..PatchParams::default() };
        let mut ranked = false;
        for Rank { pod, cost, at } in ranks {
            // Without a version: a pod's status changes often, and it stays the same pod.
            let patch = serde_json::json!({"metadata": {"uid": pod.uid, "annotations": {
                names::DELETION_COST_ANNOTATION: cost.to_string(),
                names::RANKED_ANNOTATION: at.to_string(),
            }}});
            self.metrics.wrote("Pod");
            match self.api::<Pod>().patch_metadata(&pod.name, &params, &Patch::Merge(patch)).await {
                Ok(_) => ranked = true,
                // It went.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(Error::write("Pod", &pod.name, error)),
            }
        }
        Ok(ranked)
    }

    async fn grow(&mut self, target: &Target, size: &str) -> Result<bool, Error> {
        let patch = serde_json::json!({
            "metadata": {"uid": target.uid, "resourceVersion": target.resource_version},
            "spec": {"resources": {"requests": {"storage": size}}},
        });
        let params = PatchParams { field_manager: Some(names::OPERATOR.into()), ..PatchParams::default() };
        self.metrics.wrote("PersistentVolumeClaim");
        let claims = self.api::<PersistentVolumeClaim>();
        match claims.patch(&target.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => match refusal(&error) {
                Some(message) => {
                    let object = format!("PersistentVolumeClaim {}", target.name);
                    self.outcome.growth_refused = Some(Refusal { object, message });
                    Ok(false)
                }
                None => Err(Error::write("PersistentVolumeClaim", &target.name, error)),
            },
        }
    }
}

/// 256 random bits in hexadecimal digits.
fn password() -> Result<String, Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Bug(format!("the system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
