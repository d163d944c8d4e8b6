//! A Kubernetes node's machine: containerd, kubelet, kube-proxy and the policy enforcer, with their configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::Timings;
use crate::control_plane::{args, cluster_dns, daemon, daemon_at};
use crate::layout::{
    API_PORT, CGROUP, CONTROL_PLANE_ADDRESS, POD_NETWORK, machine_dir, node_address, node_name, own_program,
    pki_dir, pod_network,
};
use crate::machine::{Answer, Daemon, MachineSpec};
use crate::pki::{Authority, Subject, crt, write_kubeconfig};
use crate::tools::{Programs, inside};

/// containerd's socket, which is reachable from the host too.
pub(crate) fn socket(node: &str) -> PathBuf {
    machine_dir(node).join("containerd.sock")
}

/// Issues the node's credentials.
pub(crate) fn ensure_credentials(index: usize) -> Result<()> {
    let name = node_name(index);
    Authority::ensure("ca")?.issue(
        &name,
        &Subject {
            common_name: &format!("system:node:{name}"),
            organization: Some("system:nodes"),
            ..Subject::default()
        },
    )?;
    write_kubeconfig(&pki_dir().join(format!("{name}.kubeconfig")), &name)
}

pub(crate) fn spec(programs: &Programs, index: usize, timings: Timings, pause_image: &str) -> MachineSpec {
    let name = node_name(index);
    let dir = machine_dir(&name);
    let own = |inside: &str, source: &str| (PathBuf::from(inside), dir.join(source));
    let pretended = [
        ("vm.overcommit_memory", "1"),
        ("vm.panic_on_oom", "0"),
        ("kernel.panic", "10"),
        ("kernel.panic_on_oops", "1"),
        ("kernel.keys.root_maxkeys", "1000000"),
        ("kernel.keys.root_maxbytes", "25000000"),
    ];
    let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let files = [
        ("containerd.toml", containerd_config(&name, pause_image)),
        ("cni/10-pods.conflist", format!("{:#}", cni_config(index))),
        ("kubelet.json", format!("{:#}", kubelet_config(index, timings))),
        ("kube-proxy.json", format!("{:#}", proxy_config(&name))),
        // No name server: pods with the node's own resolver see no other names than the cluster's.
        ("resolv.conf", "nameserver 127.0.0.1\n".to_owned()),
    ];
    MachineSpec {
        name,
        tools: programs.root().to_owned(),
        mounts: vec![
            own("/var/lib/kubelet", "kubelet"),
            own("/var/lib/containerd", "containerd"),
            own("/var/lib/local-path-provisioner", "volumes"),
            own("/var/log/pods", "pod-logs"),
        ],
        files: files.map(|(name, text)| (PathBuf::from(name), text)).into(),
        pretended_sysctls: pretended.map(text).into(),
        sysctls: [("net.ipv4.ip_forward", "1")].map(text).into(),
        daemons: daemons(index),
    }
}

fn daemons(index: usize) -> Vec<Daemon> {
    let name = node_name(index);
    let dir = machine_dir(&name);
    let file = |name: &str| dir.join(name).display().to_string();
    let api = Answer::Tcp(SocketAddr::from((CONTROL_PLANE_ADDRESS, API_PORT)));
    let mut containerd = daemon(
        "containerd",
        None,
        vec!["--config".to_owned(), file("containerd.toml"), "--log-level".to_owned(), "warn".to_owned()],
    );
    // It looks for its shim here.
    let shim = inside("containerd-shim-runc-v2");
    let path = containerd.env.entry("PATH".to_owned()).or_default();
    *path = format!("{}:{path}", shim.parent().unwrap_or(Path::new("/")).display());
    let mut kubelet = daemon(
        "kubelet",
        Some(Answer::UnixSocket(socket(&name))),
        args([
            ("config", file("kubelet.json")),
            ("kubeconfig", pki_dir().join(format!("{name}.kubeconfig")).display().to_string()),
            ("hostname-override", name.clone()),
            ("node-ip", node_address(index).to_string()),
            ("v", "1".to_owned()),
        ]),
    );
    kubelet.args.push("--cert-dir=/var/lib/kubelet/pki".to_owned());
    let proxy = daemon("kube-proxy", Some(api.clone()), args([("config", file("kube-proxy.json"))]));
    let kubeconfig = pki_dir().join("policy.kubeconfig").display().to_string();
    let enforcer = daemon_at(
        "policy-enforcer",
        own_program(),
        Some(api),
        ["enforce-policies", "--node", &name, "--kubeconfig", &kubeconfig].map(str::to_owned).to_vec(),
    );
    vec![containerd, kubelet, proxy, enforcer]
}

