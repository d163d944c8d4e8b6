//! Pods that try a chat node from inside the cluster: two guests of `chat-node check`.

use anyhow::{Result, bail};

use super::World;
use crate::room::NAMESPACE;

/// How a visit is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
}

/// Runs `chat-node check` in a pod of the rooms' namespace; gives what it said, or fails where it ends otherwise.
pub(super) async fn visit(world: &World, name: &str, check: &[&str], end: End) -> Result<String> {
    let image = &world.node_image;
    let args: String = check.iter().map(|arg| format!(", '{arg}'")).collect();
    let pod = format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: check
    image: '{image}'
    imagePullPolicy: Never
    args: [check{args}]
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    );
    world.cluster.apply(&pod).await?;
    let reached = format!("--for=jsonpath={{.status.phase}}={end:?}");
    let target = format!("pod/{name}");
    let wait = ["wait", &target, "--namespace", NAMESPACE, &reached, "--timeout=60s"];
    let waited = world.cluster.kubectl(&wait).await;
    let said = world.cluster.kubectl(&["logs", name, "--namespace", NAMESPACE]).await?;
    if let Err(error) = waited {
        bail!("pod {name} should have {end:?}: {error:#}; it said:\n{said}");
    }
    world.cluster.kubectl(&["delete", &target, "--namespace", NAMESPACE]).await?;
    Ok(said)
}
