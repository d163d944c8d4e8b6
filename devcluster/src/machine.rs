//! A machine: network, mount and process namespaces of its own, with daemons that a first process keeps running.
//!
//! Nothing of a machine outlives its processes but its directory and its empty cgroups: its mounts and its
//! network end with its namespaces, however it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroups;
use crate::layout::machine_dir;
use crate::process::{SHORT, run, wait_until};

pub(crate) mod init;

/// Where a machine finds the cache of binaries: its own `/run` and `/var/lib` hide the host's.
pub(crate) const TOOLS_MOUNT: &str = "/run/devcluster-tools";

/// What a machine is and runs. A running machine whose wanted spec changes is started anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineSpec {
    pub name: String,
    /// The host's directory of binaries, seen inside as [`TOOLS_MOUNT`].
    pub tools: PathBuf,
    /// Directories of this machine's own that are mounted over the system's: `(inside, source)`.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Kernel settings that daemons want and would write host-wide: they see these values instead.
    pub pretended_sysctls: BTreeMap<String, String>,
    /// Settings of this machine's own network.
    pub sysctls: BTreeMap<String, String>,
    /// Configuration files of the daemons, by their names in the machine's directory.
    pub files: BTreeMap<PathBuf, String>,
    pub daemons: Vec<Daemon>,
}

impl MachineSpec {
    /// A machine that only holds its network.
    pub(crate) fn bare(name: &str, tools: &Path) -> Self {
        Self {
            name: name.to_owned(),
            tools: tools.to_owned(),
            mounts: Vec::new(),
            pretended_sysctls: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            files: BTreeMap::new(),
            daemons: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Daemon {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Started when this answers.
    pub after: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    UnixSocket(PathBuf),
    Tcp(SocketAddr),
}

/// The files in a machine's directory by which it and the outside talk.
#[derive(Debug, Clone)]
pub(crate) struct MachineFiles {
    pub dir: PathBuf,
}

impl MachineFiles {
    pub(crate) fn of(machine: &str) -> Self {
        Self { dir: machine_dir(machine) }
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("machine.json")
    }

    /// The host's id of the process whose namespaces are the machine's.
    pub(crate) fn pid(&self) -> PathBuf {
        self.dir.join("pid")
    }

    /// Written by the first process when its mounts stand.
    pub(crate) fn mounted(&self) -> PathBuf {
        self.dir.join("mounted")
    }

    /// Written from outside when the network stands: the daemons may start.
    pub(crate) fn connected(&self) -> PathBuf {
        self.dir.join("connected")
    }

    /// While this exists, the daemon is ended and stays so.
    pub(crate) fn hold(&self, daemon: &str) -> PathBuf {
        self.dir.join("hold").join(daemon)
    }

    pub(crate) fn log(&self, daemon: &str) -> PathBuf {
        self.dir.join("log").join(format!("{daemon}.log"))
    }
}

/// The process whose namespaces are the machine's, if the machine runs.
pub(crate) fn running(cgroups: &Cgroups, machine: &str) -> Option<i32> {
    let pid: i32 = fs::read_to_string(MachineFiles::of(machine).pid()).ok()?.trim().parse().ok()?;
    // Its cgroup is ours alone, so a stranger with a reused id is never taken for it.
    cgroups.processes(machine).contains(&pid).then_some(pid)
}

/// Whether a running machine was started from this very spec.
pub(crate) fn runs_spec(spec: &MachineSpec) -> bool {
    let text = fs::read_to_string(MachineFiles::of(&spec.name).spec()).unwrap_or_default();
    serde_json::from_str::<MachineSpec>(&text).is_ok_and(|old| old == *spec)
}

/// Makes the namespaces and returns the process that holds them; daemons wait until the network stands.
pub(crate) fn boot(program: &Path, cgroups: &Cgroups, spec: &MachineSpec) -> Result<i32> {
    let files = MachineFiles::of(&spec.name);
    // Whatever a crash left of this machine ends first.
    cgroups.destroy(&spec.name)?;
    cgroups.create(&spec.name)?;
    for dir in ["log", "hold"] {
        fs::create_dir_all(files.dir.join(dir))
            .with_context(|| format!("cannot make {}", files.dir.join(dir).display()))?;
    }
    for (_, source) in &spec.mounts {
        fs::create_dir_all(source).with_context(|| format!("cannot make {}", source.display()))?;
    }
    for (name, text) in &spec.files {
        write_file(&files.dir.join(name), text)?;
    }
    for marker in [files.pid(), files.mounted(), files.connected()] {
        remove_if_there(&marker)?;
    }
    fs::write(files.spec(), serde_json::to_string_pretty(spec)?)?;
    let log = File::options().create(true).append(true).open(files.log("machine"))?;
    // A session of its own: the machine outlives the command and the terminal that started it.
    let status = Command::new("setsid")
        .arg("--fork")
        .arg(program)
        .args(["machine", "enter", &spec.name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()
        .context("cannot start setsid")?;
    if !status.success() {
        bail!("cannot start the machine {}: setsid ended with {status}", spec.name);
    }
    wait_until(&format!("the machine {}", spec.name), SHORT, Duration::from_millis(5), || {
        if files.mounted().exists() {
            return Ok(());
        }
        bail!("it has no mounts yet; its log is {}", files.log("machine").display())
    })?;
    running(cgroups, &spec.name).with_context(|| {
        format!("the machine {} ended while it started; see {}", spec.name, files.log("machine").display())
    })
}

/// Lets the daemons start.
pub(crate) fn release(machine: &str) -> Result<()> {
    Ok(fs::write(MachineFiles::of(machine).connected(), "")?)
}

/// Ends a daemon as a crash would, and keeps it down.
pub(crate) fn hold(machine: &str, daemon: &str) -> Result<()> {
    Ok(fs::write(MachineFiles::of(machine).hold(daemon), "")?)
}

pub(crate) fn unhold(machine: &str, daemon: &str) -> Result<()> {
    remove_if_there(&MachineFiles::of(machine).hold(daemon))
}

/// Runs a program of the host in the network of a process.
pub(crate) fn in_network(pid: i32, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args([format!("--net=/proc/{pid}/ns/net"), "--".to_owned(), program.to_owned()]);
    command
}

/// The sum of the proportional set sizes of a machine's processes, in bytes.
pub(crate) fn memory(cgroups: &Cgroups, machine: &str) -> u64 {
    let kib = cgroups.processes(machine).into_iter().filter_map(|pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    kib.sum::<u64>() * 1024
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().context("a file has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Loads modules that a network needs, where they are not built in; a kernel without them says so later.
pub(crate) fn load_kernel_modules() {
    for module in ["overlay", "bridge", "veth", "nf_tables", "nf_conntrack"] {
        drop(run(Command::new("modprobe").args(["--quiet", module]), SHORT));
    }
}
