//! ConfigMap with the nodes' configuration file.

use contract::config::NodeConfig;
use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::{names, validate::Room};

const HEADER: &str = "# Written by chatroom-operator from the ChatRoom; edit that instead.\n";

pub(super) fn build(room: &Room, revision: u64) -> ConfigMap {
    let config = NodeConfig { revision: Some(revision), ..room.config.clone() };
    let text = serde_yaml::to_string(&config).expect("a configuration is plain data");
    ConfigMap {
        metadata: metadata::of(room, names::config_map(&room.name)),
        data: Some([(names::CONFIG_FILE.into(), format!("{HEADER}{text}"))].into()),
        ..ConfigMap::default()
    }
}

/// The configuration in a ConfigMap that [`build`] made; `None` if somebody broke it.
pub fn read(config_map: &ConfigMap) -> Option<NodeConfig> {
    serde_yaml::from_str(config_map.data.as_ref()?.get(names::CONFIG_FILE)?).ok()
}
