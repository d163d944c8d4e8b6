//! The cluster's network: a bridge in the `lan` machine, a link from it to every other machine and to the host.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::layout::{HOST_ADDRESS, HOST_LINK, MAX_NODES, SERVICE_NETWORK, node_address, pod_network};
use crate::machine::in_network;
use crate::process::{SHORT, run, run_with_input, wait_until};

/// The host's link, as the bridge's side names it.
const HOST_PORT: &str = "host";

/// Sets up the bridge and the host's link to it; the host reaches pods and services through the nodes.
pub(crate) fn connect_host(lan: i32, nodes: usize) -> Result<()> {
    ip_in(lan, "link set lo up\nlink add br0 type bridge\nlink set br0 up\n")?;
    refuse_foreign_network()?;
    // The old link's namespace may be dying still.
    retry("the host's link", || {
        drop(ip(&format!("link del {HOST_LINK}\n")));
        ip(&format!("link add {HOST_LINK} type veth peer name {HOST_PORT} netns {lan}\n"))
    })?;
    ip_in(lan, &format!("link set {HOST_PORT} master br0 up\n"))?;
    ip(&format!("addr add {HOST_ADDRESS}/24 dev {HOST_LINK}\nlink set {HOST_LINK} up\n"))?;
    route_host(nodes)
}

/// The host's routes to the pods of every Kubernetes node, and to services through the first.
pub(crate) fn route_host(nodes: usize) -> Result<()> {
    let mut batch = format!("route replace {SERVICE_NETWORK} via {} dev {HOST_LINK}\n", node_address(0));
    for node in 0..nodes {
        batch += &format!("route replace {} via {} dev {HOST_LINK}\n", pod_network(node), node_address(node));
    }
    ip(&batch)
}

/// Links a machine to the bridge and gives it its address and its routes to the pods of the others.
pub(crate) fn connect(lan: i32, machine: &str, pid: i32, address: &str) -> Result<()> {
    retry(&format!("the link of {machine}"), || {
        drop(ip_in(lan, &format!("link del {machine}\n")));
        ip_in(lan, &format!("link add {machine} type veth peer name eth0 netns {pid}\n"))
    })?;
    ip_in(lan, &format!("link set {machine} master br0 up\n"))?;
    let mut batch = format!(
        "link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\nroute add default via {HOST_ADDRESS}\n"
    );
    // Routes to nodes that do not exist yet cost nothing, and adding a node changes no other.
    for node in (0..MAX_NODES).filter(|&node| node_address(node).to_string() != address) {
        batch += &format!("route add {} via {}\n", pod_network(node), node_address(node));
    }
    ip_in(pid, &batch)
}

/// Pulls the plug of a machine, or puts it back.
pub(crate) fn set_link(lan: i32, machine: &str, up: bool) -> Result<()> {
    ip_in(lan, &format!("link set {machine} {}\n", if up { "up" } else { "down" }))
}

pub(crate) fn link_is_up(lan: i32, machine: &str) -> bool {
    let shown = run(in_network(lan, "ip").args(["-o", "link", "show", "dev", machine, "up"]), SHORT);
    shown.is_ok_and(|line| !line.trim().is_empty())
}

/// Removes the host's link; it goes by itself with the `lan` machine, but seconds late.
pub(crate) fn disconnect_host() -> Result<()> {
    if host_link_exists() {
        // It may go by itself between the look and the removal.
        drop(ip(&format!("link del {HOST_LINK}\n")));
        if host_link_exists() {
            bail!("the link {HOST_LINK} stays; remove it with: ip link del {HOST_LINK}");
        }
    }
    Ok(())
}

pub(crate) fn host_link_exists() -> bool {
    run(Command::new("ip").args(["-o", "link", "show", "dev", HOST_LINK]), SHORT).is_ok()
}

/// The addresses are fixed; somebody else's use of them must not be broken.
fn refuse_foreign_network() -> Result<()> {
    let routes = run(Command::new("ip").args(["-4", "-o", "route", "show"]), SHORT)?;
    match foreign_route(&routes) {
        Some(route) => bail!(
            "the addresses 10.89.0.0/24, 10.96.0.0/16 and 10.244.0.0/16 must be free on this machine, \
             but it has the route `{route}`; remove that network first"
        ),
        None => Ok(()),
    }
}

fn foreign_route(routes: &str) -> Option<&str> {
    routes.lines().map(str::trim).find(|line| {
        let ours = line.split_whitespace().any(|word| word == HOST_LINK);
        !ours && ["10.89.0.", "10.96.", "10.244."].iter().any(|prefix| line.starts_with(prefix))
    })
}

fn retry(what: &str, make: impl FnMut() -> Result<()>) -> Result<()> {
    wait_until(what, Duration::from_secs(10), Duration::from_millis(50), make)
}

fn ip(batch: &str) -> Result<()> {
    run_with_input(Command::new("ip").args(["-batch", "-"]), batch, SHORT).map(drop).context("on the host")
}

fn ip_in(pid: i32, batch: &str) -> Result<()> {
    run_with_input(in_network(pid, "ip").args(["-batch", "-"]), batch, SHORT)
        .map(drop)
        .with_context(|| format!("in the network of process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_foreign_routes_are_refused() {
        let ours =
            "default via 192.0.2.1 dev eth0\n10.89.0.0/24 dev chat-devcluster proto kernel scope link\n";
        assert_eq!(foreign_route(ours), None);
        let podman = "10.89.0.0/24 dev podman1 proto kernel scope link";
        assert_eq!(foreign_route(podman), Some(podman));
    }
}
