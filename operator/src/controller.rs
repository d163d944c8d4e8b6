//! The reconcile: observe → validate → plan → apply → report, and what follows from its result.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::error_boundary::InvalidObject,
    runtime::{controller::Action, events::EventType},
};
use serde_json::json;

use crate::{
    api::ChatRoom,
    apply::apply,
    backoff::{self, Backoff, Failures},
    error::Error,
    metrics::Metrics,
    names,
    nodes::NodeView,
    observe::{Caches, StoredRoom, claimed_by_another, observe},
    plan::plan,
    report::{
        conditions::{self, Claim, Truth},
        events, report,
        status::{self, status, turns_at},
    },
    validate::{Defaults, validate},
};

/// Watches die silently, so every room is looked at again.
const RESYNC: Duration = Duration::from_secs(300);
const RETRY: Backoff = Backoff { first: Duration::from_millis(500), last: Duration::from_secs(120) };
/// A node has been asked by then; it wakes the room itself, this is for the case that the notice got lost.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How soon a room looks again for objects that stand in its way.
const AFTER_STRANGERS: Duration = Duration::from_secs(15);
/// How soon a node is told again what it did not do.
const AFTER_DISOBEYED: Duration = Duration::from_secs(5);
/// A bug does not go away by itself; it is tried again in case something else did.
const AFTER_BUG: Duration = Duration::from_secs(600);

/// What every reconcile needs.
pub struct Context {
    pub client: Client,
    pub caches: Caches,
    pub defaults: Defaults,
    pub metrics: Metrics,
    pub failures: Failures,
    pub left: Left,
}

/// Rooms that are left to another operator; so that it is told once.
#[derive(Debug, Default)]
pub struct Left(Mutex<BTreeSet<String>>);

