//! One command at a time changes the cluster.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tracing::info;

use crate::layout::LOCK;

/// A start on a cold cache builds for a quarter of an hour while it holds the lock.
const PATIENCE: Duration = Duration::from_secs(45 * 60);

/// Held while it lives; the kernel frees it when its process ends, however that happens.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn acquire() -> Result<Self> {
        let started = Instant::now();
        let mut told = false;
        loop {
            let file = File::options()
                .create(true)
                .append(true)
                .open(LOCK)
                .with_context(|| format!("cannot open {LOCK}; devcluster must run as root"))?;
            match file.try_lock() {
                // The one before may have removed the file that is locked now.
                Ok(()) if same_file(&file) => return Ok(Self { _file: file }),
                Ok(()) => continue,
                Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cluster"),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                info!("another command changes the cluster; waiting for its end");
                told = true;
            }
            if started.elapsed() > PATIENCE {
                bail!("another command has held {LOCK} for {} minutes", PATIENCE.as_secs() / 60);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Lets go and leaves no file.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_file(LOCK).with_context(|| format!("cannot remove {LOCK}"))
    }
}

fn same_file(file: &File) -> bool {
    match (file.metadata(), fs::metadata(LOCK)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}
