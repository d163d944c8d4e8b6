//! Programs that the tests and the stores in the cluster need from the system. What a cluster itself needs, `devcluster`
//! sees to.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::step::{Step, heading};

/// A program under one of its names, and the Debian package that brings it.
type Program = (&'static [&'static str], &'static str);

const NEEDED: [Program; 3] = [
    (&["node"], "nodejs"),
    (&["chromium", "chromium-browser", "google-chrome"], "chromium"),
    (STORE, "redis-tools"),
];

/// The server of Valkey or Redis. `redis-tools` brings it too, as a program of another name that looks at how it is called.
const STORE: &[&str] = &["valkey-server", "redis-server", "redis-check-rdb"];

/// Installs what is missing where that can be done; else one error that says what to type.
pub(crate) fn ensure() -> Result<()> {
    ensure_of(&NEEDED)
}

fn ensure_of(needed: &[Program]) -> Result<()> {
    let packages = missing(needed);
    if packages.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    let as_root = Step::new("id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0");
    if !as_root || find("apt-get").is_none() {
        bail!("{} is needed; install it: apt-get update && {install}", packages.join(" and "));
    }
    heading(&format!("installing {}", packages.join(" ")));
    let apt = |words: &str| {
        Step::new("apt-get").args(words.split(' ').skip(1)).env("DEBIAN_FRONTEND", "noninteractive").run()
    };
    apt("apt-get --quiet update")
        .and_then(|()| apt(&install))
        .with_context(|| format!("cannot install what is needed; try: apt-get update && {install}"))?;
    match missing(needed)[..] {
        [] => Ok(()),
        ref still => bail!("{} was installed, but what it brings is not in PATH", still.join(" ")),
    }
}

/// The server of Valkey or Redis, installed if need be: what stores in the development cluster run.
pub(crate) fn store() -> Result<PathBuf> {
    ensure_of(&[(STORE, "redis-tools")])?;
    STORE.iter().find_map(|name| find(name)).context("valkey-server or redis-server was there a moment ago")
}

fn missing(needed: &[Program]) -> Vec<&'static str> {
    let found = |names: &[&str]| names.iter().any(|name| find(name).is_some());
    needed.iter().filter(|(names, _)| !found(names)).map(|(_, package)| *package).collect()
}

/// Where PATH has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
