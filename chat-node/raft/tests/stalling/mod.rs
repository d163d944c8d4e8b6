//! A disk that can be made to stand still.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chat_log::disk::{DirectoryLock, Disk, DiskFile, FileInfo};

/// Finishes no write as long as it is told to stand still.
pub(crate) struct Stalling {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) stalled: Arc<AtomicBool>,
}

struct StallingFile {
    file: Box<dyn DiskFile>,
    stalled: Arc<AtomicBool>,
}

impl Stalling {
    fn file(&self, file: io::Result<Box<dyn DiskFile>>) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(StallingFile { file: file?, stalled: Arc::clone(&self.stalled) }))
    }
}

impl Disk for Stalling {
    fn place(&self) -> String {
        self.disk.place()
    }

    fn lock(&self) -> io::Result<Box<dyn DirectoryLock>> {
        self.disk.lock()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.create(name))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        self.file(self.disk.open(name))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.disk.read_range(name, offset, length)
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        self.disk.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for StallingFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        while self.stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.file.sync_data()
    }

    fn allocate(&mut self, length: u64) -> io::Result<()> {
        self.file.allocate(length)
    }

    fn zero_from(&mut self, offset: u64) -> io::Result<()> {
        self.file.zero_from(offset)
    }
}
