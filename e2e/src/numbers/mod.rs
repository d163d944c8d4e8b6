//! Measures what a newcomer asks first, and writes it down. Nothing here is asserted.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::{cluster::Cluster, scenarios::World};

mod pauses;
mod timeline;

use timeline::{STATIONS, Timeline};

/// Rooms that are started to see what each costs.
const ROOMS: usize = 10;
/// How long the cluster is watched at rest.
const REST: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "numbers";

/// Runs everything on a cluster that was just started, and gives the page.
pub async fn measure(world: &mut World) -> Result<String> {
    let mut page = String::from(
        "# Numbers\n\nMade by `cargo xtask numbers`, on one machine; another will give others. Times are wall-clock; memory is \
         the proportional set size (PSS).\n",
    );
    about_the_machine(&mut page);
    images(&mut page, world)?;
    restart(&mut page, world).await?;
    crate::scenarios::install(world).await?;
    rooms(&mut page, world).await?;
    world.cluster.kubectl(&["delete", "namespace", NAMESPACE, "--wait", "--timeout=120s"]).await?;
    pauses::measure(&mut page, world).await?;
    Ok(page)
}

fn about_the_machine(page: &mut String) {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let _ = writeln!(
        page,
        "\nMachine: {cores} cores, {}.\n",
        model.trim_start_matches(['\t', ' ', ':']).trim_end()
    );
    let _ = writeln!(page, "| what | measured |\n|---|---|");
}

fn row(page: &mut String, what: &str, measured: &str) {
    let _ = writeln!(page, "| {what} | {measured} |");
    eprintln!("    {what}: {measured}");
}

fn images(page: &mut String, world: &World) -> Result<()> {
    for (name, program) in [("chat-node", &world.programs.chat_node), ("operator", &world.programs.operator)]
    {
        let whole = mib(fs::metadata(program)?.len());
        let packed = mib(compressed(program)?);
        row(
            page,
            &format!("image `{name}`, one static program"),
            &format!("{whole} MiB, {packed} MiB compressed (gzip)"),
        );
    }
    Ok(())
}

