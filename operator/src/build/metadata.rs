//! Metadata that every object of a room carries.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::{names, validate::Room};

pub(super) fn of(room: &Room, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(room.namespace.clone()),
        labels: Some(names::labels(&room.name)),
        owner_references: Some(vec![room.owner.clone()]),
        ..ObjectMeta::default()
    }
}

pub(super) fn selector(room: &Room) -> LabelSelector {
    LabelSelector { match_labels: Some(names::selector(&room.name)), ..LabelSelector::default() }
}
