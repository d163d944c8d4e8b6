//! Service of the store. It has an address of its own, which stays when the pod gets another one.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{PORT, metadata_of};
use crate::{names, validate::Room};

pub(in crate::build) fn build(room: &Room) -> Service {
    Service {
        metadata: metadata_of(room, names::store(&room.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(names::store_selector(&room.name)),
            ports: Some(vec![ServicePort {
                name: Some("store".into()),
                app_protocol: Some("redis".into()),
                port: i32::from(PORT),
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::String("store".into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