fn compressed(program: &Path) -> Result<u64> {
    let output = Command::new("gzip").args(["--stdout"]).arg(program).output().context("cannot run gzip")?;
    Ok(output.stdout.len() as u64)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Down and up again, with everything built.
async fn restart(page: &mut String, world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let start = Instant::now();
    cluster.devcluster(&["down"]).await?;
    row(page, "cluster, `down`", &seconds(start.elapsed()));
    let start = Instant::now();
    cluster.devcluster(&["up", "--nodes", &cluster.nodes.to_string()]).await?;
    let nodes = cluster.nodes;
    row(
        page,
        &format!("cluster, `up` warm: {nodes} Kubernetes nodes, DNS, storage, metrics"),
        &seconds(start.elapsed()),
    );
    Ok(())
}

async fn rooms(page: &mut String, world: &World) -> Result<()> {
    let cluster = &world.cluster;
    cluster.kubectl(&["create", "namespace", NAMESPACE]).await?;
    let mut times = Vec::new();
    let mut parts = Vec::new();
    let mut timeline = Timeline::begin(cluster, NAMESPACE)?;
    let memory_before = cluster_memory(cluster).await?;
    for number in 0..ROOMS {
        let start = Instant::now();
        cluster.apply(&room(number, &world.node_image)).await?;
        let taken = timeline.of(&format!("room{number}"), start).await?;
        times.push(taken.iter().sum::<Duration>());
        parts.push(taken);
    }
    drop(timeline);
    times.sort_unstable();
    let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    let text = format!("median {}, {} to {}", seconds(median), seconds(least), seconds(most));
    row(
        page,
        &format!("`kubectl apply` of a room until it is Ready ({ROOMS} rooms, one after the other)"),
        &text,
    );
    for (station, name) in STATIONS.iter().enumerate() {
        let mut taken: Vec<Duration> = parts.iter().map(|part| part[station]).collect();
        taken.sort_unstable();
        row(page, &format!("– of it: {name}"), &format!("median {}", seconds(taken[taken.len() / 2])));
    }
    sleep(Duration::from_secs(20)).await;
    let memory_after = cluster_memory(cluster).await?;
    let each = memory_after.saturating_sub(memory_before) / ROOMS as u64;
    row(page, "memory of a chat node at rest", &format!("{} MiB", pss_of("chat-node")?));
    row(
        page,
        &format!("memory of the operator at rest, {ROOMS} rooms"),
        &format!("{} MiB", pss_of("operator")?),
    );
    row(
        page,
        "memory that one more room costs the cluster, its pod's shim and pause included",
        &format!("{} MiB", mib(each)),
    );
    if let Some(fit) = (1u64 << 30).checked_div(each) {
        row(page, "rooms of one node that fit into a GiB", &fit.to_string());
    }
    let writes = writes_at_rest(cluster).await?;
    let text = if writes.is_empty() { "none".to_owned() } else { writes.join(", ") };
    let what = format!("API writes in {} s at rest with {ROOMS} rooms, Leases left out", REST.as_secs());
    row(page, &what, &text);
    Ok(())
}

fn room(number: usize, image: &str) -> String {
    format!(
        "apiVersion: chatroom.dev/v1alpha1
kind: ChatRoom
metadata: {{name: room{number}, namespace: {NAMESPACE}}}
spec:
  replicas: 1
  mode: {{stateful: {{tolerate: {{nodeFailures: 0}}, storage: {{size: 256Mi, retain: Delete}}}}}}
  node: {{image: '{image}', imagePullPolicy: Never}}
"
    )
}

/// What `devcluster status` adds up to, in bytes.
async fn cluster_memory(cluster: &Cluster) -> Result<u64> {
    let status = cluster.devcluster(&["status"]).await?;
    let total = status
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [number, "MiB"] => number.parse::<u64>().ok(),
                _ => None,
            }
        })
        .next();
    Ok(total.context("`devcluster status` says no total")? << 20)
}

/// Mean PSS of all processes with this name, MiB.
fn pss_of(name: &str) -> Result<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() != name {
            continue;
        }
        let rollup = read("smaps_rollup");
        let pss = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
        all.extend(pss.map(|kib: u64| kib * 1024));
    }
    Ok(mib(all.iter().sum::<u64>() / (all.len() as u64).max(1)))
}

/// Requests that changed something while nobody wanted anything, by verb and resource.
async fn writes_at_rest(cluster: &Cluster) -> Result<Vec<String>> {
    let before = write_counts(cluster).await?;
    sleep(REST).await;
    let after = write_counts(cluster).await?;
    let grown = after.into_iter().filter_map(|(what, count)| {
        let was = before.iter().find(|(other, _)| *other == what).map_or(0, |(_, count)| *count);
        (count > was).then(|| format!("{} {what}", count - was))
    });
    Ok(grown.collect())
}

/// Writes that the API server counted, of the kinds that the operator writes.
async fn write_counts(cluster: &Cluster) -> Result<Vec<(String, u64)>> {
    const KINDS: [&str; 8] = [
        "chatrooms",
        "statefulsets",
        "services",
        "configmaps",
        "serviceaccounts",
        "networkpolicies",
        "poddisruptionbudgets",
        "events",
    ];
    let text = cluster.kubectl(&["get", "--raw", "/metrics"]).await?;
    let mut counts: Vec<(String, u64)> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
        let Some((labels, count)) = line.split_once("} ") else { continue };
        let label = |name: &str| {
            let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
            labels[start..].split('"').next()
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        if !matches!(verb, "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE") || !KINDS.contains(&resource) {
            continue;
        }
        let count = count.parse::<f64>().unwrap_or_default() as u64;
        let what = format!("{verb} {resource}");
        match counts.iter_mut().find(|(other, _)| *other == what) {
            Some((_, sum)) => *sum += count,
            None => counts.push((what, count)),
        }
    }
    Ok(counts)
}
