//! Which operator runs which rooms.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::{
    World,
    change::scale_operator,
    fault::group,
    install::{operator_values, wish},
};
use crate::room::{SYSTEM, Wish, condition};

const WITHIN: Duration = Duration::from_secs(90);
/// Long enough for an operator that watches a namespace to have reported on a room there.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(5);

pub(super) async fn second_operator_is_refused(world: &mut World) -> Result<String> {
    let cluster = world.cluster.clone();
    let values = operator_values(world);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let chart = ["second", "charts/chatroom-operator", "--namespace", "elsewhere"];
    // Helm sees that the Lease for these rooms is of another release.
    let create = ["--create-namespace"];
    let refusal = match cluster.helm(&[&["install"], &chart[..], &create, &values].concat()).await {
        Ok(_) => anyhow::bail!("helm installed a second operator for all namespaces"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        refusal.contains("chatroom-operator-cluster"),
        "helm's refusal does not name the Lease:\n{refusal}"
    );
    // Whoever goes around helm is told by the operator itself.
    let room_before = world.lounge().get().await?["metadata"]["resourceVersion"].clone();
    let objects = cluster.helm(&[&["template"], &chart[..], &values].concat()).await?;
    let objects: Vec<&str> =
        objects.split("\n---\n").filter(|object| !object.contains("kind: Lease")).collect();
    cluster.kubectl(&["create", "namespace", "elsewhere"]).await.ok();
    cluster.kubectl_with_input(&["apply", "-f", "-"], &objects.join("\n---\n")).await?;
    let deployment = "deployment/second";
    let told = cluster
        .until("the second operator says that another one runs these rooms", WITHIN, || async {
            let log = cluster.kubectl(&["logs", deployment, "--namespace", "elsewhere"]).await?;
            let holder = format!("{SYSTEM}/chatroom-operator/");
            let says = log.contains("run by another operator already") && log.contains(&holder);
            Ok(if says { Ok(()) } else { Err(log) })
        })
        .await;
    let pods = cluster.json(&["get", deployment, "--namespace", "elsewhere"]).await?;
    let room_after = world.lounge().get().await?["metadata"]["resourceVersion"].clone();
    cluster.kubectl_with_input(&["delete", "-f", "-"], &objects.join("\n---\n")).await?;
    cluster.kubectl(&["delete", "namespace", "elsewhere"]).await?;
    told?;
    ensure!(pods["status"]["readyReplicas"].is_null(), "an operator that must not work is ready");
    // Clients talk, so only the counters may have been written, by the first operator.
    let note = if room_before == room_after { "the room was not written at all" } else { "" };
    Ok(note.to_owned())
}

pub(super) async fn namespace_has_its_own_operator(world: &mut World) -> Result<String> {
    let cluster = world.cluster.clone();
    // Without the operator of all namespaces it shows who runs what.
    scale_operator(world, "0").await?;
    for namespace in ["team", "plain", "nobody"] {
        cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    let values = operator_values(world);
    let mut helm = vec!["install", "chatroom-operator", "charts/chatroom-operator", "--namespace", "team"];
    helm.extend(["--set", "watchNamespace=team", "--wait", "--timeout", "90s"]);
    helm.extend(values.iter().map(String::as_str));
    cluster.helm(&helm).await?;
    cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &plain_install(world)?).await?;
    let rollout =
        ["rollout", "status", "deployment/chatroom-operator", "--namespace", "plain", "--timeout=90s"];
    cluster.kubectl(&rollout).await?;

    let den = |namespace| Wish { name: "den", namespace, ..wish(world) }.manifest();
    for namespace in ["nobody", "team", "plain"] {
        cluster.apply(&den(namespace)).await?;
    }
    for namespace in ["team", "plain"] {
        world.room(namespace, "den").wait_ready(WITHIN).await.with_context(|| format!("in {namespace}"))?;
    }
    let until = Instant::now() + LEFT_ALONE_FOR;
    while Instant::now() < until {
        let left = world.room("nobody", "den").get().await?;
        let told = condition(&left, "Ready").is_some();
        let made = cluster.kubectl(&["get", "statefulsets,services", "--namespace", "nobody"]).await?;
        ensure!(
            !told && made.is_empty(),
            "a room was touched by another namespace's operator: {left}\n{made}"
        );
        sleep(Duration::from_millis(500)).await;
    }

    // The operator of all namespaces takes what nobody has, and leaves the rest.
    scale_operator(world, "1").await?;
    world.room("nobody", "den").wait_ready(WITHIN).await?;
    for namespace in ["team", "plain"] {
        cluster
            .until("the room tells that it is left to its namespace's operator", WITHIN, || async {
                let events = ["get", "events", "--namespace", namespace, "--field-selector"];
                let events = cluster.json(&[&events[..], &["reason=LeftToOtherOperator"]].concat()).await?;
                let note = events["items"][0]["message"].as_str().unwrap_or_default();
                let says = note.contains("has an operator of its own") && note.contains(namespace);
                Ok(if says { Ok(()) } else { Err(events.to_string()) })
            })
            .await?;
        let policy = cluster.json(&["get", "networkpolicy", "den", "--namespace", namespace]).await?;
        let lets_in = policy["spec"]["ingress"][1]["from"][0]["namespaceSelector"].to_string();
        ensure!(lets_in.contains(namespace), "the policy of {namespace}/den was rewritten: {lets_in}");
    }

    // With the namespace's operator its claim goes, and the operator of all namespaces takes over.
    cluster.helm(&["uninstall", "chatroom-operator", "--namespace", "team", "--wait"]).await?;
    cluster
        .until("the operator of all namespaces takes over", WITHIN, || async {
            let policy = cluster.json(&["get", "networkpolicy", "den", "--namespace", "team"]).await?;
            let lets_in = policy["spec"]["ingress"][1]["from"][0]["namespaceSelector"].to_string();
            Ok(if lets_in.contains(SYSTEM) { Ok(()) } else { Err(lets_in) })
        })
        .await?;
    let delete = ["delete", "namespace", "team", "plain", "nobody", "--wait", "--timeout=120s"];
    cluster.kubectl(&delete).await?;
    let group = group(world)?;
    group.progress(WITHIN).await?;
    group.check(WITHIN).await
}

/// The plain install for one namespace, with names put in as its comments ask for.
fn plain_install(world: &World) -> Result<String> {
    let text = std::fs::read_to_string("manifests/install-namespaced.yaml")?;
    let image = |name: &str| {
        let start = text.find(&format!("localhost/chat/{name}:")).context("the install names no image")?;
        let end = text[start..].find(['\n', '\'', '"']).context("an image ends with its line")?;
        anyhow::Ok(text[start..start + end].to_owned())
    };
    Ok(text
        .replace(&image("operator")?, &world.operator_image)
        .replace(&image("chat-node")?, &world.node_image)
        .replace("chatroom-system", "plain"))
}
