//! What a stateful room's change of nodes or templates waits for, and what cannot be mended from here. Pure.

use k8s_openapi::jiff::Timestamp;

use super::{conditions, verdict::Words};
use crate::{
    names,
    observe::Observed,
    plan::{
        self,
        founding::{Broken, Founding, founding},
        membership,
        rollout::Roll,
    },
    validate::{Room, Stateful},
};

/// Why the room cannot be had until somebody does something.
pub(super) fn broken(room: &Room, stateful: &Stateful, observed: &Observed) -> Option<Words> {
    let Founding::Broken(broken) = founding(&room.name, stateful, observed) else { return None };
    Some(match broken {
        Broken::VolumesLost { id } => Words::new(
            conditions::VOLUMES_LOST,
            format!(
                "all disks of the room (cluster {id}) are gone: every node has an empty volume. Restore the volumes, or delete \
                 the ChatRoom and create it again to begin with nothing"
            ),
        ),
        Broken::FounderLost { member } => Words::new(
            conditions::VOLUMES_LOST,
            format!(
                "member {member}, which was to begin the room, is gone with its disk before any other joined it. Restore its \
                 volume, or delete the ChatRoom and create it again to begin with nothing"
            ),
        ),
        Broken::VolumesMixed { ids } => {
            let own = stateful.cluster.as_ref().map(|id| format!("; this one is {id}")).unwrap_or_default();
            Words::new(
                conditions::VOLUMES_MIXED,
                format!(
                    "the nodes' volumes hold another room, or several: cluster {}{own}. Delete the \
                     PersistentVolumeClaims {} that are not of this room, and their pods",
                    ids.join(", "),
                    names::claim(&names::pod(&room.name, 0)).replace("-0", "-…"),
                ),
            )
        }
    })
}

/// What is not yet as the spec wants it, though clients may be served.
pub(super) fn unfinished(room: &Room, observed: &Observed, now: Timestamp) -> Option<Words> {
    let stateful = room.stateful()?;
    match founding(&room.name, stateful, observed) {
        Founding::Record { member } => {
            let message = format!("it is written down that member {member} begins the room");
            return Some(Words::new(conditions::FOUNDING, message));
        }
        Founding::Tell { pod, .. } => {
            return Some(Words::new(conditions::FOUNDING, format!("node {pod} is about to begin the room")));
        }
        Founding::Settled | Founding::Adopt { .. } | Founding::Broken(_) => {}
    }
    let course = membership::course(room, stateful, observed, now);
    if let Some(waits) = &course.waits {
        return Some(Words::new(conditions::CHANGING_MEMBERS, waits.clone()));
    }
    match plan::roll(room, stateful, observed, &course) {
        Roll::Waits { ordinal, missing } => Some(Words::new(
            conditions::ROLLING,
            format!(
                "pod {} is to be replaced by one of the new spec as soon as the room can miss it: {missing}",
                names::pod(&room.name, ordinal)
            ),
        )),
        Roll::Next { ordinal } | Roll::Replaces { ordinal } => Some(Words::new(
            conditions::ROLLING,
            format!("pod {} is replaced by one of the new spec", names::pod(&room.name, ordinal)),
        )),
        Roll::Unknown => {
            Some(Words::new(conditions::ROLLING, "the last pod of the new spec is not ready yet".into()))
        }
        Roll::AtRest => None,
    }
}
