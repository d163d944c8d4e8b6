//! A room over somebody's own store, with a password in a Secret.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{READER, STOCK, WITHIN, WRITER, World, install};
use crate::{
    group::Group,
    places::Places,
    room::{Log, NAMESPACE, Wish},
    scenarios::{
        fault::{kill, restarts},
        visitor::{End, visit},
    },
};

const AGORA: &str = "agora";
const SECRET: &str = "our-store";

fn store(image: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: {SECRET}, namespace: {NAMESPACE}}}
stringData:
  url: redis://chat:open-sesame@{SECRET}.{NAMESPACE}.svc:6379/3
  server.conf: |
    appendonly yes
    appendfsync always
    maxmemory-policy noeviction
    dir /data
    requirepass for-administrators
    user chat on >open-sesame ~* &* +@all
---
apiVersion: v1
kind: Service
metadata: {{name: {SECRET}, namespace: {NAMESPACE}}}
spec: {{selector: {{app: {SECRET}}}, ports: [{{port: 6379}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {SECRET}, namespace: {NAMESPACE}, labels: {{app: {SECRET}}}}}
spec:
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: server
    image: '{image}'
    imagePullPolicy: Never
    command: [redis-server, /etc/store/server.conf]
    volumeMounts: [{{name: conf, mountPath: /etc/store, readOnly: true}}, {{name: data, mountPath: /data}}]
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
  volumes:
  - {{name: conf, secret: {{secretName: {SECRET}}}}}
  - {{name: data, emptyDir: {{}}}}
"
    )
}

pub(in crate::scenarios) async fn room_has_its_own_store(world: &mut World) -> Result<String> {
    let found = talk(world).await;
    // Also when it failed, so that the next run finds the place empty.
    let room = ["delete", "chatroom", AGORA, "--namespace", NAMESPACE, "--timeout=60s"];
    world.cluster.kubectl(&room).await?;
    let delete = ["delete", "--ignore-not-found", "--grace-period=1", "-f", "-"];
    world.cluster.kubectl_with_input(&delete, &store(&world.store_image)).await?;
    found
}

async fn talk(world: &World) -> Result<String> {
    let cluster = &world.cluster;
    let wish =
        Wish { name: AGORA, replicas: Some(2), log: Log::StoreOf { secret: SECRET }, ..install::wish(world) };
    cluster.apply(&wish.manifest()).await?;
    let room = world.room(NAMESPACE, AGORA);
    room.wait_condition("Ready", "False", &[SECRET], WITHIN)
        .await
        .context("a room whose Secret is missing names it")?;
    cluster.apply(&store(&world.store_image)).await?;
    room.wait_nodes(2, WITHIN).await?;
    let places = Places::behind(cluster, NAMESPACE, AGORA);
    let mut people = Group::empty(places.clone());
    people.join("reader", 1, &places, READER);
    people.join("writer", 3, &places, WRITER);
    people.join("stock", 1, &places, STOCK);
    people.progress(Duration::from_secs(30)).await?;

    let mark = people.mark();
    let server = ["get", "pod", SECRET, "--namespace", NAMESPACE];
    let before = cluster.json(&server).await?;
    kill(before["metadata"]["uid"].as_str().unwrap_or_default(), "redis-server")?;
    cluster
        .until("the store runs again", WITHIN, || async {
            let pod = cluster.json(&server).await?;
            let runs =
                restarts(&pod) > restarts(&before) && pod["status"]["containerStatuses"][0]["ready"] == true;
            Ok(if runs { Ok(()) } else { Err("not yet".into()) })
        })
        .await?;
    room.wait_nodes(2, WITHIN).await?;
    people.progress(Duration::from_secs(5)).await?;
    let found = people.check(Duration::from_secs(30)).await?;
    let ended = people.ended_since(&mark);
    ensure!(ended.is_empty(), "connections ended with the store, though no pod of the room did: {ended:?}");
    // Nothing keeps others from this store: a visit gets further there than to a store that the operator runs.
    let address = format!("{SECRET}.{NAMESPACE}:6379");
    let said = visit(world, "anybody", &[&address, "--timeout", "5"], End::Failed).await?;
    ensure!(said.contains("connected to"), "a visit tells an open store from a closed one by that:\n{said}");
    Ok(found)
}
