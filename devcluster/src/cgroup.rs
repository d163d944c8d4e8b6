//! The cluster's cgroups: made before anything runs, they are how its processes are found, frozen and ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::layout::CGROUP;

/// How long the kernel may take to end a machine's processes.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// The mounted hierarchies: many with version 1, one with version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroups {
    hierarchies: Vec<PathBuf>,
    unified: bool,
}

impl Cgroups {
    pub(crate) fn detect() -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?)
    }

    fn parse(mountinfo: &str) -> Result<Self> {
        let mut version1 = BTreeSet::new();
        let mut version2 = BTreeSet::new();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(path) = left.split(' ').nth(4) else { continue };
            match right.split(' ').next() {
                Some("cgroup") => version1.insert(PathBuf::from(path)),
                Some("cgroup2") => version2.insert(PathBuf::from(path)),
                _ => false,
            };
        }
        // With both, the controllers are in version 1, but runc makes groups in the other too.
        if !version1.is_empty() {
            version1.append(&mut version2);
            return Ok(Self { hierarchies: version1.into_iter().collect(), unified: false });
        }
        match version2.into_iter().next() {
            Some(path) => Ok(Self { hierarchies: vec![path], unified: true }),
            None => bail!("no cgroups are mounted; mount them (systemd does) and try again"),
        }
    }

    /// Makes a machine's cgroups, with a `system` leaf for its own daemons beside those that kubelet makes.
    pub(crate) fn create(&self, machine: &str) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let mut dir = hierarchy.clone();
            for part in [CGROUP, machine, "system"] {
                if self.unified {
                    delegate_controllers(&dir);
                }
                let parent = dir.clone();
                dir.push(part);
                fs::create_dir_all(&dir)
                    .with_context(|| format!("cannot make the cgroup {}", dir.display()))?;
                // A cpuset without processors or memory takes no process.
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    if !self.unified && dir.join(file).exists() {
                        fs::write(dir.join(file), fs::read(parent.join(file))?)
                            .with_context(|| format!("cannot set {} of {}", file, dir.display()))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves the calling process into a machine's `system` leaf.
    pub(crate) fn join(&self, machine: &str) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let procs = hierarchy.join(CGROUP).join(machine).join("system/cgroup.procs");
            fs::write(&procs, "0").with_context(|| format!("cannot join {}", procs.display()))?;
        }
        Ok(())
    }

    /// Every process of a machine, by the host's ids.
    pub(crate) fn processes(&self, machine: &str) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            collect_processes(&hierarchy.join(CGROUP).join(machine), &mut found);
        }
        found
    }

    /// The machines that have cgroups, running or not.
    pub(crate) fn machines(&self) -> BTreeSet<String> {
        let dirs = self.hierarchies.iter().flat_map(|hierarchy| children(&hierarchy.join(CGROUP)));
        dirs.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned())).collect()
    }

    pub(crate) fn set_frozen(&self, machine: &str, frozen: bool) -> Result<()> {
        let (file, word, wanted) = match (self.unified, frozen) {
            (true, true) => ("cgroup.freeze", "1", "1"),
            (true, false) => ("cgroup.freeze", "0", "0"),
            (false, true) => ("freezer.state", "FROZEN", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED", "THAWED"),
        };
        let Some(path) = self.control_file(machine, file) else {
            bail!("the machine {machine} has no cgroup that can be frozen; is it powered on?");
        };
        let end = Instant::now() + KILL_DEADLINE;
        loop {
            fs::write(&path, word).with_context(|| format!("cannot write {}", path.display()))?;
            if fs::read_to_string(&path)?.trim() == wanted {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("{} did not become {word}", path.display());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn is_frozen(&self, machine: &str) -> bool {
        let file = if self.unified { "cgroup.freeze" } else { "freezer.state" };
        let state = self.control_file(machine, file).and_then(|path| fs::read_to_string(path).ok());
        matches!(state.as_deref().map(str::trim), Some("1" | "FROZEN" | "FREEZING"))
    }

    /// Ends every process of a machine at once, as a power cut does, and removes its cgroups.
    pub(crate) fn destroy(&self, machine: &str) -> Result<()> {
        let end = Instant::now() + KILL_DEADLINE;
        loop {
            let alive = self.processes(machine);
            for &id in &alive {
                // Gone meanwhile is as good.
                let _ = Pid::from_raw(id).map(|pid| kill_process(pid, Signal::KILL));
            }
            // The frozen die when they thaw.
            if self.is_frozen(machine) {
                self.set_frozen(machine, false)?;
            }
            let mut left = Vec::new();
            if alive.is_empty() {
                for hierarchy in &self.hierarchies {
                    remove_tree(&hierarchy.join(CGROUP).join(machine), &mut left);
                }
                if left.is_empty() {
                    return Ok(());
                }
            }
            if Instant::now() > end {
                bail!("the processes {alive:?} of {machine} do not end, or its cgroups stay: {left:?}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes what holds the machines' cgroups; every machine must be destroyed.
    pub(crate) fn remove_root(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let dir = hierarchy.join(CGROUP);
            if dir.exists() {
                fs::remove_dir(&dir)
                    .with_context(|| format!("cannot remove the cgroup {}", dir.display()))?;
            }
        }
        Ok(())
    }

    /// What of the cluster's cgroups exists.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|hierarchy| hierarchy.join(CGROUP)).filter(|dir| dir.exists()).collect()
    }

    fn control_file(&self, machine: &str, file: &str) -> Option<PathBuf> {
        let paths = self.hierarchies.iter().map(|hierarchy| hierarchy.join(CGROUP).join(machine).join(file));
        paths.into_iter().find(|path| path.exists())
    }
}

/// Lets children of a version 2 cgroup use every controller that it has itself.
fn delegate_controllers(dir: &Path) {
    let Ok(controllers) = fs::read_to_string(dir.join("cgroup.controllers")) else { return };
    for controller in controllers.split_whitespace() {
        // One at a time: a controller that cannot be delegated must not keep the others back.
        drop(fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")));
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn collect_processes(dir: &Path, found: &mut BTreeSet<i32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process that this one cannot see.
    found.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&id| id > 0));
    for child in children(dir) {
        collect_processes(&child, found);
    }
}

fn remove_tree(dir: &Path, left: &mut Vec<PathBuf>) {
    for child in children(dir) {
        remove_tree(&child, left);
    }
    if dir.exists() && fs::remove_dir(dir).is_err() {
        left.push(dir.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_controls_where_both_are_mounted() {
        let cgroups = Cgroups::parse(
            "36 31 0:33 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
             37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        )
        .unwrap();
        let names = ["freezer", "pids", "unified"];
        let paths = names.map(|name| Path::new("/sys/fs/cgroup").join(name)).to_vec();
        assert_eq!(cgroups, Cgroups { hierarchies: paths, unified: false });
    }

    #[test]
    fn version_2_alone_is_unified() {
        let cgroups =
            Cgroups::parse("41 31 0:38 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n").unwrap();
        assert_eq!(cgroups, Cgroups { hierarchies: vec!["/sys/fs/cgroup".into()], unified: true });
    }

    #[test]
    fn no_cgroups_is_an_error() {
        assert!(Cgroups::parse("23 1 254:0 / / rw - ext4 /dev/vda rw\n").is_err());
    }
}
