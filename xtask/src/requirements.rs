//! Programs that the tests without a cluster need from the system. What a cluster needs, `devcluster` sees to.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::step::{Step, heading};

/// A program under one of its names, and the Debian package that brings it.
const NEEDED: [(&[&str], &str); 3] = [
    (&["node"], "nodejs"),
    (&["chromium", "chromium-browser", "google-chrome"], "chromium"),
    (&["valkey-server", "redis-server", "redis-check-rdb"], "redis-tools"),
];

/// Installs what is missing where that can be done; else one error that says what to type.
pub(crate) fn ensure() -> Result<()> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    let as_root = Step::new("id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0");
    if !as_root || find("apt-get").is_none() {
        bail!("the tests need {}; install them: apt-get update && {install}", packages.join(" and "));
    }
    heading(&format!("installing {}", packages.join(" ")));
    let apt = |words: &str| {
        Step::new("apt-get").args(words.split(' ').skip(1)).env("DEBIAN_FRONTEND", "noninteractive").run()
    };
    apt("apt-get --quiet update")
        .and_then(|()| apt(&install))
        .with_context(|| format!("cannot install what the tests need; try: apt-get update && {install}"))?;
    match missing()[..] {
        [] => Ok(()),
        ref still => bail!("{} was installed, but what it brings is not in PATH", still.join(" ")),
    }
}

fn missing() -> Vec<&'static str> {
    let found = |names: &[&str]| names.iter().any(|name| find(name).is_some());
    NEEDED.iter().filter(|(names, _)| !found(names)).map(|(_, package)| *package).collect()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
