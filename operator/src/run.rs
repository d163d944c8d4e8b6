//! The running operator: probes, the wait for the CRD, the election, and the leader's loop.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    runtime::{self, controller},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::ChatRoom,
    backoff::{Backoff, Failures},
    cli::RunOptions,
    control::{self, Root},
    controller::{Context, Left, after_error, reconcile},
    health::{self, Health},
    leader::Candidate,
    metrics::Metrics,
    names,
    nodes::Followers,
    observe::Caches,
    validate::Defaults,
};

/// Rooms that are reconciled at once.
const CONCURRENCY: u16 = 16;
const RETRY: Backoff = Backoff { first: Duration::from_secs(1), last: Duration::from_secs(10) };

/// Runs until it is told to end by SIGTERM or SIGINT.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    let health = Arc::new(Health::default());
    health::serve(options.listen, Arc::clone(&health), metrics.clone())?;
    // One thread is enough: a reconcile is a few milliseconds, mostly of waiting.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ended = tokio::select! {
            ended = operate(options, &health, metrics) => ended,
            never = health.beat() => never,
        };
        tracing::info!("ended");
        ended
    })
}

async fn operate(options: RunOptions, health: &Health, metrics: Metrics) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut told_to_end = pin!(
        async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::info!("told to end");
        }
        .fuse()
    );
    let config = Config::infer()
        .await
        .context("no way to a Kubernetes API server: set KUBECONFIG, or run in a pod")?;
    let client = Client::try_from(config.clone())?;
    let candidate = Candidate::new(&config, &options)?;
    tokio::select! {
        () = &mut told_to_end => return Ok(()),
        () = wait_for_crd(&client, options.watch_namespace.as_deref(), health) => {}
    }
    loop {
        let term = tokio::select! {
            () = &mut told_to_end => return Ok(()),
            term = candidate.campaign(health) => term,
        };
        tracing::info!("leading");
        metrics.leads(true);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let mut leading = pin!(lead(&client, &options, health, &metrics, stopped.map(|_| ())));
        let lost = tokio::select! {
            () = &mut told_to_end => false,
            () = term.over() => true,
            () = &mut leading => true,
        };
        metrics.leads(false);
        if !lost {
            // Reconciles under way are finished, while the Lease is still ours.
            drop(stop);
            leading.await;
            term.resign().await;
            return Ok(());
        }
    }
}

/// The leader's loop: until `stopped`, then until what is under way is done.
async fn lead(
    client: &Client,
    options: &RunOptions,
    health: &Health,
    metrics: &Metrics,
    stopped: impl Future<Output = ()> + Send + 'static,
) {
    let mut stopped = stopped.boxed();
    let control_root = tokio::select! {
        () = &mut stopped => return,
        root = obtain_root(client, options, health) => root,
    };
    let (followers, notices) = Followers::new(control_root.clone());
    let (caches, watches) = Caches::watch(client, options.watch_namespace.as_deref(), Arc::clone(&followers));
    let rooms = caches.rooms.clone();
    let context = Arc::new(Context {
        client: client.clone(),
        caches,
        defaults: Defaults {
            node_image: options.default_node_image.clone(),
            store_image: options.store_image.clone(),
            operator_namespace: Some(options.namespace.clone()),
            control_root,
        },
        metrics: metrics.clone(),
        failures: Failures::default(),
        left: Left::default(),
    });
    let notices =
        stream::unfold(notices, |mut notices| async move { Some((notices.recv().await?, notices)) });
    let queue = stream::select(watches, notices.map(Ok))
        .map_ok(controller::ReconcileRequest::from)
        .take_until(stopped);
    runtime::applier(
        |room, context| reconcile(room, context).boxed(),
        |room, error, context| after_error(&room, error, &context),
        context,
        rooms,
        queue,
        controller::Config::default().concurrency(CONCURRENCY),
    )
    .for_each(|result| {
        log(result);
        futures::future::ready(())
    })
    .await;
    followers.clear();
}

type Looked<K, E> =
    Result<(runtime::reflector::ObjectRef<K>, controller::Action), controller::Error<crate::error::Error, E>>;

fn log<K: kube::Resource, E: std::error::Error + 'static>(result: Looked<K, E>)
where
    K::DynamicType: std::fmt::Debug,
{
    match result {
        Ok((room, action)) => tracing::debug!(?room, ?action, "looked at"),
        // It was deleted after something of it changed.
        Err(controller::Error::ObjectNotFound(_)) => {}
        Err(controller::Error::ReconcilerFailed(error, room)) => {
            tracing::warn!(%room, %error, "will try again");
        }
        Err(error) => tracing::warn!(%error, "a watch failed and is begun anew"),
    }
}

/// Waits until the root of all control keys is had, and says in readiness why it is not.
async fn obtain_root(client: &Client, options: &RunOptions, health: &Health) -> Root {
    let name = names::control_root(&options.installation);
    let mut failures = 0;
    loop {
        match control::obtain(client, &options.namespace, &name).await {
            Ok(root) => {
                health.ready();
                return root;
            }
            Err(error) => {
                tracing::warn!(%error, "waiting");
                health.not_ready(error.to_string());
                tokio::time::sleep(RETRY.delay(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

/// Waits until rooms can be listed, and says in readiness what is missing.
async fn wait_for_crd(client: &Client, namespace: Option<&str>, health: &Health) {
    let rooms: Api<ChatRoom> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut failures = 0;
    loop {
        let why = match rooms.list_metadata(&ListParams::default().limit(1)).await {
            Ok(found) => return tracing::debug!(first = ?found.items.first().map(ResourceExt::name_any), "the CRD is there"),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                "the CRD chatrooms.chatroom.dev is not installed: install chart chatroom-operator-crds, or `kubectl apply -f manifests/crds`".into()
            }
            Err(error) => format!("ChatRooms cannot be listed: {error}"),
        };
        tracing::warn!(why, "waiting");
        health.not_ready(why);
        tokio::time::sleep(RETRY.delay(failures)).await;
        failures = failures.saturating_add(1);
    }
}
