//! More nodes and fewer, by hand and by an autoscaler.

use anyhow::{Result, ensure};
use tokio::time::{Duration, Instant, sleep};

use super::{Square, WITHIN, World, act::Act, group, scale, square};
use crate::room::NAMESPACE;

pub(in crate::scenarios) async fn scaled_up_and_down(world: &mut World) -> Result<String> {
    let Square { nodes, least, most, .. } = world.square;
    let act = Act::begin(world).await?;
    scale(world, most).await?;
    square(world).wait_nodes(most, WITHIN).await?;
    ensure!(act.gone(world).await?.is_empty(), "pods went where some were to come");
    let up = act.end(world, world.square.growth).await?;

    spread(world).await?;
    let act = Act::begin(world).await?;
    scale(world, least).await?;
    square(world).wait_nodes(least, WITHIN).await?;
    let gone = act.gone(world).await?.len() as u64;
    ensure!(gone == most - least, "{gone} of {most} pods went");
    let down = act.end(world, world.square.shrinking).await?;

    scale(world, nodes).await?;
    square(world).wait_nodes(nodes, WITHIN).await?;
    spread(world).await?;
    Ok(format!("up: {up}; down: {down}"))
}

/// Has everybody who is led to pods come back to the next one, so that all pods have somebody.
pub(super) async fn spread(world: &mut World) -> Result<()> {
    let nodes = square(world).pods().await?.len();
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
    let before = square(world).pods().await?.len() as u64;
    let most = before + 1;
    let Square { name, least, .. } = world.square;
    let room = format!("chatroom/{name}");
    // People who talk use more than this of what a node asks for; in the end nobody could.
    let (min, max) = (format!("--min={least}"), format!("--max={most}"));
    let autoscale = ["autoscale", &room, "--namespace", NAMESPACE, "--cpu=1%", &min, &max];
    cluster.kubectl(&autoscale).await?;
    let start = Instant::now();
    let scaled = square(world).wait_nodes(most, WITHIN).await;
    let took = start.elapsed();
    let hpa = cluster.kubectl(&["get", "hpa", name, "--namespace", NAMESPACE, "--output", "yaml"]).await?;
    cluster.kubectl(&["delete", "hpa", name, "--namespace", NAMESPACE]).await?;
    scaled.map_err(|error| error.context(hpa))?;
    let found = act.end(world, "an autoscaler adds a node").await?;
    scale(world, before).await?;
    square(world).wait_nodes(before, WITHIN).await?;
    Ok(format!("a node more after {:.0} s; {found}", took.as_secs_f64()))
}
