//! Secrets with certificates that the operator signs. They are applied and never read.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::metadata;
use crate::{control::NodeFiles, names, validate::Room};

pub(super) fn build(room: &Room, name: String, files: &NodeFiles) -> Secret {
    let NodeFiles { certificate, key, authorities } = files;
    let data = [
        (names::CERTIFICATE_KEY, certificate),
        (names::PRIVATE_KEY_KEY, key),
        (names::AUTHORITIES_KEY, authorities),
    ];
    Secret {
        metadata: metadata::of(room, name),
        type_: Some("kubernetes.io/tls".into()),
        data: Some(
            data.into_iter().map(|(key, text)| (key.into(), ByteString(text.clone().into_bytes()))).collect(),
        ),
        ..Secret::default()
    }
}
