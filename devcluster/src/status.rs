//! What runs, told to a person.

use std::fmt::Write as _;

use anyhow::Result;

use crate::cluster::Cluster;
use crate::layout::{CONTROL_PLANE, LAN, kubeconfig, node_name};
use crate::machine::{memory, running};
use crate::network::link_is_up;

/// A table of the machines, and what Kubernetes says of its nodes.
///
/// # Errors
/// When the table cannot be made; a cluster that does not answer is part of the table.
pub(crate) fn report(cluster: &Cluster) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{:<15} {:<12} {:>9}", "MACHINE", "STATE", "MEMORY")?;
    let mut total = 0;
    let lan = running(&cluster.cgroups, LAN);
    let nodes = (0..cluster.nodes()).map(node_name);
    for name in [LAN, CONTROL_PLANE].map(str::to_owned).into_iter().chain(nodes) {
        let bytes = memory(&cluster.cgroups, &name);
        total += bytes;
        let state = match (running(&cluster.cgroups, &name), lan) {
            (None, _) => "powered off",
            _ if cluster.cgroups.is_frozen(&name) => "frozen",
            (Some(_), Some(lan)) if name != LAN && !link_is_up(lan, &name) => "cut off",
            _ => "running",
        };
        writeln!(text, "{name:<15} {state:<12} {:>5} MiB", bytes >> 20)?;
    }
    writeln!(text, "{:<15} {:<12} {:>5} MiB\n", "", "", total >> 20)?;
    match cluster.kubectl(&["get", "nodes", "--request-timeout=5s"]) {
        Ok(nodes) => text += &nodes,
        Err(error) => writeln!(text, "The API server does not answer: {error:#}")?,
    }
    writeln!(text, "\nkubeconfig: {}", kubeconfig().display())?;
    Ok(text)
}
