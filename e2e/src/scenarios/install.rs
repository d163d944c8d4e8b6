//! From nothing to a room that people talk in.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::World;
use crate::{
    client::Group,
    room::{NAME, NAMESPACE, SYSTEM, Wish},
};

pub(super) async fn operator_comes_by_helm(world: &mut World) -> Result<String> {
    let cluster = &world.cluster;
    world.operator_image = cluster.image("operator", &world.programs.operator, &[]).await?;
    world.node_image = cluster.image("chat-node", &world.programs.chat_node, &[]).await?;
    let release = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "120s"];
    let crds = ["upgrade", "--install", "chatroom-operator-crds", "charts/chatroom-operator-crds"];
    cluster.helm(&[&crds[..], &release].concat()).await?;
    let values =
        [image_values("image", &world.operator_image), image_values("nodeImage", &world.node_image)].concat();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let operator = ["upgrade", "--install", "chatroom-operator", "charts/chatroom-operator"];
    cluster.helm(&[&operator[..], &release, &values].concat()).await?;
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}")).await?;
    Ok(String::new())
}

fn image_values(key: &str, reference: &str) -> Vec<String> {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    let set = |name: &str, value: &str| ["--set-string".to_owned(), format!("{key}.{name}={value}")];
    [set("repository", repository), set("tag", tag)].concat()
}

/// The room as the scenarios first ask for it.
pub(super) fn wish(world: &World) -> Wish {
    Wish { image: world.node_image.clone(), topic: "Come in".into(), replicas: 1 }
}

pub(super) async fn room_becomes_ready(world: &mut World) -> Result<String> {
    let cluster = world.cluster.clone();
    cluster.apply(&wish(world).manifest()).await?;
    cluster
        .kubectl(&[
            "wait",
            "chatroom",
            NAME,
            "--namespace",
            NAMESPACE,
            "--for=condition=Ready",
            "--timeout=90s",
        ])
        .await?;
    let columns = cluster.kubectl(&["get", "chatrooms", "--namespace", NAMESPACE]).await?;
    for column in ["MODE", "READY", "DESIRED", "CONNS", "STATUS", "AGE"] {
        ensure!(columns.contains(column), "`kubectl get chatrooms` has no column {column}:\n{columns}");
    }
    check_from_a_pod(world).await?;
    let addresses = cluster.irc_addresses(&[]).await?;
    let mut group = Group::start(addresses, 10, 4).await?;
    let found = group.check(Duration::from_secs(30)).await?;
    world.group = Some(group);
    Ok(found)
}

/// Two clients in a pod of the same namespace join, send and receive.
async fn check_from_a_pod(world: &World) -> Result<()> {
    let image = &world.node_image;
    let pod = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: guests, namespace: {NAMESPACE}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: guests
    image: '{image}'
    imagePullPolicy: Never
    args: [check, '{NAME}.{NAMESPACE}:6667', --channel, '#guests']
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    );
    world.cluster.apply(&pod).await?;
    let succeeded = "--for=jsonpath={.status.phase}=Succeeded";
    let waited = world
        .cluster
        .kubectl(&["wait", "pod/guests", "--namespace", NAMESPACE, succeeded, "--timeout=60s"])
        .await;
    if let Err(error) = waited {
        let said = world.cluster.kubectl(&["logs", "guests", "--namespace", NAMESPACE]).await?;
        return Err(error.context(format!("guests inside the cluster could not talk; they said:\n{said}")));
    }
    world.cluster.kubectl(&["delete", "pod/guests", "--namespace", NAMESPACE]).await?;
    Ok(())
}

pub(super) async fn neighbours_are_kept_out(world: &mut World) -> Result<String> {
    let pod = world.cluster.pod().await?;
    let address = pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let image = &world.node_image;
    let neighbour = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: neighbour, namespace: {NAMESPACE}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: neighbour
    image: '{image}'
    imagePullPolicy: Never
    args: [check, '{address}:9090', --timeout, '5']
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    );
    world.cluster.apply(&neighbour).await?;
    let failed = "--for=jsonpath={.status.phase}=Failed";
    world
        .cluster
        .kubectl(&["wait", "pod/neighbour", "--namespace", NAMESPACE, failed, "--timeout=60s"])
        .await?;
    let said = world.cluster.kubectl(&["logs", "neighbour", "--namespace", NAMESPACE]).await?;
    ensure!(
        said.contains("connect") || said.contains("timed out"),
        "the admin port answered a pod that is not the operator:\n{said}"
    );
    world.cluster.kubectl(&["delete", "pod/neighbour", "--namespace", NAMESPACE]).await?;
    Ok(String::new())
}
