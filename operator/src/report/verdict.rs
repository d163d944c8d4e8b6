//! What a reconcile came to, in the user's words: ready or not, what is on its way, what will not change by itself. Pure.

use k8s_openapi::{
    api::apps::v1::{Deployment, StatefulSet},
    jiff::Timestamp,
};
use kube::ResourceExt;

use super::{
    conditions,
    events::PASSING,
    nodes::{self, Nodes},
    stateful,
    status::Result,
    store::{self, StoreKind},
};
use crate::{
    apply::Outcome,
    build, names,
    observe::Observed,
    plan::{Step, membership, scale, storage},
    pods::Trouble,
    quantity,
    validate::{Room, Shape, Store, UserError},
};

pub(super) struct Verdict {
    pub ready: bool,
    pub reason: String,
    pub message: String,
    /// What the operator brings about; reason and message.
    pub reconciling: Option<Words>,
    /// What will not change by itself.
    pub stalled: Option<Words>,
}

#[derive(Clone)]
pub(super) struct Words {
    pub reason: String,
    pub message: String,
}

impl Words {
    pub(super) fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.into(), message }
    }
}

pub(super) fn verdict(nodes: &Nodes, observed: &Observed, result: Result<'_>, now: Timestamp) -> Verdict {
    let (room, outcome) = match result {
        Result::Invalid(errors) => return invalid(errors, nodes),
        Result::Applied(room, outcome) => (room, outcome),
    };
    if let Some(refusal) = outcome.refusals.first() {
        let message = format!("the API server refuses {}: {}", refusal.object, refusal.message);
        return Verdict {
            ready: false,
            reason: conditions::REFUSED.into(),
            message: message.clone(),
            reconciling: None,
            stalled: Some(Words::new(conditions::REFUSED, message)),
        };
    }
    if let Some(object) = observed.leaving.first() {
        let message = format!("{object} of an earlier room of this name is still being deleted");
        return Verdict {
            ready: false,
            reason: conditions::WAITING_FOR_DELETION.into(),
            message: message.clone(),
            reconciling: Some(Words::new(conditions::WAITING_FOR_DELETION, message)),
            stalled: None,
        };
    }
    if let Some(words) = room.stateful().and_then(|stateful| stateful::broken(room, stateful, observed)) {
        return Verdict {
            ready: false,
            reason: words.reason.clone(),
            message: words.message.clone(),
            reconciling: None,
            stalled: Some(words),
        };
    }
    let wanted = wanted(room, observed);
    let ready = wanted > 0 && nodes.serving >= wanted;
    let trouble = nodes.trouble.as_ref();
    let Words { reason, message } = if ready {
        Words::new(conditions::SERVING, format!("{}{}", way_in(room), reservations(room, observed)))
    } else {
        why_not(room, nodes, wanted)
    };
    let stalled = trouble
        .filter(|trouble| trouble.lasting)
        .map(|trouble| Words::new(&trouble.reason, trouble.message.clone()))
        .or_else(|| growth_refused(room, outcome))
        .or_else(|| stuck_deployment(nodes, observed));
    let reconciling = if room.paused || stalled.is_some() {
        None
    } else {
        match (unfinished(room, observed, outcome, now), trouble) {
            (Some(words), Some(trouble)) => Some(held_up(words, trouble)),
            (Some(words), None) => Some(words),
            (None, trouble) => trouble.and_then(|trouble| on_the_way(trouble, room, wanted, ready)),
        }
    };
    Verdict { ready, reason, message, reconciling, stalled }
}

/// How many nodes there are to be, as far as the operator makes them.
fn wanted(room: &Room, observed: &Observed) -> i32 {
    match &room.shape {
        Shape::Stateful(stateful) => membership::wished(room.wish, stateful.voters(), observed),
        Shape::Stateless(_) if room.paused => {
            scale::replicas(observed).unwrap_or_else(|| scale::wished(room.wish, observed))
        }
        Shape::Stateless(_) => scale::wished(room.wish, observed),
    }
}

/// What a room that is not ready waits for.
fn why_not(room: &Room, nodes: &Nodes, wanted: i32) -> Words {
    if wanted == 0 {
        return Words::new(
            conditions::SCALED_TO_ZERO,
            format!(
                "spec.replicas is 0, so that no node runs: `kubectl scale chatroom {} --replicas=1` brings it back",
                room.name
            ),
        );
    }
    let serve = format!("{} of {wanted} nodes serve", nodes.serving);
    match &nodes.trouble {
        Some(trouble) if wanted == 1 => Words::new(&trouble.reason, trouble.message.clone()),
        Some(trouble) => Words::new(&trouble.reason, format!("{serve}: {}", trouble.message)),
        None => {
            Words::new(conditions::SCALING, format!("{serve}: {} is to bring up the others", workload(room)))
        }
    }
}

