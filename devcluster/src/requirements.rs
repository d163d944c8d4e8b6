//! What the machine must have: found out before anything starts, installed where that is possible.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tracing::info;

use crate::cgroup::Cgroups;
use crate::process::run;
use crate::tools::go_version;

/// Downloads included.
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

/// Something that a Debian package brings.
struct Requirement {
    package: &'static str,
    kind: Kind,
}

enum Kind {
    Program(&'static str),
    /// A C library, as pkg-config knows it.
    Library(&'static str),
}

const REQUIREMENTS: [Requirement; 10] = [
    Requirement { package: "iproute2", kind: Kind::Program("ip") },
    Requirement { package: "nftables", kind: Kind::Program("nft") },
    Requirement { package: "util-linux", kind: Kind::Program("nsenter") },
    Requirement { package: "util-linux", kind: Kind::Program("unshare") },
    Requirement { package: "util-linux", kind: Kind::Program("setsid") },
    Requirement { package: "mount", kind: Kind::Program("mount") },
    Requirement { package: "busybox-static", kind: Kind::Program("busybox") },
    Requirement { package: "gcc", kind: Kind::Program("gcc") },
    Requirement { package: "pkg-config", kind: Kind::Program("pkg-config") },
    // Asked through pkg-config, so after it.
    Requirement { package: "libseccomp-dev", kind: Kind::Library("libseccomp") },
];

impl Requirement {
    fn is_met(&self) -> bool {
        match self.kind {
            Kind::Program(name) => find_program(name).is_some(),
            Kind::Library(name) => Command::new("pkg-config")
                .args(["--exists", name])
                .status()
                .is_ok_and(|status| status.success()),
        }
    }
}

/// Checks what a cluster needs and installs missing packages as root with apt-get.
///
/// # Errors
/// One error that names everything that is missing, with the command that brings it.
pub fn ensure() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "devcluster makes namespaces, cgroups and mounts, and so must run as root: \
             sudo --preserve-env=PATH,HOME {}",
            env::args().collect::<Vec<_>>().join(" ")
        );
    }
    Cgroups::detect()?;
    go_version()?;
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if find_program("apt-get").is_none() {
        bail!(
            "these Debian packages, or what your distribution calls them, are missing: {}",
            missing.join(" ")
        );
    }
    info!("installing {}", missing.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"), INSTALL_DEADLINE)
    };
    let install: Vec<_> = command.split(' ').skip(1).collect();
    apt(&["update"])
        .and_then(|_| apt(&install))
        .with_context(|| format!("cannot install what is missing; try: apt-get update && {command}"))?;
    let still = missing_packages();
    if !still.is_empty() {
        bail!(
            "{} are installed, but what they bring is not found; PATH must have /usr/sbin, /usr/bin, /sbin and /bin",
            still.join(" ")
        );
    }
    Ok(())
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<_> =
        REQUIREMENTS.iter().filter(|need| !need.is_met()).map(|need| need.package).collect();
    missing.dedup();
    missing
}

/// Finds a program as a shell would.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(name)).find(|path| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_a_shell_finds_them() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
