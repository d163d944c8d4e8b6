//! Keeps the kernel's rules on one Kubernetes node as the API server's objects say.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{ClusterView, ruleset};
use crate::process::{SHORT, run_with_input};

/// Changes that come together are loaded together.
const SETTLE: Duration = Duration::from_millis(20);
/// After an error of the kernel's tool.
const RETRY: Duration = Duration::from_secs(1);

/// Enforces NetworkPolicies in the network that this process is in, for the pods of `node`. Runs until it is ended.
///
/// # Errors
/// When the kubeconfig cannot be used. A broken watch is mended, a refused ruleset told and tried again.
pub async fn enforce(node: &str, kubeconfig: &Path) -> Result<()> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let (changed, mut changes) = mpsc::channel(1);
    let policies = follow::<NetworkPolicy>(Api::all(client.clone()), &changed);
    let pods = follow::<Pod>(Api::all(client.clone()), &changed);
    let namespaces = follow::<Namespace>(Api::all(client), &changed);
    policies.wait_until_ready().await.context("the watch of policies ended")?;
    pods.wait_until_ready().await.context("the watch of pods ended")?;
    namespaces.wait_until_ready().await.context("the watch of namespaces ended")?;
    let mut loaded = String::new();
    loop {
        let view = ClusterView {
            policies: objects(&policies),
            pods: objects(&pods),
            namespaces: objects(&namespaces),
        };
        let wanted = ruleset(&view, node);
        if wanted != loaded {
            let rules = wanted.clone();
            let result = tokio::task::spawn_blocking(move || {
                run_with_input(Command::new("nft").args(["-f", "-"]), &rules, SHORT)
            });
            match result.await? {
                Ok(_) => {
                    info!("loaded {} rules", wanted.matches(" return").count());
                    loaded = wanted;
                }
                Err(error) => {
                    warn!("{error:#}");
                    sleep(RETRY).await;
                    continue;
                }
            }
        }
        changes.recv().await.context("the watches ended")?;
        sleep(SETTLE).await;
    }
}

fn objects<K: Resource<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> Vec<K> {
    store.state().iter().map(|object| K::clone(object)).collect()
}

/// Keeps a copy of all objects of a kind, and says when one changed.
fn follow<K>(api: Api<K>, changed: &mpsc::Sender<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let changed = changed.clone();
    tokio::spawn(async move {
        let config = watcher::Config::default();
        let mut events = reflector::reflector(writer, watcher(api, config)).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                // A full channel already says what this would.
                Ok(_) => drop(changed.try_send(())),
                Err(error) => warn!("{error}"),
            }
        }
    });
    reader
}