fn workload(room: &Room) -> String {
    match room.shape {
        Shape::Stateful(_) => format!("StatefulSet {}", names::stateful_set(&room.name)),
        Shape::Stateless(_) => format!("Deployment {}", names::deployment(&room.name)),
    }
}

/// What is on its way, with what stands in it: a room may serve on while its newest node cannot start.
fn held_up(words: Words, trouble: &Trouble) -> Words {
    if PASSING.contains(&trouble.reason.as_str()) || words.message.contains(&trouble.message) {
        return words;
    }
    Words::new(&trouble.reason, format!("{}: {}", words.message, trouble.message))
}

/// Whether what a node waits for means that the room is still on its way.
fn on_the_way(trouble: &Trouble, room: &Room, wanted: i32, ready: bool) -> Option<Words> {
    let stateless = matches!(room.shape, Shape::Stateless(_));
    // Another node took the place of one that was lost with its Kubernetes node; or there is to be none.
    let settled = (ready && trouble.reason == conditions::NODE_LOST)
        || (wanted == 0 && trouble.reason == conditions::CREATING);
    (!(stateless && settled)).then(|| Words::new(&trouble.reason, trouble.message.clone()))
}

/// What the user of a room that serves has to know of its store.
fn reservations(room: &Room, observed: &Observed) -> String {
    let (store, managed) = match &room.shape {
        Shape::Stateful(_) => return String::new(),
        Shape::Stateless(Store::Managed(_)) => (StoreKind::Managed, true),
        Shape::Stateless(Store::Valkey(_)) => (StoreKind::Valkey, false),
    };
    let weak = store::observed_durability(observed).and_then(|durability| store::weakness(store, durability));
    let trial = managed.then(|| "its store is one small server, for trying out".to_owned());
    [trial, weak].into_iter().flatten().map(|words| format!("; {words}")).collect()
}

/// A Deployment that has given up on its newest template.
fn stuck_deployment(nodes: &Nodes, observed: &Observed) -> Option<Words> {
    let deployment = observed.objects.deployment.as_deref()?;
    let status = deployment.status.as_ref()?;
    let gave_up = nodes::deployment_condition(deployment, "Progressing", "False")?;
    if status.observed_generation < deployment.metadata.generation {
        return None;
    }
    let why = match &nodes.trouble {
        Some(trouble) => trouble.message.clone(),
        None => gave_up.message.clone().unwrap_or_default(),
    };
    Some(Words::new(
        conditions::DEADLINE_EXCEEDED,
        format!("Deployment {} makes no progress: {why}", deployment.name_any()),
    ))
}

fn invalid(errors: &[UserError], nodes: &Nodes) -> Verdict {
    let taken = matches!(errors.first(), Some(UserError::NameTaken { .. }));
    let reason = if taken { conditions::NAME_TAKEN } else { conditions::INVALID_SPEC };
    let mut message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if nodes.serving > 0 {
        message.push_str(". The nodes go on as they are");
    }
    Verdict {
        ready: false,
        reason: reason.into(),
        message: message.clone(),
        reconciling: None,
        stalled: Some(Words::new(reason, message)),
    }
}

fn way_in(room: &Room) -> String {
    let host = format!("{}.{}", names::client_service(&room.name), room.namespace);
    let ways: Vec<_> =
        room.ports.named().into_iter().map(|(name, port)| format!("{host}:{port} ({name})")).collect();
    format!("clients can join at {}", ways.join(" and "))
}

fn growth_refused(room: &Room, outcome: &Outcome) -> Option<Words> {
    let refusal = outcome.growth_refused.as_ref()?;
    Some(Words::new(
        conditions::GROWTH_REFUSED,
        format!(
            "{} cannot grow to {}: set spec.mode.stateful.storage.size back to status.volumeSize, or let its \
             StorageClass allow expansion ({})",
            refusal.object,
            room.volume()?.size.0,
            refusal.message
        ),
    ))
}

