//! Secret of the store: the password, for the server and in the URL for the nodes.

use k8s_openapi::api::core::v1::Secret;

use super::{PORT, metadata_of};
use crate::{
    names,
    validate::{ManagedStore, Room},
};

/// `password` goes into a URL and a configuration file as it is, so it must be of letters and digits.
pub(in crate::build) fn build(room: &Room, store: &ManagedStore, password: &str) -> Secret {
    let host = format!("{}.{}.svc", names::store(&room.name), room.namespace);
    Secret {
        metadata: metadata_of(room, store.secret.clone()),
        type_: Some("Opaque".into()),
        string_data: Some(
            [
                (names::STORE_URL_KEY.into(), format!("redis://default:{password}@{host}:{PORT}/0")),
                (names::STORE_AUTH_KEY.into(), format!("requirepass {password}\n")),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}
