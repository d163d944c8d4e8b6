//! Keeps the cache small: what no cluster has used for two weeks goes.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use tracing::info;

const UNUSED_FOR: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// The time of use is written no more often than that: an image whose time changes is loaded into the nodes again.
const NOTED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Notes that an entry of the cache is in use now.
pub(crate) fn used(entry: &Path) -> Result<()> {
    let age = fs::metadata(entry).and_then(|metadata| metadata.modified()).map(age);
    if age.is_ok_and(|age| age > NOTED_EVERY) {
        let noted = File::open(entry).and_then(|file| file.set_modified(SystemTime::now()));
        noted.with_context(|| format!("cannot note that {} is in use", entry.display()))?;
    }
    Ok(())
}

/// Removes the entries of a directory that were not used for long.
pub(crate) fn prune(directory: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let metadata = entry.metadata()?;
        if age(metadata.modified()?) < UNUSED_FOR {
            continue;
        }
        let path = entry.path();
        info!("removing {} from the cache: unused for 14 days", path.display());
        let removed = if metadata.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn age(time: SystemTime) -> Duration {
    SystemTime::now().duration_since(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let directory = std::env::temp_dir().join(format!("devcluster-prune-{}", std::process::id()));
        let old = SystemTime::now() - UNUSED_FOR - Duration::from_secs(60);
        for name in ["used", "forgotten"] {
            fs::create_dir_all(directory.join(name).join("inside")).unwrap();
            File::open(directory.join(name)).unwrap().set_modified(old).unwrap();
        }
        for name in ["old.tar", "new.tar"] {
            fs::write(directory.join(name), "x").unwrap();
        }
        File::open(directory.join("old.tar")).unwrap().set_modified(old).unwrap();
        used(&directory.join("used")).unwrap();
        prune(&directory).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new.tar", "used"]);
        fs::remove_dir_all(directory).unwrap();
    }
}