impl Left {
    /// Whether that is new.
    fn leave(&self, key: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned())
    }

    fn take(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// One look at a room, with its time and outcome counted.
pub async fn reconcile(stored: Arc<StoredRoom>, context: Arc<Context>) -> Result<Action, Error> {
    let start = Instant::now();
    let claimed = claimed_by_another(&context.caches, &stored.namespace().unwrap_or_default()).await;
    let result = match (&stored.0, claimed) {
        (_, Some(why)) => Ok(leave(&stored, &why, &context).await),
        (Ok(room), None) if room.metadata.deletion_timestamp.is_some() => Ok(Action::await_change()),
        (Ok(room), None) => reconcile_room(room, &context).await,
        (Err(invalid), None) => report_malformed(invalid, &context).await,
    };
    context.metrics.reconciled(result.as_ref().err().map_or("ok", Error::class), start.elapsed());
    context.metrics.sees(context.caches.rooms.len(), context.caches.followers.len());
    match &result {
        Ok(_) => context.failures.forget(&key(stored.as_ref())),
        Err(error @ Error::Bug(_)) => {
            let event = events::event(EventType::Warning, "OperatorBug", "Reconcile", &error.to_string());
            events::publish(&context.client, stored.as_ref(), vec![event]).await;
        }
        Err(Error::Transient { .. }) => {}
    }
    result
}

/// Tells, once, that the room is another operator's.
async fn leave(room: &StoredRoom, why: &str, context: &Context) -> Action {
    let key = key(room);
    if context.left.leave(&key) {
        tracing::warn!(room = key, why, "left alone");
        let event = events::event(EventType::Normal, "LeftToOtherOperator", "Leave", why);
        events::publish(&context.client, room, vec![event]).await;
    }
    Action::requeue(backoff::spread(RESYNC))
}

async fn reconcile_room(chat_room: &ChatRoom, context: &Context) -> Result<Action, Error> {
    let Context { client, caches, defaults, metrics, failures: _, left } = context;
    left.take(&key(chat_room));
    let observed = observe(client, caches, chat_room).await?;
    let now = Timestamp::now();
    let mut told = true;
    let status = match validate(chat_room, &observed, defaults) {
        Err(errors) => status(chat_room, &observed, status::Result::Invalid(&errors), now),
        Ok(room) => {
            let plan = plan(&room, &observed, now);
            let outcome = apply(client, &caches.followers, metrics, chat_room, &room, plan).await?;
            told = outcome.disobeyed.is_none();
            events::publish(client, chat_room, events::of_outcome(&outcome)).await;
            status(chat_room, &observed, status::Result::Applied(&room, &outcome), now)
        }
    };
    if observed.nodes.values().any(|view| *view == NodeView::Unasked) {
        // Right after the operator starts or a pod does: a status without the node's word would be wrong in a second.
        return Ok(Action::requeue(FIRST_WORD));
    }
    let turn = turns_at(&status, &observed, now);
    let revisit = report(client, metrics, chat_room, status, now).await?;
    // Objects of somebody else carry no label that is watched for.
    let strangers = (!observed.strangers.is_empty()).then_some(AFTER_STRANGERS);
    let again = (!told).then_some(AFTER_DISOBEYED);
    let soon = [revisit, strangers, again].into_iter().flatten().min();
    Ok(Action::requeue(next_look(soon, turn, now)))
}

/// The earliest of: a look that something needs, the time when the status turns, the regular look.
fn next_look(soon: Option<Duration>, turn: Option<Timestamp>, now: Timestamp) -> Duration {
    let until_turn = turn.map(|at| at.duration_since(now).unsigned_abs());
    let regular = backoff::spread(RESYNC);
    [soon, until_turn].into_iter().flatten().fold(regular, Duration::min)
}

/// A stored room that this operator cannot read (its CRD is of another version, say) is told so and left alone.
async fn report_malformed(invalid: &InvalidObject, context: &Context) -> Result<Action, Error> {
    let metadata = &invalid.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let message = format!(
        "this operator cannot read the ChatRoom: {}; update the CRD or mend the field",
        invalid.error
    );
    let claim = Claim {
        type_: conditions::READY,
        status: Truth::False,
        reason: conditions::INVALID_SPEC.into(),
        message: message.clone(),
    };
    let stalled = Claim { type_: conditions::STALLED, status: Truth::True, ..claim.clone() };
    let generation = metadata.generation.unwrap_or_default();
    // Its status cannot be read either, so that only a constant time keeps the same words from being written for ever.
    let turned = metadata.creation_timestamp.clone().unwrap_or(Time(Timestamp::UNIX_EPOCH));
    let conditions = conditions::with_times(vec![claim, stalled], &[], generation, &turned);
    let patch = json!({
        "apiVersion": ChatRoom::api_version(&()),
        "kind": ChatRoom::kind(&()),
        "metadata": {"name": name, "uid": metadata.uid},
        "status": {"observedGeneration": generation, "summary": "Invalid", "message": message, "conditions": conditions},
    });
    // As a bare object: the typed one cannot be read back.
    let api = Api::<kube::api::DynamicObject>::namespaced_with(
        context.client.clone(),
        metadata.namespace.as_deref().unwrap_or_default(),
        &kube::api::ApiResource::erase::<ChatRoom>(&()),
    );
    context.metrics.wrote("ChatRoom");
    api.patch_status(&name, &PatchParams::apply(names::OPERATOR).force(), &Patch::Apply(patch))
        .await
        .map_err(|source| Error::write("status of ChatRoom", &name, source))?;
    let event = events::event(EventType::Warning, conditions::INVALID_SPEC, "Read", &message);
    let unreadable: StoredRoom = kube::core::DeserializeGuard(Err(invalid.clone()));
    events::publish(&context.client, &unreadable, vec![event]).await;
    Ok(Action::await_change())
}

/// When to try again after an error.
pub fn after_error(room: &StoredRoom, error: &Error, context: &Context) -> Action {
    let failures = context.failures.another(&key(room));
    match error {
        Error::Transient { .. } => Action::requeue(RETRY.delay(failures)),
        Error::Bug(_) => Action::requeue(backoff::spread(AFTER_BUG)),
    }
}

fn key(room: &impl ResourceExt) -> String {
    format!("{}/{}", room.namespace().unwrap_or_default(), room.name_any())
}
