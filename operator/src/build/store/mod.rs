//! The store that the operator runs for a stateless room: one Valkey server for trying out.

pub(super) mod network_policy;
pub(super) mod secret;
pub(super) mod service;
pub(super) mod stateful_set;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::metadata;
use crate::{names, validate::Room};

pub(super) const PORT: u16 = 6379;

fn metadata_of(room: &Room, name: String) -> ObjectMeta {
    ObjectMeta { labels: Some(names::store_labels(&room.name)), ..metadata::of(room, name) }
}

pub(super) fn selector(room: &Room) -> LabelSelector {
    LabelSelector { match_labels: Some(names::store_selector(&room.name)), ..LabelSelector::default() }
}
