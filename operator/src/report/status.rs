//! The status of a room. Pure.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::apps::v1::StatefulSet,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;

use super::{
    conditions::{self, Claim},
    nodes::{self, Nodes},
};
use crate::{
    api::{ChatRoom, ChatRoomStatus, Durability, Guarantees, Order, Tolerates},
    apply::Outcome,
    build, names,
    observe::Observed,
    plan::{Step, rollout, storage},
    pods, quantity,
    validate::{Room, UserError},
};

/// How long a room may take to become ready before it counts as stalled.
const PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// What a reconcile came to.
#[derive(Clone, Copy, Debug)]
pub enum Result<'a> {
    /// The spec cannot be carried out; nothing was written.
    Invalid(&'a [UserError]),
    /// The plan was carried out as far as the API server let it.
    Applied(&'a Room, &'a Outcome),
}

/// The status, with live counters as they are now.
pub fn status(
    chat_room: &ChatRoom,
    observed: &Observed,
    result: Result<'_>,
    now: Timestamp,
) -> ChatRoomStatus {
    let name = chat_room.name_any();
    let generation = chat_room.metadata.generation.unwrap_or_default();
    let old = chat_room.status.as_ref();
    let old_conditions = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let nodes = nodes::look(&name, observed, now);
    let verdict = verdict(&nodes, observed, result);
    let stalled = verdict.stalled.clone().or_else(|| overdue(&verdict, old_conditions, now));
    let summary = summary(&verdict, stalled.as_ref(), result);
    let message = match (&stalled, &verdict.reconciling) {
        (Some(words), _) | (None, Some(words)) if verdict.ready => words.message.clone(),
        _ => verdict.message.clone(),
    };
    let claims = claims(&verdict, stalled, chat_room);
    ChatRoomStatus {
        observed_generation: generation,
        summary,
        message,
        mode: Some("stateful".into()),
        replicas: i32::try_from(nodes.rows.len()).unwrap_or(i32::MAX),
        selector: names::selector_text(&name),
        ready_replicas: nodes.serving,
        connections: nodes.rows.iter().map(|row| row.connections).fold(0, u32::saturating_add),
        counters_at: None,
        version: version(&nodes),
        volume_size: volume_size(observed),
        guarantees: Some(guarantees(&nodes, observed, old, now)),
        nodes: nodes.rows,
        conditions: conditions::with_times(claims, old_conditions, generation, &Time(now)),
    }
}

/// When a room that is not ready becomes overdue.
fn overdue_at(conditions: &[Condition]) -> Option<Timestamp> {
    let ready = conditions::find(conditions, conditions::READY)?;
    (ready.status == "False").then(|| ready.last_transition_time.0 + PROGRESS_DEADLINE)
}

/// When the status changes by the mere passing of time.
pub fn turns_at(status: &ChatRoomStatus, observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let pods = observed.pods.iter().filter_map(|pod| pods::lost_at(pod));
    overdue_at(&status.conditions).into_iter().chain(pods).filter(|&at| at > now).min()
}

struct Verdict {
    ready: bool,
    reason: String,
    message: String,
    /// What the operator brings about; reason and message.
    reconciling: Option<Words>,
    /// What will not change by itself.
    stalled: Option<Words>,
}

#[derive(Clone)]
struct Words {
    reason: String,
    message: String,
}

impl Words {
    fn new(reason: &str, message: String) -> Self {
        Self { reason: reason.into(), message }
    }
}

fn verdict(nodes: &Nodes, observed: &Observed, result: Result<'_>) -> Verdict {
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
    let ready = nodes.serving > 0;
    let trouble = nodes.trouble.as_ref();
    let (reason, message) = match trouble {
        Some(trouble) if !ready => (trouble.reason.clone(), trouble.message.clone()),
        _ => (conditions::SERVING.into(), way_in(room)),
    };
    let stalled = trouble
        .filter(|trouble| trouble.lasting)
        .map(|trouble| Words::new(&trouble.reason, trouble.message.clone()))
        .or_else(|| growth_refused(room, outcome));
    let reconciling = if room.paused || stalled.is_some() {
        None
    } else {
        unfinished(room, observed, outcome)
            .or_else(|| trouble.map(|trouble| Words::new(&trouble.reason, trouble.message.clone())))
    };
    Verdict { ready, reason, message, reconciling, stalled }
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
    let ways = [("irc", room.irc_port), ("web", room.web_port)];
    let ways: Vec<_> = ways
        .into_iter()
        .filter_map(|(name, port)| port.map(|port| format!("{host}:{port} ({name})")))
        .collect();
    format!("clients can join at {}", ways.join(" and "))
}

fn growth_refused(room: &Room, outcome: &Outcome) -> Option<Words> {
    let refusal = outcome.growth_refused.as_ref()?;
    Some(Words::new(
        conditions::GROWTH_REFUSED,
        format!(
            "{} cannot grow to {}: set spec.mode.stateful.storage.size back to status.volumeSize, or let its \
             StorageClass allow expansion ({})",
            refusal.object, room.storage.size.0, refusal.message
        ),
    ))
}

