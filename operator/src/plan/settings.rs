//! The revision of the chat settings: nodes take settings only under a higher one than they have.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::{build, validate::Room};

/// The revision for the room's settings: the one they have, or a higher one if they changed.
///
/// It is a time (seconds), not the generation: a room that is deleted and made anew on the volumes it left begins
/// with generation 1 again, and its nodes would not listen.
pub(super) fn revision(room: &Room, config_map: Option<&ConfigMap>, now: Timestamp) -> u64 {
    let stored = config_map.and_then(build::read_config);
    let now = u64::try_from(now.as_second()).unwrap_or_default();
    match stored.and_then(|config| config.revision.map(|revision| (revision, config.chat))) {
        Some((revision, chat)) if chat == room.config.chat => revision,
        Some((revision, _)) => now.max(revision + 1),
        None => now,
    }
}
