//! Builds Kubernetes and what goes with it from Go modules, once, into the cache.
//!
//! Each folder under `tools/` is a Go module of its own, because the programs disagree about the versions of their
//! libraries. Its files are part of this program, and their hash is the key in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tracing::info;

use crate::layout::cache;
use crate::machine::TOOLS_MOUNT;
use crate::process::run;
use crate::prune;

/// The longest build, on a slow and busy machine, with its downloads.
const BUILD_DEADLINE: Duration = Duration::from_secs(45 * 60);

/// One Go module, and the programs that are built in it.
#[derive(Debug)]
pub(crate) struct Tool {
    pub name: &'static str,
    files: &'static [(&'static str, &'static str)],
    /// What to build, and the name that the program gets.
    programs: &'static [(&'static str, &'static str)],
    tags: &'static str,
    ldflags: &'static str,
    /// Only where a C library is needed; programs for images must be static.
    cgo: bool,
}

macro_rules! module {
    ($name:literal) => {
        &[
            ("go.mod", include_str!(concat!("../tools/", $name, "/go.mod"))),
            ("go.sum", include_str!(concat!("../tools/", $name, "/go.sum"))),
        ]
    };
}

const STRIPPED: &str = "-s -w";

/// In the order in which a cluster needs them.
pub(crate) const TOOLS: [Tool; 10] = [
    Tool {
        name: "pause",
        files: &[
            ("go.mod", include_str!("../tools/pause/go.mod")),
            ("main.go", include_str!("../tools/pause/main.go")),
        ],
        programs: &[(".", "pause")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "runc",
        files: module!("runc"),
        programs: &[("github.com/opencontainers/runc", "runc")],
        tags: "seccomp",
        ldflags: STRIPPED,
        cgo: true,
    },
    Tool {
        name: "cni",
        files: module!("cni"),
        programs: &[
            ("github.com/containernetworking/plugins/plugins/ipam/host-local", "host-local"),
            ("github.com/containernetworking/plugins/plugins/main/loopback", "loopback"),
            ("github.com/containernetworking/plugins/plugins/main/ptp", "ptp"),
            ("github.com/containernetworking/plugins/plugins/meta/portmap", "portmap"),
        ],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "etcd",
        files: module!("etcd"),
        programs: &[("go.etcd.io/etcd/server/v3", "etcd")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "containerd",
        files: module!("containerd"),
        programs: &[
            ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
            ("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
            ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
        ],
        tags: "no_btrfs,no_zfs,no_devmapper,no_aufs",
        ldflags: "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
        cgo: false,
    },
    Tool {
        name: "kubernetes",
        files: module!("kubernetes"),
        programs: &[
            ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
            ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
            ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
            ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
            ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
        ],
        tags: "",
        // Some clients refuse a server that does not say its version.
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.1 \
                  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37",
        cgo: false,
    },
    Tool {
        name: "coredns",
        files: module!("coredns"),
        programs: &[("github.com/coredns/coredns", "coredns")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "local-path-provisioner",
        files: module!("local-path-provisioner"),
        programs: &[("github.com/rancher/local-path-provisioner", "local-path-provisioner")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "metrics-server",
        files: module!("metrics-server"),
        programs: &[("sigs.k8s.io/metrics-server/cmd/metrics-server", "metrics-server")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
    Tool {
        name: "helm",
        files: module!("helm"),
        programs: &[("helm.sh/helm/v4/cmd/helm", "helm")],
        tags: "",
        ldflags: STRIPPED,
        cgo: false,
    },
];

impl Tool {
    /// Names this tool's build: a change of a version, a checksum or a flag changes it.
    pub(crate) fn key(&self) -> String {
        let mut hash = Sha256::new();
        let flags = format!("{} {} {} {:?}", self.tags, self.ldflags, self.cgo, self.programs);
        for (name, text) in self.files.iter().chain(&[("flags", flags.as_str())]) {
            hash.update(format!("{name} {}\n{text}", text.len()));
        }
        crate::images::hex(&hash.finalize())[..16].to_owned()
    }

    fn folder(&self) -> String {
        format!("{}-{}", self.name, self.key())
    }
}

/// The built programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    root: PathBuf,
}

impl Programs {
    /// Builds what the cache does not have.
    pub(crate) fn ensure() -> Result<Self> {
        let programs = Self::cached()?;
        fs::create_dir_all(&programs.root)
            .with_context(|| format!("cannot make the cache {}", programs.root.display()))?;
        let missing = || TOOLS.iter().filter(|tool| !programs.root.join(tool.folder()).exists());
        for tool in &TOOLS {
            prune::used(&programs.root.join(tool.folder()))?;
        }
        prune::prune(&programs.root)?;
        if missing().next().is_none() {
            return Ok(programs);
        }
        let lock = File::create(programs.root.with_extension("lock"))?;
        lock.lock().context("cannot lock the cache")?;
        // Another process may have built them while this one waited.
        let count = missing().count();
        for (index, tool) in missing().enumerate().collect::<Vec<_>>() {
            programs.build(tool, index + 1, count)?;
        }
        Ok(programs)
    }

    /// The programs as they would be in the cache, built or not.
    pub(crate) fn cached() -> Result<Self> {
        Ok(Self { root: cache()?.join("programs") })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The path of a program on the host.
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.root.join(relative(program))
    }

    fn build(&self, tool: &Tool, index: usize, count: usize) -> Result<()> {
        let work = self.root.join(format!("{}.building", tool.folder()));
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let source = work.join("source");
        fs::create_dir_all(&source)?;
        for (name, text) in tool.files {
            fs::write(source.join(name), text)?;
        }
        let started = Instant::now();
        for (package, name) in tool.programs {
            info!(
                "building {name} ({} {index}/{count}, {} s so far)",
                tool.name,
                started.elapsed().as_secs()
            );
            let mut command = Command::new("nice");
            command.args(["-n", "10", "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly"]);
            command
                .args(["-tags", tool.tags, "-ldflags", tool.ldflags, "-o"])
                .arg(work.join(name))
                .arg(package);
            command.current_dir(&source).env("GOWORK", "off").env("GOFLAGS", "");
            command.env("CGO_ENABLED", if tool.cgo { "1" } else { "0" });
            run(&mut command, BUILD_DEADLINE)
                .with_context(|| format!("cannot build {name} from its Go module"))?;
        }
        fs::remove_dir_all(&source)?;
        // A name in the cache always stands for a whole build.
        fs::rename(&work, self.root.join(tool.folder())).context("cannot put the build into the cache")?;
        info!("built {} in {} s", tool.name, started.elapsed().as_secs());
        Ok(())
    }
}

/// The path of a program inside a machine.
pub(crate) fn inside(program: &str) -> PathBuf {
    Path::new(TOOLS_MOUNT).join(relative(program))
}

pub(crate) fn tool_of(program: &str) -> &'static Tool {
    let has = |tool: &&Tool| tool.programs.iter().any(|(_, name)| *name == program);
    TOOLS.iter().find(has).expect("only programs of TOOLS are asked for")
}

fn relative(program: &str) -> PathBuf {
    Path::new(&tool_of(program).folder()).join(program)
}

/// Fails unless the Go command is there; it fetches newer toolchains by itself.
pub(crate) fn go_version() -> Result<String> {
    match run(Command::new("go").arg("version"), crate::process::SHORT) {
        Ok(version) => Ok(version.trim().to_owned()),
        Err(_) => {
            bail!("the Go toolchain (1.21 or newer) is not installed or not in PATH: see https://go.dev/dl/")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_key_of_its_own() {
        let keys: std::collections::BTreeSet<_> = TOOLS.iter().map(Tool::key).collect();
        assert_eq!(keys.len(), TOOLS.len());
    }

    #[test]
    fn a_flag_changes_the_key() {
        let tool = |ldflags| Tool {
            name: "etcd",
            files: &[("go.mod", "module x")],
            programs: &[("x", "x")],
            tags: "",
            ldflags,
            cgo: false,
        };
        assert_ne!(tool("-s").key(), tool("-w").key());
    }
}
