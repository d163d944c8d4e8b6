//! StatefulSet: the nodes of a stateful room, each with a volume.

use k8s_openapi::{
    api::apps::v1::{
        RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy,
        StatefulSetSpec, StatefulSetUpdateStrategy,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::{Circumstances, hash, metadata, node_pod, volumes};
use crate::{
    api::Retain,
    names,
    validate::{Room, Volume},
};

pub(super) fn build(
    room: &Room,
    volume: &Volume,
    template_size: &Quantity,
    circumstances: &Circumstances,
) -> StatefulSet {
    let template = node_pod::template(room);
    let mut metadata = metadata::of(room, names::stateful_set(&room.name));
    metadata.annotations = Some([(names::TEMPLATE_ANNOTATION.into(), hash(&template))].into());
    StatefulSet {
        metadata,
        spec: StatefulSetSpec {
            replicas: Some(circumstances.replicas),
            service_name: Some(names::peer_service(&room.name)),
            selector: super::metadata::selector(room),
            // With OrderedReady a pod of a bad template is never replaced (kubernetes/kubernetes#67250).
            pod_management_policy: Some("Parallel".into()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(circumstances.partition),
                    max_unavailable: None,
                }),
            }),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some(
                    match volume.retain {
                        Retain::Retain => "Retain",
                        Retain::Delete => "Delete",
                    }
                    .into(),
                ),
                // A claim may only go when its member is out, which Kubernetes cannot know.
                when_scaled: Some("Retain".into()),
            }),
            revision_history_limit: Some(3),
            template,
            volume_claim_templates: Some(vec![volumes::claim_template(
                names::labels(&room.name),
                volume.class_name.as_ref(),
                template_size,
            )]),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}
