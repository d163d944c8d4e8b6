//! Where everything is: the state of the running cluster, the cache of what was built, and the addresses.

use std::env;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// All files of the running cluster; `down` removes it whole.
pub const STATE: &str = "/var/lib/chatroom-devcluster";
/// Held by whichever command changes the cluster. Outside of [`STATE`], which that command may remove.
pub(crate) const LOCK: &str = "/run/chatroom-devcluster.lock";
/// The cgroup under which, in every hierarchy, all processes of the cluster live.
pub(crate) const CGROUP: &str = "chatroom-devcluster";
/// The host's end of the cluster's network.
pub(crate) const HOST_LINK: &str = "chat-devcluster";
/// A bound that keeps the address plan simple.
pub const MAX_NODES: usize = 32;

pub(crate) const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 1);
pub(crate) const CONTROL_PLANE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 89, 0, 2);
pub(crate) const POD_NETWORK: &str = "10.244.0.0/16";
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";
pub(crate) const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
pub(crate) const API_PORT: u16 = 6443;

pub(crate) const LAN: &str = "lan";
pub(crate) const CONTROL_PLANE: &str = "control-plane";

pub(crate) fn node_name(index: usize) -> String {
    format!("node{index}")
}

/// The address of Kubernetes node `index` on the cluster's network.
#[must_use]
pub fn node_address(index: usize) -> Ipv4Addr {
    let last = u8::try_from(10 + index).expect("the index is below MAX_NODES");
    Ipv4Addr::new(10, 89, 0, last)
}

pub(crate) fn pod_network(index: usize) -> String {
    format!("10.244.{index}.0/24")
}

pub(crate) fn state() -> &'static Path {
    Path::new(STATE)
}

pub(crate) fn machine_dir(machine: &str) -> PathBuf {
    state().join("machines").join(machine)
}

/// The copy of this program that the machines run, so that a rebuild changes nothing under a running cluster.
pub(crate) fn own_program() -> PathBuf {
    state().join("bin/devcluster")
}

pub(crate) fn pki_dir() -> PathBuf {
    state().join("pki")
}

/// The administrator's kubeconfig; it carries its certificates in itself.
#[must_use]
pub fn kubeconfig() -> PathBuf {
    state().join("kubeconfig")
}

/// What was built and may be used by the next cluster: binaries and images.
///
/// # Errors
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache() -> Result<PathBuf> {
    let base = match (env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(dir), _) if Path::new(&dir).is_absolute() => PathBuf::from(dir),
        (_, Some(home)) if !home.is_empty() => Path::new(&home).join(".cache"),
        _ => bail!("no place for the cache: set HOME, or XDG_CACHE_HOME to an absolute path"),
    };
    Ok(base.join("chatroom").join("devcluster"))
}
