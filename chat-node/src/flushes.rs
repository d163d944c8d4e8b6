//! A disk that measures how long the log's flushes take.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use chat_log::disk::{DirectoryLock, Disk, DiskFile, FileInfo};

use crate::figures::Durations;

/// Flushes so far.
#[derive(Debug, Default)]
pub(crate) struct Flushes(Mutex<Durations>);

impl Flushes {
    pub(crate) fn seen(&self) -> Durations {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, began: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).observe(began.elapsed());
    }
}

/// How the names of the log's own files begin.
const LOG_FILES: &str = "wal-";

pub(crate) struct MeasuredDisk<D> {
    inner: D,
    flushes: Arc<Flushes>,
}

struct MeasuredFile {
    inner: Box<dyn DiskFile>,
    flushes: Arc<Flushes>,
}

impl<D: Disk> MeasuredDisk<D> {
    pub(crate) fn new(inner: D, flushes: Arc<Flushes>) -> Self {
        Self { inner, flushes }
    }

    /// Snapshots are written beside the log and flushed at their leisure: they are not measured.
    fn measured(&self, name: &str, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        if name.starts_with(LOG_FILES) {
            Box::new(MeasuredFile { inner, flushes: Arc::clone(&self.flushes) })
        } else {
            inner
        }
    }
}

impl<D: Disk> Disk for MeasuredDisk<D> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.measured(name, self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.measured(name, self.inner.open(name)?))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.inner.read_range(name, offset, length)
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

impl DiskFile for MeasuredFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let result = self.inner.sync_data();
        self.flushes.observe(began);
        result
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.inner.allocate(length)
    }

    fn zero_from(&mut self, offset: u64) -> io::Result<()> {
        self.inner.zero_from(offset)
    }
}