/// What is not yet as the spec wants it, though clients may be served.
fn unfinished(room: &Room, observed: &Observed, outcome: &Outcome, now: Timestamp) -> Option<Words> {
    if let Some(refusal) = &outcome.disobeyed {
        let message = format!("{} does not do what it is told: {}", refusal.object, refusal.message);
        return Some(Words::new(conditions::NODE_REFUSES, message));
    }
    if let Some(step) = &outcome.stepped {
        return Some(match step {
            Step::TellFounder { pod, .. } => {
                Words::new(conditions::FOUNDING, format!("node {pod} begins the room"))
            }
            Step::RemoveMember { name, because, .. } => Words::new(
                conditions::CHANGING_MEMBERS,
                format!("node {name} was ordered to leave the room: {because}"),
            ),
            Step::RestartRemoved { target } => Words::new(
                conditions::CHANGING_MEMBERS,
                format!("pod {} is replaced, so that its node joins the room again", target.name),
            ),
            Step::DeleteClaim { target } => Words::new(
                conditions::CHANGING_MEMBERS,
                format!("PersistentVolumeClaim {} of a node that left is deleted", target.name),
            ),
            Step::DeleteStuckPod { target, because } => Words::new(
                conditions::ROLLING,
                format!("pod {} is replaced because it was stuck: {because}", target.name),
            ),
            Step::RankPods { .. } => Words::new(
                conditions::SCALING,
                format!("nodes are stopped until {} are left, emptiest first", wanted(room, observed)),
            ),
            Step::GrowClaim { target, size } => Words::new(
                conditions::GROWING,
                format!("PersistentVolumeClaim {} grows to {size}", target.name),
            ),
            Step::ReplaceStatefulSet { target } => Words::new(
                conditions::GROWING,
                format!("StatefulSet {} is replaced for a larger claim template; its pods stay", target.name),
            ),
        });
    }
    if outcome.workload_written {
        return Some(Words::new(conditions::ROLLING, format!("{} was written", workload(room))));
    }
    if let Some(deployment) = observed.objects.deployment.as_deref() {
        return deploying(deployment, wanted(room, observed)).or_else(|| settings_pending(observed));
    }
    let set = observed.objects.stateful_set.as_deref()?;
    unseen(set)
        .or_else(|| stateful::unfinished(room, observed, now))
        .or_else(|| settings_pending(observed))
        .or_else(|| growing(room, observed))
}

/// What the Deployment controller is still about.
fn deploying(deployment: &Deployment, wanted: i32) -> Option<Words> {
    let name = deployment.name_any();
    let status = deployment.status.as_ref();
    if status.and_then(|status| status.observed_generation) < deployment.metadata.generation {
        return Some(Words::new(
            conditions::ROLLING,
            format!("Deployment {name} was not looked at by Kubernetes yet"),
        ));
    }
    let replicas = deployment.spec.replicas.unwrap_or_default();
    let have = status.and_then(|status| status.replicas).unwrap_or_default();
    let updated = status.and_then(|status| status.updated_replicas).unwrap_or_default();
    if have > updated || updated < replicas.min(have) {
        return Some(Words::new(
            conditions::ROLLING,
            format!("{updated} of {replicas} nodes of Deployment {name} are of the new spec"),
        ));
    }
    (have != replicas || replicas != wanted).then(|| {
        Words::new(conditions::SCALING, format!("Deployment {name} has {have} nodes and is to have {wanted}"))
    })
}

/// A claim whose volume is still smaller than what it asks for.
fn growing(room: &Room, observed: &Observed) -> Option<Words> {
    observed.claims.iter().filter(|claim| storage::is_used(claim, &room.name, observed)).find_map(|claim| {
        let wanted = storage::requested(claim)?;
        let has = claim.status.as_ref()?.capacity.as_ref()?.get("storage")?;
        (quantity::milli(&has.0)? < quantity::milli(&wanted.0)?).then(|| {
            Words::new(
                conditions::GROWING,
                format!("PersistentVolumeClaim {} grows from {} to {}", claim.name_any(), has.0, wanted.0),
            )
        })
    })
}

/// A StatefulSet that Kubernetes is still about.
fn unseen(set: &StatefulSet) -> Option<Words> {
    let name = set.name_any();
    if set.metadata.deletion_timestamp.is_some() {
        return Some(Words::new(
            conditions::GROWING,
            format!("StatefulSet {name} is being replaced; its pods stay"),
        ));
    }
    let status = set.status.as_ref();
    (status.and_then(|status| status.observed_generation) < set.metadata.generation).then(|| {
        Words::new(conditions::ROLLING, format!("StatefulSet {name} was not looked at by Kubernetes yet"))
    })
}

/// A node that serves with older settings than the room's.
fn settings_pending(observed: &Observed) -> Option<Words> {
    let config = observed.objects.config_map.as_deref().and_then(build::read_config)?;
    let wanted = config.revision?;
    let behind = observed.pods.iter().find(|pod| {
        let view = pod.uid().and_then(|uid| observed.nodes.get(&uid));
        nodes::heard(view).is_some_and(|status| store::has_log(status) && status.settings_revision < wanted)
    })?;
    Some(Words::new(
        conditions::ROLLING,
        format!("node {} has not applied the newest chat settings yet", behind.name_any()),
    ))
}
