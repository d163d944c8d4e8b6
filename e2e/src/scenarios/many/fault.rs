//! Pods, Kubernetes nodes and the API server that fail.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tokio::time::{Duration, sleep};

use super::{WITHIN, World, act::Act, group, scale::spread, square};
use crate::{
    room::{Log, NAMESPACE, node_of},
    scenarios::fault::kill,
};

const KILLS: usize = 6;
/// Of a room that outlives one node at a time: the next only when it is whole again.
const KILLS_ONE_BY_ONE: usize = 3;
const BETWEEN_KILLS: Duration = Duration::from_millis(2_500);
/// How long people talk without the API server.
const AWAY_FOR: Duration = Duration::from_secs(8);

pub(in crate::scenarios) async fn pods_are_killed(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    let mut random = Random::from_clock();
    let seed = random.0;
    let mut killed = BTreeSet::new();
    let one_by_one = world.square.log == Log::Replicated;
    for number in 0..if one_by_one { KILLS_ONE_BY_ONE } else { KILLS } {
        let pods = square(world).pods().await?;
        let ready = |pod: &&serde_json::Value| {
            pod["status"]["containerStatuses"][0]["ready"] == true
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let ready: Vec<_> = pods.iter().filter(ready).collect();
        ensure!(!ready.is_empty(), "no pod is ready");
        let pod = ready[random.below(ready.len())];
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        if number % 2 == 0 {
            kill(&text("uid"), "chat-node")?;
        } else {
            let delete =
                ["delete", "pod", &text("name"), "--namespace", NAMESPACE, "--grace-period=0", "--force"];
            world.cluster.kubectl(&delete).await?;
        }
        killed.insert(text("name"));
        sleep(BETWEEN_KILLS).await;
        if one_by_one {
            square(world).wait_nodes(world.square.nodes, WITHIN).await?;
        }
    }
    square(world).wait_nodes(world.square.nodes, WITHIN).await?;
    let gone = act.gone(world).await?;
    ensure!(!gone.is_empty(), "no pod went");
    // Those that came in between are killed too.
    let found = act.end_with(world, "random kills of pods", killed).await?;
    spread(world).await?;
    Ok(format!("seed {seed}; {found}"))
}

/// A small generator; the seed is told, so that a run can be understood.
struct Random(u64);

impl Random {
    fn from_clock() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::from(now.subsec_nanos()) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// A Kubernetes node that has clients and not the store, and the pods on it.
async fn victim(world: &mut World) -> Result<(usize, BTreeSet<String>)> {
    let store = square(world).pods_of("chat-store").await?;
    let with_store = store.first().map(node_of).transpose()?;
    let occupied = group(world)?.pods();
    let pods = square(world).pods().await?;
    for node in (0..world.cluster.nodes).filter(|node| Some(*node) != with_store) {
        let here = pods.iter().filter(|pod| node_of(pod).is_ok_and(|at| at == node));
        let here: BTreeSet<String> =
            here.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect();
        if !here.is_disjoint(&occupied) {
            return Ok((node, here));
        }
    }
    anyhow::bail!("all clients are where the store is")
}

/// Waits until Kubernetes has given the node up.
async fn not_ready(world: &World, node: usize) -> Result<()> {
    let name = format!("node/node{node}");
    let wait = ["wait", &name, "--for=condition=Ready=Unknown", "--timeout=60s"];
    world.cluster.kubectl(&wait).await.map(drop)
}

async fn without_a_node(
    world: &mut World,
    what: &'static str,
    fail: &'static str,
    mend: &'static str,
) -> Result<String> {
    let act = Act::begin(world).await?;
    let (node, here) = victim(world).await?;
    world.cluster.devcluster(&[fail, &node.to_string()]).await?;
    let away = async {
        not_ready(world, node).await?;
        // Those who are elsewhere, or have come there, talk.
        let group = world.group.as_ref().context("nobody talks")?;
        group.progress(Duration::from_secs(10)).await
    };
    let away = away.await;
    world.cluster.devcluster(&[mend, &node.to_string()]).await?;
    away?;
    square(world).wait_nodes(world.square.nodes, WITHIN).await?;
    let ended = group(world)?.pods();
    ensure!(!ended.is_empty(), "nobody is connected");
    let pods = here.len();
    let found = act.end_with(world, what, here).await?;
    spread(world).await?;
    Ok(format!("node{node} with {pods} pods; {found}"))
}

pub(in crate::scenarios) async fn kubernetes_node_loses_power(world: &mut World) -> Result<String> {
    without_a_node(world, "a Kubernetes node loses power", "power-off", "power-on").await
}

pub(in crate::scenarios) async fn kubernetes_node_is_cut_off(world: &mut World) -> Result<String> {
    without_a_node(world, "a Kubernetes node is cut off", "cut", "heal").await
}

pub(in crate::scenarios) async fn api_server_is_down(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    world.cluster.devcluster(&["api-server", "stop"]).await?;
    sleep(AWAY_FOR).await;
    let answers = world.cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]).await.is_ok();
    let talked = match world.group.as_ref() {
        Some(group) => group.progress(Duration::from_secs(5)).await,
        None => Ok(()),
    };
    world.cluster.devcluster(&["api-server", "start"]).await?;
    ensure!(!answers, "the API server answered: it was not down");
    talked?;
    world
        .cluster
        .until("the API server answers", WITHIN, || async {
            let nodes = world.cluster.kubectl(&["get", "--raw", "/readyz"]).await?;
            Ok(if nodes == "ok" { Ok(()) } else { Err(nodes) })
        })
        .await?;
    square(world).wait_nodes(world.square.nodes, WITHIN).await?;
    act.end(world, "the API server is down for 8 s").await
}
