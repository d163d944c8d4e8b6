//! The inside of a machine: how its namespaces are entered, and its first process, which keeps the daemons running.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::{Answer, Daemon, MachineFiles, MachineSpec, TOOLS_MOUNT};
use crate::cgroup::Cgroups;
use crate::layout::STATE;

/// How often the first process looks after its daemons.
const TURN: Duration = Duration::from_millis(50);
/// How long a daemon that ended waits before it is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// A log longer than this starts anew when its daemon does.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// Joins the machine's cgroups, then becomes the process that holds its namespaces.
pub(crate) fn enter(machine: &str) -> Result<Infallible> {
    let files = MachineFiles::of(machine);
    Cgroups::detect()?.join(machine)?;
    fs::write(files.pid(), std::process::id().to_string())?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let error = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(["machine", "init", machine])
        .exec();
    Err(error).context("cannot run unshare")
}

/// The first process of a machine. Returns only when the machine cannot be set up.
pub(crate) fn init(machine: &str) -> Result<Infallible> {
    let files = MachineFiles::of(machine);
    let text = fs::read_to_string(files.spec())
        .with_context(|| format!("cannot read {}", files.spec().display()))?;
    let spec: MachineSpec = serde_json::from_str(&text)?;
    set_up_mounts(&spec)?;
    for (name, value) in &spec.sysctls {
        fs::write(sysctl_path(name), value).with_context(|| format!("cannot set {name}"))?;
    }
    fs::write(files.mounted(), "")?;
    while !files.connected().exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let mut supervised: Vec<_> = spec.daemons.iter().map(Supervised::new).collect();
    loop {
        while let Ok(Some((pid, _))) = wait(WaitOptions::NOHANG) {
            for daemon in supervised.iter_mut().filter(|daemon| daemon.pid == Some(pid)) {
                daemon.pid = None;
                daemon.not_before = Instant::now() + RESTART_PAUSE;
            }
        }
        for daemon in &mut supervised {
            daemon.tend(&files);
        }
        thread::sleep(TURN);
    }
}

/// A daemon and what became of it.
struct Supervised<'a> {
    daemon: &'a Daemon,
    pid: Option<Pid>,
    not_before: Instant,
}

impl<'a> Supervised<'a> {
    fn new(daemon: &'a Daemon) -> Self {
        Self { daemon, pid: None, not_before: Instant::now() }
    }

    fn tend(&mut self, files: &MachineFiles) {
        let held = files.hold(&self.daemon.name).exists();
        match self.pid {
            Some(pid) if held => drop(kill_process(pid, Signal::KILL)),
            Some(_) => {}
            None if held => self.not_before = Instant::now(),
            None if Instant::now() < self.not_before || !answers(self.daemon.after.as_ref()) => {}
            None => match start(self.daemon, files) {
                Ok(pid) => self.pid = Some(pid),
                Err(error) => {
                    eprintln!("{error:#}");
                    self.not_before = Instant::now() + RESTART_PAUSE;
                }
            },
        }
    }
}

fn start(daemon: &Daemon, files: &MachineFiles) -> Result<Pid> {
    let path = files.log(&daemon.name);
    let long = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES);
    let log = if long { File::create(&path) } else { File::options().create(true).append(true).open(&path) };
    let log = log.with_context(|| format!("cannot open {}", path.display()))?;
    let child = Command::new(&daemon.program)
        .args(&daemon.args)
        .env_clear()
        .envs(&daemon.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", daemon.program.display()))?;
    // Reaped by the loop, with the orphans that every first process inherits.
    Ok(Pid::from_child(&child))
}

fn answers(by: Option<&Answer>) -> bool {
    match by {
        None => true,
        Some(Answer::UnixSocket(path)) => UnixStream::connect(path).is_ok(),
        Some(Answer::Tcp(address)) => TcpStream::connect_timeout(address, Duration::from_millis(200)).is_ok(),
    }
}

/// Gives the machine a `/run`, `/var/lib` and `/var/log` of its own, so that nothing of the host's is written.
fn set_up_mounts(spec: &MachineSpec) -> Result<()> {
    let bind = |source: &Path, target: &Path| {
        fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
        mount_bind_recursive(source, target)
            .with_context(|| format!("cannot mount {} on {}", source.display(), target.display()))
    };
    let empty = |target: &str| {
        mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
            .with_context(|| format!("cannot mount a tmpfs on {target}"))
    };
    // What the new /run and /var/lib will hide is kept under /mnt, which no daemon uses, until it is moved.
    empty("/mnt")?;
    let (state, tools) = (Path::new("/mnt/state"), Path::new("/mnt/tools"));
    bind(Path::new(STATE), state)?;
    bind(&spec.tools, tools)?;
    let sources: Vec<_> = (0..spec.mounts.len()).map(|i| Path::new("/mnt").join(i.to_string())).collect();
    for (kept, (_, source)) in sources.iter().zip(&spec.mounts) {
        bind(source, kept)?;
    }
    empty("/run")?;
    empty("/var/lib")?;
    empty("/var/log")?;
    bind(state, Path::new(STATE))?;
    bind(tools, Path::new(TOOLS_MOUNT))?;
    for (kept, (inside, _)) in sources.iter().zip(&spec.mounts) {
        bind(kept, inside)?;
    }
    pretend(&spec.pretended_sysctls)?;
    rustix::mount::unmount("/mnt", rustix::mount::UnmountFlags::DETACH).context("cannot unmount /mnt")?;
    // Mounts that daemons make must reach the containers that ask for them.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .context("cannot share the machine's mounts")
}

/// Mounts files with the wanted values over kernel settings that belong to the whole host.
fn pretend(sysctls: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all("/run/sysctl")?;
    for (name, value) in sysctls {
        let (own, path) = (format!("/run/sysctl/{name}"), sysctl_path(name));
        if !Path::new(&path).exists() {
            continue;
        }
        fs::write(&own, format!("{value}\n"))?;
        rustix::mount::mount_bind(&own, &path).with_context(|| format!("cannot mount over {path}"))?;
    }
    Ok(())
}

fn sysctl_path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}
