//! Disks that rot and disks that fill up.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{task::JoinSet, time::timeout};

use super::{
    World,
    change::changed,
    fault::{group, recovered},
    install::wish,
};
use crate::{
    client::CHANNEL,
    group::Group,
    irc::Connection,
    places::Places,
    room::{NAME, NAMESPACE, Wish, condition},
};

const WITHIN: Duration = Duration::from_secs(90);

/// A segment of the log on a Kubernetes node's disk, and the copy of it on this machine as it was.
struct Segment {
    node: usize,
    path: String,
    copy: PathBuf,
}

impl Segment {
    /// Finds the newest segment of the lounge, whose pod is down.
    async fn find(world: &World, node: usize) -> Result<Self> {
        let claim = format!("data-{NAME}-0");
        let claim = world.cluster.json(&["get", "pvc", &claim, "--namespace", NAMESPACE]).await?;
        let volume = claim["spec"]["volumeName"].as_str().context("the claim has no volume")?;
        let volume = world.cluster.json(&["get", "pv", volume]).await?;
        let directory = ["local", "hostPath"].iter().find_map(|kind| volume["spec"][kind]["path"].as_str());
        let directory = directory.context("the volume is no directory")?;
        let list = format!("ls {directory}/wal-* {directory}/*/wal-* 2>/dev/null | sort | tail -n 1");
        let path = on_node(world, node, &list).await?.trim().to_owned();
        ensure!(!path.is_empty(), "there is no segment in {directory}");
        let copy = std::env::temp_dir().join(format!("chatroom-e2e-{}-segment", std::process::id()));
        on_node(world, node, &format!("cp '{path}' '{}'", copy.display())).await?;
        Ok(Self { node, path, copy })
    }

    /// Turns one bit in the middle of what was written; says where.
    async fn rot(&self, world: &World) -> Result<usize> {
        let mut bytes = fs::read(&self.copy)?;
        let end = bytes.iter().rposition(|&byte| byte != 0).context("the segment is empty")?;
        bytes[end / 2] ^= 1;
        let broken = self.copy.with_extension("broken");
        fs::write(&broken, bytes)?;
        // Into the file that is there, so that its owner stays.
        on_node(world, self.node, &format!("cat '{}' > '{}'", broken.display(), self.path)).await?;
        fs::remove_file(&broken)?;
        Ok(end / 2)
    }

    async fn restore(self, world: &World) -> Result<()> {
        on_node(world, self.node, &format!("cat '{}' > '{}'", self.copy.display(), self.path)).await?;
        Ok(fs::remove_file(&self.copy)?)
    }
}

async fn on_node(world: &World, node: usize, script: &str) -> Result<String> {
    world.cluster.devcluster(&["exec", &node.to_string(), "--", "sh", "-c", script]).await
}

pub(super) async fn log_is_broken(world: &mut World) -> Result<String> {
    let before = group(world)?.reconnects();
    let node = world.lounge().pod_node().await?;
    // As one stops a room for a while without deleting it.
    world.cluster.apply(&Wish { paused: true, ..changed(world) }.manifest()).await?;
    let set = format!("statefulset/{NAME}");
    world.cluster.kubectl(&["scale", &set, "--namespace", NAMESPACE, "--replicas=0"]).await?;
    let pod = format!("pod/{NAME}-0");
    let gone = ["wait", &pod, "--namespace", NAMESPACE, "--for=delete", "--timeout=60s"];
    world.cluster.kubectl(&gone).await?;
    let segment = Segment::find(world, node).await?;
    let at = segment.rot(world).await?;
    world.cluster.apply(&changed(world).manifest()).await?;
    let name = format!("{NAME}-0");
    let words = [name.as_str(), "wal-", "is damaged at byte", "backup"];
    world.lounge().wait_condition("Ready", "False", &words, WITHIN).await?;
    // It stays so through restarts, and is not only called a loop of crashes.
    let events = ["get", "events", "--namespace", NAMESPACE, "--field-selector", "reason=Crashed"];
    let events = world.cluster.json(&events).await?;
    ensure!(
        events["items"].as_array().is_some_and(|events| !events.is_empty()),
        "there is no event that tells of the broken log"
    );
    let room = world.lounge().get().await?;
    let said = condition(&room, "Ready").context("no Ready condition")?;
    ensure!(said.reason == "Crashed", "the reason is {} and not Crashed: {}", said.reason, said.message);
    segment.restore(world).await?;
    let found = recovered(world, before).await?;
    Ok(format!("byte {at} was turned, and the room said: {}; {found}", said.message))
}

/// A room on a small volume of its own, made by hand as one makes local volumes.
const CELLAR: &str = "cellar";
const PLACE: &str = "/var/lib/local-path-provisioner/cellar";
const NODE: usize = 0;
/// As much as rooms under test ask for; the log's files are an eighth of it.
const VOLUME_MIB: u32 = 32;
/// Clients that write large messages until nothing more goes in.
const FLOODERS: usize = 12;

fn small_volume() -> String {
    format!(
        "apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {CELLAR}}}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {CELLAR}}}
spec:
  capacity: {{storage: {VOLUME_MIB}Mi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: {CELLAR}
  local: {{path: {PLACE}}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [node{NODE}]}}]
"
    )
}

