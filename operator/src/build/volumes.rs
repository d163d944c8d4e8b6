//! Volumes and mounts of pods.

use k8s_openapi::{
    api::core::v1::{
        ConfigMapVolumeSource, KeyToPath, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        SecretVolumeSource, Volume, VolumeMount, VolumeResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use crate::names;

/// Only the pod's own user, through its group.
const SECRET_MODE: i32 = 0o440;

/// One key of a Secret as a file. Its whole directory is mounted, so that a new value reaches a running pod.
pub(super) fn secret_key(volume: &str, secret: &str, key: &str, file: &str) -> Volume {
    secret_items(volume, secret, vec![item(key, file)])
}

/// Keys of a Secret as files of the same names; as for [`secret_key`]. A pod does not start before all of them are there.
pub(super) fn secret_keys(volume: &str, secret: &str, keys: &[&str]) -> Volume {
    secret_items(volume, secret, keys.iter().map(|key| item(key, key)).collect())
}

fn secret_items(volume: &str, secret: &str, items: Vec<KeyToPath>) -> Volume {
    Volume {
        name: volume.into(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.into()),
            default_mode: Some(SECRET_MODE),
            items: Some(items),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// One key of a ConfigMap as a file.
pub(super) fn config_map_key(volume: &str, config_map: &str, key: &str, file: &str) -> Volume {
    Volume {
        name: volume.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            items: Some(vec![item(key, file)]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// All keys of a ConfigMap as files.
pub(super) fn config_map(volume: &str, config_map: &str) -> Volume {
    Volume {
        name: volume.into(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.into(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn item(key: &str, file: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: file.into(), ..KeyToPath::default() }
}

pub(super) fn mount(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { name: volume.into(), mount_path: path.into(), ..VolumeMount::default() }
}

pub(super) fn read_only(volume: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(volume, path) }
}

/// The claim of each pod of a StatefulSet: `data-<pod>`.
pub(super) fn claim_template(
    labels: std::collections::BTreeMap<String, String>,
    class_name: Option<&String>,
    size: &Quantity,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::DATA_VOLUME.into()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: class_name.cloned(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".into(), size.clone())].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
