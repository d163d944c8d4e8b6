//! The status of a room. Pure.

use std::collections::BTreeSet;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::ResourceExt;

use super::{
    conditions::{self, Claim, Truth},
    guarantees::guarantees,
    nodes::{self, Nodes},
    store,
    verdict::{Verdict, Words, verdict},
};
use crate::{
    api::{ChatRoom, ChatRoomStatus, ClusterIdentity, Founding, Mode},
    apply::Outcome,
    names,
    observe::Observed,
    plan::{self, founding::founding, storage},
    pods, quantity,
    validate::{Room, Stateful, UserError},
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
    let mode = &chat_room.spec.mode;
    let nodes = nodes::look(&name, mode, observed, now);
    let verdict = verdict(&nodes, observed, result, now);
    let stalled = verdict.stalled.clone().or_else(|| overdue(&verdict, old_conditions, now));
    let summary = summary(&verdict, stalled.as_ref(), result);
    let message = match (&stalled, &verdict.reconciling) {
        (Some(words), _) | (None, Some(words)) if verdict.ready => words.message.clone(),
        _ => verdict.message.clone(),
    };
    let mut claims = claims(&verdict, stalled, chat_room);
    let (founding, cluster) = beginning(result, observed, old);
    claims.extend(store::reachable(mode, observed));
    ChatRoomStatus {
        observed_generation: generation,
        summary,
        message,
        mode: Some(
            match mode {
                Mode::Stateful(_) => "stateful",
                Mode::Stateless(_) => "stateless",
            }
            .into(),
        ),
        replicas: i32::try_from(nodes.rows.len()).unwrap_or(i32::MAX) - nodes.stopping,
        terminating_replicas: nodes.stopping,
        selector: names::selector_text(&name),
        ready_replicas: nodes.serving,
        connections: nodes.rows.iter().map(|row| row.connections).fold(0, u32::saturating_add),
        counters_at: None,
        version: version(&nodes),
        volume_size: volume_size(observed),
        guarantees: Some(guarantees(chat_room, &nodes, observed, old, now)),
        founding,
        cluster,
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
    let times = |pod| [pods::lost_at(pod), pods::replaced_at(pod)].into_iter().flatten();
    let pods = observed.pods.iter().flat_map(|pod| times(pod));
    overdue_at(&status.conditions).into_iter().chain(pods).filter(|&at| at > now).min()
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
    let claim = |type_, status, words: Words| Claim {
        type_,
        status: Truth::from(status),
        reason: words.reason,
        message: words.message,
    };
    let mut claims =
        vec![claim(conditions::READY, verdict.ready, Words::new(&verdict.reason, verdict.message.clone()))];
    match (stalled, &verdict.reconciling) {
        (Some(stalled), _) => claims.push(claim(conditions::STALLED, true, stalled)),
        (None, Some(reconciling)) => claims.push(claim(conditions::RECONCILING, true, reconciling.clone())),
        (None, None) => {}
    }
    if let Some(stateful) = Stateful::of(chat_room) {
        claims.extend(scaling_limited(chat_room.spec.replicas, &stateful));
    }
    claims
}

/// What is remembered of how a stateful room began: as it was, unless there is something to write down.
fn beginning(
    result: Result<'_>,
    observed: &Observed,
    old: Option<&ChatRoomStatus>,
) -> (Option<Founding>, Option<ClusterIdentity>) {
    let before = || {
        let old = old.map(|status| (status.founding.clone(), status.cluster.clone()));
        old.unwrap_or_default()
    };
    let Result::Applied(room, _) = result else { return before() };
    let Some(stateful) = room.stateful().filter(|_| !room.paused && observed.leaving.is_empty()) else {
        return before();
    };
    match founding(&room.name, stateful, observed) {
        plan::founding::Founding::Record { member } => (Some(Founding { member }), None),
        plan::founding::Founding::Adopt { id } => (None, Some(ClusterIdentity { id })),
        _ => before(),
    }
}

fn scaling_limited(wish: Option<i32>, stateful: &Stateful) -> Option<Claim> {
    let voters = i32::from(stateful.voters());
    let wish = wish.filter(|&wish| wish < voters)?;
    let why = if voters == 1 {
        "a room whose nodes keep the log has at least one; delete the ChatRoom to end it".to_owned()
    } else {
        format!(
            "mode.stateful.tolerate.nodeFailures {} needs {voters} nodes, so that a majority is left",
            stateful.tolerate
        )
    };
    let run = if voters == 1 { "1 is".to_owned() } else { format!("{voters} are") };
    Some(Claim {
        type_: conditions::SCALING_LIMITED,
        status: Truth::True,
        reason: conditions::BELOW_TOLERANCE.into(),
        message: format!("spec.replicas is {wish}, {run} run: {why}"),
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
