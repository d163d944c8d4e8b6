//! Where the time goes between `kubectl apply` of a room and its being Ready: when each object was first seen so far.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::cluster::Cluster;

/// The stations of a start, in order; each begins where the one before ends.
pub(super) const STATIONS: [&str; 6] = [
    "apply returns, the operator has written its objects, the claim exists",
    "a Kubernetes node is chosen and the volume is made there (local-path: by a pod of its own)",
    "the pod is bound to that node",
    "sandbox, network, container start",
    "the probes pass",
    "endpoint, the operator hears the node, `Ready` is written",
];

/// Lines per event: what, a space, words.
const CLAIMS: (&str, &str) = ("pvc", "claim {.metadata.name} {.status.phase}");
const PODS: (&str, &str) = (
    "pods",
    "pod {.metadata.name} node={.spec.nodeName} started={.status.containerStatuses[0].state.running.startedAt} \
     ready={.status.containerStatuses[0].ready}",
);
const ROOMS: (&str, &str) =
    ("chatrooms", r#"room {.metadata.name} {.status.conditions[?(@.type=="Ready")].status}"#);

/// Watches everything in a namespace and keeps when each station of each room was reached.
pub(super) struct Timeline {
    lines: mpsc::Receiver<(Instant, String)>,
    watches: Vec<JoinHandle<()>>,
    reached: BTreeMap<(String, usize), Instant>,
}

impl Drop for Timeline {
    fn drop(&mut self) {
        for watch in &self.watches {
            watch.abort();
        }
    }
}

impl Timeline {
    pub(super) fn begin(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let (sender, lines) = mpsc::channel(1024);
        let mut watches = Vec::new();
        for (kind, words) in [CLAIMS, PODS, ROOMS] {
            let output = format!("jsonpath={words}{{\"\\n\"}}");
            let args = ["get", kind, "--namespace", namespace, "--watch", "--output", &output];
            let mut child = cluster.spawn("kubectl", &args)?;
            let stdout = child.stdout.take().context("kubectl's output is piped")?;
            let sender = sender.clone();
            watches.push(tokio::spawn(async move {
                let mut read = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = read.next_line().await {
                    if sender.send((Instant::now(), line)).await.is_err() {
                        break;
                    }
                }
                drop(child);
            }));
        }
        Ok(Self { lines, watches, reached: BTreeMap::new() })
    }

    /// Waits until the room is Ready; gives how long each station took.
    pub(super) async fn of(&mut self, room: &str, start: Instant) -> Result<[Duration; STATIONS.len()]> {
        let last = (room.to_owned(), STATIONS.len() - 1);
        while !self.reached.contains_key(&last) {
            let line = timeout(Duration::from_secs(120), self.lines.recv()).await;
            let (at, line) = line
                .with_context(|| format!("{room} does not become Ready"))?
                .context("the watches ended")?;
            if let Some((room, station)) = station(&line) {
                self.reached.entry((room, station)).or_insert(at);
            }
        }
        let mut before = start;
        Ok(std::array::from_fn(|station| {
            // Watches are not ordered among each other: what was overtaken took no time.
            let at = self.reached.get(&(room.to_owned(), station)).copied().unwrap_or(before).max(before);
            let took = at - before;
            before = at;
            took
        }))
    }
}

/// The room and the station that a line shows as reached.
fn station(line: &str) -> Option<(String, usize)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (room, station) = match words[..] {
        ["claim", name, phase] => (name.strip_prefix("data-")?, if phase == "Bound" { 1 } else { 0 }),
        ["pod", name, node, started, ready] => {
            let set = |word: &str| word.split_once('=').is_some_and(|(_, value)| !value.is_empty());
            let station = match (set(node), set(started), ready) {
                (_, _, "ready=true") => 4,
                (_, true, _) => 3,
                (true, ..) => 2,
                _ => return None,
            };
            (name, station)
        }
        ["room", name, "True"] => return Some((name.to_owned(), 5)),
        _ => return None,
    };
    Some((room.strip_suffix("-0")?.to_owned(), station))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_stations() {
        for (line, wanted) in [
            ("claim data-a-0 Pending", Some(0)),
            ("claim data-a-0 Bound", Some(1)),
            ("pod a-0 node= started= ready=", None),
            ("pod a-0 node=node1 started= ready=false", Some(2)),
            ("pod a-0 node=node1 started=2026-01-01T00:00:00Z ready=false", Some(3)),
            ("pod a-0 node=node1 started=2026-01-01T00:00:00Z ready=true", Some(4)),
            ("room a False", None),
            ("room a True", Some(5)),
        ] {
            assert_eq!(station(line), wanted.map(|station| ("a".to_owned(), station)), "{line}");
        }
    }
}
