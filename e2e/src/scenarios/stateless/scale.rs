//! More nodes and fewer, by hand and by an autoscaler.

use anyhow::{Result, ensure};
use tokio::time::{Duration, Instant, sleep};

use super::{NODES, PLAZA, WITHIN, World, act::Act, group, plaza, scale};
use crate::room::NAMESPACE;

const MOST: u64 = 8;
const LEAST: u64 = 2;

pub(in crate::scenarios) async fn scaled_up_and_down(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    scale(world, MOST).await?;
    plaza(world).wait_nodes(MOST, WITHIN).await?;
    ensure!(act.gone(world).await?.is_empty(), "pods went where some were to come");
    let up = act.end(world, "2 → 8 nodes").await?;

    spread(world).await?;
    let act = Act::begin(world).await?;
    scale(world, LEAST).await?;
    plaza(world).wait_nodes(LEAST, WITHIN).await?;
    let gone = act.gone(world).await?.len() as u64;
    ensure!(gone == MOST - LEAST, "{gone} of {MOST} pods went");
    let down = act.end(world, "8 → 2 nodes").await?;

    scale(world, NODES).await?;
    plaza(world).wait_nodes(NODES, WITHIN).await?;
    spread(world).await?;
    Ok(format!("up: {up}; down: {down}"))
}

/// Has everybody who is led to pods come back to the next one, so that all pods have somebody.
pub(super) async fn spread(world: &mut World) -> Result<()> {
    let nodes = plaza(world).pods().await?.len();
    let group = group(world)?;
    let deadline = Instant::now() + WITHIN;
    while group.pods().len() < nodes {
        ensure!(Instant::now() < deadline, "clients do not come to all of {nodes} pods");
        group.move_on("");
        sleep(Duration::from_secs(2)).await;
    }
    group.progress(WITHIN).await
}

pub(in crate::scenarios) async fn autoscaler_scales(world: &mut World) -> Result<String> {
    let act = Act::begin(world).await?;
    let cluster = world.cluster.clone();
    let before = plaza(world).pods().await?.len() as u64;
    let most = before + 1;
    let room = format!("chatroom/{PLAZA}");
    // People who talk use more than this of what a node asks for; in the end nobody could.
    let (min, max) = (format!("--min={LEAST}"), format!("--max={most}"));
    let autoscale = ["autoscale", &room, "--namespace", NAMESPACE, "--cpu=1%", &min, &max];
    cluster.kubectl(&autoscale).await?;
    let start = Instant::now();
    let scaled = plaza(world).wait_nodes(most, WITHIN).await;
    let took = start.elapsed();
    let hpa = cluster.kubectl(&["get", "hpa", PLAZA, "--namespace", NAMESPACE, "--output", "yaml"]).await?;
    cluster.kubectl(&["delete", "hpa", PLAZA, "--namespace", NAMESPACE]).await?;
    scaled.map_err(|error| error.context(hpa))?;
    let found = act.end(world, "an autoscaler adds a node").await?;
    scale(world, before).await?;
    plaza(world).wait_nodes(before, WITHIN).await?;
    Ok(format!("a node more after {:.0} s; {found}", took.as_secs_f64()))
}
