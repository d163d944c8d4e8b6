//! ConfigMap with the nodes' configuration file.

use contract::config::NodeConfig;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{Circumstances, metadata};
use crate::{names, validate::Room};

const HEADER: &str = "# Written by chatroom-operator from the ChatRoom; edit that instead.\n";

pub(super) fn build(room: &Room, circumstances: &Circumstances) -> ConfigMap {
    let config = NodeConfig { revision: Some(circumstances.revision), ..room.config.clone() };
    let text = serde_yaml::to_string(&config).expect("a configuration is plain data");
    ConfigMap {
        metadata: ObjectMeta {
            annotations: Some([(names::CONTROL_ANNOTATION.into(), circumstances.control.clone())].into()),
            ..metadata::of(room, names::config_map(&room.name))
        },
        data: Some([(names::CONFIG_FILE.into(), format!("{HEADER}{text}"))].into()),
        ..ConfigMap::default()
    }
}

/// Hash of the Secret that was applied before the ConfigMap was.
pub fn control_hash(config_map: &ConfigMap) -> Option<&str> {
    config_map.metadata.annotations.as_ref()?.get(names::CONTROL_ANNOTATION).map(String::as_str)
}

/// The configuration in a ConfigMap that [`build`] made; `None` if somebody broke it.
pub fn read(config_map: &ConfigMap) -> Option<NodeConfig> {
    serde_yaml::from_str(config_map.data.as_ref()?.get(names::CONFIG_FILE)?).ok()
}