/// What is not yet as the spec wants it, though clients may be served.
fn unfinished(room: &Room, observed: &Observed, outcome: &Outcome) -> Option<Words> {
    if let Some(step) = &outcome.stepped {
        return Some(match step {
            Step::DeleteStuckPod { target, because } => Words::new(
                conditions::ROLLING,
                format!("pod {} is replaced because it was stuck: {because}", target.name),
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
        return Some(Words::new(
            conditions::ROLLING,
            format!("StatefulSet {} was written", names::stateful_set(&room.name)),
        ));
    }
    let set = observed.objects.stateful_set.as_deref()?;
    rolling(set, observed).or_else(|| settings_pending(observed)).or_else(|| growing(observed))
}

/// A claim whose volume is still smaller than what it asks for.
fn growing(observed: &Observed) -> Option<Words> {
    observed.claims.iter().find_map(|claim| {
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

fn rolling(set: &StatefulSet, observed: &Observed) -> Option<Words> {
    let name = set.name_any();
    if set.metadata.deletion_timestamp.is_some() {
        return Some(Words::new(
            conditions::GROWING,
            format!("StatefulSet {name} is being replaced; its pods stay"),
        ));
    }
    let status = set.status.as_ref();
    if status.and_then(|status| status.observed_generation) < set.metadata.generation {
        return Some(Words::new(
            conditions::ROLLING,
            format!("StatefulSet {name} was not looked at by Kubernetes yet"),
        ));
    }
    let update = status?.update_revision.as_deref()?;
    let outdated = observed.pods.iter().find(|pod| rollout::is_outdated(pod, update))?;
    Some(Words::new(
        conditions::ROLLING,
        format!("pod {} is to be replaced by one of the new spec", outdated.name_any()),
    ))
}

/// A node that serves with older settings than the room's.
fn settings_pending(observed: &Observed) -> Option<Words> {
    let config = observed.objects.config_map.as_deref().and_then(build::read_config)?;
    let wanted = config.revision?;
    let behind = observed.pods.iter().find(|pod| {
        let view = pod.uid().and_then(|uid| observed.nodes.get(&uid));
        nodes::heard(view).is_some_and(|status| status.settings_revision < wanted)
    })?;
    Some(Words::new(
        conditions::ROLLING,
        format!("node {} has not applied the newest chat settings yet", behind.name_any()),
    ))
}

/// A room that has not been ready for too long.
fn overdue(verdict: &Verdict, old: &[Condition], now: Timestamp) -> Option<Words> {
    let late = !verdict.ready && verdict.reconciling.is_some() && overdue_at(old).is_some_and(|at| at <= now);
    late.then(|| {
        Words::new(
            conditions::DEADLINE_EXCEEDED,
            format!("not ready for over {} minutes: {}", PROGRESS_DEADLINE.as_mins(), verdict.message),
        )
    })
}

fn summary(verdict: &Verdict, stalled: Option<&Words>, result: Result<'_>) -> String {
    let paused = matches!(result, Result::Applied(room, _) if room.paused);
    match stalled {
        _ if paused => conditions::PAUSED.into(),
        _ if !verdict.ready => verdict.reason.clone(),
        Some(stalled) => stalled.reason.clone(),
        None => verdict.reconciling.as_ref().map_or(&verdict.reason, |words| &words.reason).clone(),
    }
}

fn claims(verdict: &Verdict, stalled: Option<Words>, chat_room: &ChatRoom) -> Vec<Claim> {
    let claim =
        |type_, status, words: Words| Claim { type_, status, reason: words.reason, message: words.message };
    let mut claims =
        vec![claim(conditions::READY, verdict.ready, Words::new(&verdict.reason, verdict.message.clone()))];
    match (stalled, &verdict.reconciling) {
        (Some(stalled), _) => claims.push(claim(conditions::STALLED, true, stalled)),
        (None, Some(reconciling)) => claims.push(claim(conditions::RECONCILING, true, reconciling.clone())),
        (None, None) => {}
    }
    claims.extend(scaling_limited(chat_room.spec.replicas));
    claims
}

fn scaling_limited(wish: Option<i32>) -> Option<Claim> {
    let wish = wish.filter(|&wish| wish != build::NODES)?;
    let why = if wish > build::NODES {
        "the log of a room is not replicated between nodes yet"
    } else {
        "a room has at least one node; delete the ChatRoom to end it"
    };
    Some(Claim {
        type_: conditions::SCALING_LIMITED,
        status: true,
        reason: conditions::LOG_NOT_REPLICATED.into(),
        message: format!("spec.replicas is {wish}, {} is run: {why}", build::NODES),
    })
}

fn version(nodes: &Nodes) -> Option<String> {
    let versions: BTreeSet<&str> = nodes.rows.iter().filter_map(|row| row.version.as_deref()).collect();
    (!versions.is_empty()).then(|| versions.into_iter().collect::<Vec<_>>().join(", "))
}

fn volume_size(observed: &Observed) -> Option<String> {
    observed
        .claims
        .iter()
        .filter_map(|claim| storage::requested(claim))
        .max_by_key(|size| quantity::milli(&size.0))
        .map(|size| size.0.clone())
}

fn guarantees(
    nodes: &Nodes,
    observed: &Observed,
    old: Option<&ChatRoomStatus>,
    now: Timestamp,
) -> Guarantees {
    // One node: no failure is survived without a pause.
    let declared = 0;
    let tolerates = Tolerates { declared, now: (nodes.serving > 0).then_some(nodes.serving - build::NODES) };
    let whole = tolerates.now.is_some_and(|now| now >= declared);
    let lost_before = old
        .and_then(|status| status.guarantees.as_ref())
        .and_then(|guarantees| guarantees.redundancy_lost_since.clone());
    Guarantees {
        order: Order::TotalPerChannel,
        durability: observed
            .nodes
            .values()
            .filter_map(|view| nodes::heard(Some(view)))
            .map(|status| Durability::from(status.durability))
            .min()
            .unwrap_or(Durability::LocalFsync),
        tolerates,
        redundancy_lost_since: (!whole).then(|| lost_before.unwrap_or(Time(now))),
    }
}