pub(super) async fn volume_is_full(world: &mut World) -> Result<String> {
    let mount = format!("mkdir -p {PLACE} && mount -t tmpfs -o size={VOLUME_MIB}m,mode=0777 cellar {PLACE}");
    on_node(world, NODE, &mount).await?;
    world.cluster.apply(&small_volume()).await?;
    let wish = Wish { name: CELLAR, storage_class: CELLAR, ..wish(world) };
    world.cluster.apply(&wish.manifest()).await?;
    let found = fill_and_free(world).await;
    // Also when it failed, so that the next run finds the place empty.
    let room = ["delete", "chatroom", CELLAR, "--namespace", NAMESPACE, "--wait", "--timeout=60s"];
    world.cluster.kubectl(&room).await?;
    let claim = format!("pvc/data-{CELLAR}-0");
    let gone = ["wait", &claim, "--namespace", NAMESPACE, "--for=delete", "--timeout=90s"];
    world.cluster.kubectl(&gone).await?;
    world.cluster.kubectl(&["delete", "pv,storageclass", CELLAR]).await?;
    on_node(world, NODE, &format!("umount {PLACE} && rmdir {PLACE}")).await?;
    found
}

async fn fill_and_free(world: &World) -> Result<String> {
    let room = world.room(NAMESPACE, CELLAR);
    room.wait_ready(WITHIN).await?;
    let addresses = room.irc_addresses(&[]).await?;
    let address = addresses[0];
    let mut group = Group::start(Places::fixed(addresses), 3, 2).await?;
    let mut reader = guest(address, "reader").await?;
    reader.send(&format!("JOIN {CHANNEL}")).await?;
    reader.wait_for(WITHIN, |line| line.verb == "366").await?;

    // Whatever space there is goes; the command that takes it fails when it has all.
    on_node(world, NODE, &format!("dd if=/dev/zero of={PLACE}/filler bs=64k status=none || true")).await?;
    let mut flooders = JoinSet::new();
    for number in 0..FLOODERS {
        flooders.spawn(async move { flood(address, number).await });
    }
    let mut refusal = String::new();
    while let Some(flooded) = flooders.join_next().await {
        refusal = flooded??;
    }
    room.wait_condition("Ready", "False", &["takes no messages", "disk is full"], WITHIN).await?;
    let status = room.get().await?;
    let said = condition(&status, "Ready").context("no Ready condition")?;
    ensure!(said.reason == "ReadOnly", "the reason is {} and not ReadOnly", said.reason);
    ensure!(
        status["status"]["summary"] == "ReadOnly",
        "the STATUS column says {}",
        status["status"]["summary"]
    );
    reader.send(&format!("CHATHISTORY LATEST {CHANNEL} * 10")).await?;
    reader.wait_for(WITHIN, |line| line.verb == "PRIVMSG").await.context("history while the disk is full")?;
    reader.send(&format!("NAMES {CHANNEL}")).await?;
    reader.wait_for(WITHIN, |line| line.verb == "366").await.context("NAMES while the disk is full")?;

    on_node(world, NODE, &format!("rm {PLACE}/filler")).await?;
    room.wait_ready(WITHIN).await?;
    group.progress(WITHIN).await?;
    let found = group.check(WITHIN).await?;
    Ok(format!("writers were told {refusal:?}; {found}"))
}

/// Somebody registered, without resuming.
async fn guest(address: std::net::SocketAddr, nick: &str) -> Result<Connection> {
    let mut connection = Connection::open(address, WITHIN).await?;
    connection.send("CAP REQ :message-tags echo-message batch standard-replies draft/chathistory").await?;
    connection.send(&format!("NICK {nick}")).await?;
    connection.send(&format!("USER {nick} 0 * :{nick}")).await?;
    connection.send("CAP END").await?;
    let greeted = connection.wait_for(WITHIN, |line| matches!(line.verb.as_str(), "376" | "422")).await;
    greeted.with_context(|| format!("the registration of {nick}"))?;
    Ok(connection)
}

/// Sends large messages to a channel of its own, as fast as it may, until one is refused; says with which words.
async fn flood(address: std::net::SocketAddr, number: usize) -> Result<String> {
    let mut connection = guest(address, &format!("flooder{number}")).await?;
    let channel = format!("#flood{number}");
    connection.send(&format!("JOIN {channel}")).await?;
    let filler = "x".repeat(4000);
    let refused = async {
        loop {
            connection.send(&format!("@+filler={filler} PRIVMSG {channel} :more")).await?;
            let answer = connection
                .wait_for(WITHIN, |line| {
                    matches!((line.verb.as_str(), line.param(0)), ("PRIVMSG", _) | ("FAIL", _))
                })
                .await?;
            if answer.verb == "FAIL" {
                return anyhow::Ok(answer);
            }
        }
    };
    let refused = timeout(Duration::from_secs(180), refused).await.context("the disk did not fill up")?;
    let answer = refused.with_context(|| format!("an answer to flooder{number}'s message"))?;
    if answer.param(1) != "READ_ONLY" {
        bail!("flooder{number} was refused otherwise: {}", answer.params.join(" "));
    }
    Ok(answer.params.join(" "))
}
