//! ServiceAccount of the nodes: an identity without rights and without a token.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::{names, validate::Room};

pub(super) fn build(room: &Room) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata::of(room, names::service_account(&room.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