fn containerd_config(node: &str, pause_image: &str) -> String {
    let cni = inside("ptp");
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "{socket}"

# Its socket would be the same file for every node.
[plugins."io.containerd.nri.v1.nri"]
disable = true

[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause_image}"

# Where the right to raise a process above the others is missing, containers get what their parent has.
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{cni}"]
conf_dir = "{conf}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = "{runc}"
Root = "/run/runc"
"#,
        socket = socket(node).display(),
        cni = cni.parent().unwrap_or(Path::new("/")).display(),
        conf = machine_dir(node).join("cni").display(),
        runc = inside("runc").display(),
    )
}

/// A link and a route for each pod, so that all its traffic is routed and passes the policy enforcer's rules.
fn cni_config(index: usize) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [
            {
                "type": "ptp", "ipMasq": false,
                "ipam": {
                    "type": "host-local", "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": pod_network(index)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"},
        ],
    })
}

fn kubelet_config(index: usize, timings: Timings) -> Value {
    let name = node_name(index);
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": crt("ca")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{CGROUP}/{name}"), "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [cluster_dns()], "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", socket(&name).display()),
        "resolvConf": machine_dir(&name).join("resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "podCIDR": pod_network(index), "maxPods": 200,
        // All nodes share one disk and one memory, which are not theirs to clean.
        "evictionHard": {
            "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": false,
    });
    if timings == Timings::Tuned {
        config["nodeStatusUpdateFrequency"] = json!("2s");
        config["nodeStatusReportFrequency"] = json!("30s");
        config["nodeLeaseDurationSeconds"] = json!(8);
    }
    config
}

fn proxy_config(node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "hostnameOverride": node, "clusterCIDR": POD_NETWORK,
        "clientConnection": {"kubeconfig": pki_dir().join("proxy.kubeconfig")},
        // Zero leaves the host's connection tracking as it is.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "0.0.0.0:10256", "metricsBindAddress": "127.0.0.1:10249",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuned_kubelets_renew_their_leases_often() {
        assert_eq!(kubelet_config(0, Timings::Tuned)["nodeLeaseDurationSeconds"], 8);
        assert_eq!(kubelet_config(0, Timings::Defaults)["nodeLeaseDurationSeconds"], Value::Null);
    }

    #[test]
    fn nodes_share_no_address_and_no_cgroup() {
        let (one, two) = (kubelet_config(0, Timings::Tuned), kubelet_config(1, Timings::Tuned));
        for key in ["cgroupRoot", "podCIDR", "containerRuntimeEndpoint"] {
            assert_ne!(one[key], two[key], "{key}");
        }
        assert_ne!(cni_config(0), cni_config(1));
    }

    #[test]
    fn the_sandbox_image_is_the_one_that_was_built() {
        let config = containerd_config("node0", "localhost/chat/pause:abc");
        assert!(config.contains("sandbox = \"localhost/chat/pause:abc\""), "{config}");
    }

    #[test]
    fn kernel_settings_of_the_host_are_only_pretended() {
        let programs = Programs::cached().unwrap();
        let spec = spec(&programs, 0, Timings::Tuned, "pause");
        let own: Vec<_> = spec.sysctls.keys().collect();
        assert!(own.iter().all(|name| name.starts_with("net.")), "{own:?}");
        assert_eq!(spec.pretended_sysctls["kernel.panic"], "10");
    }
}
