//! From nothing to a room that people talk in.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Programs, World,
    visitor::{End, visit},
};
use crate::{
    cluster::Cluster,
    group::Group,
    places::Places,
    room::{Log, NAME, NAMESPACE, SYSTEM, Wish},
};

pub(super) const OPERATOR_PODS: &str = "app.kubernetes.io/name=chatroom-operator";
/// Probes and metrics; what the operator asks of a node.
const ADMIN_PORTS: [u16; 2] = [9090, 9443];

/// Values that name the images under test.
pub(super) fn operator_values(world: &World) -> Vec<String> {
    [
        image_values("image", &world.operator_image),
        image_values("nodeImage", &world.node_image),
        image_values("storeImage", &world.store_image),
    ]
    .concat()
}

fn image_values(key: &str, reference: &str) -> Vec<String> {
    let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
    let set = |name: &str, value: &str| ["--set-string".to_owned(), format!("{key}.{name}={value}")];
    [set("repository", repository), set("tag", tag)].concat()
}

const RELEASE: [&str; 5] = ["--namespace", SYSTEM, "--create-namespace", "--timeout", "120s"];

/// `helm upgrade --install` of the operator; with `--wait` it fails where the operator does not become ready.
async fn install_operator(world: &World, more: &[&str]) -> Result<()> {
    let values = operator_values(world);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let operator = ["upgrade", "--install", "chatroom-operator", "charts/chatroom-operator"];
    world.cluster.helm(&[&operator[..], &RELEASE, &values, more].concat()).await.map(drop)
}

pub(super) async fn build_images(world: &mut World) -> Result<()> {
    world.operator_image = world.cluster.image("operator", &world.programs.operator, &[]).await?;
    world.node_image = world.cluster.image("chat-node", &world.programs.chat_node, &[]).await?;
    world.store_image = world.cluster.store_image(&world.programs.store).await?;
    Ok(())
}

pub(super) async fn operator_waits_for_the_crd(world: &mut World) -> Result<String> {
    build_images(world).await?;
    install_operator(world, &[]).await?;
    let cluster = &world.cluster;
    let missing = "the CRD chatrooms.chatroom.dev is not installed: install chart chatroom-operator-crds";
    cluster
        .until("the operator says in its readiness what is missing", Duration::from_secs(60), || async {
            let said = operator_readiness(cluster).await?;
            Ok(if said.contains("503") && said.contains(missing) { Ok(()) } else { Err(said) })
        })
        .await?;
    let log = cluster.kubectl(&["logs", "--namespace", SYSTEM, "--selector", OPERATOR_PODS]).await?;
    ensure!(log.contains(missing), "the operator's log does not say what is missing:\n{log}");
    Ok(String::new())
}

/// What `/readyz` of the operator's pod answers, head and body.
async fn operator_readiness(cluster: &Cluster) -> Result<String> {
    let pods = cluster.json(&["get", "pods", "--namespace", SYSTEM, "--selector", OPERATOR_PODS]).await?;
    let address =
        pods["items"][0]["status"]["podIP"].as_str().context("the operator has no pod address yet")?;
    let mut stream = TcpStream::connect(format!("{address}:8080")).await?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: operator\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(Duration::from_secs(5), stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

pub(super) async fn operator_comes_by_helm(world: &mut World) -> Result<String> {
    if world.node_image.is_empty() {
        build_images(world).await?;
    }
    let crds = ["upgrade", "--install", "chatroom-operator-crds", "charts/chatroom-operator-crds", "--wait"];
    world.cluster.helm(&[&crds[..], &RELEASE].concat()).await?;
    install_operator(world, &["--wait"]).await?;
    world.cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}")).await?;
    Ok(String::new())
}

/// The room as the scenarios first ask for it.
pub(super) fn wish(world: &World) -> Wish {
    Wish {
        name: NAME,
        namespace: NAMESPACE,
        image: world.node_image.clone(),
        topic: "Come in".into(),
        replicas: Some(1),
        log: Log::OwnVolume,
        memory_limit: "256Mi",
        storage_class: "local-path",
        paused: false,
    }
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
    let inside = format!("{NAME}.{NAMESPACE}:6667");
    visit(world, "guests", &[&inside, "--channel", "#guests"], End::Succeeded).await?;
    let addresses = world.lounge().irc_addresses(&[]).await?;
    let mut group = Group::start(Places::fixed(addresses), 10, 4).await?;
    let found = group.check(Duration::from_secs(30)).await?;
    world.group = Some(group);
    Ok(found)
}

pub(super) async fn neighbours_are_kept_out(world: &mut World) -> Result<String> {
    let pod = world.lounge().pod().await?;
    let address = pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    for port in ADMIN_PORTS {
        let admin = format!("{address}:{port}");
        let check = [admin.as_str(), "--timeout", "5"];
        let said = visit(world, "neighbour", &check, End::Failed).await?;
        ensure!(
            said.contains("connect") || said.contains("timed out"),
            "port {port} answered a pod that is not the operator:\n{said}"
        );
    }
    Ok(String::new())
}

pub(super) async fn existing_cluster_is_used(world: &mut World) -> Result<String> {
    let cluster = &world.cluster;
    let Programs { operator, chat_node, xtask, store: _ } = &world.programs;
    for (name, program) in [("operator", operator), ("chat-node", chat_node)] {
        let program = program.to_string_lossy();
        cluster.devcluster(&["image", "--name", name, "--tag", "elsewhere", "--binary", &program]).await?;
    }
    let context = cluster.kubectl(&["config", "current-context"]).await?;
    let mut up = vec!["up", "--context", context.trim(), "--registry", "localhost/chat"];
    up.extend(["--tag", "elsewhere"]);
    let said = cluster.run(&xtask.to_string_lossy(), &up, Duration::from_secs(300)).await?;
    ensure!(said.contains("uninstall lounge"), "it does not say how to end the room:\n{said}");
    let image = ["get", "pod", &format!("{NAME}-0"), "--namespace", "default", "--output"];
    let image = cluster.kubectl(&[&image[..], &["jsonpath={.spec.containers[0].image}"]].concat()).await?;
    ensure!(image == "localhost/chat/chat-node:elsewhere", "the room runs {image}");
    cluster.helm(&["uninstall", NAME, "--namespace", "default", "--wait"]).await?;
    cluster.kubectl(&["delete", "pvc", "--namespace", "default", "--all"]).await?;
    Ok(String::new())
}
