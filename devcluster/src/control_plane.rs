//! The control plane's machine: etcd, API server, controller-manager and scheduler, with their certificates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;

use crate::cluster::Timings;
use crate::layout::{
    API_PORT, CONTROL_PLANE, CONTROL_PLANE_ADDRESS, DNS_SERVICE, KUBERNETES_SERVICE, SERVICE_NETWORK,
    kubeconfig, machine_dir, pki_dir,
};
use crate::machine::{Answer, Daemon, MachineSpec};
use crate::pki::{Authority, Subject, crt, ensure_token_keys, key, write_kubeconfig};
use crate::tools::{Programs, inside};

pub(crate) const API_SERVER: &str = "kube-apiserver";
const ETCD: &str = "http://127.0.0.1:2379";

/// Makes every certificate and kubeconfig of the control plane that does not exist.
pub(crate) fn ensure_credentials() -> Result<()> {
    std::fs::create_dir_all(pki_dir())?;
    let ca = Authority::ensure("ca")?;
    let service = "kubernetes.default.svc.cluster.local";
    ca.issue(
        "apiserver",
        &Subject {
            common_name: "kube-apiserver",
            dns_names: &["kubernetes", "kubernetes.default", "kubernetes.default.svc", service, "localhost"],
            addresses: &[
                IpAddr::V4(KUBERNETES_SERVICE),
                IpAddr::V4(CONTROL_PLANE_ADDRESS),
                IpAddr::V4(Ipv4Addr::LOCALHOST),
            ],
            ..Subject::default()
        },
    )?;
    ca.issue(
        "admin",
        &Subject { common_name: "admin", organization: Some("system:masters"), ..Subject::default() },
    )?;
    for (name, user) in [
        ("controller-manager", "system:kube-controller-manager"),
        ("scheduler", "system:kube-scheduler"),
        ("proxy", "system:kube-proxy"),
        ("policy", "devcluster:policy-enforcer"),
    ] {
        ca.issue(name, &Subject { common_name: user, ..Subject::default() })?;
        write_kubeconfig(&pki_dir().join(format!("{name}.kubeconfig")), name)?;
    }
    // Whoever holds a certificate of this authority may speak for users, so it signs nothing else.
    Authority::ensure("front-proxy-ca")?
        .issue("front-proxy", &Subject { common_name: "front-proxy-client", ..Subject::default() })?;
    ensure_token_keys()?;
    write_kubeconfig(&kubeconfig(), "admin")
}

pub(crate) fn spec(programs: &Programs, timings: Timings) -> MachineSpec {
    let api = Answer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT)));
    MachineSpec {
        daemons: vec![
            daemon("etcd", None, etcd()),
            daemon(
                API_SERVER,
                Some(Answer::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 2379)))),
                api_server(timings),
            ),
            daemon("kube-controller-manager", Some(api.clone()), controller_manager(timings)),
            daemon("kube-scheduler", Some(api), scheduler()),
        ],
        ..MachineSpec::bare(CONTROL_PLANE, programs.root())
    }
}

pub(crate) fn daemon(program: &str, after: Option<Answer>, args: Vec<String>) -> Daemon {
    daemon_at(program, inside(program), after, args)
}

pub(crate) fn daemon_at(name: &str, program: PathBuf, after: Option<Answer>, args: Vec<String>) -> Daemon {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env = [("PATH", path), ("HOME", "/root")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    Daemon { name: name.to_owned(), program, args, env: env.into(), after }
}

pub(crate) fn args<const N: usize>(flags: [(&str, String); N]) -> Vec<String> {
    flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

fn etcd() -> Vec<String> {
    let data = machine_dir(CONTROL_PLANE).join("etcd");
    let mut args = args([
        ("data-dir", data.display().to_string()),
        ("listen-client-urls", ETCD.to_owned()),
        ("advertise-client-urls", ETCD.to_owned()),
        ("listen-peer-urls", "http://127.0.0.1:2380".to_owned()),
        ("log-level", "warn".to_owned()),
    ]);
    // The machine under the cluster does not lose power; its processes may die at any time without a loss.
    args.push("--unsafe-no-fsync".to_owned());
    args
}

fn api_server(timings: Timings) -> Vec<String> {
    let file = |path: PathBuf| path.display().to_string();
    let mut args = args([
        ("etcd-servers", ETCD.to_owned()),
        ("service-cluster-ip-range", SERVICE_NETWORK.to_owned()),
        ("advertise-address", CONTROL_PLANE_ADDRESS.to_string()),
        ("secure-port", API_PORT.to_string()),
        ("tls-cert-file", file(crt("apiserver"))),
        ("tls-private-key-file", file(key("apiserver"))),
        ("client-ca-file", file(crt("ca"))),
        ("service-account-issuer", "https://kubernetes.default.svc.cluster.local".to_owned()),
        ("service-account-key-file", file(pki_dir().join("tokens.pub"))),
        ("service-account-signing-key-file", file(key("tokens"))),
        ("authorization-mode", "Node,RBAC".to_owned()),
        ("kubelet-client-certificate", file(crt("admin"))),
        ("kubelet-client-key", file(key("admin"))),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("allow-privileged", "true".to_owned()),
        ("kubelet-preferred-address-types", "InternalIP".to_owned()),
        ("requestheader-client-ca-file", file(crt("front-proxy-ca"))),
        ("requestheader-allowed-names", "front-proxy-client".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("proxy-client-cert-file", file(crt("front-proxy"))),
        ("proxy-client-key-file", file(key("front-proxy"))),
        // There is no kube-proxy in this machine: services are called by the addresses of their pods.
        ("enable-aggregator-routing", "true".to_owned()),
    ]);
    if timings == Timings::Tuned {
        args.push("--default-not-ready-toleration-seconds=10".to_owned());
        args.push("--default-unreachable-toleration-seconds=10".to_owned());
    }
    args
}

fn controller_manager(timings: Timings) -> Vec<String> {
    let file = |path: PathBuf| path.display().to_string();
    let mut args = args([
        ("kubeconfig", file(pki_dir().join("controller-manager.kubeconfig"))),
        ("service-account-private-key-file", file(key("tokens"))),
        ("root-ca-file", file(crt("ca"))),
        ("cluster-signing-cert-file", file(crt("ca"))),
        ("cluster-signing-key-file", file(key("ca"))),
        ("use-service-account-credentials", "true".to_owned()),
        // The nodes' pod networks are fixed by the address plan.
        ("allocate-node-cidrs", "false".to_owned()),
        ("leader-elect", "false".to_owned()),
    ]);
    if timings == Timings::Tuned {
        args.extend(
            [
                "--node-monitor-grace-period=8s",
                "--node-monitor-period=1s",
                "--horizontal-pod-autoscaler-sync-period=5s",
                "--horizontal-pod-autoscaler-downscale-stabilization=20s",
                "--horizontal-pod-autoscaler-cpu-initialization-period=20s",
                "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
            ]
            .map(str::to_owned),
        );
    }
    args
}

fn scheduler() -> Vec<String> {
    let kubeconfig = pki_dir().join("scheduler.kubeconfig");
    args([("kubeconfig", kubeconfig.display().to_string()), ("leader-elect", "false".to_owned())])
}

/// Where pods look up names, for the kubelets.
pub(crate) fn cluster_dns() -> String {
    DNS_SERVICE.to_string()
}
